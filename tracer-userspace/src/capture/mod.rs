// SPDX-License-Identifier: Apache-2.0
//! Records a process: waits for its library, attaches, and turns hits into a trace file until it ends.
//!
//! - [`kernel`]: loads and attaches the kernel side.
//! - [`decode`]: ring-buffer bytes to hits. [`gaps`]: which hits never came.
//! - [`space`]: the target's modules. [`symbolize`]: their symbols. [`intern`]: one number for each stack.
//! - [`recorder`]: hits to events. [`tally`]: their running sums.
//! - [`session`]: the loop that drives it all.

pub mod decode;
pub mod gaps;
pub mod intern;
pub mod kernel;
pub mod recorder;
pub mod session;
pub mod space;
pub mod symbolize;
pub mod tally;
