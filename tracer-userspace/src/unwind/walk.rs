// SPDX-License-Identifier: Apache-2.0
//! From frame to frame, until the outermost function or a reason to stop.

use super::{rule::Machine, table::Table};

/// Most frames of one stack. A pytest stack has 50 to 140; deep recursion is cut here, and says so.
pub const MAX_FRAMES: usize = 4096;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// At the outermost function: the table says that it has no caller.
    Complete,
    /// The address is in no mapping.
    NoModule,
    /// The module's table has no row for the address.
    NoTable,
    /// The module's table is damaged.
    BadTable,
    /// A rule needs something that unwinding does not know.
    UnsupportedRule,
    /// A rule needs a register whose value was lost on the way.
    RegisterLost,
    /// A rule needs memory that the copy of the stack does not have.
    Unreadable,
    /// The copy ended before the stack did.
    CopyTooSmall,
    /// The stack pointer did not move towards the stack's end.
    NoProgress,
    /// [`MAX_FRAMES`].
    TooManyFrames,
    /// The kernel side had no table for the module yet, and its copy did not arrive.
    NotLoaded,
    /// The return address is hidden: another tool watches the function with a uretprobe.
    Uretprobe,
    /// The process was loading or unloading modules, and the copy did not arrive.
    ModulesChanged,
    /// There is no stack: the ring buffer had no room for it, or too many probes were hit at once.
    NotSent,
}

impl End {
    /// The name that the trace file has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::NoModule => "no-module",
            Self::NoTable => "no-table",
            Self::BadTable => "bad-table",
            Self::UnsupportedRule => "unsupported-rule",
            Self::RegisterLost => "register-lost",
            Self::Unreadable => "unreadable",
            Self::CopyTooSmall => "copy-too-small",
            Self::NoProgress => "no-progress",
            Self::TooManyFrames => "too-many-frames",
            Self::NotLoaded => "not-loaded",
            Self::Uretprobe => "uretprobe",
            Self::ModulesChanged => "modules-changed",
            Self::NotSent => "not-sent",
        }
    }
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Address in the process.
    pub address: u64,
    /// Whether it is a return address: the call is before it.
    pub returns: bool,
}

impl Frame {
    /// An address inside the instruction that the frame is at: for a return address, inside the call.
    #[must_use]
    pub fn inside(self) -> u64 {
        self.address.wrapping_sub(u64::from(self.returns))
    }
}

/// A copy of a piece of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a> {
    /// The address of the first byte.
    pub start: u64,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Whether the copy has the largest size: what is behind it may be stack too.
    pub full: bool,
}

impl Stack<'_> {
    /// The eight bytes at an address.
    fn read(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get(offset..offset.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// Where the modules of a process are.
pub trait Modules {
    /// The table of the module at an address, and what to subtract from the address to get the module's own one.
    /// The table is `None` if the module has none.
    ///
    /// # Errors
    /// [`End::NoModule`] if there is nothing at the address, [`End::Uretprobe`] if what is there hides the return address.
    fn module(&self, address: u64) -> Result<(Option<&Table>, u64), End>;
}

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Frames, innermost first.
    pub frames: Vec<Frame>,
    /// How it ended.
    pub end: End,
    /// The highest stack address that was needed: where the thread's stack ends, if the walk is complete.
    pub stack_end: u64,
}

/// Walks a stack from the registers at its innermost frame.
#[must_use]
pub fn walk(start: Machine, stack: Stack<'_>, modules: &dyn Modules) -> Walk {
    let mut frames = Vec::new();
    let mut machine = start;
    let mut returns = false;
    let end = loop {
        let Some(address) = machine.ip().filter(|&address| address != 0) else {
            // A return address of zero is how hand-written thread starts without a table mark the outermost frame.
            break End::Complete;
        };
        if frames.len() == MAX_FRAMES {
            break End::TooManyFrames;
        }
        let frame = Frame { address, returns };
        frames.push(frame);
        match caller(&machine, frame, stack, modules) {
            Ok((caller, signal)) => {
                // A caller's frame is always above; a signal handler's may be on a stack of its own.
                if !signal && caller.sp() <= machine.sp() {
                    break End::NoProgress;
                }
                machine = caller;
                returns = !signal;
            }
            Err(End::Unreadable) if stack.full => break End::CopyTooSmall,
            Err(end) => break end,
        }
    };
    Walk { frames, end, stack_end: machine.sp().unwrap_or(0) }
}

fn caller(machine: &Machine, frame: Frame, stack: Stack<'_>, modules: &dyn Modules) -> Result<(Machine, bool), End> {
    let (table, bias) = modules.module(frame.inside())?;
    let table = table.ok_or(End::NoTable)?;
    let rule = table.rule(frame.inside().wrapping_sub(bias))?;
    let caller = rule.apply(machine, table.section(), &|address| stack.read(address))?;
    Ok((caller, rule.signal))
}

#[cfg(test)]
mod tests {
    use tracer_common::{Epoch, Registers};

    use super::*;
    use crate::capture::space::{Files, Space};

    const SP: u64 = 0x7ff0_0000;

    /// The unwind tables of this program itself.
    fn ourselves() -> (Space, Files) {
        let (mut space, mut files) = (Space::new(std::process::id()), Files::default());
        assert_eq!(space.refresh(&mut files, &Epoch::default).problems, Vec::<String>::new());
        (space, files)
    }

    extern "C" fn probed() {}

    /// A walk from the entry of a function, where the return address is at the stack pointer.
    fn at_entry(stack: &[u8], full: bool, modules: &dyn Modules) -> Walk {
        let registers = Registers { rip: probed as *const () as u64, rsp: SP, ..Registers::default() };
        walk(Machine::at(&registers), Stack { start: SP, bytes: stack, full }, modules)
    }

    /// Modules without tables, everywhere.
    struct Bare;

    impl Modules for Bare {
        fn module(&self, _: u64) -> Result<(Option<&Table>, u64), End> {
            Ok((None, 0))
        }
    }

    /// No modules at all.
    struct Nothing;

    impl Modules for Nothing {
        fn module(&self, _: u64) -> Result<(Option<&Table>, u64), End> {
            Err(End::NoModule)
        }
    }

    #[test]
    fn a_stack_that_ends_is_complete_and_says_where() {
        let (space, files) = ourselves();
        let walk = at_entry(&[0; 8], false, &space.at(&files, 0));
        assert_eq!((walk.frames.len(), walk.end, walk.stack_end), (1, End::Complete, SP + 8));
    }

    #[test]
    fn a_walk_that_stops_says_why() {
        let (space, files) = ourselves();
        let space = space.at(&files, 0);
        assert_eq!(at_entry(&[0; 7], false, &space).end, End::Unreadable);
        assert_eq!(at_entry(&[0; 7], true, &space).end, End::CopyTooSmall);
        assert_eq!(at_entry(&0x10_u64.to_le_bytes(), false, &space).end, End::NoModule);
        assert_eq!(at_entry(&[], false, &Bare).end, End::NoTable);
        assert_eq!(at_entry(&[], false, &Nothing).end, End::NoModule);
    }

    #[test]
    fn what_is_found_before_a_stop_is_kept() {
        let (space, files) = ourselves();
        let walk = at_entry(&0x10_u64.to_le_bytes(), false, &space.at(&files, 0));
        let outermost = Frame { address: 0x10, returns: true };
        assert_eq!((walk.frames.len(), walk.frames.last()), (2, Some(&outermost)));
        assert_eq!(outermost.inside(), 0xf, "inside the call");
    }
}
