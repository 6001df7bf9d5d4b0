// SPDX-License-Identifier: Apache-2.0
//! One recording, from the first look at the process to the last byte of the file.

use std::{
    ffi::OsString,
    num::NonZeroU32,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep},
};
use tracer_common::{Cookie, Counter, Kind};

use super::{
    decode::Sent,
    kernel::{self, Kernel, KernelLog},
    recorder::{Recorder, boot_now},
    space::Space,
    tally::Tally,
};
use crate::{
    discover::{
        Discovery, Obstacle,
        maps::{self, Mapping},
        process::Process,
        python::Python,
        symbols::Site,
    },
    trace::{self, HITS, Hex, Writer, kind_word},
};

/// How often a process is looked at that has not loaded its library yet.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often the ring is emptied when too little waits in it for the kernel side to call.
const EMPTY_RING: Duration = Duration::from_millis(10);
/// How often what is known goes to the file.
const FLUSH: Duration = Duration::from_secs(1);
/// How long to wait for names at the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Number of the one process of a recording.
const PROCESS: u32 = 1;

/// What to record.
#[derive(Debug)]
pub enum Target {
    /// A process that runs.
    Pid(u32),
    /// A command to start.
    Command(Vec<OsString>),
}

/// How to record.
#[derive(Debug)]
pub struct Options {
    /// What to record.
    pub target: Target,
    /// The trace file.
    pub output: PathBuf,
    /// How the kernel side is set up.
    pub kernel: kernel::Options,
}

/// What a recording tells while it runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The process has no library with the Buffer code yet.
    Waiting(&'a Process),
    /// All probes are attached.
    Attached(&'a Discovery),
    /// Something odd that does not stop the recording.
    Problem(&'a str),
    /// Once a second.
    Tick(Figures),
}

/// The figures of the progress line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Seconds since the probes were attached.
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
    /// The process ended.
    Exited,
    /// The user stopped the recording.
    Interrupted,
}

impl Reason {
    /// The name that the trace file has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Interrupted => "interrupted",
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
    /// Sums over the events.
    pub tally: Tally,
    /// Events that were lost.
    pub lost: u64,
    /// Size of the trace file in bytes.
    pub bytes: u64,
    /// Whether sent = kept + lost.
    pub adds_up: bool,
}

/// Records until the process ends or the user stops it; `None` if that happens before there is anything to record.
///
/// # Errors
/// With the reason and the next step, where the process can't be recorded. The target goes on in any case.
pub fn record(options: &Options, tell: &mut dyn FnMut(Progress)) -> Result<Option<Summary>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options, tell))
}

