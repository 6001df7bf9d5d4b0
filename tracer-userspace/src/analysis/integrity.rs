// SPDX-License-Identifier: Apache-2.0
//! How far the traces can be trusted: what was recorded, what was lost, and what is damaged.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Selected;
use crate::{
    model::{Definitions, Model},
    trace::{ALLOCATION_SERVER, GRAPH_CAPTURE, HITS, Kind, PYTHON_STACKS, STACKS, kind_word},
};

/// What every view says about its traces.
#[derive(Clone, Debug, Serialize)]
pub struct Integrity {
    /// Wall-clock time that all times are relative to, in nanoseconds since 1970; `null` if the traces do not say.
    pub start_ns: Option<u64>,
    /// The traced processes, in the order of their numbers.
    pub processes: Vec<ProcessRow>,
    /// Events in the traces.
    pub events: u64,
    /// Events lost, by cause.
    pub losses: Vec<LossRow>,
    /// Events that the kernel side sent and that are neither in the traces nor among the losses, which would be a silent
    /// loss; `null` if no trace has the total to compare.
    pub unaccounted: Option<i64>,
    /// Totals that were counted while recording.
    pub counters: Vec<CounterRow>,
    /// Stacks by how they ended: `complete`, or why not.
    pub stacks: Vec<CounterRow>,
    /// Python parts of stacks by their state: `complete`, `uncertain` (all there, but maybe in the wrong places),
    /// `nameless` (all there, one without its name), or why some are missing.
    pub python_stacks: Vec<CounterRow>,
    /// Kinds of probes that were attached and never fired: the target did no such thing, or does it in another way.
    pub never_fired: Vec<String>,
    /// What was odd, damaged or missing, as sentences.
    pub problems: Vec<String>,
    /// Whether a trace could not be read to its end.
    pub damaged: bool,
    /// What is shown, where that is not everything. What is above is about whole traces all the same.
    pub selected: Option<Selected>,
}

/// A traced process.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessRow {
    /// Number in this output.
    pub process: u32,
    /// Its host; `null` if the trace does not say.
    pub host: Option<String>,
    /// Process id on its host, 0 if not known.
    pub pid: u32,
    /// Process id in its container; `null` if it is in none.
    pub inner_pid: Option<u32>,
    /// Command line. Of an imported process, the name of the file.
    pub command: String,
    /// Number of the process that it was forked from, as a copy of it; `null` if that is not recorded.
    pub parent: Option<u32>,
    /// What it was imported from, `allocation-server` or `graph-capture`; `null` if it was recorded.
    pub origin: Option<String>,
    /// When it ended, or recording it did.
    pub end: Option<u64>,
    /// `exited`, `executed`, `interrupted` or `failed`, or of an imported one `dead`, `log-ended` or `capture-ended`; `null` if the
    /// trace was cut.
    pub reason: Option<String>,
}

/// What the times of a process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Nanoseconds after the start.
    Time,
    /// Lines of a log, from 1.
    Lines,
    /// Nodes of a graph, by their numbers.
    Nodes,
}

/// Lost events.
#[derive(Clone, Debug, Serialize)]
pub struct LossRow {
    /// Where they were lost.
    pub cause: String,
    /// How many.
    pub events: u64,
    /// In how many gaps.
    pub gaps: u64,
}

/// A total.
#[derive(Clone, Debug, Serialize)]
pub struct CounterRow {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

impl Integrity {
    /// How many events are missing, as far as that is known.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let known = self.losses.iter().fold(0, |sum: u64, loss| sum.saturating_add(loss.events));
        known.saturating_add(self.unaccounted.map_or(0, i64::unsigned_abs))
    }

    /// Takes it from what was read, as if everything is shown.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let definitions = &model.definitions;
        let counters = definitions.counters.iter().map(|(name, &value)| CounterRow { name: name.clone(), value });
        Self {
            start_ns: definitions.sessions.iter().map(|session| session.wall_ns).filter(|&ns| ns != 0).min(),
            processes: processes(model),
            events: model.events,
            losses: losses(model),
            unaccounted: model.unaccounted,
            counters: counters.collect(),
            stacks: by_prefix(model, STACKS),
            python_stacks: by_prefix(model, PYTHON_STACKS),
            never_fired: never_fired(model),
            problems: problems(model),
            damaged: !model.damages.is_empty(),
            selected: None,
        }
    }

    /// What the times of a process are.
    #[must_use]
    pub fn clock(&self, process: u32) -> Clock {
        let row = self.processes.binary_search_by_key(&process, |row| row.process).ok();
        row.map_or(Clock::Time, |row| self.processes[row].clock())
    }
}

impl ProcessRow {
    /// What its times are.
    #[must_use]
    pub fn clock(&self) -> Clock {
        match self.origin.as_deref() {
            Some(ALLOCATION_SERVER) => Clock::Lines,
            Some(GRAPH_CAPTURE) => Clock::Nodes,
            _ => Clock::Time,
        }
    }
}

