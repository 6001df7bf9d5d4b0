// SPDX-License-Identifier: Apache-2.0
//! Records processes: waits for their library, attaches, and turns hits into a trace file until they end.
//!
//! - [`kernel`]: loads and attaches the kernel side.
//! - [`features`]: what kernels may lack of what the kernel side is made of.
//! - [`clock`]: the one that hits have their times by.
//! - [`decode`]: ring-buffer bytes to hits. [`order`]: in the order of their numbers, and which never came.
//! - [`python`]: the Python part of stacks. [`code`], [`lines`]: the names and lines of it. [`merge`]: with the native part.
//! - [`space`]: the target's modules. [`symbolize`], `demangle`: their symbols. [`numbers`]: what the kernel side has sent.
//!   [`intern`]: one number for each stack.
//! - [`tables`]: the unwind tables of the modules, for the kernel side.
//! - `snapshot`: what allocators held when the recording began.
//! - [`recorder`]: hits to events. [`tally`]: their running sums.
//! - [`session`]: what a recording is asked for and comes to. [`search`]: for processes, and for the library in them.
//!   `followed`: a process from the first look to its end. `attach`: probes. `recording`: the loop that drives it all.

mod attach;
mod behind;
pub mod clock;
pub mod code;
pub mod decode;
mod demangle;
pub mod features;
mod followed;
pub mod intern;
pub mod kernel;
pub mod lines;
pub mod merge;
mod modules;
pub mod numbers;
pub mod order;
pub mod python;
pub mod recorder;
mod recording;
pub mod search;
pub mod session;
mod snapshot;
pub mod space;
pub mod stacks;
pub mod symbolize;
pub mod tables;
pub mod tally;
mod watch;
