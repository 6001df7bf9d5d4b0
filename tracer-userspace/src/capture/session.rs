// SPDX-License-Identifier: Apache-2.0
//! What a recording is asked for, tells while it runs, and comes to in the end.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    kernel,
    recording::Recording,
    search::{Scan, Select},
    stacks::Compared,
    tally::Tally,
};
use crate::discover::{Discovery, process::Process, symbols::ProbeSet};

/// What to record.
#[derive(Debug)]
pub enum Target {
    /// Processes that run.
    Pids(Vec<u32>),
    /// A command to start.
    Command(Vec<OsString>),
    /// Processes that are selected, as they come.
    Selected(Select),
}

/// How to record.
#[derive(Debug)]
pub struct Options {
    /// What to record.
    pub target: Target,
    /// The trace file.
    pub output: PathBuf,
    /// The size in bytes that it is kept below.
    pub max_size: Option<u64>,
    /// What is probed.
    pub probes: ProbeSet,
    /// Whether children are recorded, too.
    pub follow: bool,
    /// How the kernel side is set up.
    pub kernel: kernel::Options,
    /// Whether each stack is copied as well, and walked in both ways.
    pub copies: bool,
}

/// What a recording tells while it runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The process has no library with the Buffer code yet.
    Waiting(&'a Process),
    /// All probes are attached to this process.
    Attached(&'a Discovery),
    /// Something odd that does not stop the recording.
    Problem(&'a str),
    /// Once a second.
    Tick(Figures),
}

/// The figures of the progress line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Seconds since the first probes were attached.
    pub seconds: f64,
    /// Events kept so far.
    pub events: u64,
    /// Events in the last second.
    pub rate: u64,
    /// Bytes on one device, of what was allocated and not freed since the recording began.
    pub live_bytes: u64,
    /// Events lost so far.
    pub lost: u64,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The processes ended.
    Exited,
    /// The user stopped the recording.
    Interrupted,
    /// The process executes another program.
    Executed,
}

impl Reason {
    /// The name that the trace file has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Interrupted => "interrupted",
            Self::Executed => "executed",
        }
    }
}

/// What a recording came to.
#[derive(Debug)]
pub struct Summary {
    /// Why it ended.
    pub reason: Reason,
    /// Its length in seconds.
    pub seconds: f64,
    /// How many processes were recorded.
    pub processes: u32,
    /// Sums over the events.
    pub tally: Tally,
    /// Events that were lost.
    pub lost: u64,
    /// Events that were taken out of the file again, to keep it below its size.
    pub dropped: u64,
    /// Size of the trace file in bytes.
    pub bytes: u64,
    /// Whether sent = kept + lost.
    pub adds_up: bool,
    /// What walking stacks in both ways came to.
    pub compared: Compared,
}

/// Records until the processes end or the user stops it; `None` if that happens before there is anything to record.
///
/// # Errors
/// With the reason and the next step, where a process can't be recorded. The target goes on in any case.
pub fn record(options: &Options, tell: &mut dyn FnMut(Progress)) -> Result<Option<Summary>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options, tell))
}

async fn run(options: &Options, tell: &mut dyn FnMut(Progress<'_>)) -> Result<Option<Summary>> {
    let mut stop = Stop::new()?;
    if let Target::Pids(pids) = &options.target {
        // What is not there is said before anything is done.
        pids.iter().try_for_each(|&pid| Process::read(pid).map(drop))?;
    }
    let (mut recording, mut child) = Recording::load(options)?;
    match &options.target {
        Target::Pids(pids) => pids.iter().try_for_each(|&pid| recording.add_root(pid))?,
        Target::Command(_) => child.iter().try_for_each(|child| recording.add_root(child.id()))?,
        Target::Selected(select) => recording.add_scan(Scan::new(select.clone())),
    }
    match recording.run(&mut child, &mut stop, tell).await {
        Ok(reason) => recording.end(reason),
        Err(error) => {
            recording.fail(&error);
            Err(error)
        }
    }
}

/// Ctrl-C, and what service managers send.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("failed to watch for Ctrl-C")?;
        let terminate = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
