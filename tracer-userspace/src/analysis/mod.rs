// SPDX-License-Identifier: Apache-2.0
//! From the entries of the ledger to tables: each analysis is a fold that ends in a value, and prints nothing.
//!
//! The values are what `--json` writes, so the names of their fields are stable. In all of them times are nanoseconds
//! after `integrity.start_ns`, sizes are bytes on one device, and an absent value is `null`.

mod balance;
mod by_verdict;
mod cause;
mod check;
mod diff;
mod epilogue;
mod excess;
mod filter;
mod function;
mod held;
mod holders;
mod integrity;
mod life;
mod live;
pub(crate) mod names;
mod order;
mod pattern;
mod profile;
mod report;
mod segments;
mod site;
mod sites;
mod summary;
mod timeline;
mod totals;

pub use balance::{Balance, BalanceRow, Explained, Offender, ServerOffender, ServerRow};
pub use cause::{Cause, CauseWords, Suspect};
pub use check::{
    Baseline, Check, Counted, CountedFold, CountedIn, Counts, Expectation, Expectations, Expected, Gate, Known, Rule,
    Ruling, Subject, Suppressed, Suppression, Suppressions, TestRuling, Unmet,
};

pub use diff::{BalanceChange, Change, ChangeKind, Conclusion, Diff, TestChange, TestSum, VerdictChange, diff};
pub use epilogue::{Epilogue, EpilogueFold, Folds};
pub use excess::{Excess, ExcessFold, ExcessGroup, ExcessGrouping, ExcessKind, ExcessSite, Place};
pub use filter::{DeviceQuery, Filter, Selected, Selection};
pub use function::{frame_name, shorten};
pub use held::{Grouping, Held, HeldFold, HeldGroup, HeldTotal, Until};
pub use holders::{Holder, LiveSet, Load};
pub use integrity::{Clock, CounterRow, Integrity, LossRow, ProcessRow};
pub use life::{End, Life, LifeFold, Piece};
pub use live::{History, LiveFinding, LiveFold, LiveMemory, LivePicture, LiveSite, LiveTest, View};
pub use names::{buffer_type, parse_buffer_type};
pub use order::{Order, Ranking};
pub use pattern::{Pattern, SitePattern};
pub use profile::{Amount, At, Measure, Profile, ProfileFold, Sample};
pub use report::{CircularRow, Failure, Peak, Report, ReportFold, TestRow, Total, VerdictCount, VerdictRow};
pub use segments::Run;
pub use site::Site;
pub use sites::{KnownSites, Sites};
pub use summary::{BalanceSum, Finding, Summary, SummaryFold};
pub use timeline::{Query, Step, Steps, Timeline, TimelineFold, What};
