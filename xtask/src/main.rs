// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask COMMAND`.

use std::ffi::OsString;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Commands of this repository that cargo has no word for.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run pytest with excess frees in it, record it by PID, and print what tt-buftrace says of it.
    Demo {
        /// Use this release of ttnn, on eight mock chips, instead of the look-alike library.
        #[arg(long, value_name = "VERSION")]
        ttnn: Option<String>,
    },
    /// Run all tests; those that probe other processes run by sudo where you are not root.
    Test {
        /// For `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Build the kernel side from source, and check its object in with the digest of its source.
    Ebpf {
        /// Install what the build needs first: Debian's packages, and bpf-linker by cargo.
        #[arg(long)]
        install: bool,
    },
    /// Measure what tracing costs on this machine.
    #[command(subcommand)]
    Bench(Bench),
    /// Record real ttnn for long: memory must stay flat, and nothing be lost. Or do often what the tests do a few times.
    Soak {
        /// For how long.
        #[arg(default_value = "30", value_parser = clap::value_parser!(u32).range(1..))]
        minutes: u32,
        /// Instead, attach to a target and detach from it this often.
        #[arg(long, value_name = "N", conflicts_with = "minutes")]
        cycles: Option<u32>,
        /// Instead, kill this many recorders and as many targets.
        #[arg(long, value_name = "N", conflicts_with_all = ["minutes", "cycles"])]
        kills: Option<u32>,
    },
    /// What CI runs: install what is missing, check format, lints and digest, rebuild the kernel side, test.
    Ci,
}

#[derive(Subcommand)]
enum Bench {
    /// What a hit with its stack costs the target, against a hit without a program to speak of.
    Stacks,
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Demo { ttnn } => xtask::demo::demo(ttnn.as_deref()),
        Command::Test { arguments } => xtask::test::test(&arguments),
        Command::Ebpf { install } => xtask::ebpf::build(install),
        Command::Bench(Bench::Stacks) => xtask::bench::stacks(),
        Command::Soak { cycles: Some(count), .. } => xtask::soak::cycles(count),
        Command::Soak { kills: Some(count), .. } => xtask::soak::kills(count),
        Command::Soak { minutes, .. } => xtask::soak::steady(minutes),
        Command::Ci => xtask::ci::ci(),
    }
}
