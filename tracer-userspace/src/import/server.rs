// SPDX-License-Identifier: Apache-2.0
//! The log of an allocation server as part of a trace.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufRead},
};

use anyhow::{Context, Result};

use super::{
    Format, Importer, Oddities, Summary, event,
    line::{self, Message, Piece, What},
};
use crate::trace::{ALLOCATION_SERVER, CounterValue, End, Event, Item, Kind, Loss, Process};

/// Most bytes of a line that are looked at; no message is nearly as long.
const LONGEST: usize = 16 << 10;

/// Reads a log to its end. Memory grows with the live buffers and the processes.
pub(super) fn import(
    importer: &mut Importer,
    name: &str,
    mut input: impl BufRead,
    sink: &mut impl FnMut(Item),
) -> Result<Summary> {
    let mut log = Log::new(importer, name);
    let mut bytes = Vec::new();
    while next_line(&mut input, &mut bytes).context("failed to read on")? {
        log.number += 1;
        line::read(&String::from_utf8_lossy(&bytes), &mut |piece| log.piece(&piece, sink));
    }
    Ok(log.finish(sink))
}

/// A log that is being read.
struct Log<'a> {
    importer: &'a mut Importer,
    name: &'a str,
    /// Number of the line, from 1.
    number: u64,
    processes: BTreeMap<Option<u32>, Client>,
    /// What the server should have, by device and address.
    live: HashMap<(u32, u64), Held>,
    /// Whether this server says how many references there are.
    counts_references: bool,
    /// Messages that could not be read and are not stated yet, after the line of the last one that could.
    lost: u64,
    last: u64,
    events: u64,
    others: u64,
    broken: Oddities,
    foreign: Oddities,
    placeless: Oddities,
    refused: Oddities,
    contradictions: Oddities,
}

/// A process that the server names.
struct Client {
    process: u32,
    /// Whether the server did not see it dead since its last message.
    alive: bool,
    /// The line where it was seen dead.
    died: u64,
}

struct Held {
    references: u64,
    owner: Option<u32>,
    since: u64,
}

impl<'a> Log<'a> {
    fn new(importer: &'a mut Importer, name: &'a str) -> Self {
        Self {
            importer,
            name,
            number: 0,
            processes: BTreeMap::new(),
            live: HashMap::new(),
            counts_references: false,
            lost: 0,
            last: 0,
            events: 0,
            others: 0,
            broken: Oddities::default(),
            foreign: Oddities::default(),
            placeless: Oddities::default(),
            refused: Oddities::default(),
            contradictions: Oddities::default(),
        }
    }

    fn piece(&mut self, piece: &Piece, sink: &mut impl FnMut(Item)) {
        match piece {
            Piece::Message(message) => self.message(message, sink),
            Piece::Broken(text) => {
                self.lost += 1;
                self.broken.add(self.number, text);
            }
            Piece::Dead(pid) => self.dead(*pid, sink),
            Piece::Other => self.others += 1,
            Piece::Foreign(text) => self.foreign.add(self.number, text),
        }
    }

    fn message(&mut self, message: &Message, sink: &mut impl FnMut(Item)) {
        let Some(device) = message.device else {
            self.lost += 1;
            self.placeless.add(self.number, &format!("buffer {:#x}", message.address));
            return;
        };
        if message.what == What::Refused {
            self.refused.add(self.number, &format!("buffer {:#x} on device {device}", message.address));
            return;
        }
        self.state_loss(sink);
        self.compare(message, device);
        let process = self.process(message.pid, sink);
        let (kind, size, buffer_type) = match message.what {
            What::Allocated { size, buffer_type, .. } => (Kind::Allocated, size, buffer_type),
            What::Freed { size, .. } => (Kind::Released, size, None),
            What::Unknown | What::Refused => (Kind::Released, 0, None),
        };
        let blank = event(kind, process, self.number);
        let buffer_type = buffer_type.unwrap_or(blank.buffer_type);
        sink(Item::Event(Event { address: message.address, size, buffer_type, device_id: device, ..blank }));
        self.events += 1;
        self.last = self.number;
    }

