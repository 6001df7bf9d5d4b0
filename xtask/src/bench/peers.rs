// SPDX-License-Identifier: Apache-2.0
//! What people would use instead: installed where a registry has it, else missing with a reason.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::driven::file;
use crate::{
    command::{self, exists, install, run},
    python, root,
};

/// Another tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Traces by BPF programs that one writes.
    Bpftrace,
    /// The kernel's own profiler.
    Perf,
    /// Traces a heap.
    Heaptrack,
    /// Traces the heap of a Python program.
    Memray,
}

impl Peer {
    /// All that there are.
    pub(super) const ALL: [Self; 4] = [Self::Bpftrace, Self::Perf, Self::Heaptrack, Self::Memray];

    /// Its name.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bpftrace => "bpftrace",
            Self::Perf => "perf",
            Self::Heaptrack => "heaptrack",
            Self::Memray => "memray",
        }
    }

    /// Installs it where it is not there: its version.
    pub(super) fn version(self) -> Result<String> {
        if self == Self::Memray {
            let version = command::output(memray()?.arg("--version")).context("memray does not start")?;
            return Ok(format!("memray {version}"));
        }
        if !exists(self.name()) {
            let package = if self == Self::Perf { "linux-perf" } else { self.name() };
            install(&[package]).with_context(|| format!("{} is not here", self.name()))?;
        }
        command::output(Command::new(self.name()).arg("--version"))
            .with_context(|| format!("{} does not start", self.name()))
    }
}

/// `memray`; installed on first use.
pub(super) fn memray() -> Result<Command> {
    let mut command = Command::new(python::with_memray()?);
    command.args(["-m", "memray"]);
    Ok(command)
}

/// What peers that trace a heap are given to trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Churn {
    /// Calls of malloc and of free.
    pub(super) events: u64,
    /// Stacks that they come from again and again.
    pub(super) known: u64,
    /// How many of a hundred come from new ones.
    pub(super) fresh: u64,
}

impl Churn {
    /// Has a peer that traces a heap record it: the file.
    pub(super) fn record(self, peer: Peer) -> Result<PathBuf> {
        let numbers = [self.events, self.known, self.fresh].map(|number| number.to_string());
        let source = root().join("tests/peers/churn.c");
        let compile = |flags: &[&str], output: &str| -> Result<PathBuf> {
            run(Command::new("cc").args(["-O2", "-g"]).args(flags).arg(&source).arg("-o").arg(file(output)))?;
            Ok(file(output))
        };
        match peer {
            Peer::Heaptrack => {
                let (program, prefix) = (compile(&[], "churn")?, file("heaptrack"));
                run(Command::new("heaptrack").arg("-o").arg(&prefix).arg(program).args(numbers))?;
                ["zst", "gz"].map(|ending| prefix.with_extension(ending)).into_iter().find(|path| path.exists())
            }
            Peer::Memray => {
                let (library, trace) = (compile(&["-shared", "-fPIC"], "libchurn.so")?, file("memray.bin"));
                let script = root().join("tests/peers/churn.py");
                run(memray()?
                    .args(["run", "--native", "--quiet", "--force", "--output"])
                    .arg(&trace)
                    .arg(script)
                    .arg(library)
                    .args(numbers))?;
                Some(trace)
            }
            Peer::Bpftrace | Peer::Perf => None,
        }
        .with_context(|| format!("{} left no file", peer.name()))
    }
}
