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
        if self.one == Some(it) {
            self.one = None;
        } else {
            self.more.remove(&it);
        }
    }

    /// The greatest element below a bound.
    pub(super) fn below(&self, bound: T) -> Option<T> {
        let one = self.one.filter(|one| *one < bound);
        self.more.range(..bound).next_back().copied().max(one)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.one.is_none() && self.more.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        usize::from(self.one.is_some()) + self.more.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_came_first_the_order_is_that_of_values() {
        let mut few = Few::default();
        [5, 2, 9].into_iter().for_each(|it| few.insert(it));
        assert_eq!([10, 9, 5, 2].map(|bound| few.below(bound)), [Some(9), Some(5), Some(2), None]);
        few.remove(5);
        few.remove(7);
        assert_eq!((few.below(9), few.len()), (Some(2), 2));
        few.insert(3);
        assert_eq!((few.below(9), few.is_empty()), (Some(3), false));
        [2, 3, 9].into_iter().for_each(|it| few.remove(it));
        assert!(few.is_empty());
    }
}
