// SPDX-License-Identifier: Apache-2.0
//! Keeps the file of a recording below a size: when it has half of that, its older part is written anew in short, in a thread,
//! while the recording goes on. There is one file at any time that reads by itself.

use std::{
    borrow::Borrow,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufReader, Read},
    mem,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{
    Identity, Item, Reader, Writer,
    place::refuse_other,
    reader::{CHUNK_HEAD, HEAD},
    record::Record,
    shorten::{MAX_SIZE, Shortened},
};

/// The size that a file is to stay below.
pub(super) struct Limit {
    /// The file, with no symbolic link in it: that is what is replaced.
    path: PathBuf,
    bytes: u64,
    /// The size from which on the file is written anew.
    next: u64,
    work: Option<JoinHandle<Result<Short>>>,
    /// What was told of already, and what is to be told.
    told: Told,
    problem: Option<String>,
}

/// What is told once.
#[derive(Default)]
struct Told {
    /// That what must be kept is too large.
    large: bool,
    /// That the file can't be written anew.
    failed: bool,
}

/// A file that was written anew.
pub(super) struct Short {
    pub(super) writer: Writer,
    /// How much of the old file it stands for.
    of: u64,
    /// Events that were taken out, now and before.
    pub(super) dropped: u64,
}

impl Limit {
    pub(super) fn new(file: &File, path: &Path, bytes: u64) -> Result<Self> {
        let failed = || format!("failed to look at {}", path.display());
        let metadata = file.metadata().with_context(failed)?;
        ensure!(metadata.is_file(), "{} is no regular file, and can't be kept below a size", path.display());
        let path = path.canonicalize().with_context(failed)?;
        refuse_other(&new_path(&path))?;
        Ok(Self { path, bytes, next: bytes / 2, work: None, told: Told::default(), problem: None })
    }

    /// To be called when chunks were written: what takes the place of the file, with all that this has.
    ///
    /// # Errors
    ///
    /// The file has the size that it is to stay below, and can't be written anew. Before that it is tried again.
    pub(super) fn look(&mut self, file: &File, size: u64) -> Result<Option<Short>> {
        let Some(work) = &self.work else {
            if size >= self.next {
                let (old, path, tail) = (file.try_clone()?, self.path.clone(), self.bytes / 4);
                self.work = Some(thread::spawn(move || shorten(&old, &path, size, tail)));
            }
            return Ok(None);
        };
        // The target fills the file faster than it can be written anew: then that is waited for.
        if !work.is_finished() && size < self.bytes {
            return Ok(None);
        }
        let work = self.work.take().context("the work was there")?;
        match self.replace(work, file, size) {
            Ok(short) => {
                let bytes = short.writer.bytes();
                self.next = (self.bytes / 2).max(bytes + self.bytes / 8);
                self.problem = (bytes > self.bytes && !mem::replace(&mut self.told.large, true)).then(|| {
                    let most = self.bytes;
                    format!(
                        "the trace is larger than {most} bytes: its definitions and what lives are kept in any case"
                    )
                });
                Ok(Some(short))
            }
            Err(error) if size < self.bytes => {
                self.next = size + self.bytes / 8;
                self.problem = (!mem::replace(&mut self.told.failed, true)).then(|| {
                    let most = self.bytes;
                    format!(
                        "the trace can't be shortened so far, and its recording will end at {most} bytes: {error:#}"
                    )
                });
                Ok(None)
            }
            Err(error) => Err(error.context(format!("failed to keep the trace below {} bytes", self.bytes))),
        }
    }

    /// Puts what was made in the place of the file, which may have grown since.
    fn replace(&self, work: JoinHandle<Result<Short>>, file: &File, size: u64) -> Result<Short> {
        let failed = || format!("failed to replace {}", self.path.display());
        let mut short = work.join().map_err(|_| anyhow!("failed to shorten {}", self.path.display()))??;
        let new = new_path(&self.path);
        let replaced = short.writer.append(file, short.of, size).and_then(|()| {
            let is_ours = Identity::of(file).with_context(failed)?.is_at(&self.path);
            ensure!(is_ours, "failed to replace {}: it is another file by now", self.path.display());
            fs::rename(&new, &self.path).with_context(failed)
        });
        if replaced.is_err() {
            // The first error is what is told.
            let _ = fs::remove_file(&new);
        }
        replaced.map(|()| short)
    }

    /// Whether the file may have this size.
    pub(super) fn allows(&self, size: u64) -> bool {
        size < self.bytes
    }

    /// A sentence for the file, if there is something to say that was not said before.
    pub(super) fn problem(&mut self) -> Option<String> {
        self.problem.take()
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            // Nobody waits for it any more.
            let _ = work.join();
            let _ = fs::remove_file(new_path(&self.path));
        }
    }
}

/// Writes the first `size` bytes of a file anew: at least the last `tail` of them as they are, what is before in short.
fn shorten(old: &File, path: &Path, size: u64, tail: u64) -> Result<Short> {
    let new = new_path(path);
    let result = shorten_to(old, &new, size, tail);
    if result.is_err() {
        // The first error is what is told.
        let _ = fs::remove_file(&new);
    }
    result.with_context(|| format!("failed to shorten {}", path.display()))
}

fn shorten_to(old: &File, new: &Path, size: u64, tail: u64) -> Result<Short> {
    let cut = last_border(old, size.saturating_sub(tail))?;
    let mut writer = Writer::create(new)?;
    let mut shortened = Shortened::default();
    let mut reader = Reader::new(BufReader::new(Part { file: old, at: 0, end: cut }))?;
    for item in reader.by_ref() {
        if let Some(record) = shortened.item(item) {
            writer.record(record);
        }
    }
    if let Some(damage) = reader.damage() {
        bail!("it is damaged at byte {}: {}", damage.at, damage.what);
    }
    let mut dropped = 0;
    for item in shortened.finish() {
        if let Item::Record(Record::Loss(loss)) = &item
            && loss.cause.as_str() == MAX_SIZE
        {
            dropped += loss.count;
        }
        writer.item(item);
    }
    writer.flush()?;
    writer.append(old, cut, size)?;
    Ok(Short { writer, of: size, dropped })
}

/// The last end of a chunk that is not behind `limit`.
fn last_border(file: &File, limit: u64) -> Result<u64> {
    let mut border = HEAD;
    loop {
        let mut length = [0; 4];
        let next = match file.read_exact_at(&mut length, border) {
            Ok(()) => border + CHUNK_HEAD as u64 + u64::from(u32::from_le_bytes(length)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(border),
            Err(error) => return Err(error.into()),
        };
        if next > limit {
            return Ok(border);
        }
        border = next;
    }
}

/// Where the file is written anew. What a killed recorder left there is overwritten.
fn new_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

/// A part of a file that somebody else writes to.
pub(super) struct Part<F> {
    pub(super) file: F,
    pub(super) at: u64,
    pub(super) end: u64,
}

impl<F: Borrow<File>> Read for Part<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        let read = self.file.borrow().read_at(&mut into[..length], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
