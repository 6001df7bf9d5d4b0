// SPDX-License-Identifier: Apache-2.0
//! One row of call frame information: how to get the caller's registers from the callee's.
//!
//! Source of the rules: DWARF 5, section 6.4; register numbers: System V ABI for x86-64, figure 3.36.

use gimli::{
    CfaRule, Encoding, EndianArcSlice, EvaluationResult, LittleEndian, Location, Register, RegisterRule,
    UnwindExpression, UnwindTableRow, Value, X86_64,
};
use tracer_common::Registers;

use super::walk::End;

/// The bytes of an `.eh_frame` section.
pub(super) type Bytes = EndianArcSlice<LittleEndian>;

/// The general registers, but for the stack pointer: that is the frame address.
const RESTORED: [Register; 15] = [
    X86_64::RAX,
    X86_64::RDX,
    X86_64::RCX,
    X86_64::RBX,
    X86_64::RSI,
    X86_64::RDI,
    X86_64::RBP,
    X86_64::R8,
    X86_64::R9,
    X86_64::R10,
    X86_64::R11,
    X86_64::R12,
    X86_64::R13,
    X86_64::R14,
    X86_64::R15,
];
/// Those that a caller expects to find as they were.
const CALLEE_SAVED: [Register; 6] = [X86_64::RBX, X86_64::RBP, X86_64::R12, X86_64::R13, X86_64::R14, X86_64::R15];
/// DWARF numbers of the sixteen general registers and the return address.
const REGISTERS: usize = 17;
/// Steps that an expression may take: real ones take less than 20.
const EXPRESSION_STEPS: u32 = 200;

/// The registers of one frame, by DWARF number; number 16 is the instruction pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine([Option<u64>; REGISTERS]);

impl Machine {
    /// The registers as they were at a probed instruction.
    #[must_use]
    pub fn at(registers: &Registers) -> Self {
        let mut machine = Self([None; REGISTERS]);
        for (register, value) in [
            (X86_64::RA, registers.rip),
            (X86_64::RSP, registers.rsp),
            (X86_64::RBP, registers.rbp),
            (X86_64::RBX, registers.rbx),
            (X86_64::R12, registers.r12),
            (X86_64::R13, registers.r13),
            (X86_64::R14, registers.r14),
            (X86_64::R15, registers.r15),
        ] {
            machine.set(register, Some(value));
        }
        machine
    }

    /// The instruction pointer; in a caller, the return address.
    #[must_use]
    pub fn ip(&self) -> Option<u64> {
        self.get(X86_64::RA)
    }

    /// The stack pointer.
    #[must_use]
    pub fn sp(&self) -> Option<u64> {
        self.get(X86_64::RSP)
    }

    fn get(&self, register: Register) -> Option<u64> {
        self.0.get(usize::from(register.0)).copied().flatten()
    }

    fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(slot) = self.0.get_mut(usize::from(register.0)) {
            *slot = value;
        }
    }
}

/// Where the canonical frame address (the stack pointer before the call) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cfa {
    /// `register + offset`.
    Offset(Register, i64),
    /// What the expression computes.
    Expression(UnwindExpression<usize>),
}

/// Where a caller's register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saved {
    /// In the register itself: nobody touched it.
    Same,
    /// Lost.
    Undefined,
    /// In memory at `CFA + offset`.
    At(i64),
    /// It is `CFA + offset`.
    Is(i64),
    /// In another register.
    Register(Register),
    /// In memory at the address that the expression computes.
    AtExpression(UnwindExpression<usize>),
    /// It is what the expression computes.
    IsExpression(UnwindExpression<usize>),
}

/// A row: the rule for the frame address, the return address and each register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    cfa: Cfa,
    return_address: Saved,
    saved: [Saved; RESTORED.len()],
    encoding: Encoding,
    /// Whether the frame was entered by a signal: its caller's address is not that of a call's return.
    pub(super) signal: bool,
}

