// SPDX-License-Identifier: Apache-2.0
//! The rows of a picture: numbers become names, and what has one name becomes one row.

use std::collections::{BTreeMap, HashMap};

use super::{FindingKey, FindingSum, History, KnownSites, LiveFold, Rc, View};
use crate::{
    analysis::{
        Load, Site, VerdictCount,
        holders::Place,
        names,
        totals::{Memory, MemorySum, TestSum},
    },
    model::{Certainty, Colour, Device, Moment, Outcome, Verdict},
};

/// One type of memory of one device.
#[derive(Clone, Debug)]
pub struct LiveMemory {
    /// Process number.
    pub process: u32,
    /// Device; absent for what was allocated before the recording and was not found.
    pub device: Option<String>,
    /// Type of memory.
    pub buffer_type: String,
    /// What is live.
    pub live: Load,
    /// Most bytes that were live at once.
    pub peak: u64,
    /// Bytes that were live over time.
    pub history: History,
}

/// A verdict at a site.
#[derive(Clone, Debug)]
pub struct LiveFinding {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether it stands.
    pub certainty: Certainty,
    /// Where it happened; of what nobody did, where the buffer was allocated.
    pub site: Rc<Site>,
    /// The smallest number of its stacks, which stays what it is.
    pub stack: u32,
    /// The test of the latest.
    pub test: Option<String>,
    /// How often.
    pub count: u64,
    /// The latest.
    pub latest: Outcome,
}

/// What one site holds.
#[derive(Clone, Debug)]
pub struct LiveSite {
    /// Where it was allocated.
    pub site: Rc<Site>,
    /// The smallest number of its stacks, which stays what it is; `None` for what was found live.
    pub stack: Option<u32>,
    /// What is live.
    pub load: Load,
    /// Bytes more than at the moment that growth is measured from.
    pub growth: i64,
}

/// What happened in a test.
#[derive(Clone, Debug)]
pub struct LiveTest {
    /// Test id; `None` for what happened outside of any.
    pub test: Option<String>,
    /// When something first did.
    pub first: u64,
    /// Buffers allocated.
    pub allocations: u64,
    /// Buffers whose life ended.
    pub frees: u64,
    /// Bytes allocated less bytes freed.
    pub bytes_left: i64,
    /// Verdicts other than normal.
    pub findings: Vec<VerdictCount>,
    /// Whether it runs.
    pub running: bool,
}

