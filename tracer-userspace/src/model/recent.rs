// SPDX-License-Identifier: Apache-2.0
//! The memory of buffers freed lately, by which a repeat is told from a free of something unknown.

use std::collections::BTreeSet;

use foldhash::HashMap;

use super::{Buffer, Moment, Verdict};

/// For how many events of its trace a freed buffer is remembered at least; after twice as many it is forgotten. Events of
/// all processes count, so that it depends on the places of two events in their trace alone, whether the second is told of
/// the first.
pub const REMEMBERED: u64 = 1 << 17;

/// The end of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) buffer: Buffer,
    pub(super) moment: Moment,
    pub(super) verdict: Verdict,
}

/// Ended buffers of two generations, of [`REMEMBERED`] events each: the one before, and the one that is not full yet. So
/// forgetting costs nothing for each buffer.
#[derive(Debug)]
pub(super) struct Recent {
    generation: u64,
    /// Of the even one and of the odd one.
    ends: [Ends; 2],
}

/// Where an end is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) odd: bool,
    pub(super) at: usize,
}

/// The ends of one generation.
#[derive(Debug, Default)]
struct Ends {
    /// As they came; of one buffer there may be several.
    all: Vec<Ended>,
    /// When the last of all was.
    last: u64,
    /// When the last one at an address was: type, address. From when that is first asked for: mostly no buffer ends between
    /// a request and its allocation.
    by_address: Option<HashMap<(u32, u64), u64>>,
    /// Those whose allocation was seen: type, address, unique id. From when they are first asked for: few targets report
    /// frees of aliases.
    owners: Option<BTreeSet<Owner>>,
}

/// Type, address, unique id.
type Owner = (u32, u64, u64);

impl Recent {
    /// Begins in a generation, by the count of those before it.
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, ends: Default::default() }
    }

    /// Goes on in a generation, and forgets all but those of the one before.
    pub(super) fn begin(&mut self, generation: u64) {
        // The next generation is mostly as large as the one before.
        let ended = self.young().all.len();
        if generation != self.generation + 1 {
            self.ends = Default::default();
        }
        self.generation = generation;
        *self.young() = Ends { all: Vec::with_capacity(ended), ..Ends::default() };
    }

    /// Adds the end of a buffer, of which no other is remembered.
    pub(super) fn push(&mut self, ended: Ended) -> Place {
        let (odd, young) = (self.generation % 2 == 1, self.young());
        young.push(ended);
        Place { odd, at: young.all.len() - 1 }
    }

    /// What is remembered in a place; nothing if it was forgotten.
    pub(super) fn get(&self, place: Place) -> Option<&Ended> {
        self.ends[usize::from(place.odd)].all.get(place.at)
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Ended> {
        self.ends[usize::from(place.odd)].all.get_mut(place.at)
    }

    /// Forgets an end, but for its address and time.
    pub(super) fn remove(&mut self, place: Place) {
        self.ends[usize::from(place.odd)].remove(place.at);
    }

    /// The latest of the owners that lived at an address and are older than a buffer, on whatever device.
    pub(super) fn owner_before(&mut self, buffer_type: u32, address: u64, unique_id: u64) -> Option<u64> {
        let owners = self.ends.iter_mut().map(|ends| ends.owner_before(buffer_type, address, unique_id));
        owners.flatten().max()
    }

    /// Whether a buffer at an address ended since a time, on whatever device.
    pub(super) fn ended_since(&mut self, buffer_type: u32, address: u64, since: u64) -> bool {
        self.ends.iter_mut().any(|ends| ends.ended_since(buffer_type, address, since))
    }

    /// Whether there was time to forget a buffer.
    pub(super) fn has_forgotten(&self) -> bool {
        self.generation >= 2
    }

    fn young(&mut self) -> &mut Ends {
        &mut self.ends[usize::from(self.generation % 2 == 1)]
    }

    /// How many entries are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.ends.iter().map(Ends::kept).sum()
    }
}

impl Ends {
    fn push(&mut self, ended: Ended) {
        self.last = self.last.max(ended.moment.time);
        if let Some(by_address) = &mut self.by_address {
            note_end(by_address, &ended);
        }
        if let Some(owners) = &mut self.owners {
            owners.extend(ended.owner());
        }
        self.all.push(ended);
    }

    fn remove(&mut self, at: usize) {
        let Some(ended) = self.all.get_mut(at) else { return };
        if let (Some(owners), Some(owner)) = (&mut self.owners, ended.owner()) {
            owners.remove(&owner);
        }
        // So that it does not count as an owner's where those are asked for later.
        ended.buffer.allocated = None;
    }

    fn owner_before(&mut self, buffer_type: u32, address: u64, unique_id: u64) -> Option<u64> {
        let known = || self.all.iter().filter_map(Ended::owner).collect();
        let there = (buffer_type, address, 0)..(buffer_type, address, unique_id);
        self.owners.get_or_insert_with(known).range(there).next_back().map(|&(_, _, owner)| owner)
    }

    fn ended_since(&mut self, buffer_type: u32, address: u64, since: u64) -> bool {
        if self.last < since {
            return false;
        }
        let by_address = self.by_address.get_or_insert_with(|| {
            let mut by_address = HashMap::default();
            self.all.iter().for_each(|ended| note_end(&mut by_address, ended));
            by_address
        });
        by_address.get(&(buffer_type, address)).is_some_and(|&end| end >= since)
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        let by_address = self.by_address.as_ref().map_or(0, HashMap::len);
        let owners = self.owners.as_ref().map_or(0, BTreeSet::len);
        [self.all.len(), by_address, owners].into_iter().max().unwrap_or(0)
    }
}

impl Ended {
    /// Whether both are of one end of one buffer.
    pub(super) fn is_the_same_as(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.moment, it.buffer.buffer_type, it.buffer.address);
        key(self) == key(other)
    }

    /// The buffer as an owner whose allocation was seen, if it was.
    fn owner(&self) -> Option<Owner> {
        let Buffer { allocated, buffer_type, address, unique_id, .. } = self.buffer;
        allocated.map(|_| (buffer_type, address, unique_id))
    }
}

fn note_end(by_address: &mut HashMap<(u32, u64), u64>, ended: &Ended) {
    let Ended { buffer, moment, .. } = ended;
    let end = by_address.entry((buffer.buffer_type, buffer.address)).or_default();
    *end = moment.time.max(*end);
}
