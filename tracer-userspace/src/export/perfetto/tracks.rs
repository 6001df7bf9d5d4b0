// SPDX-License-Identifier: Apache-2.0
//! The rows: a group for each process, in it its tests, its gaps, and a group for each type of memory of each device.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::{
    packets::Packets,
    schema::{BYTES, CounterDescriptor, EXPLICIT, ProcessDescriptor, TracePacket, TrackDescriptor},
};
use crate::{
    analysis::{Clock, Integrity, names},
    model::{Buffer, Definitions, Device, Model},
    trace::{Process, escape},
};

/// Longer command lines are cut where they are names.
const LONGEST_COMMAND: usize = 60;

/// One type of memory of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Memory {
    /// Process number.
    pub(super) process: u32,
    /// Device, if it is known.
    pub(super) device: Option<Device>,
    /// Type of memory.
    pub(super) buffer_type: u32,
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Track {
    /// A process; 0 for what belongs to none.
    Process(u32),
    /// Its tests.
    Tests(u32),
    /// Its losses.
    Losses(u32),
    /// A memory.
    Memory(Memory),
    /// Its bytes live.
    Bytes(Memory),
    /// Its bytes live in each bank.
    BankBytes(Memory),
    /// The frees beyond its allocations, and the frees before them.
    Excess(Memory),
    /// What else happened that is no life.
    Others(Memory),
    /// A lane of its lives.
    Lane(Memory, u32),
}

/// Gives out numbers of rows; a row is written before its first event.
pub(super) struct Tracks {
    numbers: HashMap<Track, u64>,
    processes: BTreeMap<u32, ProcessDescriptor>,
}

impl Memory {
    pub(super) fn of(buffer: &Buffer) -> Self {
        Self { process: buffer.process, device: buffer.device, buffer_type: buffer.buffer_type }
    }
}

impl Tracks {
    pub(super) fn new(model: &Model) -> Self {
        let integrity = Integrity::of(model);
        let mut pids: HashMap<u32, u32> = HashMap::new();
        for process in model.definitions.processes.values() {
            *pids.entry(process.pid).or_default() += 1;
        }
        let descriptor = |(&number, process): (&u32, &Process)| {
            // Perfetto takes processes of one id for one, be they of several hosts, or one after the other.
            let own = process.pid != 0 && pids.get(&process.pid) == Some(&1);
            let pid = i32::try_from(process.pid).ok().filter(|_| own);
            let cmdline = vec![escape(&process.command)];
            let process_name = Some(process_name(number, &model.definitions, integrity.clock(number)));
            (number, ProcessDescriptor { pid, cmdline, process_name })
        };
        Self { numbers: HashMap::new(), processes: model.definitions.processes.iter().map(descriptor).collect() }
    }

    /// The number of a row.
    pub(super) fn number(&mut self, track: Track, packets: &mut Packets) -> Result<u64> {
        if let Some(&number) = self.numbers.get(&track) {
            return Ok(number);
        }
        let parent = match track {
            Track::Process(_) => None,
            Track::Tests(process) | Track::Losses(process) => Some(Track::Process(process)),
            Track::Memory(memory) => Some(Track::Process(memory.process)),
            Track::Bytes(memory)
            | Track::BankBytes(memory)
            | Track::Excess(memory)
            | Track::Others(memory)
            | Track::Lane(memory, _) => Some(Track::Memory(memory)),
        };
        let parent_uuid = parent.map(|parent| self.number(parent, packets)).transpose()?;
        // 0 stands for the whole trace.
        let uuid = self.numbers.len() as u64 + 1;
        self.numbers.insert(track, uuid);
        let descriptor = TrackDescriptor { uuid: Some(uuid), parent_uuid, ..self.describe(track) };
        packets.send(TracePacket { track_descriptor: Some(descriptor), ..TracePacket::default() })?;
        Ok(uuid)
    }

    fn describe(&self, track: Track) -> TrackDescriptor {
        let named = |name: &str, rank: i32| TrackDescriptor {
            name: Some(name.to_owned()),
            sibling_order_rank: Some(rank),
            ..TrackDescriptor::default()
        };
        let counter = |name, rank| TrackDescriptor {
            counter: Some(CounterDescriptor { unit: Some(BYTES) }),
            ..named(name, rank)
        };
        match track {
            Track::Process(number) => self.describe_process(number),
            Track::Tests(_) => named("tests", 0),
            Track::Losses(_) => named("lost events", 1),
            Track::Memory(memory) => {
                let device = names::device(memory.device).unwrap_or_else(|| "unknown device".to_owned());
                let name = format!("{device} {}", names::buffer_type(memory.buffer_type));
                TrackDescriptor { child_ordering: Some(EXPLICIT), ..named(&name, 2) }
            }
            Track::Bytes(_) => counter("bytes live", 0),
            Track::BankBytes(_) => counter("bytes live in each bank", 1),
            Track::Excess(_) => named("excess frees", 2),
            Track::Others(_) => named("other findings", 3),
            // Rows of one name are shown as one that is as high as it must be.
            Track::Lane(..) => named("buffers", 4),
        }
    }

    fn describe_process(&self, number: u32) -> TrackDescriptor {
        let Some(process) = self.processes.get(&number) else {
            return TrackDescriptor { name: Some("all processes".to_owned()), ..TrackDescriptor::default() };
        };
        let ordering = TrackDescriptor { child_ordering: Some(EXPLICIT), ..TrackDescriptor::default() };
        match process.pid {
            Some(_) => TrackDescriptor { process: Some(process.clone()), ..ordering },
            None => TrackDescriptor { name: process.process_name.clone(), ..ordering },
        }
    }
}

fn process_name(number: u32, definitions: &Definitions, clock: Clock) -> String {
    let command = definitions.processes.get(&number).map_or("", |process| process.command.as_str());
    let short: String = command.chars().take(LONGEST_COMMAND).collect();
    let more = if short.len() < command.len() { "…" } else { "" };
    let times = match clock {
        Clock::Time => "",
        Clock::Lines => " (a nanosecond is a line of the log)",
        Clock::Nodes => " (a nanosecond is a node of the graph)",
    };
    escape(&format!("{}: {short}{more}{times}", names::process(number, definitions)))
}