/// Makes the rows of one picture.
pub(super) struct Rows<'a> {
    view: &'a View<'a>,
    sites: &'a mut KnownSites,
    /// Whether a site or a test is wanted, by stack and text number.
    wanted_sites: HashMap<u32, bool>,
    wanted_tests: HashMap<u32, bool>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(view: &'a View<'a>, sites: &'a mut KnownSites) -> Self {
        Self { view, sites, wanted_sites: HashMap::new(), wanted_tests: HashMap::new() }
    }

    pub(super) fn memories(&self, fold: &LiveFold) -> Vec<LiveMemory> {
        let memories = fold.totals.memories.iter().filter(|((_, device, kind), _)| self.takes_memory(*device, *kind));
        let row = |(memory, sum): &(Memory, MemorySum)| LiveMemory {
            process: memory.0,
            device: names::device(memory.1),
            buffer_type: names::buffer_type(memory.2),
            live: sum.live.places().fold(Load::default(), |all, (_, load)| all.plus(load)),
            peak: sum.live.peak().0,
            history: fold.histories.get(memory).cloned().unwrap_or_default(),
        };
        memories.map(row).collect()
    }

    pub(super) fn findings(&mut self, fold: &LiveFold) -> Vec<LiveFinding> {
        let mut rows: HashMap<(Verdict, Certainty, String), LiveFinding> = HashMap::new();
        for (&FindingKey { verdict, certainty, stack, test, device, buffer_type }, sum) in &fold.findings {
            if !self.takes_memory(device, buffer_type) || !self.takes_place(stack, test) {
                continue;
            }
            let site = Rc::clone(self.sites.get(stack, &self.view.model.definitions));
            let FindingSum { count, latest } = *sum;
            let row = rows.entry((verdict, certainty, site.id.clone())).or_insert_with(|| LiveFinding {
                verdict,
                certainty,
                site,
                stack,
                test: None,
                count: 0,
                latest,
            });
            row.count += count;
            row.stack = row.stack.min(stack);
            // The first of them, or a later one than those before.
            if row.count == count || row.latest.moment.time < latest.moment.time {
                (row.latest, row.test) = (latest, names::test_of(&self.view.model.definitions, test));
            }
        }
        rows.into_values().collect()
    }

    pub(super) fn sites(&mut self, fold: &LiveFold) -> Vec<LiveSite> {
        let mut rows: BTreeMap<(bool, String), LiveSite> = BTreeMap::new();
        for ((_, device, kind), sum) in fold.totals.memories.iter() {
            if self.takes_memory(*device, *kind) {
                sum.live.places().for_each(|(place, load)| self.add(place, load, load.bytes as i64, &mut rows));
            }
        }
        let since = self.view.since.unwrap_or(fold);
        for ((_, device, kind), sum) in since.totals.memories.iter() {
            if !self.takes_memory(*device, *kind) {
                continue;
            }
            let before: Vec<(Place, u64)> = match self.view.since {
                Some(_) => sum.live.places().map(|(place, load)| (place, load.bytes)).collect(),
                // What was found was there at the beginning.
                None => vec![(None, sum.found.1)],
            };
            for (place, bytes) in before {
                self.add(place, Load::default(), -(bytes as i64), &mut rows);
            }
        }
        rows.into_values().filter(|row| row.load.buffers > 0 || row.growth != 0).collect()
    }

    pub(super) fn tests(&mut self, fold: &LiveFold) -> Vec<LiveTest> {
        let definitions = &self.view.model.definitions;
        let name = |text| definitions.test(&Moment { test: text, ..Moment::default() });
        let mut by_name: HashMap<Option<&str>, TestSum> = HashMap::new();
        for &(text, ref sum) in fold.totals.tests.iter() {
            if self.takes_test(text) {
                by_name.entry(name(text)).and_modify(|all| all.merge(sum)).or_insert_with(|| sum.clone());
            }
        }
        let running: Vec<_> =
            self.view.running.iter().map(|&(_, text)| text).filter(|&it| self.takes_test(it)).collect();
        for &text in &running {
            by_name.entry(name(text)).or_insert_with(|| TestSum { first: fold.last, ..TestSum::default() });
        }
        let running: Vec<_> = running.into_iter().map(name).collect();
        let row = |(test, sum): (Option<&str>, TestSum)| LiveTest {
            test: test.map(str::to_owned),
            first: sum.first,
            allocations: sum.allocations,
            frees: sum.frees,
            bytes_left: sum.bytes_left(),
            findings: findings(&sum),
            running: running.contains(&test),
        };
        by_name.into_iter().map(row).collect()
    }

    fn add(&mut self, place: Place, load: Load, growth: i64, rows: &mut BTreeMap<(bool, String), LiveSite>) {
        let (stack, test) = place.unwrap_or_default();
        let unfiltered = self.view.filter.site.is_none() && self.view.filter.test.is_none();
        if !(unfiltered || place.is_some() && self.takes_place(stack, test)) {
            return;
        }
        let site = match place {
            Some(_) => Rc::clone(self.sites.get(stack, &self.view.model.definitions)),
            None => Rc::new(Site::before()),
        };
        let stack = place.map(|(stack, _)| stack);
        let new = || LiveSite { site: Rc::clone(&site), stack, load: Load::default(), growth: 0 };
        let row = rows.entry((place.is_none(), site.id.clone())).or_insert_with(new);
        row.load = row.load.plus(load);
        row.growth = row.growth.saturating_add(growth);
        row.stack = row.stack.min(stack);
    }

    fn takes_memory(&self, device: Option<Device>, buffer_type: u32) -> bool {
        self.view.filter.takes_memory(device, buffer_type)
    }

    fn takes_place(&mut self, stack: u32, test: u32) -> bool {
        self.takes_test(test) && self.takes_site(stack)
    }

    fn takes_test(&mut self, text: u32) -> bool {
        let Some(pattern) = &self.view.filter.test else { return true };
        let name = || self.view.model.definitions.test(&Moment { test: text, ..Moment::default() });
        *self.wanted_tests.entry(text).or_insert_with(|| name().is_some_and(|name| pattern.matches(name)))
    }

    fn takes_site(&mut self, stack: u32) -> bool {
        let Some(pattern) = &self.view.filter.site else { return true };
        let Self { view, sites, wanted_sites, .. } = self;
        let matches = || pattern.matches(sites.get(stack, &view.model.definitions));
        *wanted_sites.entry(stack).or_insert_with(matches)
    }
}

fn findings(sum: &TestSum) -> Vec<VerdictCount> {
    let mut findings: Vec<_> = sum
        .verdicts
        .iter()
        .filter(|(verdict, _)| verdict.colour() != Colour::Normal)
        .map(|(verdict, count)| VerdictCount { verdict, count })
        .collect();
    findings.sort_by_key(|row| std::cmp::Reverse(row.verdict.colour()));
    findings
}
