// SPDX-License-Identifier: Apache-2.0
//! Reads the target's objects, at the offsets that user space derived.

use aya_ebpf::helpers::bpf_probe_read_user;
use tracer_common::{DeviceClass, Hit, Layout, NO_OFFSET, UNREADABLE_DEVICE, UNREADABLE_OBJECT};

/// `AllocationStatus::DEALLOCATED`.
const DEALLOCATED: u8 = 2;

/// Fills the fields of the `Buffer` at `hit.object`.
pub(crate) fn read_buffer(hit: &mut Hit, layout: &Layout) {
    let Some(fields) = fields(hit.object, layout) else {
        hit.flags |= UNREADABLE_OBJECT;
        return;
    };
    let flags = &mut hit.flags;
    hit.device = read(fields, layout.device, flags);
    hit.allocator = read(fields, layout.allocator, flags);
    hit.size = read(fields, layout.size, flags);
    hit.address = read(fields, layout.address, flags);
    hit.page_size = read::<u64>(fields, layout.page_size, flags).min(u32::MAX.into()) as u32;
    hit.unique_id = read(fields, layout.unique_id, flags);
    hit.buffer_type = read::<u32>(fields, layout.buffer_type, flags).min(u8::MAX.into()) as u8;
    hit.status = read(fields, layout.status, flags);
    hit.owns = read(fields, layout.owns, flags);
    hit.hooked = read(fields, layout.hooked, flags);
}

/// Fills the class and id of the device at `device`.
pub(crate) fn read_device(hit: &mut Hit, device: u64, layout: &Layout) {
    let mut flags = 0;
    let vtable: u64 = read(device, 0, &mut flags);
    if flags == 0 && vtable == layout.chip_vtable {
        hit.device_class = DeviceClass::Chip as u8;
        hit.device_id = read(device, layout.chip_id, &mut flags);
    } else if flags == 0 && vtable == layout.mesh_vtable {
        hit.device_class = DeviceClass::Mesh as u8;
        let holder = match layout.mesh_impl {
            NO_OFFSET => device,
            offset => read(device, offset, &mut flags),
        };
        hit.device_id = read(holder, layout.mesh_id, &mut flags);
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
    let owns: u8 = read(fields, layout.owns, &mut flags);
    let status: u8 = read(fields, layout.status, &mut flags);
    flags == 0 && owns == 1 && status == DEALLOCATED
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

/// What is at `base + offset`, or zero and a mark in `flags`.
fn read<T: Default>(base: u64, offset: u32, flags: &mut u8) -> T {
    let address = base.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper copes with any user address.
    match unsafe { bpf_probe_read_user(address) } {
        Ok(value) => value,
        Err(_) => {
            *flags |= UNREADABLE_OBJECT;
            T::default()
        }
    }
}
