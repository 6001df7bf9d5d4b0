// SPDX-License-Identifier: Apache-2.0
//! The memory of buffers freed lately, by which a repeat is told from a free of something unknown.

use std::{collections::BTreeSet, mem};

use foldhash::HashMap;
use serde::{Deserialize, Serialize, Serializer};

use super::{Buffer, Moment, Verdict, ends::Columns, ids::Ids};

/// For how many events of its trace a freed buffer is remembered at least; after twice as many it is forgotten. Events of
/// all processes count, so that it depends on the places of two events in their trace alone, whether the second is told of
/// the first.
pub const REMEMBERED: u64 = 1 << 17;

/// The end of a buffer.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Ended {
    pub(super) buffer: Buffer,
    pub(super) moment: Moment,
    pub(super) verdict: Verdict,
    /// Whether it had been freed before, and leaked.
    pub(super) leaked: bool,
}

/// Ended buffers by their unique id, of two generations: of the last [`REMEMBERED`] events that are full, and since then.
/// So forgetting costs nothing for each buffer.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Recent {
    generation: u64,
    young: Ends,
    old: Ends,
}

/// The ends of one generation.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Columns")]
struct Ends {
    /// As they came; of one buffer there may be several.
    all: Vec<Ended>,
    /// Where the last one of each buffer is.
    by_id: Ids,
    /// When the last of all was.
    last: u64,
    /// When the last one at an address was: type, address. From when that is first asked for: mostly no buffer ends between
    /// a request and its allocation.
    by_address: Option<HashMap<(u32, u64), u64>>,
    /// Those in `by_id` whose allocation was seen: type, address, unique id. From when they are first asked for: few
    /// targets report frees of aliases.
    owners: Option<BTreeSet<Owner>>,
}

/// Type, address, unique id.
type Owner = (u32, u64, u64);

impl Recent {
    /// Begins in a generation, by the count of those before it.
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, young: Ends::default(), old: Ends::default() }
    }

    /// Goes on in a generation, and forgets all but those of the one before.
    pub(super) fn begin(&mut self, generation: u64) {
        let young = mem::take(&mut self.young);
        self.old = if self.generation.checked_add(1) == Some(generation) { young } else { Ends::default() };
        self.generation = generation;
    }

    /// Adds the end of a buffer; it replaces one that is there already.
    pub(super) fn insert(&mut self, ended: Ended) {
        let unique_id = ended.buffer.unique_id;
        match self.get_mut(unique_id) {
            // Of which more is known by now. At its address, another buffer's may have come since.
            Some(known) if known.is_the_same_as(&ended) => *known = ended,
            Some(_) => {
                self.remove(unique_id);
                self.young.push(ended);
            }
            None => self.young.push(ended),
        }
    }

    /// Takes a buffer's end back.
    pub(super) fn remove(&mut self, unique_id: u64) {
        self.young.remove(unique_id);
        self.old.remove(unique_id);
    }

    pub(super) fn get(&self, unique_id: u64) -> Option<&Ended> {
        self.young.get(unique_id).or_else(|| self.old.get(unique_id))
    }

    pub(super) fn get_mut(&mut self, unique_id: u64) -> Option<&mut Ended> {
        match self.young.by_id.get(unique_id) {
            Some(at) => Some(&mut self.young.all[at]),
            None => self.old.by_id.get(unique_id).map(|at| &mut self.old.all[at]),
        }
    }

    /// The latest of the owners that lived at an address and are older than a buffer, on whatever device.
    pub(super) fn owner_before(&mut self, buffer_type: u32, address: u64, unique_id: u64) -> Option<&Ended> {
        let generations = [&mut self.young, &mut self.old];
        let owners = generations.map(|ends| ends.owner_before(buffer_type, address, unique_id));
        self.get(owners.into_iter().flatten().max()?)
    }

    /// Whether a buffer at an address ended since a time, on whatever device.
    pub(super) fn ended_since(&mut self, buffer_type: u32, address: u64, since: u64) -> bool {
        [&mut self.young, &mut self.old].into_iter().any(|ends| ends.ended_since(buffer_type, address, since))
    }

    /// Whether there was time to forget a buffer.
    pub(super) fn has_forgotten(&self) -> bool {
        self.generation >= 2
    }

    /// How many ends are kept.
    pub(super) fn len(&self) -> usize {
        self.young.all.len() + self.old.all.len()
    }

    /// The same with what is kept to find them.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.young.kept() + self.old.kept()
    }
}

impl TryFrom<Columns> for Ends {
    type Error = &'static str;

    fn try_from(columns: Columns) -> Result<Self, Self::Error> {
        let mut ends = Self::default();
        let all = columns.ends().ok_or("ends of buffers are malformed")?;
        for (at, (ended, is_last)) in all.into_iter().enumerate() {
            if is_last {
                ends.by_id.insert(ended.buffer.unique_id, at);
            }
            ends.last = ends.last.max(ended.moment.time);
            ends.all.push(ended);
        }
        Ok(ends)
    }
}

impl Serialize for Ends {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Columns::of(self.all.iter().enumerate().map(|(at, ended)| (*ended, self.is_last(at)))).serialize(serializer)
    }
}

impl Ends {
    fn get(&self, unique_id: u64) -> Option<&Ended> {
        self.by_id.get(unique_id).map(|at| &self.all[at])
    }

    fn push(&mut self, ended: Ended) {
        self.by_id.insert(ended.buffer.unique_id, self.all.len());
        self.last = self.last.max(ended.moment.time);
        if let Some(by_address) = &mut self.by_address {
            note_end(by_address, &ended);
        }
        if let Some(owners) = &mut self.owners {
            owners.extend(ended.owner());
        }
        self.all.push(ended);
    }

    /// Forgets which was the end of a buffer, if it is here.
    fn remove(&mut self, unique_id: u64) {
        if let Some(at) = self.by_id.remove(unique_id)
            && let (Some(owners), Some(owner)) = (&mut self.owners, self.all[at].owner())
        {
            owners.remove(&owner);
        }
    }

    /// Whether an end is the last one of its buffer.
    fn is_last(&self, at: usize) -> bool {
        self.by_id.get(self.all[at].buffer.unique_id) == Some(at)
    }

    fn owner_before(&mut self, buffer_type: u32, address: u64, unique_id: u64) -> Option<u64> {
        if self.owners.is_none() {
            let last = self.all.iter().enumerate().filter(|(at, _)| self.is_last(*at));
            self.owners = Some(last.filter_map(|(_, ended)| ended.owner()).collect());
        }
        let owners = self.owners.as_ref()?;
        let there = (buffer_type, address, 0)..(buffer_type, address, unique_id);
        owners.range(there).next_back().map(|&(_, _, owner)| owner)
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
        [self.all.len(), self.by_id.len(), by_address, owners].into_iter().max().unwrap_or(0)
    }
}

impl Ended {
    /// Whether both are of one end of one buffer.
    fn is_the_same_as(&self, other: &Self) -> bool {
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
