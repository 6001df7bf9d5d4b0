// SPDX-License-Identifier: Apache-2.0
//! Reads a trace file, as far as it is whole.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    mem,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Event, Item, MAGIC, MINIMUM, VERSION,
    ahead::{AT_ONCE, Ahead, Next},
    chunk::{Checksum, Decoder, LONGEST_EPILOGUE, MAX_BODY, Want},
    columns::Scratch,
    limit::Part,
    survey::{Step, Survey},
};

/// Bytes before the first chunk.
pub(super) const HEAD: u64 = 12;
/// Bytes before the body of each chunk.
pub(super) const CHUNK_HEAD: usize = 8;
/// Bytes to ask the operating system for at a time.
pub(super) const BUFFER: usize = 1 << 18;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Offset of the damaged chunk in the file, in bytes.
    pub at: u64,
    /// What is wrong there.
    pub what: String,
}

/// A trace file that is being read: an iterator over its items.
///
/// After the last item, [`Self::damage`] says whether the file ended there or only its readable part.
pub struct Reader<C = Ahead> {
    chunks: C,
    chunk: Option<Decoder>,
    damage: Option<Damage>,
    passed: u64,
    skipped: u64,
    /// What the chunks before this one have of the epilogue, `None` if nobody asks for it.
    epilogue: Option<Vec<u8>>,
}

/// Where a reader has its chunks from.
pub trait Chunks {
    /// The next chunk, `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// Where it stops being readable.
    fn next(&mut self) -> Result<Option<Decoder>, Damage>;
}

impl Reader<Ahead> {
    /// Opens a file, and reads it ahead in threads.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let mut bodies = Bodies::open(path)?;
        Ok(Self::ahead(1, move || bodies.next(Want::Everything)))
    }

    /// Opens a file for its records alone.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn records(path: &Path) -> Result<Self, ReadError> {
        let mut bodies = Bodies::open(path)?;
        Ok(Self::ahead(AT_ONCE, move || bodies.next(Want::Records)))
    }

    /// Reads a file for its records and its [epilogue](Self::epilogue).
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn with_epilogue(file: &Arc<File>) -> Result<Self, ReadError> {
        let mut bodies = Bodies::of(file, BUFFER)?;
        let reader = Self::ahead(AT_ONCE, move || bodies.next(Want::Records));
        Ok(Self { epilogue: Some(Vec::new()), ..reader })
    }

    /// Reads a part of a file, to its end if nothing else ends it.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn part(file: &Arc<File>, from: &Seam, to: Option<&Seam>) -> Result<Self, ReadError> {
        let mut bodies = Bodies::of(file, BUFFER)?;
        bodies.begin_at(from);
        let end = to.map(|seam| seam.offset);
        Ok(Self::ahead(1, move || match end {
            Some(end) if bodies.seam.offset >= end => Ok(None),
            _ => bodies.next(Want::Everything),
        }))
    }

    /// Reads a file for its records, and for the events that a survey of it found. It is the file that was surveyed, even if
    /// another one has its place by now, and what it has grown by since is read whole.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn surveyed(survey: Survey) -> Result<Self, ReadError> {
        let mut bodies = Bodies::of(&survey.file, CHUNK_HEAD)?;
        let mut steps = survey.steps.into_iter();
        Ok(Self::ahead(AT_ONCE, move || match steps.next() {
            Some(Step { want: want @ Want::Nothing { .. }, behind }) => Ok(Some(bodies.pass(want, behind))),
            Some(Step { want, .. }) => bodies.next(want),
            None => bodies.next(Want::Everything),
        }))
    }

    fn ahead(at_once: usize, next: impl FnMut() -> Next<Body> + Send + 'static) -> Self {
        Self::of(Ahead::new(next, at_once, Body::decode))
    }
}

impl<R: Read> Reader<Here<R>> {
    /// Reads from anywhere.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn new(input: R) -> Result<Self, ReadError> {
        let bodies = Bodies::new(input)?;
        Ok(Self::of(Here { before: bodies.seam.clone(), bodies, scratch: Scratch::default() }))
    }

    /// The seam before the chunk that the latest item is of.
    pub(super) fn before_chunk(&self) -> &Seam {
        &self.chunks.before
    }

    /// Whether the file ends within a chunk, which may still be written.
    pub(super) fn is_cut(&self) -> bool {
        self.chunks.bodies.cut
    }

    /// Bytes of the whole chunks that were read, with the head of the file.
    pub(super) fn position(&self) -> u64 {
        self.chunks.bodies.seam.offset
    }
}

