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
use serde::{Deserialize, Serialize};

use crate::model::{Buffer, Device, few::Few};

/// Most bytes of a block that are compared with others. How the pages of a buffer are spread over the banks is not
/// recorded, so only its first page is known to be at its address, and a part of that will do.
const COMPARED: u64 = 4096;

/// What is no nearer than this to a buffer's address has nothing to do with it.
pub(in crate::model) const REACH: u64 = COMPARED;

/// An address space: the memory of one type that one allocator gives out, in one generation of its device. Those of one
/// allocator are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
struct Space {
    allocator: u64,
    /// Class and id of the device, its generation, type of memory: one number, as it is compared with every event.
    memory: u128,
}

impl Space {
    fn of(allocator: u64, device: Device, generation: u32, buffer_type: u32) -> Self {
        let parts = [device.class as u32, device.id, generation, buffer_type];
        Self { allocator, memory: parts.into_iter().fold(0, |all, part| all << 32 | u128::from(part)) }
    }
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    space: Space,
    buffer_type: u32,
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
        let space = Space::of(allocator, buffer.device?, generation, buffer_type);
        let bytes = buffer.page_size.min(buffer.size).clamp(1, COMPARED);
        Some(Self { space, buffer_type, address, end: address.saturating_add(bytes) })
    }

    /// The page that it begins in.
    fn page(self) -> u64 {
        self.address / COMPARED
    }

    /// The pages that it has bytes of, of [`COMPARED`] bytes: one or two.
    fn pages(self) -> RangeInclusive<u64> {
        self.page()..=self.address.max(self.end - 1) / COMPARED
    }
}

/// The blocks of one process.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Blocks {
    /// Spaces in which there are some.
    spaces: BTreeMap<Space, Memory>,
    /// Live owners by type and address, whatever their device.
    addresses: HashMap<(u32, u64), Address>,
}

/// What there is in an address space, by pages.
type Memory = HashMap<u64, Page>;

/// What there is in a page of an address space.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Page {
    /// What the allocator gave out here and did not get back: who got it, by address.
    given: Few<u64, u64>,
    /// Live owners that have bytes of it: address, end, unique id.
    owners: Few<(u64, u64, u64)>,
}

/// Who lives at an address.
#[derive(Debug, Default, Deserialize, Serialize)]
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
        let in_pages = place.pages().filter_map(|page| memory.get(&page)?.owner_in(place));
        in_pages.max().map(|(_, _, unique_id)| unique_id)
    }

    /// An allocator gave a block to an owner.
    pub(super) fn give(&mut self, place: Place, unique_id: u64) {
        self.own(place, unique_id).insert(place.address, unique_id);
    }

    /// The same, before anything that is known: whoever got the block since has it.
    pub(super) fn give_before(&mut self, place: Place, unique_id: u64) {
        let given = self.own(place, unique_id);
        if given.get(place.address).is_none() {
            given.insert(place.address, unique_id);
        }
    }

    /// Whether a block is given to an owner, as far as its allocator has told.
    pub(super) fn is_given(&self, place: Place, unique_id: u64) -> bool {
        let page = self.spaces.get(&place.space).and_then(|memory| memory.get(&place.page()));
        page.is_some_and(|page| page.given.get(place.address) == Some(unique_id))
    }

    /// Adds an owner, and returns what its allocator gave out in the page.
    fn own(&mut self, place: Place, unique_id: u64) -> &mut Few<u64, u64> {
        let Place { space, buffer_type, address, end } = place;
        self.addresses.entry((buffer_type, address)).or_default().owners.insert(unique_id, ());
        let memory = self.spaces.entry(space).or_default();
        // That in which it begins comes last.
        for page in place.pages().skip(1) {
            memory.entry(page).or_default().owners.insert((address, end, unique_id), ());
        }
        let page = memory.entry(place.page()).or_default();
        page.owners.insert((address, end, unique_id), ());
        &mut page.given
    }

    /// An allocator is told to take back what is at an address: whose it was.
    pub(super) fn take_back(&mut self, place: Place) -> Option<u64> {
        self.change(place, place.page(), |page| page.given.remove(place.address))?
    }

    /// An allocator took everything back.
    pub(super) fn take_all_back(&mut self, allocator: u64) {
        let first = Space { allocator, memory: 0 };
        for (_, memory) in self.spaces.range_mut(first..).take_while(|(space, _)| space.allocator == allocator) {
            memory.retain(|_, page| {
                page.given = Few::default();
                !page.is_empty()
            });
        }
    }

    /// An owner is no more, or about to be.
    pub(super) fn leave(&mut self, place: Place, unique_id: u64, time: u64) {
        let Place { buffer_type, address, end, .. } = place;
        for page in place.pages() {
            self.change(place, page, |page| page.owners.remove((address, end, unique_id)));
        }
        if let Entry::Occupied(mut there) = self.addresses.entry((buffer_type, address)) {
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
        self.change(place, place.page(), |page| {
            if page.given.get(place.address) == Some(unique_id) {
                page.given.remove(place.address);
            }
        });
    }

    /// Changes a page of a place's space, of which nothing stays that is empty then.
    fn change<T>(&mut self, place: Place, page: u64, change: impl FnOnce(&mut Page) -> T) -> Option<T> {
        let memory = self.spaces.get_mut(&place.space)?;
        let Entry::Occupied(mut page) = memory.entry(page) else { return None };
        let changed = change(page.get_mut());
        if page.get().is_empty() {
            page.remove();
            if memory.is_empty() {
                self.spaces.remove(&place.space);
            }
        }
        Some(changed)
    }

    /// The latest of the live owners at an address that are older than a buffer, on whatever device.
    pub(super) fn owner_before(&self, buffer_type: u32, address: u64, unique_id: u64) -> Option<u64> {
        self.addresses.get(&(buffer_type, address))?.owners.below(unique_id)
    }

    /// How many blocks and owners are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> [usize; 4] {
        let pages = || self.spaces.values().flat_map(HashMap::values);
        let given = pages().map(|page| page.given.len()).sum();
        // Each is in one or two pages.
        let owners = pages().map(|page| page.owners.len()).sum();
        let addresses = self.addresses.values().map(|there| there.owners.len()).sum();
        let left = self.addresses.values().filter(|there| there.left.is_some()).count();
        [given, owners, addresses, left]
    }
}

impl Page {
    fn is_empty(&self) -> bool {
        self.given.is_empty() && self.owners.is_empty()
    }

    /// The owner that has bytes of a place; see [`Blocks::owner_in`].
    fn owner_in(&self, place: Place) -> Option<(u64, u64, u64)> {
        let mut before = (place.end, 0, 0);
        // Of those that begin at one address, the longest comes last; so this looks at each address once.
        while let Some(owner @ (start, end, _)) = self.owners.below(before) {
            if end > place.address {
                return Some(owner);
            }
            before = (start, 0, 0);
        }
        None
    }
}
