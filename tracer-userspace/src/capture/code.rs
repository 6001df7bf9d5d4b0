// SPDX-License-Identifier: Apache-2.0
//! Reads Python code objects from the process: what a function is called, where it is, and its line table.

use tracer_common::{CodeSum, CodeText, TEXT_LENGTH, TEXT_TAIL};

use super::lines::line;
use crate::discover::{
    memory,
    python::{BYTES_START, CodeLayout, LineFormat},
};

/// Most characters of a name or path.
const LONGEST_TEXT: u64 = 4096;
/// Most bytes of a line table.
const LARGEST_TABLE: u64 = 1 << 20;
/// More references than an object has: from 3.12 on those that are never freed begin with 2³² - 1 (`Include/object.h`).
const MOST_REFERENCES: u64 = 1 << 33;
/// Size of the head of an object with a size.
const VARIABLE_HEAD: usize = 24;

/// What a code object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeObject {
    /// `co_qualname`; `co_name` in 3.10.
    pub function: String,
    /// `co_filename`.
    pub file: String,
    /// `co_firstlineno`.
    pub first_line: u32,
    format: LineFormat,
    table: Vec<u8>,
}

/// Why a code object could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The memory can't be read: the process has ended, or the object's memory was given back.
    Gone,
    /// Something else is there by now.
    Replaced,
    /// It is a code object, but not as it should be.
    Damaged,
}

impl Missing {
    /// The name that the trace file has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Replaced => "replaced",
            Self::Damaged => "damaged",
        }
    }
}

/// What the kernel side may have found where a code object is: all that goes into its [`CodeSum`], or nothing of its texts,
/// as one was not in memory at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// With its texts.
    pub whole: u32,
    without_texts: u32,
}

impl CodeObject {
    /// Reads the code object at an address, which must have this checksum, before and after.
    ///
    /// # Errors
    /// With the reason, if it is not there any more.
    pub fn read(pid: u32, layout: &CodeLayout, address: u64, expected: u32) -> Result<Self, Missing> {
        let (found, code) = Self::read_now(pid, layout, address)?;
        if [found.whole, found.without_texts].contains(&expected) { Ok(code) } else { Err(Missing::Replaced) }
    }

    /// Reads the code object at an address, and its checksums.
    ///
    /// # Errors
    /// With the reason, if there is none.
    pub fn read_now(pid: u32, layout: &CodeLayout, address: u64) -> Result<(Checksums, Self), Missing> {
        let reader = Reader { pid, layout };
        let before = reader.checksums(address)?;
        let pointer = |offset: u32| reader.word(address.wrapping_add(offset.into()));
        let code = Self {
            function: reader.text(pointer(layout.function)?)?,
            file: reader.text(pointer(layout.file)?)?,
            first_line: pointer(layout.first_line)? as u32,
            format: layout.format,
            table: reader.bytes(pointer(layout.lines)?)?,
        };
        let unchanged = reader.checksums(address)? == before;
        if unchanged { Ok((before, code)) } else { Err(Missing::Replaced) }
    }

    /// Without its line table, if that has more bytes than are `left`.
    pub(super) fn within(mut self, left: &mut usize) -> Self {
        match left.checked_sub(self.table.len()) {
            Some(rest) => *left = rest,
            None => self.table = Vec::new(),
        }
        self
    }

    /// How many bytes of a line table it keeps.
    pub(super) fn kept(&self) -> usize {
        self.table.len()
    }

    /// The line of the instruction at `offset` bytes, if it has one.
    #[must_use]
    pub fn line(&self, offset: i64) -> Option<u32> {
        line(self.format, &self.table, self.first_line, offset)
    }
}

struct Reader<'a> {
    pid: u32,
    layout: &'a CodeLayout,
}

