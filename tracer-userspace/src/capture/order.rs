// SPDX-License-Identifier: Apache-2.0
//! Puts events into the order of their sequence numbers, and says where some never came.

use std::collections::BTreeMap;

/// Most events that wait for an earlier one; above that the earlier one is given up for lost.
const WAITING: usize = 1 << 16;

/// What comes out, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery<T> {
    /// An event.
    Event(T),
    /// This many events never came.
    Lost(u64),
}

/// Orders events. Numbers are taken before there is room in the ring, so events may arrive out of order, but never much
/// later than their neighbours: what has not come by the second [`Self::settle`] after them is lost.
#[derive(Debug)]
pub struct InOrder<T> {
    next: u64,
    waiting: BTreeMap<u64, T>,
    /// Events below this number were seen, or overtaken, before the last settling.
    border: u64,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { next: 0, waiting: BTreeMap::new(), border: 0 }
    }
}

impl<T> InOrder<T> {
    /// Takes an event; gives out what can be given out by now.
    pub fn arrived(&mut self, sequence: u64, event: T, out: &mut Vec<Delivery<T>>) {
        // Nearly all come in order.
        if sequence == self.next && self.waiting.is_empty() {
            self.next += 1;
            out.push(Delivery::Event(event));
            return;
        }
        self.waiting.insert(sequence, event);
        self.deliver(out);
        if self.waiting.len() > WAITING {
            self.give_up(out);
        }
    }

    /// Called now and then, with at least some tenths of a second between.
    pub fn settle(&mut self, out: &mut Vec<Delivery<T>>) {
        while self.next < self.border && !self.waiting.is_empty() {
            self.give_up(out);
        }
        self.border = self.waiting.last_key_value().map_or(self.next, |(&last, _)| last);
    }

    /// Called when nothing more can come, of `sent` events in all.
    pub fn finish(&mut self, sent: u64, out: &mut Vec<Delivery<T>>) {
        while !self.waiting.is_empty() {
            self.give_up(out);
        }
        if sent > self.next {
            out.push(Delivery::Lost(sent - self.next));
            self.next = sent;
        }
    }

    fn deliver(&mut self, out: &mut Vec<Delivery<T>>) {
        // An event with a number that was given up comes too late for its place, and is given out all the same.
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() <= self.next) {
            let (sequence, event) = entry.remove_entry();
            self.next = self.next.max(sequence + 1);
            out.push(Delivery::Event(event));
        }
    }

    fn give_up(&mut self, out: &mut Vec<Delivery<T>>) {
        if let Some((&first, _)) = self.waiting.first_key_value() {
            if first > self.next {
                out.push(Delivery::Lost(first - self.next));
                self.next = first;
            }
            self.deliver(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Delivery::*, *};

    fn arrive(order: &mut InOrder<u64>, sequences: &[u64]) -> Vec<Delivery<u64>> {
        let mut out = Vec::new();
        for &sequence in sequences {
            order.arrived(sequence, sequence, &mut out);
        }
        out
    }

    fn settle(order: &mut InOrder<u64>) -> Vec<Delivery<u64>> {
        let mut out = Vec::new();
        order.settle(&mut out);
        out
    }

    #[test]
    fn what_is_nearly_in_order_is_put_in_order() {
        let mut order = InOrder::default();
        let out = arrive(&mut order, &[0, 1, 3, 2, 5, 6, 4]);
        assert_eq!(out, [0, 1, 2, 3, 4, 5, 6].map(Event));
        assert_eq!((settle(&mut order), settle(&mut order)), (vec![], vec![]));
    }

    #[test]
    fn what_stays_away_is_lost_at_its_place() {
        let mut order = InOrder::default();
        assert_eq!(arrive(&mut order, &[0, 5]), [Event(0)]);
        assert_eq!(settle(&mut order), [], "the numbers may still come");
        assert_eq!(arrive(&mut order, &[3, 6]), []);
        assert_eq!(settle(&mut order), [Lost(2), Event(3), Lost(1), Event(5), Event(6)]);
        let mut out = Vec::new();
        order.finish(9, &mut out);
        assert_eq!(out, [Lost(2)], "7 and 8 were sent and never came");
    }

    #[test]
    fn the_sum_is_right_whatever_is_lost() {
        // A small generator: every number below 200,000 arrives or not, and in a slightly shuffled order.
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let mut numbers: Vec<u64> = (0..200_000).filter(|_| !random().is_multiple_of(7)).collect();
        for i in 1..numbers.len() {
            if random().is_multiple_of(5) {
                numbers.swap(i - 1, i);
            }
        }
        let mut order = InOrder::default();
        let mut out = Vec::new();
        for (i, &sequence) in numbers.iter().enumerate() {
            order.arrived(sequence, sequence, &mut out);
            if i % 100_000 == 0 {
                order.settle(&mut out);
            }
        }
        order.finish(200_000, &mut out);
        let kept: Vec<u64> =
            out.iter().filter_map(|d| if let Event(event) = d { Some(*event) } else { None }).collect();
        let lost: u64 = out.iter().map(|d| if let Lost(count) = d { *count } else { 0 }).sum();
        assert!(kept.is_sorted());
        assert_eq!((kept.len(), lost), (numbers.len(), 200_000 - numbers.len() as u64));
    }
}
