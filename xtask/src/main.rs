// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask COMMAND`.

use std::{ffi::OsString, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::bench::Part;

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
    /// Run the tests on another kernel, in a virtual machine with emulated processors; without one, list those that are known.
    ///
    /// The kernel is a distribution's own package, kept in .cache/vm/KERNEL: delete that folder for a newer one.
    Vm {
        /// Version of the kernel.
        kernel: Option<String>,
        /// Install what the machine needs first: Debian's packages.
        #[arg(long)]
        install: bool,
        /// Give up after so many minutes.
        #[arg(long, value_name = "N", default_value_t = 240)]
        minutes: u64,
        /// For the test program, e.g. parts of names of tests; else those of recordings of the look-alike run.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Measure what tracing and reading cost on this machine, against other tools, which it installs.
    Bench {
        /// What to measure; all, if not said.
        parts: Vec<Part>,
        /// Also read a trace of 100 million events.
        #[arg(long)]
        large: bool,
    },
    /// Run what reads untrusted input on inputs that a fuzzer makes up, until one makes it panic, hang or grow.
    Fuzz {
        /// The reader; all in turn, if not said.
        target: Option<String>,
        /// How many inputs each.
        #[arg(long, default_value_t = 100_000)]
        runs: u64,
        /// Add what was learnt to the corpus that the tests replay.
        #[arg(long)]
        keep: bool,
    },
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
    /// Build a Python wheel and a Debian package into target/package.
    Package,
    /// What CI runs: install what is missing, check format, lints and digest, rebuild the kernel side, test.
    Ci,
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Demo { ttnn } => xtask::demo::demo(ttnn.as_deref()),
        Command::Test { arguments } => xtask::test::test(&arguments),
        Command::Ebpf { install } => xtask::ebpf::build(install),
        Command::Vm { kernel, install, minutes, arguments } => {
            xtask::vm::vm(&xtask::vm::Options { kernel, install, limit: Duration::from_secs(minutes * 60), arguments })
        }
        Command::Bench { parts, large } => xtask::bench::bench(&parts, large),
        Command::Fuzz { target, runs, keep } => xtask::fuzz::fuzz(target.as_deref(), runs, keep),
        Command::Soak { cycles: Some(count), .. } => xtask::soak::cycles(count),
        Command::Soak { kills: Some(count), .. } => xtask::soak::kills(count),
        Command::Soak { minutes, .. } => xtask::soak::steady(minutes),
        Command::Package => xtask::package::package(),
        Command::Ci => xtask::ci::ci(),
    }
}
