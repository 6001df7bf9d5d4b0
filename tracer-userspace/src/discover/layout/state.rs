// SPDX-License-Identifier: Apache-2.0
//! What the registers and the stack are known to hold at one instruction.

use std::collections::BTreeMap;

use iced_x86::Register;

use super::value::Value;

/// The registers that hold the integer arguments, in order (System V ABI).
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];
/// The registers that a call leaves as they were (System V ABI); the stack pointer comes back, too.
const SAVED: [Register; 7] =
    [Register::RBX, Register::RSP, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// What is known at one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    general: [Value; 16],
    /// The low 16 bytes of each vector register, as two words.
    vectors: [[Value; 2]; 32],
    /// What the function wrote to its stack, by offset from the stack pointer at entry, with the width.
    stack: BTreeMap<i64, (Value, u8)>,
    /// Whether somebody else may know a stack address, so that a call may write there.
    pub(super) escaped: bool,
}

impl State {
    /// The state at a function's first instruction.
    pub(super) fn at_entry() -> Self {
        let mut state = Self {
            general: [const { Value::Unknown }; 16],
            vectors: [const { [Value::Unknown, Value::Unknown] }; 32],
            stack: BTreeMap::new(),
            escaped: false,
        };
        for (number, register) in (0..).zip(ARGUMENTS) {
            state.set(register, Value::Argument(number));
        }
        state.set(Register::RSP, Value::Stack(0));
        state
    }

    /// How many parts of the stack something is known of.
    pub(super) fn slots(&self) -> usize {
        self.stack.len()
    }

    /// Keeps what both states agree on; returns whether that changed this one.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        let pairs = self.general.iter_mut().zip(&other.general);
        let vectors = self.vectors.as_flattened_mut().iter_mut().zip(other.vectors.as_flattened());
        for (mine, theirs) in pairs.chain(vectors) {
            if *mine != Value::Unknown && mine != theirs {
                *mine = Value::Unknown;
                changed = true;
            }
        }
        for (offset, slot) in &mut self.stack {
            if slot.0 != Value::Unknown && other.stack.get(offset) != Some(slot) {
                slot.0 = Value::Unknown;
                changed = true;
            }
        }
        for (offset, (_, width)) in &other.stack {
            if !self.stack.contains_key(offset) {
                self.stack.insert(*offset, (Value::Unknown, *width));
                changed = true;
            }
        }
        changed |= other.escaped && !self.escaped;
        self.escaped |= other.escaped;
        changed
    }

    /// What a general register holds, whichever part of it is named.
    pub(super) fn get(&self, register: Register) -> Value {
        match register {
            // The second byte of a register: none of the values here is about that.
            Register::AH | Register::BH | Register::CH | Register::DH => Value::Unknown,
            _ if register.is_gpr() => self.general[register.full_register().number()].clone(),
            _ => Value::Unknown,
        }
    }

    /// Changes a register; of a vector register, nothing is known then.
    pub(super) fn set(&mut self, register: Register, value: Value) {
        if register.is_gpr() {
            let high = matches!(register, Register::AH | Register::BH | Register::CH | Register::DH);
            self.general[register.full_register().number()] = if high { Value::Unknown } else { value };
        } else if register.is_vector_register() {
            self.set_vector(register, [Value::Unknown, Value::Unknown]);
        }
    }

    /// The two words of a vector register.
    pub(super) fn vector(&self, register: Register) -> [Value; 2] {
        match register.is_vector_register() {
            true => self.vectors[register.number()].clone(),
            false => [Value::Unknown, Value::Unknown],
        }
    }

    /// Changes a vector register.
    pub(super) fn set_vector(&mut self, register: Register, words: [Value; 2]) {
        if register.is_vector_register() {
            self.vectors[register.number()] = words;
        }
    }

    /// What the six argument registers hold.
    pub(super) fn arguments(&self) -> [Value; 6] {
        ARGUMENTS.map(|register| self.get(register))
    }

    /// The state after a call that returned this.
    pub(super) fn after_call(&mut self, result: Value) {
        for (number, value) in self.general.iter_mut().enumerate() {
            if !SAVED.iter().any(|saved| saved.number() == number) {
                *value = Value::Unknown;
            }
        }
        self.vectors.as_flattened_mut().fill(Value::Unknown);
        self.set(Register::RAX, result);
        if self.escaped {
            self.forget_stack();
        }
    }

    /// What a part of the stack holds, by its offset from the stack pointer at entry.
    pub(super) fn stack_slot(&self, offset: i64, width: u8) -> Value {
        let end = offset.saturating_add(i64::from(width));
        let overlaps =
            |(at, (_, wide)): &(&i64, &(Value, u8))| **at < end && offset < at.saturating_add(i64::from(*wide));
        match self.stack.iter().find(overlaps) {
            Some((at, (value, wide))) if *at == offset && *wide >= width => value.clone(),
            Some(_) => Value::Unknown,
            // Above the return address are the arguments that found no register.
            None if offset >= 8 && offset % 8 == 0 => {
                u8::try_from(5 + offset / 8).map_or(Value::Unknown, Value::Argument)
            }
            None => Value::Unknown,
        }
    }

    /// Changes a part of the stack.
    pub(super) fn set_stack_slot(&mut self, offset: i64, width: u8, value: Value) {
        let end = offset.saturating_add(i64::from(width));
        for (at, (value, wide)) in &mut self.stack {
            if *at < end && offset < at.saturating_add(i64::from(*wide)) {
                *value = Value::Unknown;
            }
        }
        self.stack.insert(offset, (value, width));
    }

    /// Somebody else may have written to the stack. An argument kept there is taken for a spilled register, which nobody else
    /// can know of, and stays.
    pub(super) fn forget_stack(&mut self) {
        let others = self.stack.values_mut().filter(|slot| !matches!(slot.0, Value::Argument(_)));
        others.for_each(|slot| slot.0 = Value::Unknown);
    }
}
