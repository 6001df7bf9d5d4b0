// SPDX-License-Identifier: Apache-2.0
//! Ring-buffer bytes to [`Sent`].

use tracer_common::{
    CopyHead, Hit, Kind, NativeFrame, PAGE, PythonEnd, PythonFrame, Registers, STACK_CLASSES, Tag, TextHead,
};
use tracer_unwind::walk::Stop;

use crate::unwind::Stack;

/// Bytes of a stack record before its frames: tag, reason for its end, count, number, epoch, process.
const STACK_HEAD: usize = 16;

/// What the kernel side sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent<'a> {
    /// A hit.
    Hit(RawHit),
    /// A native stack, which hits may have from now on.
    Native(NativeStack),
    /// A Python stack, which hits may have from now on.
    Python(PythonStack),
    /// A copy of the stack of a hit that comes later.
    Copy(StackCopy<'a>),
    /// The text of a hit that comes later.
    Text {
        /// The hit's number.
        sequence: u64,
        /// Environment value, without its terminating zero.
        text: &'a [u8],
    },
}

impl<'a> Sent<'a> {
    /// Reads a record; `None` if it is none of ours, which a matching kernel side never sends.
    #[must_use]
    pub fn decode(record: &'a [u8]) -> Option<Self> {
        let tag = *record.first()?;
        if let Some(kind) = Kind::from_u8(tag) {
            let (hit, _) = head(record)?;
            return Some(Self::Hit(RawHit { kind, hit }));
        }
        Some(match tag {
            tag if tag == Tag::NativeStack as u8 => {
                let (end, id, epoch, tgid, frames) = stack(record)?;
                Self::Native(NativeStack { id, epoch, tgid, frames, stop: Stop::from_u8(end)? })
            }
            tag if tag == Tag::PythonStack as u8 => {
                let (end, id, _, tgid, frames) = stack(record)?;
                Self::Python(PythonStack { id, tgid, frames, end: PythonEnd::from_u8(end) })
            }
            tag if tag == Tag::Copy as u8 => {
                let (head, rest): (CopyHead, _) = head(record)?;
                let bytes = rest.get(..usize::from(head.pages) * PAGE)?;
                let CopyHead { epoch, sequence, tgid, registers, .. } = head;
                Self::Copy(StackCopy { epoch, sequence, tgid, registers, bytes })
            }
            tag if tag == Tag::Text as u8 => {
                let (head, rest): (TextHead, _) = head(record)?;
                Self::Text { sequence: head.sequence, text: rest.get(..usize::from(head.length))? }
            }
            _ => return None,
        })
    }
}

impl Sent<'_> {
    /// Which process it is about; a text only says which hit.
    #[must_use]
    pub const fn tgid(&self) -> Option<u32> {
        match self {
            Self::Hit(raw) => Some(raw.hit.tgid),
            Self::Native(stack) => Some(stack.tgid),
            Self::Python(stack) => Some(stack.tgid),
            Self::Copy(copy) => Some(copy.tgid),
            Self::Text { .. } => None,
        }
    }

    /// Whether it says that the process executes another program.
    #[must_use]
    pub const fn is_exec(&self) -> bool {
        matches!(self, Self::Hit(RawHit { kind: Kind::Exec, .. }))
    }
}

/// A hit as it came out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawHit {
    /// What it means.
    pub kind: Kind,
    /// The rest.
    pub hit: Hit,
}

/// A native stack that the kernel side walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeStack {
    /// Its number.
    pub id: u32,
    /// How often the modules had changed.
    pub epoch: u32,
    /// Process id.
    pub tgid: u32,
    /// Innermost first.
    pub frames: Vec<NativeFrame>,
    /// Why there are no more.
    pub stop: Stop,
}

/// The Python frames that the kernel side walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonStack {
    /// Its number.
    pub id: u32,
    /// Process id.
    pub tgid: u32,
    /// Innermost first.
    pub frames: Vec<PythonFrame>,
    /// Why there are no more.
    pub end: PythonEnd,
}

/// A copy of the stack of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackCopy<'a> {
    /// How often the modules had changed.
    pub epoch: u32,
    /// The hit's number.
    pub sequence: u64,
    /// Process id.
    pub tgid: u32,
    /// Where unwinding begins.
    pub registers: Registers,
    /// Whole pages.
    pub bytes: &'a [u8],
}

impl<'a> StackCopy<'a> {
    /// The stack for unwinding.
    #[must_use]
    pub fn stack(&self) -> Stack<'a> {
        let largest = STACK_CLASSES[STACK_CLASSES.len() - 1] * PAGE;
        let start = self.registers.rsp & !(PAGE as u64 - 1);
        Stack { start, bytes: self.bytes, full: self.bytes.len() >= largest }
    }
}

