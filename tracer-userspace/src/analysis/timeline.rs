// SPDX-License-Identifier: Apache-2.0
//! The timeline: everything that happened to a device, an address or a buffer, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde::Serialize;

use super::{Clock, Integrity, Selected, names};
use crate::{
    model::{
        Alias, Allocation, Certainty, Definitions, Device, Entry, Found, KnownStacks, Model, Moment, Outcome,
        StackLines, Verdict,
    },
    trace::ALLOCATION_SERVER,
};

/// Which buffers to look for; what is absent matches everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// The device address at which a buffer begins.
    pub address: Option<u64>,
    /// The unique id.
    pub buffer: Option<u64>,
}

impl Query {
    /// What a view of these buffers says of its part: with what else is selected of them. `found` is whether it has a step.
    #[must_use]
    pub fn told(&self, selected: Option<Selected>, found: bool) -> Option<Selected> {
        let address = self.address.map(|address| format!("address {address:#x}"));
        let words: Vec<String> = address.into_iter().chain(self.buffer.map(|id| format!("buffer {id}"))).collect();
        let own = words.join(", ");
        match selected {
            selected if words.is_empty() => selected,
            Some(selected) => Some(Selected { only: format!("{own}, {}", selected.only), ..selected }),
            None => {
                let unmatched = if found { vec![] } else { vec![format!("no buffer of {own} is known")] };
                Some(Selected { only: own, without_device: 0, unmatched })
            }
        }
    }
}

/// Steps in the order of their times. What was decided later, e.g. by what a thread did next, stands where it happened.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// What happened.
    pub steps: Vec<Step>,
    /// The stacks that the steps name by number.
    pub stacks: BTreeMap<u32, StackLines>,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What it was.
    pub what: What,
    /// Counts the allocations and frees of a process, or of a log, each from 1; 0 for what is neither.
    pub number: u64,
    /// When.
    pub time: u64,
    /// Thread id, 0 if no thread did it.
    pub thread: u32,
    /// Process number.
    pub process: u32,
    /// Unique id of the buffer; `null` for an alias that has none yet.
    pub buffer: Option<u64>,
    /// Its device.
    pub device: Option<String>,
    /// Its type of memory.
    pub buffer_type: String,
    /// Its address.
    pub address: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The test that ran and its phase, as pytest writes them: `test_a.py::test_one (call)`.
    pub test: Option<String>,
    /// The verdict; absent for an allocation.
    pub verdict: Option<Verdict>,
    /// Whether the verdict stands.
    pub certainty: Option<Certainty>,
    /// Unique id of the other buffer that the verdict is about: the owner of an alias's memory, the one that a stolen free
    /// robbed, the one that an allocation overlaps; absent if there is none.
    pub other: Option<u64>,
    /// Number of the stack, 0 if there is none.
    pub stack: u32,
}

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Memory was given to a buffer.
    Alloc,
    /// A buffer from before the recording was found live.
    Found,
    /// A buffer was made over memory that it does not own.
    Alias,
    /// A free.
    Free,
    /// No free: a failed request, bytes that were given twice, or a buffer that is still live.
    End,
}

/// Collects a [`Timeline`].
#[derive(Debug)]
pub struct TimelineFold {
    query: Query,
    kept: VecDeque<Brief>,
    /// Most that are kept.
    most: usize,
    /// Steps that were not kept, by process.
    left_out: HashMap<u32, Numbers>,
}

/// What a step says of an entry, in numbers: an entry is several times as large.
#[derive(Clone, Copy, Debug)]
struct Brief {
    what: What,
    moment: Moment,
    process: u32,
    unique_id: Option<u64>,
    device: Option<Device>,
    buffer_type: u32,
    address: u64,
    bytes: u64,
    ruling: Option<(Verdict, Certainty)>,
    other: Option<u64>,
}

/// Makes the steps of entries, one at a time.
#[derive(Debug)]
pub struct Steps<'a> {
    definitions: &'a Definitions,
    numbers: HashMap<u32, Numbers>,
}

/// Steps numbered so far.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    allocations: u64,
    frees: u64,
}

impl TimelineFold {
    /// Begins with what to look for.
    #[must_use]
    pub fn new(query: Query) -> Self {
        Self::latest(query, usize::MAX)
    }

    /// The same for at most so many steps, the latest; their numbers are as if all were there.
    #[must_use]
    pub fn latest(query: Query, most: usize) -> Self {
        Self { query, kept: VecDeque::new(), most, left_out: HashMap::new() }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        if self.query.matches(entry) {
            self.kept.push_back(Brief::of(entry));
        }
        if self.kept.len() > self.most
            && let Some(brief) = self.kept.pop_front()
        {
            self.left_out.entry(brief.process).or_default().count(brief.what);
        }
    }

