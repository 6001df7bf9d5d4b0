// SPDX-License-Identifier: Apache-2.0
//! A sum for each key, found with every event: mostly by the key that was asked for last.

use std::hash::Hash;

use foldhash::HashMap;

/// A sum for each key.
#[derive(Clone, Debug)]
pub(super) struct ByKey<K, T> {
    sums: Vec<(K, T)>,
    places: HashMap<K, usize>,
    /// Where that is which was asked for last.
    latest: usize,
}

impl<K, T> Default for ByKey<K, T> {
    fn default() -> Self {
        Self { sums: Vec::new(), places: HashMap::default(), latest: 0 }
    }
}

impl<K: Copy + Ord + Hash, T> ByKey<K, T> {
    /// The sum of a key, which may be a new one.
    pub(super) fn of(&mut self, key: K) -> &mut T
    where
        T: Default,
    {
        self.of_or(key, T::default)
    }

    /// The same, with what a new one begins with.
    pub(super) fn of_or(&mut self, key: K, new: impl FnOnce() -> T) -> &mut T {
        if self.sums.get(self.latest).is_none_or(|(latest, _)| *latest != key) {
            self.latest = *self.places.entry(key).or_insert_with(|| {
                self.sums.push((key, new()));
                self.sums.len() - 1
            });
        }
        &mut self.sums[self.latest].1
    }

    /// The sum of a key, if there is one.
    pub(super) fn get(&self, key: K) -> Option<&T> {
        self.places.get(&key).map(|&at| &self.sums[at].1)
    }

    /// All of them, in the order of the keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, T)> {
        let mut sums: Vec<_> = self.sums.iter().collect();
        sums.sort_unstable_by_key(|(key, _)| *key);
        sums.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_sum() {
        let mut sums = ByKey::default();
        for key in [7, 3, 3, 7, 5, 3] {
            *sums.of(key) += 1;
        }
        assert_eq!(sums.iter().copied().collect::<Vec<_>>(), [(3, 3), (5, 1), (7, 2)]);
        assert_eq!((sums.get(5), sums.get(4)), (Some(&1), None));
    }
}
