// SPDX-License-Identifier: Apache-2.0
//! What a measure is told in.

use crate::analysis::{Amount, Measure};

/// Bytes, or how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes on one device.
    Bytes,
    /// Allocations, buffers or frees.
    Count,
}

impl Unit {
    /// How much that is.
    #[must_use]
    pub fn of(self, amount: Amount) -> u64 {
        match self {
            Self::Bytes => amount.bytes,
            Self::Count => amount.count,
        }
    }

    /// What a measure is called in this unit, in a few words.
    #[must_use]
    pub fn name(self, measure: Measure) -> &'static str {
        match (measure, self) {
            (Measure::Allocated, Self::Bytes) => "bytes allocated",
            (Measure::Allocated, Self::Count) => "allocations",
            (Measure::Held, Self::Bytes) => "bytes held until the device or the recording ended",
            (Measure::Held, Self::Count) => "buffers held until the device or the recording ended",
            (Measure::Peak, Self::Bytes) => "bytes live at the peak",
            (Measure::Peak, Self::Count) => "buffers live at the peak",
            (Measure::Excess, Self::Bytes) => "bytes freed in excess",
            (Measure::Excess, Self::Count) => "excess frees",
        }
    }

    /// What is counted.
    #[must_use]
    pub fn noun(self, measure: Measure) -> &'static str {
        match (self, measure) {
            (Self::Bytes, _) => "bytes",
            (Self::Count, Measure::Allocated) => "allocations",
            (Self::Count, Measure::Held | Measure::Peak) => "buffers",
            (Self::Count, Measure::Excess) => "frees",
        }
    }
}
