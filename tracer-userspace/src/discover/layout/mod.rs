// SPDX-License-Identifier: Apache-2.0
//! Where the target's classes keep their fields, read from its own machine code (and DWARF, where there is any).
//!
//! Nothing is assumed of a version. Each field has several sources: functions whose meaning is fixed by their name, and in which
//! the field shows itself by how it is used (`address()` returns it, the constructor stores its second argument there, …).
//! All sources that say something must agree, on exactly one offset; otherwise the field is refused, with what each one said.
//!
//! `value`, `state`, `machine` and `flow` read a function, and `fact` is what comes of it; `rules` says which fields to look for,
//! where; `evidence`, `device`, `owners` and `marks` look; `finding` brings the sources together.

mod device;
mod dwarf;
mod evidence;
mod fact;
mod finding;
mod flow;
mod machine;
mod marks;
mod module;
mod owners;
mod rules;
mod state;
mod value;

use std::fmt;

use anyhow::{Result, bail};
use tracer_common::{Layout, NO_OFFSET};

pub use finding::{Claim, Field, Finding};
pub(super) use marks::{Marks, marks};
pub(super) use rules::COUNTER;

use finding::refuse_overlaps;

use super::elf::Elf;

/// Which class has the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// `Buffer` itself.
    Buffer,
    /// `BufferImpl`, to which `Buffer` points.
    BufferImpl,
}

impl Generation {
    /// The generation by which of the two `allocate_impl` a module defines, or why that does not tell.
    ///
    /// # Errors
    /// If the module defines neither, or both.
    pub fn of(elf: &Elf) -> Result<Self> {
        let [buffer, implementation] =
            [rules::ALLOCATE_BUFFER, rules::ALLOCATE_BUFFER_IMPL].map(|name| elf.symbol(name));
        match (buffer, implementation) {
            (Some(_), None) => Ok(Self::Buffer),
            (None, Some(_)) => Ok(Self::BufferImpl),
            (None, None) => {
                bail!("neither Buffer::allocate_impl nor BufferImpl::allocate_impl is defined")
            }
            (Some(_), Some(_)) => {
                bail!("both Buffer::allocate_impl and BufferImpl::allocate_impl are defined")
            }
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buffer => "Buffer",
            Self::BufferImpl => "BufferImpl",
        })
    }
}

/// All that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    /// Which class has the fields.
    pub generation: Generation,
    /// One for each field that this generation has.
    pub findings: Vec<Finding>,
    /// The allocator's set of owners. Without it there is no snapshot; all else does not need it.
    pub owners: Finding,
    /// Address in the module of what the first word of a `Device` points to.
    pub chip_vtable: u64,
    /// Address in the module of what the first word of a `MeshDevice` points to.
    pub mesh_vtable: u64,
}

impl Derivation {
    /// The layout of a process in which the module is loaded with this bias.
    ///
    /// # Errors
    /// If any field was refused; says which, and why.
    pub fn layout(&self, bias: u64) -> Result<Layout> {
        let refused: Vec<_> = self.findings.iter().filter_map(|finding| finding.offset.clone().err()).collect();
        if !refused.is_empty() {
            bail!("{}", refused.join("\n"));
        }
        Ok(Layout {
            pimpl: self.offset(Field::Pimpl),
            device: self.offset(Field::Device),
            size: self.offset(Field::Size),
            buffer_type: self.offset(Field::BufferType),
            owns: self.offset(Field::Owns),
            allocator: self.offset(Field::Allocator),
            status: self.offset(Field::Status),
            hooked: self.offset(Field::Hooked),
            address: self.offset(Field::Address),
            page_size: self.offset(Field::PageSize),
            unique_id: self.offset(Field::UniqueId),
            chip_id: self.offset(Field::ChipId),
            mesh_impl: self.offset(Field::MeshImpl),
            mesh_id: self.offset(Field::MeshId),
            chip_vtable: self.chip_vtable.wrapping_add(bias),
            mesh_vtable: self.mesh_vtable.wrapping_add(bias),
        })
    }

    fn offset(&self, field: Field) -> u32 {
        let finding = self.findings.iter().find(|finding| finding.field == field);
        finding.and_then(|finding| finding.offset.clone().ok()).unwrap_or(NO_OFFSET)
    }
}

/// Finds the fields of a module.
///
/// # Errors
/// If it is not known what to look at: no generation, or no vtables. A single field that is not found is a [`Finding`].
pub fn derive(elf: &Elf) -> Result<Derivation> {
    let generation = Generation::of(elf)?;
    let [chip_vtable, mesh_vtable] = device::vtables(elf)?;
    let mut findings = evidence::buffer_fields(elf, generation);
    findings.extend(device::fields(elf));
    refuse_overlaps(&mut findings);
    Ok(Derivation { generation, findings, owners: owners::set(elf), chip_vtable, mesh_vtable })
}
