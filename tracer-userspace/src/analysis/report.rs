// SPDX-License-Identifier: Apache-2.0
//! The report: totals, verdicts, the balance of each address, and the same by test.

mod fold;

use serde::Serialize;

use super::Integrity;
use crate::model::{Colour, Verdict};

pub use fold::ReportFold;

/// The account in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How far it can be trusted.
    pub integrity: Integrity,
    /// By process, device and type of memory.
    pub totals: Vec<Total>,
    /// How many frees and ends got which verdict.
    pub verdicts: Vec<VerdictRow>,
    /// How many addresses have as many frees as allocations.
    pub balance: Vec<BalanceRow>,
    /// The addresses with most frees beyond their allocations.
    pub offenders: Vec<Offender>,
    /// Such addresses beyond those that were asked for.
    pub hidden_offenders: usize,
    /// By test, in the order of their first entry. The row without a test is what happened outside of any.
    pub tests: Vec<TestRow>,
}

/// What happened to one type of memory of one device. A buffer without memory behind it does not count.
#[derive(Clone, Debug, Serialize)]
pub struct Total {
    /// Process number.
    pub process: u32,
    /// Device, e.g. `mesh0`; `null` for what was allocated before the recording.
    pub device: Option<String>,
    /// Type of memory, e.g. `L1`.
    pub buffer_type: String,
    /// Buffers allocated.
    pub allocations: u64,
    /// Of these, buffers whose life ended.
    pub frees: u64,
    /// Bytes of the allocations.
    pub bytes_allocated: u64,
    /// Bytes of the frees.
    pub bytes_freed: u64,
    /// Buffers live at the end.
    pub live: u64,
    /// Their bytes.
    pub bytes_live: u64,
    /// Most bytes live at once, of buffers allocated in the recording; `null` if a selection parts allocations from
    /// their frees.
    pub peak_bytes: Option<u64>,
    /// When that was.
    pub peak_time: Option<u64>,
    /// The test that ran.
    pub peak_test: Option<String>,
}

/// A verdict and how often it was given.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictRow {
    /// The verdict.
    pub verdict: Verdict,
    /// How much attention it asks for.
    pub colour: Colour,
    /// Where the recording decides it.
    pub confirmed: u64,
    /// Where a loss, or the begin or end of the recording, could change it.
    pub possible: u64,
    /// What it means.
    pub meaning: &'static str,
}

/// The balance of the addresses of one type of memory of one device. A free after a bulk release is none of these.
#[derive(Clone, Debug, Serialize)]
pub struct BalanceRow {
    /// Process number.
    pub process: u32,
    /// Device; `null` for what was allocated before the recording.
    pub device: Option<String>,
    /// Type of memory.
    pub buffer_type: String,
    /// Addresses with an allocation or a free.
    pub addresses: u64,
    /// With as many frees as allocations.
    pub even: u64,
    /// With fewer frees.
    pub not_freed: u64,
    /// With more frees.
    pub freed_more: u64,
}

/// An address with more frees than allocations.
#[derive(Clone, Debug, Serialize)]
pub struct Offender {
    /// Process number.
    pub process: u32,
    /// Device; `null` for what was allocated before the recording.
    pub device: Option<String>,
    /// Type of memory.
    pub buffer_type: String,
    /// The address.
    pub address: u64,
    /// Allocations seen, and those from before the recording that were freed in it.
    pub allocations: u64,
    /// Frees seen.
    pub frees: u64,
    /// What the frees without an allocation, and those that came again, were.
    pub excess: Vec<VerdictCount>,
}

/// A verdict and a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictCount {
    /// The verdict.
    pub verdict: Verdict,
    /// How often.
    pub count: u64,
}

/// What happened in one test, its setup and teardown included.
#[derive(Clone, Debug, Serialize)]
pub struct TestRow {
    /// Test id; `null` for what happened outside of any test.
    pub test: Option<String>,
    /// Buffers allocated.
    pub allocations: u64,
    /// Buffers whose life ended, whenever they were allocated.
    pub frees: u64,
    /// Bytes of the allocations.
    pub bytes_allocated: u64,
    /// Bytes allocated less bytes freed.
    pub bytes_left: i64,
    /// What its frees were. A buffer that is held counts where it was allocated.
    pub verdicts: Vec<VerdictCount>,
}
