// SPDX-License-Identifier: Apache-2.0
//! One step of a walk, with what it needs from outside as traits.

use crate::rule::Rule;

/// Why a walk went no further.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// At the outermost function.
    Complete = 1,
    /// The address is in no range.
    NoModule = 2,
    /// The module has no row for the address.
    NoTable = 3,
    /// The module's table is not loaded yet.
    NotLoaded = 4,
    /// The rule needs what only the whole `.eh_frame` says.
    Unsupported = 5,
    /// The rule needs the base pointer, whose value was lost on the way.
    RegisterLost = 6,
    /// The rule needs memory that can't be read.
    Unreadable = 7,
    /// The stack pointer did not move towards the stack's end.
    NoProgress = 8,
    /// There are more frames than there is room for.
    TooManyFrames = 9,
    /// The return address is hidden: somebody watches the function with a uretprobe.
    Uretprobe = 10,
    /// The process's modules have changed since the ranges were made.
    ModulesChanged = 11,
}

impl Stop {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 11] = [
        Self::Complete,
        Self::NoModule,
        Self::NoTable,
        Self::NotLoaded,
        Self::Unsupported,
        Self::RegisterLost,
        Self::Unreadable,
        Self::NoProgress,
        Self::TooManyFrames,
        Self::Uretprobe,
        Self::ModulesChanged,
    ];

    /// The reason of a number that came over the border, or `None` for one that is not ours.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Whether a walk by the whole `.eh_frame`, from a copy of the stack, may come further than one that stopped for the
    /// reason of this number.
    #[must_use]
    #[inline(always)]
    pub const fn wants_copy(number: u8) -> bool {
        const REASONS: u32 = 1 << Stop::NoModule as u32
            | 1 << Stop::NotLoaded as u32
            | 1 << Stop::Unsupported as u32
            | 1 << Stop::RegisterLost as u32
            | 1 << Stop::ModulesChanged as u32;
        REASONS >> (number & 31) & 1 == 1
    }
}

/// The registers of one frame that are followed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The instruction pointer; in a caller, the return address.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The base pointer; a general register in code without frame pointers.
    pub bp: u64,
    /// Whether `bp` is not known: 0 or 1.
    pub bp_lost: u32,
    /// Whether `ip` is a return address, and the call is before it: 0 or 1.
    pub returns: u32,
}

impl Machine {
    /// An address inside the instruction that the frame is at.
    #[must_use]
    #[inline(always)]
    pub const fn inside(&self) -> u64 {
        self.ip.wrapping_sub(self.returns as u64)
    }
}

/// The memory of the process.
pub trait Memory {
    /// The eight bytes at an address, or `None` if they can't be read.
    fn read(&mut self, address: u64) -> Option<u64>;
}

/// The tables of the process.
pub trait Tables {
    /// The rule at an address.
    ///
    /// # Errors
    /// If there is none: never [`Stop::Complete`].
    fn rule(&mut self, address: u64) -> Result<Rule, Stop>;
}

/// Makes `machine` its caller.
///
/// # Errors
/// If there is none, or why it can't be found; `machine` is as it was.
#[inline(always)]
pub fn step(machine: &mut Machine, tables: &mut impl Tables, memory: &mut impl Memory) -> Result<(), Stop> {
    let rule = tables.rule(machine.inside())?;
    let caller = rule.apply(machine, memory)?;
    // A return address of zero is how thread starts that are written by hand mark the outermost frame.
    if caller.ip == 0 {
        return Err(Stop::Complete);
    }
    // A caller's frame is always above; a signal handler's may be on a stack of its own.
    if !rule.is_signal() && caller.sp <= machine.sp {
        return Err(Stop::NoProgress);
    }
    *machine = caller;
    Ok(())
}
