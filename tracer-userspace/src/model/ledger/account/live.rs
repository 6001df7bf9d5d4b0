// SPDX-License-Identifier: Apache-2.0
//! The live owners of one process.

use foldhash::HashMap;
use slab::Slab;

use crate::model::{Buffer, Moment};

/// A live owner.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) buffer: Buffer,
    /// When it was asked for: buffers with a greater unique id were made later. 0 if that was not seen.
    pub(super) requested: u64,
    /// The free of another buffer that released its block. Few have one.
    pub(super) robbed: Option<Box<Moment>>,
}

/// Live owners, by a number that each has while it lives.
#[derive(Debug, Default)]
pub(super) struct Owners {
    all: Slab<Live>,
    /// Where those are that have their memory of an allocator: a bulk release of one must not cost what all others hold.
    by_allocator: HashMap<u64, Vec<usize>>,
    /// The place of each among those of its allocator.
    places: Vec<usize>,
}

impl Owners {
    pub(super) fn get(&self, owner: usize) -> &Live {
        &self.all[owner]
    }

    /// Notes that the free of another buffer released the block of an owner.
    pub(super) fn rob(&mut self, owner: usize, moment: Moment) {
        self.all[owner].robbed = Some(Box::new(moment));
    }

    /// The unique ids of those that have their memory of an allocator, in their order.
    pub(super) fn of(&self, allocator: u64) -> Vec<u64> {
        let owners = self.by_allocator.get(&allocator).into_iter().flatten();
        let mut unique_ids: Vec<u64> = owners.map(|&owner| self.all[owner].buffer.unique_id).collect();
        unique_ids.sort_unstable();
        unique_ids
    }

    /// Adds an owner, and returns its number.
    pub(super) fn insert(&mut self, live: Live) -> usize {
        let others = self.by_allocator.entry(live.buffer.allocator).or_default();
        let owner = self.all.insert(live);
        if self.places.len() <= owner {
            self.places.resize(owner + 1, 0);
        }
        self.places[owner] = others.len();
        others.push(owner);
        owner
    }

    pub(super) fn remove(&mut self, owner: usize) -> Live {
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

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let of_allocators: usize = self.by_allocator.values().map(Vec::len).sum();
        assert_eq!(self.all.len(), of_allocators);
        self.all.len()
    }
}
