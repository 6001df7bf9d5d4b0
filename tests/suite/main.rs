// SPDX-License-Identifier: Apache-2.0
//! The integration tests, one binary: real targets, the real tool, and the kernel.
//!
//! Tests that probe a process need root. Where they do not have it they say so and pass, unless `cargo xtask test` runs
//! them, which brings the rights along and sets BUFTRACE_NO_SKIP.

mod account;
mod agreement;
mod banks;
mod cause;
mod circular;
mod command;
mod containers;
mod cycles;
mod docs;
mod epilogue;
mod export_tables;
mod export_visualizer;
mod exports;
mod faults;
mod files;
mod forks;
mod framehop;
mod frames;
mod full;
mod gate;
mod group;
mod hostile;
mod import;
mod killed;
mod left;
mod lifecycle;
mod live;
mod lookalike;
mod loss;
mod machine;
mod packages;
mod page;
mod plugin;
mod privileges;
mod processes;
mod python;
mod redact;
mod refusals;
mod seen;
mod snapshot;
mod stacks;
mod survival;
mod tables;
mod target;
mod tidy;
mod tool;
mod trampoline;
mod ttnn;
mod ttnn_cause;
mod workers;
