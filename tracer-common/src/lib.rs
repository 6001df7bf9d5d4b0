// SPDX-License-Identifier: Apache-2.0
//! What crosses the kernel border: ring-buffer records, map values and counters, each defined once.
//!
//! Everything here is `repr(C)`, made of integers, with explicit padding, so that both sides see the same bytes.

#![no_std]

mod epoch;
mod python;
mod stack;

pub use epoch::{Epoch, LinkerState};
pub use python::{
    CODE_PART, CODE_TEXTS, CodeSum, CodeText, GENERATIONS, MAX_PYTHON_FRAMES, MAX_PYTHON_READ, NOT_WATCHED, PythonEnd,
    PythonFrame, PythonLayout, PythonScratch, PythonStack, TEXT_LENGTH, TEXT_TAIL,
};
pub use stack::{CopyHead, MAX_FRAMES, NativeFrame, NativeStack, PAGE, Registers, STACK_CLASSES, StackHash};

/// Room for an environment value (pytest's current test), terminating zero included.
pub const TEXT: usize = 1024;
/// The variable that pytest sets at the setup, call and teardown of each test, and removes after it.
pub const TEST_VARIABLE: &[u8; 20] = b"PYTEST_CURRENT_TEST\0";
/// Most probe sites that one recording can have: their numbers travel in a byte.
pub const MAX_SITES: u32 = 256;
/// Most targets that one recording can have over time, less one: a target's number is never given to another one.
pub const MAX_TARGETS: u32 = 1 << 16;
/// The kernel side numbers forked children from here on; the numbers below are user space's to give.
pub const FIRST_FORKED: u32 = MAX_TARGETS / 2;
/// Most targets that live at the same time.
pub const MAX_LIVE_TARGETS: u32 = 1024;
/// Most processes that are followed at the same time, those included that have no buffers yet.
pub const MAX_FOLLOWED: u32 = 1 << 14;
/// Of a process that is followed: it has hit no probe while it was no target.
pub const QUIET: u32 = 1;
/// It has.
pub const HAS_HIT: u32 = 2;
/// An offset that this build of the target does not have.
pub const NO_OFFSET: u32 = u32::MAX;

/// What a probe site means. Travels in the attach cookie and in each [`Hit`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Entry of `allocate_impl`: memory is asked for.
    Request = 1,
    /// Entry of `GraphTracker::track_allocate`: the request was met, the address is known.
    Allocated = 2,
    /// Entry of `deallocate_impl`: an owner is freed, or was already, by the status read here.
    Free = 3,
    /// Entry of `GraphTracker::track_deallocate`: the free goes on to the allocator.
    Released = 4,
    /// Entry of `mark_as_deallocated`: only the status changes, because the device is gone.
    Marked = 5,
    /// Entry of `~Buffer`, forwarded only for an owner whose status is already "deallocated".
    Destroyed = 6,
    /// Entry of `Allocator(Impl)::deallocate_buffers`: everything that the allocator holds is released.
    Bulk = 7,
    /// Entry of `Device::close` or `MeshDevice::close`.
    DeviceClose = 8,
    /// Entry of libc's `setenv` for [`TEST_VARIABLE`].
    TestBegin = 9,
    /// Entry of libc's `unsetenv` for [`TEST_VARIABLE`].
    TestEnd = 10,
    /// A thread of the target ends.
    ThreadExit = 11,
    /// Entry of the dynamic linker's `_dl_debug_state`: before and after modules are loaded or unloaded.
    Modules = 12,
    /// A process executes another program: nothing that was known of it holds any more.
    Exec = 13,
    /// Entry of the interpreter's destructor of code objects. Not sent: what is remembered of this one is forgotten.
    CodeFreed = 14,
    /// Entry of `Device::initialize` or `MeshDevice::initialize`: what the device held before is gone.
    DeviceOpen = 15,
    /// Entry of `Buffer(Impl)::create` with an address: a buffer over memory that it does not own. There is no object
    /// yet; what it will be is in the arguments.
    Alias = 16,
    /// A process makes a child process, which gets a copy of all its objects. The object is the child's process id; the
    /// size is its number as a target, 0 if it is none; the address is the epoch of the modules that it was born with, in
    /// its parent.
    Fork = 17,
    /// Entry of `FreeListOpt::allocate`: an allocator, asked by the thread's request, looks for so many bytes in each of
    /// its banks. The object is the list of what is free; the size is these bytes, aligned.
    Bank = 18,
    /// Entry of `GraphTracker::track_allocate_cb`: a circular buffer is laid out on the cores of a device. It owns its
    /// memory unless it is in that of a buffer; the size is that on each core.
    Circular = 19,
    /// Entry of `GraphTracker::track_deallocate_cb`: all circular buffers of a device are gone.
    CircularFreed = 20,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 20] = [
        Self::Request,
        Self::Allocated,
        Self::Free,
        Self::Released,
        Self::Marked,
        Self::Destroyed,
        Self::Bulk,
        Self::DeviceClose,
        Self::TestBegin,
        Self::TestEnd,
        Self::ThreadExit,
        Self::Modules,
        Self::Exec,
        Self::CodeFreed,
        Self::DeviceOpen,
        Self::Alias,
        Self::Fork,
        Self::Bank,
        Self::Circular,
        Self::CircularFreed,
    ];

    /// The kind of a number that came over the border, or `None` for one that is not ours.
    ///
    /// Not looked up in [`Self::ALL`]: the verifiers of Linux 5.15 and 6.1 can't follow what the compiler makes of its bounds.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Allocated,
            3 => Self::Free,
            4 => Self::Released,
            5 => Self::Marked,
            6 => Self::Destroyed,
            7 => Self::Bulk,
            8 => Self::DeviceClose,
            9 => Self::TestBegin,
            10 => Self::TestEnd,
            11 => Self::ThreadExit,
            12 => Self::Modules,
            13 => Self::Exec,
            14 => Self::CodeFreed,
            15 => Self::DeviceOpen,
            16 => Self::Alias,
            17 => Self::Fork,
            18 => Self::Bank,
            19 => Self::Circular,
            20 => Self::CircularFreed,
            _ => return None,
        })
    }

    /// Whether the probed function is about one `Buffer`.
    #[must_use]
    pub const fn is_about_buffer(self) -> bool {
        matches!(self, Self::Request | Self::Allocated | Self::Free | Self::Released | Self::Marked | Self::Destroyed)
    }
}

