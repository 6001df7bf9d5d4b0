// SPDX-License-Identifier: Apache-2.0
//! The report: totals, verdicts, the balance of each address, and the same by test.

mod fold;

use std::rc::Rc;

use serde::Serialize;

use super::{Balance, Integrity, LiveSet, Site};
use crate::model::{Certainty, Colour, Verdict};

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
    /// Who held what when most was live, for each memory, most bytes first; empty if a selection parts allocations from
    /// their frees.
    pub peaks: Vec<Peak>,
    /// Memories beyond those that were asked for.
    pub hidden_peaks: usize,
    /// Requests that were not met, the first few in the order in which they failed.
    pub failures: Vec<Failure>,
    /// Requests that were not met and are not among these.
    pub other_failures: u64,
    /// Circular buffers by device, which are no buffers; empty unless `record --probes full` looked for them.
    pub circular: Vec<CircularRow>,
    /// How many addresses have as many frees as allocations, by two ledgers.
    pub balance: Balance,
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
    /// Buffers from before the recording that were found live.
    pub found: u64,
    /// Their bytes.
    pub bytes_found: u64,
    /// Buffers allocated.
    pub allocations: u64,
    /// Of all these, buffers whose life ended.
    pub frees: u64,
    /// Bytes of the allocations.
    pub bytes_allocated: u64,
    /// Bytes of the frees.
    pub bytes_freed: u64,
    /// Buffers live at the end.
    pub live: u64,
    /// Their bytes.
    pub bytes_live: u64,
    /// Most bytes live at once, of buffers allocated in the recording or found live; `null` if a selection parts allocations from
    /// their frees.
    pub peak_bytes: Option<u64>,
    /// When that was.
    pub peak_time: Option<u64>,
    /// The test that ran.
    pub peak_test: Option<String>,
}

/// The circular buffers of one device, as the graph tracker was told of them when programs were laid out. Bytes are those
/// in the L1 of each core that has the buffer.
#[derive(Clone, Debug, Serialize)]
pub struct CircularRow {
    /// Process number.
    pub process: u32,
    /// Device; `null` if it could not be read.
    pub device: Option<String>,
    /// Circular buffers with memory of their own.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Circular buffers in the memory of a buffer, which counts where that does.
    pub in_buffers: u64,
    /// How often all of the device were gone.
    pub releases: u64,
    /// Most bytes between two of these.
    pub peak_bytes: u64,
}

/// What one type of memory of one device held when most bytes were live.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    /// Process number.
    pub process: u32,
    /// Device.
    pub device: Option<String>,
    /// Type of memory.
    pub buffer_type: String,
    /// When.
    pub time: u64,
    /// What was live, of what was allocated in the recording or found live.
    pub held: LiveSet,
}

/// A request that was not met, e.g. out of memory, and what the memory held then.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Process number.
    pub process: u32,
    /// Device.
    pub device: Option<String>,
    /// Type of memory.
    pub buffer_type: String,
    /// When.
    pub time: u64,
    /// Bytes requested on one device.
    pub bytes: u64,
    /// Bytes requested in each bank of it, alignment included; `null` if that was not recorded.
    pub bank_bytes: Option<u64>,
    /// Whether it is sure that the request failed.
    pub certainty: Certainty,
    /// Test that ran; `null` for none.
    pub test: Option<String>,
    /// The site of the request.
    pub site: Rc<Site>,
    /// What was live, of what was allocated in the recording or found live; `null` if a selection parts allocations from their frees.
    pub held: Option<LiveSet>,
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

impl VerdictRow {
    /// How often a verdict was confirmed, and how often it was possible.
    pub(super) fn new(verdict: Verdict, [confirmed, possible]: [u64; 2]) -> Self {
        Self { verdict, colour: verdict.colour(), confirmed, possible, meaning: verdict.meaning() }
    }
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
