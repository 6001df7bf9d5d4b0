// SPDX-License-Identifier: Apache-2.0
//! The server's ledger: what a server would have counted that keeps a log of all that the graph trackers report.
//!
//! Such a server knows a buffer by the number of its device and its address, and nothing else. Process, type of memory and
//! class of device are not in its key, so that a mesh and a chip of one number, or DRAM and L1, fall together. An entry
//! of `track_allocate` is an allocation, one of `track_deallocate` a free: of everything that is reported. Released
//! targets report owners only; a modified one in which views and the chip buffers of a mesh report, or marked buffers,
//! calls the same two functions for them.
//!
//! Each free is set against the allocation of the same buffer; what finds none has the verdict of the other ledger, and
//! that is what explains an excess. Memory grows with the number of addresses and of live buffers.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Device, Entry, Moment, Outcome, Verdict};
use crate::trace::{ALLOCATION_SERVER, Event, Kind, Record};

/// The account of every server: of each trace, and of each imported file, one.
#[derive(Debug, Default)]
pub struct Server {
    /// What was reported of buffers that were allocated in one place and test at one address, by the device that it was
    /// reported of.
    pub origins: HashMap<(Origin, Device), Tally>,
    /// What was reported, by server (each trace and each imported file has its own, from 1), device number and address.
    pub addresses: BTreeMap<(u32, u32, u64), Reports>,
    server: u32,
    /// Whether the server has a session already.
    begun: bool,
    /// Processes whose source tells no buffers apart.
    nameless: HashSet<u32>,
    /// Reported allocations that no free was set against: by process and unique id, where they were counted.
    live: BTreeMap<(u32, u64), Counted>,
    /// The latest reported allocation of each process at each type and address.
    latest: HashMap<(u32, u32, u64), Origin>,
    /// When and where the event that comes next was done, and the owner of what it is about.
    moment: Option<(Moment, Option<u64>)>,
    /// What the last event on each thread was to the other ledger.
    verdicts: HashMap<(u32, u32), (u64, Verdict)>,
}

/// Device number and address, and the origin, by which a reported allocation was counted.
type Counted = ((u32, u64), Origin);

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

/// What was reported about one address of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// Process number of the first report.
    pub process: u32,
    /// Allocations.
    pub allocations: u64,
    /// Frees.
    pub frees: u64,
    /// Of these, frees for which the server had no buffer: its reference count was 0.
    pub unknown: u64,
    references: u64,
    /// The types of memory, a bit for each number.
    pub types: u8,
    /// Frees without an allocation of the same buffer, by their verdict.
    pub unmatched: BTreeMap<Option<Verdict>, u64>,
}

impl Reports {
    /// Frees beyond the allocations.
    #[must_use]
    pub fn excess(&self) -> u64 {
        self.frees.saturating_sub(self.allocations)
    }
}

impl Server {
    /// Begins the next trace.
    pub(super) fn begin(&mut self) {
        self.server += 1;
        self.begun = false;
        self.live.clear();
        self.latest.clear();
        self.verdicts.clear();
    }

    /// Takes what the other ledger made of an event, before the event itself.
    pub(super) fn entry(&mut self, event: &Event, entry: &Entry) {
        match entry {
            Entry::Allocation(allocation) => self.moment = Some((allocation.moment, None)),
            Entry::Alias(alias) => self.moment = Some((alias.moment, alias.owner)),
            // Other entries of this event are about what was pending.
            Entry::Outcome(Outcome { buffer, verdict, .. })
                if self.nameless.contains(&event.process) || event.unique_id == buffer.unique_id =>
            {
                self.verdicts.insert((event.process, event.thread), (event.unique_id, *verdict));
            }
            Entry::Found(_) | Entry::Outcome(_) => {}
        }
    }

    /// Takes the next event.
    pub(super) fn event(&mut self, event: &Event) {
        let (moment, owner) = self.moment.take().unwrap_or_default();
        match event.kind {
            _ if event.unreadable => {}
            Kind::Allocated => self.allocated(event, moment, owner),
            Kind::Released => self.released(event),
            Kind::ThreadExit => drop(self.verdicts.remove(&(event.process, event.thread))),
            _ => {}
        }
    }

