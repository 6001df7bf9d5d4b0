// SPDX-License-Identifier: Apache-2.0
//! What the kernel side knows of a target's modules: where they are, and the unwind tables of those that stacks need.

use std::collections::HashMap;

use anyhow::Result;
use tracer_unwind::space::{self, MAX_RANGES, NO_TABLE, NOT_LOADED, URETPROBE};

use super::{
    kernel::Kernel,
    space::{Range, Space},
};

/// A module's tables.
enum State {
    /// Asked for.
    Requested,
}

/// The modules of one target, as the kernel side has them.
pub(super) struct Tables {
    /// The target's number.
    target: u32,
    /// How often its modules had changed when its mappings were last read.
    epoch: u64,
    /// By the module's place in the space.
    modules: HashMap<usize, State>,
}

impl Tables {
    pub(super) fn new(target: u32) -> Self {
        Self { target, epoch: 0, modules: HashMap::new() }
    }

    /// Whether modules have changed since the mappings were last read.
    pub(super) fn are_outdated(&self, kernel: &Kernel) -> Result<bool> {
        Ok(kernel.epoch(self.target)? != self.epoch)
    }

    /// To be called before the mappings are read: what changes from then on makes them outdated.
    pub(super) fn before_reading(&mut self, kernel: &Kernel) -> Result<()> {
        self.epoch = kernel.epoch(self.target)?;
        Ok(())
    }

    /// Has the tables of a module loaded.
    pub(super) fn request(&mut self, module: usize, _space: &Space) {
        self.modules.entry(module).or_insert(State::Requested);
    }

    /// Loads what is ready by now; whether there was anything.
    pub(super) fn load(&mut self, _kernel: &mut Kernel) -> Result<bool> {
        Ok(false)
    }

    /// Tells the kernel side where the modules are.
    pub(super) fn tell(&self, kernel: &mut Kernel, space: &Space) -> Result<()> {
        kernel.set_space(self.target, &self.compact(space))
    }

    fn compact(&self, space: &Space) -> space::Space {
        let mut ranges: Vec<space::Range> = space.ranges().iter().map(|range| self.range(range)).collect();
        if let Some(page) = space.uretprobes() {
            ranges.push(space::Range { start: page.start, end: page.end, bias: 0, table: URETPROBE, padding: 0 });
        }
        ranges.sort_unstable_by_key(|range| range.start);
        let mut compact = space::Space { epoch: self.epoch, ranges: [space::Range::UNUSED; MAX_RANGES] };
        for (slot, range) in compact.ranges.iter_mut().zip(ranges) {
            *slot = range;
        }
        compact
    }

    fn range(&self, range: &Range) -> space::Range {
        let table = match self.modules.get(&range.module) {
            Some(State::Requested) | None => NOT_LOADED,
        };
        let _ = NO_TABLE;
        space::Range { start: range.start, end: range.end, bias: range.bias, table, padding: 0 }
    }
}
