// SPDX-License-Identifier: Apache-2.0
//! A table from the numbers of one file to others.

use foldhash::HashMap;

/// How far ahead of the count of definitions a number may be and still have a place in a table: some for each that is
/// defined, and some more.
const AHEAD: usize = 8;
const FIRST: usize = 1024;

/// Numbers by numbers. Files count from 1, so this is a table; but what a forged file names may be anywhere.
#[derive(Default)]
pub(super) struct Numbers {
    /// By number; 0 where there is none.
    near: Vec<u32>,
    far: HashMap<u32, u32>,
    defined: usize,
}

impl Numbers {
    /// What a number stands for, 0 if it is not defined. 0 itself stands for none.
    #[inline]
    pub(super) fn get(&self, number: u32) -> u32 {
        match self.near.get(number as usize) {
            _ if number == 0 => 0,
            Some(&common) if common != 0 => common,
            _ => self.get_far(number),
        }
    }

    #[cold]
    fn get_far(&self, number: u32) -> u32 {
        self.far.get(&number).copied().unwrap_or(0)
    }

    /// Defines a number, perhaps anew. What it stands for is not 0.
    pub(super) fn define(&mut self, number: u32, common: u32) {
        self.defined += 1;
        let at = number as usize;
        if self.near.len() <= at && at < FIRST + AHEAD * self.defined {
            self.near.resize(at + 1, 0);
        }
        match self.near.get_mut(at) {
            Some(place) => *place = common,
            None => drop(self.far.insert(number, common)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_far_ahead_takes_no_table() {
        let mut numbers = Numbers::default();
        for (number, common) in [(1, 7), (u32::MAX, 8), (2000, 9), (1, 6)] {
            numbers.define(number, common);
        }
        assert_eq!([0, 1, 2, 2000, u32::MAX].map(|number| numbers.get(number)), [0, 6, 0, 9, 8]);
        assert!(numbers.near.len() <= FIRST);
        // The table grows beyond one that was far ahead, which is known still, and may be defined anew.
        (3..3000).filter(|&number| number != 2000).for_each(|number| numbers.define(number, number));
        assert_eq!([1999, 2000, 2001].map(|number| numbers.get(number)), [1999, 9, 2001]);
        numbers.define(2000, 5);
        assert_eq!(numbers.get(2000), 5);
    }
}
