// SPDX-License-Identifier: Apache-2.0
//! The server's ledger by place of allocation, for whoever has expectations of it. Unlike the rest of the model, its memory
//! grows with how many different places, tests and addresses come together.

use foldhash::HashMap;

use super::{Device, Entry, Moment};
use crate::trace::Event;

/// What was reported, by where it was allocated.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// By the device that it was reported of, too.
    tallies: HashMap<(Origin, Device), Tally>,
    /// Reported allocations that no free was set against: by process and unique id.
    live: HashMap<u32, HashMap<u64, Origin>>,
    /// The latest reported allocation at each address.
    latest: HashMap<Memory, Origin>,
    /// When and where the allocation that comes next was made, and the owner of what it is about.
    moment: Option<(Moment, Option<u64>)>,
}

/// Process, type and address, whatever the device. A log tells neither processes nor types apart.
type Memory = (u32, u32, u64);

/// What reported buffers have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Process number.
    pub process: u32,
    /// Type of memory, as the target numbers them.
    pub buffer_type: u32,
    /// The address.
    pub address: u64,
    /// Text number of the test that allocated, 0 for none.
    pub test: u32,
    /// Stack number of the allocation, or of its owner's where an alias has none; 0 for none.
    pub stack: u32,
}

/// How much was reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Allocations.
    pub allocations: u64,
    /// Frees. One whose buffer no allocation was reported of belongs to the latest allocation at its address.
    pub frees: u64,
}

impl Origins {
    /// What was counted, in no order.
    pub(super) fn tallies(&self) -> impl Iterator<Item = (&(Origin, Device), &Tally)> {
        self.tallies.iter()
    }

    /// Begins another server.
    pub(super) fn begin(&mut self) {
        self.live.clear();
        self.latest.clear();
    }

    /// Takes what the other ledger made of a reported allocation, before that itself.
    pub(super) fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Allocation(allocation) => self.moment = Some((allocation.moment, None)),
            Entry::Alias(alias) => self.moment = Some((alias.moment, alias.owner)),
            Entry::Outcome(_) | Entry::Found(_) => {}
        }
    }

    /// Takes a reported allocation. `nameless` if its source tells no buffers apart.
    pub(super) fn allocated(&mut self, event: &Event, nameless: bool) {
        let (moment, owner) = self.moment.take().unwrap_or_default();
        let live = self.live.entry(event.process).or_default();
        let owner = owner.and_then(|owner| live.get(&owner));
        let stack = owner.map_or(0, |owner| owner.stack);
        let origin = Origin {
            process: event.process,
            buffer_type: event.buffer_type,
            address: event.address,
            test: moment.test,
            stack: if moment.stack == 0 { stack } else { moment.stack },
        };
        if !nameless {
            live.insert(event.unique_id, origin);
        }
        self.latest.insert(memory(event, nameless), origin);
        self.tally(origin, event).allocations += 1;
    }

    /// Takes a reported free; `older` if its buffer is older than the recording.
    pub(super) fn released(&mut self, event: &Event, nameless: bool, older: bool) {
        let known = self.live.get_mut(&event.process).and_then(|live| live.remove(&event.unique_id));
        let latest = self.latest.get(&memory(event, nameless)).copied().filter(|_| !older);
        if let Some(origin) = known.or(latest) {
            self.tally(origin, event).frees += 1;
        }
    }

    /// A process ended.
    pub(super) fn end(&mut self, process: u32) {
        self.live.remove(&process);
    }

    fn tally(&mut self, origin: Origin, event: &Event) -> &mut Tally {
        let device = Device { class: event.device_class, id: event.device_id };
        self.tallies.entry((origin, device)).or_default()
    }
}

fn memory(event: &Event, nameless: bool) -> Memory {
    match nameless {
        true => (0, 0, event.address),
        false => (event.process, event.buffer_type, event.address),
    }
}
