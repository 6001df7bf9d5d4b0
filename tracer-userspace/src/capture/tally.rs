// SPDX-License-Identifier: Apache-2.0
//! What the events add up to while they are recorded: for the progress line and the summary, not for verdicts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use crate::{
    trace::{Event, Kind, PYTHON_STACKS, STACKS},
    unwind::End,
};

/// Running sums.
#[derive(Debug, Default)]
pub struct Tally {
    /// Events that were kept.
    pub events: u64,
    /// Allocations that succeeded.
    pub allocated: u64,
    /// Frees of owners that were allocated.
    pub freed: u64,
    /// Bytes on one device in owners that were allocated since the recording began and are not freed, of processes that are
    /// recorded still.
    pub live_bytes: u64,
    /// Stacks by how they ended.
    ends: BTreeMap<&'static str, u64>,
    /// Stacks by the state of their Python frames.
    python: BTreeMap<&'static str, u64>,
    /// Size and allocator, by process and unique id.
    live: HashMap<(u32, u64), (u64, u64)>,
    problems: BTreeSet<String>,
    /// Those that the user was not told yet.
    untold: Vec<String>,
}

impl Tally {
    /// Counts an event.
    pub fn event(&mut self, event: &Event) {
        self.events += 1;
        match event.kind {
            Kind::Allocated => {
                self.allocated += 1;
                // An alias may be gone without a word.
                if event.owns {
                    self.live_bytes += event.size;
                    self.live.insert((event.process, event.unique_id), (event.size, event.allocator));
                }
            }
            Kind::Free | Kind::Marked | Kind::Destroyed if event.status != 0 => {
                if event.kind == Kind::Free && event.status == 1 {
                    self.freed += 1;
                }
                let (size, _) = self.live.remove(&(event.process, event.unique_id)).unwrap_or_default();
                self.live_bytes = self.live_bytes.saturating_sub(size);
            }
            Kind::Bulk => {
                let gone = (event.process, event.object);
                self.live.retain(|&(process, _), &mut (_, allocator)| (process, allocator) != gone);
                self.live_bytes = self.live.values().map(|(size, _)| size).sum();
            }
            _ => {}
        }
    }

    /// Forgets what a process has live, which has ended or is recorded no more.
    pub fn end(&mut self, process: u32) {
        self.live.retain(|&(other, _), _| other != process);
        self.live_bytes = self.live.values().map(|(size, _)| size).sum();
    }

    /// Counts how a stack ended, and the state of its Python frames, which is empty if there are none.
    pub fn stack(&mut self, end: End, python: &'static str) {
        *self.ends.entry(end.name()).or_default() += 1;
        if !python.is_empty() {
            *self.python.entry(python).or_default() += 1;
        }
    }

    /// How many stacks ended how, and had which Python frames, by the names of counters.
    pub fn stacks(&self) -> impl Iterator<Item = (String, u64)> {
        let named = |prefix, counts: &'_ BTreeMap<&str, u64>| {
            counts.iter().map(|(name, &count)| (format!("{prefix}{name}"), count)).collect::<Vec<_>>()
        };
        [named(STACKS, &self.ends), named(PYTHON_STACKS, &self.python)].into_iter().flatten()
    }

    /// How many stacks did not end at their outermost function, and how many there are.
    #[must_use]
    pub fn incomplete(&self) -> (u64, u64) {
        let complete = self.ends.get(End::Complete.name()).copied().unwrap_or(0);
        let all = self.ends.values().sum();
        (all - complete, all)
    }

    /// The problems so far.
    pub fn problems(&self) -> Vec<String> {
        self.problems.iter().cloned().collect()
    }

    /// Notes a problem. Whether it is a new one.
    pub fn problem(&mut self, text: &str) -> bool {
        let new = self.problems.insert(text.to_owned());
        if new {
            self.untold.push(text.to_owned());
        }
        new
    }

    /// The problems since this was last asked.
    pub fn take_untold(&mut self) -> Vec<String> {
        mem::take(&mut self.untold)
    }
}