/// The traced processes.
pub(super) fn processes(model: &Model) -> Vec<ProcessRow> {
    let definitions = &model.definitions;
    let row = |(&process, it): (&u32, &crate::trace::Process)| {
        let end = definitions.ends.get(&process);
        ProcessRow {
            process,
            host: definitions.hosts.get(&process).cloned(),
            pid: it.pid,
            inner_pid: Some(it.inner_pid).filter(|&pid| pid != 0),
            command: it.command.clone(),
            parent: (it.parent != 0).then_some(it.parent),
            origin: Some(it.origin.to_string()).filter(|origin| !origin.is_empty()),
            end: end.map(|end| end.time),
            reason: end.map(|end| end.reason.to_string()),
        }
    };
    definitions.processes.iter().map(row).collect()
}

/// Lost events by cause.
pub(super) fn losses(model: &Model) -> Vec<LossRow> {
    let mut by_cause: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for loss in &model.definitions.losses {
        let (events, gaps) = by_cause.entry(loss.cause.as_str()).or_default();
        *events = events.saturating_add(loss.count);
        *gaps += 1;
    }
    by_cause.into_iter().map(|(cause, (events, gaps))| LossRow { cause: cause.to_owned(), events, gaps }).collect()
}

fn by_prefix(model: &Model, prefix: &str) -> Vec<CounterRow> {
    let counters = model.definitions.counters.iter();
    let named = counters.filter_map(|(name, &value)| Some((name.strip_prefix(prefix)?, value)));
    named.map(|(name, value)| CounterRow { name: name.to_owned(), value }).collect()
}

fn never_fired(model: &Model) -> Vec<String> {
    let silent = by_prefix(model, HITS).into_iter().filter(|row| row.value == 0).map(|row| row.name);
    // These two tell the recorder what to forget: it has nothing to say that they were not hit.
    silent.filter(|kind| ![Kind::Modules, Kind::CodeFreed].map(kind_word).contains(&kind.as_str())).collect()
}

fn problems(model: &Model) -> Vec<String> {
    let definitions = &model.definitions;
    let mut problems = problems_so_far(model);
    for (process, it) in &definitions.processes {
        if !definitions.ends.contains_key(process) {
            let what = if it.origin.as_str().is_empty() { "recording" } else { "source" };
            problems.push(format!("the {what} of process {process} has no end: it is still being made, or was cut"));
        }
    }
    problems
}

/// What was odd, as sentences, as far as a trace is no whole yet.
pub(super) fn problems_so_far(model: &Model) -> Vec<String> {
    let definitions = &model.definitions;
    let mut problems = Vec::new();
    let hosts: BTreeSet<&String> = definitions.hosts.values().collect();
    if hosts.len() > 1 {
        let hosts = hosts.len();
        problems
            .push(format!("these are traces of {hosts} hosts: their times compare as well as the hosts' clocks do"));
    }
    for (name, damage) in &model.damages {
        problems.push(format!("{name} is damaged at byte {}: {}; what is before it is shown", damage.at, damage.what));
    }
    problems.extend(recorded_twice(definitions));
    if model.skipped > 0 {
        problems.push(format!("{} items were skipped, which only a newer tt-buftrace can read", model.skipped));
    }
    for probe in definitions.probes.iter().filter(|probe| !probe.missing.is_empty()) {
        problems.push(format!("probe {} ({}) is not attached: {}", probe.kind, probe.symbol, probe.missing));
    }
    problems.extend(definitions.problems.iter().cloned());
    problems
}

/// Several recordings of one process at once, e.g. a trace that was given twice: nothing tells their events apart.
fn recorded_twice(definitions: &Definitions) -> Vec<String> {
    let mut recordings: BTreeMap<(Option<&String>, u32, u64), Vec<Recorded>> = BTreeMap::new();
    for (&process, it) in definitions.processes.iter().filter(|(_, it)| it.pid != 0 && it.start != 0) {
        let recorded = Recorded::of(process, definitions);
        recordings.entry((definitions.hosts.get(&process), it.pid, it.start)).or_default().push(recorded);
    }
    let mut problems = Vec::new();
    for mut recordings in recordings.into_values() {
        recordings.sort_by_key(|it| (it.begin, it.process));
        let mut end = 0;
        for several in recordings.chunk_by(|one, next| {
            end = one.end.max(end);
            next.begin < end
        }) {
            if let [_, _, ..] = several {
                let processes: Vec<String> = several.iter().map(|it| it.process.to_string()).collect();
                problems.push(format!(
                    "processes {} are recordings of one process: what several of them have counts as often",
                    processes.join(", ")
                ));
            }
        }
    }
    problems
}

/// What a recording has of a process: a program from some time on until the process executes the next one. Unless it does,
/// what lives at the end of a recording is in the next one, too.
struct Recorded {
    process: u32,
    begin: u64,
    end: u64,
}

impl Recorded {
    fn of(process: u32, definitions: &Definitions) -> Self {
        let executed = definitions.ends.get(&process).filter(|end| end.reason.as_str() == "executed");
        Self {
            process,
            begin: definitions.borders.get(&process).map_or(0, |border| border.time),
            end: executed.map_or(u64::MAX, |end| end.time),
        }
    }
}
