// SPDX-License-Identifier: Apache-2.0
//! How the report is counted.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use super::{CircularRow, Failure, Peak, Report, TestRow, Total, VerdictCount, VerdictRow};
use crate::{
    analysis::{
        Filter, Integrity,
        balance::BalanceFold,
        filter::origin_of,
        holders::{Live, Load, Snapshot},
        names,
        site::Sites,
    },
    model::{Allocation, Buffer, Certainty, CircularSum, Device, Entry, Found, Model, Moment, Outcome, Verdict},
};

/// How many failed requests are shown, with what was live then.
const FAILURES: usize = 5;

/// Collects a [`Report`]. Its memory grows with the number of addresses and tests, not with that of events.
#[derive(Debug, Default)]
pub struct ReportFold {
    totals: BTreeMap<Memory, Sum>,
    verdicts: BTreeMap<Verdict, [u64; 2]>,
    balance: BalanceFold,
    tests: HashMap<u32, TestSum>,
    without_peaks: bool,
    failures: Vec<(Outcome, Snapshot)>,
    other_failures: u64,
}

/// One type of memory of one device: process, device, type.
type Memory = (u32, Option<Device>, u32);

#[derive(Debug, Default)]
struct Sum {
    /// Buffers found live, and their bytes.
    found: (u64, u64),
    allocations: u64,
    frees: u64,
    bytes_allocated: u64,
    bytes_freed: u64,
    /// Buffers live at the end, and their bytes.
    held: (u64, u64),
    live: Live,
}

#[derive(Debug, Default)]
struct TestSum {
    first: u64,
    allocations: u64,
    frees: u64,
    bytes_allocated: u64,
    bytes_freed: u64,
    verdicts: BTreeMap<Verdict, u64>,
}

impl ReportFold {
    /// Begins one for the entries that a filter takes. They may be an allocation without its free, or the other way
    /// round, which leaves no peaks.
    #[must_use]
    pub fn new(filter: &Filter) -> Self {
        Self { without_peaks: filter.parts_lives(), balance: BalanceFold::new(filter), ..Self::default() }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Allocation(allocation) if !allocation.buffer.phantom => {
                self.allocation(allocation);
            }
            Entry::Found(found) => self.found(found),
            Entry::Allocation(_) | Entry::Alias(_) => {}
            Entry::Outcome(outcome) => self.outcome(outcome),
        }
    }

    /// Ends in a report that names at most so many offenders.
    #[must_use]
    pub fn finish(self, top: usize, model: &Model) -> Report {
        let peaks = !self.without_peaks;
        let sites = &mut Sites::new(&model.definitions);
        let mut live: Vec<_> = self.totals.iter().filter(|(_, sum)| peaks && sum.live.peak().0 > 0).collect();
        live.sort_by_key(|(_, sum)| Reverse(sum.live.peak().0));
        let hidden_peaks = live.len().saturating_sub(top);
        live.truncate(top);
        Report {
            integrity: Integrity::of(model),
            totals: self.totals.iter().map(|(memory, sum)| sum.total(*memory, peaks, model)).collect(),
            verdicts: self.verdicts.iter().map(|(&verdict, &counts)| verdict_row(verdict, counts)).collect(),
            circular: circular(model),
            balance: self.balance.finish(top, &model.server),
            peaks: live.into_iter().map(|(memory, sum)| sum.peak(*memory, sites)).collect(),
            hidden_peaks,
            failures: self.failures.into_iter().map(|(outcome, live)| failure(&outcome, live, peaks, sites)).collect(),
            other_failures: self.other_failures,
            tests: test_rows(self.tests, model),
        }
    }

    fn allocation(&mut self, allocation: &Allocation) {
        let Allocation { buffer, moment } = allocation;
        let sum = self.totals.entry(memory(buffer)).or_default();
        sum.allocations += 1;
        sum.bytes_allocated = sum.bytes_allocated.saturating_add(buffer.size);
        sum.live.add(moment, load(buffer));
        self.balance.allocation(buffer);
        let test = self.test(moment);
        test.allocations += 1;
        test.bytes_allocated = test.bytes_allocated.saturating_add(buffer.size);
    }

    fn found(&mut self, found: &Found) {
        let Found { buffer, time } = found;
        let sum = self.totals.entry(memory(buffer)).or_default();
        sum.found = (sum.found.0 + 1, sum.found.1.saturating_add(buffer.size));
        sum.live.find(*time, load(buffer));
        self.balance.allocation(buffer);
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let Outcome { buffer, verdict, moment, .. } = outcome;
        self.verdicts.entry(*verdict).or_default()[usize::from(outcome.certainty == Certainty::Possible)] += 1;
        *self.test(&origin_of(outcome)).verdicts.entry(*verdict).or_default() += 1;
        if *verdict == Verdict::Held && (buffer.allocated.is_some() || buffer.found) {
            let held = &mut self.totals.entry(memory(buffer)).or_default().held;
            *held = (held.0 + 1, held.1.saturating_add(buffer.size));
        }
        if *verdict == Verdict::Failed {
            self.failure(outcome);
        }
        let no_free = matches!(verdict, Verdict::Held | Verdict::Failed | Verdict::Phantom | Verdict::Overlap);
        if no_free || buffer.phantom {
            return;
        }
        if outcome.ends {
            let test = self.test(moment);
            test.frees += 1;
            test.bytes_freed = test.bytes_freed.saturating_add(buffer.size);
        }
        if outcome.gives_back() {
            let sum = self.totals.entry(memory(buffer)).or_default();
            sum.live.remove(buffer.allocated.as_ref(), load(buffer));
            sum.frees += 1;
            sum.bytes_freed = sum.bytes_freed.saturating_add(buffer.size);
        }
        self.balance.outcome(outcome);
    }

    fn failure(&mut self, outcome: &Outcome) {
        if self.failures.len() < FAILURES {
            let live = self.totals.get(&memory(&outcome.buffer)).map(|sum| sum.live.now());
            self.failures.push((*outcome, live.unwrap_or_default()));
        } else {
            self.other_failures += 1;
        }
    }

    fn test(&mut self, moment: &Moment) -> &mut TestSum {
        let first = moment.time;
        self.tests.entry(moment.test).or_insert_with(|| TestSum { first, ..TestSum::default() })
    }
}

