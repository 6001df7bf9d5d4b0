// SPDX-License-Identifier: Apache-2.0
//! The command tt-buftrace; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    buftrace::cli::run()
}
