// SPDX-License-Identifier: Apache-2.0
//! What was not freed: leak candidates, by where they were allocated.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use serde::{Deserialize, Serialize};

use super::{
    Integrity, Place, Ranking, Site,
    excess::allocation,
    filter::origin_of,
    names::{self, Named},
    sites::Sites,
};
use crate::model::{Certainty, Definitions, Entry, KnownStacks, Model, Outcome, Previous, Verdict};

/// Buffers that were live when something ended, in groups.
#[derive(Clone, Debug, Serialize)]
pub struct Held {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// What the groups are.
    pub by: Grouping,
    /// What was held until when, in total.
    pub totals: Vec<HeldTotal>,
    /// The groups, as ranked.
    pub groups: Vec<HeldGroup>,
    /// Groups beyond those that were asked for.
    pub hidden: usize,
}

/// By what buffers are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grouping {
    /// Where they were allocated.
    Site,
    /// The test that allocated them.
    Test,
    /// Their device.
    Device,
    /// Their type of memory.
    Type,
}

/// What ended while a buffer was live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// The process: it never freed the buffer.
    Exit,
    /// The program: its process executed another one, and its memory was gone with it.
    Exec,
    /// The device: it took the buffer's memory along.
    Close,
    /// The recording, while the process went on: the buffer may be freed yet.
    Stop,
    /// The log or graph that was imported.
    Source,
}

/// A sum of buffers.
#[derive(Clone, Debug, Serialize)]
pub struct HeldTotal {
    /// What ended.
    pub until: Until,
    /// Buffers.
    pub count: u64,
    /// Of these, how many may have been freed in a gap of the recording, or after it.
    pub possible: u64,
    /// Of these, how many were freed, but their memory stayed taken.
    pub leaked: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Buffers that belong together and were held until the same end.
#[derive(Clone, Debug, Serialize)]
pub struct HeldGroup {
    /// What ended.
    pub until: Until,
    /// Site, test, device or type, by name.
    pub name: String,
    /// The site, if groups are sites and allocations were seen.
    pub site: Option<Rc<Site>>,
    /// Buffers.
    pub count: u64,
    /// Of these, how many may have been freed in a gap of the recording, or after it.
    pub possible: u64,
    /// Of these, how many were freed, but their memory stayed taken.
    pub leaked: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Nanoseconds from the first allocation to its end; `null` if it was not seen, or if its source has no times.
    pub oldest: Option<u64>,
    /// The same of the last allocation.
    pub youngest: Option<u64>,
    /// The tests that allocated them, with their number; those outside of any test are not here.
    pub tests: BTreeMap<String, u64>,
    /// The first few buffers.
    pub examples: Vec<String>,
    /// Where they were allocated, if groups are sites.
    pub allocation: Option<Place>,
}

/// Collects a [`Held`]. Its memory grows with the number of stacks, tests and devices.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct HeldFold {
    sums: HashMap<Key, Sum>,
}

/// What buffers with one fate have in common, in numbers of the traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
struct Key {
    process: u32,
    verdict: Verdict,
    /// `None` if the allocation was not seen.
    stack: Option<u32>,
    test: u32,
    device: Option<crate::model::Device>,
    buffer_type: u32,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Sum {
    count: u64,
    possible: u64,
    leaked: u64,
    bytes: u64,
    /// Oldest and youngest age.
    ages: Option<(u64, u64)>,
    /// When the first of them was allocated.
    first: u64,
    examples: Vec<Named>,
}

/// How many buffers are named as examples of a group.
const EXAMPLES: usize = 3;

impl HeldFold {
    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        if let Entry::Outcome(outcome) = entry
            && is_held(outcome)
        {
            let buffer = &outcome.buffer;
            let key = Key {
                process: buffer.process,
                verdict: outcome.verdict,
                stack: buffer.allocated.map(|moment| moment.stack),
                test: buffer.allocated.map_or(0, |moment| moment.test),
                device: buffer.device,
                buffer_type: buffer.buffer_type,
            };
            self.sums.entry(key).or_default().merge(Sum::of(outcome));
        }
    }

    /// Whether it takes an entry.
    pub(super) fn takes(entry: &Entry) -> bool {
        matches!(entry, Entry::Outcome(outcome) if is_held(outcome))
    }

    /// Ends in a value.
    #[must_use]
    pub fn finish(self, by: Grouping, ranking: Ranking, model: &Model) -> Held {
        let mut groups = Groups {
            by,
            definitions: &model.definitions,
            sites: Sites::new(&model.definitions),
            groups: BTreeMap::new(),
        };
        let mut sums: Vec<_> = self.sums.into_iter().collect();
        sums.sort_by_key(|(key, _)| *key);
        for (key, sum) in sums {
            groups.add(key, sum);
        }
        let totals = groups.totals();
        let mut ranked: Vec<Group> = groups.groups.into_values().collect();
        ranked.sort_by_key(|group| (group.until, ranking.key(group.sum.count, group.sum.bytes, group.sum.first)));
        let hidden = ranking.cut(&mut ranked);
        let mut stacks = KnownStacks::new(&model.definitions);
        let groups = ranked.into_iter().map(|group| group.finish(by, &mut stacks)).collect();
        Held { integrity: Integrity::of(model), by, totals, groups, hidden }
    }
}

