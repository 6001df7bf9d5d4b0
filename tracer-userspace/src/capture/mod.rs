// SPDX-License-Identifier: Apache-2.0
//! Records a process: waits for its library, attaches, and turns hits into a trace file until it ends.
//!
//! - [`kernel`]: loads and attaches the kernel side.
//! - [`decode`]: ring-buffer bytes to hits. [`order`]: in the order of their numbers, and which never came.
//! - [`python`]: the Python part of stacks. [`code`], [`lines`]: the names and lines of it. [`merge`]: with the native part.
//! - [`space`]: the target's modules. [`symbolize`], `demangle`: their symbols. [`intern`]: one number for each stack.
//! - [`tables`]: the unwind tables of the modules, for the kernel side.
//! - [`recorder`]: hits to events. [`tally`]: their running sums.
//! - [`session`]: what a recording is asked for and comes to. `wait`: for the library. `recording`: the loop that drives it all.

pub mod code;
pub mod decode;
mod demangle;
pub mod intern;
pub mod kernel;
pub mod lines;
pub mod merge;
mod modules;
pub mod order;
pub mod python;
pub mod recorder;
mod recording;
pub mod session;
pub mod space;
pub mod stacks;
pub mod symbolize;
pub mod tables;
pub mod tally;
mod wait;
mod watch;
