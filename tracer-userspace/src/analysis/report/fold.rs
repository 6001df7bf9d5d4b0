// SPDX-License-Identifier: Apache-2.0
//! How the report is counted.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, HashMap},
};

use super::{BalanceRow, Offender, Report, TestRow, Total, VerdictCount, VerdictRow};
use crate::{
    analysis::{Integrity, names},
    model::{Allocation, Buffer, Certainty, Colour, Device, Entry, Model, Moment, Outcome, Verdict},
};

/// How many offenders are named.
const OFFENDERS: usize = 10;

/// Collects a [`Report`]. Its memory grows with the number of addresses and tests, not with that of events.
#[derive(Debug, Default)]
pub struct ReportFold {
    totals: BTreeMap<Memory, Sum>,
    verdicts: BTreeMap<Verdict, [u64; 2]>,
    addresses: HashMap<(Memory, u64), Balance>,
    tests: HashMap<u32, TestSum>,
}

/// One type of memory of one device: process, device, type.
type Memory = (u32, Option<Device>, u32);

#[derive(Debug, Default)]
struct Sum {
    allocations: u64,
    frees: u64,
    bytes_allocated: u64,
    bytes_freed: u64,
    peak_bytes: u64,
    peak: Moment,
}

#[derive(Debug, Default)]
struct Balance {
    /// Allocations seen, and those from before the recording, of which a free tells.
    allocations: u64,
    frees: u64,
    excess: BTreeMap<Verdict, u64>,
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
    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Allocation(allocation) if !allocation.buffer.phantom => {
                self.allocation(allocation);
            }
            Entry::Allocation(_) | Entry::Alias(_) => {}
            Entry::Outcome(outcome) => self.outcome(outcome),
        }
    }

    /// Ends in a report.
    #[must_use]
    pub fn finish(self, model: &Model) -> Report {
        Report {
            integrity: Integrity::of(model),
            totals: self.totals.iter().map(|(memory, sum)| sum.total(*memory, model)).collect(),
            verdicts: self.verdicts.iter().map(|(&verdict, &counts)| verdict_row(verdict, counts)).collect(),
            balance: balance_rows(&self.addresses),
            offenders: offenders(&self.addresses),
            tests: test_rows(self.tests, model),
        }
    }

    fn allocation(&mut self, Allocation { buffer, moment }: &Allocation) {
        let sum = self.totals.entry(memory(buffer)).or_default();
        sum.allocations += 1;
        sum.bytes_allocated = sum.bytes_allocated.saturating_add(buffer.size);
        let live = sum.bytes_allocated.saturating_sub(sum.bytes_freed);
        if live > sum.peak_bytes {
            (sum.peak_bytes, sum.peak) = (live, *moment);
        }
        self.addresses.entry((memory(buffer), buffer.address)).or_default().allocations += 1;
        let test = self.test(moment);
        test.allocations += 1;
        test.bytes_allocated = test.bytes_allocated.saturating_add(buffer.size);
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let Outcome { buffer, verdict, moment, .. } = outcome;
        self.verdicts.entry(*verdict).or_default()[usize::from(outcome.certainty == Certainty::Possible)] += 1;
        let origin = buffer.allocated.filter(|_| *verdict == Verdict::Held);
        *self.test(&origin.unwrap_or(*moment)).verdicts.entry(*verdict).or_default() += 1;
        let no_free = matches!(verdict, Verdict::Held | Verdict::Failed | Verdict::Phantom | Verdict::Overlap);
        if no_free || buffer.phantom {
            return;
        }
        if outcome.ends {
            let test = self.test(moment);
            test.frees += 1;
            test.bytes_freed = test.bytes_freed.saturating_add(buffer.size);
        }
        if outcome.ends && buffer.allocated.is_some() {
            let sum = self.totals.entry(memory(buffer)).or_default();
            sum.frees += 1;
            sum.bytes_freed = sum.bytes_freed.saturating_add(buffer.size);
        }
        let again = matches!(verdict.colour(), Colour::Excess | Colour::Red);
        if outcome.ends || again {
            let balance = self.addresses.entry((memory(buffer), buffer.address)).or_default();
            balance.frees += 1;
            if *verdict == Verdict::PreAttach {
                balance.allocations += 1;
            } else if again || buffer.allocated.is_none() {
                *balance.excess.entry(*verdict).or_default() += 1;
            }
        }
    }

    fn test(&mut self, moment: &Moment) -> &mut TestSum {
        let first = moment.time;
        self.tests.entry(moment.test).or_insert_with(|| TestSum { first, ..TestSum::default() })
    }
}

