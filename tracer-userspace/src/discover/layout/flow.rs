// SPDX-License-Identifier: Apache-2.0
//! Reads a whole function: follows both sides of each branch until nothing new is learned, then says what the function does.

use std::collections::{BTreeMap, HashMap};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use super::{
    fact::Fact,
    machine::{Image, Machine},
    state::State,
};

/// Most instructions that are run, repeats included, before a function is given up.
const MOST_STEPS: usize = 200_000;
/// Most bytes of code that are read: the largest function that shows a field has some thousands.
const LONGEST: usize = 1 << 16;
/// Most stack slots that are copied, over all steps: each step copies what is known before it.
const MOST_SLOTS: usize = 1 << 21;

/// What a function does, in the order of its code. Empty if it is too long to be read.
///
/// Code that only an exception leads to is not followed.
pub(super) fn facts(code: &[u8], address: u64, image: &dyn Image) -> Vec<Fact> {
    if code.len() > LONGEST {
        return Vec::new();
    }
    let mut walk = Walk { code, start: address, machine: Machine::new(image), decoded: HashMap::new() };
    let Some(states) = walk.settle() else {
        return Vec::new();
    };
    walk.machine.take_facts();
    for (ip, mut state) in states {
        walk.run(ip, &mut state);
    }
    walk.machine.take_facts()
}

struct Walk<'a> {
    code: &'a [u8],
    start: u64,
    machine: Machine<'a>,
    decoded: HashMap<u64, Instruction>,
}

