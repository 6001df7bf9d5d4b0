// SPDX-License-Identifier: Apache-2.0
//! The account of processes that were not probed: their buffers are known by what was reported of them elsewhere.
//!
//! Where the source tells buffers apart (a graph capture), a release is that of its buffer. Where it knows addresses only
//! (an allocation server), a block is live from the first allocation at (device, address) until as many frees; the log
//! may lack messages, so that nothing of it is more than possible:
//!
//! - a further allocation at a live address is taken for an alias, without memory of its own;
//! - a free that leaves others behind is the latest alias's, and as it should be: the server counts references; the last one
//!   releases the block;
//! - a free at an address that was never allocated is of a buffer from before; at one that is free by now, it is
//!   unmatched: a repeat, an alias, another owner or a lost allocation, and the source cannot tell which.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Allocation, Buffer, Certainty, Device, Entry, Moment, Outcome, Previous, Verdict};
use crate::trace::{Event, GRAPH_CAPTURE, Kind, Record};

/// The accounts of one trace.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// Whether a process, by its number, tells its buffers apart.
    processes: BTreeMap<u32, bool>,
    /// By unique id.
    known: BTreeMap<(u32, u64), Buffer>,
    /// By address, whatever the process: a server counts all of its clients together.
    blocks: HashMap<Place, Block>,
    /// Which of them each process has.
    places: BTreeMap<u32, BTreeSet<Place>>,
    /// The last end of a block at each address.
    ended: HashMap<Place, (Buffer, Moment, Verdict)>,
    /// Buffers numbered so far, where the source does not.
    numbered: u64,
    last: u64,
}

type Place = (Device, u64);

/// What is live at an address.
#[derive(Debug)]
struct Block {
    buffer: Buffer,
    /// Those that were allocated beyond it, and not freed yet.
    aliases: Vec<Buffer>,
}

impl Reported {
    /// Whether no process was imported.
    pub(super) fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Whether events of a process belong here.
    pub(super) fn covers(&self, process: u32) -> bool {
        self.processes.contains_key(&process)
    }

    /// Takes the next event of such a process.
    pub(super) fn event(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        self.last = self.last.max(event.time);
        let known = self.processes.get(&event.process).copied().unwrap_or(false);
        match (event.kind, known) {
            (Kind::Allocated, true) => self.allocated(event, sink),
            (Kind::Released, true) => self.released(event, sink),
            (Kind::Allocated, false) => self.allocated_at(event, sink),
            (Kind::Released, false) => self.released_at(event, sink),
            _ => {}
        }
    }

    /// Takes the next record, and says whether it was about such a process alone.
    pub(super) fn record(&mut self, record: &Record, sink: &mut impl FnMut(&Entry)) -> bool {
        match record {
            Record::Session(_) => {
                // What follows is another source, with addresses of its own.
                self.finish(sink);
                self.ended.clear();
                false
            }
            Record::Process(process) if !process.origin.as_str().is_empty() => {
                self.processes.insert(process.id, process.origin.as_str() == GRAPH_CAPTURE);
                true
            }
            Record::End(end) if self.covers(end.process) => {
                self.last = self.last.max(end.time);
                self.end(end.process, end.time, Certainty::Confirmed, sink);
                true
            }
            _ => false,
        }
    }

    /// Ends what no `end` ended.
    pub(super) fn finish(&mut self, sink: &mut impl FnMut(&Entry)) {
        let processes: Vec<u32> = self.processes.keys().copied().collect();
        for process in processes {
            self.end(process, self.last, Certainty::Possible, sink);
        }
    }

    fn allocated(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        let buffer = Buffer { allocated: Some(moment(event)), ..buffer(event) };
        self.known.insert((event.process, event.unique_id), buffer);
        sink(&Entry::Allocation(Allocation { buffer, moment: moment(event) }));
    }

    fn released(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        let (buffer, verdict, certainty) = match self.known.remove(&(event.process, event.unique_id)) {
            Some(buffer) if buffer.phantom => (buffer, Verdict::Phantom, Certainty::Confirmed),
            Some(buffer) => (buffer, Verdict::Released, Certainty::Confirmed),
            None => (buffer(event), Verdict::PreAttach, Certainty::Possible),
        };
        let (moment, previous) = (moment(event), Previous::None);
        sink(&Entry::Outcome(Outcome { buffer, verdict, certainty, moment, previous, ends: true, other: None }));
    }

    fn allocated_at(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        self.numbered += 1;
        let moment = moment(event);
        let mut buffer = Buffer { unique_id: self.numbered, allocated: Some(moment), ..buffer(event) };
        if let Some(block) = self.blocks.get_mut(&place(event)) {
            buffer.phantom = true;
            block.aliases.push(buffer);
        } else {
            self.blocks.insert(place(event), Block { buffer, aliases: Vec::new() });
            self.places.entry(event.process).or_default().insert(place(event));
        }
        sink(&Entry::Allocation(Allocation { buffer, moment }));
    }

    fn released_at(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        let (place, moment) = (place(event), moment(event));
        let mut previous = Previous::None;
        let alias = self.blocks.get_mut(&place).and_then(|block| block.aliases.pop());
        let (buffer, verdict, ends) = match (alias, self.blocks.get(&place)) {
            (Some(alias), _) => (alias, Verdict::Released, true),
            (None, Some(block)) => {
                let buffer = block.buffer;
                self.blocks.remove(&place);
                if let Some(places) = self.places.get_mut(&buffer.process) {
                    places.remove(&place);
                }
                (buffer, if buffer.phantom { Verdict::Phantom } else { Verdict::Released }, true)
            }
            (None, None) => match self.ended.get(&place) {
                Some(&(ended, before, verdict)) => {
                    previous = Previous::Free(before, verdict);
                    (ended, Verdict::Unmatched, false)
                }
                None => {
                    self.numbered += 1;
                    (Buffer { unique_id: self.numbered, ..buffer(event) }, Verdict::PreAttach, true)
                }
            },
        };
        if alias.is_none() {
            self.ended.insert(place, (buffer, moment, verdict));
        }
        let certainty = Certainty::Possible;
        sink(&Entry::Outcome(Outcome { buffer, verdict, certainty, moment, previous, ends, other: None }));
    }

