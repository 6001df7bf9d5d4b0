// SPDX-License-Identifier: Apache-2.0
//! Excess frees by the site that makes them, with the free before, the allocation and the likely causes.

mod groups;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use serde::{Deserialize, Serialize};

pub use groups::{ExcessGroup, ExcessGrouping};

use super::{
    Integrity, Ranking, Site, Suspect, VerdictCount,
    by_verdict::ByVerdict,
    cause::{self, Facts, Functions, Signs},
    filter::origin_of,
    names::{self, Named},
    sites::Sites,
};
use crate::model::{Certainty, Colour, Definitions, Entry, KnownStacks, Model, Outcome, Previous, StackLines, Verdict};

/// How many buffers are named as examples of a site.
const EXAMPLES: usize = 5;

/// The sites that free too much.
#[derive(Clone, Debug, Serialize)]
pub struct Excess {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// Sites of frees beyond the allocations, as ranked.
    pub sites: Vec<ExcessSite>,
    /// Sites of frees that leaked, which are no excess.
    pub leaks: Vec<ExcessSite>,
    /// Sites of late frees (after-close, marked), which are none either.
    pub late: Vec<ExcessSite>,
    /// Sites of frees in forked children of what their parents allocated, which are none either, but look like it where
    /// processes are not told apart.
    pub inherited: Vec<ExcessSite>,
    /// What the groups are, if groups were asked for; then there are no sites.
    pub by: Option<ExcessGrouping>,
    /// The groups of all these frees, as ranked.
    pub groups: Vec<ExcessGroup>,
    /// Sites or groups beyond those that were asked for, of all kinds.
    pub hidden: usize,
}

/// All frees that were made at one site.
#[derive(Clone, Debug, Serialize)]
pub struct ExcessSite {
    /// The site.
    pub site: Rc<Site>,
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
    /// The patterns that the evidence speaks for, the more telling first; none if no pattern is known.
    pub causes: Vec<Suspect>,
}

