// SPDX-License-Identifier: Apache-2.0
//! The formats of other tools: each takes the entries of a trace one at a time and writes a file or a folder.
//!
//! A trace is read twice for it: names may stand behind what they name, so the first reading collects the definitions,
//! and the second gives the entries. So no format needs memory for each event unless its own structure asks for it.
//!
//! Formats that show stacks alone are made of a [`Profile`](crate::analysis::Profile), which one reading gives.

mod folded;
mod folder;
mod frames;
mod html;
mod lines;
mod parquet;
mod perfetto;
mod pprof;
mod speedscope;
mod svg;
mod table;
#[cfg(test)]
mod tests;
mod unit;
mod visualizer;

use anyhow::Result;

pub use folded::{Folded, write_folded};
pub use frames::Stacks;
pub use html::Html;
pub use lines::{Csv, JsonLines};
pub use parquet::Parquet;
pub use perfetto::{Links, Perfetto};
pub use pprof::write_pprof;
pub use speedscope::write_speedscope;
pub use svg::{Heading, write_svg};
pub use unit::Unit;
pub use visualizer::Visualizer;

use crate::{analysis::Selected, model::Entry};

/// A format that is being written.
pub trait Export {
    /// Takes the next entry.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    fn entry(&mut self, entry: &Entry) -> Result<()>;

    /// Writes what could not be written before all was known, and what was selected, if that is not everything.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    fn finish(self: Box<Self>, selected: Option<&Selected>) -> Result<()>;
}
