// SPDX-License-Identifier: Apache-2.0
//! Cuts rows into the blocks that the kernel side searches.

use std::ops::Range;

use tracer_unwind::{
    rule::Rule,
    table::{Block, MAX_BLOCKS, MAX_DELTA, MAX_ROWS, UNUSED, row},
};

use super::{Compiled, Counts, Part, Reason, Rules};

/// Takes the rules of ranges, in the order of their addresses.
pub(super) struct Cutter {
    /// What was taken, and became of it.
    pub(super) counts: Counts,
    parts: Vec<Part>,
    rules: Rules,
    /// Address behind the last range.
    end: u32,
    /// Number of the rule of the last row.
    last: u16,
    /// How many rows the last block has.
    filled: usize,
}

impl Cutter {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { counts: Counts::default(), parts: Vec::new(), rules: Rules::new(), end: 0, last: Rules::NONE, filled: 0 }
    }

    /// The address behind the last range.
    pub(super) fn end(&self) -> u64 {
        self.end.into()
    }

    /// Says which rule holds in a range, or why it can't be said. What is before the last range's end is left out;
    /// between that and this range there is no function.
    pub(super) fn cover(&mut self, range: Range<u64>, rule: Result<Rule, Reason>) {
        let range = range.start.max(self.end())..range.end;
        if range.is_empty() {
            return;
        }
        self.counts.read += 1;
        let pc = |address| u32::try_from(address).ok().filter(|&pc| pc < UNUSED);
        let put = match (pc(range.start), pc(range.end)) {
            (Some(start), Some(end)) => self.put(start..end, rule.unwrap_or(Rule::UNSUPPORTED)),
            _ => false,
        };
        if let Some(reason) = rule.err().or((!put).then_some(Reason::Limit)) {
            self.count(reason);
        }
    }

    /// Counts what could not be compiled.
    pub(super) fn count(&mut self, reason: Reason) {
        self.counts.unsupported[reason as usize] += 1;
    }

    /// Says that there is no function any more.
    pub(super) fn finish(mut self) -> Compiled {
        self.row(self.end, Rules::NONE);
        if let Some(part) = self.parts.last_mut() {
            part.end = self.end;
        }
        Compiled { rules: self.rules.list().to_vec(), parts: self.parts, counts: self.counts }
    }

    /// Returns whether there was room for a new rule; else [`Rule::UNSUPPORTED`] stands for it.
    fn put(&mut self, range: Range<u32>, rule: Rule) -> bool {
        if range.start > self.end {
            self.row(self.end, Rules::NONE);
        }
        let number = self.rules.number(rule);
        self.row(range.start, number.unwrap_or(Rules::UNSUPPORTED));
        self.end = range.end;
        number.is_some()
    }

    /// A row, unless the one before says the same.
    fn row(&mut self, pc: u32, rule: u16) {
        if rule == self.last {
            return;
        }
        if self.parts.last().is_none_or(|part| self.is_full(part, pc)) {
            if !self.parts.is_empty() && self.last != Rules::NONE {
                self.append(pc, Rules::NONE);
            }
            if let Some(part) = self.parts.last_mut() {
                part.end = pc;
            }
            self.last = Rules::NONE;
            if rule == Rules::NONE {
                return;
            }
            self.parts.push(Part { start: pc, end: pc, blocks: vec![Block::EMPTY] });
        }
        self.append(pc, rule);
    }

    fn append(&mut self, pc: u32, rule: u16) {
        let has_room = self.parts.last().is_some_and(|part| self.has_room(part, pc));
        let Some(Part { blocks, .. }) = self.parts.last_mut() else { return };
        if !has_room {
            let mut block = Block::EMPTY;
            block.words[0] = pc;
            let number = blocks.len();
            blocks.push(block);
            blocks[0].words[number] = pc;
            self.filled = 0;
        }
        if let Some(block) = blocks.last_mut() {
            let delta = pc - block.words[0];
            self.filled += 1;
            block.words[self.filled] = row(delta as u16, rule);
            self.last = rule;
            self.counts.rows += 1;
        }
    }

    /// Whether a row belongs to the next part. The last block of a part is kept for the row that ends it: nothing comes behind.
    fn is_full(&self, part: &Part, pc: u32) -> bool {
        match part.blocks.len() {
            MAX_BLOCKS => !self.has_room(part, pc),
            blocks => blocks > MAX_BLOCKS,
        }
    }

    /// Whether the last block can take a row.
    fn has_room(&self, part: &Part, pc: u32) -> bool {
        match part.blocks.as_slice() {
            [_, .., last] => pc - last.words[0] <= MAX_DELTA && self.filled < MAX_ROWS,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tracer_unwind::rule::Cfa;

    use super::*;

    #[test]
    fn a_part_may_end_where_no_function_is() {
        let rules = [1, 2].map(|offset| Rule { cfa: Cfa::Offset as u8, offset, ..Rule::NONE });
        let mut cutter = Cutter::new();
        // Without a gap between the first two functions, the row that fills the first part is that of a function's end.
        let starts = [0, 4].into_iter().chain((1..600_000).map(|number| 8 * number + 4));
        let functions: Vec<u64> = starts.collect();
        for (number, &start) in functions.iter().enumerate() {
            cutter.cover(start..start + 4, Ok(rules[number % 2]));
        }
        let compiled = cutter.finish();
        assert_eq!(compiled.parts.len(), 2);
        assert!(compiled.parts.iter().all(|part| part.blocks.len() <= MAX_BLOCKS + 1));
        for (number, &start) in functions.iter().enumerate() {
            assert_eq!(compiled.rule(start + 3), rules[number % 2], "function {number}");
        }
        assert_eq!((compiled.rule(8), compiled.rule(4_190_216)), (Rule::NONE, Rule::NONE));
    }
}
