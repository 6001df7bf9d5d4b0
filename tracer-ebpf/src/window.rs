// SPDX-License-Identifier: Apache-2.0
//! The target's memory, a piece of it at a time: most reads of a walk are close to each other, and a read costs more than
//! what it reads.

use aya_ebpf::helpers::{bpf_probe_read_user, generated};
use tracer_unwind::walk::Memory;

/// Bytes of a piece: a power of two, and no more than a page.
const BYTES: u64 = 4096;
const WORDS: usize = BYTES as usize / 8;
/// Where no piece is: not a multiple of its size.
const NOWHERE: u64 = 1;

/// A piece of the target's memory.
#[repr(C)]
pub(crate) struct Window {
    /// Its address.
    start: u64,
    words: [u64; WORDS],
}

impl Window {
    /// Forgets what is there: the target may have changed it since the last hit.
    #[inline(always)]
    pub(crate) fn forget(&mut self) {
        self.start = NOWHERE;
    }

    /// Moves to the piece with this address; whether it can be read.
    #[inline(always)]
    fn move_to(&mut self, address: u64) -> bool {
        let start = address & !(BYTES - 1);
        if start == self.start {
            return true;
        }
        // SAFETY: the helper copes with any user address; the verifier checks that there is room.
        let result =
            unsafe { generated::bpf_probe_read_user(self.words.as_mut_ptr().cast(), BYTES as u32, start as *const _) };
        self.start = if result == 0 { start } else { NOWHERE };
        result == 0
    }

    /// The first word of an object of `size` bytes at an address, for [`Self::word`]; `None` if the object is not in one
    /// piece that can be read.
    #[inline(always)]
    pub(crate) fn find(&mut self, address: u64, size: u32) -> Option<usize> {
        let within = address % BYTES;
        let fits = address % 8 == 0 && within + u64::from(size) <= BYTES;
        (fits && self.move_to(address)).then_some((within / 8) as usize)
    }

    /// The same, of an object in the piece that is there.
    #[inline(always)]
    pub(crate) fn find_here(&self, address: u64, size: u32) -> Option<usize> {
        let within = address.wrapping_sub(self.start);
        let fits = address % 8 == 0 && within < BYTES && within + u64::from(size) <= BYTES;
        fits.then_some((within / 8) as usize)
    }

    /// A word of the piece that is there.
    #[inline(always)]
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.words[index % WORDS]
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
