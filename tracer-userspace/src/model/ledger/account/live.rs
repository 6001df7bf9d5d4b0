// SPDX-License-Identifier: Apache-2.0
//! The live owners of one process.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Buffer, Moment};

/// A live owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) buffer: Buffer,
    /// When it was asked for: buffers with a greater unique id were made later. 0 if that was not seen.
    pub(super) requested: u64,
    /// The free of another buffer that released its block.
    pub(super) robbed: Option<Moment>,
}

/// Live owners, by their unique ids.
#[derive(Debug, Default)]
pub(super) struct Owners {
    all: BTreeMap<u64, Live>,
    /// Allocator and unique id: a bulk release of one allocator must not cost what all others hold.
    by_allocator: BTreeSet<(u64, u64)>,
}

impl Owners {
    pub(super) fn contains(&self, unique_id: u64) -> bool {
        self.all.contains_key(&unique_id)
    }

    pub(super) fn get(&self, unique_id: u64) -> Option<&Live> {
        self.all.get(&unique_id)
    }

    /// Notes that the free of another buffer released the block of an owner.
    pub(super) fn rob(&mut self, unique_id: u64, moment: Moment) {
        if let Some(live) = self.all.get_mut(&unique_id) {
            live.robbed = Some(moment);
        }
    }

    /// The unique ids of those that have their memory of an allocator, in their order.
    pub(super) fn of(&self, allocator: u64) -> Vec<u64> {
        self.by_allocator.range((allocator, 0)..=(allocator, u64::MAX)).map(|&(_, unique_id)| unique_id).collect()
    }

    pub(super) fn insert(&mut self, live: Live) {
        let unique_id = live.buffer.unique_id;
        self.remove(unique_id);
        self.by_allocator.insert((live.buffer.allocator, unique_id));
        self.all.insert(unique_id, live);
    }

    pub(super) fn remove(&mut self, unique_id: u64) -> Option<Live> {
        let live = self.all.remove(&unique_id)?;
        self.by_allocator.remove(&(live.buffer.allocator, unique_id));
        Some(live)
    }

    /// All of them, in the order of their unique ids.
    pub(super) fn into_all(self) -> impl Iterator<Item = Live> {
        self.all.into_values()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.all.len(), self.by_allocator.len());
        self.all.len()
    }
}
