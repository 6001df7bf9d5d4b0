// SPDX-License-Identifier: Apache-2.0
//! Gives the build a digest of the sources by which events become findings: what was worked out by other sources is not
//! taken over from the end of a trace.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// The folders with these sources, and the types that they are about.
const RULES: [&str; 4] = ["src/analysis", "src/model", "src/trace", "../tracer-common/src"];

fn main() -> io::Result<()> {
    let mut digest = Sha256::new();
    for folder in RULES {
        println!("cargo::rerun-if-changed={folder}");
        for file in files(Path::new(folder))? {
            let source = fs::read(&file)?;
            digest.update(source.len().to_le_bytes());
            digest.update(source);
        }
    }
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let digest: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=BUFTRACE_RULES=tt-buftrace {version} {digest}");
    Ok(())
}

/// All files below a folder, always in the same order.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