impl Rule {
    pub(super) fn of(row: &UnwindTableRow<usize>, encoding: Encoding, signal: bool) -> Result<Self, End> {
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => Cfa::Offset(*register, *offset),
            CfaRule::Expression(expression) => Cfa::Expression(*expression),
        };
        let saved = |register| {
            Ok(match row.register(register) {
                None if CALLEE_SAVED.contains(&register) => Saved::Same,
                Some(RegisterRule::SameValue) => Saved::Same,
                None | Some(RegisterRule::Undefined) => Saved::Undefined,
                Some(RegisterRule::Offset(offset)) => Saved::At(offset),
                Some(RegisterRule::ValOffset(offset)) => Saved::Is(offset),
                Some(RegisterRule::Register(other)) => Saved::Register(other),
                Some(RegisterRule::Expression(expression)) => Saved::AtExpression(expression),
                Some(RegisterRule::ValExpression(expression)) => Saved::IsExpression(expression),
                Some(_) => return Err(End::UnsupportedRule),
            })
        };
        let mut registers = [Saved::Undefined; RESTORED.len()];
        for (slot, register) in registers.iter_mut().zip(RESTORED) {
            *slot = saved(register)?;
        }
        Ok(Self { cfa, return_address: saved(X86_64::RA)?, saved: registers, encoding, signal })
    }

    /// The caller's registers, or why there is no caller to be found.
    ///
    /// `read` gives the eight bytes at an address of the stack.
    pub(super) fn apply(
        &self,
        machine: &Machine,
        section: &gimli::EhFrame<Bytes>,
        read: &dyn Fn(u64) -> Option<u64>,
    ) -> Result<Machine, End> {
        let context = Context { machine, section, encoding: self.encoding, read };
        let cfa = match self.cfa {
            Cfa::Offset(register, offset) => {
                machine.get(register).ok_or(End::RegisterLost)?.wrapping_add_signed(offset)
            }
            Cfa::Expression(expression) => context.evaluate(expression, None)?,
        };
        if self.return_address == Saved::Undefined {
            return Err(End::Complete);
        }
        let mut caller = *machine;
        for (register, saved) in RESTORED.into_iter().zip(self.saved) {
            caller.set(register, context.restore(register, saved, cfa)?);
        }
        caller.set(X86_64::RSP, Some(cfa));
        caller.set(X86_64::RA, context.restore(X86_64::RA, self.return_address, cfa)?);
        Ok(caller)
    }
}

/// What rules are evaluated against: the registers and the stack of the callee.
struct Context<'a> {
    machine: &'a Machine,
    section: &'a gimli::EhFrame<Bytes>,
    encoding: Encoding,
    read: &'a dyn Fn(u64) -> Option<u64>,
}

impl Context<'_> {
    fn restore(&self, register: Register, saved: Saved, cfa: u64) -> Result<Option<u64>, End> {
        Ok(match saved {
            Saved::Same => self.machine.get(register),
            Saved::Undefined => None,
            Saved::At(offset) => Some(self.load(cfa.wrapping_add_signed(offset))?),
            Saved::Is(offset) => Some(cfa.wrapping_add_signed(offset)),
            Saved::Register(other) => self.machine.get(other),
            Saved::AtExpression(expression) => Some(self.load(self.evaluate(expression, Some(cfa))?)?),
            Saved::IsExpression(expression) => Some(self.evaluate(expression, Some(cfa))?),
        })
    }

    fn load(&self, address: u64) -> Result<u64, End> {
        (self.read)(address).ok_or(End::Unreadable)
    }

    fn evaluate(&self, expression: UnwindExpression<usize>, initial: Option<u64>) -> Result<u64, End> {
        let bytes = expression.get(self.section).map_err(|_| End::BadTable)?;
        let mut evaluation = bytes.evaluation(self.encoding);
        evaluation.set_max_iterations(EXPRESSION_STEPS);
        if let Some(value) = initial {
            evaluation.set_initial_value(value);
        }
        let mut state = evaluation.evaluate().map_err(|_| End::UnsupportedRule)?;
        for _ in 0..EXPRESSION_STEPS {
            state = match state {
                EvaluationResult::Complete => {
                    return match evaluation.as_result() {
                        [piece] => match piece.location {
                            Location::Address { address } => Ok(address),
                            _ => Err(End::UnsupportedRule),
                        },
                        _ => Err(End::UnsupportedRule),
                    };
                }
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    evaluation.resume_with_memory(Value::Generic(self.load(address)?))
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.machine.get(register).ok_or(End::RegisterLost)?;
                    evaluation.resume_with_register(Value::Generic(value))
                }
                _ => return Err(End::UnsupportedRule),
            }
            .map_err(|_| End::UnsupportedRule)?;
        }
        Err(End::UnsupportedRule)
    }
}

/// Wraps the bytes of a section for gimli.
pub(super) fn bytes(data: &[u8]) -> Bytes {
    Bytes::new(data.into(), LittleEndian)
}
