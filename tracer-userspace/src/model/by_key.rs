// SPDX-License-Identifier: Apache-2.0
//! A value for each of few keys, looked up with every event: mostly by one of the two keys that were asked for last.

use std::hash::Hash;

use foldhash::HashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value for each key.
#[derive(Clone, Debug)]
pub(crate) struct ByKey<K, T> {
    all: Vec<(K, T)>,
    places: HashMap<K, usize>,
    /// Where those are that were asked for last, the last one first.
    latest: [usize; 2],
}

impl<K, T> Default for ByKey<K, T> {
    fn default() -> Self {
        Self { all: Vec::new(), places: HashMap::default(), latest: [0; 2] }
    }
}

impl<K: Serialize, T: Serialize> Serialize for ByKey<K, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}

impl<'de, K: Copy + Eq + Hash + Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for ByKey<K, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

impl<K: Copy + Eq + Hash, T> From<Vec<(K, T)>> for ByKey<K, T> {
    fn from(all: Vec<(K, T)>) -> Self {
        let places = all.iter().enumerate().map(|(at, (key, _))| (*key, at)).collect();
        Self { all, places, latest: [0; 2] }
    }
}

impl<K: Copy + Ord + Hash, T> ByKey<K, T> {
    /// The value of a key, which may be a new one.
    #[inline]
    pub(crate) fn of(&mut self, key: K) -> &mut T
    where
        T: Default,
    {
        self.of_or(key, T::default)
    }

    /// The same, with what a new one begins with.
    #[inline]
    pub(crate) fn of_or(&mut self, key: K, new: impl FnOnce() -> T) -> &mut T {
        let [last, before] = self.latest;
        if !self.is_at(last, key) {
            let at = if self.is_at(before, key) { before } else { self.find(key, new) };
            self.latest = [at, last];
        }
        &mut self.all[self.latest[0]].1
    }

    /// The value of a key, if there is one.
    pub(crate) fn get(&self, key: K) -> Option<&T> {
        self.places.get(&key).map(|&at| &self.all[at].1)
    }

    /// All of them, in the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, T)> {
        let mut all: Vec<_> = self.all.iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter()
    }

    /// The same, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        let mut all: Vec<_> = self.all.iter_mut().map(|(key, value)| (*key, value)).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter()
    }

    /// The same, to be taken.
    pub(crate) fn into_all(mut self) -> Vec<(K, T)> {
        self.all.sort_unstable_by_key(|(key, _)| *key);
        self.all
    }

    fn is_at(&self, at: usize, key: K) -> bool {
        self.all.get(at).is_some_and(|it| it.0 == key)
    }

    fn find(&mut self, key: K, new: impl FnOnce() -> T) -> usize {
        *self.places.entry(key).or_insert_with(|| {
            self.all.push((key, new()));
            self.all.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_value() {
        let mut sums = ByKey::default();
        for key in [7, 3, 3, 7, 5, 3, 5, 7] {
            *sums.of(key) += 1;
        }
        *sums.of_or(9, || 10) += 1;
        assert_eq!(sums.iter().copied().collect::<Vec<_>>(), [(3, 3), (5, 2), (7, 3), (9, 11)]);
        sums.iter_mut().for_each(|(key, sum)| *sum *= key);
        assert_eq!((sums.get(5), sums.get(4)), (Some(&10), None));
        let mut again = ByKey::from(vec![(7, 21), (3, 9)]);
        *again.of(3) += 1;
        *again.of(4) += 1;
        assert_eq!(again.into_all(), [(3, 10), (4, 1), (7, 21)]);
    }
}
