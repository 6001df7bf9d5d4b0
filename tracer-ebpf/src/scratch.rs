// SPDX-License-Identifier: Apache-2.0
//! Memory to work in, for which a program's stack has no room.
//!
//! A probe can be preempted, and the next task on that CPU can hit one too, so each CPU has some of it; who finds none
//! goes without a stack, which is counted.

use core::intrinsics::{AtomicOrdering, atomic_xchg};

use aya_ebpf::{macros::map, maps::PerCpuArray};
use tracer_common::{NativeStack, PythonScratch, PythonStack, StackHash};
use tracer_unwind::{space::Range, walk::Machine};

use crate::{python, window::Window};

/// How many probes can be at work at once on one CPU, each but the last preempted.
pub(crate) const LEVELS: u32 = 4;
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(LEVELS, 0);

/// A map's value has 32 KiB at most.
#[map]
static PYTHON: PerCpuArray<Python> = PerCpuArray::with_max_entries(LEVELS, 0);

/// What one hit works in.
#[repr(C)]
pub(crate) struct Scratch {
    /// Whether somebody does: 0 or 1.
    busy: u64,
    /// What tells the native stack from others.
    pub(crate) hash: StackHash,
    /// A piece of the target's memory: of its stack.
    pub(crate) window: Window,
    /// The walk of the native stack.
    pub(crate) walker: Walker,
    /// What it finds.
    pub(crate) native: NativeStack,
}

/// What the walk of the Python frames works in.
#[repr(C)]
pub(crate) struct Python {
    /// What tells the frames from others.
    pub(crate) hash: StackHash,
    /// A piece of the target's memory, beside the one that has its stack.
    pub(crate) window: Window,
    /// The walk.
    pub(crate) walker: python::Walker,
    /// What it finds.
    pub(crate) stack: PythonStack,
    /// What is read into that is in neither piece.
    pub(crate) read: PythonScratch,
}

/// The state of a walk of a native stack.
#[repr(C)]
pub(crate) struct Walker {
    /// The frame that it is at.
    pub(crate) machine: Machine,
    /// The number of the target whose modules are where this one's are.
    pub(crate) space: u32,
    /// The number of what tells where they are.
    pub(crate) space_number: u32,
    /// The range that the last address was in.
    pub(crate) range: Range,
    /// The epoch at which they are.
    pub(crate) epoch: u64,
    /// Of how many frames row or rule were remembered.
    pub(crate) remembered: u64,
    /// Frames that are captured.
    pub(crate) count: u64,
}

/// Scratch memory for one hit, until it is dropped.
pub(crate) struct Claim(u32);

impl Claim {
    /// Takes what is free on this CPU.
    #[inline(always)]
    pub(crate) fn new() -> Option<Self> {
        for level in 0..LEVELS {
            let scratch = at(level)?;
            // SAFETY: the pointer is to an aligned map value; whoever else is on this CPU uses it in the same way.
            let before = unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(&raw mut scratch.busy, 1) };
            if before == 0 {
                return Some(Self(level));
            }
        }
        None
    }

    /// Which one it is.
    pub(crate) fn level(&self) -> u32 {
        self.0
    }
}

impl Drop for Claim {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(scratch) = at(self.0) {
            // SAFETY: as in `new`.
            unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(&raw mut scratch.busy, 0) };
        }
    }
}

/// The scratch memory of a claimed level.
#[inline(always)]
pub(crate) fn at(level: u32) -> Option<&'static mut Scratch> {
    // SAFETY: it is this CPU's, the kernel does not move a program to another one, and the level is claimed by one hit;
    // but for `busy`, of which nothing is assumed.
    SCRATCH.get_ptr_mut(level).map(|scratch| unsafe { &mut *scratch })
}

/// The same, for Python frames.
#[inline(always)]
pub(crate) fn python(level: u32) -> Option<&'static mut Python> {
    // SAFETY: as in `at`.
    PYTHON.get_ptr_mut(level).map(|python| unsafe { &mut *python })
}
