// SPDX-License-Identifier: Apache-2.0
//! The members of the target's class as DWARF has them, for a build with debug information.
//!
//! Only the compilation unit of `allocate_impl` is read: it must know the whole class, and the rest may be gigabytes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Unit};

use super::{Generation, rules};
use crate::discover::elf::Elf;

/// Most entries of the unit that are looked at.
const MOST_ENTRIES: usize = 5_000_000;
/// Deepest entry that is looked at: real ones are not nested nearly as deep.
const DEEPEST: usize = 256;
/// How long units are searched: those of a forged file may each claim to be described by all of it.
const LONGEST: Duration = Duration::from_secs(20);

type Slice<'d> = EndianSlice<'d, LittleEndian>;
type Entry<'d> = DebuggingInformationEntry<Slice<'d>>;

/// The offset of each member by its name; empty if there is no (readable) DWARF for it.
pub(super) fn members(elf: &Elf, generation: Generation) -> BTreeMap<String, u32> {
    read(elf, generation).ok().flatten().unwrap_or_default()
}

fn read(elf: &Elf, generation: Generation) -> gimli::Result<Option<BTreeMap<String, u32>>> {
    let (class, function) = match generation {
        Generation::Buffer => ("Buffer", rules::ALLOCATE_BUFFER),
        Generation::BufferImpl => ("BufferImpl", rules::ALLOCATE_BUFFER_IMPL),
    };
    let Some(function) = elf.symbol(function) else {
        return Ok(None);
    };
    let section = |id: gimli::SectionId| {
        Ok::<_, gimli::Error>(EndianSlice::new(elf.section(id.name().as_bytes()).unwrap_or_default(), LittleEndian))
    };
    let dwarf = Dwarf::load(section)?;
    let begin = Instant::now();
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        if begin.elapsed() > LONGEST {
            return Ok(None);
        }
        let unit = dwarf.unit(header)?;
        if covers(&dwarf, &unit, function.address)? {
            return class_members(&dwarf, &unit, class);
        }
    }
    Ok(None)
}

fn covers(dwarf: &Dwarf<Slice>, unit: &Unit<Slice>, address: u64) -> gimli::Result<bool> {
    let mut ranges = dwarf.unit_ranges(unit)?;
    while let Some(range) = ranges.next()? {
        if (range.begin..range.end).contains(&address) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Walks the unit with the names of the enclosing namespaces at hand.
fn class_members(
    dwarf: &Dwarf<Slice>,
    unit: &Unit<Slice>,
    class: &str,
) -> gimli::Result<Option<BTreeMap<String, u32>>> {
    let mut path: Vec<String> = Vec::new();
    let mut found: Option<(usize, BTreeMap<String, u32>)> = None;
    let mut entries = unit.entries();
    for _ in 0..MOST_ENTRIES {
        let Some(entry) = entries.next_dfs()? else {
            break;
        };
        let depth = usize::try_from(entry.depth()).unwrap_or_default();
        if let Some((class_depth, members)) = &mut found {
            if depth <= *class_depth {
                break;
            }
            if depth == *class_depth + 1 && entry.tag() == gimli::DW_TAG_member {
                members.extend(member(dwarf, unit, entry)?);
            }
            continue;
        }
        if depth > DEEPEST {
            continue;
        }
        path.truncate(depth);
        let is_class = matches!(entry.tag(), gimli::DW_TAG_class_type | gimli::DW_TAG_structure_type);
        let name = match is_class || entry.tag() == gimli::DW_TAG_namespace {
            true => name(dwarf, unit, entry)?.unwrap_or_default(),
            false => String::new(),
        };
        let whole = entry.attr_value(gimli::DW_AT_declaration).is_none();
        let home = path.iter().filter(|name| !name.is_empty()).map(String::as_str);
        if is_class && whole && name == class && home.eq(["tt", "tt_metal"]) {
            found = Some((depth, BTreeMap::new()));
        }
        path.resize(depth, String::new());
        path.push(name);
    }
    Ok(found.map(|(_, members)| members))
}

fn member(dwarf: &Dwarf<Slice>, unit: &Unit<Slice>, entry: &Entry) -> gimli::Result<Option<(String, u32)>> {
    let offset = entry.attr_value(gimli::DW_AT_data_member_location).and_then(|value| value.udata_value());
    let offset = offset.and_then(|offset| u32::try_from(offset).ok());
    Ok(name(dwarf, unit, entry)?.zip(offset))
}

fn name(dwarf: &Dwarf<Slice>, unit: &Unit<Slice>, entry: &Entry) -> gimli::Result<Option<String>> {
    match entry.attr_value(gimli::DW_AT_name) {
        Some(
            value @ (AttributeValue::String(_)
            | AttributeValue::DebugStrRef(_)
            | AttributeValue::DebugStrOffsetsIndex(_)
            | AttributeValue::DebugLineStrRef(_)),
        ) => Ok(Some(dwarf.attr_string(unit, value)?.to_string_lossy().into_owned())),
        _ => Ok(None),
    }
}
