// SPDX-License-Identifier: Apache-2.0
//! Reads a whole function: follows both sides of each branch until nothing new is learned, then says what the function does.

use std::collections::{BTreeMap, HashMap};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use super::{
    fact::Fact,
    machine::{Image, Machine, State},
};

/// Most instructions that are run, repeats included, before a function is given up.
const MOST_STEPS: usize = 200_000;

/// What a function does, in the order of its code. Empty if it is too long to be read.
///
/// Code that only an exception leads to is not followed.
pub(super) fn facts(code: &[u8], address: u64, image: &dyn Image) -> Vec<Fact> {
    let mut walk = Walk { code, start: address, machine: Machine::new(image), decoded: HashMap::new() };
    let Some(states) = walk.settle() else { return Vec::new() };
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
        for _ in 0..MOST_STEPS {
            let Some(ip) = waiting.pop() else { return Some(states) };
            let mut state = states.get(&ip)?.clone();
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
        let Some(instruction) = self.decode(ip) else { return Vec::new() };
        let goes_on = self.machine.step(&instruction, state);
        let after = self.contains(instruction.next_ip()).then_some(instruction.next_ip());
        match instruction.flow_control() {
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                self.branch(&instruction, state).into_iter().collect()
            }
            FlowControl::ConditionalBranch => self.branch(&instruction, state).into_iter().chain(after).collect(),
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall if goes_on => {
                after.into_iter().collect()
            }
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
