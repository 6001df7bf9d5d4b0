// SPDX-License-Identifier: Apache-2.0
//! The table of what happened: a row an entry, with what makes it readable alone.

use super::rows;
use crate::{
    analysis::{Sites, Step, Steps},
    model::{Buffer, Definitions, Entry, Outcome, Previous},
};

rows! {
    /// One thing that happened: a step of the timeline, where it happened, and what the tables of `report`, `excess` and
    /// `held` are counted by.
    "steps" StepRow {
        /// Host; absent if the trace does not say.
        host: Option<String>,
        /// Process number in this output.
        process: u32,
        /// Process id on the host, 0 if not known.
        pid: u32,
        /// Counts the rows, from 1: what comes later was decided later. Traces come one after the other.
        entry: u64,
        /// `alloc`, `found` (from before the recording), `alias`, `free`, or `end` (no free: a failed request, shared bytes,
        /// or still live at the end).
        what: &'static str,
        /// Counts the allocations and frees of a process, or of a log, each from 1; 0 for what is neither.
        number: u64,
        /// Nanoseconds after the start of the earliest trace; line or node of what was imported.
        time: u64,
        /// Thread id, 0 if no thread did it.
        thread: u32,
        /// Unique id of the buffer in its process; absent for an alias that has none yet.
        buffer: Option<u64>,
        /// Its device, e.g. `mesh0`; absent if its allocation was not seen.
        device: Option<String>,
        /// Its type of memory, e.g. `DRAM`.
        buffer_type: String,
        /// Its address.
        address: u64,
        /// Its bytes on one device.
        bytes: u64,
        /// Test id, without the phase; absent outside of tests.
        test: Option<String>,
        /// Phase of the test: `setup`, `call` or `teardown`.
        phase: Option<&'static str>,
        /// What the free was, or what became of the buffer; absent for an allocation.
        verdict: Option<&'static str>,
        /// `normal`, `yellow`, `excess` or `red`.
        colour: Option<&'static str>,
        /// `confirmed`, or `possible`: what was lost could change it.
        certainty: Option<&'static str>,
        /// Whether this ended the buffer's life.
        ends: bool,
        /// Whether there is no memory behind the buffer.
        phantom: bool,
        /// Whether the buffer is from before the recording and was found live.
        found: bool,
        /// Unique id of the other buffer that the verdict is about: the owner of an alias's memory, the one that a stolen
        /// free robbed, the one that an allocation overlaps.
        other: Option<u64>,
        /// Its device.
        other_device: Option<String>,
        /// Its type of memory.
        other_buffer_type: Option<String>,
        /// Its address.
        other_address: Option<u64>,
        /// Stack number in this output, 0 if there is none.
        stack: u32,
        /// Site: the same in another run.
        site: String,
        /// The site in a few words.
        site_name: String,
        /// When the buffer was allocated; absent if that was not seen.
        allocated: Option<u64>,
        /// The test then.
        allocated_test: Option<String>,
        /// The stack.
        allocated_stack: Option<u32>,
        /// The site.
        allocated_site: Option<String>,
        /// What the free before this one was; absent if there was none, or if it is not known.
        previous_verdict: Option<&'static str>,
        /// Its stack.
        previous_stack: Option<u32>,
    }
}

/// Makes rows of entries.
#[derive(Debug)]
pub(crate) struct StepRows<'a> {
    definitions: &'a Definitions,
    steps: Steps<'a>,
    sites: Sites<'a>,
    entries: u64,
}

impl<'a> StepRows<'a> {
    /// Begins with the definitions of the traces that the entries are of.
    #[must_use]
    pub(crate) fn new(definitions: &'a Definitions) -> Self {
        Self { definitions, steps: Steps::new(definitions), sites: Sites::new(definitions), entries: 0 }
    }

    /// The row of the next entry.
    pub(crate) fn row(&mut self, entry: &Entry) -> StepRow {
        self.entries += 1;
        let step = self.steps.step(entry);
        let definitions = self.definitions;
        let outcome = if let Entry::Outcome(outcome) = entry { Some(outcome) } else { None };
        let other = outcome.and_then(|outcome| outcome.other);
        let buffer = buffer(entry);
        let allocated = buffer.and_then(|buffer| buffer.allocated);
        let previous = outcome.and_then(previous);
        let test = step.test.as_deref().map(parted);
        let site = self.sites.get(step.stack);
        let (site, site_name) = (site.id.clone(), site.name.clone());
        let Step { what, number, time, thread, process, buffer: unique_id, device, buffer_type, .. } = step;
        StepRow {
            host: definitions.hosts.get(&process).cloned(),
            process,
            pid: definitions.processes.get(&process).map_or(0, |it| it.pid),
            entry: self.entries,
            what: what.name(),
            number,
            time,
            thread,
            buffer: unique_id,
            device,
            buffer_type,
            address: step.address,
            bytes: step.bytes,
            test: test.map(|(test, _)| test.to_owned()),
            phase: test.and_then(|(_, phase)| phase),
            verdict: step.verdict.map(|verdict| verdict.name()),
            colour: step.verdict.map(|verdict| verdict.colour().name()),
            certainty: step.certainty.map(|certainty| certainty.name()),
            ends: outcome.is_some_and(|outcome| outcome.ends),
            phantom: buffer.is_some_and(|buffer| buffer.phantom),
            found: buffer.is_some_and(|buffer| buffer.found),
            other: step.other,
            other_device: other.and_then(|other| other.device).map(|device| device.to_string()),
            other_buffer_type: other.map(|other| crate::analysis::buffer_type(other.buffer_type)),
            other_address: other.map(|other| other.address),
            stack: step.stack,
            site,
            site_name,
            allocated: allocated.map(|moment| moment.time),
            allocated_test: allocated.and_then(|moment| definitions.test(&moment)).map(str::to_owned),
            allocated_stack: allocated.map(|moment| moment.stack),
            allocated_site: allocated.map(|moment| self.sites.get(moment.stack).id.clone()),
            previous_verdict: previous.map(|(verdict, _)| verdict),
            previous_stack: previous.map(|(_, stack)| stack),
        }
    }
}

fn buffer(entry: &Entry) -> Option<&Buffer> {
    match entry {
        Entry::Allocation(it) => Some(&it.buffer),
        Entry::Found(it) => Some(&it.buffer),
        Entry::Outcome(it) => Some(&it.buffer),
        Entry::Alias(_) => None,
    }
}

fn previous(outcome: &Outcome) -> Option<(&'static str, u32)> {
    match outcome.previous {
        Previous::Free(moment, verdict) => Some((verdict.name(), moment.stack)),
        Previous::None | Previous::Close(_) | Previous::Forgotten | Previous::Unseen => None,
    }
}

/// A test's id and phase, of what pytest writes: `test_a.py::test_one (call)`.
fn parted(text: &str) -> (&str, Option<&'static str>) {
    let phase =
        |phase: &'static str| Some((text.strip_suffix(')')?.strip_suffix(phase)?.strip_suffix(" (")?, Some(phase)));
    ["setup", "call", "teardown"].into_iter().find_map(phase).unwrap_or((text, None))
}
