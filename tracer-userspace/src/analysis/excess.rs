// SPDX-License-Identifier: Apache-2.0
//! Excess frees by the site that makes them, with the free before and the allocation.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use serde::Serialize;

use super::{Integrity, VerdictCount, names};
use crate::model::{Buffer, Colour, Definitions, Entry, Model, Moment, Outcome, Previous, StackLines, Verdict};

/// How many buffers are named as examples of a site.
const EXAMPLES: usize = 5;

/// The sites that free too much.
#[derive(Clone, Debug, Serialize)]
pub struct Excess {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// Sites of frees beyond the allocations, most frees first.
    pub sites: Vec<Site>,
    /// Sites of late frees (after-close, marked), which are no excess.
    pub late: Vec<Site>,
}

/// A site: all frees with one stack.
#[derive(Clone, Debug, Serialize)]
pub struct Site {
    /// Frees.
    pub count: u64,
    /// Of these, how many a loss could change.
    pub possible: u64,
    /// What they were.
    pub verdicts: Vec<VerdictCount>,
    /// The tests that ran, with their number of frees; those outside of any test are not here.
    pub tests: BTreeMap<String, u64>,
    /// The first few buffers.
    pub examples: Vec<String>,
    /// Where this free was made.
    pub free: Option<StackLines>,
    /// Where the free before was made: the place that most of the frees share.
    pub previous: Place,
    /// Where the buffer was allocated: the place that most of the frees share.
    pub allocation: Place,
    /// Pairs of other places for the free before and the allocation.
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

/// Collects an [`Excess`]. Its memory grows with the number of sites.
#[derive(Debug, Default)]
pub struct ExcessFold {
    sites: HashMap<(u32, bool), SiteSum>,
}

#[derive(Debug, Default)]
struct SiteSum {
    count: u64,
    possible: u64,
    verdicts: BTreeMap<Verdict, u64>,
    tests: BTreeMap<u32, u64>,
    examples: Vec<Buffer>,
    places: BTreeMap<Places, u64>,
}

/// The free before and the allocation: stacks, and what stands for them where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Places {
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
            self.sites.entry((outcome.moment.stack, excess)).or_default().add(outcome);
        }
    }

    /// Ends in a value.
    #[must_use]
    pub fn finish(self, model: &Model) -> Excess {
        let mut sums: Vec<_> = self.sites.into_iter().collect();
        sums.sort_by_key(|((stack, _), sum)| (Reverse(sum.count), *stack));
        let (excess, late): (Vec<_>, Vec<_>) = sums.into_iter().partition(|((_, excess), _)| *excess);
        let sites = |sums: Vec<((u32, bool), SiteSum)>| {
            sums.into_iter().map(|((stack, _), sum)| sum.finish(stack, &model.definitions)).collect()
        };
        Excess { integrity: Integrity::of(model), sites: sites(excess), late: sites(late) }
    }
}

impl SiteSum {
    fn add(&mut self, outcome: &Outcome) {
        self.count += 1;
        self.possible += u64::from(outcome.certainty == crate::model::Certainty::Possible);
        *self.verdicts.entry(outcome.verdict).or_default() += 1;
        *self.tests.entry(outcome.moment.test).or_default() += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(outcome.buffer);
        }
        let previous = match outcome.previous {
            Previous::None => Before::None,
            Previous::Free(moment, verdict) => Before::Free(verdict, moment.stack),
            Previous::Forgotten => Before::Forgotten,
            Previous::Unseen => Before::Unseen,
        };
        let allocation = outcome.buffer.allocated.map(|moment| moment.stack);
        *self.places.entry(Places { previous, allocation }).or_default() += 1;
    }

    fn finish(self, stack: u32, definitions: &Definitions) -> Site {
        let usual = self.places.iter().max_by_key(|&(places, &count)| (count, Reverse(*places)));
        let places = usual.map_or(Places { previous: Before::None, allocation: None }, |(places, _)| *places);
        let mut tests = BTreeMap::new();
        for (test, count) in self.tests {
            if let Some(name) = definitions.test(&Moment { test, ..Moment::default() }) {
                *tests.entry(name.to_owned()).or_default() += count;
            }
        }
        Site {
            count: self.count,
            possible: self.possible,
            verdicts: self.verdicts.into_iter().map(|(verdict, count)| VerdictCount { verdict, count }).collect(),
            tests,
            examples: self.examples.iter().map(example).collect(),
            free: definitions.stack(stack),
            previous: places.previous.resolve(definitions),
            allocation: allocation(places.allocation, definitions),
            other_places: self.places.len().saturating_sub(1),
        }
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

fn allocation(stack: Option<u32>, definitions: &Definitions) -> Place {
    let what = if stack.is_some() { "allocated" } else { "not in the recording" };
    Place { what: what.to_owned(), stack: stack.and_then(|stack| definitions.stack(stack)) }
}

fn example(buffer: &Buffer) -> String {
    let device = names::device(buffer.device).unwrap_or_else(|| "unknown device".to_owned());
    let kind = names::buffer_type(buffer.buffer_type);
    format!("buffer {} ({device}, {kind} {:#x}, process {})", buffer.unique_id, buffer.address, buffer.process)
}
