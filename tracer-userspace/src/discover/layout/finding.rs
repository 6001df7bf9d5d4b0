// SPDX-License-Identifier: Apache-2.0
//! A field, what its sources say of it, and what follows from that: an offset, or a refusal that names them all.

use std::{collections::BTreeSet, fmt};

/// A field that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `Buffer`'s pointer to its `BufferImpl`.
    Pimpl,
    /// `device_`
    Device,
    /// `size_`
    Size,
    /// `buffer_type_`
    BufferType,
    /// `owns_data_`
    Owns,
    /// `allocator_`
    Allocator,
    /// `allocation_status_`
    Status,
    /// `hooked_allocation_`
    Hooked,
    /// `address_`
    Address,
    /// `page_size_`
    PageSize,
    /// `unique_id_`
    UniqueId,
    /// What `Device::id()` returns.
    ChipId,
    /// `MeshDevice`'s pointer to its implementation.
    MeshImpl,
    /// What `MeshDevice::id()` returns.
    MeshId,
    /// `allocated_buffers_` of the allocator.
    Owners,
}

impl Field {
    /// The member's name in the target's source, or what to call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pimpl => "pimpl",
            Self::Device => "device_",
            Self::Size => "size_",
            Self::BufferType => "buffer_type_",
            Self::Owns => "owns_data_",
            Self::Allocator => "allocator_",
            Self::Status => "allocation_status_",
            Self::Hooked => "hooked_allocation_",
            Self::Address => "address_",
            Self::PageSize => "page_size_",
            Self::UniqueId => "unique_id_",
            Self::ChipId => "Device::id",
            Self::MeshImpl => "MeshDevice::pimpl",
            Self::MeshId => "MeshDevice::id",
            Self::Owners => "Allocator::allocated_buffers_",
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn width(self) -> u8 {
        match self {
            Self::Owns | Self::Status | Self::Hooked => 1,
            Self::BufferType | Self::ChipId | Self::MeshId => 4,
            _ => 8,
        }
    }
}

/// What one source says about one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The function, or `DWARF`.
    pub source: String,
    /// The offsets that it can mean.
    pub offsets: BTreeSet<u32>,
    /// Whether it says so by its meaning. If not, it only fits the pattern, and needs another source beside it.
    pub certain: bool,
}

/// What was found out about one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The field.
    pub field: Field,
    /// Its offset, or a sentence that says why there is none.
    pub offset: Result<u32, String>,
    /// Who said so.
    pub sources: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.offset {
            Ok(offset) => write!(f, "{} {offset:#x} ({})", self.field.name(), self.sources.join(", ")),
            Err(reason) => f.write_str(reason),
        }
    }
}

/// Brings the sources of one field together.
pub(super) fn agree(field: Field, claims: &[Claim]) -> Finding {
    let speaking: Vec<_> = claims.iter().filter(|claim| !claim.offsets.is_empty()).collect();
    let sources: Vec<_> = speaking.iter().map(|claim| claim.source.clone()).collect();
    let refuse = |why: &str| {
        let said: Vec<_> = claims.iter().map(said).collect();
        let said = if said.is_empty() { "no function that shows it is there".into() } else { said.join(", ") };
        Err(format!(
            "{}: {why} ({said}); the offset is not known for this build, so please report it with its build id",
            field.name()
        ))
    };
    let common = speaking
        .iter()
        .map(|claim| claim.offsets.clone())
        .reduce(|all, offsets| all.intersection(&offsets).copied().collect())
        .unwrap_or_default();
    let certain = speaking.iter().any(|claim| claim.certain);
    let offset = match (speaking.len(), common.len()) {
        (0, _) => refuse("no source says where it is"),
        (_, 0) => refuse("the sources disagree"),
        (1, _) if !certain => refuse("only one source, which may be a coincidence"),
        (_, 1) => common.first().copied().ok_or_else(String::new),
        _ => refuse("the sources leave more than one place"),
    };
    Finding { field, offset, sources }
}

fn said(claim: &Claim) -> String {
    let offsets: Vec<_> = claim.offsets.iter().map(|offset| format!("{offset:#x}")).collect();
    match offsets.is_empty() {
        true => format!("{} says nothing", claim.source),
        false => format!("{} says {}", claim.source, offsets.join(" or ")),
    }
}

/// Two fields of one object cannot share bytes: if they seem to, neither is believed.
pub(super) fn refuse_overlaps(findings: &mut [Finding]) {
    let outside = |field| matches!(field, Field::Pimpl | Field::ChipId | Field::MeshImpl | Field::MeshId);
    let spans: Vec<_> = findings
        .iter()
        .filter(|finding| !outside(finding.field))
        .filter_map(|finding| finding.offset.clone().ok().map(|offset| (finding.field, u64::from(offset))))
        .collect();
    for finding in findings {
        let Some((field, start)) = spans.iter().find(|(field, _)| *field == finding.field) else {
            continue;
        };
        let overlaps = |(other, at): &&(Field, u64)| {
            other != field && *at < start + u64::from(field.width()) && *start < at + u64::from(other.width())
        };
        if let Some((other, at)) = spans.iter().find(overlaps) {
            finding.offset = Err(format!(
                "{}: {start:#x} overlaps {} at {at:#x}; the offset is not known for this build, so please report it with its build id",
                field.name(),
                other.name()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn claim(source: &str, offsets: &[u32], certain: bool) -> Claim {
        Claim { source: source.into(), offsets: offsets.iter().copied().collect(), certain }
    }

    #[track_caller]
    fn check(claims: &[Claim], expected: &Expect) {
        expected.assert_eq(&agree(Field::Address, claims).to_string());
    }

    #[test]
    fn agreement_names_its_sources() {
        check(
            &[
                claim("address()", &[0x40], true),
                claim("allocate_impl", &[0x40, 0x48], false),
                claim("DWARF", &[], true),
            ],
            &expect!["address_ 0x40 (address(), allocate_impl)"],
        );
    }

    #[test]
    fn refusals_say_what_each_source_said() {
        check(
            &[claim("address()", &[0x40], true), claim("allocate_impl", &[0x48], true)],
            &expect![
                "address_: the sources disagree (address() says 0x40, allocate_impl says 0x48); the offset is not known for this build, so please report it with its build id"
            ],
        );
        check(
            &[claim("address()", &[], true)],
            &expect![
                "address_: no source says where it is (address() says nothing); the offset is not known for this build, so please report it with its build id"
            ],
        );
        check(
            &[],
            &expect![
                "address_: no source says where it is (no function that shows it is there); the offset is not known for this build, so please report it with its build id"
            ],
        );
        check(
            &[claim("is_l1()", &[0x40], false)],
            &expect![
                "address_: only one source, which may be a coincidence (is_l1() says 0x40); the offset is not known for this build, so please report it with its build id"
            ],
        );
        check(
            &[claim("a", &[1, 2], false), claim("b", &[1, 2, 3], false)],
            &expect![
                "address_: the sources leave more than one place (a says 0x1 or 0x2, b says 0x1 or 0x2 or 0x3); the offset is not known for this build, so please report it with its build id"
            ],
        );
    }

    #[test]
    fn fields_that_share_bytes_are_both_refused() {
        let finding = |field, offset| Finding { field, offset: Ok(offset), sources: vec!["x".into()] };
        let mut findings = [finding(Field::Size, 0x10), finding(Field::Owns, 0x17), finding(Field::Status, 0x18)];
        refuse_overlaps(&mut findings);
        assert_eq!(findings.map(|finding| finding.offset.is_ok()), [false, false, true]);
    }
}
