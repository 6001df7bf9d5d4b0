// SPDX-License-Identifier: Apache-2.0
//! A recording: from the first process to the last byte of the file.

mod begin;
mod finish;
mod processes;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};
use tracer_common::{Kind, TaskLayout};

use super::{
    attach::Sites,
    behind::Behind,
    clock::boot_now,
    decode::{RawHit, Sent},
    followed::{Followed, Stage},
    kernel::{Kernel, KernelLog},
    modules::Modules,
    recorder::Recorder,
    search::{Scan, Search},
    session::{self, Asked, Figures, Options, Progress, Reason, Stop},
};
use crate::{
    discover::{Known, Obstacle, btf},
    privileges::{self, Purpose},
    trace::Place,
};

/// How often the ring is emptied when the kernel side does not call, as too little waits in it and nothing is urgent. To wake
/// costs more than to look, so that this is most of what a recorder takes while little happens.
const EMPTY_RING: Duration = Duration::from_millis(50);
/// How often it is seen whether unwind tables are made that a process needs.
const LOADING: Duration = Duration::from_millis(10);
/// Most records that are taken from the ring at a time: a target that fills it as fast as it is emptied must keep neither
/// the file from being flushed nor Ctrl-C from being heard.
const AT_A_TIME: usize = 8192;
/// How long they may take: what a new process leads to takes milliseconds.
const DRAINED: Duration = Duration::from_millis(100);
/// How many of them are taken between two looks at the clock.
const TIMED: usize = 16;
/// How often what is known goes to the file.
const FLUSH: Duration = Duration::from_secs(1);

/// A recording that goes on.
pub(super) struct Recording<'a> {
    options: &'a Options,
    /// Until there is a file.
    place: Option<Place>,
    kernel: Kernel,
    events: AsyncFd<RingBuf<MapData>>,
    log: Option<EbpfLogger<KernelLog>>,
    recorder: Recorder,
    modules: Modules,
    sites: Sites,
    /// By process id.
    processes: BTreeMap<u32, Followed>,
    /// The number of the latest of them.
    serial: u64,
    /// Events that were lost when it was last looked for processes of which nothing was heard.
    lost: u64,
    /// The kernel side's number of the latest process that was not forked from another.
    target: u32,
    scan: Option<Scan>,
    known: Known,
    /// Whether all probes are taken out: then there is nothing to tell the kernel side any more.
    detached: bool,
    /// When the first process was recorded.
    began: Instant,
    /// Why nothing is left to record, once that is so.
    reason: Reason,
    /// Once there is a file, if it is to have an epilogue.
    behind: Option<Behind>,
}

impl<'a> Recording<'a> {
    /// Loads the kernel side, starts the command if that is what is recorded, and gives up all privileges that are not
    /// needed any more.
    pub(super) fn load(options: &'a Options, place: Place) -> Result<(Self, Option<Child>)> {
        let tasks = match btf::tasks() {
            Err(error) if options.follow => {
                return Err(error.context("children can't be followed here; --no-follow-forks goes without"));
            }
            tasks => tasks.unwrap_or(TaskLayout::UNKNOWN),
        };
        let mut kernel =
            Kernel::load(options.kernel, tasks).context("failed to record (`tt-buftrace doctor` says more)")?;
        // SAFETY: the ring buffer owns its descriptor, and lives in the `AsyncFd` for as long as that does.
        let events = unsafe { AsyncFd::register_with_interest(kernel.take_events()?, Interest::READABLE) }?;
        let log = options.kernel.verbose.then(|| kernel.logger()).transpose()?;
        let boot_ns = boot_now();
        kernel.start()?;
        let child = match &options.target {
            session::Target::Command(words) => Some(start(&mut kernel, words, options.follow)?),
            _ => None,
        };
        open_many_files();
        // What the command may do is its own affair; the recorder's threads come later.
        privileges::reduce(Purpose::Recording)?;
        let recording = Self {
            options,
            place: Some(place),
            kernel,
            events,
            log,
            recorder: Recorder::new(boot_ns)?,
            modules: Modules::new()?,
            sites: Sites::default(),
            processes: BTreeMap::new(),
            serial: 0,
            lost: 0,
            target: 0,
            scan: None,
            known: Known::default(),
            detached: false,
            began: Instant::now(),
            reason: Reason::Exited,
            behind: None,
        };
        Ok((recording, child))
    }

