// SPDX-License-Identifier: Apache-2.0
//! Reads the target's objects, at the offsets that user space derived.

use aya_ebpf::helpers::bpf_probe_read_user;
use tracer_common::{DeviceClass, Hit, Layout, NO_OFFSET, UNREADABLE_DEVICE, UNREADABLE_OBJECT};

use crate::window::Window;

/// Bytes from the beginning of a device that are read at once: those with its id, or the pointer to what has it.
const DEVICE_BYTES: u32 = 32;

/// An object, a part of which is read at once; what is not in it, or can't be read so, is read by itself.
struct Object<'a> {
    address: u64,
    /// The part's offset, and how many bytes there are.
    start: u32,
    length: u32,
    piece: Option<(&'a Window, usize)>,
}

impl<'a> Object<'a> {
    /// The part is that from one offset to another one, both multiples of eight, if there is a window to read it to.
    #[inline(always)]
    fn at(address: u64, start: u32, end: u32, window: Option<&'a mut Window>) -> Self {
        let length = end.wrapping_sub(start);
        let piece = window.and_then(|window| {
            let begin = address.wrapping_add(start.into());
            window.expect(begin, begin.wrapping_add(length.into()));
            let first = window.find(begin, length)?;
            Some((&*window, first))
        });
        Self { address, start, length, piece }
    }

    /// What is at an offset, as [`read`] has it.
    #[inline(always)]
    fn field(&self, offset: u32, flags: &mut u8) -> u64 {
        let within = offset.wrapping_sub(self.start);
        match self.piece {
            Some((window, first)) if within < self.length => {
                window.word(first + within as usize / 8) >> (offset % 8 * 8)
            }
            _ => read(self.address, offset, flags),
        }
    }
}

/// Fills the fields of the `Buffer` at `hit.object`.
pub(crate) fn read_buffer(hit: &mut Hit, layout: &Layout, window: Option<&mut Window>) {
    let flags = &mut hit.flags;
    let fields = match layout.pimpl {
        NO_OFFSET => hit.object,
        offset => read(hit.object, offset, flags),
    };
    if *flags != 0 {
        return;
    }
    let buffer = Object::at(fields, layout.fields_start, layout.fields_end, window);
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
pub(crate) fn read_device(hit: &mut Hit, device: u64, layout: &Layout, window: Option<&mut Window>) {
    let mut flags = 0;
    let object = Object::at(device, 0, DEVICE_BYTES, window);
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
