// SPDX-License-Identifier: Apache-2.0
//! The event: one hit of one probe, as the trace file keeps it.

pub use tracer_common::{DeviceClass, Kind};

/// One hit of one probe. What a kind does not have is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts every hit, kept or lost; events of one thread are in order.
    pub sequence: u64,
    /// Nanoseconds after the session's `boot_ns`.
    pub time: u64,
    /// Process number in this file.
    pub process: u32,
    /// Thread id.
    pub thread: u32,
    /// What happened.
    pub kind: Kind,
    /// `Buffer*`, or the allocator or device that the event is about.
    pub object: u64,
    /// `unique_id_`.
    pub unique_id: u64,
    /// Device address; known from `Kind::Allocated` on.
    pub address: u64,
    /// Bytes on one device.
    pub size: u64,
    /// Bytes a page.
    pub page_size: u64,
    /// 0 DRAM, 1 L1, 2 system memory, 3 L1 small, 4 trace.
    pub buffer_type: u32,
    /// Status at entry: 0 requested, 1 allocated, 2 deallocated.
    pub status: u8,
    /// Whether the buffer owns its memory.
    pub owns: bool,
    /// Whether a graph capture hooked it: no memory behind it.
    pub hooked: bool,
    /// Whether some of the object could not be read; what could not is zero.
    pub unreadable: bool,
    /// `device_`.
    pub device: u64,
    /// Class of the device; trustworthy at allocation, dangling pointers are possible at a free.
    pub device_class: DeviceClass,
    /// Id within the class.
    pub device_id: u32,
    /// `allocator_`.
    pub allocator: u64,
    /// Stack number, 0 for none.
    pub stack: u32,
    /// Text number (the test that begins), 0 for none.
    pub text: u32,
}
