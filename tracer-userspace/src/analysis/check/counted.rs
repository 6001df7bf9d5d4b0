// SPDX-License-Identifier: Apache-2.0
//! What expectations are held against: allocations and frees by address and place of allocation, in both ledgers.

use std::rc::Rc;

use foldhash::{HashMap, HashSet};

use crate::{
    analysis::{Selection, Site, names, sites::Sites},
    model::{Buffer, Certainty, Device, Entry, Model, Moment, Origin, Outcome, Verdict},
};

/// The rows of both ledgers.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// What really happened: allocations and frees of owners, with the frees that came again or by an alias.
    pub allocator: Vec<Counted>,
    /// What was reported to the graph tracker, of aliases too if they report.
    pub server: Vec<Counted>,
}

/// What was counted at one address of one device for one place of allocation.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Process number.
    pub process: u32,
    /// Device, absent if it is not known.
    pub device: Option<String>,
    /// Type of memory, e.g. `L1`.
    pub buffer_type: String,
    /// The address.
    pub address: u64,
    /// The test that allocated, absent if there was none.
    pub test: Option<String>,
    /// Where it allocated.
    pub site: Rc<Site>,
    /// Allocations.
    pub allocations: u64,
    /// Frees, also those beyond the allocations. What a device's close releases, and what leaks, is none.
    pub frees: u64,
    /// Whether these numbers stand.
    pub certainty: Certainty,
}

/// Collects [`Counts`]. Its memory grows with the number of addresses and of places that allocate.
#[derive(Debug, Default)]
pub struct CountedFold {
    counts: HashMap<Key, Count>,
}

/// What rows are told apart by, in numbers of the traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    process: u32,
    device: Option<Device>,
    buffer_type: u32,
    address: u64,
    test: u32,
    stack: u32,
}

impl Key {
    fn of(origin: Origin, device: Device) -> Self {
        let Origin { process, buffer_type, address, test, stack } = origin;
        Self { process, device: Some(device), buffer_type, address, test, stack }
    }

    fn origin(self) -> Origin {
        let Self { process, buffer_type, address, test, stack, .. } = self;
        Origin { process, buffer_type, address, test, stack }
    }

    fn row(self, count: &Count, sites: &mut Sites) -> Counted {
        Counted {
            process: self.process,
            device: names::device(self.device),
            buffer_type: names::buffer_type(self.buffer_type),
            address: self.address,
            test: names::test_of(sites.definitions(), self.test),
            site: Rc::clone(sites.get(self.stack)),
            allocations: count.allocations,
            frees: count.frees,
            certainty: if count.possible { Certainty::Possible } else { Certainty::Confirmed },
        }
    }
}

#[derive(Debug, Default)]
struct Count {
    allocations: u64,
    frees: u64,
    possible: bool,
    /// Whether it was not seen what became of some. What was counted stands, unless events were lost.
    unseen: bool,
}

impl CountedFold {
    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Allocation(it) if !it.buffer.phantom => self.count(&it.buffer, &it.moment).allocations += 1,
            Entry::Allocation(_) | Entry::Found(_) | Entry::Alias(_) => {}
            Entry::Outcome(outcome) => self.outcome(outcome),
        }
    }

    /// Ends in rows of both ledgers, in no order that matters, of the allocations that a filter takes; of the server ledger there
    /// are none unless the traces were read [for it](crate::model::read_with_origins).
    #[must_use]
    pub fn finish(self, model: &Model, selection: &Selection) -> Counts {
        let mut sites = Sites::new(&model.definitions);
        let losses: HashSet<u32> = model.definitions.losses.iter().map(|loss| loss.process).collect();
        let has_lost = |process: u32| losses.contains(&0) || losses.contains(&process);
        let mut allocator = Vec::new();
        for (key, mut count) in self.counts {
            if !selection.takes_origin(&key.origin(), key.device) {
                continue;
            }
            count.possible |= count.unseen && has_lost(key.process);
            allocator.push(key.row(&count, &mut sites));
        }
        let mut server = Vec::new();
        for (&(origin, device), tally) in model.server.origins() {
            if selection.takes_origin(&origin, Some(device)) {
                let (allocations, frees, possible) = (tally.allocations, tally.frees, has_lost(origin.process));
                let count = Count { allocations, frees, possible, unseen: false };
                server.push(Key::of(origin, device).row(&count, &mut sites));
            }
        }
        Counts { allocator, server }
    }

    /// A free counts where its buffer was allocated; one whose allocation was not seen is none of ours.
    fn outcome(&mut self, outcome: &Outcome) {
        let Outcome { verdict, certainty, .. } = outcome;
        let buffer = outcome.owner();
        let Some(allocated) = buffer.allocated.filter(|_| !buffer.phantom) else {
            return;
        };
        // What its device's close released was not freed, unless it is later; what leaked is taken still.
        let no_free =
            matches!(verdict, Verdict::Held | Verdict::Failed | Verdict::Overlap | Verdict::Bulk | Verdict::Leaked);
        let count = self.count(buffer, &allocated);
        count.frees += u64::from(!no_free);
        match verdict {
            Verdict::Held => count.unseen |= *certainty == Certainty::Possible,
            _ => count.possible |= *certainty == Certainty::Possible,
        }
    }

    fn count(&mut self, buffer: &Buffer, allocated: &Moment) -> &mut Count {
        let key = Key {
            process: buffer.process,
            device: buffer.device,
            buffer_type: buffer.buffer_type,
            address: buffer.address,
            test: allocated.test,
            stack: allocated.stack,
        };
        self.counts.entry(key).or_default()
    }
}
