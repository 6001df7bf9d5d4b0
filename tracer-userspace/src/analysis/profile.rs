// SPDX-License-Identifier: Apache-2.0
//! The profile: what was allocated, held, live at the peak, and freed too often, by stack.

use std::collections::BTreeMap;

use foldhash::HashMap;

use super::{
    ExcessKind, Filter,
    holders::{Live, Load},
};
use crate::model::{Buffer, Device, Entry, Found, Moment, Outcome, Verdict};

/// What is measured by stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Allocations, where they were requested.
    Allocated,
    /// Buffers that were never freed, or released by closing their device alone, where they were allocated.
    Held,
    /// Buffers that were live when their memory held most bytes, where they were allocated. Each type of memory of each
    /// device has a peak of its own.
    Peak,
    /// Frees beyond the allocations, where they were made.
    Excess,
}

/// How often, and how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Allocations, buffers or frees.
    pub count: u64,
    /// Their bytes on one device.
    pub bytes: u64,
}

/// All measures by stack.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// In the order of their fields, none twice.
    pub samples: Vec<Sample>,
    /// Whether peaks were measured: a selection that parts allocations from their frees leaves none.
    pub has_peaks: bool,
}

/// What one stack did in one memory and one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where.
    pub at: At,
    /// By measure.
    amounts: [Amount; Measure::ALL.len()],
}

/// Where something was allocated or freed, in numbers of the traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct At {
    /// Process number.
    pub process: u32,
    /// Device, if it is known.
    pub device: Option<Device>,
    /// Type of memory, as the target numbers them.
    pub buffer_type: u32,
    /// Text number of the test that ran, 0 for none.
    pub test: u32,
    /// Stack number, 0 for none; absent if the allocation was not seen.
    pub stack: Option<u32>,
}

/// Collects a [`Profile`]. Its memory grows with the different stacks, tests and memories, not with the events.
#[derive(Debug, Default)]
pub struct ProfileFold {
    sums: HashMap<At, [Amount; Measure::ALL.len()]>,
    live: HashMap<Memory, Live>,
    without_peaks: bool,
}

/// One type of memory of one device: process, device, type.
type Memory = (u32, Option<Device>, u32);

impl Measure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Allocated, Self::Held, Self::Peak, Self::Excess];
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl Profile {
    /// A measure by stack.
    #[must_use]
    pub fn by_stack(&self, measure: Measure) -> BTreeMap<Option<u32>, Amount> {
        let mut sums: BTreeMap<_, Amount> = BTreeMap::new();
        for sample in &self.samples {
            let amount = sample.amount(measure);
            if amount != Amount::default() {
                sums.entry(sample.at.stack).or_default().add(amount);
            }
        }
        sums
    }
}

impl Sample {
    /// How much of a measure.
    #[must_use]
    pub fn amount(&self, measure: Measure) -> Amount {
        self.amounts[measure as usize]
    }
}

impl ProfileFold {
    /// Begins one for the entries that a filter takes.
    #[must_use]
    pub fn new(filter: &Filter) -> Self {
        Self { without_peaks: filter.parts_lives(), ..Self::default() }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Allocation(allocation) if !allocation.buffer.phantom => {
                let (buffer, moment) = (&allocation.buffer, &allocation.moment);
                self.add(Measure::Allocated, at(buffer, Some(moment)), buffer);
                self.live(buffer).add(moment, load(buffer));
            }
            Entry::Found(Found { buffer, time }) => self.live(buffer).find(*time, load(buffer)),
            Entry::Allocation(_) | Entry::Alias(_) => {}
            Entry::Outcome(outcome) => self.outcome(outcome),
        }
    }

    /// Ends in a value.
    #[must_use]
    pub fn finish(mut self) -> Profile {
        let has_peaks = !self.without_peaks;
        for ((process, device, buffer_type), live) in std::mem::take(&mut self.live) {
            for (place, load) in live.places_at_peak().filter(|_| has_peaks) {
                let (stack, test) = (place.map(|(stack, _)| stack), place.map_or(0, |(_, test)| test));
                let at = At { process, device, buffer_type, test, stack };
                self.sum(Measure::Peak, at).add(Amount { count: load.buffers, bytes: load.bytes });
            }
        }
        let mut samples: Vec<_> = self.sums.into_iter().map(|(at, amounts)| Sample { at, amounts }).collect();
        samples.sort_by_key(|sample| sample.at);
        Profile { samples, has_peaks }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let Outcome { buffer, moment, .. } = outcome;
        if outcome.gives_back() {
            self.live(buffer).remove(buffer.allocated.as_ref(), load(buffer));
        }
        let held = matches!(outcome.verdict, Verdict::Held | Verdict::Bulk);
        if held && outcome.ends && !buffer.phantom {
            self.add(Measure::Held, at(buffer, buffer.allocated.as_ref()), buffer);
        }
        if ExcessKind::of(outcome.verdict) == Some(ExcessKind::Excess) {
            self.add(Measure::Excess, at(buffer, Some(moment)), buffer);
        }
    }

    fn add(&mut self, measure: Measure, at: At, buffer: &Buffer) {
        self.sum(measure, at).add(Amount { count: 1, bytes: buffer.size });
    }

    fn sum(&mut self, measure: Measure, at: At) -> &mut Amount {
        &mut self.sums.entry(at).or_default()[measure as usize]
    }

    fn live(&mut self, buffer: &Buffer) -> &mut Live {
        self.live.entry((buffer.process, buffer.device, buffer.buffer_type)).or_default()
    }
}

/// What happened to a buffer at a moment, if that was seen.
fn at(buffer: &Buffer, moment: Option<&Moment>) -> At {
    At {
        process: buffer.process,
        device: buffer.device,
        buffer_type: buffer.buffer_type,
        test: moment.map_or(0, |moment| moment.test),
        stack: moment.map(|moment| moment.stack),
    }
}

fn load(buffer: &Buffer) -> Load {
    Load::of_one(buffer.size, buffer.bank_bytes)
}
