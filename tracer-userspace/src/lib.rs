// SPDX-License-Identifier: Apache-2.0
//! Traces the device buffers of a running TT-Metal process, and says what happened to each.
//!
//! In pipeline order: [`discover`] finds what to probe, [`capture`] records with [`unwind`]'s stacks into a [`trace`] file;
//! [`import`] makes one of other tools' output; [`model`] reads it, [`analysis`] answers questions about it, [`view`] prints the
//! answers, [`export`] writes them for other tools, and [`live`] shows them while they come.

#![warn(clippy::print_stderr, reason = "`say!` does not panic")]

/// Tells the user something, on stderr. A pipe or terminal that is gone fails, which must not end a recording, as the panic
/// of `eprint!` would: nobody is there to be told.
macro_rules! say {
    ($($told:tt)*) => {{
        use std::io::Write as _;
        let _ = std::io::stderr().lock().write_all(format!($($told)*).as_bytes());
    }};
}

pub mod analysis;
pub mod capture;
pub mod cli;
pub mod discover;
pub mod doctor;
pub mod export;
pub mod import;
pub mod live;
pub mod model;
pub mod privileges;
pub mod redact;
pub mod trace;
pub mod unwind;
pub mod view;
