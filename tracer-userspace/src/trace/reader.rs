// SPDX-License-Identifier: Apache-2.0
//! Reads a trace file, as far as it is whole.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    mem,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{
    Item, MAGIC, MINIMUM, VERSION,
    chunk::{Checksum, Decoder, MAX_PAYLOAD},
};

/// Bytes before the first chunk.
pub(super) const HEAD: u64 = 12;
/// Bytes before the compressed ones of each chunk.
pub(super) const CHUNK_HEAD: usize = 8;
/// log2 of the most memory that a zstd frame may ask for as its window; enough for [`MAX_PAYLOAD`].
const WINDOW_LOG: u32 = 24;

/// Why a file cannot be read at all.
#[derive(Debug)]
pub enum ReadError {
    /// It does not begin as a trace does.
    NotATrace,
    /// It is a trace of a version that this tool does not read.
    OtherVersion {
        /// The version of the file.
        file: u16,
        /// The newest version that this tool reads.
        tool: u16,
    },
    /// It is a pipe or a device: what comes out of that cannot be read twice, or has no end.
    NotAFile,
    /// The operating system refused.
    Io(io::Error),
}

/// Opens a file for reading, and nothing that is none.
///
/// # Errors
///
/// [`ReadError::NotAFile`], or what the operating system says.
pub fn open(path: &Path) -> Result<File, ReadError> {
    // A pipe that nobody writes to would keep us waiting.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(ReadError::Io)?;
    let metadata = file.metadata().map_err(ReadError::Io)?;
    match metadata.is_file() {
        true => Ok(file),
        false if metadata.is_dir() => Err(ReadError::Io(io::Error::from_raw_os_error(libc::EISDIR))),
        false => Err(ReadError::NotAFile),
    }
}

impl ReadError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotATrace => "a trace is the file that `tt-buftrace record -o FILE` writes",
            Self::OtherVersion { file, tool } if file > tool => "read it with the newer tt-buftrace that recorded it",
            Self::OtherVersion { .. } => "read it with the older tt-buftrace that recorded it, or record again",
            Self::NotAFile => "write what comes out of it to a file, and read that",
            Self::Io(_) => "check the path, and that you may read the file: traces are readable by their owner only",
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATrace => f.write_str("this is no trace of tt-buftrace"),
            Self::OtherVersion { file, tool } => {
                write!(f, "this trace has format version {file}, and this tool reads {MINIMUM} to {tool}")
            }
            Self::NotAFile => f.write_str("this is a pipe or a device, not a file"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

/// Where a file stops being readable; everything before it was read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    /// Offset of the damaged chunk in the file, in bytes.
    pub at: u64,
    /// What is wrong there.
    pub what: String,
}

/// A trace file that is being read: an iterator over its items.
///
/// After the last item, [`Self::damage`] says whether the file ended there or only its readable part.
pub struct Reader<R> {
    input: R,
    chunk: Option<Decoder>,
    /// Of what was read so far.
    checksum: Checksum,
    /// Offset of the current chunk, and of the next.
    at: u64,
    next: u64,
    /// What is read so far of the next chunk.
    bytes: Vec<u8>,
    damage: Option<Damage>,
    /// Whether the damage is only that the file ends within a chunk.
    cut: bool,
    skipped: u64,
}

impl Reader<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::new(BufReader::new(open(path)?))
    }
}

impl<R: Read> Reader<R> {
    /// Reads from anywhere.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn new(mut input: R) -> Result<Self, ReadError> {
        let mut head = Vec::new();
        input.by_ref().take(HEAD).read_to_end(&mut head).map_err(ReadError::Io)?;
        let Some(&[v0, v1, m0, m1]) = head.strip_prefix(&MAGIC) else {
            return Err(ReadError::NotATrace);
        };
        let (file, minimum) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([m0, m1]));
        if file < MINIMUM || minimum > VERSION {
            return Err(ReadError::OtherVersion { file, tool: VERSION });
        }
        Ok(Self {
            input,
            chunk: None,
            checksum: Checksum::default(),
            at: HEAD,
            next: HEAD,
            bytes: Vec::new(),
            damage: None,
            cut: false,
            skipped: 0,
        })
    }

    /// Lets reading go on where the file ended, in case that it has grown: what was cut there may be whole by now.
    pub fn resume(&mut self) {
        if mem::take(&mut self.cut) {
            self.damage = None;
        }
    }

    /// Whether the file ends within a chunk, which may still be written.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Bytes of the whole chunks that were read, with the head of the file.
    pub(super) fn position(&self) -> u64 {
        self.next
    }

    /// Where reading had to stop, if not at the end.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// How many items were skipped because a later version of the format added their kind.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped + self.chunk.as_ref().map_or(0, |chunk| chunk.skipped)
    }

    /// The next chunk, `None` at the end of the file.
    fn read_chunk(&mut self) -> Result<Option<Decoder>, String> {
        self.at = self.next;
        self.fill(CHUNK_HEAD)?;
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let Some(&[l0, l1, l2, l3, c0, c1, c2, c3]) = self.bytes.first_chunk::<CHUNK_HEAD>() else {
            self.cut = true;
            return Err("the file ends in the head of a chunk".to_owned());
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_PAYLOAD {
            return Err("a chunk is longer than one can be".to_owned());
        }
        self.fill(CHUNK_HEAD + length)?;
        let compressed = &self.bytes[CHUNK_HEAD..];
        if compressed.len() < length {
            self.cut = true;
            return Err("the file ends in a chunk".to_owned());
        }
        if self.checksum.with(compressed) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err("a chunk is damaged, or not the one that was written here: its checksum is wrong".to_owned());
        }
        self.next = self.at + (CHUNK_HEAD + length) as u64;
        let payload = decompress(compressed).map_err(|error| format!("a chunk does not decompress: {error}"))?;
        self.bytes.clear();
        Ok(Some(Decoder::new(&payload)?))
    }

    /// Reads until there are so many bytes of the chunk, or as many as the file has.
    fn fill(&mut self, length: usize) -> Result<(), String> {
        let missing = length.saturating_sub(self.bytes.len()) as u64;
        let read = self.input.by_ref().take(missing).read_to_end(&mut self.bytes);
        read.map(drop).map_err(|error| format!("the file cannot be read: {error}"))
    }

    fn stop(&mut self, what: String) {
        self.damage = Some(Damage { at: self.at, what });
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        while self.damage.is_none() {
            match self.chunk.as_mut().and_then(Decoder::next) {
                Some(Ok(item)) => return Some(item),
                Some(Err(what)) => self.stop(what.to_owned()),
                None => {
                    self.skipped += self.chunk.take().map_or(0, |chunk| chunk.skipped);
                    match self.read_chunk() {
                        Ok(Some(chunk)) => self.chunk = Some(chunk),
                        Ok(None) => return None,
                        Err(what) => self.stop(what),
                    }
                }
            }
        }
        None
    }
}

/// Decompresses without trust: neither the window nor the result can exceed what a chunk may have.
pub(super) fn decompress(compressed: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?.single_frame();
    decoder.window_log_max(WINDOW_LOG)?;
    let mut payload = Vec::new();
    decoder.take(MAX_PAYLOAD as u64 + 1).read_to_end(&mut payload)?;
    if payload.len() > MAX_PAYLOAD {
        return Err(io::Error::other("it is larger than one can be"));
    }
    Ok(payload)
}
