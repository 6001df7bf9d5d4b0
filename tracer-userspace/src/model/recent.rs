// SPDX-License-Identifier: Apache-2.0
//! The memory of buffers freed lately, by which a repeat is told from a free of something unknown.

use std::{
    collections::{BTreeSet, VecDeque, hash_map::Entry},
    mem,
};

use super::{Buffer, Moment, Verdict, map::Map};

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
    /// In the order in which they ended.
    ended: VecDeque<Ended>,
    /// How many were forgotten before the first of these.
    forgotten: u64,
    /// How many ended before each: by unique id.
    places: Map<u64, u64>,
    /// When the last of them ended at an address: type, address.
    ends: Map<(u32, u64), u64>,
    /// Of those whose allocation was seen: type, address, unique id. From when they are first asked for: few targets report
    /// frees of aliases.
    addresses: Option<BTreeSet<(u32, u64, u64)>>,
}

impl Recent {
    pub(super) fn insert(&mut self, ended: Ended) {
        let Buffer { unique_id, buffer_type, address, .. } = ended.buffer;
        let before = self.get_mut(unique_id).map(|before| mem::replace(before, ended));
        if before.is_none() {
            self.places.insert(unique_id, self.forgotten + self.ended.len() as u64);
            self.ended.push_back(ended);
        }
        self.ends.insert((buffer_type, address), ended.moment.time);
        if let Some(addresses) = &mut self.addresses {
            if let Some(address) = before.and_then(|before| known_address(&before.buffer)) {
                addresses.remove(&address);
            }
            addresses.extend(known_address(&ended.buffer));
        }
        if self.ended.len() > REMEMBERED {
            self.forget();
        }
    }

    /// Forgets the one that ended first.
    fn forget(&mut self) {
        let Some(Ended { buffer, moment, .. }) = self.ended.pop_front() else { return };
        self.forgotten += 1;
        self.places.remove(&buffer.unique_id);
        if let Entry::Occupied(end) = self.ends.entry((buffer.buffer_type, buffer.address))
            && *end.get() == moment.time
        {
            end.remove();
        }
        if let (Some(addresses), Some(address)) = (&mut self.addresses, known_address(&buffer)) {
            addresses.remove(&address);
        }
    }

    pub(super) fn get(&self, unique_id: u64) -> Option<&Ended> {
        self.ended.get(self.index(unique_id)?)
    }

    pub(super) fn get_mut(&mut self, unique_id: u64) -> Option<&mut Ended> {
        let index = self.index(unique_id)?;
        self.ended.get_mut(index)
    }

    fn index(&self, unique_id: u64) -> Option<usize> {
        self.places.get(&unique_id).map(|place| (place - self.forgotten) as usize)
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
        self.ends.get(&(buffer_type, address)).is_some_and(|&end| end >= since)
    }

    /// Whether any buffer had to be forgotten.
    pub(super) fn has_forgotten(&self) -> bool {
        self.forgotten > 0
    }

    /// How many entries are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let addresses = self.addresses.as_ref().map_or(0, BTreeSet::len);
        [self.ended.len(), self.places.len(), addresses, self.ends.len()].into_iter().max().unwrap_or(0)
    }
}

/// Type, address and unique id of a buffer whose allocation was seen.
fn known_address(buffer: &Buffer) -> Option<(u32, u64, u64)> {
    buffer.allocated.map(|_| (buffer.buffer_type, buffer.address, buffer.unique_id))
}
