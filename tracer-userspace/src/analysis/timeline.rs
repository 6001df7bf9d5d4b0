// SPDX-License-Identifier: Apache-2.0
//! The timeline: everything that happened to a device, an address or a buffer, in order.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Integrity, names};
use crate::model::{
    Allocation, Buffer, Certainty, Definitions, Device, Entry, Model, Moment, Outcome, StackLines, Verdict,
};

/// What to look for; what is absent matches everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// The device.
    pub device: Option<DeviceQuery>,
    /// The device address at which a buffer begins.
    pub address: Option<u64>,
    /// The unique id.
    pub buffer: Option<u64>,
}

/// A device by class and id, or by id alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceQuery {
    /// This one.
    Exactly(Device),
    /// A mesh or a chip with this id.
    Any(u32),
}

/// Steps in the order in which they were decided.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// What happened.
    pub steps: Vec<Step>,
    /// The stacks that the steps name by number.
    pub stacks: BTreeMap<u32, StackLines>,
    /// Frees that match all but the device, which is not known because their allocation was not seen.
    pub without_device: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What it was.
    pub what: What,
    /// Counts allocations and frees, each from 1; 0 for what is neither.
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
    /// No free: a failed request, bytes that were given twice, or a buffer that is still live.
    End,
}

/// Collects a [`Timeline`].
#[derive(Debug)]
pub struct TimelineFold {
    query: Query,
    entries: Vec<Entry>,
    without_device: u64,
}

impl TimelineFold {
    /// Begins with what to look for.
    #[must_use]
    pub fn new(query: Query) -> Self {
        Self { query, entries: Vec::new(), without_device: 0 }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let (Entry::Allocation(Allocation { buffer, .. }) | Entry::Outcome(Outcome { buffer, .. })) = entry else {
            return;
        };
        if !self.query.matches_place(buffer) {
            return;
        }
        match (self.query.device, buffer.device) {
            (Some(_), None) => self.without_device += 1,
            (Some(query), Some(device)) if !query.matches(device) => {}
            _ => self.entries.push(*entry),
        }
    }

    /// Ends in a timeline.
    #[must_use]
    pub fn finish(self, model: &Model) -> Timeline {
        let mut numbers = [0; 3];
        let step = |entry| step(entry, &mut numbers, &model.definitions);
        let steps: Vec<Step> = self.entries.iter().filter_map(step).collect();
        let numbers: BTreeSet<u32> = steps.iter().map(|step| step.stack).collect();
        let stacks =
            numbers.into_iter().filter_map(|number| Some((number, model.definitions.stack(number)?))).collect();
        Timeline { integrity: Integrity::of(model), steps, stacks, without_device: self.without_device }
    }
}

impl Query {
    fn matches_place(&self, buffer: &Buffer) -> bool {
        self.address.is_none_or(|address| address == buffer.address)
            && self.buffer.is_none_or(|unique_id| unique_id == buffer.unique_id)
    }
}

impl DeviceQuery {
    fn matches(self, device: Device) -> bool {
        match self {
            Self::Exactly(wanted) => wanted == device,
            Self::Any(id) => id == device.id,
        }
    }
}

fn step(entry: &Entry, numbers: &mut [u64; 3], definitions: &Definitions) -> Option<Step> {
    match entry {
        Entry::Allocation(Allocation { buffer, moment }) => {
            Some(new_step(What::Alloc, buffer, moment, numbers, definitions))
        }
        Entry::Alias(_) => None,
        Entry::Outcome(Outcome { buffer, moment, verdict, certainty, .. }) => {
            let by_free = moment.thread != 0 && !matches!(verdict, Verdict::Failed | Verdict::Overlap);
            let what = if by_free { What::Free } else { What::End };
            let step = new_step(what, buffer, moment, numbers, definitions);
            Some(Step { verdict: Some(*verdict), certainty: Some(*certainty), ..step })
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
