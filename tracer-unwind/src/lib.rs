// SPDX-License-Identifier: Apache-2.0
//! Unwinding by compact tables, for both sides of the kernel border.
//!
//! User space compiles the `.eh_frame` of a module to *rows*: from this program counter on, that *rule* holds. The
//! kernel side finds the *range* of the address space that a frame's address is in, the row in the range's *table*, and
//! applies its rule. Everything here is pure: reading memory and looking up tables is the caller's, so that what runs in
//! the kernel runs in a test as well.
//!
//! Three registers are followed: the instruction, stack and base pointers. A rule that needs another one is marked so,
//! and whoever walks must do it by the whole `.eh_frame`.
//!
//! - [`rule`]: how to get from a frame to its caller.
//! - [`table`]: from a module's address to the number of a rule.
//! - [`space`]: from an address of the process to a table.
//! - [`walk`]: one step, with what it needs from outside as traits.

#![no_std]

pub mod rule;
pub mod space;
pub mod table;
pub mod walk;
