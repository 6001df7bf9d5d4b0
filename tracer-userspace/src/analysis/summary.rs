// SPDX-License-Identifier: Apache-2.0
//! What a run came to, in terms that the next run has too: for comparing runs and for judging one.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use foldhash::{HashMap, HashSet};
use serde::Serialize;

use super::{Integrity, ReportFold, Site, TestRow, filter::origin_of, names, sites::Sites};
use crate::model::{Certainty, Entry, Model, Moment, Outcome, TestSpan, Verdict};

/// A run by verdict, site and test.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// How often each verdict was given at each site in each test, in the order of these three.
    pub findings: Vec<Finding>,
    /// What each test did.
    pub tests: Vec<TestRow>,
    /// The tests that ran, whether or not they touched a buffer.
    pub ran: BTreeSet<String>,
    /// Of these, the ones that were not over when a recording was stopped, or was cut.
    pub unfinished: BTreeSet<String>,
    /// The balance of addresses by device and type of memory, over all processes.
    pub balance: BTreeMap<(String, String), BalanceSum>,
}

/// How often a verdict was given at a site in a test.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// The site: that of the free or request, or of the allocation where there was none, or the free came late or leaked.
    pub site: Rc<Site>,
    /// The test, absent for what happened outside of any.
    pub test: Option<Rc<str>>,
    /// How often the recording decides it.
    pub confirmed: u64,
    /// How often a loss, or the begin or end of the recording, could change it.
    pub possible: u64,
    /// Bytes of the buffers.
    pub bytes: u64,
}

/// How many addresses have as many frees as allocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BalanceSum {
    /// As many.
    pub even: u64,
    /// Fewer.
    pub not_freed: u64,
    /// More.
    pub freed_more: u64,
}

/// Collects a [`Summary`]. Its memory grows with the number of stacks, tests and addresses.
#[derive(Debug, Default)]
pub struct SummaryFold {
    report: ReportFold,
    /// By verdict, stack and test.
    counts: HashMap<(Verdict, u32, u32), Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    confirmed: u64,
    possible: u64,
    bytes: u64,
}

impl SummaryFold {
    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        self.report.entry(entry);
        if let Entry::Outcome(outcome) = entry {
            self.outcome(outcome);
        }
    }

    /// Ends in a value.
    #[must_use]
    pub fn finish(self, model: &Model) -> Summary {
        let report = self.report.finish(0, model);
        let mut balance: BTreeMap<(String, String), BalanceSum> = BTreeMap::new();
        for row in report.balance.allocator {
            let device = row.device.unwrap_or_else(|| "unknown".to_owned());
            let sum = balance.entry((device, row.buffer_type)).or_default();
            sum.even += row.even;
            sum.not_freed += row.not_freed;
            sum.freed_more += row.freed_more;
        }
        let findings = findings(self.counts, model);
        let mut ran: BTreeSet<String> = model.definitions.tests().into_iter().map(str::to_owned).collect();
        // An id that was cut has no phase by which to tell that it is a test's.
        ran.extend(findings.iter().filter_map(|finding| finding.test.as_deref()).map(str::to_owned));
        let (tests, unfinished) = (report.tests, unfinished(model));
        Summary { integrity: report.integrity, findings, tests, ran, unfinished, balance }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let origin = place(outcome);
        let count = self.counts.entry((outcome.verdict, origin.stack, origin.test)).or_default();
        match outcome.certainty {
            Certainty::Confirmed => count.confirmed += 1,
            Certainty::Possible => count.possible += 1,
        }
        count.bytes = count.bytes.saturating_add(outcome.buffer.size);
    }
}

/// The tests of which the recording does not have the end. Where it was stopped or failed, a test ends with it.
fn unfinished(model: &Model) -> BTreeSet<String> {
    let definitions = &model.definitions;
    let is_open = |span: &&TestSpan| match (span.end, definitions.ends.get(&span.process)) {
        (None, _) => true,
        (Some(_), Some(end)) if matches!(end.reason.as_str(), "exited" | "executed") => false,
        (Some(over), end) => end.is_some_and(|end| over >= end.time),
    };
    let open = model.spans.spans.iter().filter(is_open);
    open.filter_map(|span| names::test_of(definitions, span.text)).collect()
}

/// Where a finding belongs. Who lets go last of what outlived its device, or leaked, is often Python's collector of garbage,
/// which may come in any line of any test: two runs of one program agree on the allocation alone.
fn place(outcome: &Outcome) -> Moment {
    match outcome.verdict {
        Verdict::AfterClose | Verdict::Marked | Verdict::Leaked => outcome.buffer.allocated.unwrap_or(outcome.moment),
        _ => origin_of(outcome),
    }
}

impl Finding {
    /// How often, for certain or not.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.confirmed.saturating_add(self.possible)
    }

    /// What findings are told apart by, in this run and in others.
    pub(super) fn key(&self) -> (Verdict, &str, Option<&str>) {
        (self.verdict, &self.site.id, self.test.as_deref())
    }
}

/// A verdict, and the places of a site and of a test among all of them.
type Key = (Verdict, u32, u32);

/// Several stacks may be one site, and the phases of a test are one test.
fn findings(counts: HashMap<(Verdict, u32, u32), Count>, model: &Model) -> Vec<Finding> {
    let mut known = Sites::new(&model.definitions);
    let stacks = counts.keys().map(|&(_, stack, _)| stack).collect();
    let sites = ranked(stacks, |stack| Rc::clone(known.get(stack)), |a, b| a.id.cmp(&b.id));
    let texts = counts.keys().map(|&(.., text)| text).collect();
    let tests = ranked(texts, |text| names::test_of(&model.definitions, text).map(Rc::<str>::from), Ord::cmp);
    let row = |((verdict, stack, text), count)| ((verdict, sites[&stack].0, tests[&text].0), stack, text, count);
    let mut rows: Vec<(Key, u32, u32, Count)> = counts.into_iter().map(row).collect();
    rows.sort_unstable_by_key(|&(key, stack, ..)| (key, stack));
    rows.dedup_by(|(key, stack, _, count), (first, of_all, _, sum)| {
        let same = key == first;
        if same {
            sum.add(count);
            // One stack of the site may be whole and another not.
            if sites[of_all].1.exact && !sites[stack].1.exact {
                *of_all = *stack;
            }
        }
        same
    });
    let finding = |((verdict, ..), stack, text, count): (Key, u32, u32, Count)| Finding {
        verdict,
        site: Rc::clone(&sites[&stack].1),
        test: tests[&text].1.clone(),
        confirmed: count.confirmed,
        possible: count.possible,
        bytes: count.bytes,
    };
    rows.into_iter().map(finding).collect()
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.confirmed += other.confirmed;
        self.possible += other.possible;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What numbers stand for, and its place among all of it: those are compared sooner than texts.
fn ranked<T>(
    numbers: HashSet<u32>,
    mut named: impl FnMut(u32) -> T,
    order: impl Fn(&T, &T) -> Ordering,
) -> HashMap<u32, (u32, T)> {
    let mut all: Vec<(u32, T)> = numbers.into_iter().map(|number| (number, named(number))).collect();
    all.sort_by(|(_, a), (_, b)| order(a, b));
    let differs = |pair: &[(u32, T)]| order(&pair[0].1, &pair[1].1).is_ne();
    let mut rank = 0;
    let mut ranks = vec![0; all.len().min(1)];
    ranks.extend(all.windows(2).map(|pair| {
        rank += u32::from(differs(pair));
        rank
    }));
    all.into_iter().zip(ranks).map(|((number, value), rank)| (number, (rank, value))).collect()
}
