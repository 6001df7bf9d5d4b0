// SPDX-License-Identifier: Apache-2.0
//! The target's memory, a piece of it at a time: most reads of a walk are close to each other, and a read costs more than
//! what it reads.

use aya_ebpf::helpers::{bpf_probe_read_user, generated};
use tracer_unwind::walk::Memory;

/// Most bytes of a piece: a power of two.
const BYTES: u64 = 16384;
const WORDS: usize = BYTES as usize / 8;
/// Bytes that can be read, or can't, as a whole.
pub(crate) const PAGE: u64 = 4096;
/// Most bytes that are expected to be read: of places that are further apart, what is between them may be anything.
const MOST_EXPECTED: u64 = 1 << 16;

/// A piece of the target's memory.
#[repr(C)]
pub(crate) struct Window {
    /// Its address.
    start: u64,
    /// How many bytes there are.
    length: u64,
    /// What is likely to be read, from here…
    expected: u64,
    /// … for so many bytes.
    expected_length: u64,
    words: [u64; WORDS],
}

impl Window {
    /// Forgets what is there, as the target may have changed it since the last hit. What is read next is expected to be
    /// between two addresses; if it is not, it only takes longer.
    #[inline(always)]
    pub(crate) fn expect(&mut self, start: u64, end: u64) {
        let length = end.wrapping_sub(start);
        self.length = 0;
        self.expected = start & !7;
        self.expected_length = if length <= MOST_EXPECTED { length } else { 0 };
    }

    /// The first word of an object of `size` bytes at an address, for [`Self::word`], if the object is in the piece that
    /// is there.
    #[inline(always)]
    pub(crate) fn find_here(&self, address: u64, size: u32) -> Option<usize> {
        let within = address.wrapping_sub(self.start);
        let fits = within % 8 == 0 && within < self.length && within + u64::from(size) <= self.length;
        fits.then_some((within / 8) as usize)
    }

    /// The same, if the object is in one piece that can be read.
    #[inline(always)]
    pub(crate) fn find(&mut self, address: u64, size: u32) -> Option<usize> {
        let there = self.find_here(address, size);
        if there.is_some() {
            return there;
        }
        self.move_to(address);
        self.find_here(address, size)
    }

    /// A word of the piece that is there.
    #[inline(always)]
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.words[index % WORDS]
    }

    /// Moves to a piece with this address: to what is expected, or else to its page.
    #[inline(always)]
    fn move_to(&mut self, address: u64) {
        let within = address.wrapping_sub(self.expected);
        if self.expected_length != 0 && within >= self.expected_length {
            return;
        }
        let (mut start, mut length) = (address & !(PAGE - 1), PAGE);
        if within < self.expected_length {
            let before = within & !(BYTES - 1);
            start = self.expected.wrapping_add(before);
            length = (self.expected_length - before).min(BYTES);
        }
        self.start = start;
        self.length = 0;
        // SAFETY: the helper copes with any user address; the verifier checks that there is room.
        let result =
            unsafe { generated::bpf_probe_read_user(self.words.as_mut_ptr().cast(), length as u32, start as *const _) };
        if result == 0 {
            self.length = length;
        } else {
            self.expected_length = 0;
        }
    }
}

impl Memory for &mut Window {
    #[inline(always)]
    fn read(&mut self, address: u64) -> Option<u64> {
        match self.find(address, 8) {
            Some(index) => Some(self.word(index)),
            // SAFETY: the helper copes with any user address.
            None => unsafe { bpf_probe_read_user(address as *const u64) }.ok(),
        }
    }
}

/// The piece that is there, and nothing else.
pub(crate) struct Here<'a>(pub(crate) &'a Window);

impl Memory for Here<'_> {
    #[inline(always)]
    fn read(&mut self, address: u64) -> Option<u64> {
        self.0.find_here(address, 8).map(|index| self.0.word(index))
    }
}
