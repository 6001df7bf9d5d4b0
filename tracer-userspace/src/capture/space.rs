// SPDX-License-Identifier: Apache-2.0
//! The address spaces of the targets: which module is where, with the unwind table of each.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use tracer_common::Epoch;

use crate::{
    discover::{
        maps::{self, Mapping},
        module::Module,
    },
    unwind::{End, Modules, Table},
};

/// Ranges that are remembered although they are gone: more than what events in the ring buffer can refer to.
const MOST_GONE: usize = 4096;

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
    /// Index in [`Files::modules`].
    pub module: usize,
}

/// A range, and when it was there: it was seen at the first epoch and at the last, so it was there in between.
#[derive(Clone, Copy, Debug)]
struct Seen {
    range: Range,
    first: u32,
    last: u32,
}

impl Seen {
    /// Whether it was certainly there.
    fn is_at(&self, epoch: u32) -> bool {
        (self.first..=self.last).contains(&epoch)
    }

    fn is_ever_certain(&self) -> bool {
        self.first <= self.last
    }

    /// One that was there, but it is not certain when.
    fn never(range: Range) -> Self {
        Self { range, first: 1, last: 0 }
    }
}

/// What a look at the process's mappings found.
#[derive(Debug, Default)]
pub struct Changes {
    /// Ranges that were not there before.
    pub ranges: Vec<Range>,
    /// What went wrong, a sentence each.
    pub problems: Vec<String>,
}

/// Every module that was ever seen in a target, once each, however many have it.
#[derive(Default)]
pub struct Files {
    modules: Vec<Code>,
    /// The latest module of each file: one that somebody wrote to is another one.
    by_file: HashMap<FileId, usize>,
}

/// Device and inode. Files stay open, so that none is given to another file meanwhile.
type FileId = (u32, u32, u64);

impl Files {
    /// All modules, in the order of being seen.
    #[must_use]
    pub fn modules(&self) -> &[Code] {
        &self.modules
    }

    /// The index in [`Self::modules`] of the file that a mapping is of.
    #[must_use]
    pub fn find(&self, mapping: &Mapping) -> Option<usize> {
        self.by_file.get(&file_id(mapping)).copied()
    }

    /// Whether a module is of the file of a mapping, as it is now or was before.
    fn is_of(&self, module: usize, mapping: &Mapping) -> bool {
        self.modules.get(module).is_some_and(|code| file_id(&code.module.mapping) == file_id(mapping))
    }

    /// The index of the file that a mapping of a process is of, and the mapping's bias.
    fn open(&mut self, pid: u32, mapping: &Mapping) -> Result<(usize, u64)> {
        let index = match self.find(mapping).filter(|&index| self.modules[index].module.is_unchanged()) {
            Some(index) => index,
            None => {
                let module = Module::open(pid, mapping)?;
                let table = Table::of(module.elf()?.object());
                self.modules.push(Code { module: Arc::new(module), table });
                self.by_file.insert(file_id(mapping), self.modules.len() - 1);
                self.modules.len() - 1
            }
        };
        let elf = self.modules[index].module.elf()?;
        let bias = elf.bias(mapping).context("the mapping is of no segment of the file")?;
        Ok((index, bias))
    }
}

/// What is known of the ranges of a process since the last look.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Nobody has looked yet.
    Nothing,
    /// They are those of another process, which this one was forked from. What it did since is not counted.
    Inherited,
    /// It was looked at before its changes were counted.
    Uncounted,
    /// What changed since the look that began at this epoch is counted.
    Since(Epoch),
}

/// Where the modules of a process are, as of the last [`Space::refresh`].
#[derive(Clone)]
pub struct Space {
    pid: u32,
    /// In the order of their addresses.
    ranges: Vec<Seen>,
    /// Those that are gone, the latest last.
    gone: VecDeque<Seen>,
    /// Where functions return to that somebody watches with a uretprobe.
    uretprobes: Option<std::ops::Range<u64>>,
    known: Known,
}

