// SPDX-License-Identifier: Apache-2.0
//! Writes a trace file, chunk by chunk.

use std::{
    fs::{File, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    Event, Item, MAGIC, MINIMUM, Problem, Record, VERSION,
    chunk::{Encoder, MAX_PAYLOAD},
    limit::{Limit, Part},
};

/// zstd's own default: beyond it, time grows faster than the gain.
const LEVEL: i32 = 3;

/// A trace file that is being written.
///
/// Items are kept until a chunk is full or [`Self::flush`] is called. A write that fails in between is reported by the
/// next `flush`; what is given to the writer after that is dropped.
pub struct Writer {
    file: File,
    path: PathBuf,
    chunk: Encoder,
    bytes: u64,
    failure: Option<anyhow::Error>,
    /// Events that were dropped because of a failure.
    unwritten: u64,
    limit: Option<Limit>,
    dropped: u64,
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
            refuse_other_file(&mut file, path)?;
            file.set_permissions(Permissions::from_mode(0o600)).with_context(failed)?;
            file.set_len(0).with_context(failed)?;
            file.rewind().with_context(failed)?;
        }
        let mut writer = Self {
            file,
            path: path.to_owned(),
            chunk: Encoder::default(),
            bytes: 0,
            failure: None,
            unwritten: 0,
            limit: None,
            dropped: 0,
        };
        let head = [&MAGIC[..], &VERSION.to_le_bytes(), &MINIMUM.to_le_bytes()].concat();
        writer.write(&head)?;
        Ok(writer)
    }

    /// Makes the file another user's, as a recorder that runs as root on somebody's behalf must.
    ///
    /// # Errors
    ///
    /// The file's owner cannot be changed.
    pub fn give_to(&self, user: u32, group: u32) -> Result<()> {
        let failed = || format!("failed to give {} to user {user}", self.path.display());
        fchown(&self.file, Some(user), Some(group)).with_context(failed)
    }

    /// Keeps the file below this many bytes: what is older is written anew in short, see [`super::MAX_SIZE`].
    ///
    /// # Errors
    ///
    /// It is no regular file.
    pub fn limit(&mut self, bytes: u64) -> Result<()> {
        self.limit = Some(Limit::new(&self.file, &self.path, bytes)?);
        Ok(())
    }

    /// User and group of the file.
    pub(super) fn owner(&self) -> Result<(u32, u32)> {
        let metadata = self.file.metadata().with_context(|| format!("failed to look at {}", self.path.display()))?;
        Ok((metadata.uid(), metadata.gid()))
    }

    /// Adds an item.
    pub fn item(&mut self, item: Item) {
        match item {
            Item::Record(record) => self.record(record),
            Item::Event(event) => self.event(event),
        }
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
        self.write_chunk()?;
        let Some(limit) = &mut self.limit else { return Ok(()) };
        let Some(short) = limit.look(&self.file, self.bytes)? else { return Ok(()) };
        (self.file, self.bytes, self.dropped) = (short.writer.file, short.writer.bytes, short.dropped);
        if let Some(text) = limit.problem(self.bytes) {
            self.record(Problem { text });
        }
        Ok(())
    }

    /// Events that were taken out again, so that the file stays below its size.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Events that were given to the writer, but are not in the file, because writing failed.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Bytes in the file so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds whole chunks of another trace.
    pub(super) fn append(&mut self, from: &File, at: u64, end: u64) -> Result<()> {
        let failed = || format!("failed to write {}", self.path.display());
        self.bytes += io::copy(&mut Part { file: from, at, end }, &mut self.file).with_context(failed)?;
        Ok(())
    }

    fn write_chunk(&mut self) -> Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let events = self.chunk.events();
        let payload = self.chunk.take();
        self.write_payload(&payload).inspect_err(|_| self.unwritten += events)
    }

    fn write_payload(&mut self, payload: &[u8]) -> Result<()> {
        if payload.len() > MAX_PAYLOAD {
            bail!("failed to write {}: a record is larger than a chunk can be", self.path.display());
        }
        let compressed = zstd::bulk::compress(payload, LEVEL).context("failed to compress a chunk")?;
        let length = u32::try_from(compressed.len()).context("failed to measure a chunk")?;
        let head = [length.to_le_bytes(), crc32fast::hash(&compressed).to_le_bytes()].concat();
        self.write(&[head, compressed].concat())
    }

    fn cut_if_full(&mut self) {
        if self.failure.is_some() {
            self.unwritten += self.chunk.events();
            self.chunk.take();
        } else if self.chunk.is_full() {
            self.failure = self.flush().err();
        }
    }

    /// Writes in one piece, so that a recording that is killed leaves whole chunks behind.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // So that what is said of this failure can be read, if there is room for it. A pipe has no way back.
            let _ = self.file.set_len(self.bytes);
            let _ = self.file.seek(SeekFrom::Start(self.bytes));
            return Err(error).with_context(|| format!("failed to write {}", self.path.display()));
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Guards against `-o` given the name of something precious.
fn refuse_other_file(file: &mut File, path: &Path) -> Result<()> {
    let mut head = Vec::new();
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut head)
        .with_context(|| format!("failed to read {}", path.display()))?;
    if !head.is_empty() && head != MAGIC {
        bail!("failed to create {}: it is there already, and it is no trace", path.display());
    }
    Ok(())
}
