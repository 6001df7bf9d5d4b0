// SPDX-License-Identifier: Apache-2.0
//! Ring-buffer bytes to [`Sent`].

use std::mem::offset_of;

use tracer_common::{Hit, Kind, PAGE, PythonEnd, PythonFrame, PythonStack, STACK_CLASSES, TEXT};

use crate::unwind::Stack;

/// What the kernel side sends.
#[derive(Clone, Debug)]
pub enum Sent<'a> {
    /// A hit.
    Hit(RawHit<'a>),
    /// The Python part of the stack of a hit that comes later.
    Python(PythonHit),
}

impl<'a> Sent<'a> {
    /// Reads a record; `None` if it is none of ours, which a matching kernel side never sends.
    #[must_use]
    pub fn decode(record: &'a [u8]) -> Option<Self> {
        match record.len() == size_of::<PythonStack>() {
            true => PythonHit::decode(record).map(Self::Python),
            false => RawHit::decode(record).map(Self::Hit),
        }
    }
}

/// The Python part of the stack of a hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonHit {
    /// The hit's number.
    pub sequence: u64,
    /// Innermost first.
    pub frames: Vec<PythonFrame>,
    /// Why there are no more.
    pub end: PythonEnd,
}

impl PythonHit {
    fn decode(record: &[u8]) -> Option<Self> {
        const FRAME: usize = size_of::<PythonFrame>();
        let (count, frames) = (offset_of!(PythonStack, count), offset_of!(PythonStack, frames));
        let count = u16::from_le_bytes(*record.get(count..)?.first_chunk()?);
        let frames = record.get(frames..)?.get(..usize::from(count) * FRAME)?;
        let frames = frames.chunks_exact(FRAME).map(|bytes| {
            // SAFETY: the chunk has the size of `PythonFrame`, which is repr(C), made of integers, and valid for all bytes.
            unsafe { bytes.as_ptr().cast::<PythonFrame>().read_unaligned() }
        });
        Some(Self {
            sequence: u64::from_le_bytes(*record.first_chunk()?),
            frames: frames.collect(),
            end: PythonEnd::from_u8(*record.get(offset_of!(PythonStack, end))?),
        })
    }
}

/// A hit as it came out of the ring, with what follows it.
#[derive(Clone, Copy, Debug)]
pub struct RawHit<'a> {
    /// The head.
    pub hit: Hit,
    /// What it means.
    pub kind: Kind,
    /// Copied stack, whole pages.
    pub stack: &'a [u8],
    /// Environment value, without its terminating zero.
    pub text: &'a [u8],
}

impl<'a> RawHit<'a> {
    /// Reads a record; `None` if it is none of ours, which a matching kernel side never sends.
    #[must_use]
    pub fn decode(record: &'a [u8]) -> Option<Self> {
        let (head, rest) = record.split_at_checked(size_of::<Hit>())?;
        // SAFETY: `head` has the size of `Hit`, which is repr(C), made of integers, and valid for all bytes.
        let hit: Hit = unsafe { head.as_ptr().cast::<Hit>().read_unaligned() };
        Some(Self {
            hit,
            kind: Kind::from_u8(hit.kind)?,
            stack: rest.get(..usize::from(hit.pages) * PAGE)?,
            text: rest.get(..usize::from(hit.text).min(TEXT))?,
        })
    }

    /// The copied stack for unwinding; `None` if there is none.
    #[must_use]
    pub fn stack(&self) -> Option<Stack<'a>> {
        let largest = STACK_CLASSES[STACK_CLASSES.len() - 1] * PAGE;
        (!self.stack.is_empty()).then_some(Stack {
            start: self.hit.registers.rsp & !(PAGE as u64 - 1),
            bytes: self.stack,
            full: self.stack.len() >= largest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hit: Hit, rest: &[u8]) -> Vec<u8> {
        // SAFETY: `Hit` is repr(C) without padding, so all its bytes are initialised.
        let head: [u8; size_of::<Hit>()] = unsafe { std::mem::transmute(hit) };
        [&head, rest].concat()
    }

    #[test]
    fn head_stack_and_text_are_taken_apart() {
        let mut hit = Hit { sequence: 7, kind: Kind::Free as u8, pages: 1, ..Hit::default() };
        hit.registers.rsp = 0x7fff_0123;
        let record = bytes(hit, &[5; PAGE]);
        let raw = RawHit::decode(&record).expect("a whole record");
        assert_eq!((raw.hit.sequence, raw.kind, raw.stack.len()), (7, Kind::Free, PAGE));
        assert_eq!(raw.stack().map(|stack| stack.start), Some(0x7fff_0000));

        let hit = Hit { kind: Kind::TestBegin as u8, text: 3, ..Hit::default() };
        let record = bytes(hit, b"abcdef");
        assert_eq!(RawHit::decode(&record).map(|raw| raw.text), Some(&b"abc"[..]));
    }

    #[test]
    fn python_frames_are_told_by_their_size() {
        let mut record = vec![0; size_of::<PythonStack>()];
        let frames = offset_of!(PythonStack, frames);
        record[0] = 9;
        record[offset_of!(PythonStack, count)] = 1;
        record[offset_of!(PythonStack, end)] = PythonEnd::TooManyFrames as u8;
        record[frames..frames + 8].copy_from_slice(&0x1234_u64.to_le_bytes());
        let frame = PythonFrame { code: 0x1234, ..PythonFrame::default() };
        let expected = PythonHit { sequence: 9, frames: vec![frame], end: PythonEnd::TooManyFrames };
        assert!(matches!(Sent::decode(&record), Some(Sent::Python(python)) if python == expected));
        record[offset_of!(PythonStack, count) + 1] = 2;
        assert!(Sent::decode(&record).is_none(), "513 frames have no room");
    }

    #[test]
    fn what_is_too_short_or_unknown_is_no_hit() {
        let hit = Hit { kind: Kind::Free as u8, pages: 2, ..Hit::default() };
        let record = bytes(hit, &[0; PAGE]);
        assert!(RawHit::decode(&record).is_none(), "two pages were promised");
        assert!(RawHit::decode(&record[..100]).is_none());
        assert!(RawHit::decode(&bytes(Hit { kind: 200, ..Hit::default() }, &[])).is_none());
    }
}