impl Space {
    /// An empty one; [`Self::refresh`] fills it.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid, ranges: Vec::new(), gone: VecDeque::new(), uretprobes: None, known: Known::Nothing }
    }

    /// That of a process that was forked from this one's at an epoch: what was certainly there, until it changes its own.
    #[must_use]
    pub fn forked(&self, pid: u32, epoch: u32) -> Self {
        let then = self.ranges.iter().chain(&self.gone).filter(|seen| seen.is_at(epoch));
        let born = Epoch::INHERITED.number();
        let mut ranges: Vec<_> = then.map(|seen| Seen { range: seen.range, first: born, last: born }).collect();
        ranges.sort_unstable_by_key(|seen| seen.range.start);
        Self { ranges, uretprobes: self.uretprobes.clone(), known: Known::Inherited, ..Self::new(pid) }
    }

    /// Every range that is there, in the order of their addresses.
    pub fn ranges(&self) -> impl Iterator<Item = &Range> {
        self.ranges.iter().map(|seen| &seen.range)
    }

    /// Where functions return to that somebody watches with a uretprobe, if anybody does yet.
    #[must_use]
    pub fn uretprobes(&self) -> Option<&std::ops::Range<u64>> {
        self.uretprobes.as_ref()
    }

    /// The range that an address was in when the modules had changed as often as `epoch` says.
    ///
    /// # Errors
    /// [`End::NoModule`] if nothing was ever seen there, [`End::ModulesChanged`] if what was there is not certain, and
    /// [`End::Uretprobe`] for the page that hides return addresses.
    pub fn range(&self, address: u64, epoch: u32) -> Result<&Range, End> {
        let contains = |seen: &&Seen| (seen.range.start..seen.range.end).contains(&address);
        let after = self.ranges.partition_point(|seen| seen.range.start <= address);
        let now = after.checked_sub(1).and_then(|index| self.ranges.get(index)).filter(contains);
        let mut all = now.into_iter().chain(self.gone.iter().rev().filter(contains)).peekable();
        if all.peek().is_none() {
            let hidden = self.uretprobes.as_ref().is_some_and(|page| page.contains(&address));
            return Err(if hidden { End::Uretprobe } else { End::NoModule });
        }
        all.find(|seen| seen.is_at(epoch)).map(|seen| &seen.range).ok_or(End::ModulesChanged)
    }

    /// Where the modules were at an epoch.
    #[must_use]
    pub fn at<'a>(&'a self, files: &'a Files, epoch: u32) -> SpaceAt<'a> {
        SpaceAt { space: self, files, epoch }
    }

    /// Looks at the process's mappings again; `epoch` says what epoch it is by now. From the first look on, or from the
    /// fork on, changes are to be counted before the second. A process that has ended keeps the ones that it had.
    pub fn refresh(&mut self, files: &mut Files, epoch: &dyn Fn() -> Epoch) -> Changes {
        let mut changes = Changes::default();
        let before = epoch();
        let Ok(mappings) = maps::read(self.pid) else { return changes };
        let after = epoch();
        if mappings.is_empty() {
            return changes;
        }
        let executable = mappings.iter().filter(|mapping| mapping.executable);
        let ranges: Vec<_> =
            executable.filter_map(|mapping| self.range_of(mapping, files, &mut changes.problems)).collect();
        changes.ranges = self.replace(&ranges, before, after);
        self.uretprobes = maps::uretprobes(self.pid);
        changes
    }

    /// Takes what there is now, having looked from one epoch to another: what was not there before.
    fn replace(&mut self, now: &[Range], before: Epoch, after: Epoch) -> Vec<Range> {
        let stayed = match self.known {
            Known::Nothing | Known::Uncounted => false,
            Known::Inherited => true,
            // For a module to give way to another one and be back, both have to be unloaded.
            Known::Since(epoch) => after.unloads_since(epoch) < 2,
        };
        // What was loaded while it was looked at was certainly there afterwards, if nothing gave way meanwhile.
        let is_certain = before == after || after.unloads_since(before) == 0;
        let (mut ranges, mut new) = (Vec::new(), Vec::new());
        for &range in now {
            let known = self.ranges.iter().find(|seen| seen.range == range);
            if known.is_none() {
                new.push(range);
            }
            ranges.push(match known.filter(|seen| stayed && seen.is_ever_certain()) {
                Some(seen) => Seen { last: before.number().max(seen.first), ..*seen },
                None if is_certain => Seen { range, first: after.number(), last: after.number() },
                None => Seen::never(range),
            });
        }
        let gone = self.ranges.iter().filter(|seen| !stayed || !now.contains(&seen.range));
        let is_counted = matches!(self.known, Known::Since(_));
        self.gone.extend(gone.map(|&seen| if is_counted { seen } else { Seen::never(seen.range) }));
        self.gone.drain(..self.gone.len().saturating_sub(MOST_GONE));
        self.known = if matches!(self.known, Known::Nothing) { Known::Uncounted } else { Known::Since(before) };
        self.ranges = ranges;
        new
    }

    fn range_of(&self, mapping: &Mapping, files: &mut Files, problems: &mut Vec<String>) -> Option<Range> {
        let known = self.ranges().find(|range| {
            (range.start, range.end) == (mapping.start, mapping.end) && files.is_of(range.module, mapping)
        });
        if let Some(range) = known {
            return Some(*range);
        }
        match files.open(self.pid, mapping) {
            Ok((module, bias)) => Some(Range { start: mapping.start, end: mapping.end, bias, module }),
            Err(error) => {
                problems.push(format!("stacks through {} can't be walked: {error:#}", mapping.path.display()));
                None
            }
        }
    }
}