impl Reader<'_> {
    /// Those of what is a code object by its head.
    fn checksums(&self, address: u64) -> Result<Checksums, Missing> {
        let mut head = [0; 16];
        self.fill(address, &mut head)?;
        if !is_alive(&head, self.layout.code_type) {
            return Err(Missing::Replaced);
        }
        let at = |offset: u32| address.wrapping_add(offset.into());
        let code = CodeSum::of(self.words(at(self.layout.counts))?, self.words(at(self.layout.names))?);
        let mut whole = code;
        for CodeText { pointer, start } in self.layout.texts() {
            let text = self.word(at(self.layout.counts.wrapping_add(pointer)))?;
            let length = self.word(text.wrapping_add(TEXT_LENGTH))?;
            let end = text.wrapping_add(start.into()).wrapping_add(length);
            whole = whole.with_text(length, self.words(end.wrapping_sub(TEXT_TAIL))?);
        }
        Ok(Checksums { whole: whole.get(), without_texts: code.get() })
    }

    fn text(&self, address: u64) -> Result<String, Missing> {
        let mut head = [0; 40];
        self.fill(address, &mut head)?;
        let length = self.length(&head, self.layout.str_type, LONGEST_TEXT)?;
        let state = TextState::of(u32::from_le_bytes([head[32], head[33], head[34], head[35]]));
        let (ascii, other) = self.layout.characters;
        let start = address.wrapping_add(if state.ascii { ascii } else { other }.into());
        let mut bytes = vec![0; length * state.width().ok_or(Missing::Damaged)?];
        self.fill(start, &mut bytes)?;
        Ok(state.decode(&bytes))
    }

    fn bytes(&self, address: u64) -> Result<Vec<u8>, Missing> {
        let mut head = [0; VARIABLE_HEAD];
        self.fill(address, &mut head)?;
        let mut bytes = vec![0; self.length(&head, self.layout.bytes_type, LARGEST_TABLE)?];
        self.fill(address.wrapping_add(BYTES_START.into()), &mut bytes)?;
        Ok(bytes)
    }

    /// The length of an object of this type, from its head.
    fn length(&self, head: &[u8], of: u64, most: u64) -> Result<usize, Missing> {
        let length = word(head, 16);
        if !is_alive(head, of) {
            return Err(Missing::Replaced);
        }
        if length > most {
            return Err(Missing::Damaged);
        }
        usize::try_from(length).map_err(|_| Missing::Damaged)
    }

    fn word(&self, address: u64) -> Result<u64, Missing> {
        self.words(address).map(|[word]| word)
    }

    fn words<const COUNT: usize>(&self, address: u64) -> Result<[u64; COUNT], Missing> {
        let mut bytes = [[0; 8]; COUNT];
        self.fill(address, bytes.as_flattened_mut())?;
        Ok(bytes.map(u64::from_le_bytes))
    }

    fn fill(&self, address: u64, bytes: &mut [u8]) -> Result<(), Missing> {
        memory::read(self.pid, address, bytes).map_err(|_| Missing::Gone)
    }
}

/// Whether an object of this type has the head: its count of references, and its type. One that was freed keeps its bytes until
/// the memory is used again, but for the first word: there the allocator has the address of what else is free, or zero
/// (`Objects/obmalloc.c`, which gets its memory by `mmap`; glibc's takes the type's word, too).
fn is_alive(head: &[u8], of: u64) -> bool {
    (1..MOST_REFERENCES).contains(&word(head, 0)) && word(head, 8) == of
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
}

/// The state bits of a `str`, the same from 3.10 to 3.13: two of interning, three of width, then compact and ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TextState {
    kind: u32,
    compact: bool,
    ascii: bool,
}

impl TextState {
    const fn of(bits: u32) -> Self {
        Self { kind: bits >> 2 & 7, compact: bits >> 5 & 1 == 1, ascii: bits >> 6 & 1 == 1 }
    }

    /// Bytes of a character; `None` if the characters are not behind the head.
    const fn width(self) -> Option<usize> {
        match (self.compact, self.kind) {
            (true, 1) => Some(1),
            (true, 2) => Some(2),
            (true, 4) => Some(4),
            _ => None,
        }
    }

    fn decode(self, bytes: &[u8]) -> String {
        let character = |code: u32| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        match self.kind {
            2 => bytes.as_chunks().0.iter().map(|two| character(u16::from_le_bytes(*two).into())).collect(),
            4 => bytes.as_chunks().0.iter().map(|four| character(u32::from_le_bytes(*four))).collect(),
            _ => bytes.iter().copied().map(char::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_each_width_are_decoded() {
        let decode = |kind, bytes: &[u8]| TextState { kind, compact: true, ascii: false }.decode(bytes);
        assert_eq!(decode(1, b"caf\xe9"), "café");
        assert_eq!(decode(2, &[0x42, 0x04, 0x00, 0xd8]), "т\u{fffd}");
        assert_eq!(decode(4, &[0x40, 0xf4, 0x01, 0x00]), "👀");
    }

    #[test]
    fn state_bits_are_those_that_python_sets() {
        // Of "name" and of "имя" in 3.12, as gdb prints them.
        assert_eq!(TextState::of(0b110_0101), TextState { kind: 1, compact: true, ascii: true });
        assert_eq!(TextState::of(0b010_1000), TextState { kind: 2, compact: true, ascii: false });
        assert_eq!(TextState::of(0b000_0100).width(), None);
    }

    #[test]
    fn what_was_freed_is_not_there() {
        const TYPE: u64 = 0x5555_0000_1000;
        let head = |first: u64, of: u64| [first, of].map(u64::to_le_bytes).concat();
        for references in [1, 7, u64::from(u32::MAX)] {
            assert!(is_alive(&head(references, TYPE), TYPE), "{references}");
        }
        assert!(!is_alive(&head(1, TYPE + 8), TYPE));
        // The last of those that are free in a pool, and another one.
        assert!(!is_alive(&head(0, TYPE), TYPE));
        assert!(!is_alive(&head(0x7f31_2345_6780, TYPE), TYPE));
        assert!(!is_alive(&[], TYPE));
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let layout = CodeLayout {
            code_type: 1,
            str_type: 2,
            bytes_type: 3,
            counts: 16,
            names: 96,
            file: 104,
            function: 112,
            lines: 120,
            first_line: 40,
            start: 0,
            format: LineFormat::Pairs,
            characters: (48, 72),
        };
        let own = std::process::id();
        assert_eq!(CodeObject::read(own, &layout, 8, 0), Err(Missing::Gone));
        let not_code = [0_u64; 32];
        assert_eq!(CodeObject::read(own, &layout, not_code.as_ptr() as u64, 0), Err(Missing::Replaced));
    }
}