    /// Whether the message fits those before it: if not, the log lacks some, or the server was started anew.
    fn compare(&mut self, message: &Message, device: u32) {
        let key = (device, message.address);
        let died = |owner| self.processes.get(&owner).map_or(0, |client| client.died);
        let held = self.live.get(&key).filter(|held| died(held.owner) < held.since);
        let before = held.map_or(0, |held| held.references);
        let owner = held.map_or(message.pid, |held| held.owner);
        let (fits, now) = match message.what {
            What::Allocated { references: Some(count), .. } => (count == before.saturating_add(1), count),
            What::Allocated { .. } if self.counts_references => (before == 0, 1),
            What::Allocated { .. } => (true, before.saturating_add(1)),
            What::Freed { references: Some(left), .. } => (left.checked_add(1) == Some(before), left),
            What::Freed { .. } => (before > 0, before.saturating_sub(1)),
            What::Unknown => (before == 0, 0),
            What::Refused => return,
        };
        if !fits {
            self.contradictions.add(self.number, &format!("buffer {:#x} on device {device}", message.address));
        }
        if now == 0 {
            self.live.remove(&key);
        } else {
            self.live.insert(key, Held { references: now, owner, since: self.number });
        }
        self.counts_references |= matches!(
            message.what,
            What::Allocated { references: Some(_), .. } | What::Freed { references: Some(_), .. }
        );
    }

    /// The number of a process in the trace.
    fn process(&mut self, pid: Option<u32>, sink: &mut impl FnMut(Item)) -> u32 {
        if let Some(client) = self.processes.get_mut(&pid) {
            client.alive = true;
            return client.process;
        }
        self.importer.processes += 1;
        let id = self.importer.processes;
        self.processes.insert(pid, Client { process: id, alive: true, died: 0 });
        sink(
            Process {
                id,
                pid: pid.unwrap_or(0),
                command: self.name.to_owned(),
                origin: ALLOCATION_SERVER.into(),
                ..Process::default()
            }
            .into(),
        );
        id
    }

    fn dead(&mut self, pid: u32, sink: &mut impl FnMut(Item)) {
        if let Some(client) = self.processes.get_mut(&Some(pid)) {
            (client.alive, client.died) = (false, self.number);
            sink(End { process: client.process, time: self.number, reason: "dead".into() }.into());
        }
        self.others += 1;
    }

    /// Writes down what was lost since the last message.
    fn state_loss(&mut self, sink: &mut impl FnMut(Item)) {
        if self.lost > 0 {
            let (after, before) = (self.last, self.number);
            sink(Loss { process: 0, after, before, count: self.lost, cause: "unreadable".into() }.into());
            self.lost = 0;
        }
    }

    fn finish(mut self, sink: &mut impl FnMut(Item)) -> Summary {
        self.state_loss(sink);
        for client in self.processes.values().filter(|client| client.alive) {
            sink(End { process: client.process, time: self.number, reason: "log-ended".into() }.into());
        }
        for (oddities, what) in [
            (&self.broken, "messages that could not be read"),
            (&self.placeless, "messages that name no device, and count as lost"),
            (&self.refused, "allocations that the server refused for their type"),
            (&self.contradictions, "messages that contradict those before them, because the log lacks some"),
            (&self.foreign, "lines that no allocation server prints"),
        ] {
            oddities.report(self.name, what, "line", sink);
        }
        let counters = [("import.lines", self.number), ("import.other", self.others)];
        for (name, value) in counters {
            sink(CounterValue { name: name.into(), value }.into());
        }
        Summary {
            format: Format::AllocationServer,
            events: self.events,
            processes: self.processes.len() as u32,
            parts: self.number,
            unreadable: self.broken.count + self.placeless.count,
        }
    }
}

