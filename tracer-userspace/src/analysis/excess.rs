// SPDX-License-Identifier: Apache-2.0
//! Excess frees by the site that makes them, with the free before and the allocation.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use serde::Serialize;

use super::{Integrity, Ranking, Site, VerdictCount, names, site::Sites};
use crate::model::{Buffer, Certainty, Colour, Definitions, Entry, Model, Outcome, Previous, StackLines, Verdict};

/// How many buffers are named as examples of a site.
const EXAMPLES: usize = 5;

/// The sites that free too much.
#[derive(Clone, Debug, Serialize)]
pub struct Excess {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// Sites of frees beyond the allocations, as ranked.
    pub sites: Vec<ExcessSite>,
    /// Sites of late frees (after-close, marked), which are no excess.
    pub late: Vec<ExcessSite>,
    /// Sites beyond those that were asked for, of both kinds.
    pub hidden: usize,
}

/// All frees that were made at one site.
#[derive(Clone, Debug, Serialize)]
pub struct ExcessSite {
    /// The site.
    pub site: Site,
    /// Frees.
    pub count: u64,
    /// Of these, how many a loss could change.
    pub possible: u64,
    /// Bytes of the buffers, each time that one was freed.
    pub bytes: u64,
    /// When the first was made.
    pub first: u64,
    /// What they were.
    pub verdicts: Vec<VerdictCount>,
    /// The tests that ran, with their number of frees; those outside of any test are not here.
    pub tests: BTreeMap<String, u64>,
    /// The first few buffers.
    pub examples: Vec<String>,
    /// Where this free was made: the stack that most of the frees share.
    pub free: Option<StackLines>,
    /// Where the free before was made: the place that most of these share.
    pub previous: Place,
    /// Where the buffer was allocated, of the same frees.
    pub allocation: Place,
    /// Other stacks of the free, of the free before and of the allocation.
    pub other_places: usize,
}

/// Where something before a free was done.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// What is known in a few words, e.g. `released`, or why there is no stack.
    pub what: String,
    /// The stack.
    pub stack: Option<StackLines>,
}

/// Collects an [`Excess`]. Its memory grows with the number of stacks and tests.
#[derive(Debug, Default)]
pub struct ExcessFold {
    /// By stack number, and whether it is excess.
    stacks: HashMap<(u32, bool), SiteSum>,
}

#[derive(Debug, Default)]
struct SiteSum {
    count: u64,
    possible: u64,
    bytes: u64,
    first: u64,
    verdicts: BTreeMap<Verdict, u64>,
    tests: BTreeMap<u32, u64>,
    examples: Vec<Example>,
    places: BTreeMap<Places, u64>,
}

/// The free, the free before and the allocation: stacks, and what stands for them where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Places {
    free: u32,
    previous: Before,
    /// `None` if the allocation was not seen.
    allocation: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    Free(Verdict, u32),
    None,
    Forgotten,
    Unseen,
}

/// A buffer, and the owner of the memory that it is about: the buffer itself, or an alias's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Example {
    buffer: Buffer,
    owner: Buffer,
}

impl Example {
    fn show(&self) -> String {
        let owner = names::example(&self.owner);
        match self.owner.unique_id == self.buffer.unique_id {
            true => owner,
            false => format!("buffer {}, an alias of {owner}", self.buffer.unique_id),
        }
    }
}

impl ExcessFold {
    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let Entry::Outcome(outcome) = entry else {
            return;
        };
        let excess = matches!(outcome.verdict.colour(), Colour::Excess | Colour::Red);
        let excess = excess && outcome.verdict != Verdict::Overlap;
        let late = matches!(outcome.verdict, Verdict::AfterClose | Verdict::Marked);
        if excess || late {
            self.stacks.entry((outcome.moment.stack, excess)).or_default().merge(SiteSum::of(outcome));
        }
    }

    /// Ends in a value.
    #[must_use]
    pub fn finish(self, ranking: Ranking, model: &Model) -> Excess {
        let mut sites = Sites::new(&model.definitions);
        let mut sums: [BTreeMap<String, (Site, SiteSum)>; 2] = Default::default();
        let mut stacks: Vec<_> = self.stacks.into_iter().collect();
        stacks.sort_by_key(|&((stack, _), ref sum)| (sum.first, stack));
        for ((stack, excess), sum) in stacks {
            let site = sites.get(stack);
            let empty = || (site.clone(), SiteSum::default());
            sums[usize::from(!excess)].entry(site.id.clone()).or_insert_with(empty).1.merge(sum);
        }
        let mut hidden = 0;
        let [sites, late] = sums.map(|sums| {
            let mut ranked: Vec<_> = sums.into_values().collect();
            ranked.sort_by_key(|(_, sum)| (ranking.key(sum.count, sum.bytes, sum.first), sum.first));
            hidden += ranking.cut(&mut ranked);
            ranked.into_iter().map(|(site, sum)| sum.finish(site, &model.definitions)).collect()
        });
        Excess { integrity: Integrity::of(model), sites, late, hidden }
    }
}

