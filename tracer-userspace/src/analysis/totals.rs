// SPDX-License-Identifier: Apache-2.0
//! What was allocated and freed, by memory, by test and by verdict: counted alike at the end of a trace and while it grows.

use serde::{Deserialize, Serialize};

use super::{
    by_verdict::ByVerdict,
    filter::origin_of,
    holders::{Live, Load},
};
use crate::model::{Allocation, Buffer, ByKey, Certainty, Device, Entry, Found, Moment, Outcome, Verdict};

/// One type of memory of one device: process, device, type.
pub(super) type Memory = (u32, Option<Device>, u32);

/// The counts. Their memory grows with sites, devices and tests, not with events.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Totals {
    pub(super) memories: ByKey<Memory, MemorySum>,
    /// Confirmed and possible ones.
    pub(super) verdicts: ByVerdict<[u64; 2]>,
    /// By text number.
    pub(super) tests: ByKey<u32, TestSum>,
}

/// What happened to one memory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct MemorySum {
    /// Buffers found live, and their bytes.
    pub(super) found: (u64, u64),
    pub(super) allocations: u64,
    pub(super) frees: u64,
    pub(super) bytes_allocated: u64,
    pub(super) bytes_freed: u64,
    /// Buffers live at the end, and their bytes.
    pub(super) held: (u64, u64),
    pub(super) live: Live,
}

/// What happened in one phase of a test.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct TestSum {
    /// When something first did.
    pub(super) first: u64,
    pub(super) allocations: u64,
    pub(super) frees: u64,
    pub(super) bytes_allocated: u64,
    pub(super) bytes_freed: u64,
    pub(super) verdicts: ByVerdict<u64>,
}

impl Totals {
    /// Takes the next entry.
    pub(super) fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Allocation(allocation) if !allocation.buffer.phantom => self.allocation(allocation),
            Entry::Found(found) => self.found(found),
            Entry::Allocation(_) | Entry::Alias(_) => {}
            Entry::Outcome(outcome) => self.outcome(outcome),
        }
    }

    fn allocation(&mut self, allocation: &Allocation) {
        let Allocation { buffer, moment } = allocation;
        let sum = self.memories.of(memory(buffer));
        sum.allocations += 1;
        sum.bytes_allocated = sum.bytes_allocated.saturating_add(buffer.size);
        sum.live.add(moment, load(buffer));
        let test = self.test(moment);
        test.allocations += 1;
        test.bytes_allocated = test.bytes_allocated.saturating_add(buffer.size);
    }

    fn found(&mut self, found: &Found) {
        let Found { buffer, time } = found;
        let sum = self.memories.of(memory(buffer));
        sum.found = (sum.found.0 + 1, sum.found.1.saturating_add(buffer.size));
        sum.live.find(*time, load(buffer));
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let Outcome { buffer, verdict, moment, .. } = outcome;
        let known = buffer.allocated.is_some() || buffer.found;
        self.verdicts.of(*verdict)[usize::from(outcome.certainty == Certainty::Possible)] += 1;
        *self.test(&origin_of(outcome)).verdicts.of(*verdict) += 1;
        if *verdict == Verdict::Held && known {
            let held = &mut self.memories.of(memory(buffer)).held;
            *held = (held.0 + 1, held.1.saturating_add(buffer.size));
        }
        // A forked child's free of its copy gives nothing back.
        if !is_free(outcome) || !outcome.ends || *verdict == Verdict::Inherited {
            return;
        }
        // What an allocator releases with everything else, no test freed.
        if *verdict != Verdict::Bulk {
            let test = self.test(moment);
            test.frees += 1;
            test.bytes_freed = test.bytes_freed.saturating_add(buffer.size);
        }
        if known {
            let sum = self.memories.of(memory(buffer));
            sum.live.remove(buffer.allocated.as_ref(), load(buffer));
            sum.frees += 1;
            sum.bytes_freed = sum.bytes_freed.saturating_add(buffer.size);
        }
    }

    fn test(&mut self, moment: &Moment) -> &mut TestSum {
        let first = moment.time;
        let sum = self.tests.of_or(moment.test, || TestSum { first, ..TestSum::default() });
        sum.first = sum.first.min(first);
        sum
    }
}

impl TestSum {
    /// Adds what happened in another phase of the same test.
    pub(super) fn merge(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.allocations = self.allocations.saturating_add(other.allocations);
        self.frees = self.frees.saturating_add(other.frees);
        self.bytes_allocated = self.bytes_allocated.saturating_add(other.bytes_allocated);
        self.bytes_freed = self.bytes_freed.saturating_add(other.bytes_freed);
        self.verdicts.merge(&other.verdicts);
    }

    /// Bytes allocated less bytes freed.
    pub(super) fn bytes_left(&self) -> i64 {
        self.bytes_allocated.wrapping_sub(self.bytes_freed) as i64
    }
}

/// The memory that a buffer is in.
pub(super) fn memory(buffer: &Buffer) -> Memory {
    (buffer.process, buffer.device, buffer.buffer_type)
}

/// Whether an outcome is a free, of a buffer that has memory.
pub(super) fn is_free(outcome: &Outcome) -> bool {
    let no_free = matches!(outcome.verdict, Verdict::Held | Verdict::Failed | Verdict::Phantom | Verdict::Overlap);
    !no_free && !outcome.buffer.phantom
}

fn load(buffer: &Buffer) -> Load {
    Load::of_one(buffer.size, buffer.bank_bytes)
}
