// SPDX-License-Identifier: Apache-2.0
//! Blocks of memory: what the allocators gave out, and who owns what is there.
//!
//! An allocator frees by address and knows no owners; so what it gave out and whose it is are kept apart. They differ
//! after a stolen free: the owner lives on, over memory that the allocator may give to the next.

use std::{
    collections::{BTreeMap, hash_map::Entry},
    ops::RangeInclusive,
};

use foldhash::HashMap;

use crate::{
    model::{Buffer, Device, few::Few},
    trace::DeviceClass,
};

/// Most bytes of a block that are compared with others. How the pages of a buffer are spread over the banks is not
/// recorded, so only its first page is known to be at its address, and a part of that will do.
const COMPARED: u64 = 4096;

/// What is no nearer than this to a buffer's address has nothing to do with it.
pub(in crate::model) const REACH: u64 = COMPARED;

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
    /// The pages that it has bytes of, of [`COMPARED`] bytes: one or two.
    fn pages(self) -> RangeInclusive<u64> {
        self.address / COMPARED..=self.address.max(self.end - 1) / COMPARED
    }
}

/// The blocks of one process.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Spaces in which there are some.
    spaces: BTreeMap<Space, Memory>,
    /// Live owners by type and address, whatever their device.
    addresses: HashMap<(u32, u64), Address>,
}

/// What there is in an address space.
#[derive(Debug, Default)]
struct Memory {
    /// What the allocator gave out and did not get back: who got it, by address.
    given: HashMap<u64, u64>,
    /// Live owners by the pages that they have bytes of: address, end, unique id.
    pages: HashMap<u64, Few<(u64, u64, u64)>>,
}

/// Who lives at an address.
#[derive(Debug, Default)]
struct Address {
    /// Unique ids.
    owners: Few<u64>,
    /// When the last owner left the others.
    left: Option<u64>,
}

impl Blocks {
    /// An owner that has bytes of a place: of several the one with the highest address, and of those the longest.
    pub(super) fn owner_in(&self, place: Place) -> Option<u64> {
        let memory = self.spaces.get(&place.space)?;
        let in_pages = place.pages().filter_map(|page| memory.pages.get(&page)?.owner_in(place));
        in_pages.max().map(|(_, _, unique_id)| unique_id)
    }

    /// An allocator gave a block to an owner.
    pub(super) fn give(&mut self, place: Place, unique_id: u64) {
        self.own(place, unique_id).insert(place.address, unique_id);
    }

    /// The same, before anything that is known: whoever got the block since has it.
    pub(super) fn give_before(&mut self, place: Place, unique_id: u64) {
        self.own(place, unique_id).entry(place.address).or_insert(unique_id);
    }

    /// Adds an owner, and returns what its allocator gave out.
    fn own(&mut self, place: Place, unique_id: u64) -> &mut HashMap<u64, u64> {
        let Place { space, address, end } = place;
        self.addresses.entry((space.buffer_type, address)).or_default().owners.insert(unique_id);
        let memory = self.spaces.entry(space).or_default();
        for page in place.pages() {
            memory.pages.entry(page).or_default().insert((address, end, unique_id));
        }
        &mut memory.given
    }

    /// An allocator is told to take back what is at an address: whose it was.
    pub(super) fn take_back(&mut self, place: Place) -> Option<u64> {
        let memory = self.spaces.get_mut(&place.space)?;
        let owner = memory.given.remove(&place.address);
        if memory.is_empty() {
            self.spaces.remove(&place.space);
        }
        owner
    }

    /// An allocator took everything back.
    pub(super) fn take_all_back(&mut self, allocator: u64) {
        let device = Device { class: DeviceClass::Unknown, id: 0 };
        let first = Space { allocator, device, generation: 0, buffer_type: 0 };
        for (_, memory) in self.spaces.range_mut(first..).take_while(|(space, _)| space.allocator == allocator) {
            memory.given = HashMap::default();
        }
    }

    /// An owner is no more, or about to be.
    pub(super) fn leave(&mut self, place: Place, unique_id: u64, time: u64) {
        let Place { space, address, end } = place;
        if let Some(memory) = self.spaces.get_mut(&space) {
            for page in place.pages() {
                if let Entry::Occupied(mut owners) = memory.pages.entry(page) {
                    owners.get_mut().remove((address, end, unique_id));
                    if owners.get().is_empty() {
                        owners.remove();
                    }
                }
            }
            if memory.is_empty() {
                self.spaces.remove(&space);
            }
        }
        if let Entry::Occupied(mut there) = self.addresses.entry((space.buffer_type, address)) {
            there.get_mut().owners.remove(unique_id);
            there.get_mut().left = Some(time);
            if there.get().owners.is_empty() {
                there.remove();
            }
        }
    }

    /// An owner at an address is no more, whether it was seen before or not.
    pub(super) fn note_left(&mut self, buffer_type: u32, address: u64, time: u64) {
        if let Some(there) = self.addresses.get_mut(&(buffer_type, address)) {
            there.left = Some(time);
        }
    }

    /// Whether an owner at an address left others there, on whatever device, since a time.
    pub(super) fn owner_left(&self, buffer_type: u32, address: u64, since: u64) -> bool {
        self.addresses.get(&(buffer_type, address)).and_then(|there| there.left).is_some_and(|time| time >= since)
    }

    /// The block of an owner went without its allocator being told.
    pub(super) fn forget(&mut self, place: Place, unique_id: u64) {
        let owner = self.spaces.get(&place.space).and_then(|memory| memory.given.get(&place.address));
        if owner == Some(&unique_id) {
            self.take_back(place);
        }
    }

    /// The latest of the live owners at an address that are older than a buffer, on whatever device.
    pub(super) fn owner_before(&self, buffer_type: u32, address: u64, unique_id: u64) -> Option<u64> {
        self.addresses.get(&(buffer_type, address))?.owners.below(unique_id)
    }

    /// How many blocks and owners are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> [usize; 4] {
        let given = self.spaces.values().map(|memory| memory.given.len()).sum();
        // Each is in one or two pages.
        let owners = self.spaces.values().flat_map(|memory| memory.pages.values()).map(Few::len).sum();
        let addresses = self.addresses.values().map(|there| there.owners.len()).sum();
        let left = self.addresses.values().filter(|there| there.left.is_some()).count();
        [given, owners, addresses, left]
    }
}

impl Memory {
    fn is_empty(&self) -> bool {
        self.given.is_empty() && self.pages.is_empty()
    }
}

impl Few<(u64, u64, u64)> {
    /// The one that has bytes of a place; see [`Blocks::owner_in`].
    fn owner_in(&self, place: Place) -> Option<(u64, u64, u64)> {
        let mut before = (place.end, 0, 0);
        // Of those that begin at one address, the longest comes last; so this looks at each address once.
        while let Some(owner @ (start, end, _)) = self.below(before) {
            if end > place.address {
                return Some(owner);
            }
            before = (start, 0, 0);
        }
        None
    }
}
