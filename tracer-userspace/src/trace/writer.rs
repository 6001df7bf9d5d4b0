// SPDX-License-Identifier: Apache-2.0
//! Writes a trace file, chunk by chunk.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    Event, Identity, Item, MAGIC, MINIMUM, Place, Problem, Record, VERSION,
    chunk::{Checksum, Encoder, LONGEST_EPILOGUE},
    limit::{Limit, Part},
    reader::CHUNK_HEAD,
};

/// Bytes of an epilogue in one chunk.
const PIECE: usize = 1 << 20;

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
    /// Whether a write failed and could not be taken back: what comes after it would stand in the wrong place.
    broken: bool,
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
    /// See [`Place::take`].
    pub fn create(path: &Path) -> Result<Self> {
        Self::at(Place::take(path)?)
    }

    /// Begins the file whose place was taken.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn at(place: Place) -> Result<Self> {
        let path = place.path().to_owned();
        let file = place.begin()?;
        let head = [&MAGIC[..], &VERSION.to_le_bytes(), &MINIMUM.to_le_bytes()].concat();
        let mut writer = Self {
            file,
            path,
            chunk: Encoder::default(),
            checksum: Checksum::default(),
            bytes: 0,
            failure: None,
            broken: false,
            unwritten: 0,
            limit: None,
            dropped: 0,
        };
        writer.write(&head)?;
        Ok(writer)
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
        if self.broken {
            self.unwritten += self.chunk.events();
            self.chunk.clear();
            bail!("failed to write {}, as before", self.path.display());
        }
        self.write_chunk()?;
        let Some(limit) = &mut self.limit else { return Ok(()) };
        let short = limit.look(&self.file, self.bytes)?;
        let problem = limit.problem();
        if let Some(short) = short {
            (self.file, self.bytes, self.dropped) = (short.writer.file, short.writer.bytes, short.dropped);
            self.checksum = short.writer.checksum;
        }
        if let Some(text) = problem {
            self.record(Problem { text });
        }
        Ok(())
    }

    /// Ends the file, to which everything was [flushed](Self::flush), with its epilogue, which readers
    /// [get](super::Reader::epilogue) as long as nothing is added. One that is longer than they take, or makes the file
    /// longer than it may be, is left out.
    ///
    /// # Errors
    ///
    /// This write failed, or an earlier one.
    pub fn epilogue(&mut self, epilogue: &[u8]) -> Result<()> {
        if self.failure.is_some() || self.broken {
            bail!("failed to write {}, as before", self.path.display());
        }
        self.write_chunk()?;
        let bytes = self.bytes + epilogue.len() as u64;
        if epilogue.len() <= LONGEST_EPILOGUE && self.limit.as_ref().is_none_or(|limit| limit.allows(bytes)) {
            for piece in epilogue.chunks(PIECE) {
                self.chunk.epilogue(piece);
                self.write_chunk()?;
            }
        }
        Ok(())
    }

    /// Whether this is the file that is written.
    #[must_use]
    pub fn writes_to(&self, file: Identity) -> bool {
        Identity::of(&self.file).is_ok_and(|own| own == file)
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

    /// Adds whole chunks of another trace, each with a new checksum.
    pub(super) fn append(&mut self, from: &File, at: u64, end: u64) -> Result<()> {
        let path = self.path.clone();
        let failed = || format!("failed to write {}", path.display());
        let mut from = BufReader::new(Part { file: from, at, end });
        while !from.fill_buf().with_context(failed)?.is_empty() {
            let mut head = [0; CHUNK_HEAD];
            from.read_exact(&mut head).with_context(failed)?;
            let [a, b, c, d, ..] = head;
            let length = u32::from_le_bytes([a, b, c, d]);
            let mut body = Vec::new();
            from.by_ref().take(length.into()).read_to_end(&mut body).with_context(failed)?;
            self.write_body(&body)?;
        }
        Ok(())
    }

    fn write_chunk(&mut self) -> Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        if self.chunk.is_too_large() {
            self.unwritten += self.chunk.events();
            self.chunk.clear();
            bail!("failed to write {}: a record is larger than a chunk can be", self.path.display());
        }
        let events = self.chunk.events();
        let body = self.chunk.take();
        self.write_body(&body).inspect_err(|_| self.unwritten += events)
    }

    /// Writes a chunk with the checksum that it has in its place.
    fn write_body(&mut self, body: &[u8]) -> Result<()> {
        let length = u32::try_from(body.len()).context("failed to measure a chunk")?;
        let mut checksum = self.checksum.clone();
        let head = [length.to_le_bytes(), checksum.with(body).to_le_bytes()].concat();
        self.write(&[&head, body].concat())?;
        self.checksum = checksum;
        Ok(())
    }

    fn cut_if_full(&mut self) {
        if self.failure.is_some() {
            self.unwritten += self.chunk.events();
            self.chunk.clear();
        } else if self.chunk.is_full() {
            self.failure = self.flush().err();
        }
    }

    /// Writes in one piece, so that a recording that is killed leaves whole chunks behind. What can't be written as a whole,
    /// e.g. because the disk is full, is taken back.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // So that what is said of this failure can be read, if there is room for it. A pipe has no way back.
            let back = self.file.set_len(self.bytes).and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)));
            self.broken = back.is_err();
            return Err(error).with_context(|| format!("failed to write {}", self.path.display()));
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
