// SPDX-License-Identifier: Apache-2.0
//! From the entries of the ledger to tables: each analysis is a fold that ends in a value, and prints nothing.
//!
//! The values are what `--json` writes, so the names of their fields are stable. In all of them times are nanoseconds
//! after `integrity.start_ns`, sizes are bytes on one device, and an absent value is `null`.

mod balance;
mod excess;
mod holders;
mod integrity;
mod names;
mod report;
mod timeline;

pub use balance::{Balance, BalanceRow, Explained, Offender, ServerOffender, ServerRow};
pub use excess::{Excess, ExcessFold, Place, Site};
pub use holders::{Held, Holder};
pub use integrity::{Clock, CounterRow, Integrity, LossRow, ProcessRow};
pub use report::{Failure, Peak, Report, ReportFold, TestRow, Total, VerdictCount, VerdictRow};
pub use timeline::{DeviceQuery, Query, Step, Timeline, TimelineFold, What};
