// SPDX-License-Identifier: Apache-2.0
//! The address space of a target: which module is where, with the unwind table of each.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result};

use crate::{
    discover::{
        maps::{self, Mapping},
        module::Module,
    },
    unwind::{End, Modules, Table},
};

/// A module, and how to unwind through it.
pub struct Code {
    /// The open file.
    pub module: Arc<Module>,
    table: Option<Table>,
}

impl Code {
    /// Whether there is anything to unwind by.
    #[must_use]
    pub fn has_table(&self) -> bool {
        self.table.is_some()
    }
}

/// A piece of the address space that a module's code is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// What to subtract to get the module's own address.
    pub bias: u64,
    /// Index in [`Space::modules`].
    pub module: usize,
}

/// What a look at the process's mappings found.
#[derive(Debug, Default)]
pub struct Changes {
    /// Modules from this index on are new.
    pub first_new_module: usize,
    /// Ranges that were not there before.
    pub ranges: Vec<Range>,
    /// What went wrong, a sentence each.
    pub problems: Vec<String>,
    /// Whether anything was mapped or unmapped: addresses may mean something else now.
    pub any: bool,
}

/// The modules of a process, as of the last [`Space::refresh`].
pub struct Space {
    pid: u32,
    modules: Vec<Code>,
    by_file: HashMap<(u32, u32, u64), usize>,
    /// In the order of their addresses.
    ranges: Vec<Range>,
    /// Where functions return to that somebody watches with a uretprobe.
    uretprobes: Option<std::ops::Range<u64>>,
}

impl Space {
    /// An empty one; [`Self::refresh`] fills it.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid, modules: Vec::new(), by_file: HashMap::new(), ranges: Vec::new(), uretprobes: None }
    }

    /// The index in [`Self::modules`] of the file that a mapping is of.
    #[must_use]
    pub fn find(&self, mapping: &Mapping) -> Option<usize> {
        self.by_file.get(&key(mapping)).copied()
    }

    /// Every module that was ever seen, in the order of being seen.
    #[must_use]
    pub fn modules(&self) -> &[Code] {
        &self.modules
    }

    /// Every range, in the order of their addresses.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Where functions return to that somebody watches with a uretprobe, if anybody does yet.
    #[must_use]
    pub fn uretprobes(&self) -> Option<&std::ops::Range<u64>> {
        self.uretprobes.as_ref()
    }

    /// The range that an address is in.
    #[must_use]
    pub fn range(&self, address: u64) -> Option<&Range> {
        let after = self.ranges.partition_point(|range| range.start <= address);
        self.ranges.get(after.checked_sub(1)?).filter(|range| address < range.end)
    }

    /// Looks at the process's mappings again. A process that has ended keeps the ones that it had.
    pub fn refresh(&mut self) -> Changes {
        let first_new_module = self.modules.len();
        let mut changes = Changes { first_new_module, ..Changes::default() };
        let Ok(mappings) = maps::read(self.pid) else { return changes };
        if mappings.is_empty() {
            return changes;
        }
        let mut ranges = Vec::new();
        for mapping in mappings.iter().filter(|mapping| mapping.executable) {
            match self.range_of(mapping, &mut changes.problems) {
                Some(range) => ranges.push(range),
                None => continue,
            }
        }
        self.uretprobes = maps::uretprobes(self.pid);
        changes.any = ranges != self.ranges;
        changes.ranges = ranges.iter().filter(|range| !self.ranges.contains(range)).copied().collect();
        self.ranges = ranges;
        changes
    }

    fn range_of(&mut self, mapping: &Mapping, problems: &mut Vec<String>) -> Option<Range> {
        let key = key(mapping);
        let known = self.ranges.iter().find(|range| {
            (range.start, range.end) == (mapping.start, mapping.end) && self.by_file.get(&key) == Some(&range.module)
        });
        if let Some(range) = known {
            return Some(*range);
        }
        match self.open(mapping, key) {
            Ok((module, bias)) => Some(Range { start: mapping.start, end: mapping.end, bias, module }),
            Err(error) => {
                problems.push(format!("stacks through {} can't be walked: {error:#}", mapping.path.display()));
                None
            }
        }
    }

    fn open(&mut self, mapping: &Mapping, key: (u32, u32, u64)) -> Result<(usize, u64)> {
        let index = match self.by_file.get(&key) {
            Some(&index) => index,
            None => {
                let module = Module::open(self.pid, mapping)?;
                let table = Table::of(module.elf()?.object());
                self.modules.push(Code { module: Arc::new(module), table });
                self.by_file.insert(key, self.modules.len() - 1);
                self.modules.len() - 1
            }
        };
        let elf = self.modules[index].module.elf()?;
        let bias = elf.bias(mapping).context("the mapping is of no segment of the file")?;
        Ok((index, bias))
    }
}

impl Modules for Space {
    fn module(&self, address: u64) -> Result<(Option<&Table>, u64), End> {
        match self.range(address) {
            Some(range) => Ok((self.modules[range.module].table.as_ref(), range.bias)),
            None if self.uretprobes.as_ref().is_some_and(|page| page.contains(&address)) => Err(End::Uretprobe),
            None => Err(End::NoModule),
        }
    }
}

fn key(mapping: &Mapping) -> (u32, u32, u64) {
    (mapping.device.0, mapping.device.1, mapping.inode)
}