    /// Takes the next record.
    pub(super) fn record(&mut self, record: &Record) {
        match record {
            Record::Session(_) => {
                if self.begun {
                    self.begin();
                }
                self.begun = true;
            }
            Record::Process(process) if process.origin.as_str() == ALLOCATION_SERVER => {
                self.nameless.insert(process.id);
            }
            Record::End(end) => {
                let ended: Vec<_> =
                    self.live.range((end.process, 0)..=(end.process, u64::MAX)).map(|it| *it.0).collect();
                for key in ended {
                    self.live.remove(&key);
                }
            }
            _ => {}
        }
    }

    fn allocated(&mut self, event: &Event, moment: Moment, owner: Option<u64>) {
        let place = (event.device_id, event.address);
        let owner = owner.and_then(|owner| self.live.get(&(event.process, owner)));
        let origin = Origin {
            process: event.process,
            buffer_type: event.buffer_type,
            address: event.address,
            test: moment.test,
            stack: owner
                .map_or(moment.stack, |(_, origin)| if moment.stack == 0 { origin.stack } else { moment.stack }),
        };
        if !self.nameless.contains(&event.process) {
            self.live.insert((event.process, event.unique_id), (place, origin));
        }
        self.latest.insert(self.memory(event), origin);
        self.tally(origin, event).allocations += 1;
        let reports = self.reports(event, place);
        reports.allocations += 1;
        reports.references += 1;
    }

    fn released(&mut self, event: &Event) {
        let verdict = self.verdicts.remove(&(event.process, event.thread));
        let verdict = verdict.filter(|(unique_id, _)| *unique_id == event.unique_id).map(|(_, verdict)| verdict);
        // A device may be gone by now; where the allocation was counted, the free is.
        let known = self.live.remove(&(event.process, event.unique_id));
        let nameless = self.nameless.contains(&event.process);
        let matched = match nameless {
            true => !matches!(verdict, Some(Verdict::PreAttach | Verdict::Unmatched)),
            false => known.is_some(),
        };
        let older = matches!(verdict, Some(Verdict::PreAttach | Verdict::Inherited));
        let latest = self.latest.get(&self.memory(event)).copied().filter(|_| !older);
        if let Some(origin) = known.map(|(_, origin)| origin).or(latest) {
            self.tally(origin, event).frees += 1;
        }
        let reports = self.reports(event, known.map_or((event.device_id, event.address), |(place, _)| place));
        reports.frees += 1;
        let unknown = if nameless { !matched } else { reports.references == 0 };
        reports.unknown += u64::from(unknown);
        reports.references = reports.references.saturating_sub(1);
        if !matched {
            *reports.unmatched.entry(verdict).or_default() += 1;
        }
    }

    /// Where an event's memory is, whatever the device. A log tells neither processes nor types apart.
    fn memory(&self, event: &Event) -> (u32, u32, u64) {
        match self.nameless.contains(&event.process) {
            true => (0, 0, event.address),
            false => (event.process, event.buffer_type, event.address),
        }
    }

    fn tally(&mut self, origin: Origin, event: &Event) -> &mut Tally {
        let device = Device { class: event.device_class, id: event.device_id };
        self.origins.entry((origin, device)).or_default()
    }

