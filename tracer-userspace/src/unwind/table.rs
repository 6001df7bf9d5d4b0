// SPDX-License-Identifier: Apache-2.0
//! The unwind table of one module: its `.eh_frame`, looked up by address.

use std::{cell::RefCell, collections::HashMap, ops::Range};

use gimli::{CfaRule, EhFrame, FrameDescriptionEntry, ParsedEhFrameHdr, UnwindContext, UnwindSection as _, X86_64};
use object::Object;

use super::{
    rule::{Bytes, Rule, bytes},
    sections::Sections,
    walk::End,
};

/// Most rules that a table remembers; a call site needs one, so this is more than real programs reach.
const REMEMBERED: usize = 1 << 16;

/// The unwind table of one module, addressed by the module's own (ELF) addresses.
pub struct Table {
    sections: Sections<Bytes>,
    /// Rules by address: the call sites of a program are few, and finding a rule costs microseconds.
    found: RefCell<HashMap<u64, Result<Rule, End>>>,
    context: RefCell<UnwindContext<usize>>,
}

impl Table {
    /// Takes the table out of an ELF file; `None` if it has none.
    #[must_use]
    pub fn of<'d>(file: &impl Object<'d>) -> Option<Self> {
        let sections = Sections::of(file, bytes)?;
        Some(Self { sections, found: RefCell::default(), context: RefCell::default() })
    }

    /// The rule at an address.
    pub(super) fn rule(&self, address: u64) -> Result<Rule, End> {
        if let Some(found) = self.found.borrow().get(&address) {
            return *found;
        }
        let rule = self.look_up(address);
        let mut found = self.found.borrow_mut();
        if found.len() < REMEMBERED {
            found.insert(address, rule);
        }
        rule
    }

    pub(super) fn section(&self) -> &EhFrame<Bytes> {
        &self.sections.eh_frame
    }

    /// The code that the table's entry for an address covers, and whether a function begins there: a part that the
    /// compiler has split off one begins with a frame that is set up already.
    #[must_use]
    pub fn code(&self, address: u64) -> Option<(Range<u64>, bool)> {
        let fde = self.entry(address).ok()?;
        let start = fde.initial_address();
        let mut context = self.context.borrow_mut();
        let Sections { eh_frame, bases, .. } = &self.sections;
        let row = fde.unwind_info_for_address(eh_frame, bases, &mut context, start).ok()?;
        let fresh = CfaRule::RegisterAndOffset { register: X86_64::RSP, offset: 8 };
        Some((start..start.checked_add(fde.len())?, *row.cfa() == fresh))
    }

    fn look_up(&self, address: u64) -> Result<Rule, End> {
        let fde = self.entry(address)?;
        let mut context = self.context.borrow_mut();
        let Sections { eh_frame, bases, .. } = &self.sections;
        let row = fde.unwind_info_for_address(eh_frame, bases, &mut context, address).map_err(|_| End::BadTable)?;
        Rule::of(row, fde.cie().encoding(), fde.is_signal_trampoline())
    }

    fn entry(&self, address: u64) -> Result<FrameDescriptionEntry<Bytes>, End> {
        let Sections { eh_frame, index, bases, .. } = &self.sections;
        let fde = match index.as_ref().and_then(ParsedEhFrameHdr::table) {
            Some(table) => {
                let offset = table.lookup(address, bases).and_then(|entry| self.sections.offset(entry));
                offset.and_then(|offset| eh_frame.fde_from_offset(bases, offset, EhFrame::cie_from_offset))
            }
            None => eh_frame.fde_for_address(bases, address, EhFrame::cie_from_offset),
        }
        .map_err(|error| match error {
            gimli::Error::NoUnwindInfoForAddress => End::NoTable,
            _ => End::BadTable,
        })?;
        if !fde.contains(address) {
            return Err(End::NoTable);
        }
        Ok(fde)
    }
}
