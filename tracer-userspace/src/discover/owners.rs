// SPDX-License-Identifier: Apache-2.0
//! The owners of memory that an allocator of a running process knows, from its own set of them.
//!
//! The target runs on meanwhile, and its set may hold pointers to what is no buffer any more. So nothing counts but what
//! was verified: an object that can be read, says that it is allocated and owns memory of this very allocator, is on a
//! device, and has a unique id that was given out. The set is read until two readings find the same owners.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tracer_common::{DeviceClass, Layout, NO_OFFSET};

use super::memory;

/// How often the set is read until two readings in a row are the same.
const READINGS: usize = 16;
/// Most buffers of a set; more is taken for damage.
const MOST: u64 = 1 << 20;
/// By how much the number of elements may be off while they are counted.
const SLACK: u64 = 64;
/// Most bytes of a `Buffer` that are read.
const LARGEST: usize = 1 << 16;
/// `AllocationStatus::ALLOCATED`.
const ALLOCATED: u8 = 1;
/// `BufferType::TRACE`, the last.
const LAST_TYPE: u32 = 4;

/// Where a `std::unordered_set` has the first node and the number of nodes (libstdc++'s ABI).
const FIRST: u64 = 0x10;
const COUNT: u64 = 0x18;

/// Reads the sets of one process.
#[derive(Clone, Debug)]
pub struct Owners {
    /// Process id.
    pub pid: u32,
    /// Where the fields of a buffer are.
    pub layout: Layout,
    /// Where the set is in an allocator.
    pub set: u32,
    /// Address of the counter that gives out unique ids.
    pub counter: u64,
}

/// An owner of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The `Buffer`.
    pub object: u64,
    /// `unique_id_`
    pub unique_id: u64,
    /// Device address.
    pub address: u64,
    /// Bytes on one device.
    pub size: u64,
    /// Bytes a page.
    pub page_size: u64,
    /// Type of memory, as the target numbers them.
    pub buffer_type: u32,
    /// The device object.
    pub device: u64,
    /// Its class.
    pub device_class: DeviceClass,
    /// Its id within the class.
    pub device_id: u32,
}

/// What was found in one set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The owners that were asked for, by unique id.
    pub owners: Vec<Owner>,
    /// Elements that are no verified owners.
    pub left_out: u64,
    /// Whether two readings in a row found the same owners; if not, some may be missing.
    pub settled: bool,
}

impl Owners {
    /// The owners with a unique id below `border` that an allocator knows.
    ///
    /// # Errors
    /// If the set can't be read as one, or holds elements of which none is a buffer: then it is not where it was derived to
    /// be.
    pub fn read(&self, allocator: u64, border: u64) -> Result<Found, String> {
        let mut last: Result<Found, String> = Err("it was not read".to_owned());
        for _ in 0..READINGS {
            let found = self.read_once(allocator, border);
            if let (Ok(now), Ok(before)) = (&found, &last)
                && now.owners == before.owners
            {
                return Ok(Found { settled: true, ..now.clone() });
            }
            // A failure tells less than what was read before it.
            if found.is_ok() || last.is_err() {
                last = found;
            }
        }
        last
    }

    fn read_once(&self, allocator: u64, border: u64) -> Result<Found, String> {
        let objects = self.elements(allocator.wrapping_add(u64::from(self.set)))?;
        let next = self.word(self.counter).ok_or("the counter of unique ids can't be read")?;
        let mut devices = HashMap::new();
        let mut verified: BTreeMap<u64, Owner> = BTreeMap::new();
        let mut left_out = 0;
        for &object in &objects {
            match self.owner(object, allocator, &mut devices).filter(|owner| owner.unique_id < next) {
                Some(owner) if verified.insert(owner.unique_id, owner).is_none() => {}
                _ => left_out += 1,
            }
        }
        if verified.is_empty() && left_out > 0 {
            return Err(format!("none of its {left_out} elements is a buffer of this allocator"));
        }
        // What a bulk release took leaves its element behind; it shows where the memory was given to the next.
        let mut taken = BTreeSet::new();
        let mut owners: Vec<Owner> = verified.into_values().rev().collect();
        owners.retain(|owner| owner.address == 0 || taken.insert((owner.buffer_type, owner.address)));
        left_out += objects.len() as u64 - left_out - owners.len() as u64;
        owners.retain(|owner| owner.unique_id < border);
        owners.reverse();
        Ok(Found { owners, left_out, settled: false })
    }

