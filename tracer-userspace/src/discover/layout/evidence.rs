// SPDX-License-Identifier: Apache-2.0
//! Finds the fields of a buffer in what its functions were read to do.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use super::{
    Generation, dwarf,
    fact::{Call, Fact, Target},
    finding::{Claim, Field, Finding, agree},
    flow,
    rules::{self, Evidence, Function, Rule},
    value::{Place, Value},
};
use crate::discover::elf::Elf;

/// Most constructors that are read; a build has one.
const MOST_CONSTRUCTORS: usize = 8;

/// What is found out about each field of `Buffer` or `BufferImpl`.
pub(super) fn buffer_fields(elf: &Elf, generation: Generation) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut reader = Reader { elf, generation, pimpl: None, read: HashMap::new() };
    if generation == Generation::BufferImpl {
        let finding = agree(Field::Pimpl, &reader.pimpl_claims());
        reader.pimpl = finding.offset.clone().ok();
        findings.push(finding);
    }
    let members = dwarf::members(elf, generation);
    for rules in rules::RULES.chunk_by(|one, other| one.field == other.field) {
        let Some(field) = rules.first().map(|rule| rule.field) else {
            continue;
        };
        let known: BTreeSet<u32> = findings
            .iter()
            .filter(|finding: &&Finding| finding.field != Field::Pimpl)
            .filter_map(|finding| finding.offset.clone().ok())
            .collect();
        let mut claims = merged(rules.iter().flat_map(|rule| reader.claims(*rule, &known)));
        if let Some(offset) = members.get(field.name()) {
            claims.push(Claim { source: "DWARF".into(), offsets: BTreeSet::from([*offset]), certain: true });
        }
        findings.push(agree(field, &claims));
    }
    findings
}

/// What a function without arguments but `this` was read to do.
pub(super) fn function_facts(elf: &Elf, symbol: &str) -> Option<Vec<Fact>> {
    let symbol = elf.symbol(symbol)?;
    Some(flow::facts(elf.code(symbol)?, symbol.address, elf))
}

/// Leaves one claim a source, unless it contradicts itself.
fn merged(claims: impl Iterator<Item = Claim>) -> Vec<Claim> {
    let mut merged: Vec<Claim> = Vec::new();
    for claim in claims {
        let silent = |one: &Claim, other: &Claim| one.offsets.is_empty() || other.offsets.is_empty();
        let same = |known: &&mut Claim| {
            known.source == claim.source && (known.offsets == claim.offsets || silent(known, &claim))
        };
        match merged.iter_mut().find(same) {
            Some(known) if known.offsets.is_empty() => *known = claim,
            Some(known) => known.certain |= claim.certain && !claim.offsets.is_empty(),
            None => merged.push(claim),
        }
    }
    merged
}

struct Reader<'a, 'd> {
    elf: &'a Elf<'d>,
    generation: Generation,
    /// Only for [`Generation::BufferImpl`], and there only once it is known.
    pimpl: Option<u32>,
    read: HashMap<String, Option<Rc<Vec<Fact>>>>,
}

/// A function that was read, and the object in it that has the fields.
struct Reading {
    facts: Rc<Vec<Fact>>,
    object: Value,
}

impl Reader<'_, '_> {
    fn claims(&mut self, rule: Rule, known: &BTreeSet<u32>) -> Vec<Claim> {
        let mut claims = Vec::new();
        for reading in self.readings(rule.function) {
            let mut offsets = self.offsets(&reading, rule);
            if !rule.certain {
                offsets = &offsets - known;
            }
            claims.push(Claim { source: rule.function.label(), offsets, certain: rule.certain });
        }
        claims
    }

    fn readings(&mut self, function: Function) -> Vec<Reading> {
        let mut readings = Vec::new();
        for (symbol, takes_buffer) in self.symbols(function) {
            let this = Value::Argument(0);
            let object = match (self.generation, takes_buffer, self.pimpl) {
                (Generation::Buffer, ..) | (_, false, _) => this,
                (_, true, Some(offset)) => Value::loaded(pointer_at(this, offset)),
                (_, true, None) => continue,
            };
            readings.extend(self.facts(&symbol).map(|facts| Reading { facts, object }));
        }
        readings
    }

    fn symbols(&self, function: Function) -> Vec<(String, bool)> {
        let rest = match function {
            Function::Constructor => "",
            Function::ConstructorWithOwns => rules::OWNS_IS_ARGUMENT_8,
            _ => return function.symbols(self.generation),
        };
        let prefix = match self.generation {
            Generation::Buffer => rules::CONSTRUCTORS[0],
            Generation::BufferImpl => rules::CONSTRUCTORS[1],
        };
        let names = self.elf.symbols_beginning(&format!("{prefix}{rest}"));
        names.into_iter().take(MOST_CONSTRUCTORS).map(|name| (name.to_string(), false)).collect()
    }

    fn facts(&mut self, symbol: &str) -> Option<Rc<Vec<Fact>>> {
        if !self.read.contains_key(symbol) {
            let facts = function_facts(self.elf, symbol).map(Rc::new);
            self.read.insert(symbol.to_string(), facts);
        }
        self.read.get(symbol).cloned().flatten()
    }

