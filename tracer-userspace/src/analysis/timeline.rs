// SPDX-License-Identifier: Apache-2.0
//! The timeline: everything that happened to a device, an address or a buffer, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{Clock, Integrity, names};
use crate::model::{Allocation, Buffer, Certainty, Definitions, Entry, Model, Moment, Outcome, StackLines, Verdict};

/// Which buffers to look for; what is absent matches everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// The device address at which a buffer begins.
    pub address: Option<u64>,
    /// The unique id.
    pub buffer: Option<u64>,
}

/// Steps, of each trace in the order in which they were decided; those of several traces are in the order of their times.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// What happened.
    pub steps: Vec<Step>,
    /// The stacks that the steps name by number.
    pub stacks: BTreeMap<u32, StackLines>,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What it was.
    pub what: What,
    /// Counts the allocations and frees of a process, or of a log, each from 1; 0 for what is neither.
    pub number: u64,
    /// When.
    pub time: u64,
    /// Thread id, 0 if no thread did it.
    pub thread: u32,
    /// Process number.
    pub process: u32,
    /// Unique id of the buffer.
    pub buffer: u64,
    /// Its device.
    pub device: Option<String>,
    /// Its type of memory.
    pub buffer_type: String,
    /// Its address.
    pub address: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The test that ran and its phase, as pytest writes them: `test_a.py::test_one (call)`.
    pub test: Option<String>,
    /// The verdict; absent for an allocation.
    pub verdict: Option<Verdict>,
    /// Whether the verdict stands.
    pub certainty: Option<Certainty>,
    /// Number of the stack, 0 if there is none.
    pub stack: u32,
}

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Memory was given to a buffer.
    Alloc,
    /// A free.
    Free,
    /// The end of something without a free: a failed request, or a buffer that is still live.
    End,
}

/// Collects a [`Timeline`].
#[derive(Debug)]
pub struct TimelineFold {
    query: Query,
    entries: Vec<Entry>,
}

impl TimelineFold {
    /// Begins with what to look for.
    #[must_use]
    pub fn new(query: Query) -> Self {
        Self { query, entries: Vec::new() }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let (Entry::Allocation(Allocation { buffer, .. }) | Entry::Outcome(Outcome { buffer, .. })) = entry;
        if self.query.matches(buffer) {
            self.entries.push(*entry);
        }
    }

    /// Ends in a timeline.
    #[must_use]
    pub fn finish(self, model: &Model) -> Timeline {
        let integrity = Integrity::of(model);
        // A log counts all of its processes together.
        let number_of = |process| if integrity.clock(process) == Clock::Lines { 0 } else { process };
        let mut numbers: HashMap<u32, [u64; 3]> = HashMap::new();
        let mut numbered = |entry: &Entry| {
            let (Entry::Allocation(Allocation { buffer, .. }) | Entry::Outcome(Outcome { buffer, .. })) = entry;
            step(entry, numbers.entry(number_of(buffer.process)).or_default(), &model.definitions)
        };
        let mut steps: Vec<Step> = self.entries.iter().map(&mut numbered).collect();
        if model.definitions.sessions.len() > 1 {
            // Lines and nodes come after what has a time.
            steps.sort_by_key(|step| (integrity.clock(step.process) != Clock::Time, step.time));
        }
        let numbers: BTreeSet<u32> = steps.iter().map(|step| step.stack).collect();
        let stacks =
            numbers.into_iter().filter_map(|number| Some((number, model.definitions.stack(number)?))).collect();
        Timeline { integrity, steps, stacks }
    }
}

impl Query {
    fn matches(&self, buffer: &Buffer) -> bool {
        self.address.is_none_or(|address| address == buffer.address)
            && self.buffer.is_none_or(|unique_id| unique_id == buffer.unique_id)
    }
}

fn step(entry: &Entry, numbers: &mut [u64; 3], definitions: &Definitions) -> Step {
    match entry {
        Entry::Allocation(Allocation { buffer, moment }) => new_step(What::Alloc, buffer, moment, numbers, definitions),
        Entry::Outcome(Outcome { buffer, moment, verdict, certainty, .. }) => {
            let by_free = match verdict {
                Verdict::Held | Verdict::Failed => false,
                // An imported free has no thread.
                Verdict::Released | Verdict::PreAttach | Verdict::AliasFree | Verdict::Unmatched => true,
                _ => moment.thread != 0,
            };
            let what = if by_free { What::Free } else { What::End };
            let step = new_step(what, buffer, moment, numbers, definitions);
            Step { verdict: Some(*verdict), certainty: Some(*certainty), ..step }
        }
    }
}

fn new_step(what: What, buffer: &Buffer, moment: &Moment, numbers: &mut [u64; 3], definitions: &Definitions) -> Step {
    numbers[what as usize] += 1;
    Step {
        what,
        number: if what == What::End { 0 } else { numbers[what as usize] },
        time: moment.time,
        thread: moment.thread,
        process: buffer.process,
        buffer: buffer.unique_id,
        device: names::device(buffer.device),
        buffer_type: names::buffer_type(buffer.buffer_type),
        address: buffer.address,
        bytes: buffer.size,
        test: definitions.text(moment.test).map(str::to_owned),
        verdict: None,
        certainty: None,
        stack: moment.stack,
    }
}