    /// The elements of the set, in no order.
    fn elements(&self, set: u64) -> Result<Vec<u64>, String> {
        let unreadable = || "it can't be read".to_owned();
        let count = || self.word(set.wrapping_add(COUNT)).ok_or_else(unreadable);
        let before = count()?;
        if before > MOST {
            return Err(format!("it has {before} elements, more than it can have"));
        }
        let mut elements = Vec::new();
        let mut node = self.word(set.wrapping_add(FIRST)).ok_or_else(unreadable)?;
        while node != 0 {
            if elements.len() as u64 > before + SLACK {
                return Err("its list has no end".to_owned());
            }
            let mut words = [0; 16];
            memory::read(self.pid, node, &mut words).map_err(|_| "its list leads to nowhere".to_owned())?;
            let [next, element] = [word_at(&words, 0), word_at(&words, 8)];
            elements.push(element);
            node = next;
        }
        let after = count()?;
        let length = elements.len() as u64;
        if length + SLACK < before.min(after) || length > before.max(after).saturating_add(SLACK) {
            return Err(format!("its list has {length} elements, and its count is {after}"));
        }
        Ok(elements)
    }

    /// The object as an owner, if it is one.
    fn owner(&self, object: u64, allocator: u64, devices: &mut HashMap<u64, Option<Device>>) -> Option<Owner> {
        let layout = &self.layout;
        let fields = match layout.pimpl {
            NO_OFFSET => object,
            pimpl => self.word(object.wrapping_add(u64::from(pimpl)))?,
        };
        let bytes = self.fields(fields)?;
        let word = |offset: u32| word_at(&bytes, offset as usize);
        let byte = |offset: u32| bytes.get(offset as usize).copied().unwrap_or(u8::MAX);
        let buffer_type = word(layout.buffer_type) as u32;
        let (size, device) = (word(layout.size), word(layout.device));
        let owns = (byte(layout.status), byte(layout.owns), byte(layout.hooked)) == (ALLOCATED, 1, 0);
        if !owns || buffer_type > LAST_TYPE || size == 0 || word(layout.allocator) != allocator {
            return None;
        }
        let (device_class, device_id) = (*devices.entry(device).or_insert_with(|| self.device(device)))?;
        let (unique_id, address, page_size) = (word(layout.unique_id), word(layout.address), word(layout.page_size));
        Some(Owner { object, unique_id, address, size, page_size, buffer_type, device, device_class, device_id })
    }

    /// All bytes of an object from its start to the last field.
    fn fields(&self, object: u64) -> Option<Vec<u8>> {
        let Layout {
            device, size, buffer_type, owns, allocator, status, hooked, address, page_size, unique_id, ..
        } = self.layout;
        let offsets = [device, size, buffer_type, owns, allocator, status, hooked, address, page_size, unique_id];
        let length = *offsets.iter().max()? as usize + 8;
        let mut bytes = vec![0; Some(length).filter(|&length| length <= LARGEST)?];
        memory::read(self.pid, object, &mut bytes).ok()?;
        Some(bytes)
    }

    fn device(&self, device: u64) -> Option<Device> {
        let layout = &self.layout;
        let vtable = self.word(device)?;
        let (class, holder, offset) = if vtable == layout.chip_vtable {
            (DeviceClass::Chip, device, layout.chip_id)
        } else if vtable == layout.mesh_vtable {
            let holder = match layout.mesh_impl {
                NO_OFFSET => device,
                offset => self.word(device.wrapping_add(u64::from(offset)))?,
            };
            (DeviceClass::Mesh, holder, layout.mesh_id)
        } else {
            return None;
        };
        let mut id = [0; 4];
        memory::read(self.pid, holder.wrapping_add(u64::from(offset)), &mut id).ok()?;
        Some((class, u32::from_le_bytes(id)))
    }

    fn word(&self, address: u64) -> Option<u64> {
        memory::read_u64(self.pid, address).ok()
    }
}

/// Class and id.
type Device = (DeviceClass, u32);

