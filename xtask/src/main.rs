// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask COMMAND`.

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
    /// Build the kernel side from source, and check its object in with the digest of its source.
    Ebpf {
        /// Install what the build needs first: Debian's packages, and bpf-linker by cargo.
        #[arg(long)]
        install: bool,
    },
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Ebpf { install } => xtask::ebpf::build(install),
    }
}
