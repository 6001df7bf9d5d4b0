// SPDX-License-Identifier: Apache-2.0
//! Where the interpreter in hand keeps what in a code object, by the member table of its own type `code`.

use std::collections::HashMap;

use tracer_common::{CODE_PART, CODE_TEXTS, CodeText};

use super::{offsets::Offsets, peek::Peek};

/// Offsets in `PyTypeObject`, the same in all versions: the stable ABI of type objects that are not on the heap.
const BASIC_SIZE: u64 = 32;
const MEMBERS: u64 = 240;
/// Size of a `PyMemberDef`: name, type, offset, flags, doc.
const MEMBER: u64 = 40;
/// Most members that a type is believed to have.
const MOST_MEMBERS: u64 = 64;
/// Where the bytes of a `bytes` begin: behind the head and the hash (`Include/cpython/bytesobject.h`).
pub const BYTES_START: u32 = 32;

/// The format of the line table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// Pairs of differences (3.10).
    Pairs,
    /// The location table (3.11 on).
    Locations,
}

/// Offsets in a code object, and what tells the types of what it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeLayout {
    /// Address of `PyCode_Type`.
    pub code_type: u64,
    /// Address of `PyUnicode_Type`.
    pub str_type: u64,
    /// Address of `PyBytes_Type`.
    pub bytes_type: u64,
    /// Where [`CODE_PART`] bytes begin that hold `co_argcount` to `co_firstlineno`, and never change.
    pub counts: u32,
    /// Where as many begin that hold the pointers to names and line table.
    pub names: u32,
    /// `co_filename`.
    pub file: u32,
    /// `co_qualname`, or `co_name` where there is no such thing.
    pub function: u32,
    /// `co_linetable`.
    pub lines: u32,
    /// `co_firstlineno`.
    pub first_line: u32,
    /// The first instruction; meaningless in 3.10, which has a bytes object for them.
    pub start: u32,
    /// How the line table is written.
    pub format: LineFormat,
    /// Where the characters of a compact ASCII string begin, and those of another compact one.
    pub characters: (u32, u32),
}

impl CodeLayout {
    /// What goes into a code object's checksum besides its own words.
    #[must_use]
    pub fn texts(&self) -> [CodeText; CODE_TEXTS] {
        let (ascii, _) = self.characters;
        [(self.function, ascii), (self.file, ascii), (self.lines, BYTES_START)]
            .map(|(offset, start)| CodeText { pointer: offset.wrapping_sub(self.counts), start })
    }

    /// Reads the member table. `types` are the addresses of `PyCode_Type`, `PyUnicode_Type` and `PyBytes_Type`.
    ///
    /// # Errors
    /// With the reason, if it can't be read or lacks something.
    pub(super) fn read(peek: Peek, types: [u64; 3], offsets: &Offsets) -> Result<Self, String> {
        let [code_type, str_type, bytes_type] = types;
        let members = members(peek, code_type)?;
        let member = |name: &str| members.get(name).copied().ok_or_else(|| format!("the type `code` has no {name}"));
        let first_line = member("co_firstlineno")?;
        let [arguments, keywords, slots] = ["co_argcount", "co_kwonlyargcount", "co_stacksize"].map(member);
        let arguments = arguments?;
        let (file, name, lines) = (member("co_filename")?, member("co_name")?, member("co_linetable")?);
        let function = member("co_qualname").unwrap_or(name);
        let start = peek.word(code_type.wrapping_add(BASIC_SIZE))?;
        Ok(Self {
            code_type,
            str_type,
            bytes_type,
            // In whole words, as the kernel side has them.
            counts: part(arguments & !7, &[keywords?, slots?, first_line])?,
            names: part((lines + 8).saturating_sub(CODE_PART as u32), &[file, name, function, lines])?,
            file,
            function,
            lines,
            first_line,
            start: u32::try_from(start).map_err(|_| format!("a code object has {start} bytes"))?,
            format: if offsets.counts_instructions { LineFormat::Pairs } else { LineFormat::Locations },
            characters: offsets.characters,
        })
    }
}

/// Names and offsets of a type's members.
fn members(peek: Peek, of: u64) -> Result<HashMap<String, u32>, String> {
    let table = peek.word(of.wrapping_add(MEMBERS))?;
    let mut members = HashMap::new();
    for index in 0..MOST_MEMBERS {
        let entry = table.wrapping_add(index * MEMBER);
        let name = peek.word(entry)?;
        if name == 0 {
            return Ok(members);
        }
        let offset = peek.word(entry.wrapping_add(16))?;
        let offset = u32::try_from(offset).ok().filter(|offset| *offset < 4096);
        members.insert(peek.name(name)?, offset.ok_or("a member of the type `code` has no sensible offset")?);
    }
    Err("the type `code` has too many members".into())
}

/// Where the part that goes into the checksum begins, if all these fields are in it.
fn part(start: u32, fields: &[u32]) -> Result<u32, String> {
    let part = start..start + CODE_PART as u32;
    match fields.iter().all(|field| part.contains(field)) {
        true => Ok(start),
        false => Err("the members of the type `code` do not lie as in any version that is known".into()),
    }
}