/// The identity of a probe site, as its attach cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// What the site means.
    pub kind: Kind,
    /// Which integer argument holds the object: 0 (`rdi`) or 1 (`rsi`).
    pub argument: u8,
    /// Whether the stack belongs to the hit.
    pub stack: bool,
    /// Whether hits of buffers that own no memory are no events.
    pub owners: bool,
    /// The site's number within the recording, below [`MAX_SITES`].
    pub site: u16,
}

impl Cookie {
    /// Packs: bits 0..8 kind, 8..16 argument, 16..17 stack, 17..18 owners, 32..48 site.
    #[must_use]
    pub const fn pack(self) -> u64 {
        let flags = self.stack as u64 | (self.owners as u64) << 1;
        self.kind as u64 | (self.argument as u64) << 8 | flags << 16 | (self.site as u64) << 32
    }

    /// The reverse of [`Self::pack`]; `None` if the kind is none of ours.
    #[must_use]
    pub const fn unpack(bits: u64) -> Option<Self> {
        let Some(kind) = Kind::from_u8(bits as u8) else { return None };
        let (stack, owners) = (bits >> 16 & 1 == 1, bits >> 17 & 1 == 1);
        Some(Self { kind, argument: (bits >> 8) as u8, stack, owners, site: (bits >> 32) as u16 })
    }
}

/// A traced process, as the kernel side knows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its number, below [`MAX_TARGETS`] and not 0: where its modules and their epoch are kept.
    pub number: u32,
    /// Whether each stack is copied as well, for user space to compare.
    pub copies: u32,
    /// Of a forked child, the number of the target whose modules it was born with, and has until its own are known; else 0.
    pub inherits: u32,
    /// Always zero.
    pub padding: u32,
    /// The epoch at which that target had these modules.
    pub inherited_epoch: Epoch,
    /// Address of what the dynamic linker tells debuggers, `_r_debug`; 0 if that is not known.
    pub linker: u64,
    /// Where its classes keep their fields.
    pub layout: Layout,
}