impl Reader<Here<Input>> {
    /// Lets reading go on where the file ended, in case that it has grown: what was cut there may be whole by now, or taken
    /// back, with another chunk in its place.
    pub(super) fn resume(&mut self) {
        let bodies = &mut self.chunks.bodies;
        if mem::take(&mut bodies.cut) {
            self.damage = None;
            bodies.bytes.clear();
            bodies.go_to(bodies.seam.offset);
        }
    }
}

impl<C> Reader<C> {
    fn of(chunks: C) -> Self {
        Self { chunks, chunk: None, damage: None, passed: 0, skipped: 0, epilogue: None }
    }

    /// What [`Writer::epilogue`](super::Writer::epilogue) ended the file with; empty if it has no such end, or was not opened
    /// for it. To be asked after the last item.
    #[must_use]
    pub fn epilogue(&self) -> &[u8] {
        self.epilogue.as_deref().unwrap_or_default()
    }

    fn end_chunk(&mut self, chunk: &Decoder) {
        self.passed += chunk.passed;
        self.skipped += chunk.skipped;
        if let Some(epilogue) = &mut self.epilogue {
            let piece = chunk.epilogue();
            if piece.is_empty() || epilogue.len() + piece.len() > LONGEST_EPILOGUE {
                epilogue.clear();
            } else {
                epilogue.extend_from_slice(piece);
            }
        }
    }

    /// Where reading had to stop, if not at the end.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// How many events were passed over so far, as nobody wants them.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed + self.chunk.as_ref().map_or(0, |chunk| chunk.passed)
    }

    /// How many items were skipped because a later version of the format added their kind.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped + self.chunk.as_ref().map_or(0, |chunk| chunk.skipped)
    }

    /// Gives the events that come next, as far as they are at hand.
    #[inline]
    pub fn take_run(&mut self) -> &mut [Event] {
        self.chunk.as_mut().map_or(&mut [], Decoder::take_run)
    }
}

impl<C: Chunks> Iterator for Reader<C> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        while self.damage.is_none() {
            match self.chunk.as_mut().and_then(Decoder::next) {
                Some(Ok(item)) => return Some(item),
                Some(Err(what)) => {
                    let at = self.chunk.as_ref().map_or(0, |chunk| chunk.at);
                    self.damage = Some(Damage { at, what: what.to_owned() });
                }
                None => {
                    if let Some(chunk) = self.chunk.take() {
                        self.end_chunk(&chunk);
                    }
                    match self.chunks.next() {
                        Ok(Some(chunk)) => self.chunk = Some(chunk),
                        Ok(None) => return None,
                        Err(damage) => self.damage = Some(damage),
                    }
                }
            }
        }
        None
    }
}

/// Chunks that are read when they are asked for.
pub struct Here<R> {
    bodies: Bodies<R>,
    /// Where the latest one began.
    before: Seam,
    scratch: Scratch,
}

impl<R: Read> Chunks for Here<R> {
    fn next(&mut self) -> Result<Option<Decoder>, Damage> {
        let before = self.bodies.seam.clone();
        let Some(body) = self.bodies.next(Want::Everything)? else { return Ok(None) };
        self.before = before;
        body.decode(&mut self.scratch).map(Some)
    }
}

/// The bodies of the chunks of a file, whose checksums are right.
pub(super) struct Bodies<R> {
    input: R,
    /// Where the next chunk begins.
    seam: Seam,
    /// What is read so far of the next chunk.
    bytes: Vec<u8>,
    /// Whether the file ends within a chunk.
    cut: bool,
}

/// A place between two chunks of a file, from which on it can be read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Seam {
    /// Offset in the file.
    offset: u64,
    /// Of what is before.
    checksum: Checksum,
}

/// The body of a chunk.
pub(super) struct Body {
    /// Offset of the chunk in the file.
    pub(super) at: u64,
    /// What is wanted of it.
    want: Want,
    /// Where it ends.
    pub(super) behind: Seam,
    /// Its head and what is behind it, if that is wanted.
    bytes: Vec<u8>,
}