    fn offsets(&self, reading: &Reading, rule: Rule) -> BTreeSet<u32> {
        let width = rule.field.width();
        let here = |place: &Place| offset_in(&reading.object, place).filter(|_| place.width == width);
        let here_value = |value: &Value| value.place().and_then(here);
        let found = |fact: &Fact| match (rule.evidence, fact) {
            // `address()` returns the low half of its field.
            (Evidence::Returned, Fact::Return(Value::Loaded(place))) => {
                offset_in(&reading.object, place).filter(|_| place.width == width || place.width == 4 && width == 8)
            }
            (Evidence::Read, Fact::Load(place)) => here(place),
            (Evidence::Compared(number), Fact::Compare(place, with)) if number.is_none() || number == *with => {
                here(place)
            }
            (Evidence::SetFromArgument(number), Fact::Store(place, Value::Argument(argument)))
                if number == *argument =>
            {
                here(place)
            }
            (Evidence::SetFromResult(names), Fact::Store(place, Value::Result(call))) => {
                calls(&reading.facts, *call, names).then(|| here(place)).flatten()
            }
            (Evidence::SetFromCounter, Fact::Store(place, Value::Counted(counter))) => {
                self.is_counter(counter).then(|| here(place)).flatten()
            }
            (Evidence::PassedTo(names), Fact::Call(call)) if is_function(&call.target, names) => {
                here_value(&call.arguments[0])
            }
            (Evidence::CalledVirtually, Fact::Call(Call { target: Target::Virtual { object, .. }, .. })) => {
                here_value(object)
            }
            (Evidence::Dividend, Fact::Divide(dividend, _)) => here_value(dividend),
            (Evidence::Divisor, Fact::Divide(_, divisor)) => here_value(divisor),
            _ => None,
        };
        if let Evidence::Set(number) = rule.evidence {
            return reading.facts.iter().flat_map(|fact| bytes_set(&reading.object, fact, number)).collect();
        }
        reading.facts.iter().filter_map(found).collect()
    }

    fn is_counter(&self, place: &Place) -> bool {
        let counters = rules::COUNTER.iter().filter_map(|name| self.elf.symbol(name));
        let addresses: Vec<_> = counters.map(|symbol| Value::Static(symbol.address)).collect();
        place.offset == 0 && addresses.contains(&place.base)
    }

    /// Every function that looks through the pointer is a source of its offset.
    fn pimpl_claims(&mut self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for name in rules::GETTERS {
            let symbol = format!("_ZNK2tt8tt_metal6Buffer{}{name}Ev", name.len());
            let Some(facts) = self.facts(&symbol) else {
                continue;
            };
            let offsets = facts.iter().filter_map(accessed).filter_map(|place| pointer_of(&place.base)).collect();
            claims.push(Claim { source: format!("{name}()"), offsets, certain: false });
        }
        for facts in rules::IMPL.map(|symbol| self.facts(symbol)).into_iter().flatten() {
            let returned = |fact: &Fact| match fact {
                Fact::Return(value) => pointer_of(value),
                _ => None,
            };
            let offsets = facts.iter().filter_map(returned).collect();
            claims.push(Claim { source: "impl()".into(), offsets, certain: true });
        }
        if let Some(facts) = self.facts(rules::DESTRUCTOR) {
            let freed = |fact: &Fact| match fact {
                Fact::Call(call) if is_function(&call.target, &rules::DEALLOCATE) => pointer_of(&call.arguments[0]),
                _ => None,
            };
            let offsets = facts.iter().filter_map(freed).collect();
            claims.push(Claim { source: "~Buffer".into(), offsets, certain: true });
        }
        merged(claims.into_iter())
    }
}

fn pointer_at(base: Value, offset: u32) -> Place {
    Place { base, offset: i64::from(offset), width: 8 }
}

/// The offset of a place in an object.
fn offset_in(object: &Value, place: &Place) -> Option<u32> {
    if place.base == *object { u32::try_from(place.offset).ok() } else { None }
}

/// The offset at which `this` holds a pointer of this value.
fn pointer_of(value: &Value) -> Option<u32> {
    value.place().filter(|place| place.width == 8).and_then(|place| offset_in(&Value::Argument(0), place))
}

fn accessed(fact: &Fact) -> Option<&Place> {
    match fact {
        Fact::Load(place) | Fact::Compare(place, _) | Fact::Store(place, _) => Some(place),
        _ => None,
    }
}

/// The offsets of the single bytes that are set to a number, also where compilers merge several of them into one store.
fn bytes_set(object: &Value, fact: &Fact, number: u64) -> Vec<u32> {
    let Fact::Store(place, Value::Constant(value)) = fact else {
        return Vec::new();
    };
    let Some(offset) = offset_in(object, place) else {
        return Vec::new();
    };
    let bytes = value.to_le_bytes();
    let bytes = bytes.iter().take(usize::from(place.width));
    let set = (0..).zip(bytes).filter(|(_, byte)| u64::from(**byte) == number);
    set.filter_map(|(at, _)| offset.checked_add(at)).collect()
}

/// Whether the call instruction at `at` calls one of these functions.
fn calls(facts: &[Fact], at: u64, names: &[&str]) -> bool {
    facts.iter().any(|fact| matches!(fact, Fact::Call(call) if call.at == at && is_function(&call.target, names)))
}

/// Whether this is one of these functions; with no names, any that has one.
fn is_function(target: &Target, wanted: &[&str]) -> bool {
    let Target::Function(names) = target else {
        return false;
    };
    wanted.is_empty() || names.iter().any(|name| wanted.contains(&name.as_str()))
}