fn is_held(outcome: &Outcome) -> bool {
    matches!(outcome.verdict, Verdict::Held | Verdict::Bulk) && outcome.ends && !outcome.buffer.phantom
}

/// Sums, as they are put into groups.
struct Groups<'a> {
    by: Grouping,
    definitions: &'a Definitions,
    sites: Sites<'a>,
    groups: BTreeMap<(Until, String), Group>,
}

struct Group {
    until: Until,
    name: String,
    site: Option<Rc<Site>>,
    /// Of the first sum.
    stack: Option<u32>,
    sum: Sum,
    tests: BTreeMap<String, u64>,
}

impl Groups<'_> {
    fn add(&mut self, key: Key, mut sum: Sum) {
        // Lines and nodes are no times.
        sum.ages = sum.ages.filter(|_| names::origin(key.process, self.definitions).is_empty());
        let until = until(&key, self.definitions);
        let test = names::test_of(self.definitions, key.test);
        let site = key.stack.filter(|_| self.by == Grouping::Site).map(|stack| Rc::clone(self.sites.get(stack)));
        let (mark, name) = match self.by {
            Grouping::Site => match &site {
                Some(site) => (site.id.clone(), site.name.clone()),
                None => (String::new(), "allocated before the recording, or in a gap".to_owned()),
            },
            Grouping::Test => same(test.clone().unwrap_or_else(|| names::NO_TEST.to_owned())),
            Grouping::Device => same(names::device(key.device).unwrap_or_else(|| "unknown".to_owned())),
            Grouping::Type => same(names::buffer_type(key.buffer_type)),
        };
        let empty = || Group { until, name, site, stack: key.stack, sum: Sum::default(), tests: BTreeMap::new() };
        let group = self.groups.entry((until, mark)).or_insert_with(empty);
        if let Some(test) = test {
            let of_test = group.tests.entry(test).or_default();
            *of_test = of_test.saturating_add(sum.count);
        }
        group.sum.merge(sum);
    }

    fn totals(&self) -> Vec<HeldTotal> {
        let mut totals: BTreeMap<Until, Sum> = BTreeMap::new();
        for group in self.groups.values() {
            totals.entry(group.until).or_default().merge(group.sum.clone());
        }
        let total =
            |(until, Sum { count, possible, leaked, bytes, .. })| HeldTotal { until, count, possible, leaked, bytes };
        totals.into_iter().map(total).collect()
    }
}

impl Group {
    fn finish(self, by: Grouping, stacks: &mut KnownStacks<'_>) -> HeldGroup {
        HeldGroup {
            until: self.until,
            name: self.name,
            site: self.site,
            count: self.sum.count,
            possible: self.sum.possible,
            leaked: self.sum.leaked,
            bytes: self.sum.bytes,
            oldest: self.sum.ages.map(|(oldest, _)| oldest),
            youngest: self.sum.ages.map(|(_, youngest)| youngest),
            tests: self.tests,
            examples: self.sum.examples.iter().map(Named::to_string).collect(),
            allocation: (by == Grouping::Site).then(|| allocation(self.stack, stacks)),
        }
    }
}

impl Sum {
    fn of(outcome: &Outcome) -> Self {
        let age = outcome.buffer.allocated.map(|moment| outcome.moment.time.saturating_sub(moment.time));
        Self {
            count: 1,
            possible: u64::from(outcome.certainty == Certainty::Possible),
            leaked: u64::from(matches!(outcome.previous, Previous::Free(_, Verdict::Leaked))),
            bytes: outcome.buffer.size,
            ages: age.map(|age| (age, age)),
            first: origin_of(outcome).time,
            examples: vec![Named::of(&outcome.buffer)],
        }
    }

    fn merge(&mut self, other: Self) {
        self.first = if self.count == 0 { other.first } else { self.first.min(other.first) };
        self.count = self.count.saturating_add(other.count);
        self.possible = self.possible.saturating_add(other.possible);
        self.leaked = self.leaked.saturating_add(other.leaked);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.ages = match (self.ages, other.ages) {
            (Some((oldest, youngest)), Some((older, younger))) => Some((oldest.max(older), youngest.min(younger))),
            (ages, None) | (None, ages) => ages,
        };
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES);
    }
}

/// The same text as mark and name.
fn same(text: String) -> (String, String) {
    (text.clone(), text)
}

fn until(key: &Key, definitions: &Definitions) -> Until {
    match (key.verdict, definitions.ends.get(&key.process)) {
        (Verdict::Bulk, _) => Until::Close,
        (_, Some(end)) if matches!(end.reason.as_str(), "exited" | "dead") => Until::Exit,
        (_, Some(end)) if end.reason.as_str() == "executed" => Until::Exec,
        _ if !names::origin(key.process, definitions).is_empty() => Until::Source,
        _ => Until::Stop,
    }
}
