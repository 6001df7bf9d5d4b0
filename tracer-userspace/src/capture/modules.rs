// SPDX-License-Identifier: Apache-2.0
//! What the kernel side knows of the targets' modules: where they are, and the unwind tables of those that stacks need.

use std::{
    collections::HashMap,
    iter, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use log::debug;
use tracer_common::Epoch;
use tracer_unwind::space::{self, MAX_RANGES, MAX_TABLES, NO_SPACE, NO_TABLE, NOT_LOADED, URETPROBE};

use super::{
    kernel::Kernel,
    space::{Files, Range, Space},
    tables::{Ready, Tables, cache::Cache},
};

/// How long a process that is to be recorded waits for tables: as long as those take that were never made before of all that
/// ttnn itself loads.
const PATIENCE: Duration = Duration::from_millis(500);

/// The modules that the kernel side has the tables of, of all targets.
pub(super) struct Modules {
    tables: Tables,
    /// By the module's place in [`Files`]; empty while its tables are made.
    loaded: HashMap<usize, Vec<Part>>,
    /// How many rules the kernel side has.
    rules: usize,
    /// The number of the next table; none is ever given twice, as rows that are remembered say.
    next: u32,
    /// The number of the next space; neither is any of these, as rules that are remembered say.
    next_space: u32,
    /// What can't be loaded, in sentences that are not told yet.
    problems: Vec<String>,
}

/// A loaded table.
struct Part {
    /// The module's own address behind the last that it is for.
    end: u64,
    number: u32,
}

impl Modules {
    pub(super) fn new() -> Result<Self> {
        // Without it each recording makes the tables anew, and nothing else.
        let cache = Cache::open().inspect_err(|error| debug!("unwind tables are not kept: {error:#}")).ok();
        let tables = Tables::new(cache)?;
        Ok(Self { tables, loaded: HashMap::new(), rules: 0, next: 1, next_space: NO_SPACE + 1, problems: Vec::new() })
    }

    /// Has the tables of a module made, if nobody has yet.
    pub(super) fn request(&mut self, module: usize, files: &Files) {
        if let (Some(code), false) = (files.modules().get(module), self.loaded.contains_key(&module)) {
            self.loaded.insert(module, Vec::new());
            self.tables.request(module, Arc::clone(&code.module));
        }
    }

    /// Whether there is nothing on its way to the kernel side.
    pub(super) fn is_idle(&self) -> bool {
        self.tables.is_idle()
    }

    /// Gives the kernel side what is made by now; whether there was anything.
    pub(super) fn load(&mut self, kernel: &mut Kernel) -> Result<bool> {
        let ready: Vec<_> = iter::from_fn(|| self.tables.ready()).collect();
        let any = !ready.is_empty();
        self.add(kernel, &ready)?;
        Ok(any)
    }

    /// Gives the kernel side the tables of all modules of a space: were they loaded when stacks need them, a process that is busy
    /// from the beginning would have its stacks copied until then, and fill the ring buffer. The smallest come first; those that
    /// are not made in time, of the largest libraries, are loaded later.
    pub(super) fn load_all(&mut self, kernel: &mut Kernel, space: &Space, files: &Files) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut modules: Vec<_> = space.ranges().map(|range| range.module).collect();
        modules.sort_by_cached_key(|&module| files.modules().get(module).map(|code| code.module.table_bytes()));
        modules.into_iter().for_each(|module| self.request(module, files));
        let ready: Vec<_> = iter::from_fn(|| self.tables.wait(until)).collect();
        self.add(kernel, &ready)
    }

    /// What could not be loaded since the last call.
    pub(super) fn problems(&mut self) -> Vec<String> {
        mem::take(&mut self.problems)
    }

    /// Tells the kernel side where the modules of a target are, as of an epoch.
    pub(super) fn tell(
        &mut self,
        kernel: &mut Kernel,
        target: u32,
        epoch: Epoch,
        space: &Space,
        files: &Files,
    ) -> Result<()> {
        let compact = self.compact(epoch, space, files);
        kernel.set_space(target, &compact)
    }

    fn add(&mut self, kernel: &mut Kernel, ready: &[Ready]) -> Result<()> {
        let rules = self.tables.rules();
        kernel.add_rules(self.rules as u32, &rules[self.rules..])?;
        self.rules = rules.len();
        let mut tables = Vec::new();
        for Ready { module, parts, .. } in ready {
            let room = (MAX_TABLES - self.next) as usize;
            if parts.len() > room {
                self.problems.push(format!(
                    "there are more than {MAX_TABLES} unwind tables; stacks through the rest are copied, which costs more"
                ));
            }
            let numbered: Vec<_> = (self.next..).zip(parts.iter().take(room)).collect();
            self.next += numbered.len() as u32;
            let loaded = numbered.iter().map(|&(number, part)| Part { end: part.end.into(), number }).collect();
            self.loaded.insert(*module, loaded);
            tables.extend(numbered.into_iter().map(|(number, part)| (number, part.blocks.as_slice())));
        }
        kernel.add_tables(&tables)
    }

    fn compact(&mut self, epoch: Epoch, space: &Space, files: &Files) -> space::Space {
        let mut ranges: Vec<_> = space.ranges().flat_map(|range| self.ranges(range, files)).collect();
        if let Some(page) = space.uretprobes() {
            ranges.push(space::Range { start: page.start, end: page.end, bias: 0, table: URETPROBE, padding: 0 });
        }
        ranges.sort_unstable_by_key(|range| range.start);
        if ranges.len() > MAX_RANGES {
            self.problems.push(format!(
                "the process has code in more than {MAX_RANGES} places; stacks through the rest are copied, which costs more"
            ));
        }
        let mut compact = space::Space {
            epoch: epoch.0,
            number: self.next_space,
            padding: 0,
            ranges: [space::Range::UNUSED; MAX_RANGES],
        };
        self.next_space += 1;
        for (slot, range) in compact.ranges.iter_mut().zip(ranges) {
            *slot = range;
        }
        compact
    }

    /// A range, cut to the tables of its module.
    fn ranges(&self, range: &Range, files: &Files) -> Vec<space::Range> {
        let whole = |table| {
            let Range { start, end, bias, .. } = *range;
            vec![space::Range { start, end, bias, table, padding: 0 }]
        };
        if !files.modules().get(range.module).is_some_and(|code| code.has_table()) {
            return whole(NO_TABLE);
        }
        match self.loaded.get(&range.module).filter(|parts| !parts.is_empty()) {
            None => whole(NOT_LOADED),
            Some(parts) => cut(range, parts),
        }
    }
}

/// Between and around the parts there is no function, which the nearest table says as well as any.
fn cut(range: &Range, parts: &[Part]) -> Vec<space::Range> {
    let mut start = range.start;
    let mut cut = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let end = if last { range.end } else { part.end.saturating_add(range.bias).clamp(start, range.end) };
        if start < end {
            cut.push(space::Range { start, end, bias: range.bias, table: part.number, padding: 0 });
        }
        start = end;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_where_one_table_ends_and_the_next_begins() {
        let range = Range { start: 0x7000_1000, end: 0x7000_9000, bias: 0x7000_0000, module: 0 };
        let parts = [(0x800, 1), (0x4000, 2), (0x8000, 3)].map(|(end, number)| Part { end, number });
        let cut: Vec<_> = cut(&range, &parts).iter().map(|it| (it.start, it.end, it.table)).collect();
        assert_eq!(cut, [(0x7000_1000, 0x7000_4000, 2), (0x7000_4000, 0x7000_9000, 3)]);
    }
}
