// SPDX-License-Identifier: Apache-2.0
//! The trace file: the one thing that recording hands to every other command.
//!
//! # Format
//!
//! All integers of fixed width are little endian; a *varint* is LEB128, at most ten bytes.
//!
//! ```text
//! file    = "BUFTRACE" version:u16 minimum:u16 chunk*
//! chunk   = length:u32 crc:u32 body[length]         crc32 of the bodies of all chunks up to here
//! body    = size:varint items events:varint column*
//! items   = part of: item*
//! item    = number:varint size:varint record[size]  number > 0: its fields in the order of `record.rs`
//!         | 0:varint count:varint                   the next `count` events of the columns
//!         | 21:varint size:varint bytes             a piece of the epilogue
//! column  = number:varint size:varint numbers       a column of zeros is left out
//! numbers = part of: zigzag varints                 differences between neighbours, as many as events
//!         | 2:u8 { zigzag:varint count:varint }*    the same, as runs of equal differences
//!         | 3:u8 size:varint numbers[size] count:varint part    so many different ones, and the part has their places:
//!                                                   low bytes of all, then, if there are any, high bytes of all
//! part    = 0:u8 bytes                              as they are
//!         | 1:u8 length:varint zstd                 so many bytes, compressed
//! ```
//!
//! In a record an integer is a varint, a string is its length and UTF-8 bytes, and a list is its length and items.
//!
//! - A file is only ever appended to, or replaced by one whose older part is shorter (`shorten.rs`). Each chunk can be read
//!   alone: differences start from zero in each. Its checksum says that it stands in its place: one that is left out, moved,
//!   repeated or of another file is damage.
//! - The columns 1 to 5 (up to the kind) have the order of recording; in those behind, events are ordered by kind, then as
//!   recorded, and differences start from zero with each kind.
//! - Items keep the order of recording. A definition (module, frame, stack, text …) comes before the first event that
//!   names its number; numbers count from 1, and 0 means none. Symbols may come later than their frame.
//! - There is no trailer: `end` and `counter` are simply the last records. A file without `end` was cut.
//! - The last chunks may be the *epilogue*: what reading all events came to, for readers that need no more. It is derived,
//!   and no item: a reader that knows nothing of it has all there is. It is one only if no other chunk follows, and only for
//!   the build of the tool that wrote it; others read the events.
//! - `version` is the writer's. A tool reads a file if its own version is at least the file's `minimum`, and refuses it
//!   by name otherwise; it also refuses files below the oldest version that it knows.
//! - Within a readable version, what is new is skipped by its size and counted: records, columns and kinds of event
//!   with a number not known. Fields are only added at the end of a record: extra bytes are ignored, and fields that
//!   are not there are zero. Numbers are never given anew.
//! - A reader stops at the first damage (a cut, a wrong checksum, a malformed item) and says where it was.

mod ahead;
mod chunk;
mod column;
mod columns;
mod event;
mod field;
mod follower;
mod identity;
mod limit;
mod macros;
mod place;
mod printable;
mod reader;
mod record;
mod rows;
mod shorten;
mod survey;
#[cfg(test)]
mod tests;
pub mod text;
mod writer;

pub(crate) use column::{Packer, Unpacker};
pub use event::{BUFFER_TYPES, DeviceClass, Event, Kind, kind_word, parse_buffer_type};
pub use field::{Hex, Name};
pub use follower::{Follower, Look};
pub use identity::Identity;
pub use place::{Place, refuse_other};
pub use printable::{escape, escape_json, escape_lines};
pub use reader::{Damage, ReadError, Reader, Seam, open};
pub use record::{
    ALLOCATION_SERVER, Border, Code, CounterValue, End, Frame, GRAPH_CAPTURE, HITS, Interpreter, LayoutField,
    LiveOwner, Loss, MADE_BEFORE, Mapping, Module, PYTHON_STACKS, Probe, Problem, Process, PythonFrame, Record, STACKS,
    Session, Snapshot, Stack, Symbol, Text, UNRECORDED,
};
pub use shorten::{MAX_SIZE, Shortened};
pub use survey::{Sought, Survey};
pub use writer::Writer;

/// First bytes of every trace file.
pub const MAGIC: [u8; 8] = *b"BUFTRACE";
/// The version that this tool writes, and the newest that it reads.
const VERSION: u16 = 2;
/// The oldest version that this tool reads, and the oldest tool that reads what it writes.
const MINIMUM: u16 = 2;

/// One item of a trace file, in the order of recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A definition, or a statement about the recording.
    Record(Record),
    /// A hit of a probe.
    Event(Event),
}

impl<R: Into<Record>> From<R> for Item {
    fn from(record: R) -> Self {
        Self::Record(record.into())
    }
}
