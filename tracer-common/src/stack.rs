// SPDX-License-Identifier: Apache-2.0
//! Native stacks on their way to user space, and what tells one from another.

/// Most native frames of a stack that is walked in the kernel.
pub const MAX_FRAMES: usize = 1024;
/// Bytes of one page of copied stack; copies begin at a page border, so a read never straddles two mappings.
pub const PAGE: usize = 4096;
/// The sizes, in pages, that a stack copy can have. A thread whose stack end is not known yet gets the largest.
pub const STACK_CLASSES: [usize; 4] = [2, 4, 8, 17];

/// The registers that unwinding begins with, as they were at the probed instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Address of the probed instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Base pointer; a general register in code without frame pointers.
    pub rbp: u64,
    /// General register.
    pub rbx: u64,
    /// General register.
    pub r12: u64,
    /// General register.
    pub r13: u64,
    /// General register.
    pub r14: u64,
    /// General register.
    pub r15: u64,
}

/// One native frame: twice its address, and one more if that is a return address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NativeFrame(pub u64);

impl NativeFrame {
    /// A frame at an address of user space, which leaves the upper half to the kernel; `returns` is 0 or 1.
    #[must_use]
    #[inline(always)]
    pub const fn new(address: u64, returns: u32) -> Self {
        Self(address << 1 | (returns & 1) as u64)
    }

    /// Its address in the process.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.0 >> 1
    }

    /// Whether the address is that of the instruction behind a call.
    #[must_use]
    pub const fn returns(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A ring-buffer record: a native stack that no hit had before. It comes before the first hit that has its number.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NativeStack {
    /// [`crate::Tag::NativeStack`].
    pub tag: u8,
    /// Why the walk went no further: a number of `tracer_unwind::walk::Stop`.
    pub stop: u8,
    /// Frames that are filled.
    pub count: u16,
    /// Its number, from 1. The same stack may get another one later, but a number never means another stack.
    pub id: u32,
    /// How often the target's modules had changed; the lower half.
    pub epoch: u32,
    /// Process id, like [`crate::Hit::tgid`].
    pub tgid: u32,
    /// Innermost first.
    pub frames: [NativeFrame; MAX_FRAMES],
}

/// The head of a [`crate::Tag::Copy`] record; `pages` × [`PAGE`] bytes from the page that holds `registers.rsp` follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyHead {
    /// [`crate::Tag::Copy`].
    pub tag: u8,
    /// Always zero.
    pub padding: u8,
    /// Pages that could be read.
    pub pages: u16,
    /// How often the target's modules had changed; the lower half.
    pub epoch: u32,
    /// The hit's [`crate::Hit::sequence`].
    pub sequence: u64,
    /// Process id, like [`crate::Hit::tgid`].
    pub tgid: u32,
    /// Always zero.
    pub padding2: u32,
    /// Where unwinding begins.
    pub registers: Registers,
}

/// What tells stacks apart: two halves of 64 bits with keys of their own, random for each recording. That two stacks of
/// one recording agree in both by chance is as likely as 1 in 2⁶⁴ once there are 2³² of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackHash(pub [u64; 2]);

impl StackHash {
    /// Adds a word.
    #[inline(always)]
    pub const fn add(&mut self, word: u64) {
        // Odd constants without a pattern: the fractional parts of the golden ratio and of the square root of three.
        let a = (self.0[0] ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let b = (self.0[1].rotate_left(23) ^ word).wrapping_mul(0xbb67_ae85_84ca_a73b);
        self.0 = [a ^ a >> 32, b ^ b >> 29];
    }
}

const _: () = assert!(size_of::<Registers>() == 64, "no implicit padding");
const _: () = assert!(size_of::<NativeStack>() == 16 + 8 * MAX_FRAMES, "no implicit padding");
const _: () = assert!(size_of::<CopyHead>() == 88, "no implicit padding");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_keeps_its_address_and_what_it_is() {
        for (address, returns) in [(0x7fff_ffff_fffe, 1), (0, 0), (0x40_1000, 1)] {
            let frame = NativeFrame::new(address, returns);
            assert_eq!((frame.address(), frame.returns()), (address, returns == 1));
        }
    }

    #[test]
    fn stacks_that_differ_in_one_frame_or_in_order_have_other_hashes() {
        let hash = |words: &[u64]| {
            let mut hash = StackHash([0x1234, 0x5678]);
            for &word in words {
                hash.add(word);
            }
            hash.0
        };
        let first = hash(&[1, 2, 3]);
        for other in [&[1, 2, 2][..], &[1, 3, 2], &[2, 1, 3], &[1, 2], &[1, 2, 3, 0], &[0, 1, 2, 3], &[]] {
            let other = hash(other);
            assert!(first[0] != other[0] && first[1] != other[1], "each half alone tells them apart");
        }
        assert_eq!(first, hash(&[1, 2, 3]));
    }
}
