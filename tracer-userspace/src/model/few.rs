// SPDX-License-Identifier: Apache-2.0
//! A map that mostly has one element.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An ordered map of any size, small where it has one element at most.
#[derive(Debug, Deserialize, Serialize)]
#[serde(bound(deserialize = "K: Ord + Deserialize<'de>, V: Deserialize<'de>"))]
pub(super) enum Few<K, V = ()> {
    One(Option<(K, V)>),
    More(Box<More<K, V>>),
}

/// Any number of elements.
#[derive(Debug, Deserialize, Serialize)]
#[serde(bound(deserialize = "K: Ord + Deserialize<'de>, V: Deserialize<'de>"))]
pub(super) struct More<K, V>(BTreeMap<K, V>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self::One(None)
    }
}

impl<K: Copy + Ord, V: Copy> Few<K, V> {
    /// Sets the value of a key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self {
            Self::One(one @ None) => *one = Some((key, value)),
            Self::One(Some(one)) if one.0 == key => one.1 = value,
            Self::One(Some(one)) => *self = Self::More(Box::new(More(BTreeMap::from([*one, (key, value)])))),
            Self::More(more) => drop(more.0.insert(key, value)),
        }
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        match self {
            Self::One(one) => one.take_if(|one| one.0 == key).map(|one| one.1),
            Self::More(more) => more.0.remove(&key),
        }
    }

    pub(super) fn get(&self, key: K) -> Option<V> {
        match self {
            Self::One(one) => one.filter(|one| one.0 == key).map(|one| one.1),
            Self::More(more) => more.0.get(&key).copied(),
        }
    }

    /// The greatest key below a bound.
    pub(super) fn below(&self, bound: K) -> Option<K> {
        match self {
            Self::One(one) => one.map(|one| one.0).filter(|key| *key < bound),
            Self::More(more) => more.0.range(..bound).next_back().map(|(key, _)| *key),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::One(one) => one.is_none(),
            Self::More(more) => more.0.is_empty(),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(one) => usize::from(one.is_some()),
            Self::More(more) => more.0.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_came_first_the_order_is_that_of_keys() {
        let mut few = Few::default();
        [5, 2, 9].into_iter().for_each(|it| few.insert(it, ()));
        assert_eq!([10, 9, 5, 2].map(|bound| few.below(bound)), [Some(9), Some(5), Some(2), None]);
        assert_eq!((few.remove(5), few.remove(7)), (Some(()), None));
        assert_eq!((few.below(9), few.len()), (Some(2), 2));
        few.insert(3, ());
        assert_eq!((few.below(9), few.is_empty()), (Some(3), false));
        assert_eq!([2, 3, 9].map(|it| few.remove(it)), [Some(()); 3]);
        assert!(few.is_empty());
    }

    #[test]
    fn a_key_has_the_value_that_was_set_last() {
        let mut few = Few::default();
        for size in 1..4 {
            few.insert(1, 10 * size);
            few.insert(size, size);
            few.insert(1, size + 5);
            assert_eq!((few.get(1), few.get(7), few.len()), (Some(size + 5), None, size));
        }
        assert_eq!([1, 2, 2, 3].map(|key| few.remove(key)), [Some(8), Some(2), None, Some(3)]);
        assert!(few.is_empty());
    }

    #[test]
    fn one_element_takes_no_more_than_itself() {
        assert_eq!(size_of::<Few<u64>>(), size_of::<Option<u64>>());
    }
}
