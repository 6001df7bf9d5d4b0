// SPDX-License-Identifier: Apache-2.0
//! From tables to bytes: text for people, JSON for programs. Nothing here decides anything.
//!
//! # JSON
//!
//! One object: `schema` names the value and its version, e.g. `tt-buftrace/report/1`, and the other fields are those of
//! the value, by the names in Rust: [`Report`](crate::analysis::Report), [`Timeline`](crate::analysis::Timeline),
//! [`Excess`](crate::analysis::Excess), [`Held`](crate::analysis::Held), [`Diff`](crate::analysis::Diff),
//! [`Check`](crate::analysis::Check), or for `explain` an [`Explanation`](crate::model::Explanation) or
//! [`CauseWords`](crate::analysis::CauseWords), for `verdicts` lists of them. A version changes when a field is renamed, removed or changes its meaning; a new field does not change
//! it.

mod balance;
mod check;
mod diff;
mod excess;
mod explain;
mod held;
mod holders;
mod integrity;
mod junit;
mod report;
mod stack;
mod table;
#[cfg(test)]
mod tests;
mod timeline;

use serde::Serialize;

pub use check::check;
pub use diff::diff;
pub use excess::{excess, excess_site};
pub use explain::{explain, explain_cause, verdicts};
pub use held::held;
pub use junit::junit;
pub use report::report;
pub use stack::{Frames, stack};
pub use table::bytes;
pub use timeline::{StackChoice, steps, timeline};

pub(crate) use integrity::command;
pub(crate) use report::verdict_counts;
pub(crate) use table::{Table, count, signed_bytes, when};

use crate::{analysis::Integrity, trace::escape_json};

/// What every view says first: of which processes, from when, and what is missing.
#[must_use]
pub fn head(integrity: &Integrity) -> String {
    let mut out = String::new();
    integrity::show(integrity, &mut out);
    out
}

/// Shows a value as JSON, with a line end.
#[must_use]
pub fn json<V: Serialize>(name: &str, value: &V) -> String {
    #[derive(Serialize)]
    struct Document<'a, V> {
        schema: String,
        #[serde(flatten)]
        value: &'a V,
    }
    let document = Document { schema: format!("tt-buftrace/{name}/1"), value };
    let mut text =
        serde_json::to_string_pretty(&document).expect("values have string keys only, so that they always serialize");
    text.push('\n');
    escape_json(&text)
}
