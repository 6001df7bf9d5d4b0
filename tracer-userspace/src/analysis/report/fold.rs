// SPDX-License-Identifier: Apache-2.0
//! How the report is counted.

use std::{cmp::Reverse, rc::Rc};

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use super::{CircularRow, Failure, Peak, Report, TestRow, Total, VerdictRow};
use crate::{
    analysis::{
        Filter, Integrity, Selection,
        balance::{BalanceFold, ServerScope},
        by_verdict::ByVerdict,
        holders::Snapshot,
        names,
        sites::Sites,
        totals::{Memory, MemorySum, TestSum, Totals, is_free, memory},
    },
    model::{Allocation, ByKey, CircularSum, Device, Entry, Found, Model, Outcome, Verdict},
};

/// How many failed requests are shown, with what was live then.
const FAILURES: usize = 5;

/// Collects a [`Report`]. What it takes grows with the number of addresses, and of memories and tests, not with that of
/// events.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct ReportFold {
    /// By the memory that entries are about: some of them are what a fold has that was given their entries alone.
    parts: ByKey<Memory, Part>,
    /// Requests that were not met so far.
    failed: u64,
    #[serde(skip)]
    without_peaks: bool,
    #[serde(skip)]
    server: ServerScope,
}

/// What the entries about one memory come to.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Part {
    entries: u64,
    totals: Totals,
    /// An alias is in another memory than the owner that its free counts for, so that this may have several.
    balance: BalanceFold,
    failures: Vec<Failed>,
}

/// A request that was not met, how many of any memory were not before, and what was live.
#[derive(Debug, Deserialize, Serialize)]
struct Failed {
    before: u64,
    outcome: Outcome,
    live: Snapshot,
}

impl ReportFold {
    /// Begins one for the entries that a filter takes. They may be an allocation without its free, or the other way
    /// round, which leaves no peaks.
    #[must_use]
    pub fn new(filter: &Filter) -> Self {
        Self { without_peaks: filter.parts_lives(), server: ServerScope::of(filter), ..Self::default() }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let (device, buffer_type) = entry.memory();
        self.parts.of((entry.process(), device, buffer_type)).entry(entry, &mut self.failed);
    }

    /// Tells a selection of the memories that the entries are about.
    pub(in crate::analysis) fn show_memories(&self, selection: &mut Selection) {
        self.parts.iter().for_each(|((_, device, buffer_type), _)| selection.sees(*device, *buffer_type));
    }

    /// Of all entries, leaves those of a selection that takes whole memories.
    pub(in crate::analysis) fn select(self, selection: &mut Selection) -> Self {
        self.show_memories(selection);
        let mut parts = self.parts.into_all();
        parts.retain(|&((_, device, buffer_type), ref part)| selection.takes_memory(device, buffer_type, part.entries));
        Self { parts: parts.into(), failed: self.failed, ..Self::new(selection.filter()) }
    }

    /// Ends in a report that names at most so many offenders.
    #[must_use]
    pub fn finish(self, top: usize, model: &Model) -> Report {
        let peaks = !self.without_peaks;
        let sites = &mut Sites::new(&model.definitions);
        let (mut all, mut balance, mut failures) = (Vec::new(), BalanceFold::default(), Vec::new());
        for (_, part) in self.parts.into_all() {
            all.push(part.totals);
            balance.merge(part.balance);
            failures.extend(part.failures);
        }
        let memories: Vec<_> = all.iter().flat_map(|totals| totals.memories.iter()).collect();
        let mut verdicts: ByVerdict<[u64; 2]> = ByVerdict::default();
        all.iter().for_each(|totals| verdicts.merge(&totals.verdicts));
        let failed = verdicts.of(Verdict::Failed).iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        failures.sort_by_key(|failed| failed.before);
        failures.truncate(FAILURES);
        let other_failures = failed.saturating_sub(failures.len() as u64);
        let mut live = memories.clone();
        live.retain(|(_, sum)| peaks && sum.live.peak().0 > 0);
        live.sort_by_key(|(_, sum)| Reverse(sum.live.peak().0));
        let hidden_peaks = live.len().saturating_sub(top);
        live.truncate(top);
        Report {
            integrity: Integrity::of(model),
            totals: memories.into_iter().map(|(memory, sum)| sum.total(*memory, peaks, model)).collect(),
            verdicts: verdicts.iter().map(|(verdict, counts)| VerdictRow::new(verdict, counts)).collect(),
            circular: circular(model),
            balance: balance.finish(top, &model.server, self.server),
            peaks: live.into_iter().map(|(memory, sum)| sum.peak(*memory, sites)).collect(),
            hidden_peaks,
            failures: failures.into_iter().map(|failed| failed.row(peaks, sites)).collect(),
            other_failures,
            tests: test_rows(all.iter().flat_map(|totals| totals.tests.iter()), model),
        }
    }
}

