// SPDX-License-Identifier: Apache-2.0
//! Writes a trace file, chunk by chunk.

use std::{
    fs::{File, Permissions},
    io::{Read, Seek, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    Event, MAGIC, MINIMUM, Record, VERSION,
    chunk::{Checksum, Encoder, MAX_PAYLOAD},
};

/// zstd's own default: beyond it, time grows faster than the gain.
const LEVEL: i32 = 3;

/// A trace file that is being written.
///
/// Items are kept until a chunk is full or [`Self::flush`] is called. A write that fails in between is reported by the
/// next `flush`; what is given to the writer after that is dropped, and the file ends with the last whole chunk.
pub struct Writer {
    file: File,
    path: PathBuf,
    chunk: Encoder,
    checksum: Checksum,
    bytes: u64,
    failure: Option<anyhow::Error>,
    /// Whether a write failed: what comes after it would stand in the wrong place.
    broken: bool,
}

impl Writer {
    /// Creates the file, readable by its owner only, or replaces an earlier trace.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or is there already and is no trace.
    pub fn create(path: &Path) -> Result<Self> {
        let failed = || format!("failed to create {}", path.display());
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .with_context(failed)?;
        if file.metadata().with_context(failed)?.is_file() {
            refuse_content(&mut file, path)?;
            file.set_permissions(Permissions::from_mode(0o600)).with_context(failed)?;
            file.set_len(0).with_context(failed)?;
            file.rewind().with_context(failed)?;
        }
        let head = [&MAGIC[..], &VERSION.to_le_bytes(), &MINIMUM.to_le_bytes()].concat();
        let (chunk, checksum) = (Encoder::default(), Checksum::default());
        let mut writer = Self { file, path: path.to_owned(), chunk, checksum, bytes: 0, failure: None, broken: false };
        writer.write(&head)?;
        Ok(writer)
    }

    /// Adds a record.
    pub fn record(&mut self, record: impl Into<Record>) {
        self.chunk.record(&record.into());
        self.cut_if_full();
    }

    /// Adds an event. What it names by number must have been recorded before.
    pub fn event(&mut self, event: Event) {
        self.chunk.event(event);
        self.cut_if_full();
    }

    /// Writes what is pending as a chunk, so that a reader sees it even if the recording dies.
    ///
    /// # Errors
    ///
    /// This write or an earlier one failed.
    pub fn flush(&mut self) -> Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.broken {
            self.chunk.take();
            bail!("failed to write {}, as before", self.path.display());
        }
        if self.chunk.is_empty() {
            return Ok(());
        }
        let payload = self.chunk.take();
        if payload.len() > MAX_PAYLOAD {
            bail!("failed to write {}: a record is larger than a chunk can be", self.path.display());
        }
        let compressed = zstd::bulk::compress(&payload, LEVEL).context("failed to compress a chunk")?;
        let length = u32::try_from(compressed.len()).context("failed to measure a chunk")?;
        let head = [length.to_le_bytes(), self.checksum.with(&compressed).to_le_bytes()].concat();
        self.write(&[head, compressed].concat())
    }

    /// Bytes in the file so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn cut_if_full(&mut self) {
        if self.failure.is_some() {
            self.chunk.take();
        } else if self.chunk.is_full() {
            self.failure = self.flush().err();
        }
    }

    /// Writes in one piece, so that a recording that is killed leaves whole chunks behind. What can't be written as a whole,
    /// e.g. because the disk is full, is taken back.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        if written.is_err() {
            // A pipe has no length, and then there is nothing to be done.
            let _ = self.file.set_len(self.bytes);
            self.broken = true;
        }
        written.with_context(|| format!("failed to write {}", self.path.display()))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Refuses a path at which there is a file already that is no trace: `-o` may be given the name of something precious.
///
/// # Errors
///
/// There is one, or it can't be read.
pub fn refuse_other(path: &Path) -> Result<()> {
    match File::open(path) {
        Ok(mut file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => refuse_content(&mut file, path),
        _ => Ok(()),
    }
}

fn refuse_content(file: &mut File, path: &Path) -> Result<()> {
    let mut head = Vec::new();
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut head)
        .with_context(|| format!("failed to read {}", path.display()))?;
    if !head.is_empty() && head != MAGIC {
        bail!("failed to create {}: it is there already, and it is no trace", path.display());
    }
    Ok(())
}