    /// What a process still has is held.
    fn end(&mut self, process: u32, time: u64, certainty: Certainty, sink: &mut impl FnMut(&Entry)) {
        let known = self.known.extract_if((process, 0)..=(process, u64::MAX), |_, _| true);
        let mut held: Vec<_> = known.map(|(_, buffer)| (buffer, certainty)).collect();
        for place in self.places.remove(&process).unwrap_or_default() {
            held.extend(self.blocks.remove(&place).map(|block| (block.buffer, Certainty::Possible)));
        }
        held.sort_by_key(|(buffer, _)| buffer.unique_id);
        let moment = Moment { time, ..Moment::default() };
        for (buffer, certainty) in held {
            let verdict = if buffer.phantom { Verdict::Phantom } else { Verdict::Held };
            let previous = Previous::None;
            sink(&Entry::Outcome(Outcome { buffer, verdict, certainty, moment, previous, ends: true, other: None }));
        }
    }
}

fn place(event: &Event) -> Place {
    (device(event), event.address)
}

fn device(event: &Event) -> Device {
    Device { class: event.device_class, id: event.device_id }
}

fn moment(event: &Event) -> Moment {
    Moment { time: event.time, thread: event.thread, test: 0, stack: event.stack }
}

fn buffer(event: &Event) -> Buffer {
    Buffer {
        process: event.process,
        unique_id: event.unique_id,
        device: Some(device(event)),
        generation: 0,
        buffer_type: event.buffer_type,
        address: event.address,
        size: event.size,
        page_size: event.page_size,
        bank_bytes: None,
        allocator: event.allocator,
        phantom: event.hooked,
        // No source tells.
        alias: false,
        allocated: None,
        found: false,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::model::{Allocation, Entry, Outcome, read_text};

    fn entries(text: &str) -> String {
        let mut shown = String::new();
        read_text(text, &mut |entry| {
            shown += &match entry {
                Entry::Allocation(Allocation { buffer, moment }) => {
                    let alias = if buffer.phantom { " without memory" } else { "" };
                    format!("{} p{} allocated {}{alias}\n", moment.time, buffer.process, buffer.unique_id)
                }
                Entry::Found(_) => panic!("no log tells what was there before"),
                Entry::Alias(alias) => format!("{} p{} alias\n", alias.moment.time, alias.process),
                Entry::Outcome(Outcome { buffer, verdict, certainty, moment, .. }) => {
                    let what = format!("{} p{} {} {}", moment.time, buffer.process, verdict.name(), buffer.unique_id);
                    format!("{what} of {} {certainty:?}\n", buffer.size)
                }
            };
        });
        shown
    }

    #[test]
    fn a_server_knows_addresses_only_so_nothing_is_sure() {
        let text = "
            process id=1 pid=7 origin=allocation-server
            process id=2 pid=8 origin=allocation-server
            event 1 t=1 p=1 allocated address=0x100 size=64 id=4
            event 2 t=2 p=1 allocated address=0x100 size=64 id=4
            event 3 t=3 p=1 released address=0x100 id=4
            event 4 t=4 p=2 released address=0x100 id=4
            event 5 t=5 p=2 released address=0x100 id=4
            event 6 t=6 p=2 released address=0x200 id=4
            event 7 t=7 p=2 released address=0x200 id=4
            event 8 t=8 p=1 allocated address=0x100 size=32 id=5
            event 9 t=9 p=2 allocated address=0x300 size=16 id=4
            end process=2 time=9 reason=exited";
        expect![[r#"
            1 p1 allocated 1
            2 p1 allocated 2 without memory
            3 p1 released 2 of 64 Possible
            4 p1 released 1 of 64 Possible
            5 p1 unmatched 1 of 64 Possible
            6 p2 pre-attach 3 of 0 Possible
            7 p2 unmatched 3 of 0 Possible
            8 p1 allocated 4
            9 p2 allocated 5
            9 p2 held 5 of 16 Possible
            9 p1 held 4 of 32 Possible
        "#]]
        .assert_eq(&entries(text));
    }

    #[test]
    fn a_graph_tells_its_buffers_apart() {
        let text = "
            process id=1 origin=graph-capture
            event 3 t=3 p=1 allocated uid=2 address=0x100 size=64
            event 5 t=5 p=1 allocated uid=4 size=64 hooked=1
            event 8 t=8 p=1 released uid=2 address=0x100 size=64
            event 9 t=9 p=1 allocated uid=7 address=0x100 size=128
            event 11 t=11 p=1 released uid=10 size=256
            end process=1 time=12 reason=capture-ended";
        expect![[r#"
            3 p1 allocated 2
            5 p1 allocated 4 without memory
            8 p1 released 2 of 64 Confirmed
            9 p1 allocated 7
            11 p1 pre-attach 10 of 256 Possible
            12 p1 phantom 4 of 64 Confirmed
            12 p1 held 7 of 128 Confirmed
        "#]]
        .assert_eq(&entries(text));
    }
}
