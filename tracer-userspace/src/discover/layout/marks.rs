// SPDX-License-Identifier: Apache-2.0
//! Where a buffer's status is set to "deallocated" without a free: in functions of `MeshBuffer`, whose device is gone.
//!
//! They call `mark_as_deallocated`, or set the status themselves, in what `Buffer::impl()` returned to them.

use tracer_common::NO_OFFSET;

use super::{
    Derivation, Field, Generation,
    evidence::function_facts,
    fact::{Fact, Target},
    rules::{Function, IMPL},
    value::Value,
};
use crate::discover::elf::Elf;

/// What the names of the functions of `MeshBuffer` begin with.
const CLASS: &str = "_ZN2tt8tt_metal11distributed10MeshBuffer";
/// The one that marks, in every release.
const MARKS: &str = "_ZN2tt8tt_metal11distributed10MeshBuffer10deallocateEv";
/// `AllocationStatus::DEALLOCATED`.
const DEALLOCATED: u64 = 2;
/// Most functions that are read; a build has some twenty.
const MOST_FUNCTIONS: usize = 64;

/// How a build marks buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::discover) enum Marks {
    /// By a function for it, which can be probed.
    Called,
    /// In line: behind each call of `Buffer::impl()` at these addresses, whose first argument is the buffer.
    Inline(Vec<u64>),
    /// That was not seen.
    Unknown,
}

/// How the buffers of a module are marked.
pub(in crate::discover) fn marks(elf: &Elf, derivation: &Derivation) -> Marks {
    let facts = |name: &str| function_facts(elf, name).unwrap_or_default();
    if derivation.generation == Generation::Buffer {
        return if facts(MARKS).iter().any(is_call_of_mark) { Marks::Called } else { Marks::Unknown };
    }
    let status = derivation.offset(Field::Status);
    let functions = elf.symbols_beginning(CLASS);
    if status == NO_OFFSET || functions.len() > MOST_FUNCTIONS || inline(&facts(MARKS), status).is_empty() {
        return Marks::Unknown;
    }
    let mut found: Vec<u64> = functions.iter().flat_map(|name| inline(&facts(name), status)).collect();
    found.sort_unstable();
    found.dedup();
    Marks::Inline(found)
}

fn is_call_of_mark(fact: &Fact) -> bool {
    let names: Vec<_> = Function::Mark.symbols(Generation::Buffer).into_iter().map(|(name, _)| name).collect();
    matches!(fact, Fact::Call(call) if is_one_of(&call.target, &names))
}

/// The calls of `Buffer::impl()` behind which the status is set, in what a function does.
fn inline(facts: &[Fact], status: u32) -> Vec<u64> {
    let marked = |at: u64| {
        facts.iter().any(|fact| match fact {
            Fact::Store(place, Value::Constant(DEALLOCATED)) => {
                place.base == Value::Result(at) && place.offset == i64::from(status) && place.width == 1
            }
            _ => false,
        })
    };
    let calls = facts.iter().filter_map(|fact| match fact {
        Fact::Call(call) if is_one_of(&call.target, &IMPL.map(str::to_owned)) => Some(call.at),
        _ => None,
    });
    calls.filter(|&at| marked(at)).collect()
}

fn is_one_of(target: &Target, names: &[String]) -> bool {
    matches!(target, Target::Function(found) if found.iter().any(|name| names.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::layout::{fact::Call, value::Place};

    fn call(at: u64, name: &str) -> Fact {
        let target = Target::Function(vec![name.into()]);
        Fact::Call(Call { at, target, arguments: [const { Value::Unknown }; 6] })
    }

    fn set(base: Value, offset: i64, value: u64) -> Fact {
        Fact::Store(Place { base, offset, width: 1 }, Value::Constant(value))
    }

    #[test]
    fn a_mark_is_behind_the_call_that_gave_the_object() {
        let facts = [
            call(0x10, IMPL[1]),
            set(Value::Result(0x10), 0x38, 2),
            // Another field, another value, another object, and the result of another function.
            call(0x20, IMPL[1]),
            set(Value::Result(0x20), 0x39, 2),
            call(0x30, IMPL[1]),
            set(Value::Result(0x30), 0x38, 1),
            set(Value::Argument(0), 0x38, 2),
            call(0x40, "malloc"),
            set(Value::Result(0x40), 0x38, 2),
        ];
        assert_eq!(inline(&facts, 0x38), [0x10]);
    }

    #[test]
    fn a_function_for_it_is_known_by_its_name() {
        assert!(is_call_of_mark(&call(0, "_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv")));
        assert!(!is_call_of_mark(&call(0, "_ZN2tt8tt_metal6Buffer10deallocateEv")));
    }
}