    fn reports(&mut self, event: &Event, (device, address): (u32, u64)) -> &mut Reports {
        let new = || Reports { process: event.process, ..Reports::default() };
        let reports = self.addresses.entry((self.server, device, address)).or_insert_with(new);
        reports.types |= 1_u8.checked_shl(event.buffer_type).unwrap_or(0);
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::read_text;

    fn count(text: &str) -> Vec<String> {
        let server = read_text(text, &mut |_| {}).server;
        let row = |((_, device, address), it): (&(u32, u32, u64), &Reports)| {
            let unmatched: Vec<String> = it
                .unmatched
                .iter()
                .map(|(verdict, count)| format!("{count} {}", verdict.map_or("?", Verdict::name)))
                .collect();
            let sums = format!("{}-{} unknown {}", it.allocations, it.frees, it.unknown);
            format!("{device} {address:#x}: {sums} types {:#b} [{}]", it.types, unmatched.join(", "))
        };
        server.addresses.iter().map(row).collect()
    }

    #[test]
    fn processes_types_and_classes_of_devices_fall_together() {
        let text = "
            process id=1 pid=7
            border process=1 next_unique_id=0
            event 1 t=1 p=1 tid=7 allocated uid=0 owns=1 address=0x100 size=64 class=mesh id=2 type=1 allocator=0xa
            event 2 t=2 p=1 tid=7 allocated uid=1 owns=1 address=0x100 size=64 class=chip id=2 allocator=0xb
            event 3 t=3 p=2 tid=8 allocated uid=0 owns=1 address=0x100 size=64 class=chip id=2 allocator=0xc
            event 4 t=4 p=1 tid=7 free uid=0 address=0x100 size=64 status=1
            event 5 t=5 p=1 tid=7 released uid=0 address=0x100 size=64 status=1 class=mesh id=2 type=1";
        assert_eq!(count(text), ["2 0x100: 3-1 unknown 0 types 0b11 []"]);
    }

    #[test]
    fn an_excess_has_the_verdicts_of_the_other_ledger() {
        // The buffer with id 3 is older than the recording; what has no free reaches no tracker.
        let text = "
            process id=1 pid=7
            border process=1 next_unique_id=10
            event 1 t=1 p=1 tid=7 allocated uid=12 owns=1 address=0x100 size=64 class=mesh
            event 2 t=2 p=1 tid=7 free uid=12 address=0x100 size=64 status=1
            event 3 t=3 p=1 tid=7 released uid=12 address=0x100 size=64 status=1 class=mesh
            event 4 t=4 p=1 tid=7 free uid=12 address=0x100 size=64 status=2
            event 5 t=5 p=1 tid=7 free uid=3 address=0x100 size=64 status=1
            event 6 t=6 p=1 tid=7 released uid=3 address=0x100 size=64 status=1 class=mesh";
        assert_eq!(count(text), ["0 0x100: 1-2 unknown 1 types 0b1 [1 pre-attach]"]);
    }

    /// A target in which marked buffers report a free, those of chips too: one tensor on a mesh of two.
    fn modified_target(chips_report_allocations: bool) -> Vec<String> {
        let backing = "uid=0 address=0x100 size=64 class=mesh id=0 allocator=0xa owns=1";
        let chips = [0, 1].map(|chip| format!("uid={} address=0x100 size=64 class=chip id={chip} owns=0", chip + 1));
        let mut text = format!("process id=1 pid=7\nborder process=1\nevent 1 t=1 p=1 tid=7 allocated {backing}\n");
        for (chip, n) in chips.iter().zip([2, 3]).filter(|_| chips_report_allocations) {
            text += &format!("event {n} t={n} p=1 tid=7 allocated {chip} status=1\n");
        }
        for (chip, n) in chips.iter().zip([4, 6]) {
            text += &format!("event {n} t={n} p=1 tid=7 marked {chip} status=1\n");
            text += &format!("event {} t={0} p=1 tid=7 released {chip} status=1\n", n + 1);
        }
        text += &format!("event 8 t=8 p=1 tid=7 free {backing} status=1\n");
        text += &format!("event 9 t=9 p=1 tid=7 released {backing} status=1\n");
        count(&text)
    }

    #[test]
    fn mesh_and_chip_0_are_one_device_and_aliases_free_what_was_never_allocated() {
        let even = ["0 0x100: 2-2 unknown 0 types 0b1 []", "1 0x100: 1-1 unknown 0 types 0b1 []"];
        assert_eq!(modified_target(true), even);
        let excess = |device, sums| format!("{device} 0x100: {sums} unknown 1 types 0b1 [1 alias-free]");
        assert_eq!(modified_target(false), [excess(0, "1-2"), excess(1, "0-1")]);
    }

    #[test]
    fn each_log_is_a_server_of_its_own() {
        let log = "
            session tool=a
            process id=N pid=7 origin=allocation-server
            event 1 t=1 p=N allocated address=0x100 size=64
            event 2 t=2 p=N released address=0x100
            event 3 t=3 p=N released address=0x100";
        let two = [log.replace('N', "1"), log.replace('N', "2")].concat();
        assert_eq!(count(&two), ["0 0x100: 1-2 unknown 1 types 0b1 [1 unmatched]"; 2]);
    }
}
