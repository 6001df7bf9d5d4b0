// SPDX-License-Identifier: Apache-2.0
//! Reads the target's objects, at the offsets that user space derived.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{bpf_probe_read_user, generated};
use tracer_common::{DeviceClass, Hit, Layout, LinkerState, NO_OFFSET, UNREADABLE_DEVICE, UNREADABLE_OBJECT};

/// `AllocationStatus::DEALLOCATED`.
const DEALLOCATED: u8 = 2;
/// Words from the beginning of a `Buffer`'s fields that are read at once: in the released builds, all but its unique id.
const BUFFER_WORDS: usize = 16;
/// Words from the beginning of a device that are read at once: those with its id, or the pointer to what has it.
const DEVICE_WORDS: usize = 4;

/// An object whose first words are read at once; what is behind them, or can't be read so, is read by itself. Their number
/// must be a power of two: the verifier of Linux 5.15 knows offsets by their bits only.
struct Object<const WORDS: usize> {
    address: u64,
    first: [u64; WORDS],
    readable: bool,
}

impl<const WORDS: usize> Object<WORDS> {
    #[inline(always)]
    fn at(address: u64) -> Self {
        let mut first = MaybeUninit::<[u64; WORDS]>::uninit();
        let size = size_of::<[u64; WORDS]>() as u32;
        // SAFETY: the helper copes with any user address; the verifier checks that there is room.
        let result = unsafe { generated::bpf_probe_read_user(first.as_mut_ptr().cast(), size, address as *const _) };
        // SAFETY: what can't be read the helper fills with zeros.
        let first = unsafe { first.assume_init() };
        Self { address, first, readable: result == 0 }
    }

    /// What is at an offset, as [`read`] has it.
    #[inline(always)]
    fn field(&self, offset: u32, flags: &mut u8) -> u64 {
        if self.readable && (offset as usize) < size_of::<[u64; WORDS]>() {
            self.first[offset as usize / 8 % WORDS] >> (offset % 8 * 8)
        } else {
            read(self.address, offset, flags)
        }
    }
}

/// What the dynamic linker whose `_r_debug` is at an address is about.
pub(crate) fn linker_state(debug: u64) -> LinkerState {
    LinkerState::of(&Object::<4>::at(debug).first)
}

/// Fills the fields of the `Buffer` at `hit.object`.
pub(crate) fn read_buffer(hit: &mut Hit, layout: &Layout) {
    let Some(fields) = fields(hit.object, layout) else {
        hit.flags |= UNREADABLE_OBJECT;
        return;
    };
    let buffer = Object::<BUFFER_WORDS>::at(fields);
    let flags = &mut hit.flags;
    let mut field = |offset: u32| buffer.field(offset, flags);
    hit.device = field(layout.device);
    hit.allocator = field(layout.allocator);
    hit.size = field(layout.size);
    hit.address = field(layout.address);
    hit.page_size = field(layout.page_size).min(u32::MAX.into()) as u32;
    hit.unique_id = field(layout.unique_id);
    hit.buffer_type = u64::from(field(layout.buffer_type) as u32).min(u8::MAX.into()) as u8;
    hit.status = field(layout.status) as u8;
    hit.owns = field(layout.owns) as u8;
    hit.hooked = field(layout.hooked) as u8;
}

/// Fills the class and id of the device at `device`.
pub(crate) fn read_device(hit: &mut Hit, device: u64, layout: &Layout) {
    let mut flags = 0;
    let object = Object::<DEVICE_WORDS>::at(device);
    let vtable = object.field(0, &mut flags);
    if flags == 0 && vtable == layout.chip_vtable {
        hit.device_class = DeviceClass::Chip as u8;
        hit.device_id = object.field(layout.chip_id, &mut flags) as u32;
    } else if flags == 0 && vtable == layout.mesh_vtable {
        hit.device_class = DeviceClass::Mesh as u8;
        hit.device_id = match layout.mesh_impl {
            NO_OFFSET => object.field(layout.mesh_id, &mut flags),
            offset => read(object.field(offset, &mut flags), layout.mesh_id, &mut flags),
        } as u32;
    }
    if flags != 0 {
        hit.device_class = DeviceClass::Unknown as u8;
        hit.flags |= UNREADABLE_DEVICE;
    }
}

/// Whether the `Buffer` at `object` owns its memory and is deallocated already.
pub(crate) fn is_deallocated_owner(object: u64, layout: &Layout) -> bool {
    let Some(fields) = fields(object, layout) else { return false };
    let mut flags = 0;
    let status = read(fields, layout.status, &mut flags) as u8;
    flags == 0 && status == DEALLOCATED && read(fields, layout.owns, &mut flags) as u8 == 1 && flags == 0
}

/// Where the fields of the `Buffer` at `object` are: in itself, or behind its pointer to the implementation.
fn fields(object: u64, layout: &Layout) -> Option<u64> {
    if layout.pimpl == NO_OFFSET {
        return Some(object);
    }
    let mut flags = 0;
    let fields = read(object, layout.pimpl, &mut flags);
    (flags == 0).then_some(fields)
}

/// What is at `base + offset`, in the lowest bytes, or zero and a mark in `flags`. What is read is aligned to its size,
/// so that it is within eight bytes that are read at once.
#[inline(always)]
fn read(base: u64, offset: u32, flags: &mut u8) -> u64 {
    let address = base.wrapping_add(u64::from(offset));
    // SAFETY: the helper copes with any user address.
    match unsafe { bpf_probe_read_user((address & !7) as *const u64) } {
        Ok(word) => word >> (address % 8 * 8),
        Err(_) => {
            *flags |= UNREADABLE_OBJECT;
            0
        }
    }
}
