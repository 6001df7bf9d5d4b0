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

use std::collections::BTreeMap;

use foldhash::HashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ByKey, Device, Entry, Outcome, Verdict,
    ids::Ids,
    origins::{Origin, Origins, Tally},
};
use crate::trace::{ALLOCATION_SERVER, Event, Kind, Record};

/// The account of every server: of each trace, and of each imported file, one.
#[derive(Debug, Default)]
pub struct Server {
    /// Where the reports of each place are.
    places: HashMap<Place, usize>,
    reports: Vec<Reports>,
    /// The same by place of allocation, if that is asked for.
    origins: Option<Origins>,
    server: u32,
    /// Whether the server has a session already.
    begun: bool,
    clients: ByKey<u32, Client>,
    /// What the event that comes next was to the other ledger.
    verdict: Option<Verdict>,
}

/// A server (each trace and each imported file has its own, from 1), device number and address.
type Place = (u32, u32, u64);

/// What is known of a process that reports.
#[derive(Debug, Default)]
struct Client {
    /// Whether its source tells no buffers apart.
    nameless: bool,
    /// Reported allocations that no free was set against: by unique id, where they were counted.
    live: Ids,
    /// What the last event on each thread that was no report of a free was to the other ledger, and of which buffer.
    verdicts: HashMap<u32, (u64, Verdict)>,
}

/// What was reported about one address of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
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

/// What was reported is all that matters when everything is read.
impl Serialize for Server {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.addresses())
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (places, reports): (Vec<Place>, Vec<Reports>) =
            Vec::<(Place, Reports)>::deserialize(deserializer)?.into_iter().unzip();
        Ok(Self { places: places.into_iter().zip(0..).collect(), reports, ..Self::default() })
    }
}

impl Server {
    /// Counts by place of allocation, too.
    pub(super) fn count_origins(&mut self) {
        self.origins = Some(Origins::default());
    }

    /// What was reported, by server, device number and address, in their order.
    #[must_use]
    pub fn addresses(&self) -> Vec<(&(u32, u32, u64), &Reports)> {
        let mut addresses: Vec<_> = self.places.iter().map(|(place, &at)| (place, &self.reports[at])).collect();
        addresses.sort_unstable_by_key(|(place, _)| **place);
        addresses
    }

    /// What was reported of buffers that were allocated in one place and test at one address, by the device that it was
    /// reported of. In no order, and nothing unless the traces were [read for it](super::read_with_origins).
    pub fn origins(&self) -> impl Iterator<Item = (&(Origin, Device), &Tally)> {
        self.origins.iter().flat_map(Origins::tallies)
    }

    /// Begins the next trace.
    pub(super) fn begin(&mut self) {
        self.server += 1;
        self.begun = false;
        for (_, client) in self.clients.iter_mut() {
            *client = Client { nameless: client.nameless, ..Client::default() };
        }
        self.origins.iter_mut().for_each(Origins::begin);
    }

    /// Takes what the other ledger made of an event, before the event itself.
    pub(super) fn entry(&mut self, event: &Event, entry: &Entry) {
        // Other entries of this event are about what was pending.
        if let Entry::Outcome(Outcome { buffer, verdict, .. }) = entry
            && (event.unique_id == buffer.unique_id || self.is_nameless(event.process))
        {
            self.verdict = Some(*verdict);
        }
        if let Some(origins) = &mut self.origins
            && event.kind == Kind::Allocated
        {
            origins.entry(entry);
        }
    }

    /// Takes the next event.
    pub(super) fn event(&mut self, event: &Event) {
        let verdict = self.verdict.take();
        match event.kind {
            Kind::Released if !event.unreadable => return self.released(event, verdict),
            Kind::ThreadExit if !event.unreadable => return self.end_thread(event),
            Kind::Allocated if !event.unreadable => self.allocated(event),
            _ => {}
        }
        if let Some(verdict) = verdict {
            self.client(event.process).verdicts.insert(event.thread, (event.unique_id, verdict));
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
                self.client(process.id).nameless = true;
            }
            Record::End(end) => {
                self.client(end.process).live = Ids::default();
                self.origins.iter_mut().for_each(|origins| origins.end(end.process));
            }
            _ => {}
        }
    }

    fn allocated(&mut self, event: &Event) {
        let at = self.place(event);
        let client = self.client(event.process);
        let nameless = client.nameless;
        if !nameless {
            client.live.insert(event.unique_id, at);
        }
        let reports = self.report(at, event);
        reports.allocations += 1;
        reports.references += 1;
        self.origins.iter_mut().for_each(|origins| origins.allocated(event, nameless));
    }

    fn released(&mut self, event: &Event, verdict: Option<Verdict>) {
        let client = self.client(event.process);
        let nameless = client.nameless;
        let before = if client.verdicts.is_empty() { None } else { client.verdicts.remove(&event.thread) };
        let before = before.filter(|(unique_id, _)| *unique_id == event.unique_id);
        let verdict = verdict.or(before.map(|(_, verdict)| verdict));
        let known = client.live.remove(event.unique_id);
        let matched = match nameless {
            true => !matches!(verdict, Some(Verdict::PreAttach | Verdict::Unmatched)),
            false => known.is_some(),
        };
        // A device may be gone by now; where the allocation was counted, the free is.
        let at = known.unwrap_or_else(|| self.place(event));
        let reports = self.report(at, event);
        reports.frees += 1;
        let unknown = if nameless { !matched } else { reports.references == 0 };
        reports.unknown += u64::from(unknown);
        reports.references = reports.references.saturating_sub(1);
        if !matched {
            *reports.unmatched.entry(verdict).or_default() += 1;
        }
        let older = matches!(verdict, Some(Verdict::PreAttach | Verdict::Inherited));
        self.origins.iter_mut().for_each(|origins| origins.released(event, nameless, older));
    }

    fn end_thread(&mut self, event: &Event) {
        self.client(event.process).verdicts.remove(&event.thread);
    }

    fn client(&mut self, process: u32) -> &mut Client {
        self.clients.of(process)
    }

    fn is_nameless(&self, process: u32) -> bool {
        self.clients.get(process).is_some_and(|client| client.nameless)
    }

    /// Where the reports are of what is where an event is.
    fn place(&mut self, event: &Event) -> usize {
        let place = (self.server, event.device_id, event.address);
        *self.places.entry(place).or_insert_with(|| {
            self.reports.push(Reports { process: event.process, ..Reports::default() });
            self.reports.len() - 1
        })
    }

    fn report(&mut self, at: usize, event: &Event) -> &mut Reports {
        let reports = &mut self.reports[at];
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
        server.addresses().into_iter().map(row).collect()
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