impl SiteSum {
    fn of(outcome: &Outcome) -> Self {
        let previous = match outcome.previous {
            Previous::None => Before::None,
            Previous::Free(moment, verdict) => Before::Free(verdict, moment.stack),
            Previous::Forgotten => Before::Forgotten,
            Previous::Unseen => Before::Unseen,
        };
        let allocation = outcome.owner().allocated.map(|moment| moment.stack);
        let places = Places { free: outcome.moment.stack, previous, allocation };
        Self {
            count: 1,
            possible: u64::from(outcome.certainty == Certainty::Possible),
            bytes: outcome.buffer.size,
            first: outcome.moment.time,
            verdicts: BTreeMap::from([(outcome.verdict, 1)]),
            tests: BTreeMap::from([(outcome.moment.test, 1)]),
            examples: vec![Example { buffer: outcome.buffer, owner: *outcome.owner() }],
            places: BTreeMap::from([(places, 1)]),
        }
    }

    fn merge(&mut self, other: Self) {
        self.first = if self.count == 0 { other.first } else { self.first.min(other.first) };
        self.count += other.count;
        self.possible += other.possible;
        self.bytes = self.bytes.saturating_add(other.bytes);
        add(&mut self.verdicts, other.verdicts);
        add(&mut self.tests, other.tests);
        add(&mut self.places, other.places);
        self.examples.extend(other.examples);
        self.examples.dedup();
        self.examples.truncate(EXAMPLES);
    }

    fn finish(self, site: Site, definitions: &Definitions) -> ExcessSite {
        let usual = self.places.iter().max_by_key(|&(places, &count)| (count, Reverse(*places)));
        let none = Places { free: 0, previous: Before::None, allocation: None };
        let places = usual.map_or(none, |(places, _)| *places);
        let mut tests = BTreeMap::new();
        for (test, count) in self.tests {
            if let Some(name) = names::test_of(definitions, test) {
                *tests.entry(name).or_default() += count;
            }
        }
        ExcessSite {
            site,
            count: self.count,
            possible: self.possible,
            bytes: self.bytes,
            first: self.first,
            verdicts: self.verdicts.into_iter().map(|(verdict, count)| VerdictCount { verdict, count }).collect(),
            tests,
            examples: self.examples.iter().map(Example::show).collect(),
            free: definitions.stack(places.free),
            previous: places.previous.resolve(definitions),
            allocation: allocation(places.allocation, definitions),
            other_places: self.places.len().saturating_sub(1),
        }
    }
}

fn add<K: Ord>(sums: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (key, count) in more {
        *sums.entry(key).or_default() += count;
    }
}

impl Before {
    fn resolve(self, definitions: &Definitions) -> Place {
        let (what, stack) = match self {
            Self::Free(verdict, stack) => (verdict.name(), definitions.stack(stack)),
            Self::None => ("none", None),
            Self::Forgotten => ("not known: too many buffers were freed in between", None),
            Self::Unseen => ("not in the recording", None),
        };
        Place { what: what.to_owned(), stack }
    }
}

/// Where a buffer was allocated, by the stack of its request.
pub(super) fn allocation(stack: Option<u32>, definitions: &Definitions) -> Place {
    let lines = stack.and_then(|stack| definitions.stack(stack));
    let what = match (stack, &lines) {
        (Some(_), Some(_)) => "allocated",
        (Some(_), None) => "no stack",
        (None, _) => "not in the recording",
    };
    Place { what: what.to_owned(), stack: lines }
}
