// SPDX-License-Identifier: Apache-2.0
//! The processes that a recording follows: from the first look, or the fork, to the end.

use std::{
    fs, io, mem,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::programs::uprobe::UProbeLink;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use tracer_common::Epoch;

use super::{clock::ticks, search::Search, snapshot::Snapshots, watch::CodeWatch};
use crate::discover::{Discovery, process};

/// How long a forked child is left alone that hits no probe: most execute another program at once.
const SETTLED: Duration = Duration::from_millis(10);

/// A process, until it ends or executes another program.
pub(super) struct Followed {
    /// Tells it from another one that gets its id later.
    pub(super) serial: u64,
    /// Whether the user asked for it, or for the command that it is.
    pub(super) root: bool,
    pub(super) stage: Stage,
    /// None if it was gone already when it was heard of.
    exit: Option<OwnedFd>,
}

/// How far it has come.
pub(super) enum Stage {
    /// The library is looked for.
    Looking(Search),
    /// It was forked from a recorded process, and has done nothing on record yet.
    Forked(Forked),
    /// It is recorded.
    Recorded(Box<Recorded>),
    /// It can't be recorded, as was told.
    Refused,
}

/// What is known of a forked child.
pub(super) struct Forked {
    pub(super) since: Instant,
    pub(super) link: Link,
    /// What its parent is, in the file.
    pub(super) parent: u32,
    /// When it was made, in nanoseconds since boot.
    pub(super) made: u64,
    /// What there is to know about its parent, which holds for it, too.
    pub(super) discovery: Rc<Discovery>,
}

/// What a recorded process is on either side.
#[derive(Clone, Copy)]
pub(super) struct Link {
    /// Its number in the file.
    pub(super) number: u32,
    /// Its number on the kernel side.
    pub(super) target: u32,
}

/// What belongs to a recorded process.
pub(super) struct Recorded {
    pub(super) link: Link,
    /// That of its modules when its mappings were last read.
    pub(super) epoch: Epoch,
    /// Whether the kernel side was told where its modules are.
    pub(super) told: bool,
    pub(super) discovery: Rc<Discovery>,
    /// The probes that are its alone; `None` until there was time for them.
    pub(super) probes: Option<Vec<UProbeLink>>,
    pub(super) watch: Option<CodeWatch>,
    /// What its allocators had when its recording began, if that can be read.
    pub(super) snapshots: Option<Snapshots>,
}

impl Stage {
    /// The numbers of the process, if it is recorded.
    pub(super) fn link(&self) -> Option<Link> {
        match self {
            Self::Recorded(recorded) => Some(recorded.link),
            Self::Forked(forked) => Some(forked.link),
            Self::Looking(_) | Self::Refused => None,
        }
    }
}

impl Recorded {
    /// The probes that are its alone, to be taken out.
    pub(super) fn take_probes(&mut self) -> Vec<UProbeLink> {
        let watch = self.watch.take().and_then(CodeWatch::end);
        mem::take(&mut self.probes).into_iter().flatten().chain(watch).collect()
    }
}

impl Followed {
    /// One that was made at a time, in nanoseconds since boot, if that is known.
    ///
    /// # Errors
    /// If the end of the process can't be watched.
    pub(super) fn new(pid: u32, serial: u64, root: bool, stage: Stage, made: Option<u64>) -> Result<Self> {
        let exit = watch(pid)?;
        // Asked when its end is watched, so that what has the number now has it until that.
        let another = |made| process::start(pid).is_none_or(|start| start.abs_diff(ticks(made)) > LONG_AFTER);
        Ok(Self { serial, root, stage, exit: exit.filter(|_| !made.is_some_and(another)) })
    }

    /// Whether it has ended: all of its threads.
    pub(super) fn has_ended(&self) -> bool {
        self.ends_within(Timespec { tv_sec: 0, tv_nsec: 0 })
    }

    /// Whether it has ended or is about to: its memory is gone a little before.
    pub(super) fn is_ending(&self, pid: u32) -> bool {
        let program = fs::read_link(format!("/proc/{pid}/exe"));
        // A thread of the kernel has none either, and does not end.
        let gone = program.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        self.ends_within(if gone { ENDING } else { Timespec { tv_sec: 0, tv_nsec: 0 } })
    }

    fn ends_within(&self, time: Timespec) -> bool {
        let Some(exit) = &self.exit else { return true };
        let mut fds = [PollFd::new(exit, PollFlags::IN)];
        poll(&mut fds, Some(&time)).is_ok_and(|ready| ready > 0)
    }

    /// How soon it should be looked at again, if the kernel side need not call for that.
    pub(super) fn look_within(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Looking(search) => Some(search.look_within()),
            Stage::Forked(forked) => Some(SETTLED.saturating_sub(forked.since.elapsed())),
            Stage::Recorded(_) | Stage::Refused => None,
        }
    }

    /// Whether it is a forked child that goes on without executing another program.
    pub(super) fn has_settled(&self) -> bool {
        matches!(&self.stage, Stage::Forked(forked) if forked.since.elapsed() >= SETTLED) && !self.has_ended()
    }
}

/// Ticks from the making of a process after which one of its number must be another: a second, in which a process is not
/// both done and its number given anew.
const LONG_AFTER: u64 = 100;

/// How long it takes a process to end whose memory is gone, on a busy machine.
const ENDING: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// What becomes readable when a process ends; `None` if it is gone.
fn watch(pid: u32) -> Result<Option<OwnedFd>> {
    let id = Pid::from_raw(pid.cast_signed()).context("no process has this id")?;
    match pidfd_open(id, PidfdFlags::empty()) {
        Err(Errno::SRCH) => Ok(None),
        opened => opened.map(Some).with_context(|| format!("failed to watch process {pid}")),
    }
}