/// Where the modules were at an epoch.
#[derive(Clone, Copy)]
pub struct SpaceAt<'a> {
    space: &'a Space,
    files: &'a Files,
    epoch: u32,
}

impl Modules for SpaceAt<'_> {
    fn module(&self, address: u64) -> Result<(Option<&Table>, u64), End> {
        let range = self.space.range(address, self.epoch)?;
        Ok((self.files.modules[range.module].table.as_ref(), range.bias))
    }
}

fn file_id(mapping: &Mapping) -> FileId {
    (mapping.device.0, mapping.device.1, mapping.inode)
}

#[cfg(test)]
mod tests {
    use tracer_common::LinkerState::{self, Other, Unloading};

    use super::*;

    const BORN: u32 = Epoch::INHERITED.number();
    const OWN: Epoch = Epoch::FIRST_OWN;

    /// Of a page.
    fn range(start: u64, module: usize) -> Range {
        Range { start, end: start + 0x1000, bias: start, module }
    }

    /// A module that stays, and another one.
    fn pair(module: usize) -> [Range; 2] {
        [range(0x1000, 0), range(0x5000, module)]
    }

    fn after(epoch: Epoch, states: &[LinkerState]) -> Epoch {
        states.iter().fold(epoch, |epoch, &state| epoch.next(state))
    }

    /// A module is unloaded, and another one loaded.
    const REPLACED: &[LinkerState] = &[Unloading, Other, Other, Other];

    /// Looked at before its changes are counted, and then. Module 1 is there.
    fn counted() -> Space {
        let mut space = Space::new(1);
        space.replace(&pair(1), Epoch::default(), Epoch::default());
        space.replace(&pair(1), Epoch::default(), Epoch::default());
        space
    }

    fn parent() -> Space {
        let mut parent = counted();
        // Module 1 gives way to module 2, which gives way to module 3.
        let four = after(Epoch::default(), REPLACED);
        parent.replace(&pair(2), four, four);
        let eight = after(four, REPLACED);
        parent.replace(&pair(3), eight, eight);
        parent
    }

    /// The modules at 0x1000 and 0x5000.
    fn modules(space: &Space, epoch: u32) -> [Result<usize, End>; 2] {
        [0x1800, 0x5800].map(|address| space.range(address, epoch).map(|range| range.module))
    }

    #[test]
    fn what_is_there_at_two_looks_was_there_in_between() {
        let mut space = counted();
        let begin = Epoch::default();
        // Others come and go meanwhile.
        let end = after(begin, &[Other, Other, Unloading, Other, Other, Other]);
        space.replace(&pair(1), end, end);
        for epoch in 0..=end.number() {
            assert_eq!(modules(&space, epoch), [Ok(0), Ok(1)], "epoch {epoch}");
        }
    }

