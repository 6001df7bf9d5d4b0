// SPDX-License-Identifier: Apache-2.0
//! Devices: their vtables, and where their ids are.
//!
//! `Device` and `MeshDevice` implement one interface, so `id()` has one slot in both vtables. Which one is seen by the exported
//! `MeshDevice::id`; `Device::id` is a local symbol, which a stripped file does not have.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::{
    evidence::function_facts,
    fact::{Call, Fact, Target},
    finding::{Claim, Field, Finding, agree},
    flow,
    value::{Place, Value},
};
use crate::discover::elf::{Elf, Symbol};

const CHIP_VTABLE: &str = "_ZTVN2tt8tt_metal6DeviceE";
const MESH_VTABLE: &str = "_ZTVN2tt8tt_metal11distributed10MeshDeviceE";
const MESH_IMPL_VTABLE: &str = "_ZTVN2tt8tt_metal11distributed14MeshDeviceImplE";
const CHIP_ID: &str = "_ZNK2tt8tt_metal6Device2idEv";
const MESH_ID: &str = "_ZNK2tt8tt_metal11distributed10MeshDevice2idEv";
const MESH_IMPL_ID: &str = "_ZNK2tt8tt_metal11distributed14MeshDeviceImpl2idEv";

/// Behind the offset to the top and the type information (Itanium C++ ABI): where an object's first word points to.
const ADDRESS_POINT: u64 = 16;

/// What the first words of a `Device` and of a `MeshDevice` point to, as addresses in the module.
pub(super) fn vtables(elf: &Elf) -> Result<[u64; 2]> {
    let find = |name, class| -> Result<u64> {
        let symbol = elf.symbol(name).with_context(|| format!("the vtable of {class} is not defined"))?;
        Ok(symbol.address.wrapping_add(ADDRESS_POINT))
    };
    Ok([find(CHIP_VTABLE, "Device")?, find(MESH_VTABLE, "MeshDevice")?])
}

/// What is found out about the ids.
pub(super) fn fields(elf: &Elf) -> Vec<Finding> {
    let mut findings = vec![agree(Field::ChipId, &chip_claims(elf))];
    findings.extend(mesh(elf));
    findings
}

fn chip_claims(elf: &Elf) -> Vec<Claim> {
    let mut claims = Vec::new();
    if let Some(facts) = function_facts(elf, CHIP_ID) {
        claims.push(id_claim("Device::id()", &facts, &Value::Argument(0)));
    }
    let by_slot = id_slot(elf).and_then(|slot| slot_facts(elf, CHIP_VTABLE, slot));
    if let Some(facts) = by_slot {
        claims.push(id_claim("vtable", &facts, &Value::Argument(0)));
    }
    claims
}

/// The mesh's id: in the object itself, or behind a pointer, by whatever way `MeshDevice::id` takes to it.
fn mesh(elf: &Elf) -> Vec<Finding> {
    let facts = function_facts(elf, MESH_ID).unwrap_or_default();
    let direct = id_claim("MeshDevice::id()", &facts, &Value::Argument(0));
    let Some(pointer) = facts.iter().find_map(implementation) else {
        return vec![agree(Field::MeshId, &[direct])];
    };
    let through = Claim {
        source: "MeshDevice::id()".into(),
        offsets: u32::try_from(pointer.offset).into_iter().collect(),
        certain: true,
    };
    let mut claims = vec![id_claim("MeshDevice::id()", &facts, &Value::loaded(pointer))];
    if let Some(facts) = function_facts(elf, MESH_IMPL_ID) {
        claims.push(id_claim("MeshDeviceImpl::id()", &facts, &Value::Argument(0)));
    }
    let slot = facts.iter().find_map(|fact| match fact {
        Fact::Call(Call { target: Target::Virtual { slot, .. }, .. }) => Some(*slot),
        _ => None,
    });
    if let Some(facts) = slot.and_then(|slot| slot_facts(elf, MESH_IMPL_VTABLE, slot)) {
        claims.push(id_claim("vtable", &facts, &Value::Argument(0)));
    }
    vec![agree(Field::MeshImpl, &[through]), agree(Field::MeshId, &claims)]
}

/// The pointer in `this` through which a function gets at the id.
fn implementation(fact: &Fact) -> Option<Place> {
    let through =
        |value: &Value| value.place().filter(|place| place.width == 8 && place.base == Value::Argument(0)).cloned();
    match fact {
        Fact::Call(call) if call.target != Target::Unknown => through(&call.arguments[0]),
        Fact::Return(Value::Loaded(id)) => through(&id.base),
        _ => None,
    }
}

fn id_claim(source: &str, facts: &[Fact], object: &Value) -> Claim {
    let returned = |fact: &Fact| match fact {
        Fact::Return(Value::Loaded(place)) if place.base == *object && place.width == Field::ChipId.width() => {
            u32::try_from(place.offset).ok()
        }
        _ => None,
    };
    Claim { source: source.into(), offsets: facts.iter().filter_map(returned).collect::<BTreeSet<_>>(), certain: true }
}

/// The slot of `id()`: where `MeshDevice`'s vtable has `MeshDevice::id`.
fn id_slot(elf: &Elf) -> Option<u64> {
    let id = elf.symbol(MESH_ID)?;
    let vtable = elf.symbol(MESH_VTABLE)?;
    let slots = (0..vtable.size.min(1 << 16).saturating_sub(ADDRESS_POINT)).step_by(8);
    let is_id = |slot: &u64| slot_function(elf, vtable, *slot) == Some(id.address);
    slots.into_iter().find(is_id)
}

fn slot_function(elf: &Elf, vtable: Symbol, slot: u64) -> Option<u64> {
    elf.pointer(vtable.address.checked_add(ADDRESS_POINT)?.checked_add(slot)?)
}

fn slot_facts(elf: &Elf, vtable: &str, slot: u64) -> Option<Vec<Fact>> {
    let address = slot_function(elf, elf.symbol(vtable)?, slot)?;
    let symbol = elf.names(address).iter().filter_map(|name| elf.symbol(name)).find(|symbol| symbol.size > 0)?;
    Some(flow::facts(elf.code(symbol)?, address, elf))
}