impl Walk<'_> {
    /// The state before each instruction that is reached, holding on every path there.
    fn settle(&mut self) -> Option<BTreeMap<u64, State>> {
        let mut states = BTreeMap::from([(self.start, State::at_entry())]);
        let mut waiting = vec![self.start];
        let mut slots = 0;
        for _ in 0..MOST_STEPS {
            let Some(ip) = waiting.pop() else {
                return Some(states);
            };
            let mut state = states.get(&ip)?.clone();
            slots += state.slots();
            if slots > MOST_SLOTS {
                return None;
            }
            for next in self.run(ip, &mut state) {
                let changed = match states.get_mut(&next) {
                    Some(known) => known.join(&state),
                    None => states.insert(next, state.clone()).is_none(),
                };
                if changed {
                    waiting.push(next);
                }
            }
            self.machine.take_facts();
        }
        None
    }

    /// Runs the instruction at `ip`; returns which ones in this function can come next.
    fn run(&mut self, ip: u64, state: &mut State) -> Vec<u64> {
        let Some(instruction) = self.decode(ip) else {
            return Vec::new();
        };
        let goes_on = self.machine.step(&instruction, state);
        let after = self.contains(instruction.next_ip()).then_some(instruction.next_ip());
        match instruction.flow_control() {
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                self.branch(&instruction, state).into_iter().collect()
            }
            FlowControl::ConditionalBranch => self.branch(&instruction, state).into_iter().chain(after).collect(),
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall if goes_on => after.into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn branch(&mut self, instruction: &Instruction, state: &mut State) -> Option<u64> {
        let to = (instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch_target());
        let inside = to.filter(|to| self.contains(*to));
        if inside.is_none() {
            self.machine.leave(instruction, state);
        }
        inside
    }

    fn contains(&self, ip: u64) -> bool {
        ip.checked_sub(self.start).is_some_and(|at| at < self.code.len() as u64)
    }

    fn decode(&mut self, ip: u64) -> Option<Instruction> {
        if let Some(instruction) = self.decoded.get(&ip) {
            return Some(*instruction);
        }
        let at = usize::try_from(ip.checked_sub(self.start)?).ok()?;
        let instruction = Decoder::with_ip(64, self.code.get(at..)?, ip, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return None;
        }
        self.decoded.insert(ip, instruction);
        Some(instruction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::layout::{
        fact::{Call, Target},
        value::{Place, Value},
    };

    /// A module in which the word at 0x9000 points to a counter at 0xa000, and a few functions have names.
    struct Fake;

    impl Image for Fake {
        fn pointer(&self, address: u64) -> Option<u64> {
            (address == 0x9000).then_some(0xa000)
        }

        fn target(&self, address: u64) -> Target {
            match address {
                0x5000 => Target::Function(vec!["plain".into()]),
                0x6000 => Target::Function(vec!["__cxa_throw".into()]),
                _ => Target::Unknown,
            }
        }

        fn target_of_pointer(&self, _: u64) -> Target {
            Target::Unknown
        }
    }

    fn run(code: &[u8]) -> Vec<Fact> {
        facts(code, 0x1000, &Fake)
    }

    fn this(offset: i64, width: u8) -> Place {
        Place { base: Value::Argument(0), offset, width }
    }

    #[test]
    fn a_getter_returns_its_field() {
        // mov eax, [rdi+0x50]; ret
        assert_eq!(
            run(&[0x8b, 0x47, 0x50, 0xc3]),
            [Fact::Load(this(0x50, 4)), Fact::Return(Value::loaded(this(0x50, 4))),]
        );
    }

    #[test]
    fn a_frame_pointer_changes_nothing() {
        // push rbp; mov rbp, rsp; mov eax, [rdi+0x50]; pop rbp; ret
        let facts = run(&[0x55, 0x48, 0x89, 0xe5, 0x8b, 0x47, 0x50, 0x5d, 0xc3]);
        assert_eq!(facts.last(), Some(&Fact::Return(Value::loaded(this(0x50, 4)))));
    }

    #[test]
    fn where_paths_meet_only_what_they_agree_on_is_known() {
        // test esi, esi; je +3; mov rdi, rdx; mov byte [rdi+8], 1; ret
        let facts = run(&[0x85, 0xf6, 0x74, 0x03, 0x48, 0x89, 0xd7, 0xc6, 0x47, 0x08, 0x01, 0xc3]);
        assert!(!facts.iter().any(|fact| matches!(fact, Fact::Store(..))), "{facts:?}");
        // test esi, esi; je +3; mov rax, rdx; mov byte [rdi+8], 1; ret
        let facts = run(&[0x85, 0xf6, 0x74, 0x03, 0x48, 0x89, 0xd0, 0xc6, 0x47, 0x08, 0x01, 0xc3]);
        assert!(facts.contains(&Fact::Store(this(8, 1), Value::Constant(1))), "{facts:?}");
    }

    #[test]
    fn a_call_keeps_the_saved_registers_only() {
        // mov rbx, rdi; call 0x5000; mov [rbx+8], rax; mov [rdi], rax; ret
        let code = [0x48, 0x89, 0xfb, 0xe8, 0xf8, 0x3f, 0, 0, 0x48, 0x89, 0x43, 0x08, 0x48, 0x89, 0x07, 0xc3];
        let stores: Vec<_> = run(&code).into_iter().filter(|fact| matches!(fact, Fact::Store(..))).collect();
        assert_eq!(stores, [Fact::Store(this(8, 8), Value::Result(0x1003))]);
    }

    #[test]
    fn nothing_follows_a_call_that_never_returns() {
        // call 0x6000; mov byte [rdi+8], 1
        let facts = run(&[0xe8, 0xfb, 0x4f, 0, 0, 0xc6, 0x47, 0x08, 0x01]);
        assert!(matches!(facts.as_slice(), [Fact::Call(_)]), "{facts:?}");
    }

    #[test]
    fn two_fields_that_are_written_at_once_are_two_stores() {
        // movq xmm0, rsi; movq xmm1, rdx; punpcklqdq xmm0, xmm1; movups [rdi+0x10], xmm0; ret
        let code = [
            0x66, 0x48, 0x0f, 0x6e, 0xc6, 0x66, 0x48, 0x0f, 0x6e, 0xca, 0x66, 0x0f, 0x6c, 0xc1, 0x0f, 0x11, 0x47, 0x10,
            0xc3,
        ];
        let facts = run(&code);
        assert!(facts.contains(&Fact::Store(this(0x10, 8), Value::Argument(1))), "{facts:?}");
        assert!(facts.contains(&Fact::Store(this(0x18, 8), Value::Argument(2))), "{facts:?}");
    }

    #[test]
    fn an_argument_on_the_stack_is_known_by_its_number() {
        // sub rsp, 0x18; movzx eax, byte [rsp+0x30]; mov [rdi+0x2b], al; ret: [rsp+0x30] is entry + 0x18, the third there
        let code = [0x48, 0x83, 0xec, 0x18, 0x0f, 0xb6, 0x44, 0x24, 0x30, 0x88, 0x47, 0x2b, 0xc3];
        assert!(run(&code).contains(&Fact::Store(this(0x2b, 1), Value::Argument(8))));
    }

    #[test]
    fn a_counter_is_known_through_the_pointer_to_it() {
        // mov rax, [rip+0x7ff9] (0x9000); mov ecx, 1; lock xadd [rax], rcx; mov [rdi+8], rcx; ret
        let code = [
            0x48, 0x8b, 0x05, 0xf9, 0x7f, 0, 0, 0xb9, 1, 0, 0, 0, 0xf0, 0x48, 0x0f, 0xc1, 0x08, 0x48, 0x89, 0x4f, 0x08,
            0xc3,
        ];
        let counter = Place { base: Value::Static(0xa000), offset: 0, width: 8 };
        assert!(run(&code).contains(&Fact::Store(this(8, 8), Value::Counted(counter.into()))));
    }

    #[test]
    fn a_virtual_call_names_its_object_and_slot() {
        // mov rdi, [rdi+0x10]; mov rax, [rdi]; jmp [rax+0x30]
        let facts = run(&[0x48, 0x8b, 0x7f, 0x10, 0x48, 0x8b, 0x07, 0xff, 0x60, 0x30]);
        let target = facts.iter().find_map(|fact| match fact {
            Fact::Call(Call { target, .. }) => Some(target.clone()),
            _ => None,
        });
        assert_eq!(target, Some(Target::Virtual { object: Value::loaded(this(0x10, 8)), slot: 0x30 }));
    }

    #[test]
    fn loops_and_nonsense_come_to_an_end() {
        // add rdi, 8; jmp back
        run(&[0x48, 0x83, 0xc7, 0x08, 0xeb, 0xfa]);
        // mov rdi, [rdi]; jmp back
        run(&[0x48, 0x8b, 0x3f, 0xeb, 0xfb]);
        // A stack that only grows: push rax, 60,000 times.
        assert_eq!(run(&[0x50; 60_000]), []);
        // Bytes of no meaning, from a fixed generator.
        let mut seed = 1_u32;
        for length in 0..400 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            run(&bytes);
        }
    }
}
