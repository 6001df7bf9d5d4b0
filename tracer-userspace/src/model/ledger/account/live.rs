// SPDX-License-Identifier: Apache-2.0
//! The live owners of one process.

use foldhash::HashMap;
use serde::{Deserialize, Serialize, Serializer};
use slab::Slab;

use crate::model::{Buffer, Moment, Previous, Verdict, ids::Ids};

/// A live owner.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Live {
    pub(super) buffer: Buffer,
    /// When it was asked for: buffers with a greater unique id were made later. 0 if that was not seen.
    pub(super) requested: u64,
    /// The free of another buffer that released its block, or its own that leaked it. Few have one.
    pub(super) freed: Option<Box<(Moment, Verdict)>>,
}

impl Live {
    /// The free before whatever happens to it now.
    pub(super) fn previous(&self) -> Previous {
        self.freed.as_ref().map_or(Previous::None, |freed| Previous::Free(freed.0, freed.1))
    }

    /// Whether it was freed, and its allocator kept the memory.
    pub(super) fn is_leaked(&self) -> bool {
        matches!(self.previous(), Previous::Free(_, Verdict::Leaked))
    }
}

/// Live owners, by their unique ids.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Vec<Live>")]
pub(super) struct Owners {
    all: Slab<Live>,
    by_id: Ids,
    /// Where those are that have their memory of an allocator: a bulk release of one must not cost what all others hold.
    by_allocator: HashMap<u64, Vec<usize>>,
    /// The place of each among those of its allocator.
    places: Vec<usize>,
}

impl From<Vec<Live>> for Owners {
    fn from(all: Vec<Live>) -> Self {
        let mut owners = Self::default();
        all.into_iter().for_each(|live| owners.insert(live));
        owners
    }
}

impl Serialize for Owners {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all: Vec<&Live> = self.all.iter().map(|(_, live)| live).collect();
        all.sort_unstable_by_key(|live| live.buffer.unique_id);
        all.serialize(serializer)
    }
}

impl Owners {
    pub(super) fn contains(&self, unique_id: u64) -> bool {
        self.by_id.get(unique_id).is_some()
    }

    pub(super) fn get(&self, unique_id: u64) -> Option<&Live> {
        self.by_id.get(unique_id).map(|owner| &self.all[owner])
    }

    /// Notes that the free of another buffer released the block of an owner.
    pub(super) fn rob(&mut self, unique_id: u64, moment: Moment) {
        if let Some(owner) = self.by_id.get(unique_id) {
            self.all[owner].freed = Some(Box::new((moment, Verdict::StolenFree)));
        }
    }

    /// The unique ids of those that have their memory of an allocator, in their order.
    pub(super) fn of(&self, allocator: u64) -> Vec<u64> {
        let owners = self.by_allocator.get(&allocator).into_iter().flatten();
        let mut unique_ids: Vec<u64> = owners.map(|&owner| self.all[owner].buffer.unique_id).collect();
        unique_ids.sort_unstable();
        unique_ids
    }

    /// Adds an owner, in place of one that has its unique id.
    pub(super) fn insert(&mut self, live: Live) {
        let Buffer { unique_id, allocator, .. } = live.buffer;
        let others = self.by_allocator.entry(allocator).or_default();
        let owner = self.all.insert(live);
        if self.places.len() <= owner {
            self.places.resize(owner + 1, 0);
        }
        self.places[owner] = others.len();
        others.push(owner);
        if let Some(before) = self.by_id.insert(unique_id, owner) {
            self.take(before);
        }
    }

    pub(super) fn remove(&mut self, unique_id: u64) -> Option<Live> {
        let owner = self.by_id.remove(unique_id)?;
        Some(self.take(owner))
    }

    /// Takes an owner out of all but `by_id`.
    fn take(&mut self, owner: usize) -> Live {
        let live = self.all.remove(owner);
        let (allocator, at) = (live.buffer.allocator, self.places[owner]);
        if let Some(others) = self.by_allocator.get_mut(&allocator) {
            others.swap_remove(at);
            match others.get(at) {
                Some(&moved) => self.places[moved] = at,
                None if others.is_empty() => drop(self.by_allocator.remove(&allocator)),
                None => {}
            }
        }
        live
    }

    /// All of them, in the order of their unique ids.
    pub(super) fn into_all(self) -> impl Iterator<Item = Live> {
        let mut all: Vec<Live> = self.all.into_iter().map(|(_, live)| live).collect();
        all.sort_unstable_by_key(|live| live.buffer.unique_id);
        all.into_iter()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The same, where all that is kept of them must agree.
    #[cfg(test)]
    pub(super) fn checked_len(&self) -> usize {
        let of_allocators: usize = self.by_allocator.values().map(Vec::len).sum();
        assert_eq!((self.all.len(), self.all.len()), (self.by_id.len(), of_allocators));
        self.all.len()
    }
}
