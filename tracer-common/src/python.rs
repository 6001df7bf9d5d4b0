// SPDX-License-Identifier: Apache-2.0
//! Python frames: where an interpreter keeps them, and what is captured of each.

/// Most Python frames that are captured of one stack.
pub const MAX_PYTHON_FRAMES: usize = 512;
/// A thread state, a frame, or a code object, is read up to its last field of interest: fewer bytes than these.
pub const MAX_PYTHON_READ: usize = 256;
/// Size of each of the two parts of a code object that go into its [`CodeSum`], in bytes.
pub const CODE_PART: usize = 32;
/// What a code object points to that goes into it, too: what it is called, its file, and its line table.
pub const CODE_TEXTS: usize = 3;
/// Offset of the length in a `str` and a `bytes`: `PyASCIIObject.length`, `PyVarObject.ob_size`.
pub const TEXT_LENGTH: u64 = 16;
/// So many of the last bytes of each text.
pub const TEXT_TAIL: u64 = 16;

/// The bits of a [`PythonFrame::generation`].
pub const GENERATIONS: u32 = 0xff_ffff;
/// For [`PythonLayout::watched_from`].
pub const NOT_WATCHED: u32 = u32::MAX;

/// Where a CPython interpreter keeps the frames of a thread: offsets in bytes, verified in the process in hand.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonLayout {
    /// Offset in the kernel's `task_struct` of the thread's fs base, which is its `pthread_t`.
    pub fsbase: u32,
    /// Offset from the fs base of the thread-specific value that points to the thread's `PyThreadState`.
    pub slot: u32,
    /// Offset in the thread state of its thread's `pthread_t`.
    pub thread_id: u32,
    /// Offset in the thread state of the pointer to a `_PyCFrame`, or [`crate::NO_OFFSET`].
    pub cframe: u32,
    /// Offset of the pointer to the innermost frame, in the `_PyCFrame` or the thread state.
    pub current_frame: u32,
    /// Bytes of a thread state that hold all of these, below [`MAX_PYTHON_READ`].
    pub state_size: u32,
    /// Bytes of a frame that hold all of what follows, below [`MAX_PYTHON_READ`].
    pub frame_size: u32,
    /// Offset in a frame of the pointer to its caller's frame.
    pub previous: u32,
    /// Offset in a frame of the pointer to its code object.
    pub code: u32,
    /// Offset in a frame of the word that holds its instruction.
    pub instruction: u32,
    /// Offset in a frame of the byte that tells entry frames.
    pub mark: u32,
    /// Offset in a code object of its counts: of arguments, of stack slots, and so on, with the first line's number.
    pub counts: u32,
    /// How far behind the counts the pointers to its names and line table are: a multiple of eight.
    pub names: u32,
    /// Bytes of a code object that hold both parts, below [`MAX_PYTHON_READ`].
    pub code_size: u32,
    /// What it is called, its file, and its line table.
    pub texts: [CodeText; CODE_TEXTS],
    /// The [`PythonFrame::generation`] at which a probe was put in that tells when a code object is freed: one that was seen
    /// since is what it was until then. [`NOT_WATCHED`] while there is none.
    pub watched_from: u32,
}

/// Where a text of a code object is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeText {
    /// How far behind the counts the pointer to it is: a multiple of eight.
    pub pointer: u32,
    /// Where in it its bytes begin, if it is a `bytes` or an ASCII `str`.
    pub start: u32,
}

/// One Python frame, as the interpreter has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonFrame {
    /// Address of the code object.
    pub code: u64,
    /// The word at [`PythonLayout::instruction`].
    pub instruction: u64,
    /// [`CodeSum`] of the code object: of all of it, or without its texts, where one could not be read; of zeros, where none
    /// of it could.
    pub checksum: u32,
    /// The byte at [`PythonLayout::mark`], and above it the [generation](Self::generation).
    pub mark: u32,
}

impl PythonFrame {
    /// The byte at [`PythonLayout::mark`].
    #[must_use]
    pub const fn mark(&self) -> u8 {
        self.mark as u8
    }

    /// How many code objects had been freed when this one was looked at (the lower 24 bits), 0 while that is not counted. Where
    /// it is another number than before, another code object may be at the address.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.mark >> 8
    }
}

/// Why there are no more Python frames.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PythonEnd {
    /// Not looked for: there is no interpreter whose frames can be read.
    #[default]
    NotRead = 0,
    /// All are there.
    Complete = 1,
    /// There are none: Python does not know this thread.
    NoThreadState = 2,
    /// The thread state could not be read.
    UnreadableState = 3,
    /// The thread state that was found is another thread's.
    OtherThread = 4,
    /// A frame could not be read.
    UnreadableFrame = 5,
    /// [`MAX_PYTHON_FRAMES`].
    TooManyFrames = 6,
    /// The ring buffer had no room for them, or the kernel side was busy.
    NotSent = 7,
}

