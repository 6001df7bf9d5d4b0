// SPDX-License-Identifier: Apache-2.0
//! A sum for each verdict, in place: verdicts are few, and counted with every event.

use serde::{Deserialize, Serialize};

use super::VerdictCount;
use crate::model::Verdict;

/// A sum for each verdict, in the order of [`Verdict::ALL`], which is theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct ByVerdict<T>([T; Verdict::ALL.len()]);

impl<T: Copy + Default + PartialEq> ByVerdict<T> {
    /// The sum of a verdict.
    pub(super) fn of(&mut self, verdict: Verdict) -> &mut T {
        &mut self.0[verdict as usize]
    }

    /// The verdicts that were given, and their sums.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Verdict, T)> {
        Verdict::ALL.into_iter().zip(self.0).filter(|(_, sum)| *sum != T::default())
    }
}

impl ByVerdict<[u64; 2]> {
    /// Adds other counts.
    pub(super) fn merge(&mut self, other: &Self) {
        for (verdict, counts) in other.iter() {
            let sums = self.of(verdict).iter_mut();
            sums.zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(count));
        }
    }
}

impl ByVerdict<u64> {
    /// Adds other counts.
    pub(super) fn merge(&mut self, other: &Self) {
        for (verdict, count) in other.iter() {
            let sum = self.of(verdict);
            *sum = sum.saturating_add(count);
        }
    }

    /// As rows.
    pub(super) fn rows(&self) -> Vec<VerdictCount> {
        self.iter().map(|(verdict, count)| VerdictCount { verdict, count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_its_own_sum() {
        let mut counts = ByVerdict::default();
        for (verdict, count) in Verdict::ALL.into_iter().zip(1..) {
            *counts.of(verdict) += count;
        }
        assert!(counts.iter().eq(Verdict::ALL.into_iter().zip(1..)));
        assert!(Verdict::ALL.is_sorted(), "rows are in the order of the verdicts");
    }
}