impl Sum {
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

fn memory(buffer: &Buffer) -> Memory {
    (buffer.process, buffer.device, buffer.buffer_type)
}

fn load(buffer: &Buffer) -> Load {
    Load::of_one(buffer.size, buffer.bank_bytes)
}

fn failure(outcome: &Outcome, live: Snapshot, peaks: bool, sites: &mut Sites) -> Failure {
    let Outcome { buffer, moment, certainty, .. } = outcome;
    Failure {
        process: buffer.process,
        device: names::device(buffer.device),
        buffer_type: names::buffer_type(buffer.buffer_type),
        time: moment.time,
        bytes: buffer.size,
        bank_bytes: buffer.bank_bytes,
        certainty: *certainty,
        test: names::test(sites.definitions(), moment),
        site: sites.get(moment.stack).clone(),
        held: peaks.then(|| live.resolve(sites)),
    }
}

fn verdict_row(verdict: Verdict, [confirmed, possible]: [u64; 2]) -> VerdictRow {
    VerdictRow { verdict, colour: verdict.colour(), confirmed, possible, meaning: verdict.meaning() }
}

fn counts(verdicts: &BTreeMap<Verdict, u64>) -> Vec<VerdictCount> {
    verdicts.iter().map(|(&verdict, &count)| VerdictCount { verdict, count }).collect()
}

/// The phases of a test are texts of their own; here they become one row.
fn test_rows(tests: HashMap<u32, TestSum>, model: &Model) -> Vec<TestRow> {
    let mut by_name: HashMap<Option<String>, TestSum> = HashMap::new();
    for (text, sum) in tests {
        let name = names::test_of(&model.definitions, text);
        let total = by_name.entry(name).or_insert_with(|| TestSum { first: sum.first, ..TestSum::default() });
        total.first = total.first.min(sum.first);
        total.allocations += sum.allocations;
        total.frees += sum.frees;
        total.bytes_allocated = total.bytes_allocated.saturating_add(sum.bytes_allocated);
        total.bytes_freed = total.bytes_freed.saturating_add(sum.bytes_freed);
        for (verdict, count) in sum.verdicts {
            *total.verdicts.entry(verdict).or_default() += count;
        }
    }
    let mut rows: Vec<_> = by_name.into_iter().collect();
    rows.sort_by(|(a, x), (b, y)| (x.first, a).cmp(&(y.first, b)));
    let row = |(test, sum): (Option<String>, TestSum)| TestRow {
        test,
        allocations: sum.allocations,
        frees: sum.frees,
        bytes_allocated: sum.bytes_allocated,
        bytes_left: sum.bytes_allocated.wrapping_sub(sum.bytes_freed) as i64,
        verdicts: counts(&sum.verdicts),
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
