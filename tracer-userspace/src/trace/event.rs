// SPDX-License-Identifier: Apache-2.0
//! The event: one hit of one probe, as the trace file keeps it.

pub use tracer_common::{DeviceClass, Kind};

use super::{
    columns::Columns,
    field::{Field, Hex, parse_number},
    macros::columns,
    text::Words,
};

/// The names of the target's `BufferType`, by its numbers.
pub const BUFFER_TYPES: [&str; 5] = ["DRAM", "L1", "SYSTEM_MEMORY", "L1_SMALL", "TRACE"];

/// The number of a type of memory, e.g. of `L1`; in small letters it is understood too.
#[must_use]
pub fn parse_buffer_type(name: &str) -> Option<u32> {
    (0..).zip(BUFFER_TYPES).find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

columns! {
    /// One hit of one probe. What a kind does not have is zero.
    pub struct Event {
        /// Counts every hit, kept or lost; events of one thread are in order.
        1 "" Decimal sequence: u64,
        /// Nanoseconds after the session's `boot_ns`.
        2 "t" Decimal time: u64,
        /// Process number in this file.
        3 "p" Decimal process: u32,
        /// Thread id.
        4 "tid" Decimal thread: u32,
        /// What happened.
        5 "" Kind kind: Kind,
        /// `Buffer*`, or the allocator or device that the event is about.
        6 "object" Hex object: u64,
        /// `unique_id_`; 0 in an import from a source that does not tell buffers apart.
        7 "uid" Decimal unique_id: u64,
        /// Device address; known from `Kind::Allocated` on.
        8 "address" Hex address: u64,
        /// Bytes on one device; of `Kind::Bank`, in each bank of it.
        9 "size" Decimal size: u64,
        /// Bytes a page.
        10 "page" Decimal page_size: u64,
        /// One of [`BUFFER_TYPES`]; `u32::MAX` if it is not known.
        11 "type" Decimal buffer_type: u32,
        /// Status at entry: 0 requested, 1 allocated, 2 deallocated.
        12 "status" Decimal status: u8,
        /// Whether the buffer owns its memory.
        13 "owns" Decimal owns: bool,
        /// Whether a graph capture hooked it: no memory behind it.
        14 "hooked" Decimal hooked: bool,
        /// Whether some of the object could not be read; what could not is zero.
        15 "unreadable" Decimal unreadable: bool,
        /// `device_`.
        16 "device" Hex device: u64,
        /// Class of the device; trustworthy at allocation, dangling pointers are possible at a free.
        17 "class" Class device_class: DeviceClass,
        /// Id within the class.
        18 "id" Decimal device_id: u32,
        /// `allocator_`.
        19 "allocator" Hex allocator: u64,
        /// Stack number, 0 for none.
        20 "stack" Decimal stack: u32,
        /// Text number (the test that begins), 0 for none.
        21 "text" Decimal text: u32,
        /// Process number of the child that a fork made, 0 if it is not recorded.
        22 "child" Decimal child: u32,
    }
}

/// The number of the column of the kinds. Up to it, columns have their numbers in the order of recording; the others are
/// by kind.
pub(super) const ORDERED: usize = 5;

/// How many events are made at a time from columns.
const TOGETHER: usize = 128;

/// Sets a field of each event to the number at its place in a column, and returns those for which that has no meaning.
fn set_field<T: Number>(
    events: &mut [Event],
    column: &[u64],
    places: &[u32],
    set: impl Fn(&mut Event, T),
) -> Vec<usize> {
    let mut unknown = Vec::new();
    if !column.is_empty() {
        for (at, (event, &place)) in events.iter_mut().zip(places).enumerate() {
            match T::from_number(column[place as usize]) {
                Some(number) => set(event, number),
                None => unknown.push(at),
            }
        }
    }
    unknown
}

/// One field of the event, as a column of a chunk.
pub(super) struct Column {
    /// Stands for the field in the file.
    pub(super) number: u64,
    /// Stands for it in text; empty if the value does so alone.
    pub(super) word: &'static str,
    /// How the number is written in text.
    pub(super) style: Style,
}

/// How a number of a column is written in text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Decimal,
    Hex,
    Kind,
    Class,
}

impl Style {
    fn show(self, number: u64, out: &mut String) {
        match self {
            Self::Decimal => number.show(out),
            Self::Hex => Hex(number).show(out),
            Self::Kind => out.push_str(Kind::from_number(number).map_or("?", kind_word)),
            Self::Class => out.push_str(DeviceClass::from_number(number).map_or("?", class_word)),
        }
    }

