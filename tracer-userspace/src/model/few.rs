// SPDX-License-Identifier: Apache-2.0
//! A set that mostly has one element.

use std::collections::BTreeSet;

/// An ordered set of any size, of which the first one is at hand.
#[derive(Debug)]
pub(super) struct Few<T> {
    one: Option<T>,
    more: BTreeSet<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { one: None, more: BTreeSet::new() }
    }
}

impl<T: Copy + Ord> Few<T> {
    /// Adds an element that is not in it.
    pub(super) fn insert(&mut self, it: T) {
        match self.one {
            None => self.one = Some(it),
            Some(_) => drop(self.more.insert(it)),
        }
    }

    pub(super) fn remove(&mut self, it: T) {
        match self.one {
            Some(one) if one == it => self.one = None,
            _ => drop(self.more.remove(&it)),
        }
    }

    /// The greatest element below a bound.
    pub(super) fn below(&self, bound: T) -> Option<T> {
        let one = self.one.filter(|one| *one < bound);
        match self.more.is_empty() {
            true => one,
            false => self.more.range(..bound).next_back().copied().max(one),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.one.is_none() && self.more.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        usize::from(self.one.is_some()) + self.more.len()
    }
}
