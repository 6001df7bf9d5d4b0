// SPDX-License-Identifier: Apache-2.0
//! What the ledger tells: allocations, aliases, and what became of each buffer.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    model::{Certainty, Verdict},
    trace::DeviceClass,
};

/// Something that the account learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Entry {
    /// A buffer got memory.
    Allocation(Allocation),
    /// A buffer from before the recording was found live.
    Found(Found),
    /// A buffer was made over memory that it does not own: known if the target reports it as an allocation, or if the
    /// making of such buffers is probed.
    Alias(Alias),
    /// A free, shared bytes, or the end of a buffer, with its verdict.
    Outcome(Outcome),
}

impl Entry {
    /// Process number.
    #[must_use]
    pub fn process(&self) -> u32 {
        match self {
            Self::Allocation(Allocation { buffer, .. })
            | Self::Found(Found { buffer, .. })
            | Self::Outcome(Outcome { buffer, .. }) => buffer.process,
            Self::Alias(alias) => alias.process,
        }
    }

    /// The device of the buffer, as far as it is known.
    #[must_use]
    pub fn device(&self) -> Option<Device> {
        match self {
            Self::Allocation(Allocation { buffer, .. })
            | Self::Found(Found { buffer, .. })
            | Self::Outcome(Outcome { buffer, .. }) => buffer.device,
            Self::Alias(alias) => alias.device,
        }
    }

    /// The buffer's type of memory, as the target numbers them.
    #[must_use]
    pub fn buffer_type(&self) -> u32 {
        match self {
            Self::Allocation(Allocation { buffer, .. })
            | Self::Found(Found { buffer, .. })
            | Self::Outcome(Outcome { buffer, .. }) => buffer.buffer_type,
            Self::Alias(alias) => alias.buffer_type,
        }
    }

    /// Device and type of the memory that it is about; see [`Outcome::owner`].
    #[must_use]
    pub fn memory(&self) -> (Option<Device>, u32) {
        match self {
            Self::Outcome(outcome) => (outcome.owner().device, outcome.owner().buffer_type),
            _ => (self.device(), self.buffer_type()),
        }
    }

    /// The buffer's device address.
    #[must_use]
    pub fn address(&self) -> u64 {
        match self {
            Self::Allocation(Allocation { buffer, .. })
            | Self::Found(Found { buffer, .. })
            | Self::Outcome(Outcome { buffer, .. }) => buffer.address,
            Self::Alias(alias) => alias.address,
        }
    }

    /// The buffer's unique id, if it is known.
    #[must_use]
    pub fn unique_id(&self) -> Option<u64> {
        match self {
            Self::Allocation(Allocation { buffer, .. })
            | Self::Found(Found { buffer, .. })
            | Self::Outcome(Outcome { buffer, .. }) => Some(buffer.unique_id),
            Self::Alias(alias) => alias.unique_id,
        }
    }

    /// Whether it is about a buffer that was live at the end of its process: what nobody did, and comes all at once.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        matches!(self, Self::Outcome(Outcome { verdict: Verdict::Held, .. }))
    }
}

/// A buffer that got memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Allocation {
    /// The buffer.
    pub buffer: Buffer,
    /// When and where: the stack is that of the request.
    pub moment: Moment,
}

/// A buffer that its allocator listed as an owner when the recording began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Found {
    /// The buffer.
    pub buffer: Buffer,
    /// When it was found, nanoseconds after the start.
    pub time: u64,
}

/// A buffer made over memory that it does not own: a chip's part of a mesh buffer, a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Alias {
    /// Process number.
    pub process: u32,
    /// Its unique id; absent if it has none yet.
    pub unique_id: Option<u64>,
    /// The device it is on.
    pub device: Option<Device>,
    /// 0 DRAM, 1 L1, 2 system memory, 3 L1 small, 4 trace.
    pub buffer_type: u32,
    /// Device address.
    pub address: u64,
    /// Bytes on one device.
    pub size: u64,
    /// Unique id of the owner that lives at that address, the latest if there are several.
    pub owner: Option<u64>,
    /// When and where.
    pub moment: Moment,
}

