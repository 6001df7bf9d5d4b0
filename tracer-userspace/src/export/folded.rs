// SPDX-License-Identifier: Apache-2.0
//! Folded stacks: a line a stack, outermost function first, and what was allocated there.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
};

use anyhow::{Context as _, Result};

use super::Export;
use crate::{
    analysis::frame_name,
    model::{Definitions, Entry},
};

/// Writes bytes allocated by stack, as flame-graph tools read them.
pub struct Folded<'a, W> {
    definitions: &'a Definitions,
    out: W,
    bytes: HashMap<u32, u64>,
}

impl<'a, W: Write> Folded<'a, W> {
    /// Begins with the definitions of the traces.
    pub fn new(definitions: &'a Definitions, out: W) -> Self {
        Self { definitions, out, bytes: HashMap::new() }
    }
}

/// The functions of a stack on one line, outermost first.
pub(super) fn fold(definitions: &Definitions, stack: u32) -> String {
    let Some(stack) = definitions.stack(stack) else { return "(no stack)".to_owned() };
    // A semicolon parts functions.
    let names = stack.lines.iter().rev().map(|line| frame_name(line).replace([';', '\n'], ":"));
    names.collect::<Vec<_>>().join(";")
}

impl<W: Write> Export for Folded<'_, W> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        if let Entry::Allocation(allocation) = entry {
            let sum = self.bytes.entry(allocation.moment.stack).or_default();
            *sum = sum.saturating_add(allocation.buffer.size);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let mut lines: BTreeMap<String, u64> = BTreeMap::new();
        for (&stack, &bytes) in &self.bytes {
            *lines.entry(fold(self.definitions, stack)).or_default() += bytes;
        }
        for (line, bytes) in lines {
            writeln!(self.out, "{line} {bytes}").context("failed to write")?;
        }
        self.out.flush().context("failed to write")
    }
}