/// Reads the next line, without its end; of one that is too long, the begin. False at the end.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let bytes = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if bytes.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = memchr::memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        line.extend_from_slice(&part[..part.len().min(LONGEST - line.len())]);
        let used = end.map_or(bytes.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::trace::text::show;

    fn import_text(log: &[u8]) -> (String, Summary) {
        let mut shown = String::new();
        let mut sink = |item: Item| shown += &(show(&item) + "\n");
        let summary = import(&mut Importer::default(), "a.log", log, &mut sink).expect("it is in memory");
        (shown, summary)
    }

    #[test]
    fn a_log_becomes_events_and_what_it_lacks_is_said() {
        let log = "\
✓ [PID 7] Allocated 512 bytes of DRAM on device 4 (buffer_id=256)
  Device 4:
✓ [PID 8] Allocated 512 bytes of L1 on device 4 (buffer_id=256, ref_count=2)
✓ [PID 7] Allocated 64 bytes of DRAM on dev
✗ [PID 7] Freed buffer 256 on device 4 (512 bytes, ref_count=1 remaining)
✗ [PID 7] Freed buffer 0x100 on device 4 (512 bytes, FINAL)
tests/test_a.py PASSED
⚠ [PID 8] Deallocation for unknown buffer 256 on device 4 (allocated before tracking started)
✗ [PID 7] Freed buffer 512 on device 4 (64 bytes, FINAL)
   PID 8 is dead, removing its buffers...
⚠ Warning: Deallocation for unknown buffer 999
⚠ [PID 7] Invalid buffer_type 9 for buffer 1024 on device 4
";
        let (items, summary) = import_text(log.as_bytes());
        expect![[r#"
            process id=1 pid=7 command="a.log" origin=allocation-server
            event 1 t=1 p=1 allocated address=0x100 size=512 id=4
            process id=2 pid=8 command="a.log" origin=allocation-server
            event 3 t=3 p=2 allocated address=0x100 size=512 type=1 id=4
            loss after=3 before=5 count=1 cause=unreadable
            event 5 t=5 p=1 released address=0x100 size=512 type=4294967295 id=4
            event 6 t=6 p=1 released address=0x100 size=512 type=4294967295 id=4
            event 8 t=8 p=2 released address=0x100 type=4294967295 id=4
            event 9 t=9 p=1 released address=0x200 size=64 type=4294967295 id=4
            end process=2 time=10 reason=dead
            loss after=9 before=12 count=1 cause=unreadable
            end process=1 time=12 reason=log-ended
            problem text="a.log: messages that could not be read: 1 (line 4: “Allocated 64 bytes of DRAM on dev”)"
            problem text="a.log: messages that name no device, and count as lost: 1 (line 11: “buffer 0x3e7”)"
            problem text="a.log: allocations that the server refused for their type: 1 (line 12: “buffer 0x400 on device 4”)"
            problem text="a.log: messages that contradict those before them, because the log lacks some: 1 (line 9: “buffer 0x200 on device 4”)"
            problem text="a.log: lines that no allocation server prints: 1 (line 7: “tests/test_a.py PASSED”)"
            counter name=import.lines value=12
            counter name=import.other value=2
        "#]]
        .assert_eq(&items);
        assert_eq!((summary.events, summary.processes, summary.parts, summary.unreadable), (6, 2, 12, 2));
    }

    #[test]
    fn a_log_in_a_burst_of_bytes_costs_no_memory_and_no_panic() {
        let endless = [b"Allocated ".repeat(1 << 16), b"\xff\x00[PID \n".to_vec(), b"Freed buffer 1".to_vec()].concat();
        let (_, summary) = import_text(&endless);
        assert_eq!((summary.parts, summary.events), (2, 0));
        let mut line = Vec::new();
        assert!(next_line(&mut &endless[..], &mut line).expect("read"));
        assert_eq!(line.len(), LONGEST);
    }
}
