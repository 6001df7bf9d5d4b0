// SPDX-License-Identifier: Apache-2.0
//! Compiles the `.eh_frame` of a module to the tables that the kernel side unwinds by.
//!
//! Where a rule can't be put so, the table says [`Rule::UNSUPPORTED`], and how often and why is counted: whoever walks
//! must do it by the whole `.eh_frame` there. Nothing is left out silently, and nothing is believed of a file: what
//! reading it takes is bounded by its size.

mod counts;
mod cut;
mod rules;
mod simple;
mod stored;

use std::{collections::HashMap, ops::Range};

use gimli::{
    CieOrFde, CommonInformationEntry, EhFrameOffset, FrameDescriptionEntry, LittleEndian, ParsedEhFrameHdr,
    UnwindContext, UnwindSection as _, X86_64,
};
use object::Object;
use tracer_unwind::{rule::Rule, table::Block};

pub use self::{
    counts::{Counts, Reason},
    rules::Rules,
    stored::Key,
};
use self::{
    cut::Cutter,
    simple::{Entry, Slice},
};
use super::sections::Sections;

/// Bytes of entries that are read for each byte of the section. An entry is read once, with the one that it shares with
/// others, which in real files is not much longer.
const MOST_READ: u64 = 4;
/// Most rows of a module that are read; the largest libraries have some millions.
const MOST_ROWS: u64 = 1 << 24;

/// The compiled `.eh_frame` of one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The rules, as [`Rules`] numbers them; the blocks' numbers are indices here.
    pub rules: Vec<Rule>,
    /// The tables, in the order of their addresses. What is in none has no function.
    pub parts: Vec<Part>,
    /// What there was to compile.
    pub counts: Counts,
}

/// The table for a part of a module's code; all but the largest modules have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// First address, as the module itself (ELF) has it.
    pub start: u32,
    /// Address behind the last.
    pub end: u32,
    /// Index and row blocks, as [`tracer_unwind::table`] has them.
    pub blocks: Vec<Block>,
}

impl Compiled {
    /// The rule at an address of the module, found as the kernel side does.
    #[must_use]
    pub fn rule(&self, address: u64) -> Rule {
        let Ok(pc) = u32::try_from(address) else { return Rule::NONE };
        let part = self.parts.iter().find(|part| part.start <= pc && pc < part.end);
        let number = part.and_then(|part| {
            let index = part.blocks.first()?.block(pc);
            Some(part.blocks.get(index as usize).filter(|_| index > 0)?.rule(pc))
        });
        number.and_then(|number| self.rules.get(usize::from(number))).copied().unwrap_or(Rule::NONE)
    }
}

/// Compiles the `.eh_frame` of an ELF file; `None` if it has none.
#[must_use]
pub fn compile<'d>(file: &impl Object<'d>) -> Option<Compiled> {
    let sections = Sections::of(file, |data| Slice::new(data, LittleEndian))?;
    Some(compile_sections(&sections))
}

fn compile_sections(sections: &Sections<Slice<'_>>) -> Compiled {
    let mut compiler = Compiler::new(sections);
    let functions = compiler.functions();
    for (index, &function) in functions.iter().enumerate() {
        compiler.function(function, functions.get(index + 1).map(|next| next.start));
    }
    compiler.cutter.finish()
}

/// Where a function begins, and where in the section its entry is.
#[derive(Clone, Copy, Debug)]
struct Function {
    start: u64,
    entry: EhFrameOffset,
}

struct Compiler<'a, 'd> {
    sections: &'a Sections<Slice<'d>>,
    context: UnwindContext<usize>,
    /// What entries share, by its place in the section.
    common: HashMap<usize, CommonInformationEntry<Slice<'d>>>,
    /// How many bytes of entries may still be read.
    budget: u64,
    cutter: Cutter,
}

impl<'a, 'd> Compiler<'a, 'd> {
    fn new(sections: &'a Sections<Slice<'d>>) -> Self {
        Self {
            sections,
            context: UnwindContext::new(),
            common: HashMap::new(),
            budget: (sections.size as u64).saturating_mul(MOST_READ),
            cutter: Cutter::new(),
        }
    }

