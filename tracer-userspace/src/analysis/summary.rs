// SPDX-License-Identifier: Apache-2.0
//! What a run came to, in terms that the next run has too: for comparing runs and for judging one.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use foldhash::HashMap;
use serde::Serialize;

use super::{Integrity, ReportFold, Site, TestRow, filter::origin_of, names, sites::Sites};
use crate::model::{Certainty, Entry, Model, Outcome, Verdict};

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
    /// The balance of addresses by device and type of memory, over all processes.
    pub balance: BTreeMap<(String, String), BalanceSum>,
}

/// How often a verdict was given at a site in a test.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// The site: that of the free or request, or of the allocation where there was none.
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

    /// What findings are told apart by, in this run and in others.
    pub(super) fn key(&self) -> (Verdict, &str, Option<&str>) {
        (self.verdict, &self.site.id, self.test.as_deref())
    }

    fn merge(&mut self, other: &Self) {
        // One stack of the site may be whole and another not.
        if self.site.exact && !other.site.exact {
            self.site = Rc::clone(&other.site);
        }
        self.confirmed += other.confirmed;
        self.possible += other.possible;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Several stacks may be one site, and the phases of a test are one test.
fn findings(counts: HashMap<(Verdict, u32, u32), Count>, model: &Model) -> Vec<Finding> {
    let (mut sites, mut tests) = (Sites::new(&model.definitions), HashMap::default());
    let mut test = |text| -> Option<Rc<str>> {
        tests.entry(text).or_insert_with(|| names::test_of(&model.definitions, text).map(Rc::from)).clone()
    };
    let finding = |((verdict, stack, text), Count { confirmed, possible, bytes })| Finding {
        verdict,
        site: Rc::clone(sites.get(stack)),
        test: test(text),
        confirmed,
        possible,
        bytes,
    };
    let mut findings: Vec<Finding> = counts.into_iter().map(finding).collect();
    findings.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
    findings.dedup_by(|next, sum| {
        let same = next.key() == sum.key();
        if same {
            sum.merge(next);
        }
        same
    });
    findings
}
