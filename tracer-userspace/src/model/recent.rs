// SPDX-License-Identifier: Apache-2.0
//! The memory of buffers freed lately, by which a repeat is told from a free of something unknown.

use std::collections::{BTreeSet, hash_map::Entry};

use foldhash::HashMap;

use super::{Buffer, Moment, Verdict, ids::Ids};

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
    /// In the order in which they ended, from `first` on and then from the start.
    ended: Vec<Ended>,
    /// The one that ended first, when there are as many as are remembered.
    first: usize,
    /// Where they are.
    by_id: Ids,
    /// When the last of them ended at an address: type, address.
    ends: HashMap<(u32, u64), u64>,
    /// When the last of all ended.
    last_end: u64,
    /// Of those whose allocation was seen: type, address, unique id. From when they are first asked for: few targets report
    /// frees of aliases.
    addresses: Option<BTreeSet<(u32, u64, u64)>>,
    forgotten: bool,
}

impl Recent {
    /// Adds a buffer. Of one that is there already the end changes, but not its place in their order.
    pub(super) fn insert(&mut self, ended: Ended) {
        let Buffer { unique_id, buffer_type, address, .. } = ended.buffer;
        if let Some(at) = self.by_id.get(unique_id) {
            let Ended { buffer: before, moment, .. } = self.ended[at];
            if (moment, before.buffer_type, before.address) == (ended.moment, buffer_type, address) {
                // The same end, of which more is known. At its address, another buffer's may have come since.
                self.ended[at] = ended;
                return;
            }
            self.remove_address(at);
            self.ended[at] = ended;
        } else if self.ended.len() < REMEMBERED {
            self.by_id.insert(unique_id, self.ended.len());
            self.ended.push(ended);
        } else {
            self.forget(self.first);
            self.by_id.insert(unique_id, self.first);
            self.ended[self.first] = ended;
            self.first = (self.first + 1) % REMEMBERED;
        }
        self.ends.insert((buffer_type, address), ended.moment.time);
        self.last_end = self.last_end.max(ended.moment.time);
        if let Some(addresses) = &mut self.addresses {
            addresses.extend(known_address(&ended.buffer));
        }
    }

    fn forget(&mut self, at: usize) {
        let Ended { buffer, moment, .. } = &self.ended[at];
        self.by_id.remove(buffer.unique_id);
        if let Entry::Occupied(end) = self.ends.entry((buffer.buffer_type, buffer.address))
            && *end.get() == moment.time
        {
            end.remove();
        }
        self.remove_address(at);
        self.forgotten = true;
    }

    fn remove_address(&mut self, at: usize) {
        if let Some(addresses) = &mut self.addresses
            && let Some(address) = known_address(&self.ended[at].buffer)
        {
            addresses.remove(&address);
        }
    }

    pub(super) fn get(&self, unique_id: u64) -> Option<&Ended> {
        self.by_id.get(unique_id).map(|at| &self.ended[at])
    }

    pub(super) fn get_mut(&mut self, unique_id: u64) -> Option<&mut Ended> {
        self.by_id.get(unique_id).map(|at| &mut self.ended[at])
    }

    /// The latest of the owners that lived at an address and are older than a buffer, on whatever device.
    pub(super) fn owner_before(&mut self, buffer_type: u32, address: u64, unique_id: u64) -> Option<&Ended> {
        let known = || self.ended.iter().filter_map(|ended| known_address(&ended.buffer)).collect();
        let addresses = self.addresses.get_or_insert_with(known);
        let there = (buffer_type, address, 0)..(buffer_type, address, unique_id);
        let &(_, _, owner) = addresses.range(there).next_back()?;
        self.get(owner)
    }

    /// Whether a buffer at an address ended since a time, on whatever device.
    pub(super) fn ended_since(&self, buffer_type: u32, address: u64, since: u64) -> bool {
        since <= self.last_end && self.ends.get(&(buffer_type, address)).is_some_and(|&end| end >= since)
    }

    /// Whether any buffer had to be forgotten.
    pub(super) fn has_forgotten(&self) -> bool {
        self.forgotten
    }

    /// How many entries are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let addresses = self.addresses.as_ref().map_or(0, BTreeSet::len);
        [self.ended.len(), self.by_id.len(), addresses, self.ends.len()].into_iter().max().unwrap_or(0)
    }
}

/// Type, address and unique id of a buffer whose allocation was seen.
fn known_address(buffer: &Buffer) -> Option<(u32, u64, u64)> {
    buffer.allocated.map(|_| (buffer.buffer_type, buffer.address, buffer.unique_id))
}
