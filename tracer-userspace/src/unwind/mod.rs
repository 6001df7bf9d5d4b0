// SPDX-License-Identifier: Apache-2.0
//! Walks native stacks by `.eh_frame`, from a copy of the stack and the registers.
//!
//! No IO and no guessing: a frame whose caller the unwind tables do not give ends the walk with the reason. All
//! callee-saved registers are followed, and all rules of DWARF's call frame information, expressions included.
//!
//! - [`table`]: the `.eh_frame` of one module, and the rule that it gives for an address.
//! - [`rule`]: what a rule does to the registers.
//! - [`walk`]: from frame to frame.
//! - [`compile`]: the same tables for the kernel side, which walks by simpler rules.

pub mod compile;
pub mod rule;
mod sections;
pub mod table;
pub mod walk;

pub use self::{
    compile::{Compiled, Counts, Key, Part, Reason, Rules, compile},
    rule::Machine,
    table::Table,
    walk::{End, Frame, Modules, Stack, Walk, walk},
};