    /// Ends in a timeline.
    #[must_use]
    pub fn finish(self, model: &Model) -> Timeline {
        let integrity = Integrity::of(model);
        let mut make = Steps::new(&model.definitions);
        for (&process, left_out) in &self.left_out {
            make.skip(process, left_out);
        }
        // Lines and nodes come after what has a time.
        let mut kept: Vec<Brief> = self.kept.into();
        kept.sort_by_key(|brief| (integrity.clock(brief.process) != Clock::Time, brief.moment.time, brief.at_end()));
        let steps: Vec<Step> = kept.into_iter().map(|brief| make.named(brief)).collect();
        let numbers: BTreeSet<u32> = steps.iter().map(|step| step.stack).collect();
        let mut known = KnownStacks::new(&model.definitions);
        let stacks = numbers.into_iter().filter_map(|number| Some((number, known.get(number)?))).collect();
        Timeline { integrity, steps, stacks }
    }
}

impl<'a> Steps<'a> {
    /// Begins with the definitions of the traces that the entries are of.
    #[must_use]
    pub fn new(definitions: &'a Definitions) -> Self {
        Self { definitions, numbers: HashMap::new() }
    }

    /// The step that the next entry is.
    pub fn step(&mut self, entry: &Entry) -> Step {
        self.named(Brief::of(entry))
    }

    fn named(&mut self, brief: Brief) -> Step {
        let definitions = self.definitions;
        brief.step(self.numbers(brief.process), definitions)
    }

    /// Counts steps that are left out.
    fn skip(&mut self, process: u32, left_out: &Numbers) {
        let sum = self.numbers(process);
        sum.allocations += left_out.allocations;
        sum.frees += left_out.frees;
    }

    /// A log counts all of its processes together.
    fn numbers(&mut self, process: u32) -> &mut Numbers {
        let is_log = names::origin(process, self.definitions) == ALLOCATION_SERVER;
        self.numbers.entry(if is_log { 0 } else { process }).or_default()
    }
}

impl Numbers {
    /// Counts a step, and returns its number.
    fn count(&mut self, what: What) -> u64 {
        let number = match what {
            What::Alloc => &mut self.allocations,
            What::Free => &mut self.frees,
            What::Found | What::Alias | What::End => return 0,
        };
        *number += 1;
        *number
    }
}

impl Query {
    /// Whether an entry is about such a buffer.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        self.address.is_none_or(|address| address == entry.address())
            && self.buffer.is_none_or(|unique_id| entry.unique_id() == Some(unique_id))
    }
}

impl Brief {
    /// What nobody did comes last of what has a time: it is all at once, in the order of processes and buffers.
    fn at_end(&self) -> Option<(u32, Option<u64>)> {
        (self.what == What::End && self.moment.thread == 0).then_some((self.process, self.unique_id))
    }

    fn of(entry: &Entry) -> Self {
        let (moment, bytes) = match entry {
            Entry::Allocation(Allocation { buffer, moment }) | Entry::Outcome(Outcome { buffer, moment, .. }) => {
                (*moment, buffer.size)
            }
            Entry::Found(Found { buffer, time }) => (Moment { time: *time, ..Moment::default() }, buffer.size),
            Entry::Alias(Alias { moment, size, .. }) => (*moment, *size),
        };
        let outcome = if let Entry::Outcome(outcome) = entry { Some(outcome) } else { None };
        Self {
            what: What::of(entry),
            moment,
            process: entry.process(),
            unique_id: entry.unique_id(),
            device: entry.device(),
            buffer_type: entry.buffer_type(),
            address: entry.address(),
            bytes,
            ruling: outcome.map(|outcome| (outcome.verdict, outcome.certainty)),
            other: outcome.and_then(|outcome| outcome.other).map(|buffer| buffer.unique_id),
        }
    }

    fn step(self, numbers: &mut Numbers, definitions: &Definitions) -> Step {
        Step {
            what: self.what,
            number: numbers.count(self.what),
            time: self.moment.time,
            thread: self.moment.thread,
            process: self.process,
            buffer: self.unique_id,
            device: names::device(self.device),
            buffer_type: names::buffer_type(self.buffer_type),
            address: self.address,
            bytes: self.bytes,
            test: definitions.text(self.moment.test).map(str::to_owned),
            verdict: self.ruling.map(|(verdict, _)| verdict),
            certainty: self.ruling.map(|(_, certainty)| certainty),
            other: self.other,
            stack: self.moment.stack,
        }
    }
}

impl What {
    /// The name in output, the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::Found => "found",
            Self::Alias => "alias",
            Self::Free => "free",
            Self::End => "end",
        }
    }

    fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Allocation(_) => Self::Alloc,
            Entry::Found(_) => Self::Found,
            Entry::Alias(_) => Self::Alias,
            Entry::Outcome(Outcome { verdict, moment, .. }) => match verdict {
                Verdict::Held | Verdict::Failed | Verdict::Overlap => Self::End,
                // An imported free has no thread.
                Verdict::Released | Verdict::PreAttach | Verdict::AliasFree | Verdict::Unmatched => Self::Free,
                _ if moment.thread != 0 => Self::Free,
                _ => Self::End,
            },
        }
    }
}
