// SPDX-License-Identifier: Apache-2.0
//! Each reader of untrusted input as a function of bytes that must return, whatever they are.
//!
//! The fuzzer calls these functions with inputs of its own making (`cargo xtask fuzz`), and a test with those of
//! `corpus/`, which the fuzzer found to be interesting. Besides panics, what counts as a fault is what they assert.

mod exports;
mod gate;
mod image;
mod import;
mod kernel;
mod layout;
mod python;
mod trace;
mod unwind;
mod views;

/// A reader of untrusted input.
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Reads an input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "file", run: trace::file },
    Target { name: "chunk", run: trace::chunk },
    Target { name: "model", run: trace::model },
    Target { name: "epilogue", run: trace::epilogue },
    Target { name: "state", run: trace::state },
    Target { name: "eh_frame", run: unwind::eh_frame },
    Target { name: "tables", run: unwind::tables },
    Target { name: "elf", run: layout::elf },
    Target { name: "code", run: layout::code },
    Target { name: "maps", run: layout::maps },
    Target { name: "log", run: import::log },
    Target { name: "graph", run: import::graph },
    Target { name: "python", run: python::python },
    Target { name: "gate", run: gate::gate },
    Target { name: "kernel", run: kernel::kernel },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
