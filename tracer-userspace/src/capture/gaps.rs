// SPDX-License-Identifier: Apache-2.0
//! Finds the events that never arrived, by the numbers that they would have had.

use std::collections::BTreeMap;

/// Most numbers that are waited for at a time; above that the oldest are given up for lost.
const WAITED_FOR: usize = 1 << 16;

/// A run of sequence numbers that never arrived, and the times of the events around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many events.
    pub count: u64,
    /// Time of the last event before the gap, as far as it was known when the gap was seen.
    pub after: u64,
    /// Time of the first event behind it.
    pub before: u64,
}

/// Watches sequence numbers. Numbers are taken before there is room in the ring, so they may arrive out of order, but
/// never much later than their neighbours.
#[derive(Debug, Default)]
pub struct Gaps {
    next: u64,
    last_time: u64,
    /// Missing numbers: first of a run → the run.
    missing: BTreeMap<u64, Gap>,
    /// The next number at the last [`Self::settle`].
    settled: u64,
}

impl Gaps {
    /// Notes that a number arrived.
    pub fn arrived(&mut self, sequence: u64, time: u64) {
        if sequence < self.next {
            self.fill(sequence);
            return;
        }
        if sequence > self.next {
            let gap = Gap { count: sequence - self.next, after: self.last_time, before: time };
            self.missing.insert(self.next, gap);
        }
        self.next = sequence + 1;
        self.last_time = self.last_time.max(time);
    }

    /// Called now and then, with at least some tenths of a second between: what was missing at the last call and still is,
    /// is lost.
    pub fn settle(&mut self) -> Vec<Gap> {
        let border = std::mem::replace(&mut self.settled, self.next);
        self.take(|first| first < border)
    }

    /// Called when no more events can come: all that is missing is lost, up to `sent` numbers in all.
    pub fn finish(&mut self, sent: u64) -> Vec<Gap> {
        if sent > self.next {
            let gap = Gap { count: sent - self.next, after: self.last_time, before: self.last_time };
            self.missing.insert(self.next, gap);
            self.next = sent;
        }
        self.take(|_| true)
    }

    fn take(&mut self, lost: impl Fn(u64) -> bool) -> Vec<Gap> {
        let mut gaps = Vec::new();
        while let Some(entry) = self.missing.first_entry() {
            if !lost(*entry.key()) && self.missing.len() <= WAITED_FOR {
                break;
            }
            gaps.extend(self.missing.pop_first().map(|(_, gap)| gap));
        }
        gaps
    }

    fn fill(&mut self, sequence: u64) {
        let Some((&first, &gap)) = self.missing.range(..=sequence).next_back() else { return };
        let end = first + gap.count;
        if sequence >= end {
            return;
        }
        self.missing.remove(&first);
        if sequence > first {
            self.missing.insert(first, Gap { count: sequence - first, ..gap });
        }
        if sequence + 1 < end {
            self.missing.insert(sequence + 1, Gap { count: end - sequence - 1, ..gap });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(gaps: Vec<Gap>) -> Vec<u64> {
        gaps.into_iter().map(|gap| gap.count).collect()
    }

    #[test]
    fn nothing_is_missing_in_order_or_nearly() {
        let mut gaps = Gaps::default();
        for sequence in [0, 1, 3, 2, 5, 4, 6] {
            gaps.arrived(sequence, sequence * 10);
        }
        assert_eq!(counts(gaps.settle()), []);
        assert_eq!(counts(gaps.settle()), []);
        assert_eq!(counts(gaps.finish(7)), []);
    }

    #[test]
    fn what_stays_away_is_lost_once_and_has_a_place() {
        let mut gaps = Gaps::default();
        gaps.arrived(0, 100);
        gaps.arrived(5, 200);
        assert_eq!(gaps.settle(), [], "the numbers may still come");
        gaps.arrived(3, 190);
        gaps.arrived(6, 210);
        let lost = gaps.settle();
        assert_eq!(counts(lost.clone()), [2, 1], "1 and 2, and 4");
        assert_eq!((lost[0].after, lost[0].before), (100, 200));
        assert_eq!(counts(gaps.finish(9)), [2], "7 and 8 were sent and never came");
    }

    #[test]
    fn the_sum_is_right_whatever_is_lost() {
        // A small generator: every number below 10,000 arrives or not, and in a slightly shuffled order.
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let mut numbers: Vec<u64> = (0..10_000).filter(|_| !random().is_multiple_of(7)).collect();
        for i in 1..numbers.len() {
            if random().is_multiple_of(5) {
                numbers.swap(i - 1, i);
            }
        }
        let mut gaps = Gaps::default();
        let mut lost = 0;
        for (i, &sequence) in numbers.iter().enumerate() {
            gaps.arrived(sequence, sequence);
            if i % 100 == 0 {
                lost += counts(gaps.settle()).into_iter().sum::<u64>();
            }
        }
        lost += counts(gaps.finish(10_000)).into_iter().sum::<u64>();
        assert_eq!(lost + numbers.len() as u64, 10_000);
    }
}
