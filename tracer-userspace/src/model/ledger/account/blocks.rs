// SPDX-License-Identifier: Apache-2.0
//! Blocks of memory: what the allocators gave out, and who owns what is there.
//!
//! An allocator frees by address and knows no owners; so what it gave out and whose it is are kept apart. They differ
//! after a stolen free: the owner lives on, over memory that the allocator may give to the next.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{Buffer, Device},
    trace::DeviceClass,
};

/// Most bytes of a block that are compared with others. How the pages of a buffer are spread over the banks is not
/// recorded, so only its first page is known to be at its address, and a part of that will do.
const COMPARED: u64 = 4096;

/// An address space: the memory of one type that one allocator gives out, in one generation of its device. Those of one
/// allocator are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Space {
    allocator: u64,
    device: Device,
    generation: u32,
    buffer_type: u32,
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    space: Space,
    address: u64,
    end: u64,
}

impl Place {
    /// The place of a buffer's block in a generation of its device, if that is known: a phantom has none, and an address
    /// of 0 says that the chips have addresses of their own.
    pub(super) fn of(buffer: &Buffer, generation: u32) -> Option<Self> {
        let Buffer { allocator, buffer_type, address, .. } = *buffer;
        if buffer.phantom || address == 0 {
            return None;
        }
        let space = Space { allocator, device: buffer.device?, generation, buffer_type };
        let bytes = buffer.page_size.min(buffer.size).clamp(1, COMPARED);
        Some(Self { space, address, end: address.saturating_add(bytes) })
    }
}

/// The blocks of one process.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// What the allocators gave out and did not get back: who got it.
    given: BTreeMap<(Space, u64), u64>,
    /// Live owners: space, address, end, unique id.
    owners: BTreeSet<(Space, u64, u64, u64)>,
    /// Live owners, whatever their device: type, address, unique id.
    addresses: BTreeSet<(u32, u64, u64)>,
    /// When the last owner left an address at which others live: type, address.
    left: BTreeMap<(u32, u64), u64>,
}

impl Blocks {
    /// An owner that has bytes of a place.
    pub(super) fn owner_in(&self, place: Place) -> Option<u64> {
        let Place { space, address, end } = place;
        let first = (space, address.saturating_sub(COMPARED), 0, 0);
        let mut before = (space, end, 0, 0);
        // Of those that begin at one address, the longest comes last; so this looks at each address once.
        while let Some(&(_, start, its_end, unique_id)) = self.owners.range(first..before).next_back() {
            if its_end > address {
                return Some(unique_id);
            }
            before = (space, start, 0, 0);
        }
        None
    }

    /// An allocator gave a block to an owner.
    pub(super) fn give(&mut self, place: Place, unique_id: u64) {
        self.given.insert((place.space, place.address), unique_id);
        self.own(place, unique_id);
    }

    /// The same, before anything that is known: whoever got the block since has it.
    pub(super) fn give_before(&mut self, place: Place, unique_id: u64) {
        self.given.entry((place.space, place.address)).or_insert(unique_id);
        self.own(place, unique_id);
    }

    fn own(&mut self, place: Place, unique_id: u64) {
        let Place { space, address, end } = place;
        self.owners.insert((space, address, end, unique_id));
        self.addresses.insert((space.buffer_type, address, unique_id));
    }

    /// An allocator is told to take back what is at an address: whose it was.
    pub(super) fn take_back(&mut self, place: Place) -> Option<u64> {
        self.given.remove(&(place.space, place.address))
    }

    /// An allocator took everything back.
    pub(super) fn take_all_back(&mut self, allocator: u64) {
        let device = Device { class: DeviceClass::Unknown, id: 0 };
        let first = Space { allocator, device, generation: 0, buffer_type: 0 };
        let its = self.given.range((first, 0)..).take_while(|((space, _), _)| space.allocator == allocator);
        for key in its.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.given.remove(&key);
        }
    }

    /// An owner is no more, or about to be.
    pub(super) fn leave(&mut self, place: Place, unique_id: u64, time: u64) {
        let Place { space, address, end } = place;
        let there = (space.buffer_type, address);
        self.owners.remove(&(space, address, end, unique_id));
        self.addresses.remove(&(there.0, there.1, unique_id));
        self.left.remove(&there);
        self.note_left(there.0, there.1, time);
    }

    /// An owner at an address is no more, whether it was seen before or not.
    pub(super) fn note_left(&mut self, buffer_type: u32, address: u64, time: u64) {
        let there = (buffer_type, address, 0)..=(buffer_type, address, u64::MAX);
        if self.addresses.range(there).next().is_some() {
            self.left.insert((buffer_type, address), time);
        }
    }

    /// Whether an owner at an address left others there, on whatever device, since a time.
    pub(super) fn owner_left(&self, buffer_type: u32, address: u64, since: u64) -> bool {
        self.left.get(&(buffer_type, address)).is_some_and(|&time| time >= since)
    }

    /// The block of an owner went without its allocator being told.
    pub(super) fn forget(&mut self, place: Place, unique_id: u64) {
        let key = (place.space, place.address);
        if self.given.get(&key) == Some(&unique_id) {
            self.given.remove(&key);
        }
    }

    /// The latest of the live owners at an address that are older than a buffer, on whatever device.
    pub(super) fn owner_before(&self, buffer_type: u32, address: u64, unique_id: u64) -> Option<u64> {
        let there = (buffer_type, address, 0)..(buffer_type, address, unique_id);
        self.addresses.range(there).next_back().map(|(_, _, owner)| *owner)
    }

    /// How many blocks and owners are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> [usize; 4] {
        [self.given.len(), self.owners.len(), self.addresses.len(), self.left.len()]
    }
}
