// SPDX-License-Identifier: Apache-2.0
//! The memory of buffers freed lately, by which a repeat is told from a free of something unknown.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{Buffer, Moment, Verdict};

/// How many freed buffers are remembered for each process, the latest first to stay.
pub const REMEMBERED: usize = 65_536;

/// The end of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) buffer: Buffer,
    pub(super) moment: Moment,
    pub(super) verdict: Verdict,
}

/// The last [`REMEMBERED`] ended buffers by their unique id.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ended: HashMap<u64, Ended>,
    order: VecDeque<u64>,
    /// Of those whose allocation was seen: type, address, unique id.
    addresses: BTreeSet<(u32, u64, u64)>,
    /// When the last of them ended at an address: type, address.
    ends: HashMap<(u32, u64), u64>,
    forgotten: bool,
}

impl Recent {
    pub(super) fn insert(&mut self, ended: Ended) {
        let unique_id = ended.buffer.unique_id;
        match self.ended.insert(unique_id, ended) {
            None => self.order.push_back(unique_id),
            Some(before) => drop(self.addresses.remove(&address(&before.buffer))),
        }
        self.ends.insert((ended.buffer.buffer_type, ended.buffer.address), ended.moment.time);
        if ended.buffer.allocated.is_some() {
            self.addresses.insert(address(&ended.buffer));
        }
        while self.order.len() > REMEMBERED {
            let oldest = self.order.pop_front().and_then(|oldest| self.ended.remove(&oldest));
            if let Some(oldest) = oldest {
                let place = (oldest.buffer.buffer_type, oldest.buffer.address);
                if self.ends.get(&place) == Some(&oldest.moment.time) {
                    self.ends.remove(&place);
                }
                self.addresses.remove(&address(&oldest.buffer));
                self.forgotten = true;
            }
        }
    }

    pub(super) fn get(&self, unique_id: u64) -> Option<&Ended> {
        self.ended.get(&unique_id)
    }

    pub(super) fn get_mut(&mut self, unique_id: u64) -> Option<&mut Ended> {
        self.ended.get_mut(&unique_id)
    }

    /// The latest of the owners that lived at an address and are older than a buffer, on whatever device.
    pub(super) fn owner_before(&self, buffer_type: u32, address: u64, unique_id: u64) -> Option<&Ended> {
        let there = (buffer_type, address, 0)..(buffer_type, address, unique_id);
        self.addresses.range(there).next_back().and_then(|(_, _, owner)| self.ended.get(owner))
    }

    /// Whether a buffer at an address ended since a time, on whatever device.
    pub(super) fn ended_since(&self, buffer_type: u32, address: u64, since: u64) -> bool {
        self.ends.get(&(buffer_type, address)).is_some_and(|&end| end >= since)
    }

    /// Whether any buffer had to be forgotten.
    pub(super) fn has_forgotten(&self) -> bool {
        self.forgotten
    }

    /// How many entries are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        [self.ended.len(), self.order.len(), self.addresses.len(), self.ends.len()].into_iter().max().unwrap_or(0)
    }
}

fn address(buffer: &Buffer) -> (u32, u64, u64) {
    (buffer.buffer_type, buffer.address, buffer.unique_id)
}