impl Part {
    /// Takes the next entry, before which so many requests failed.
    fn entry(&mut self, entry: &Entry, failed: &mut u64) {
        self.entries += 1;
        self.totals.entry(entry);
        match entry {
            Entry::Allocation(Allocation { buffer, .. }) if !buffer.phantom => self.balance.allocation(buffer),
            Entry::Found(Found { buffer, .. }) => self.balance.allocation(buffer),
            Entry::Allocation(_) | Entry::Alias(_) => {}
            Entry::Outcome(outcome) if is_free(outcome) => self.balance.outcome(outcome),
            Entry::Outcome(outcome) if outcome.verdict == Verdict::Failed => {
                self.failure(outcome, *failed);
                *failed += 1;
            }
            Entry::Outcome(_) => {}
        }
    }

    fn failure(&mut self, outcome: &Outcome, before: u64) {
        if self.failures.len() < FAILURES {
            let live = self.totals.memories.get(memory(&outcome.buffer)).map(|sum| sum.live.now());
            self.failures.push(Failed { before, outcome: *outcome, live: live.unwrap_or_default() });
        }
    }
}

impl MemorySum {
    fn total(&self, (process, device, buffer_type): Memory, peaks: bool, model: &Model) -> Total {
        let (peak_bytes, peak) = self.live.peak();
        Total {
            process,
            device: names::device(device),
            buffer_type: names::buffer_type(buffer_type),
            found: self.found.0,
            bytes_found: self.found.1,
            allocations: self.allocations,
            frees: self.frees,
            bytes_allocated: self.bytes_allocated,
            bytes_freed: self.bytes_freed,
            live: self.held.0,
            bytes_live: self.held.1,
            peak_bytes: peaks.then_some(peak_bytes),
            peak_time: peaks.then_some(peak.time),
            peak_test: names::test(&model.definitions, &peak).filter(|_| peaks),
        }
    }

    fn peak(&self, (process, device, buffer_type): Memory, sites: &mut Sites) -> Peak {
        Peak {
            process,
            device: names::device(device),
            buffer_type: names::buffer_type(buffer_type),
            time: self.live.peak().1.time,
            held: self.live.at_peak(sites),
        }
    }
}

impl Failed {
    fn row(self, peaks: bool, sites: &mut Sites) -> Failure {
        let Outcome { buffer, moment, certainty, .. } = self.outcome;
        Failure {
            process: buffer.process,
            device: names::device(buffer.device),
            buffer_type: names::buffer_type(buffer.buffer_type),
            time: moment.time,
            bytes: buffer.size,
            bank_bytes: buffer.bank_bytes,
            certainty,
            test: names::test(sites.definitions(), &moment),
            site: Rc::clone(sites.get(moment.stack)),
            held: peaks.then(|| self.live.resolve(sites)),
        }
    }
}

/// The phases of a test are texts of their own; here they become one row.
fn test_rows<'a>(tests: impl Iterator<Item = &'a (u32, TestSum)>, model: &Model) -> Vec<TestRow> {
    let mut by_name: HashMap<Option<String>, TestSum> = HashMap::default();
    for (text, sum) in tests {
        let name = names::test_of(&model.definitions, *text);
        by_name.entry(name).and_modify(|total| total.merge(sum)).or_insert_with(|| sum.clone());
    }
    let mut rows: Vec<_> = by_name.into_iter().collect();
    rows.sort_by(|(a, x), (b, y)| (x.first, a).cmp(&(y.first, b)));
    let row = |(test, sum): (Option<String>, TestSum)| TestRow {
        test,
        allocations: sum.allocations,
        frees: sum.frees,
        bytes_allocated: sum.bytes_allocated,
        bytes_left: sum.bytes_left(),
        verdicts: sum.verdicts.rows(),
    };
    rows.into_iter().map(row).collect()
}

fn circular(model: &Model) -> Vec<CircularRow> {
    let row = |(&(process, device), sum): (&(u32, Option<Device>), &CircularSum)| CircularRow {
        process,
        device: names::device(device),
        allocations: sum.allocations,
        bytes: sum.bytes,
        in_buffers: sum.global,
        releases: sum.releases,
        peak_bytes: sum.peak_bytes,
    };
    model.circular.devices.iter().map(row).collect()
}
