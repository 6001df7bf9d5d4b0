// SPDX-License-Identifier: Apache-2.0
//! Where an allocator keeps the set of the buffers that it gave memory to.
//!
//! The set is a `std::unordered_set<Buffer*>` of libstdc++, whose layout is part of that library's ABI. Functions of it that the
//! allocator calls on a part of itself show where it is, and so does the getter of how many buffers there are.

use std::collections::BTreeSet;

use super::{
    evidence::function_facts,
    fact::{Fact, Target},
    finding::{Claim, Field, Finding, agree},
    value::Value,
};
use crate::discover::elf::Elf;

/// What the names of the set's functions begin with.
const SET: &str = "_ZNSt10_HashtableIPN2tt8tt_metal6BufferES3_SaIS3_E";
/// The part of their names that says that a node of the set is a pointer to the next and the element, nothing else.
const PLAIN_NODES: &str = "_Hashtable_traitsILb0ELb1ELb1E";
/// Where a set has the number of its elements.
const COUNT: i64 = 0x18;

/// How a function of the allocator shows the set.
#[derive(Clone, Copy)]
enum Evidence {
    /// It calls a function of the set; the number is that of its own argument that is the allocator.
    Calls(u8),
    /// It returns the number of elements.
    Counts,
}

/// Functions of the allocator, by their names' ends, and what to call them.
const SOURCES: [(&str, &str, Evidence); 4] = [
    ("15allocate_bufferEPNS0_6BufferE", "allocate_buffer", Evidence::Calls(0)),
    ("17deallocate_bufferEPNS0_6BufferE", "deallocate_buffer", Evidence::Calls(0)),
    // Its first argument is where the result goes.
    ("21get_allocated_buffersEv", "get_allocated_buffers()", Evidence::Calls(1)),
    ("25get_num_allocated_buffersEv", "get_num_allocated_buffers()", Evidence::Counts),
];
/// What these names begin with: the class was renamed, and some of its functions are const.
const CLASSES: [&str; 4] = [
    "_ZN2tt8tt_metal13AllocatorImpl",
    "_ZNK2tt8tt_metal13AllocatorImpl",
    "_ZN2tt8tt_metal9Allocator",
    "_ZNK2tt8tt_metal9Allocator",
];

/// What is found out about the set.
pub(super) fn set(elf: &Elf) -> Finding {
    let mut claims = Vec::new();
    for (end, source, evidence) in SOURCES {
        let facts = CLASSES.iter().find_map(|class| function_facts(elf, &format!("{class}{end}")));
        let offsets = facts.iter().flatten().filter_map(|fact| offset(fact, evidence)).collect::<BTreeSet<_>>();
        claims.push(Claim { source: source.into(), offsets, certain: true });
    }
    agree(Field::Owners, &claims)
}

fn offset(fact: &Fact, evidence: Evidence) -> Option<u32> {
    let offset = match (fact, evidence) {
        (Fact::Call(call), Evidence::Calls(allocator)) if is_of_set(&call.target) => {
            call.arguments.iter().find_map(|argument| match argument {
                Value::Sum(base, offset) if **base == Value::Argument(allocator) => Some(*offset),
                _ => None,
            })
        }
        (Fact::Return(Value::Loaded(place)), Evidence::Counts) if place.base == Value::Argument(0) => {
            (place.width == 8).then(|| place.offset.wrapping_sub(COUNT))
        }
        _ => None,
    };
    u32::try_from(offset?).ok()
}

fn is_of_set(target: &Target) -> bool {
    let Target::Function(names) = target else { return false };
    names.iter().any(|name| name.starts_with(SET) && name.contains(PLAIN_NODES))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::discover::layout::{fact::Call, value::Place};

    fn call(name: &str, first: Value) -> Fact {
        let mut arguments = [const { Value::Unknown }; 6];
        arguments[0] = first;
        Fact::Call(Call { at: 0, target: Target::Function(vec![name.into()]), arguments })
    }

    fn part(argument: u8) -> Value {
        Value::Sum(Rc::new(Value::Argument(argument)), 0x130)
    }

    #[test]
    fn a_call_of_the_sets_own_functions_shows_where_it_is() {
        let plain = format!("{SET}NSt8__detail9_IdentityE{PLAIN_NODES}EE9_M_insertE");
        assert_eq!(offset(&call(&plain, part(0)), Evidence::Calls(0)), Some(0x130));
        assert_eq!(offset(&call(&plain, part(1)), Evidence::Calls(0)), None);
        assert_eq!(offset(&call("pthread_mutex_lock", part(0)), Evidence::Calls(0)), None);
        let with_hashes = plain.replace("ILb0E", "ILb1E");
        assert_eq!(offset(&call(&with_hashes, part(0)), Evidence::Calls(0)), None);
    }

    #[test]
    fn so_does_the_number_of_its_elements() {
        let count = Value::loaded(Place { base: Value::Argument(0), offset: 0x148, width: 8 });
        assert_eq!(offset(&Fact::Return(count), Evidence::Counts), Some(0x130));
    }
}
