// SPDX-License-Identifier: Apache-2.0
//! What each allocator held when the recording began, read when the first event names the allocator.
//!
//! The target is not stopped for it. Between that event and the reading, owners may be freed; but then their frees are
//! events as well. So each owner from before the recording is in the snapshot, or freed by an event, or both.

use std::collections::HashSet;

use tracer_common::{Kind, UNREADABLE_OBJECT};

use super::decode::RawHit;
use crate::{
    discover::owners::{Owner, Owners},
    trace::{Hex, LiveOwner, Record, Snapshot},
};

/// Most allocators that are looked at: no target has so many before it is recorded.
const MOST: usize = 1024;

/// The allocators of one process, as they come up.
pub(super) struct Snapshots {
    process: u32,
    owners: Owners,
    /// The unique id at which the recording began.
    border: u64,
    seen: HashSet<u64>,
}

impl Snapshots {
    /// Begins for a process of this number in the file; `None` if it has made no buffers before.
    pub(super) fn new(process: u32, owners: Owners, border: u64) -> Option<Self> {
        (border > 0).then(|| Self { process, owners, border, seen: HashSet::new() })
    }

    /// The records that a hit gives cause for, at this time.
    ///
    /// Only an allocator that is in use is read: these events come before or after a call of it. One that was released as a
    /// whole has its set as it was.
    pub(super) fn look(&mut self, raw: &RawHit, time: u64) -> Vec<Record> {
        let in_use = matches!(raw.kind, Kind::Request | Kind::Allocated | Kind::Released);
        let allocator = raw.hit.allocator;
        if !in_use || raw.hit.flags & UNREADABLE_OBJECT != 0 || self.seen.len() >= MOST || !self.seen.insert(allocator)
        {
            return Vec::new();
        }
        let found = self.owners.read(allocator, self.border);
        let (found, missing) = match found {
            Ok(found) if found.owners.is_empty() && found.left_out == 0 && found.settled => return Vec::new(),
            Ok(found) => (found, String::new()),
            Err(reason) => (Default::default(), reason),
        };
        let mut records: Vec<Record> =
            found.owners.iter().map(|owner| self.live(owner, allocator, time).into()).collect();
        let snapshot = Snapshot {
            process: self.process,
            time,
            allocator: Hex(allocator),
            owners: found.owners.len() as u64,
            left_out: found.left_out,
            settled: found.settled,
            missing,
        };
        records.push(snapshot.into());
        records
    }

    fn live(&self, owner: &Owner, allocator: u64, time: u64) -> LiveOwner {
        LiveOwner {
            process: self.process,
            time,
            object: Hex(owner.object),
            unique_id: owner.unique_id,
            address: Hex(owner.address),
            size: owner.size,
            page_size: owner.page_size,
            buffer_type: owner.buffer_type,
            device: Hex(owner.device),
            device_class: owner.device_class,
            device_id: owner.device_id,
            allocator: Hex(allocator),
        }
    }
}