/// What a free was, or what became of a buffer without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Outcome {
    /// The buffer.
    pub buffer: Buffer,
    /// What it was.
    pub verdict: Verdict,
    /// Whether that stands.
    pub certainty: Certainty,
    /// When and where.
    pub moment: Moment,
    /// The free that took effect before this one.
    pub previous: Previous,
    /// Whether this ended the buffer's life. A repeat, a free after a bulk release, or one that leaked, did not.
    pub ends: bool,
    /// The other buffer that it concerns: the owner at the address of an alias (the latest, if several devices have one
    /// there; the last one that was, if none is), the one that a stolen free robbed, the one that an allocation overlaps.
    pub other: Option<Buffer>,
}

impl Outcome {
    /// Whether memory that was seen to be taken, or was found taken, was given back.
    #[must_use]
    pub fn gives_back(&self) -> bool {
        let no_free = matches!(self.verdict, Verdict::Held | Verdict::Failed | Verdict::Phantom | Verdict::Overlap);
        let seen = self.buffer.allocated.is_some() || self.buffer.found;
        self.ends && seen && !no_free && !self.buffer.phantom
    }

    /// The buffer whose memory it is about: of what an alias reports, the owner's, if that is known.
    #[must_use]
    pub fn owner(&self) -> &Buffer {
        match (self.verdict, &self.other) {
            (Verdict::AliasFree, Some(owner)) => owner,
            _ => &self.buffer,
        }
    }
}

/// What is known of the free before a free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Previous {
    /// There was none.
    None,
    /// This one took effect, or leaked.
    Free(Moment, Verdict),
    /// There was none, but the process had closed a device, then and there.
    Close(Moment),
    /// There was one, too many events ago to be remembered, or it is not in the recording.
    Forgotten,
    /// There was one that is not in the recording: before it began, or lost.
    Unseen,
}

/// A buffer, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Buffer {
    /// Process number.
    pub process: u32,
    /// Its number in the process, never reused.
    pub unique_id: u64,
    /// The device it was allocated on; absent if the allocation was not seen.
    pub device: Option<Device>,
    /// How often the device had been opened by then, as far as that was recorded: ids of chips return.
    pub generation: u32,
    /// 0 DRAM, 1 L1, 2 system memory, 3 L1 small, 4 trace.
    pub buffer_type: u32,
    /// Device address, 0 if there is none.
    pub address: u64,
    /// Bytes on one device.
    pub size: u64,
    /// Bytes a page.
    pub page_size: u64,
    /// Bytes that are taken in each bank of the device, alignment included, or would have been; absent if that was not
    /// seen.
    pub bank_bytes: Option<u64>,
    /// The allocator object.
    pub allocator: u64,
    /// Whether there is no memory behind it.
    pub phantom: bool,
    /// Whether it owns no memory: a view, or a chip's part of a mesh buffer. Of a buffer whose allocation was seen, never.
    pub alias: bool,
    /// When and where it was allocated; absent if that was not seen.
    pub allocated: Option<Moment>,
    /// Whether it is from before the recording and was found live.
    pub found: bool,
}

/// A device, or mesh of devices, by its id within its class. An imported source may not tell the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Device {
    /// Meshes and chips count apart.
    #[serde(with = "Class")]
    pub class: DeviceClass,
    /// Id within the class.
    pub id: u32,
}

/// How a [`DeviceClass`] is kept.
#[derive(Deserialize, Serialize)]
#[serde(remote = "DeviceClass")]
enum Class {
    Unknown,
    Chip,
    Mesh,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.class {
            DeviceClass::Chip => write!(f, "chip{}", self.id),
            DeviceClass::Mesh => write!(f, "mesh{}", self.id),
            DeviceClass::Unknown => write!(f, "device{}", self.id),
        }
    }
}

/// When and where something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Moment {
    /// Nanoseconds after the start.
    pub time: u64,
    /// Thread id, 0 if no thread did it.
    pub thread: u32,
    /// Text number of the test that ran, 0 for none.
    pub test: u32,
    /// Stack number, 0 for none.
    pub stack: u32,
}