    /// Records a process once it has loaded its library.
    pub(super) fn add_root(&mut self, pid: u32) -> Result<()> {
        if self.options.follow {
            self.kernel.follow(pid)?;
        }
        // Who asked for one process wants to know all that keeps it from being recorded.
        self.insert(pid, true, Stage::Looking(Search::new(self.scan.is_none())), None)
    }

    /// Records what a scan of the machine's processes finds.
    pub(super) fn add_scan(&mut self, scan: Scan) {
        self.scan = Some(scan);
    }

    /// Records until nothing is left to record, or the user stops it.
    pub(super) async fn run(
        &mut self,
        child: &mut Option<Child>,
        stop: &mut Stop,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Reason> {
        let mut flushed = Instant::now();
        let mut last_events = 0;
        let mut interrupted = false;
        loop {
            let mut asked = None;
            tokio::select! {
                () = sleep(self.look_within()) => {}
                ready = self.events.readable() => ready?.clear_ready(),
                who = stop.asked() => asked = Some(who),
            }
            match asked {
                // A command that we started gets the same Ctrl-C, and what it does then is worth recording.
                Some(Asked::Keyboard) if !interrupted && child.as_mut().is_some_and(runs) => {
                    interrupted = true;
                    tell(Progress::Interrupted);
                }
                Some(_) => return Ok(Reason::Interrupted),
                None => {}
            }
            let ended = self.have_ended();
            // What they did before they ended is in the ring.
            if self.drain(AT_A_TIME, DRAINED)? {
                for (pid, serial) in ended {
                    self.ended(pid, serial)?;
                }
            }
            self.look(tell)?;
            self.adopt_settled()?;
            self.probe_adopted();
            self.follow_modules()?;
            self.tell_problems(tell);
            if let Some(child) = child {
                // Else it stays a zombie.
                child.try_wait().context("failed to wait for the command")?;
            }
            if self.is_done(tell) {
                return Ok(self.reason);
            }
            if flushed.elapsed() >= FLUSH {
                let seconds = flushed.elapsed().as_secs_f64();
                flushed = Instant::now();
                self.each_second()?;
                let events = self.recorder.tally.events;
                tell(Progress::Tick(Figures {
                    seconds: self.began.elapsed().as_secs_f64(),
                    events,
                    rate: ((events - last_events) as f64 / seconds) as u64,
                    live_bytes: self.recorder.tally.live_bytes,
                    lost: self.recorder.lost(),
                }));
                last_events = events;
            }
        }
    }

    /// Tells the user what the file says of problems.
    fn tell_problems(&mut self, tell: &mut dyn FnMut(Progress<'_>)) {
        self.recorder.tally.take_untold().iter().for_each(|problem| tell(Progress::Problem(problem)));
    }

    /// How soon to look again if the kernel side does not call.
    fn look_within(&self) -> Duration {
        let loading = (!self.modules.is_idle()).then_some(LOADING);
        let looks = self.processes.values().filter_map(Followed::look_within);
        looks.chain(loading).fold(EMPTY_RING, Duration::min)
    }

    /// Follows a process, that was made at a time if this is known.
    fn insert(&mut self, pid: u32, root: bool, stage: Stage, made: Option<u64>) -> Result<()> {
        self.serial += 1;
        self.processes.insert(pid, Followed::new(pid, self.serial, root, stage, made)?);
        Ok(())
    }

    /// Whether nothing is left to record. What a command leaves behind without having loaded the library is no reason to
    /// go on.
    fn is_done(&self, tell: &mut dyn FnMut(Progress<'_>)) -> bool {
        let going_on = |process: &Followed| process.root || process.stage.link().is_some();
        if self.scan.is_some() || self.processes.values().any(going_on) {
            return false;
        }
        let left = self.processes.iter().filter(|(_, process)| !process.has_ended());
        let left: Vec<String> = left.map(|(pid, _)| pid.to_string()).collect();
        if !left.is_empty() {
            let left = left.join(", ");
            tell(Progress::Problem(&format!(
                "still running, and not recorded, as they have not loaded TT-Metal: {left}"
            )));
        }
        true
    }

    /// What is to be done once a second.
    fn each_second(&mut self) -> Result<()> {
        let Self { kernel, recorder, sites, processes, detached, .. } = self;
        for (&pid, process) in processes.iter_mut().filter(|(_, process)| !*detached && !process.has_ended()) {
            if let Stage::Recorded(recorded) = &mut process.stage
                && let Some(watch) = &mut recorded.watch
            {
                watch.look(kernel, |kernel| sites.watch_code(kernel, recorder, pid, &recorded.discovery))?;
            }
        }
        // What is mapped without the dynamic linker is seen here.
        for pid in self.recorded() {
            self.refresh(pid)?;
        }
        self.recorder.settle();
        self.find_unheard()?;
        self.recorder.flush()
    }

    /// The processes that have ended by now, with their serial numbers: what they did is in the ring.
    fn have_ended(&self) -> Vec<(u32, u64)> {
        let ended = self.processes.iter().filter(|(_, process)| process.has_ended());
        ended.map(|(&pid, process)| (pid, process.serial)).collect()
    }

    /// The processes that are recorded.
    fn recorded(&self) -> Vec<u32> {
        let recorded = |process: &Followed| matches!(process.stage, Stage::Recorded(_));
        self.processes.iter().filter(|(_, process)| recorded(process)).map(|(&pid, _)| pid).collect()
    }

    /// Looks for processes that are meant, and for the library in those that have not loaded it yet.
    fn look(&mut self, tell: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
        for process in self.scan.as_mut().map(Scan::look).unwrap_or_default() {
            if !self.processes.contains_key(&process.pid)
                && let Err(error) = self.add_root(process.pid)
            {
                self.not_recorded(process.pid, &error);
            }
        }
        let mut found = Vec::new();
        for (&pid, process) in &mut self.processes {
            if process.has_ended() {
                continue;
            }
            let Stage::Looking(search) = &mut process.stage else { continue };
            let wanted = process.root && self.scan.is_none();
            let answer = search.look(pid, self.options.probes, &mut self.known);
            // Else another one may have its number, of which this tells.
            if !process.has_ended() {
                found.extend(answer.map(|answer| (pid, wanted, answer)));
            }
        }
        for (pid, wanted, answer) in found {
            match answer {
                Ok(discovery) => self.begin(pid, wanted, discovery, tell)?,
                Err(Obstacle::NotLoaded { process, problems }) if wanted => {
                    tell(Progress::Waiting(&process));
                    problems.iter().for_each(|problem| tell(Progress::Problem(problem)));
                }
                Err(Obstacle::NotLoaded { .. }) => {}
                Err(Obstacle::Failed(error)) => self.refuse(pid, wanted, error, tell)?,
            }
        }
        Ok(())
    }

    /// Takes what is in the ring by now, up to `limit` records, for so long. Whether it was emptied.
    fn drain(&mut self, limit: usize, time: Duration) -> Result<bool> {
        let begin = Instant::now();
        if let Some(log) = &mut self.log {
            log.flush();
        }
        // Each record is copied: what it leads to needs all the rest.
        let mut record = Vec::new();
        for number in 1..=limit {
            match self.events.get_mut().next() {
                Some(item) => item.clone_into(&mut record),
                None => return Ok(true),
            }
            let sent = Sent::decode(&record).context("the kernel side sent a record that is none of ours")?;
            self.take(sent)?;
            if number % TIMED == 0 && begin.elapsed() >= time {
                break;
            }
        }
        Ok(false)
    }

    fn take(&mut self, sent: Sent<'_>) -> Result<()> {
        if let Some(tgid) = sent.tgid() {
            match self.processes.get(&tgid).map(|process| &process.stage) {
                // It was never on record as what it was.
                Some(Stage::Forked(_)) if sent.is_exec() => self.executed(tgid)?,
                Some(Stage::Forked(_)) => self.adopt(tgid)?,
                None if self.options.follow => self.found(tgid),
                _ => {}
            }
            let outdated = self.recorder.stacks(tgid).is_some_and(super::stacks::Stacks::is_outdated);
            if outdated && !matches!(sent, Sent::Hit(RawHit { kind: Kind::Modules, .. })) {
                self.refresh(tgid)?;
            }
        }
        match sent {
            Sent::Native(stack) => self.recorder.native(stack),
            Sent::Python(stack) => self.recorder.python(&stack),
            Sent::Copy(copy) => {
                if !self.recorder.copy(&copy) {
                    self.refresh(copy.tgid)?;
                    self.recorder.copy(&copy);
                }
            }
            Sent::Text { sequence, text } => self.recorder.text(sequence, text),
            Sent::Hit(raw) => {
                let child = if raw.kind == Kind::Fork { self.forked(&raw.hit)? } else { 0 };
                match self.recorder.hit(&raw, child) {
                    Ok(Some(end)) => {
                        // Where that is not possible, copies are larger than they need be.
                        let _ = self.kernel.set_stack_end(raw.hit.tid, end);
                    }
                    Ok(None) => {}
                    // It is no other process's fault.
                    Err(error) if self.scan.is_some() || self.recorded().len() > 1 => {
                        self.give_up(raw.hit.tgid, &error)?;
                    }
                    Err(error) => return Err(error),
                }
                self.look_at_owners(&raw);
                if raw.kind == Kind::Exec {
                    self.executed(raw.hit.tgid)?;
                }
            }
        }
        Ok(())
    }

    /// Writes what an allocator had when the recording began, if the hit tells of one that nobody has looked at yet.
    fn look_at_owners(&mut self, raw: &RawHit) {
        if let Some(Followed { stage: Stage::Recorded(recorded), .. }) = self.processes.get_mut(&raw.hit.tgid)
            && let Some(snapshots) = &mut recorded.snapshots
        {
            let records = snapshots.look(raw, self.recorder.time(boot_now()));
            records.into_iter().for_each(|record| self.recorder.record(record));
        }
    }

    /// Keeps what the kernel side knows of the processes' modules as it is.
    fn follow_modules(&mut self) -> Result<()> {
        let recorded = self.recorded();
        for &pid in &recorded {
            for module in self.recorder.missed_modules(pid) {
                self.modules.request(module, &self.recorder.catalog.files);
            }
        }
        let new = self.modules.load(&mut self.kernel)?;
        for pid in recorded {
            let Some(Followed { stage: Stage::Recorded(recorded), .. }) = self.processes.get(&pid) else { continue };
            let (target, epoch) = (recorded.link.target, recorded.epoch);
            let Some(stacks) = self.recorder.stacks(pid) else { continue };
            if stacks.is_outdated() || self.kernel.epoch(target)? != epoch {
                self.refresh(pid)?;
            } else if new && recorded.told {
                let files = &self.recorder.catalog.files;
                self.modules.tell(&mut self.kernel, target, epoch, stacks.space(), files)?;
            }
        }
        Ok(())
    }

    /// Looks at the mappings of a recorded process again, and tells the kernel side.
    fn refresh(&mut self, pid: u32) -> Result<()> {
        let Self { kernel, recorder, modules, processes, detached, .. } = self;
        let Some(process) = processes.get_mut(&pid) else { return Ok(()) };
        // The kernel takes its time to be told, as it waits for all who may use what it was told before.
        let tell = !*detached && !process.has_ended();
        let Stage::Recorded(recorded) = &mut process.stage else { return Ok(()) };
        let target = recorded.link.target;
        // What changes from now on makes it outdated.
        recorded.epoch = kernel.epoch(target)?;
        let epoch = recorded.epoch;
        recorder.refresh(pid, &|| kernel.epoch(target).unwrap_or(epoch));
        if let Some(stacks) = recorder.stacks(pid).filter(|_| tell) {
            recorded.told = true;
            modules.tell(kernel, target, epoch, stacks.space(), &recorder.catalog.files)?;
        }
        recorder.problems(modules.problems());
        Ok(())
    }
}

/// Starts a command. If it is to be followed, it is from its first instruction on, as a child of ours.
fn start(kernel: &mut Kernel, words: &[OsString], follow: bool) -> Result<Child> {
    let (program, arguments) = words.split_first().context("no command is given")?;
    let own = std::process::id();
    if follow {
        kernel.follow(own)?;
    }
    let child = Command::new(program).args(arguments).spawn();
    kernel.unfollow(own)?;
    child.with_context(|| format!("failed to start {}", program.to_string_lossy()))
}

/// Whether a command that was started has not ended yet.
fn runs(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

/// Lets this process have as many files open as it may: each process that is recorded takes some tens.
fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    // Without that, fewer processes can be recorded.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
