// SPDX-License-Identifier: Apache-2.0
//! From a module's address to the number of a rule.
//!
//! A table is an array of [`Block`]s. The first is its index: word `i` is the first program counter of block `i`. In the
//! others the first word is the block's first program counter, and each other word a row: in the upper half how far
//! behind that it begins, in the lower half the number of the rule that holds from there to the next row. What is not
//! used is [`UNUSED`], which is behind everything. Rows are sorted, the first of a block is at its first program counter,
//! and the last of a table says that there is no function any more ([`Rule::NONE`](crate::rule::Rule::NONE)).
//!
//! So a lookup reads two blocks, each by ten steps of bisection without a bound to check, and a row takes four bytes.

use core::hint::black_box;

/// Words of a block.
pub const WORDS: usize = 1024;
/// A word that is not used.
pub const UNUSED: u32 = u32::MAX;
/// Most row blocks of one table; a larger module has several.
pub const MAX_BLOCKS: usize = WORDS - 1;
/// Most rows of a block.
pub const MAX_ROWS: usize = WORDS - 1;
/// How far behind the block's first program counter a row may begin, in bytes.
pub const MAX_DELTA: u32 = 0xfffe;
/// Largest number of a rule.
pub const MAX_RULE: u16 = 0xfffe;

/// A piece of a table: a page of memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// See the [module](self).
    pub words: [u32; WORDS],
}

impl Block {
    /// Nothing but [`UNUSED`].
    pub const EMPTY: Self = Self { words: [UNUSED; WORDS] };

    /// In an index: the number of the row block that has the row for `pc`; 0 if the table begins behind it.
    #[must_use]
    #[inline(always)]
    pub fn block(&self, pc: u32) -> u32 {
        let pc = if pc == UNUSED { pc - 1 } else { pc };
        self.last(pc, 0) as u32
    }

    /// In a row block: the number of the rule that holds at `pc`.
    #[must_use]
    #[inline(always)]
    pub fn rule(&self, pc: u32) -> u16 {
        let delta = pc.wrapping_sub(self.words[0]);
        let delta = if delta > MAX_DELTA { MAX_DELTA } else { delta };
        self.words[self.last(delta, 16)] as u16
    }

    /// The last word but the first that is not above `key` when shifted right; 0 if all are.
    #[inline(always)]
    fn last(&self, key: u32, shift: u32) -> usize {
        bisect::<WORDS>(|position| u64::from(self.words[position] >> shift), u64::from(key))
    }
}

/// The last position but 0 at which the `value` is not above `key`, in `COUNT` sorted ones; 0 if all are above.
///
/// `COUNT` is a power of two; values and key are below 2⁶³. There is no branch: the kernel's verifier would follow both
/// sides of each, for each position.
#[inline(always)]
pub(crate) fn bisect<const COUNT: usize>(value: impl Fn(usize) -> u64, key: u64) -> usize {
    let mut position = 0;
    let mut step = COUNT / 2;
    while step > 0 {
        // The mask changes nothing; it is what the verifier needs to see.
        let next = (position + step) & (COUNT - 1);
        // The difference is negative if the value is above the key. Its sign is made a mask behind the compiler's back:
        // it would make a branch of it.
        let above = black_box(key.wrapping_sub(value(next)).cast_signed()) >> 63;
        position += step & !above as usize;
        step /= 2;
    }
    position & (COUNT - 1)
}

/// A row as a word of a block.
#[must_use]
pub const fn row(delta: u16, rule: u16) -> u32 {
    (delta as u32) << 16 | rule as u32
}

const _: () = assert!(size_of::<Block>() == 4096, "a page");

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of rules 1, 2, … at these distances from 0x5000.
    fn rows(deltas: &[u16]) -> Block {
        let mut block = Block::EMPTY;
        block.words[0] = 0x5000;
        for (word, (&delta, rule)) in block.words[1..].iter_mut().zip(deltas.iter().zip(1..)) {
            *word = row(delta, rule);
        }
        block
    }

    #[test]
    fn a_rule_holds_from_its_row_to_the_next() {
        let block = rows(&[0, 4, 5, 0xfffe]);
        let found = [0x5000, 0x5003, 0x5004, 0x5005, 0x14ffd, 0x14ffe, 0x9999_9999].map(|pc| block.rule(pc));
        assert_eq!(found, [1, 1, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn a_full_block_is_searched_whole() {
        let deltas: [u16; MAX_ROWS] = core::array::from_fn(|index| index as u16 * 3);
        let block = rows(&deltas);
        for (index, &delta) in deltas.iter().enumerate() {
            let pc = 0x5000 + u32::from(delta);
            assert_eq!((block.rule(pc), block.rule(pc + 2)), (index as u16 + 1, index as u16 + 1));
        }
    }

    #[test]
    fn an_index_tells_the_block() {
        let mut index = Block::EMPTY;
        index.words[1..4].copy_from_slice(&[0x100, 0x200, 0x9000_0000]);
        assert_eq!(
            [0, 0xff, 0x100, 0x1ff, 0x200, 0x9000_0000, u32::MAX].map(|pc| index.block(pc)),
            [0, 0, 1, 1, 2, 3, 3]
        );
    }
}
