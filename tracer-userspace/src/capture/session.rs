// SPDX-License-Identifier: Apache-2.0
//! What a recording is asked for, tells while it runs, and comes to in the end.

use std::{
    ffi::OsString,
    future,
    mem::MaybeUninit,
    path::PathBuf,
    process::{Child, ExitStatus},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};
use signal_hook::consts::SIGINT;
use signal_hook_registry::register_sigaction;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    kernel,
    recording::Recording,
    search::{Scan, Select},
    stacks::Compared,
    tally::Tally,
};
use crate::{
    discover::{Discovery, process::Process, symbols::ProbeSet},
    privileges,
    trace::Place,
};

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
    /// Whether the file ends with an epilogue: not worth it for one that is gone with the recording.
    pub epilogue: bool,
}

/// What a recording tells while it runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Processes that are selected are looked for.
    Selecting(&'a Select),
    /// The process has no library with the Buffer code yet.
    Waiting(&'a Process),
    /// All probes are attached to this process.
    Attached(&'a Discovery),
    /// Something odd that does not stop the recording.
    Problem(&'a str),
    /// The user has interrupted the command, which is recorded until it ends.
    Interrupted,
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
    /// The recording failed, or that of one process.
    Failed,
}

impl Reason {
    /// The name that the trace file has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Interrupted => "interrupted",
            Self::Executed => "executed",
            Self::Failed => "failed",
        }
    }
}

/// How a recording ended.
#[derive(Debug)]
pub struct Ending {
    /// Why.
    pub reason: Reason,
    /// What became of the command, if one was started.
    pub command: Option<Started>,
    /// What it came to; `None` if it ended before there was anything to record.
    pub summary: Option<Summary>,
}

/// A command that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It has ended.
    Ended(ExitStatus),
    /// It goes on as this process.
    GoesOn(u32),
}

/// What a recording came to.
#[derive(Debug)]
pub struct Summary {
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

/// Records until the processes end or the user stops it.
///
/// # Errors
/// With the reason and the next step, where a process can't be recorded. The target goes on in any case.
pub fn record(options: &Options, tell: &mut dyn FnMut(Progress)) -> Result<Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options, tell))
}

async fn run(options: &Options, tell: &mut dyn FnMut(Progress<'_>)) -> Result<Ending> {
    let mut stop = Stop::new()?;
    // What is not there, and what can't be written, is said before anything is done.
    if let Target::Pids(pids) = &options.target {
        pids.iter().try_for_each(|&pid| Process::read(pid).map(drop))?;
    }
    let place = privileges::as_caller(|| Place::take(&options.output))?;
    let earlier = place.earlier() > 0;
    let (recording, mut child) = Recording::load(options, place)?;
    if earlier {
        let path = options.output.display();
        tell(Progress::Problem(&format!(
            "{path} is an earlier trace, which is replaced once there is something to record"
        )));
    }
    let result = record_with(recording, &options.target, &mut child, &mut stop, tell).await;
    let command = child.as_mut().map(became).transpose()?;
    match (result, command) {
        (Ok((reason, summary)), command) => Ok(Ending { reason, command, summary }),
        (Err(error), Some(Started::GoesOn(pid))) => {
            tell(Progress::Problem(&format!("the command goes on, unrecorded, as process {pid}")));
            Err(error)
        }
        (Err(error), _) => Err(error),
    }
}

async fn record_with(
    mut recording: Recording<'_>,
    target: &Target,
    child: &mut Option<Child>,
    stop: &mut Stop,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<(Reason, Option<Summary>)> {
    match target {
        Target::Pids(pids) => pids.iter().try_for_each(|&pid| recording.add_root(pid))?,
        Target::Command(_) => child.iter().try_for_each(|child| recording.add_root(child.id()))?,
        Target::Selected(select) => {
            recording.add_scan(Scan::new(select.clone()));
            tell(Progress::Selecting(select));
        }
    }
    match recording.run(child, stop, tell).await {
        Ok(reason) => {
            let mut summary = recording.end(reason)?;
            let untold = summary.as_mut().map(|summary| summary.tally.take_untold());
            untold.iter().flatten().for_each(|problem| tell(Progress::Problem(problem)));
            Ok((reason, summary))
        }
        Err(error) => {
            recording.fail(&error);
            Err(error)
        }
    }
}

fn became(child: &mut Child) -> Result<Started> {
    let status = child.try_wait().context("failed to wait for the command")?;
    Ok(status.map_or(Started::GoesOn(child.id()), Started::Ended))
}

/// Ctrl-C, what service managers send, and the end of the terminal.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// None for who was told to outlive the terminal, as by `nohup`.
    hang_up: Option<Signal>,
    /// Whether the latest SIGINT was the terminal's.
    keyboard: Arc<AtomicBool>,
}

/// Who wants the recording to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Who pressed Ctrl-C, which the terminal sends to a command that we started as well.
    Keyboard,
    /// Who sent a signal, to us at least.
    Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let keyboard = Arc::new(AtomicBool::new(false));
        let latest = Arc::clone(&keyboard);
        // It comes before the one of `signal`, so that it is known when that is told.
        //
        // SAFETY: all that is done while the signal is handled is to store to an atomic.
        unsafe {
            register_sigaction(SIGINT, move |info| latest.store(info.si_code == libc::SI_KERNEL, Ordering::Relaxed))
        }
        .context("failed to watch for Ctrl-C")?;
        let interrupt = signal(SignalKind::interrupt()).context("failed to watch for Ctrl-C")?;
        let terminate = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
        let hang_up = (!is_ignored(libc::SIGHUP)).then(|| signal(SignalKind::hangup()));
        let hang_up = hang_up.transpose().context("failed to watch for SIGHUP")?;
        Ok(Self { interrupt, terminate, hang_up, keyboard })
    }

    pub(super) async fn asked(&mut self) -> Asked {
        let hung_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => match self.keyboard.load(Ordering::Relaxed) {
                true => Asked::Keyboard,
                false => Asked::Signal,
            },
            _ = self.terminate.recv() => Asked::Signal,
            _ = hung_up => Asked::Signal,
        }
    }
}

/// Whether a signal does nothing to this process.
fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action, the old one is only told, all of it if the call succeeds.
    let action =
        unsafe { (libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0).then(|| action.assume_init()) };
    action.is_some_and(|action| action.sa_sigaction == libc::SIG_IGN)
}