fn word_at(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes.get(offset..offset.saturating_add(8)).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which word of the allocator the set begins at.
    const SET: usize = 9;

    /// A buffer as the layout below has it.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Buffer {
        device: u64,
        size: u64,
        allocator: u64,
        address: u64,
        page_size: u64,
        unique_id: u64,
        buffer_type: u32,
        status: u8,
        owns: u8,
        hooked: u8,
    }

    /// The memory of a target: this very process's.
    struct Memory {
        device: [u64; 2],
        buffers: Vec<Buffer>,
        nodes: Vec<[u64; 2]>,
        counter: u64,
        allocator: [u64; 16],
    }

    impl Memory {
        fn of(buffers: &[Buffer]) -> Box<Self> {
            let nodes = vec![[0; 2]; buffers.len()];
            let (device, counter, allocator) = ([0xc1a55, 5], 100, [0; 16]);
            let mut it = Box::new(Self { device, buffers: buffers.to_vec(), nodes, counter, allocator });
            for at in 0..buffers.len() {
                it.buffers[at].device = &raw const it.device as u64;
                it.buffers[at].allocator = &raw const it.allocator as u64;
                let next = it.nodes.get(at + 1).map_or(0, |next| &raw const *next as u64);
                it.nodes[at] = [next, &raw const it.buffers[at] as u64];
            }
            it.allocator[SET + 2] = it.nodes.first().map_or(0, |first| &raw const *first as u64);
            it.allocator[SET + 3] = buffers.len() as u64;
            it
        }

        fn read(&self) -> Result<Found, String> {
            let mut layout = Layout { mesh_vtable: 0xc1a55, mesh_id: 8, ..Layout::default() };
            (layout.pimpl, layout.mesh_impl) = (NO_OFFSET, NO_OFFSET);
            (layout.size, layout.allocator, layout.address, layout.page_size, layout.unique_id) = (8, 16, 24, 32, 40);
            (layout.buffer_type, layout.status, layout.owns, layout.hooked) = (48, 52, 53, 54);
            let (set, counter) = (SET as u32 * 8, &raw const self.counter as u64);
            let owners = Owners { pid: std::process::id(), layout, set, counter };
            owners.read(&raw const self.allocator as u64, 50)
        }
    }

    fn buffer(unique_id: u64, address: u64) -> Buffer {
        let (size, page_size, buffer_type, status, owns) = (2048, 1024, 1, 1, 1);
        let (device, allocator, hooked) = (0, 0, 0);
        Buffer { device, size, allocator, address, page_size, unique_id, buffer_type, status, owns, hooked }
    }

    /// Reads a set of these buffers; `change` sees the memory before.
    fn found(buffers: &[Buffer], change: impl FnOnce(&mut Memory)) -> Result<(Vec<u64>, u64, bool), String> {
        let mut memory = Memory::of(buffers);
        change(&mut memory);
        let found = memory.read()?;
        for owner in &found.owners {
            assert_eq!((owner.size, owner.page_size, owner.buffer_type), (2048, 1024, 1));
            assert_eq!((owner.device_class, owner.device_id), (DeviceClass::Mesh, 5));
        }
        Ok((found.owners.iter().map(|owner| owner.unique_id).collect(), found.left_out, found.settled))
    }

    #[test]
    fn owners_below_the_border_are_found() {
        let buffers = [buffer(9, 0x900), buffer(3, 0x300), buffer(50, 0x500)];
        assert_eq!(found(&buffers, |_| {}), Ok((vec![3, 9], 0, true)));
        assert_eq!(found(&[], |_| {}), Ok((vec![], 0, true)));
    }

    #[test]
    fn what_is_no_live_owner_of_this_allocator_is_left_out() {
        type Change = fn(&mut Buffer);
        let changes: [Change; 8] = [
            |it| it.status = 2,
            |it| it.owns = 0,
            |it| it.hooked = 1,
            |it| it.buffer_type = 5,
            |it| it.allocator += 8,
            |it| it.unique_id = 100,
            |it| it.device = 0x10,
            |it| it.unique_id = 3,
        ];
        for change in changes {
            let buffers = [buffer(3, 0x300), buffer(9, 0x900)];
            assert_eq!(found(&buffers, |memory| change(&mut memory.buffers[1])), Ok((vec![3], 1, true)));
        }
        let gone = |memory: &mut Memory| memory.nodes[1][1] = 0x10;
        assert_eq!(found(&[buffer(3, 0x300), buffer(9, 0x900)], gone), Ok((vec![3], 1, true)));
    }

    #[test]
    fn of_two_owners_of_one_address_the_later_is_left() {
        let buffers = [buffer(3, 0x300), buffer(9, 0x300), buffer(4, 0x400), buffer(50, 0x400)];
        assert_eq!(found(&buffers, |_| {}), Ok((vec![9], 2, true)));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let two = [buffer(3, 0x300), buffer(9, 0x900)];
        let wrong = |change: fn(&mut Memory)| found(&two, change).expect_err("refused");
        assert_eq!(
            wrong(|it| it.allocator[SET + 3] = u64::MAX),
            format!("it has {} elements, more than it can have", u64::MAX)
        );
        assert_eq!(wrong(|it| it.nodes[1][0] = it.allocator[SET + 2]), "its list has no end");
        assert_eq!(wrong(|it| it.nodes[1][0] = 0x10), "its list leads to nowhere");
        assert_eq!(wrong(|it| it.allocator[SET + 3] = 500), "its list has 2 elements, and its count is 500");
        let none = |it: &mut Memory| it.buffers.iter_mut().for_each(|buffer| buffer.status = 0);
        assert_eq!(wrong(none), "none of its 2 elements is a buffer of this allocator");
    }
}
