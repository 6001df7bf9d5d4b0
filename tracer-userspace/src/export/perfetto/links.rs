// SPDX-License-Identifier: Apache-2.0
//! Which excess frees an allocation and a free are linked to. Links are numbers that both of their ends name, and the
//! earlier one may be written first: so they are counted in a reading before.

use std::collections::HashMap;

use crate::{
    analysis::ExcessKind,
    model::{Buffer, Entry, Outcome, Previous},
};

/// The links of a trace. Its memory grows with the buffers that are freed too often.
#[derive(Debug, Default)]
pub struct Links {
    /// By process and unique id.
    allocations: HashMap<(u32, u64), Ends>,
    /// By process, unique id and time.
    frees: HashMap<(u32, u64, u64), Ends>,
    /// Links that were given numbers, which are from 1.
    given: u64,
}

/// The links that begin at one place.
#[derive(Debug, Default)]
struct Ends {
    count: u64,
    /// The number of the first; 0 if it has none yet.
    first: u64,
    used: u64,
}

impl Links {
    /// Takes the next entry of the first reading.
    pub fn entry(&mut self, entry: &Entry) {
        let Entry::Outcome(outcome) = entry else { return };
        if ExcessKind::of(outcome.verdict) == Some(ExcessKind::Excess) {
            if let Some(key) = allocation(outcome) {
                self.allocations.entry(key).or_default().count += 1;
            }
            if let Some(key) = before(outcome) {
                self.frees.entry(key).or_default().count += 1;
            }
        }
    }

    /// The links that begin at the allocation of a buffer.
    pub(super) fn of_allocation(&mut self, buffer: &Buffer) -> Vec<u64> {
        let ends = self.allocations.get_mut(&(buffer.process, buffer.unique_id));
        ends.map(|ends| ends.all(&mut self.given)).unwrap_or_default()
    }

    /// The links that begin at the free before an excess free, if that is told now for the first time.
    pub(super) fn of_free_before(&mut self, outcome: &Outcome) -> Vec<u64> {
        let ends = before(outcome).and_then(|key| self.frees.get_mut(&key));
        ends.filter(|ends| ends.used == 0).map(|ends| ends.all(&mut self.given)).unwrap_or_default()
    }

    /// The links that end at an excess free.
    pub(super) fn of_excess(&mut self, outcome: &Outcome) -> Vec<u64> {
        let to_allocation = allocation(outcome).and_then(|key| self.allocations.get_mut(&key));
        let to_allocation = to_allocation.and_then(|ends| ends.next(&mut self.given));
        let to_free = before(outcome).and_then(|key| self.frees.get_mut(&key));
        let to_free = to_free.and_then(|ends| ends.next(&mut self.given));
        [to_allocation, to_free].into_iter().flatten().collect()
    }
}

impl Ends {
    fn all(&mut self, given: &mut u64) -> Vec<u64> {
        let first = self.first(given);
        (first..first + self.count).collect()
    }

    fn next(&mut self, given: &mut u64) -> Option<u64> {
        let number = self.first(given) + self.used;
        let is_left = self.used < self.count;
        self.used += 1;
        is_left.then_some(number)
    }

    fn first(&mut self, given: &mut u64) -> u64 {
        if self.first == 0 {
            self.first = *given + 1;
            *given += self.count;
        }
        self.first
    }
}

/// The buffer whose allocation was seen, or that was found.
fn allocation(outcome: &Outcome) -> Option<(u32, u64)> {
    let owner = outcome.owner();
    (owner.allocated.is_some() || owner.found).then_some((owner.process, owner.unique_id))
}

fn before(outcome: &Outcome) -> Option<(u32, u64, u64)> {
    match outcome.previous {
        Previous::Free(moment, _) => Some((outcome.buffer.process, outcome.buffer.unique_id, moment.time)),
        Previous::None | Previous::Close(_) | Previous::Forgotten | Previous::Unseen => None,
    }
}