async fn run(options: &Options, tell: &mut dyn FnMut(Progress<'_>)) -> Result<Option<Summary>> {
    let mut stop = Stop::new()?;
    let (pid, mut child) = match &options.target {
        Target::Pid(pid) => (*pid, None),
        Target::Command(words) => {
            let child = start(words)?;
            (child.id(), Some(child))
        }
    };
    let Some(discovery) = wait_for_library(pid, &mut child, &mut stop, tell).await? else { return Ok(None) };
    let mut recording = match Recording::begin(options, &discovery) {
        // It ended while the probes were attached.
        Err(_) if !discovery.process.is_alive() => return Ok(None),
        recording => recording?,
    };
    for warning in &recording.warnings {
        tell(Progress::Problem(warning));
    }
    tell(Progress::Attached(&discovery));
    let reason = recording.follow(&mut child, &mut stop, tell).await?;
    recording.end(reason).map(Some)
}

fn start(words: &[OsString]) -> Result<Child> {
    let (program, arguments) = words.split_first().context("no command is given")?;
    Command::new(program)
        .args(arguments)
        .spawn()
        .with_context(|| format!("failed to start {}", program.to_string_lossy()))
}

/// `None` if the process ended, or the user had enough, before it loaded the library.
async fn wait_for_library(
    pid: u32,
    child: &mut Option<Child>,
    stop: &mut Stop,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Option<Discovery>> {
    let first = Process::read(pid)?;
    let mut told = false;
    let mut mapped = None;
    loop {
        let code = code_mappings(pid);
        // To look into each file takes milliseconds; nothing new is mapped most of the time.
        if mapped.as_ref() != Some(&code) {
            mapped = Some(code);
            match Discovery::of(pid) {
                Ok(discovery) if discovery.process.start == first.start => return Ok(Some(discovery)),
                Ok(_) => return Ok(None),
                Err(Obstacle::NotLoaded { process, problems }) => {
                    if !std::mem::replace(&mut told, true) {
                        tell(Progress::Waiting(&process));
                        problems.iter().for_each(|problem| tell(Progress::Problem(problem)));
                    }
                }
                Err(Obstacle::Failed(_)) if !first.is_alive() => return Ok(None),
                Err(Obstacle::Failed(error)) => return Err(error),
            }
        }
        tokio::select! {
            () = sleep(LOOK_AGAIN) => {}
            () = stop.asked() => return Ok(None),
        }
        let ended = child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
        if ended || !first.is_alive() {
            return Ok(None);
        }
    }
}

fn code_mappings(pid: u32) -> Vec<Mapping> {
    let mut mappings = maps::read(pid).unwrap_or_default();
    mappings.retain(|mapping| mapping.executable);
    mappings
}

/// Ctrl-C, and what service managers send.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("failed to watch for Ctrl-C")?;
        let terminate = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A recording whose probes are attached.
struct Recording {
    pid: NonZeroU32,
    kernel: Kernel,
    events: AsyncFd<RingBuf<MapData>>,
    log: Option<EbpfLogger<KernelLog>>,
    recorder: Recorder,
    exit: AsyncFd<OwnedFd>,
    sites: Vec<Cookie>,
    /// What the user is told at once.
    warnings: Vec<String>,
    began: Instant,
}

impl Recording {
    /// Attaches, and only then creates the file: a recording that can't begin leaves an earlier trace as it is.
    fn begin(options: &Options, discovery: &Discovery) -> Result<Self> {
        let process = &discovery.process;
        let pid = NonZeroU32::new(process.pid).context("0 is no process id")?;
        let layout = discovery.layout()?;
        let exit = Pid::from_raw(process.pid.cast_signed()).context("no process has this id")?;
        let exit = pidfd_open(exit, PidfdFlags::empty()).with_context(|| format!("failed to watch process {pid}"))?;
        let mut kernel = Kernel::load(options.kernel)?;
        // SAFETY: the ring buffer owns its descriptor, and lives in the `AsyncFd` for as long as that does.
        let events = unsafe { AsyncFd::register_with_interest(kernel.take_events()?, Interest::READABLE) }?;
        let log = options.kernel.verbose.then(|| kernel.logger()).transpose()?;
        let boot_ns = boot_now();
        kernel.start()?;
        let sites: Vec<Cookie> = (0_u16..).zip(&discovery.sites).map(|(number, site)| site.cookie(number)).collect();
        let missing = attach(&mut kernel, pid, discovery, &sites)?;
        let frames = discovery.python.as_ref().and_then(|python| python.frames.as_ref().ok());
        if let Some(frames) = frames {
            kernel.add_python(pid.get(), frames.layout)?;
        }
        // All probes begin at one moment here and end at one in `end`: nothing between the two is missing.
        kernel.add_target(pid.get(), layout)?;
        let border = discovery.read_next_unique_id();
        let test = discovery.read_current_test().unwrap_or_default();

        let mut writer = Writer::create(&options.output)?;
        writer.record(session_record(boot_ns));
        writer.record(process_record(discovery));
        let mut recorder = Recorder::new(writer, PROCESS, boot_ns, sites.clone(), Space::new(pid.get()))?;
        let mut problems = discovery.problems.clone();
        describe(&mut recorder, discovery, &missing);
        if let Some(frames) = frames {
            recorder.set_interpreter(pid.get(), frames);
        }
        if let Some(Python { frames: Err(reason), version, .. }) = &discovery.python {
            problems.push(format!("stacks have no frames of Python {version}: {reason}"));
        }
        match border {
            Ok(next) => recorder.border(next, test.as_deref()),
            Err(error) => problems.push(format!("buffers from before the recording are not told apart: {error:#}")),
        }
        for text in &problems {
            recorder.record(trace::Problem { text: text.clone() });
        }
        recorder.flush()?;
        let no_probe = |(site, missing): (&Site, &Option<String>)| {
            missing.as_ref().map(|missing| format!("no probe for {}: {missing}", kind_word(site.kind)))
        };
        problems.extend(discovery.sites.iter().zip(&missing).filter_map(no_probe));
        // SAFETY: the descriptor is owned, and lives in the `AsyncFd` for as long as that does.
        let exit = unsafe { AsyncFd::register_with_interest(exit, Interest::READABLE) }?;
        Ok(Self { pid, kernel, events, log, recorder, exit, sites, warnings: problems, began: Instant::now() })
    }

    async fn follow(
        &mut self,
        child: &mut Option<Child>,
        stop: &mut Stop,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Reason> {
        let mut tick = interval(EMPTY_RING);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flushed = Instant::now();
        let mut last_events = 0;
        loop {
            let mut ended = None;
            tokio::select! {
                _ = tick.tick() => {}
                ready = self.events.readable() => ready?.clear_ready(),
                exited = self.exit.readable() => { exited?.clear_ready(); ended = Some(Reason::Exited); }
                () = stop.asked() => ended = Some(Reason::Interrupted),
            }
            if ended == Some(Reason::Interrupted) && child.is_some() {
                // A command that we started got the same Ctrl-C and ends by itself; a second one ends the recording.
                *child = None;
                ended = None;
            }
            self.drain()?;
            if let Some(reason) = ended {
                return Ok(reason);
            }
            if flushed.elapsed() >= FLUSH {
                let seconds = flushed.elapsed().as_secs_f64();
                flushed = Instant::now();
                self.recorder.flush()?;
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

    /// Takes what is in the ring by now.
    fn drain(&mut self) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let ring = self.events.get_mut();
        while let Some(item) = ring.next() {
            match Sent::decode(&item) {
                Some(Sent::Python(part)) => self.recorder.python(part),
                Some(Sent::Hit(raw)) => {
                    if let Some(end) = self.recorder.hit(&raw)? {
                        self.kernel.set_stack_end(raw.hit.tid, end)?;
                    }
                }
                None => bail!("the kernel side sent a record that is none of ours"),
            }
        }
        Ok(())
    }

    fn end(mut self, reason: Reason) -> Result<Summary> {
        let seconds = self.began.elapsed().as_secs_f64();
        let time = self.recorder.time(boot_now());
        self.kernel.remove_target(self.pid.get())?;
        self.kernel.detach()?;
        self.drain()?;
        let sent = self.kernel.counter(Counter::Sent)?;
        self.recorder.finish(sent, PATIENCE)?;
        for counter in Counter::ALL {
            let value = self.kernel.counter(counter)?;
            self.recorder.record(trace::CounterValue { name: counter.name().into(), value });
        }
        for kind in Kind::ALL {
            let sites = (0_u16..).zip(&self.sites).filter(|(_, site)| site.kind == kind).map(|(number, _)| number);
            let hits: Vec<u64> = sites.map(|site| self.kernel.site_hits(site)).collect::<Result<_>>()?;
            if !hits.is_empty() {
                let name = format!("{HITS}{}", kind_word(kind)).into();
                self.recorder.record(trace::CounterValue { name, value: hits.iter().sum() });
            }
        }
        let kept = self.recorder.tally.events;
        self.recorder.record(trace::CounterValue { name: "kept".into(), value: kept });
        self.recorder.record(trace::End { process: PROCESS, time, reason: reason.name().into() });
        self.recorder.flush()?;
        let lost = self.recorder.lost();
        let bytes = self.recorder.bytes();
        let adds_up = sent == kept + lost && lost == self.kernel.counter(Counter::RingFull)?;
        Ok(Summary { reason, seconds, tally: self.recorder.tally, lost, bytes, adds_up })
    }
}

/// Attaches to every site; for each, why that was not possible.
///
/// # Errors
/// If a site is missing without which a recording would mislead.
fn attach(
    kernel: &mut Kernel,
    pid: NonZeroU32,
    discovery: &Discovery,
    cookies: &[Cookie],
) -> Result<Vec<Option<String>>> {
    let mut attach_one = |site: &Site, cookie: Cookie| {
        let offset = site.offset.clone()?;
        let home = discovery.home(site).ok_or("its module is not mapped")?;
        kernel.attach(pid, &home.file.path(), offset, cookie).map_err(|error| format!("{error:#}"))
    };
    let mut all = Vec::new();
    for (site, &cookie) in discovery.sites.iter().zip(cookies) {
        let missing = attach_one(site, cookie).err();
        if let (Some(missing), true) = (&missing, site.required) {
            bail!("failed to probe {}: {missing}", site.symbol);
        }
        all.push(missing);
    }
    Ok(all)
}

/// Writes what was found out about the target: its modules, the layout of its classes, and the probes.
fn describe(recorder: &mut Recorder, discovery: &Discovery, missing: &[Option<String>]) {
    recorder.refresh();
    for finding in &discovery.derivation.findings {
        let Ok(offset) = finding.offset else { continue };
        let (name, sources) = (finding.field.name().into(), finding.sources.join(", "));
        recorder.record(trace::LayoutField { process: PROCESS, name, offset: Hex(offset.into()), sources });
    }
    if let Some(python) = &discovery.python {
        let module = recorder.module_number(&discovery.modules[python.module].mapping);
        recorder.record(interpreter_record(python, module));
    }
    for (number, (site, missing)) in (0_u32..).zip(discovery.sites.iter().zip(missing)) {
        recorder.record(trace::Probe {
            id: number,
            process: PROCESS,
            kind: kind_word(site.kind).into(),
            symbol: site.symbol.clone(),
            module: discovery.home(site).map_or(0, |home| recorder.module_number(&home.mapping)),
            offset: Hex(site.offset.clone().unwrap_or(0)),
            missing: missing.clone().unwrap_or_default(),
        });
    }
}

fn session_record(boot_ns: u64) -> trace::Session {
    let system = rustix::system::uname();
    let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    trace::Session {
        tool: env!("CARGO_PKG_VERSION").into(),
        host: system.nodename().to_string_lossy().into_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        wall_ns: (wall.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(wall.tv_nsec as u64),
        boot_ns,
    }
}

fn interpreter_record(python: &Python, module: u32) -> trace::Interpreter {
    let missing = python.frames.as_ref().err().cloned().unwrap_or_default();
    trace::Interpreter { process: PROCESS, module, version: python.version.clone(), missing }
}

fn process_record(discovery: &Discovery) -> trace::Process {
    trace::Process {
        id: PROCESS,
        pid: discovery.process.pid,
        start: discovery.process.start,
        command: discovery.process.command.clone(),
        python: discovery.python.as_ref().map(|python| python.version.clone()).unwrap_or_default(),
    }
}