impl PythonEnd {
    /// The end of a number that came over the border; one that is not ours is [`Self::NotRead`].
    #[must_use]
    pub const fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Complete,
            2 => Self::NoThreadState,
            3 => Self::UnreadableState,
            4 => Self::OtherThread,
            5 => Self::UnreadableFrame,
            6 => Self::TooManyFrames,
            7 => Self::NotSent,
            _ => Self::NotRead,
        }
    }

    /// Whether frames are missing that may be there.
    #[must_use]
    pub const fn is_cut(self) -> bool {
        !matches!(self, Self::NotRead | Self::Complete | Self::NoThreadState)
    }
}

/// A ring-buffer record: Python frames that no hit had before. It comes before the first hit that has its number.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PythonStack {
    /// [`crate::Tag::PythonStack`].
    pub tag: u8,
    /// A [`PythonEnd`].
    pub end: u8,
    /// Frames that are filled.
    pub count: u16,
    /// Its number, from 1, as in [`crate::NativeStack`].
    pub id: u32,
    /// Always zero: where a native stack has its epoch.
    pub padding: u32,
    /// Process id, like [`crate::Hit::tgid`].
    pub tgid: u32,
    /// Innermost first.
    pub frames: [PythonFrame; MAX_PYTHON_FRAMES],
}

/// What the kernel side reads into before it knows what is of use; a BPF program's stack has no room for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PythonScratch {
    /// A frame, or before them the thread state.
    pub frame: [u64; MAX_PYTHON_READ / 8],
    /// A code object, from its counts on.
    pub code: [u64; MAX_PYTHON_READ / 8],
    /// The length of one of its texts, then its last bytes.
    pub text: [u64; TEXT_TAIL as usize / 8],
}

/// Tells a code object from others that are, or were, at its address: made from its counts, its names' addresses, and of what is
/// there the lengths and ends. One that was freed, and another one that was made at its place, often have all but these in
/// common.
#[derive(Clone, Copy, Debug)]
pub struct CodeSum(pub u64);

impl CodeSum {
    /// That of the two parts of the code object itself.
    #[must_use]
    #[inline(always)]
    pub const fn of(counts: [u64; CODE_PART / 8], names: [u64; CODE_PART / 8]) -> Self {
        let [a, b, c, d] = counts;
        let [e, f, g, h] = names;
        Self(0).add(a).add(e).add(b).add(f).add(c).add(g).add(d).add(h)
    }

    /// With a text: its length, and its last [`TEXT_TAIL`] bytes, of which those in front of a shorter one do not count.
    #[must_use]
    #[inline(always)]
    pub const fn with_text(self, length: u64, [first, second]: [u64; 2]) -> Self {
        // How many bits are in front of it.
        let other = TEXT_TAIL.saturating_sub(length) * 8;
        let first = if other < 64 { first & u64::MAX << other } else { 0 };
        let second = match other {
            0..=64 => second,
            65..128 => second & u64::MAX << (other - 64),
            _ => 0,
        };
        self.add(length).add(first).add(second)
    }

    /// As it is sent.
    #[must_use]
    #[inline(always)]
    pub const fn get(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    const fn add(self, word: u64) -> Self {
        let sum = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(sum ^ sum >> 29)
    }
}

const _: () = assert!(size_of::<PythonLayout>() == 84, "no implicit padding");
const _: () = assert!(size_of::<PythonFrame>() == 24, "no implicit padding");
const _: () = assert!(size_of::<PythonStack>() == 16 + 24 * MAX_PYTHON_FRAMES, "no implicit padding");

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text of so many letters has as its last bytes, behind others that may change.
    fn sum(letters: usize, in_front: u8) -> u32 {
        let mut bytes = [in_front; 16];
        bytes[16 - letters.min(16)..].fill(b'a');
        let words = bytes.as_chunks().0;
        CodeSum(7).with_text(letters as u64, [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]).get()
    }

    #[test]
    fn what_is_in_front_of_a_short_text_does_not_count() {
        let sums: [u32; 20] = core::array::from_fn(|letters| sum(letters, 0));
        for (letters, expected) in sums.iter().enumerate() {
            assert_eq!(sum(letters, 0xff), *expected, "{letters}");
            assert_eq!(sums.iter().filter(|sum| *sum == expected).count(), 1, "{letters}");
        }
    }
}
