// SPDX-License-Identifier: Apache-2.0
//! Files that the user names besides traces: read with a limit, and never written over what is read or recorded.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::trace::{MAGIC, ReadError, open};

/// Most bytes of a text that is read as a whole.
const LARGEST_TEXT: u64 = 64 << 20;

/// Reads a text.
pub(super) fn read_text(path: &Path) -> Result<String> {
    // What `ReadError` has to say besides is about traces.
    let file = open(path).map_err(|error| match error {
        ReadError::Io(error) => error.into(),
        other => anyhow!("{other}"),
    });
    read_open_text(file.with_context(|| format!("failed to read {}", path.display()))?, path)
}

/// Reads a text from its file.
pub(super) fn read_open_text(file: File, path: &Path) -> Result<String> {
    let failed = || format!("failed to read {}", path.display());
    let mut text = String::new();
    file.take(LARGEST_TEXT + 1).read_to_string(&mut text).with_context(failed)?;
    if text.len() as u64 > LARGEST_TEXT {
        bail!("failed to read {}: it is larger than {} MiB", path.display(), LARGEST_TEXT >> 20);
    }
    Ok(text)
}

/// Whether a file begins as a trace does.
pub(super) fn is_trace(path: &Path) -> Result<bool> {
    let failed = || format!("failed to read {}", path.display());
    let mut head = Vec::new();
    open(path).with_context(failed)?.take(MAGIC.len() as u64).read_to_end(&mut head).with_context(failed)?;
    Ok(head == MAGIC)
}

/// Refuses an output that is one of the inputs, by whatever name.
pub(super) fn refuse_same<'a>(output: &Path, inputs: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let Some(written) = identity(output) else { return Ok(()) };
    match inputs.into_iter().find(|input| identity(input) == Some(written)) {
        Some(input) => {
            bail!("failed to write {}: it would replace {}, which is read", output.display(), input.display())
        }
        None => Ok(()),
    }
}

/// Refuses an output that is a trace, for what is none.
pub(super) fn refuse_trace(output: &Path) -> Result<()> {
    if output.is_file() && is_trace(output)? {
        bail!("failed to write {}: it is a trace", output.display());
    }
    Ok(())
}

/// Writes a text. A file that is there already stays as it was unless all of the new one can be written.
pub(super) fn save(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("failed to write {}", path.display());
    if !is_replaceable(path) {
        return fs::write(path, text).with_context(failed);
    }
    refuse_trace(path)?;
    replace(path, |new| Ok(fs::write(new, text)?)).with_context(failed)
}

/// Has a file made under a name beside its own, which it gets if that succeeds.
pub(super) fn replace<T>(path: &Path, make: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    // A link stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let new = path.with_file_name(name);
    let made = make(&new).and_then(|made| {
        fs::rename(&new, &path)?;
        Ok(made)
    });
    if made.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&new);
    }
    made
}

/// Whether a path is that of a file or of nothing: a terminal or pipe can only be written to.
pub(super) fn is_replaceable(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |metadata| metadata.is_file())
}

/// Opens a file that may be a pipe.
pub(super) fn open_stream(path: &Path) -> Result<File> {
    let failed = || format!("failed to open {}", path.display());
    let file = File::open(path).with_context(failed)?;
    if file.metadata().with_context(failed)?.is_dir() {
        bail!("failed to open {}: it is a folder", path.display());
    }
    Ok(file)
}