/// Where the kernel keeps what tells of processes: offsets in bytes, or [`NO_OFFSET`] where that is not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLayout {
    /// In `task_struct`: the process id, i32, of the thread's whole group.
    pub tgid: u32,
    /// In `task_struct`: pointer to the `signal_struct` of the group.
    pub signal: u32,
    /// In `signal_struct`: i32, threads that have not begun to exit.
    pub live: u32,
}

impl TaskLayout {
    /// Of a kernel whose types are not known.
    pub const UNKNOWN: Self = Self { tgid: NO_OFFSET, signal: NO_OFFSET, live: NO_OFFSET };
}

/// Where the target's classes keep what is read at a hit: offsets in bytes, derived from the binary in hand.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Offset in `Buffer` of the pointer to the object with the fields, or [`NO_OFFSET`] if `Buffer` holds them itself.
    pub pimpl: u32,
    /// `device_`: pointer to a `Device` or `MeshDevice`.
    pub device: u32,
    /// `size_`: u64, bytes on one device.
    pub size: u32,
    /// `buffer_type_`: u32, 0 DRAM, 1 L1, 2 system memory, 3 L1 small, 4 trace.
    pub buffer_type: u32,
    /// `owns_data_`: u8.
    pub owns: u32,
    /// `allocator_`: pointer.
    pub allocator: u32,
    /// `allocation_status_`: u8, 0 requested, 1 allocated, 2 deallocated.
    pub status: u32,
    /// `hooked_allocation_`: u8, set by a graph capture that allocates nothing.
    pub hooked: u32,
    /// `address_`: u64.
    pub address: u32,
    /// `page_size_`: u64, bytes.
    pub page_size: u32,
    /// `unique_id_`: u64, counts up over the life of the process.
    pub unique_id: u32,
    /// Offset in `Device` of its i32 id.
    pub chip_id: u32,
    /// Offset in `MeshDevice` of the pointer to its implementation, or [`NO_OFFSET`] if the id is in the object itself.
    pub mesh_impl: u32,
    /// Offset of the mesh's i32 id, in the implementation or the object itself.
    pub mesh_id: u32,
    /// What the first word of a `Device` points to (vtable + 16), in the target's address space.
    pub chip_vtable: u64,
    /// What the first word of a `MeshDevice` points to.
    pub mesh_vtable: u64,
}

/// Which name space a device id belongs to.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceClass {
    /// The object is neither, or could not be read.
    #[default]
    Unknown = 0,
    /// `tt::tt_metal::Device`.
    Chip = 1,
    /// `tt::tt_metal::distributed::MeshDevice`.
    Mesh = 2,
}

/// A field of the object could not be read; what could not is zero.
pub const UNREADABLE_OBJECT: u8 = 1;
/// The device object could not be read: `device_class` and `device_id` say nothing.
pub const UNREADABLE_DEVICE: u8 = 2;
/// The text is cut at [`TEXT`] bytes.
pub const TEXT_CUT: u8 = 4;
/// The text could not be read.
pub const UNREADABLE_TEXT: u8 = 8;
/// The native stack is not there: the ring buffer had no room for it, or the kernel side was busy.
pub const NATIVE_LOST: u8 = 16;
/// The Python frames are not there: likewise.
pub const PYTHON_LOST: u8 = 32;

/// What a ring-buffer record is, by its first byte; the records of hits have their [`Kind`] there.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// A [`NativeStack`], cut behind its last frame: what a number stands for from now on.
    NativeStack = 200,
    /// A [`PythonStack`], cut behind its last frame: likewise.
    PythonStack = 201,
    /// A [`CopyHead`] and the pages of a stack copy. Its hit comes later.
    Copy = 202,
    /// A [`TextHead`] and the bytes of an environment value. Its hit comes later.
    Text = 203,
}