    #[test]
    fn what_may_have_been_away_between_two_looks_is_not_certain_there() {
        // Module 1 gives way to another one, which gives way to module 1.
        let mut space = counted();
        let end = after(after(Epoch::default(), REPLACED), REPLACED);
        space.replace(&pair(1), end, end);
        for epoch in 1..end.number() {
            assert_eq!(modules(&space, epoch), [Err(End::ModulesChanged); 2], "epoch {epoch}");
        }
        for epoch in [0, end.number()] {
            assert_eq!(modules(&space, epoch), [Ok(0), Ok(1)], "epoch {epoch}");
        }
        // From then on it is as before.
        let later = after(end, &[Other, Other]);
        space.replace(&pair(1), later, later);
        assert_eq!(modules(&space, end.number() + 1), [Ok(0), Ok(1)]);
    }

    #[test]
    fn what_is_being_unloaded_at_a_look_may_be_gone_after_it() {
        let mut space = counted();
        let unloading = after(Epoch::default(), &[Unloading]);
        space.replace(&pair(1), unloading, unloading);
        // Only one more unload begins, but two end.
        let end = after(unloading, &[Other, Other, Other, Unloading, Other, Other, Other]);
        space.replace(&pair(1), end, end);
        assert_eq!(modules(&space, unloading.number()), [Ok(0), Ok(1)]);
        assert_eq!(modules(&space, unloading.number() + 2), [Err(End::ModulesChanged); 2]);
    }

    #[test]
    fn what_comes_while_others_go_is_certain_at_the_next_look() {
        let mut space = counted();
        let (before, end) = (Epoch::default(), after(Epoch::default(), REPLACED));
        assert_eq!(space.replace(&pair(2), before, end), [range(0x5000, 2)]);
        assert_eq!(modules(&space, end.number()), [Err(End::ModulesChanged); 2]);
        assert_eq!(space.replace(&pair(2), end, end), []);
        assert_eq!(modules(&space, end.number()), [Ok(0), Ok(2)]);
    }

    #[test]
    fn what_was_there_before_changes_were_counted_is_not_certain() {
        let mut space = Space::new(1);
        space.replace(&pair(1), Epoch::default(), Epoch::default());
        // It gives way to module 2, which nobody counts, and is back after it, which is counted.
        let end = after(Epoch::default(), REPLACED);
        space.replace(&pair(1), end, end);
        assert_eq!(modules(&space, 0), [Err(End::ModulesChanged); 2]);
        assert_eq!(modules(&space, end.number()), [Ok(0), Ok(1)]);
    }

    #[test]
    fn a_child_has_what_its_parent_had_at_the_fork() {
        let parent = parent();
        assert_eq!(modules(&parent, 4), [Ok(0), Ok(2)]);
        assert_eq!(modules(&parent.forked(2, 0), BORN), [Ok(0), Ok(1)]);
        assert_eq!(modules(&parent.forked(2, 4), BORN), [Ok(0), Ok(2)]);
        assert_eq!(modules(&parent.forked(2, 8), BORN), [Ok(0), Ok(3)]);
        // What was there while one gave way to the other is not known.
        assert_eq!(modules(&parent.forked(2, 6), BORN), [Ok(0), Err(End::NoModule)]);
    }

    #[test]
    fn what_a_child_takes_away_before_it_is_looked_at_is_not_certain() {
        let mut child = parent().forked(2, 8);
        let new = child.replace(&pair(4), OWN, OWN);
        assert_eq!(new, [range(0x5000, 4)]);
        assert_eq!(modules(&child, BORN), [Ok(0), Err(End::ModulesChanged)]);
        assert_eq!(modules(&child, OWN.number()), [Ok(0), Ok(4)]);
        // From then on it is counted.
        let gone = after(OWN, &[Unloading, Other]);
        child.replace(&[range(0x1000, 0)], gone, gone);
        assert_eq!(modules(&child, OWN.number()), [Ok(0), Ok(4)]);
        assert_eq!(modules(&child, gone.number()), [Ok(0), Err(End::ModulesChanged)]);
    }

    #[test]
    fn a_grandchild_has_what_the_child_was_born_with() {
        let mut child = parent().forked(2, 8);
        assert_eq!(modules(&child.forked(3, BORN), BORN), [Ok(0), Ok(3)]);
        child.replace(&pair(3), OWN, OWN);
        assert_eq!(modules(&child.forked(3, BORN), BORN), [Ok(0), Ok(3)]);
        assert_eq!(modules(&child.forked(3, OWN.number()), BORN), [Ok(0), Ok(3)]);
    }
}