/// What is sent as it is in memory.
///
/// # Safety
/// It is `repr(C)` or `repr(transparent)`, made of integers without padding, and valid for all bytes.
unsafe trait Plain: Sized {}

// SAFETY: see the definitions, which assert their sizes.
unsafe impl Plain for Hit {}
// SAFETY: as above.
unsafe impl Plain for CopyHead {}
// SAFETY: as above.
unsafe impl Plain for TextHead {}
// SAFETY: as above.
unsafe impl Plain for NativeFrame {}
// SAFETY: as above.
unsafe impl Plain for PythonFrame {}

fn head<T: Plain>(record: &[u8]) -> Option<(T, &[u8])> {
    let (head, rest) = record.split_at_checked(size_of::<T>())?;
    // SAFETY: there are as many bytes, and `T` is valid for any.
    Some((unsafe { head.as_ptr().cast::<T>().read_unaligned() }, rest))
}

/// The reason for its end, the number, the epoch, the process and the frames of a stack.
fn stack<T: Plain>(record: &[u8]) -> Option<(u8, u32, u32, u32, Vec<T>)> {
    let (first, rest) = record.split_first_chunk::<STACK_HEAD>()?;
    let &[_, end, count_low, count_high, ref words @ ..] = first;
    let count = usize::from(u16::from_le_bytes([count_low, count_high]));
    let frames = rest.get(..count * size_of::<T>())?.chunks_exact(size_of::<T>());
    let frames = frames.filter_map(|bytes| head(bytes).map(|(frame, _)| frame)).collect();
    let word = |at: usize| Some(u32::from_le_bytes(*words.get(at..)?.first_chunk()?));
    Some((end, word(0)?, word(4)?, word(8)?, frames))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<T: Plain>(head: &T, rest: &[u8]) -> Vec<u8> {
        // SAFETY: a `Plain` has no padding, so all its bytes are initialised.
        let head = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(head).cast::<u8>(), size_of::<T>()) };
        [head, rest].concat()
    }

    #[test]
    fn hits_texts_and_copies_are_told_by_their_first_byte() {
        let hit = Hit { kind: Kind::Free as u8, sequence: 7, ..Hit::default() };
        assert_eq!(Sent::decode(&bytes(&hit, &[])), Some(Sent::Hit(RawHit { kind: Kind::Free, hit })));

        let head = TextHead { tag: Tag::Text as u8, length: 3, sequence: 8, ..TextHead::default() };
        assert_eq!(Sent::decode(&bytes(&head, b"abcdef")), Some(Sent::Text { sequence: 8, text: b"abc" }));

        let mut head = CopyHead { tag: Tag::Copy as u8, pages: 1, sequence: 9, ..CopyHead::default() };
        head.registers.rsp = 0x7fff_0123;
        let record = bytes(&head, &[5; 2 * PAGE]);
        let Some(Sent::Copy(copy)) = Sent::decode(&record) else { panic!("a copy") };
        assert_eq!((copy.sequence, copy.bytes.len(), copy.stack().start), (9, PAGE, 0x7fff_0000));
    }

    #[test]
    fn stacks_have_as_many_frames_as_they_say() {
        let mut record = vec![Tag::NativeStack as u8, Stop::NoTable as u8, 2, 0, 4, 1, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0];
        record.extend([0x21, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 9, 9]);
        let frames = vec![NativeFrame::new(0x10, 1), NativeFrame::new(0x20, 0)];
        let expected = NativeStack { id: 0x104, epoch: 7, tgid: 3, frames, stop: Stop::NoTable };
        assert_eq!(Sent::decode(&record), Some(Sent::Native(expected)));
        assert_eq!(Sent::decode(&record[..28]), None, "the second frame is cut");
        record[1] = 99;
        assert_eq!(Sent::decode(&record), None, "there is no such reason");

        let record = [Tag::PythonStack as u8, PythonEnd::NoThreadState as u8, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
        let expected = PythonStack { id: 5, tgid: 4, frames: Vec::new(), end: PythonEnd::NoThreadState };
        assert_eq!(Sent::decode(&record), Some(Sent::Python(expected)));
    }

    #[test]
    fn what_is_too_short_or_unknown_is_none_of_ours() {
        let hit = Hit { kind: Kind::Free as u8, ..Hit::default() };
        assert_eq!(Sent::decode(&bytes(&hit, &[])[..95]), None);
        assert_eq!(Sent::decode(&bytes(&Hit { kind: 150, ..hit }, &[])), None);
        let head = CopyHead { tag: Tag::Copy as u8, pages: 2, ..CopyHead::default() };
        assert_eq!(Sent::decode(&bytes(&head, &[0; PAGE])), None, "two pages were promised");
        assert_eq!(Sent::decode(&[]), None);
    }
}
