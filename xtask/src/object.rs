// SPDX-License-Identifier: Apache-2.0
//! The compiled eBPF object that is checked in, and the digest of the source that it was built from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::root;

/// The compiled object, from the workspace's root.
pub const OBJECT: &str = "tracer-ebpf/object/tt-buftrace.bpf.o";
/// The digest of its source.
pub const DIGEST: &str = "tracer-ebpf/object/source.sha256";
/// What the object is built from.
pub const SOURCES: [&str; 6] = [
    "tracer-common/Cargo.toml",
    "tracer-common/src",
    "tracer-unwind/Cargo.toml",
    "tracer-unwind/src",
    "tracer-ebpf/Cargo.toml",
    "tracer-ebpf/src",
];

/// Fails with the command to type if the object's source has changed since it was built.
pub fn check() -> Result<()> {
    let path = root().join(DIGEST);
    let stored = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    if stored.trim() != source_digest()? {
        bail!("{OBJECT} is older than its source: run `cargo xtask ebpf` and commit what it writes");
    }
    Ok(())
}

/// SHA-256, in hex, over the names and contents of all source files in the order of their names.
pub fn source_digest() -> Result<String> {
    let root = root();
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().into_owned();
        let bytes = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("failed to read {}", path.display()))? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
