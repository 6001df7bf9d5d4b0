// SPDX-License-Identifier: Apache-2.0
//! Reads the target's objects, at the offsets that user space derived.

use tracer_common::{DeviceClass, Hit, Layout, NO_OFFSET, UNREADABLE_DEVICE, UNREADABLE_OBJECT};
use tracer_unwind::walk::Memory as _;

use crate::window::Window;

/// `AllocationStatus::DEALLOCATED`.
const DEALLOCATED: u8 = 2;

/// Fills the fields of the `Buffer` at `hit.object`.
pub(crate) fn read_buffer(hit: &mut Hit, layout: &Layout, window: &mut Window) {
    let Some(fields) = fields(hit.object, layout, window) else {
        hit.flags |= UNREADABLE_OBJECT;
        return;
    };
    let flags = &mut hit.flags;
    let mut read = |offset| read(window, fields, offset, flags);
    hit.device = read(layout.device);
    hit.allocator = read(layout.allocator);
    hit.size = read(layout.size);
    hit.address = read(layout.address);
    hit.page_size = read(layout.page_size).min(u32::MAX.into()) as u32;
    hit.unique_id = read(layout.unique_id);
    hit.buffer_type = u64::from(read(layout.buffer_type) as u32).min(u8::MAX.into()) as u8;
    hit.status = read(layout.status) as u8;
    hit.owns = read(layout.owns) as u8;
    hit.hooked = read(layout.hooked) as u8;
}

/// Fills the class and id of the device at `device`.
pub(crate) fn read_device(hit: &mut Hit, device: u64, layout: &Layout, window: &mut Window) {
    let mut flags = 0;
    let vtable = read(window, device, 0, &mut flags);
    if flags == 0 && vtable == layout.chip_vtable {
        hit.device_class = DeviceClass::Chip as u8;
        hit.device_id = read(window, device, layout.chip_id, &mut flags) as u32;
    } else if flags == 0 && vtable == layout.mesh_vtable {
        hit.device_class = DeviceClass::Mesh as u8;
        let holder = match layout.mesh_impl {
            NO_OFFSET => device,
            offset => read(window, device, offset, &mut flags),
        };
        hit.device_id = read(window, holder, layout.mesh_id, &mut flags) as u32;
    }
    if flags != 0 {
        hit.device_class = DeviceClass::Unknown as u8;
        hit.flags |= UNREADABLE_DEVICE;
    }
}

/// Whether the `Buffer` at `object` owns its memory and is deallocated already.
pub(crate) fn is_deallocated_owner(object: u64, layout: &Layout, window: &mut Window) -> bool {
    let Some(fields) = fields(object, layout, window) else { return false };
    let mut flags = 0;
    let owns = read(window, fields, layout.owns, &mut flags) as u8;
    let status = read(window, fields, layout.status, &mut flags) as u8;
    flags == 0 && owns == 1 && status == DEALLOCATED
}

/// Where the fields of the `Buffer` at `object` are: in itself, or behind its pointer to the implementation.
fn fields(object: u64, layout: &Layout, window: &mut Window) -> Option<u64> {
    if layout.pimpl == NO_OFFSET {
        return Some(object);
    }
    let mut flags = 0;
    let fields = read(window, object, layout.pimpl, &mut flags);
    (flags == 0).then_some(fields)
}

/// What is at `base + offset`, in the lowest bytes, or zero and a mark in `flags`. What is read is aligned to its size,
/// so that it is within eight bytes that are read at once.
#[inline(always)]
fn read(mut window: &mut Window, base: u64, offset: u32, flags: &mut u8) -> u64 {
    let address = base.wrapping_add(u64::from(offset));
    match window.read(address & !7) {
        Some(word) => word >> (address % 8 * 8),
        None => {
            *flags |= UNREADABLE_OBJECT;
            0
        }
    }
}
