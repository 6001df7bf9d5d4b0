// SPDX-License-Identifier: Apache-2.0
//! The account of buffers: from events to allocations and verdicts, one event at a time.
//!
//! A buffer is (process, unique id); its address and object are reused at once and identify nothing. Memory is bounded
//! by the live buffers, one pending event a thread, and [`REMEMBERED`](super::REMEMBERED) freed buffers a process.
//!
//! How the target behaves, and what follows:
//!
//! - A request is followed by its allocation on the same thread, or by a free with status "requested" if it failed.
//! - A free of an allocated buffer is followed, as the thread's next event about a buffer, by the release at the
//!   allocator. If it is not, the device was closed before and no allocator was called. So the verdict waits for that
//!   event.
//! - Closing a device releases all buffers of its allocator without a word to them: they are freed again later, without
//!   effect. Such a late free is no excess.
//! - A device that is gone leaves its buffers only marked; newer targets do that inline, and only the destructor of the
//!   buffer, with status "deallocated", shows it.
//! - A gap makes what it touches possible: nothing that happened in it can be ruled out.

mod account;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use account::Account;

use super::{Certainty, Verdict};
use crate::trace::{DeviceClass, Event, Kind, Record};

/// Something that the account learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A buffer got memory.
    Allocation(Allocation),
    /// A free, or the end of a buffer, with its verdict.
    Outcome(Outcome),
}

/// A buffer that got memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The buffer.
    pub buffer: Buffer,
    /// When and where: the stack is that of the request.
    pub moment: Moment,
}

/// What a free was, or what became of a buffer without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Whether this ended the buffer's life. A repeat, or a free after a bulk release, did not.
    pub ends: bool,
}

/// What is known of the free before a free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// There was none.
    None,
    /// This one took effect.
    Free(Moment, Verdict),
    /// There was one, too many buffers ago to be remembered.
    Forgotten,
    /// There was one that is not in the recording: before it began, or lost.
    Unseen,
}

/// A buffer, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Process number.
    pub process: u32,
    /// Its number in the process, never reused.
    pub unique_id: u64,
    /// The device it was allocated on; absent if the allocation was not seen.
    pub device: Option<Device>,
    /// 0 DRAM, 1 L1, 2 system memory, 3 L1 small, 4 trace.
    pub buffer_type: u32,
    /// Device address, 0 if there is none.
    pub address: u64,
    /// Bytes on one device.
    pub size: u64,
    /// The allocator object.
    pub allocator: u64,
    /// Whether there is no memory behind it.
    pub phantom: bool,
    /// When and where it was allocated; absent if that was not seen.
    pub allocated: Option<Moment>,
}

/// A device, or mesh of devices, by its id within its class. An imported source may not tell the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Meshes and chips count apart.
    pub class: DeviceClass,
    /// Id within the class.
    pub id: u32,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// The account of one trace.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<u32, Account>,
    /// Time of the last event, where accounts end that nothing else ended.
    last: u64,
}

impl Ledger {
    /// Takes the next event.
    pub fn event(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        self.last = self.last.max(event.time);
        let account = self.account(event.process);
        if event.unreadable && (event.kind.is_about_buffer() || event.kind == Kind::Bulk) {
            // Without its identity the event is as good as lost.
            account.add_gap(event.time);
            account.unreadable += 1;
            return;
        }
        account.event(event, sink);
    }

    /// Takes the next record; only some matter here.
    pub fn record(&mut self, record: &Record, sink: &mut impl FnMut(&Entry)) {
        match record {
            Record::Border(border) => {
                let account = self.account(border.process);
                account.border = Some(border.next_unique_id);
                account.test = border.test;
            }
            Record::Loss(loss) if loss.process == 0 => {
                self.accounts.values_mut().for_each(|account| account.add_gap(loss.before));
            }
            Record::Loss(loss) => self.account(loss.process).add_gap(loss.before),
            Record::End(end) => {
                self.last = self.last.max(end.time);
                // Only a process that ended by itself has nothing left to do.
                let exited = matches!(end.reason.as_str(), "exited" | "executed");
                self.account(end.process).end(end.time, exited, true, sink);
            }
            _ => {}
        }
    }

    /// Ends the accounts of processes that no `end` ended: the trace was cut.
    pub fn finish(&mut self, sink: &mut impl FnMut(&Entry)) {
        for account in self.accounts.values_mut() {
            account.end(self.last, false, false, sink);
        }
    }

    /// What was odd, as sentences.
    pub fn problems(&self) -> Vec<String> {
        self.accounts.values().flat_map(Account::problems).collect()
    }

    fn account(&mut self, process: u32) -> &mut Account {
        self.accounts.entry(process).or_insert_with(|| Account::new(process))
    }
}