    fn parse(self, text: &str) -> Option<u64> {
        match self {
            Self::Decimal | Self::Hex => parse_number(text),
            Self::Kind => Kind::ALL.into_iter().find(|&kind| kind_word(kind) == text).map(Number::to_number),
            Self::Class => CLASSES.into_iter().find(|&class| class_word(class) == text).map(Number::to_number),
        }
    }
}

/// A field that fits a column.
trait Number: Sized {
    fn to_number(self) -> u64;
    /// `None` if the number has no meaning for the field.
    fn from_number(number: u64) -> Option<Self>;
}

macro_rules! integers {
    ($($Integer:ident)*) => {
        $( impl Number for $Integer {
            fn to_number(self) -> u64 {
                u64::from(self)
            }
            fn from_number(number: u64) -> Option<Self> {
                number.try_into().ok()
            }
        } )*
    };
}

integers! { u8 u32 u64 }

impl Number for bool {
    fn to_number(self) -> u64 {
        u64::from(self)
    }
    fn from_number(number: u64) -> Option<Self> {
        (number < 2).then_some(number == 1)
    }
}

impl Number for Kind {
    fn to_number(self) -> u64 {
        self as u64
    }
    fn from_number(number: u64) -> Option<Self> {
        Self::from_u8(number.try_into().ok()?)
    }
}

const CLASSES: [DeviceClass; 3] = [DeviceClass::Unknown, DeviceClass::Chip, DeviceClass::Mesh];

impl Number for DeviceClass {
    fn to_number(self) -> u64 {
        self as u64
    }
    fn from_number(number: u64) -> Option<Self> {
        CLASSES.get(usize::try_from(number).ok()?).copied()
    }
}

/// Of a record: the number in the file, the word in text.
impl Field for DeviceClass {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_number().put(out);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        Self::from_number(u64::get(input)?)
    }
    fn show(&self, out: &mut String) {
        out.push_str(class_word(*self));
    }
    fn parse(text: &str) -> Option<Self> {
        CLASSES.into_iter().find(|&class| class_word(class) == text)
    }
}

/// The word for a kind of event, as `dump` shows it and `probe` records have it.
#[must_use]
pub fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => "request",
        Kind::Allocated => "allocated",
        Kind::Free => "free",
        Kind::Released => "released",
        Kind::Marked => "marked",
        Kind::Destroyed => "destroyed",
        Kind::Bulk => "bulk",
        Kind::DeviceClose => "device-close",
        Kind::TestBegin => "test-begin",
        Kind::TestEnd => "test-end",
        Kind::ThreadExit => "thread-exit",
        Kind::Modules => "modules",
        Kind::Exec => "exec",
        Kind::CodeFreed => "code-freed",
        Kind::DeviceOpen => "device-open",
        Kind::Alias => "alias",
        Kind::Fork => "fork",
        Kind::Bank => "bank",
        Kind::Circular => "circular",
        Kind::CircularFreed => "circular-freed",
    }
}

fn class_word(class: DeviceClass) -> &'static str {
    match class {
        DeviceClass::Unknown => "unknown",
        DeviceClass::Chip => "chip",
        DeviceClass::Mesh => "mesh",
    }
}

impl Event {
    /// An event of a kind that says nothing else.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self {
            sequence: 0,
            time: 0,
            process: 0,
            thread: 0,
            kind,
            object: 0,
            unique_id: 0,
            address: 0,
            size: 0,
            page_size: 0,
            buffer_type: 0,
            status: 0,
            owns: false,
            hooked: false,
            unreadable: false,
            device: 0,
            device_class: DeviceClass::Unknown,
            device_id: 0,
            allocator: 0,
            stack: 0,
            text: 0,
            child: 0,
        }
    }

    /// Whether a number stands for a column that is known.
    pub(super) fn is_column(number: u64) -> bool {
        Self::COLUMNS.iter().any(|column| column.number == number)
    }

    /// Appends the event as a line of text, without the line end.
    pub(super) fn show(self, out: &mut String) {
        out.push_str("event");
        for (column, number) in Self::COLUMNS.iter().zip(self.to_row()) {
            if column.word.is_empty() {
                out.push(' ');
                column.style.show(number, out);
            } else if number != 0 {
                out.push_str(&format!(" {}=", column.word));
                column.style.show(number, out);
            }
        }
    }

    /// Reads a line of text back.
    pub(super) fn parse(words: &mut Words) -> Result<Self, String> {
        let mut row = Row::default();
        for (column, number) in Self::COLUMNS.iter().zip(&mut row) {
            let text = if column.word.is_empty() { words.next_bare() } else { words.take_text(column.word) };
            if let Some(text) = text {
                *number = column.style.parse(&text).ok_or_else(|| format!("`{text}` has no meaning here"))?;
            }
        }
        Self::from_row(row).ok_or_else(|| "an event needs a kind, and numbers within their bounds".to_owned())
    }
}