impl Sum {
    fn total(&self, (process, device, buffer_type): Memory, model: &Model) -> Total {
        Total {
            process,
            device: names::device(device),
            buffer_type: names::buffer_type(buffer_type),
            allocations: self.allocations,
            frees: self.frees,
            bytes_allocated: self.bytes_allocated,
            bytes_freed: self.bytes_freed,
            live: self.allocations.saturating_sub(self.frees),
            bytes_live: self.bytes_allocated.saturating_sub(self.bytes_freed),
            peak_bytes: self.peak_bytes,
            peak_time: self.peak.time,
            peak_test: names::test(&model.definitions, &self.peak),
        }
    }
}

fn memory(buffer: &Buffer) -> Memory {
    (buffer.process, buffer.device, buffer.buffer_type)
}

fn verdict_row(verdict: Verdict, [confirmed, possible]: [u64; 2]) -> VerdictRow {
    VerdictRow { verdict, colour: verdict.colour(), confirmed, possible, meaning: verdict.meaning() }
}

fn counts(verdicts: &BTreeMap<Verdict, u64>) -> Vec<VerdictCount> {
    verdicts.iter().map(|(&verdict, &count)| VerdictCount { verdict, count }).collect()
}

fn balance_rows(addresses: &HashMap<(Memory, u64), Balance>) -> Vec<BalanceRow> {
    let mut rows: BTreeMap<Memory, [u64; 3]> = BTreeMap::new();
    for ((memory, _), balance) in addresses {
        let row = rows.entry(*memory).or_default();
        match balance.frees.cmp(&balance.allocations) {
            Ordering::Equal => row[0] += 1,
            Ordering::Less => row[1] += 1,
            Ordering::Greater => row[2] += 1,
        }
    }
    let row = |((process, device, buffer_type), [even, not_freed, freed_more]): (Memory, [u64; 3])| BalanceRow {
        process,
        device: names::device(device),
        buffer_type: names::buffer_type(buffer_type),
        addresses: even + not_freed + freed_more,
        even,
        not_freed,
        freed_more,
    };
    rows.into_iter().map(row).collect()
}

fn offenders(addresses: &HashMap<(Memory, u64), Balance>) -> Vec<Offender> {
    let mut worst: Vec<_> = addresses.iter().filter(|(_, balance)| balance.frees > balance.allocations).collect();
    worst.sort_by_key(|(key, balance)| (Reverse(balance.frees - balance.allocations), *key));
    let row = |(((process, device, buffer_type), address), balance): (&(Memory, u64), &Balance)| Offender {
        process: *process,
        device: names::device(*device),
        buffer_type: names::buffer_type(*buffer_type),
        address: *address,
        allocations: balance.allocations,
        frees: balance.frees,
        excess: counts(&balance.excess),
    };
    worst.into_iter().take(OFFENDERS).map(row).collect()
}

/// The phases of a test are texts of their own; here they become one row.
fn test_rows(tests: HashMap<u32, TestSum>, model: &Model) -> Vec<TestRow> {
    let mut by_name: HashMap<Option<String>, TestSum> = HashMap::new();
    for (text, sum) in tests {
        let name = names::test(&model.definitions, &Moment { test: text, ..Moment::default() });
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
