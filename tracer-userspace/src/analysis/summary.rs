// SPDX-License-Identifier: Apache-2.0
//! What a run came to, in terms that the next run has too: for comparing runs and for judging one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{Integrity, ReportFold, Site, TestRow, filter::origin_of, names, site::Sites};
use crate::model::{Certainty, Entry, Model, Outcome, Verdict};

/// A run by verdict, site and test.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// How often each verdict was given at each site in each test, in no order that matters.
    pub findings: Vec<Finding>,
    /// What each test did.
    pub tests: Vec<TestRow>,
    /// The tests that ran, whether or not they touched a buffer.
    pub ran: BTreeSet<String>,
    /// The balance of addresses by device and type of memory, over all processes.
    pub balance: BTreeMap<(String, String), BalanceSum>,
}

/// How often a verdict was given at a site in a test.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// The site: that of the free or request, or of the allocation where there was none.
    pub site: Site,
    /// The test, absent for what happened outside of any.
    pub test: Option<String>,
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
        Summary {
            integrity: report.integrity,
            findings: findings(self.counts, model),
            tests: report.tests,
            ran: model.definitions.tests().into_iter().map(str::to_owned).collect(),
            balance,
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let origin = origin_of(outcome);
        let count = self.counts.entry((outcome.verdict, origin.stack, origin.test)).or_default();
        match outcome.certainty {
            Certainty::Confirmed => count.confirmed += 1,
            Certainty::Possible => count.possible += 1,
        }
        count.bytes = count.bytes.saturating_add(outcome.buffer.size);
    }
}

impl Finding {
    /// How often, for certain or not.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.confirmed.saturating_add(self.possible)
    }
}

/// Several stacks may be one site, and the phases of a test are one test.
fn findings(counts: HashMap<(Verdict, u32, u32), Count>, model: &Model) -> Vec<Finding> {
    let mut sites = Sites::new(&model.definitions);
    let mut sums: BTreeMap<(Verdict, String, Option<String>), Finding> = BTreeMap::new();
    for ((verdict, stack, test), count) in counts {
        let site = sites.get(stack);
        let test = names::test_of(&model.definitions, test);
        let finding = sums.entry((verdict, site.id.clone(), test.clone())).or_insert_with(|| Finding {
            verdict,
            site: site.clone(),
            test,
            confirmed: 0,
            possible: 0,
            bytes: 0,
        });
        // One stack of the site may be whole and another not.
        finding.site.exact &= site.exact;
        finding.confirmed += count.confirmed;
        finding.possible += count.possible;
        finding.bytes = finding.bytes.saturating_add(count.bytes);
    }
    sums.into_values().collect()
}
