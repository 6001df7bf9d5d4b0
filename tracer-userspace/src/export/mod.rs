// SPDX-License-Identifier: Apache-2.0
//! The formats of other tools: each takes the entries of a trace one at a time and writes a file or a folder.
//!
//! A trace is read twice for it: names may stand behind what they name, so the first reading collects the definitions,
//! and the second gives the entries. So no format needs memory for each event unless its own structure asks for it.

mod folded;
mod html;

use anyhow::Result;

pub use folded::Folded;
pub use html::Html;

use crate::{analysis::Selected, model::Entry};

/// A format that is being written.
pub trait Export {
    /// Takes the next entry.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    fn entry(&mut self, entry: &Entry) -> Result<()>;

    /// Learns, behind the last entry, what was selected, if that is not everything.
    fn selected(&mut self, _selected: Option<Selected>) {}

    /// Writes what could not be written before all was known.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    fn finish(self: Box<Self>) -> Result<()>;
}