    /// The functions in the order of their addresses: those of the index, which is what the C++ runtime goes by, or else
    /// those of the section itself.
    fn functions(&mut self) -> Vec<Function> {
        let mut functions = Vec::new();
        let whole = match &self.sections.index {
            Some(index) => self.indexed(index, &mut functions),
            None => self.listed(&mut functions),
        };
        if whole.is_err() {
            self.cutter.count(Reason::Damaged);
        }
        functions.sort_by_key(|function| function.start);
        functions
    }

    fn indexed(&self, index: &ParsedEhFrameHdr<Slice<'d>>, functions: &mut Vec<Function>) -> gimli::Result<()> {
        let Some(table) = index.table() else { return Ok(()) };
        let mut entries = table.iter(&self.sections.bases);
        while let Some((start, entry)) = entries.next()? {
            functions.push(Function { start: start.direct()?, entry: self.sections.offset(entry)? });
        }
        Ok(())
    }

    fn listed(&mut self, functions: &mut Vec<Function>) -> gimli::Result<()> {
        let mut entries = self.sections.eh_frame.entries(&self.sections.bases);
        while let Some(entry) = entries.next()? {
            if let CieOrFde::Fde(entry) = entry {
                let common = &mut self.common;
                let fde =
                    entry.parse(|section, bases, at| remembered(common, at, || section.cie_from_offset(bases, at)))?;
                functions.push(Function { start: fde.initial_address(), entry: fde.offset().into() });
            }
        }
        Ok(())
    }

    /// Compiles the rows of a function, behind which the next one begins.
    fn function(&mut self, function: Function, next: Option<u64>) {
        self.cutter.counts.functions += 1;
        match self.entry(function) {
            Ok(fde) => {
                let range = fde.initial_address()..fde.end_address();
                let alone = range.end.min(next.unwrap_or(range.end));
                if range.start >= self.cutter.end() {
                    self.rows(&fde, range.start..alone);
                    self.cutter.cover(alone..range.end, Err(Reason::Overlap));
                } else {
                    self.cutter.cover(range, Err(Reason::Overlap));
                }
            }
            // Where it ends is not known.
            Err(reason) => {
                let end = next.unwrap_or(function.start.saturating_add(1));
                self.cutter.cover(function.start..end, Err(reason));
            }
        }
    }

    fn entry(&mut self, function: Function) -> Result<FrameDescriptionEntry<Slice<'d>>, Reason> {
        if self.cutter.counts.read >= MOST_ROWS {
            return Err(Reason::Limit);
        }
        let Sections { eh_frame, bases, .. } = self.sections;
        let common = &mut self.common;
        let fde = eh_frame
            .fde_from_offset(bases, function.entry, |section, bases, at| {
                remembered(common, at, || section.cie_from_offset(bases, at))
            })
            .map_err(|_| Reason::Damaged)?;
        let size = (fde.entry_len() as u64).saturating_add(fde.cie().entry_len() as u64);
        self.budget = self.budget.checked_sub(size).ok_or(Reason::Limit)?;
        if fde.initial_address() != function.start || fde.end_address() < function.start {
            return Err(Reason::Damaged);
        }
        Ok(fde)
    }

    fn rows(&mut self, fde: &FrameDescriptionEntry<Slice<'d>>, range: Range<u64>) {
        let Sections { eh_frame, bases, .. } = self.sections;
        let signal = fde.is_signal_trampoline();
        let entry = Entry { section: eh_frame, encoding: fde.cie().encoding(), signal };
        let usual = fde.cie().return_address_register() == X86_64::RA;
        let mut at = range.start;
        if let Ok(mut table) = fde.rows(eh_frame, bases, &mut self.context) {
            while let Ok(Some(row)) = table.next_row() {
                let rule = if usual { entry.rule(row) } else { Err(Reason::ReturnAddress) };
                let end = row.end_address().min(range.end);
                self.cutter.cover(at..end, rule);
                at = at.max(end);
            }
        }
        self.cutter.cover(at..range.end, Err(Reason::Damaged));
    }
}

/// What was read before, or is read now.
fn remembered<'d>(
    common: &mut HashMap<usize, CommonInformationEntry<Slice<'d>>>,
    at: EhFrameOffset,
    read: impl FnOnce() -> gimli::Result<CommonInformationEntry<Slice<'d>>>,
) -> gimli::Result<CommonInformationEntry<Slice<'d>>> {
    if let Some(entry) = common.get(&at.0) {
        return Ok(entry.clone());
    }
    let entry = read()?;
    common.insert(at.0, entry.clone());
    Ok(entry)
}

#[cfg(test)]
mod tests;
