// SPDX-License-Identifier: Apache-2.0
//! How to get from a frame to its caller.
//!
//! Source of the rules: DWARF 5, section 6.4; the shapes are those that compilers and the C library use on x86-64.

use crate::walk::{Machine, Memory, Stop};

/// How the canonical frame address (CFA, the stack pointer before the call) is found; [`Rule::cfa`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cfa {
    /// The table has no function here.
    None = 0,
    /// `base + offset`.
    Offset = 1,
    /// What is in memory at `base + offset`, plus `second`: functions that align their stack.
    Deref = 2,
    /// `rsp + offset`, and 8 more where the lowest four bits of the instruction pointer are `second` or above: a stub of
    /// the procedure linkage table, which pushes in the middle.
    Plt = 3,
    /// What is in memory at `rsp + offset`; the interrupted instruction's address is at `rsp + second`: a frame that the
    /// kernel made for a signal handler.
    Signal = 4,
    /// The outermost function: its return address is undefined.
    Outermost = 5,
    /// What these rules can't say.
    Unsupported = 6,
}

/// Which register a CFA is relative to; [`Rule::base`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// The stack pointer.
    Rsp = 0,
    /// The base pointer.
    Rbp = 1,
}

/// Where the caller's base pointer is; [`Rule::rbp`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rbp {
    /// In the register: nobody touched it.
    Same = 0,
    /// In memory at `CFA + rbp_offset`.
    AtCfa = 1,
    /// In memory at `rsp + rbp_offset`.
    AtRsp = 2,
    /// In memory at `rbp + rbp_offset`.
    AtRbp = 3,
    /// Lost.
    Undefined = 4,
}

/// One rule. Numbers instead of the enums, because it is read from a map as it is: a number that has no meaning is
/// [`Stop::Unsupported`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// A [`Cfa`].
    pub cfa: u8,
    /// A [`Base`].
    pub base: u8,
    /// An [`Rbp`].
    pub rbp: u8,
    /// Always zero.
    pub padding: u8,
    /// Bytes; see [`Cfa`].
    pub offset: i32,
    /// See [`Cfa`].
    pub second: i32,
    /// Bytes; see [`Rbp`].
    pub rbp_offset: i32,
}

impl Rule {
    /// No function.
    pub const NONE: Self = Self::of(Cfa::None);
    /// The outermost function.
    pub const OUTERMOST: Self = Self::of(Cfa::Outermost);
    /// What these rules can't say.
    pub const UNSUPPORTED: Self = Self::of(Cfa::Unsupported);

    const fn of(cfa: Cfa) -> Self {
        Self { cfa: cfa as u8, base: 0, rbp: 0, padding: 0, offset: 0, second: 0, rbp_offset: 0 }
    }

    /// Whether the frame was made for a signal handler: its caller was interrupted, and did not call.
    #[must_use]
    #[inline(always)]
    pub const fn is_signal(&self) -> bool {
        self.cfa == Cfa::Signal as u8
    }

    /// The caller of the frame `machine`.
    ///
    /// # Errors
    /// If there is none, or why it can't be found.
    #[inline(always)]
    pub fn apply(&self, machine: &Machine, memory: &mut impl Memory) -> Result<Machine, Stop> {
        const NONE: u8 = Cfa::None as u8;
        const OFFSET: u8 = Cfa::Offset as u8;
        const DEREF: u8 = Cfa::Deref as u8;
        const PLT: u8 = Cfa::Plt as u8;
        const SIGNAL: u8 = Cfa::Signal as u8;
        const OUTERMOST: u8 = Cfa::Outermost as u8;
        let base = if self.base == Base::Rsp as u8 {
            machine.sp
        } else if machine.bp_lost == 0 {
            machine.bp
        } else {
            return Err(Stop::RegisterLost);
        };
        let at = base.wrapping_add_signed(i64::from(self.offset));
        let cfa = match self.cfa {
            OFFSET => at,
            DEREF => read(memory, at)?.wrapping_add_signed(i64::from(self.second)),
            PLT if (machine.ip & 15) as i32 >= self.second => at.wrapping_add(8),
            PLT => at,
            SIGNAL => read(memory, at)?,
            NONE => return Err(Stop::NoTable),
            OUTERMOST => return Err(Stop::Complete),
            _ => return Err(Stop::Unsupported),
        };
        let return_slot =
            if self.is_signal() { machine.sp.wrapping_add_signed(i64::from(self.second)) } else { cfa.wrapping_sub(8) };
        let (bp, bp_lost) = self.restore_bp(machine, cfa, memory)?;
        Ok(Machine { ip: read(memory, return_slot)?, sp: cfa, bp, bp_lost, returns: u32::from(!self.is_signal()) })
    }

    #[inline(always)]
    fn restore_bp(&self, machine: &Machine, cfa: u64, memory: &mut impl Memory) -> Result<(u64, u32), Stop> {
        let from = match self.rbp {
            0 => return Ok((machine.bp, machine.bp_lost)),
            1 => cfa,
            2 => machine.sp,
            3 if machine.bp_lost == 0 => machine.bp,
            _ => return Ok((0, 1)),
        };
        let value = read(memory, from.wrapping_add_signed(i64::from(self.rbp_offset)))?;
        Ok((value, 0))
    }
}

#[inline(always)]
fn read(memory: &mut impl Memory, address: u64) -> Result<u64, Stop> {
    memory.read(address).ok_or(Stop::Unreadable)
}

const _: () = assert!(size_of::<Rule>() == 16, "no implicit padding");