impl Body {
    /// Decodes what is wanted of it.
    pub(super) fn decode(&self, scratch: &mut Scratch) -> Result<Decoder, Damage> {
        let at = self.at;
        Decoder::new(at, self.bytes(), &self.want, scratch).map_err(|what| Damage { at, what: what.to_owned() })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(CHUNK_HEAD..).unwrap_or_default()
    }
}

/// A file, of which nobody else moves the place where reading goes on.
pub(super) type Input = BufReader<Part<Arc<File>>>;

impl Bodies<Input> {
    fn open(path: &Path) -> Result<Self, ReadError> {
        Self::of(&Arc::new(open(path)?), BUFFER)
    }

    /// Those of a file that is open, which is asked for so many bytes at a time, or for a chunk where one has more.
    pub(super) fn of(file: &Arc<File>, buffer: usize) -> Result<Self, ReadError> {
        Self::new(BufReader::with_capacity(buffer, Part { file: Arc::clone(file), at: 0, end: u64::MAX }))
    }

    /// Passes over what is before a place, which was read before.
    fn pass(&mut self, want: Want, behind: Seam) -> Body {
        let at = self.seam.offset;
        self.begin_at(&behind);
        Body { at, want, behind, bytes: Vec::new() }
    }

    /// Has the next chunk be the one behind a seam.
    fn begin_at(&mut self, seam: &Seam) {
        self.go_to(seam.offset);
        self.seam = seam.clone();
    }

    /// Has what is read next come from there.
    fn go_to(&mut self, offset: u64) {
        self.input.consume(self.input.buffer().len());
        self.input.get_mut().at = offset;
    }
}

impl<R: Read> Bodies<R> {
    fn new(mut input: R) -> Result<Self, ReadError> {
        let mut head = Vec::new();
        input.by_ref().take(HEAD).read_to_end(&mut head).map_err(ReadError::Io)?;
        let Some(&[v0, v1, m0, m1]) = head.strip_prefix(&MAGIC) else {
            return Err(ReadError::NotATrace);
        };
        let (file, minimum) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([m0, m1]));
        if file < MINIMUM || minimum > VERSION {
            return Err(ReadError::OtherVersion { file: file.max(minimum), tool: VERSION });
        }
        let seam = Seam { offset: HEAD, checksum: Checksum::default() };
        Ok(Self { input, seam, bytes: Vec::new(), cut: false })
    }

    /// The next one, of which this is wanted; `None` at the end of the file.
    pub(super) fn next(&mut self, want: Want) -> Next<Body> {
        let at = self.seam.offset;
        let bytes = self.read().map_err(|what| Damage { at, what })?;
        Ok(bytes.map(|bytes| Body { at, want, behind: self.seam.clone(), bytes }))
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, String> {
        self.fill(CHUNK_HEAD)?;
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let Some(&[l0, l1, l2, l3, c0, c1, c2, c3]) = self.bytes.first_chunk::<CHUNK_HEAD>() else {
            self.cut = true;
            return Err("the file ends in the head of a chunk".to_owned());
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_BODY {
            return Err("a chunk is longer than one can be".to_owned());
        }
        self.fill(CHUNK_HEAD + length)?;
        let body = &self.bytes[CHUNK_HEAD..];
        if body.len() < length {
            self.cut = true;
            return Err("the file ends in a chunk".to_owned());
        }
        if self.seam.checksum.with(body) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err("a chunk is damaged, or not the one that was written here: its checksum is wrong".to_owned());
        }
        self.seam.offset += (CHUNK_HEAD + length) as u64;
        Ok(Some(mem::take(&mut self.bytes)))
    }

    /// Reads until there are so many bytes of the chunk, or as many as the file has.
    fn fill(&mut self, length: usize) -> Result<(), String> {
        self.bytes.reserve_exact(length.min(BUFFER).saturating_sub(self.bytes.len()));
        let missing = length.saturating_sub(self.bytes.len()) as u64;
        let read = self.input.by_ref().take(missing).read_to_end(&mut self.bytes);
        read.map(drop).map_err(|error| format!("the file cannot be read: {error}"))
    }
}
