// SPDX-License-Identifier: Apache-2.0
//! From a row of call frame information to a rule that the kernel side can apply, or the reason why there is none.
//!
//! The DWARF expressions that are understood are those that compilers, linkers and the C library write on x86-64:
//! stubs of the procedure linkage table, functions that align their stack, and the frame of a signal handler.

use gimli::{
    CfaRule, Encoding, EndianSlice, LittleEndian, Operation, Register, RegisterRule, UnitOffset, UnwindExpression,
    UnwindTableRow, X86_64,
};
use tracer_unwind::rule::{Base, Cfa, Rbp, Rule};

use super::Reason;

/// The bytes of a section.
pub(super) type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// Most operations of an expression that is understood: a stub's.
const MOST_OPERATIONS: usize = 9;
/// A function's return address is where its caller's stack pointer was.
const RETURN_ADDRESS: i64 = -8;

/// What rows are read with: their section, and what their entry says of all of them.
pub(super) struct Entry<'a, 'd> {
    /// The section that expressions are in.
    pub(super) section: &'a gimli::EhFrame<Slice<'d>>,
    /// How expressions are encoded.
    pub(super) encoding: Encoding,
    /// Whether the entry is of a frame that a signal made.
    pub(super) signal: bool,
}

/// An address or value that an expression computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// `base + offset`.
    Sum(Base, i64),
    /// What is in memory at `base + offset`, plus the last number.
    Deref(Base, i64, i64),
    /// `rsp` + the first number, and 8 more where `rip & 15` is the second or above.
    Plt(i64, i64),
}

impl Entry<'_, '_> {
    /// The rule that says the same as a row.
    pub(super) fn rule(&self, row: &UnwindTableRow<usize>) -> Result<Rule, Reason> {
        let return_address = match row.register(X86_64::RA) {
            None | Some(RegisterRule::Undefined) => return Ok(Rule::OUTERMOST),
            Some(rule) => rule,
        };
        let mut rule = Rule::default();
        match (self.cfa(row.cfa())?, return_address) {
            (Value::Deref(Base::Rsp, offset, 0), RegisterRule::Expression(expression)) if self.signal => {
                let Ok(Value::Sum(Base::Rsp, return_slot)) = self.value(expression) else {
                    return Err(Reason::SignalFrame);
                };
                set_cfa(&mut rule, Cfa::Signal, Base::Rsp, offset, return_slot)?;
            }
            _ if self.signal => return Err(Reason::SignalFrame),
            (value, RegisterRule::Offset(RETURN_ADDRESS)) => match value {
                Value::Sum(base, offset) => set_cfa(&mut rule, Cfa::Offset, base, offset, 0)?,
                Value::Deref(base, offset, second) => set_cfa(&mut rule, Cfa::Deref, base, offset, second)?,
                Value::Plt(offset, second) => set_cfa(&mut rule, Cfa::Plt, Base::Rsp, offset, second)?,
            },
            _ => return Err(Reason::ReturnAddress),
        }
        let (rbp, offset) = self.rbp(row)?;
        rule.rbp = rbp as u8;
        rule.rbp_offset = number(offset)?;
        Ok(rule)
    }

    fn cfa(&self, rule: &CfaRule<usize>) -> Result<Value, Reason> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => {
                Ok(Value::Sum(base(*register).ok_or(Reason::CfaRegister)?, *offset))
            }
            CfaRule::Expression(expression) => self.value(*expression),
        }
    }

    fn rbp(&self, row: &UnwindTableRow<usize>) -> Result<(Rbp, i64), Reason> {
        match row.register(X86_64::RBP) {
            None | Some(RegisterRule::SameValue) => Ok((Rbp::Same, 0)),
            Some(RegisterRule::Undefined) => Ok((Rbp::Undefined, 0)),
            Some(RegisterRule::Offset(offset)) => Ok((Rbp::AtCfa, offset)),
            Some(RegisterRule::Expression(expression)) => match self.value(expression) {
                Ok(Value::Sum(Base::Rsp, offset)) => Ok((Rbp::AtRsp, offset)),
                Ok(Value::Sum(Base::Rbp, offset)) => Ok((Rbp::AtRbp, offset)),
                _ => Err(Reason::BasePointer),
            },
            Some(_) => Err(Reason::BasePointer),
        }
    }

    fn value(&self, expression: UnwindExpression<usize>) -> Result<Value, Reason> {
        let bytes = expression.get(self.section).map_err(|_| Reason::Damaged)?;
        let mut iter = bytes.operations(self.encoding);
        let mut operations = Vec::with_capacity(MOST_OPERATIONS);
        while let Some(operation) = iter.next().map_err(|_| Reason::Damaged)? {
            if operations.len() == MOST_OPERATIONS {
                return Err(Reason::Expression);
            }
            operations.push(operation);
        }
        understand(&operations)
    }
}

fn understand(operations: &[Operation<Slice<'_>>]) -> Result<Value, Reason> {
    use Operation::{And, Deref, Ge, Plus, PlusConstant, RegisterOffset, Shl, UnsignedConstant};
    const GENERIC: UnitOffset = UnitOffset(0);
    let (first, rest) = operations.split_first().ok_or(Reason::Expression)?;
    let RegisterOffset { register, offset, base_type: GENERIC } = *first else {
        return Err(Reason::Expression);
    };
    let base = base(register).ok_or(Reason::CfaRegister)?;
    match *rest {
        [] => Ok(Value::Sum(base, offset)),
        [Deref { base_type: GENERIC, size: 8, space: false }] => Ok(Value::Deref(base, offset, 0)),
        [Deref { base_type: GENERIC, size: 8, space: false }, PlusConstant { value }] => {
            Ok(Value::Deref(base, offset, i64::try_from(value).map_err(|_| Reason::Offset)?))
        }
        [
            RegisterOffset { register: X86_64::RA, offset: 0, base_type: GENERIC },
            UnsignedConstant { value: 15 },
            And,
            UnsignedConstant { value: from },
            Ge,
            UnsignedConstant { value: 3 },
            Shl,
            Plus,
        ] if base == Base::Rsp => Ok(Value::Plt(offset, i64::try_from(from).map_err(|_| Reason::Offset)?)),
        _ => Err(Reason::Expression),
    }
}

fn base(register: Register) -> Option<Base> {
    match register {
        X86_64::RSP => Some(Base::Rsp),
        X86_64::RBP => Some(Base::Rbp),
        _ => None,
    }
}

fn set_cfa(rule: &mut Rule, cfa: Cfa, base: Base, offset: i64, second: i64) -> Result<(), Reason> {
    *rule = Rule { cfa: cfa as u8, base: base as u8, offset: number(offset)?, second: number(second)?, ..*rule };
    Ok(())
}

fn number(offset: i64) -> Result<i32, Reason> {
    i32::try_from(offset).map_err(|_| Reason::Offset)
}
