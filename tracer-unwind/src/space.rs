// SPDX-License-Identifier: Apache-2.0
//! From an address of a process to a table.

use crate::table::bisect;

/// Most ranges of one process; what is above has no table.
pub const MAX_RANGES: usize = 1024;

/// Numbers of tables are below this.
pub const MAX_TABLES: u32 = 4096;

/// In [`Range::table`]: there is a table, but it is not loaded yet.
pub const NOT_LOADED: u32 = u32::MAX;
/// In [`Range::table`]: the module has no `.eh_frame`.
pub const NO_TABLE: u32 = u32::MAX - 1;
/// In [`Range::table`]: the page to which the kernel makes functions return that somebody watches with a uretprobe.
pub const URETPROBE: u32 = u32::MAX - 2;

/// In [`Space::epoch`]: nobody's.
pub const NO_EPOCH: u64 = u64::MAX;

/// In [`Space::number`]: nobody's.
pub const NO_SPACE: u32 = 0;

/// A piece of the address space that a module's code is mapped to, or a part of it with a table of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// What to subtract from an address to get the table's program counter, which is below 2³².
    pub bias: u64,
    /// Number of the table, or one of the constants above.
    pub table: u32,
    /// Always zero.
    pub padding: u32,
}

impl Range {
    /// Behind everything: what is not used.
    pub const UNUSED: Self =
        Self { start: i64::MAX as u64, end: i64::MAX as u64, bias: 0, table: NO_TABLE, padding: 0 };

    /// Whether an address is in it.
    #[must_use]
    #[inline(always)]
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }
}

/// Where the modules of a process are.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// What counts the changes of the process's modules, as it was when this was made.
    pub epoch: u64,
    /// Its number, which no other one ever has; or [`NO_SPACE`].
    pub number: u32,
    /// Always zero.
    pub padding: u32,
    /// In the order of their addresses; the rest is [`Range::UNUSED`].
    pub ranges: [Range; MAX_RANGES],
}

impl Space {
    /// The number of the last range that begins at or before an address.
    #[must_use]
    #[inline(always)]
    pub fn last(&self, address: u64) -> usize {
        bisect::<MAX_RANGES>(|position| self.ranges[position].start, address)
    }
}

const _: () = assert!(size_of::<Range>() == 32, "no implicit padding");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_an_address_is_found() {
        let mut space = Space { epoch: 0, number: 1, padding: 0, ranges: [Range::UNUSED; MAX_RANGES] };
        for (range, start) in space.ranges.iter_mut().zip([0x1000, 0x3000, 0x4000]) {
            *range = Range { start, end: start + 0x1000, bias: 0, table: 0, padding: 0 };
        }
        let found = [0x1000, 0x1fff, 0x2000, 0x3000, 0x4fff, 0x5000].map(|address| {
            let index = space.last(address);
            space.ranges[index].contains(address).then_some(index)
        });
        assert_eq!(found, [Some(0), Some(0), None, Some(1), Some(2), None]);
    }
}