/// One hit of one probe.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// A [`Kind`].
    pub kind: u8,
    /// `UNREADABLE_*`, `TEXT_CUT`, `NATIVE_LOST`, `PYTHON_LOST`.
    pub flags: u8,
    /// A [`DeviceClass`].
    pub device_class: u8,
    /// Site number, from the cookie.
    pub site: u8,
    /// Process id, as the kernel's first PID name space has it.
    pub tgid: u32,
    /// Counts every hit that asked for room in the ring; a number that never arrives was lost.
    pub sequence: u64,
    /// Nanoseconds since boot, sleep included (`bpf_ktime_get_boot_ns`).
    pub time: u64,
    /// Thread id, like `tgid`.
    pub tid: u32,
    /// Number of the [`NativeStack`], 0 for none.
    pub native: u32,
    /// Number of the [`PythonStack`], 0 for none.
    pub python: u32,
    /// Id of the device, within its class.
    pub device_id: u32,
    /// The object: `Buffer*`, allocator or device.
    pub object: u64,
    /// `device_`.
    pub device: u64,
    /// `allocator_`.
    pub allocator: u64,
    /// `size_`.
    pub size: u64,
    /// `address_`.
    pub address: u64,
    /// `unique_id_`.
    pub unique_id: u64,
    /// `page_size_`; larger ones are [`u32::MAX`].
    pub page_size: u32,
    /// `buffer_type_`; larger ones are [`u8::MAX`].
    pub buffer_type: u8,
    /// `allocation_status_`.
    pub status: u8,
    /// `owns_data_`.
    pub owns: u8,
    /// `hooked_allocation_`.
    pub hooked: u8,
}

/// The head of a [`Tag::Text`] record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextHead {
    /// [`Tag::Text`].
    pub tag: u8,
    /// Always zero.
    pub padding: u8,
    /// Bytes that follow, without a terminating zero.
    pub length: u16,
    /// Always zero.
    pub padding2: u32,
    /// The hit's [`Hit::sequence`].
    pub sequence: u64,
}

/// What the kernel side counts, each in a slot of its own.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Hits that asked for room in the ring: the sequence numbers given out.
    Sent = 0,
    /// Lost: the ring buffer was full.
    RingFull = 1,
    /// Kept, but without a part of its stack: the ring buffer had no room for that.
    StackLost = 2,
    /// Kept, but with `UNREADABLE_OBJECT` or `UNREADABLE_DEVICE`.
    Unreadable = 3,
    /// Not ours: the probe was hit by a process that shares the target's address space.
    OtherProcess = 4,
    /// Not events: `~Buffer` of something that is no owner, or not deallocated yet; marks of what is no owner.
    Filtered = 5,
    /// Kept, but without all of its Python frames: some could not be read, or there are too many.
    PythonCut = 6,
    /// Kept, but without its stack: too many probes were hit at once on one CPU, each preempted by the next.
    Busy = 7,
    /// Stacks walked here.
    Walked = 8,
    /// Frames of those, native ones.
    NativeFrames = 9,
    /// Frames of those, of Python.
    PythonFrames = 10,
    /// Native frames whose row, or rule, was remembered.
    Remembered = 11,
    /// Stacks that were sent in whole, because nobody had seen them yet.
    NewStacks = 12,
    /// Stacks that were copied for user space to walk.
    Copied = 13,
    /// Children that are not followed: there are too many processes.
    NotFollowed = 14,
    /// Processes that were followed and hit a probe, and ended without being recorded.
    Unrecorded = 15,
}

impl Counter {
    /// Every counter, in the order of its slot.
    pub const ALL: [Self; 16] = [
        Self::Sent,
        Self::RingFull,
        Self::StackLost,
        Self::Unreadable,
        Self::OtherProcess,
        Self::Filtered,
        Self::PythonCut,
        Self::Busy,
        Self::Walked,
        Self::NativeFrames,
        Self::PythonFrames,
        Self::Remembered,
        Self::NewStacks,
        Self::Copied,
        Self::NotFollowed,
        Self::Unrecorded,
    ];

    /// The name that the trace file and the views use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::RingFull => "ring-full",
            Self::StackLost => "stack-lost",
            Self::Unreadable => "unreadable",
            Self::OtherProcess => "other-process",
            Self::Filtered => "filtered",
            Self::PythonCut => "python-cut",
            Self::Busy => "busy",
            Self::Walked => "walked",
            Self::NativeFrames => "native-frames",
            Self::PythonFrames => "python-frames",
            Self::Remembered => "remembered",
            Self::NewStacks => "new-stacks",
            Self::Copied => "copied",
            Self::NotFollowed => "not-followed",
            Self::Unrecorded => "unrecorded",
        }
    }
}

const _: () = assert!(size_of::<Layout>() == 72, "no implicit padding");
const _: () = assert!(size_of::<Target>() == 104, "no implicit padding");
const _: () = assert!(size_of::<Hit>() == 96, "no implicit padding");
const _: () = assert!(size_of::<TextHead>() == 16, "no implicit padding");