/// What kind of finding a free is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExcessKind {
    /// A free beyond the allocations.
    Excess,
    /// A free for which no allocator was called, although the memory was still taken.
    Leak,
    /// A free for which no allocator was called, mostly as the memory was gone with its device.
    Late,
    /// A forked child's free of its copy.
    Inherited,
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
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct ExcessFold {
    /// By stack number.
    stacks: HashMap<(u32, ExcessKind), SiteSum>,
    groups: groups::Sums,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct SiteSum {
    count: u64,
    possible: u64,
    bytes: u64,
    first: u64,
    verdicts: ByVerdict<u64>,
    tests: BTreeMap<u32, u64>,
    examples: Vec<Example>,
    places: BTreeMap<Places, u64>,
    signs: Signs,
}

/// The free, the free before and the allocation: stacks, and what stands for them where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
struct Places {
    free: u32,
    previous: Before,
    /// `None` if the allocation was not seen.
    allocation: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
enum Before {
    Free(Verdict, u32),
    Close(u32),
    None,
    Forgotten,
    Unseen,
}

/// A buffer, by the owner of the memory that it is about: the buffer itself, or an alias's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Example {
    unique_id: u64,
    owner: Named,
}

impl Example {
    fn of(outcome: &Outcome) -> Self {
        Self { unique_id: outcome.buffer.unique_id, owner: Named::of(outcome.owner()) }
    }

    fn show(&self) -> String {
        match self.owner.unique_id == self.unique_id {
            true => self.owner.to_string(),
            false => format!("buffer {}, an alias of {}", self.unique_id, self.owner),
        }
    }
}

impl ExcessFold {
    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        if let Entry::Outcome(outcome) = entry
            && let Some(kind) = ExcessKind::of(outcome.verdict)
        {
            self.stacks.entry((outcome.moment.stack, kind)).or_default().add(outcome);
            self.groups.add(kind, outcome);
        }
    }

    /// Whether it takes an entry.
    pub(super) fn takes(entry: &Entry) -> bool {
        matches!(entry, Entry::Outcome(outcome) if ExcessKind::of(outcome.verdict).is_some())
    }

    /// Ends in a value: by site, or by something else.
    #[must_use]
    pub fn finish(self, by: Option<ExcessGrouping>, ranking: Ranking, model: &Model) -> Excess {
        let integrity = Integrity::of(model);
        if let Some(by) = by {
            let (groups, hidden) = self.groups.finish(by, ranking, &model.definitions);
            let [sites, leaks, late, inherited] = Default::default();
            return Excess { integrity, sites, leaks, late, inherited, by: Some(by), groups, hidden };
        }
        let mut sites = Sites::new(&model.definitions);
        let mut sums: BTreeMap<(ExcessKind, String), (Rc<Site>, SiteSum)> = BTreeMap::new();
        let mut stacks: Vec<_> = self.stacks.into_iter().collect();
        stacks.sort_by_key(|&((stack, _), ref sum)| (sum.first, stack));
        for ((stack, kind), sum) in stacks {
            let site = sites.get(stack);
            let empty = || (Rc::clone(site), SiteSum::default());
            sums.entry((kind, site.id.clone())).or_insert_with(empty).1.merge(sum);
        }
        let mut kinds: BTreeMap<ExcessKind, Vec<(Rc<Site>, SiteSum)>> = BTreeMap::new();
        for ((kind, _), site) in sums {
            kinds.entry(kind).or_default().push(site);
        }
        let (mut hidden, mut functions) = (0, Functions::default());
        let mut stacks = KnownStacks::new(&model.definitions);
        let [sites, leaks, late, inherited] = ExcessKind::ALL.map(|kind| {
            let mut ranked = kinds.remove(&kind).unwrap_or_default();
            ranked.sort_by_key(|(_, sum)| (ranking.key(sum.count, sum.bytes, sum.first), sum.first));
            hidden += ranking.cut(&mut ranked);
            ranked.into_iter().map(|(site, sum)| sum.finish(site, &mut stacks, &mut functions)).collect()
        });
        Excess { integrity, sites, leaks, late, inherited, by, groups: Vec::new(), hidden }
    }
}

impl ExcessSite {
    /// A site with one free, in the names that are known by now.
    #[must_use]
    pub fn of(outcome: &Outcome, definitions: &Definitions) -> Self {
        let site = Site::of(definitions.stack(outcome.moment.stack).as_ref());
        let mut sum = SiteSum::default();
        sum.add(outcome);
        sum.finish(Rc::new(site), &mut KnownStacks::new(definitions), &mut Functions::default())
    }
}

impl ExcessKind {
    /// All kinds, the gravest first.
    pub const ALL: [Self; 4] = [Self::Excess, Self::Leak, Self::Late, Self::Inherited];

    /// That of a verdict; none if it is no finding about a free.
    #[must_use]
    pub fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            // Both owners of shared bytes were allocated, and freed so far by neither.
            Verdict::Overlap => None,
            Verdict::Leaked => Some(Self::Leak),
            Verdict::AfterClose | Verdict::Marked => Some(Self::Late),
            Verdict::Inherited => Some(Self::Inherited),
            _ => matches!(verdict.colour(), Colour::Excess | Colour::Red).then_some(Self::Excess),
        }
    }
}

impl SiteSum {
    fn add(&mut self, outcome: &Outcome) {
        let previous = match outcome.previous {
            Previous::None => Before::None,
            Previous::Free(moment, verdict) => Before::Free(verdict, moment.stack),
            Previous::Close(moment) => Before::Close(moment.stack),
            Previous::Forgotten => Before::Forgotten,
            Previous::Unseen => Before::Unseen,
        };
        let allocation = outcome.owner().allocated.map(|moment| moment.stack);
        let places = Places { free: outcome.moment.stack, previous, allocation };
        self.begin(outcome.moment.time);
        self.count += 1;
        self.possible += u64::from(outcome.certainty == Certainty::Possible);
        self.bytes = self.bytes.saturating_add(outcome.buffer.size);
        *self.verdicts.of(outcome.verdict) += 1;
        *self.tests.entry(origin_of(outcome).test).or_default() += 1;
        *self.places.entry(places).or_default() += 1;
        self.signs.add(outcome);
        self.example(Example::of(outcome));
    }

    fn merge(&mut self, other: Self) {
        self.begin(other.first);
        self.count = self.count.saturating_add(other.count);
        self.possible = self.possible.saturating_add(other.possible);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.verdicts.merge(&other.verdicts);
        add(&mut self.tests, other.tests);
        add(&mut self.places, other.places);
        self.signs.merge(other.signs);
        other.examples.into_iter().for_each(|example| self.example(example));
    }

    /// Notes when a free was made, before it counts.
    fn begin(&mut self, time: u64) {
        self.first = if self.count == 0 { time } else { self.first.min(time) };
    }

    fn example(&mut self, example: Example) {
        if self.examples.len() < EXAMPLES && self.examples.last() != Some(&example) {
            self.examples.push(example);
        }
    }

    fn finish(self, site: Rc<Site>, stacks: &mut KnownStacks<'_>, functions: &mut Functions) -> ExcessSite {
        let definitions = stacks.definitions();
        let usual = self.places.iter().max_by_key(|&(places, &count)| (count, Reverse(*places)));
        let none = Places { free: 0, previous: Before::None, allocation: None };
        let places = usual.map_or(none, |(places, _)| *places);
        let mut tests = BTreeMap::new();
        for (test, count) in self.tests {
            if let Some(name) = names::test_of(definitions, test) {
                let sum: &mut u64 = tests.entry(name).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        let (free, previous) = (stacks.get(places.free), places.previous.resolve(stacks));
        let causes = cause::suspects(&Facts {
            count: self.count,
            free: free.as_ref().map(|stack| functions.in_stack(stack)),
            previous: places.previous.verdict().and_then(|it| Some((functions.in_stack(previous.stack.as_ref()?), it))),
            signs: &self.signs,
            definitions,
        });
        ExcessSite {
            site,
            count: self.count,
            possible: self.possible,
            bytes: self.bytes,
            first: self.first,
            verdicts: self.verdicts.rows(),
            tests,
            examples: self.examples.iter().map(Example::show).collect(),
            free,
            previous,
            allocation: allocation(places.allocation, stacks),
            other_places: self.places.len().saturating_sub(1),
            causes,
        }
    }
}

fn add<K: Ord>(sums: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (key, count) in more {
        let sum = sums.entry(key).or_default();
        *sum = sum.saturating_add(count);
    }
}

impl Before {
    fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Free(verdict, _) => Some(verdict),
            Self::Close(_) | Self::None | Self::Forgotten | Self::Unseen => None,
        }
    }

    fn resolve(self, stacks: &mut KnownStacks<'_>) -> Place {
        let (what, stack) = match self {
            Self::Free(verdict, stack) => (verdict.name(), stacks.get(stack)),
            Self::Close(stack) => ("none, but a device was closed before", stacks.get(stack)),
            Self::None => ("none", None),
            Self::Forgotten => ("not known: too long before, or not in the recording", None),
            Self::Unseen => ("not in the recording", None),
        };
        Place { what: what.to_owned(), stack }
    }
}

/// Where a buffer was allocated, by the stack of its request.
pub(super) fn allocation(stack: Option<u32>, stacks: &mut KnownStacks<'_>) -> Place {
    let lines = stack.and_then(|stack| stacks.get(stack));
    let what = match (stack, &lines) {
        (Some(_), Some(_)) => "allocated",
        (Some(_), None) => "no stack",
        (None, _) => "not in the recording",
    };
    Place { what: what.to_owned(), stack: lines }
}
