// SPDX-License-Identifier: Apache-2.0
//! A recording whose probes are attached: from the first event to the last byte of the file.

use std::{
    num::NonZeroU32,
    os::fd::OwnedFd,
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    maps::{MapData, RingBuf},
    programs::uprobe::UProbeLinkId,
};
use aya_log::EbpfLogger;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{MissedTickBehavior, interval},
};
use tracer_common::{Cookie, Counter, Kind, Target};

use super::{
    decode::{RawHit, Sent},
    kernel::{Kernel, KernelLog},
    modules::Modules,
    recorder::{Recorder, boot_now},
    session::{Figures, Options, Progress, Reason, Stop, Summary},
    snapshot::Snapshots,
    space::Space,
    watch::CodeWatch,
};
use crate::{
    discover::{Discovery, python::Python, symbols::Site},
    trace::{self, HITS, Hex, Writer, kind_word},
};

/// How often the ring is emptied when too little waits in it for the kernel side to call.
const EMPTY_RING: Duration = Duration::from_millis(10);
/// Most records that are taken from the ring at a time: a target that fills it as fast as it is emptied must keep neither
/// the file from being flushed nor Ctrl-C from being heard.
const AT_A_TIME: usize = 8192;
/// How often what is known goes to the file.
const FLUSH: Duration = Duration::from_secs(1);
/// How long to wait for names at the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Number of the one process of a recording.
const PROCESS: u32 = 1;
/// Its number on the kernel side.
const TARGET: u32 = 0;

/// A recording whose probes are attached.
pub(super) struct Recording {
    pid: NonZeroU32,
    kernel: Kernel,
    events: AsyncFd<RingBuf<MapData>>,
    log: Option<EbpfLogger<KernelLog>>,
    recorder: Recorder,
    exit: AsyncFd<OwnedFd>,
    sites: Vec<Cookie>,
    modules: Modules,
    watch: Option<CodeWatch>,
    snapshots: Option<Snapshots>,
    /// Whether the process executes another program by now.
    executed: bool,
    /// What the user is told at once.
    pub(super) warnings: Vec<String>,
    began: Instant,
}

impl Recording {
    /// Attaches, and only then creates the file: a recording that can't begin leaves an earlier trace as it is.
    /// `None` if the process ended while the probes were attached.
    pub(super) fn begin(options: &Options, discovery: &Discovery) -> Result<Option<Self>> {
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
        let (mut modules, mut space) = (Modules::new(TARGET)?, Space::new(process.pid));
        let changes = modules.read(&kernel, |epoch| space.refresh(epoch))?;
        modules.load_all(&mut kernel, &space)?;
        let sites: Vec<Cookie> = (0_u16..).zip(&discovery.sites).map(|(number, site)| site.cookie(number)).collect();
        let mut probes = match attach(&mut kernel, pid, discovery, &sites) {
            Err(_) if !process.is_alive() => return Ok(None),
            probes => probes?,
        };
        let frames = discovery.python.as_ref().and_then(|python| python.frames.as_ref().ok());
        let watching = discovery.sites.iter().position(|site| site.kind == Kind::CodeFreed);
        let watching = watching.and_then(|index| probes.get_mut(index)?.as_mut().ok()?.take());
        let watch =
            frames.map(|it| CodeWatch::begin(&mut kernel, pid.get(), TARGET, it.layout, watching)).transpose()?;
        let missing: Vec<_> = probes.into_iter().map(Result::err).collect();
        let mut writer = Writer::create(&options.output)?;
        let given = caller_of_sudo().map_or(Ok(()), |(user, group)| writer.give_to(user, group));
        writer.record(session_record(boot_ns));
        writer.record(process_record(discovery));
        let mut recorder = Recorder::new(writer, PROCESS, boot_ns, sites.clone(), space)?;
        recorder.changed(changes);
        let mut problems = discovery.problems.clone();
        problems.extend(given.err().map(|error| format!("{error:#}")));
        // All probes begin at one moment here and end at one in `end`: nothing between the two is missing.
        let copies = u32::from(options.copies);
        kernel.add_target(pid.get(), Target { number: TARGET, copies, layout })?;
        let border = discovery.read_next_unique_id();
        let test = discovery.read_current_test().unwrap_or_default();
        // Only from here on is it told when modules change. Until this is done, stacks are copied.
        refresh(&mut recorder, &mut kernel, &mut modules)?;
        describe(&mut recorder, discovery, &missing);
        if let Some(frames) = frames {
            recorder.set_interpreter(pid.get(), frames);
        }
        if let Some(Python { frames: Err(reason), version, .. }) = &discovery.python {
            problems.push(format!("stacks have no frames of Python {version}: {reason}"));
        }
        let mut snapshots = None;
        match border {
            Ok(next) => {
                recorder.border(next, test.as_deref());
                match discovery.owners() {
                    Ok(owners) => snapshots = Snapshots::new(PROCESS, owners, next),
                    Err(error) => problems.push(format!("buffers from before are known by their ids alone: {error:#}")),
                }
            }
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
        let began = Instant::now();
        let (warnings, executed) = (problems, false);
        Ok(Some(Self {
            pid,
            kernel,
            events,
            log,
            recorder,
            exit,
            sites,
            modules,
            watch,
            snapshots,
            executed,
            warnings,
            began,
        }))
    }

    pub(super) async fn follow(
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
            self.drain(AT_A_TIME)?;
            if self.executed {
                ended = ended.or(Some(Reason::Executed));
            }
            self.follow_modules()?;
            if let Some(reason) = ended {
                return Ok(reason);
            }
            if flushed.elapsed() >= FLUSH {
                let seconds = flushed.elapsed().as_secs_f64();
                flushed = Instant::now();
                if let Some(watch) = &mut self.watch {
                    let problem = watch.look(&mut self.kernel)?;
                    self.recorder.problems(problem.into_iter().collect());
                }
                // What is mapped without the dynamic linker is seen here.
                refresh(&mut self.recorder, &mut self.kernel, &mut self.modules)?;
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

    /// Takes what is in the ring by now, up to `limit` records.
    fn drain(&mut self, limit: usize) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let Self { events, recorder, kernel, modules, executed, snapshots, .. } = self;
        let ring = events.get_mut();
        for _ in 0..limit {
            let Some(item) = ring.next() else { break };
            let sent = Sent::decode(&item).context("the kernel side sent a record that is none of ours")?;
            if recorder.stacks().is_outdated() && !matches!(sent, Sent::Hit(RawHit { kind: Kind::Modules, .. })) {
                refresh(recorder, kernel, modules)?;
            }
            match sent {
                Sent::Native(stack) => recorder.native(stack),
                Sent::Python(stack) => recorder.python(&stack),
                Sent::Copy(copy) => {
                    if !recorder.copy(&copy) {
                        refresh(recorder, kernel, modules)?;
                        recorder.copy(&copy);
                    }
                }
                Sent::Text { sequence, text } => recorder.text(sequence, text),
                Sent::Hit(raw) => {
                    *executed |= raw.kind == Kind::Exec;
                    if let Some(end) = recorder.hit(&raw)? {
                        kernel.set_stack_end(raw.hit.tid, end)?;
                    }
                    let records = snapshots.as_mut().map(|it| it.look(&raw, recorder.time(boot_now())));
                    records.into_iter().flatten().for_each(|record| recorder.record(record));
                }
            }
        }
        Ok(())
    }

    /// Keeps what the kernel side knows of the process's modules as it is.
    fn follow_modules(&mut self) -> Result<()> {
        let Self { recorder, kernel, modules, .. } = self;
        for module in recorder.missed_modules() {
            modules.request(module, recorder.stacks().space());
        }
        let new = modules.load(kernel)?;
        if recorder.stacks().is_outdated() || modules.are_outdated(kernel)? {
            refresh(recorder, kernel, modules)?;
        } else if new {
            modules.tell(kernel, recorder.stacks().space())?;
        }
        Ok(())
    }

    /// Says in the file, as far as it can still be written, why the recording goes no further.
    pub(super) fn fail(mut self, error: &anyhow::Error) {
        let time = self.recorder.time(boot_now());
        self.recorder.record(trace::Problem { text: format!("the recording failed: {error:#}") });
        self.recorder.record(trace::End { process: PROCESS, time, reason: "failed".into() });
        // The user is told of the first error; a second one adds nothing.
        let _ = self.recorder.flush();
    }

    pub(super) fn end(mut self, reason: Reason) -> Result<Summary> {
        let seconds = self.began.elapsed().as_secs_f64();
        let time = self.recorder.time(boot_now());
        self.kernel.remove_target(self.pid.get())?;
        self.kernel.detach()?;
        // Nothing is added any more.
        self.drain(usize::MAX)?;
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
        let compared = self.recorder.stacks().compared;
        if compared.stacks > 0 {
            for (name, value) in [("compared", compared.stacks), ("different", compared.different)] {
                self.recorder.record(trace::CounterValue { name: name.into(), value });
            }
        }
        if compared.different > 0 {
            let text = format!(
                "{} of {} stacks came out different when walked in both ways: please report this with the library's build id",
                compared.different, compared.stacks
            );
            self.recorder.record(trace::Problem { text });
        }
        let kept = self.recorder.tally.events;
        self.recorder.record(trace::CounterValue { name: "kept".into(), value: kept });
        self.recorder.record(trace::End { process: PROCESS, time, reason: reason.name().into() });
        self.recorder.flush()?;
        let lost = self.recorder.lost();
        let bytes = self.recorder.bytes();
        let adds_up = sent == kept + lost && lost == self.kernel.counter(Counter::RingFull)?;
        Ok(Summary { reason, seconds, tally: self.recorder.tally, lost, bytes, adds_up, compared })
    }
}

/// Looks at the process's mappings again, and tells the kernel side.
fn refresh(recorder: &mut Recorder, kernel: &mut Kernel, modules: &mut Modules) -> Result<()> {
    modules.read(kernel, |epoch| recorder.refresh(epoch))?;
    modules.tell(kernel, recorder.stacks().space())?;
    recorder.problems(modules.problems());
    Ok(())
}

/// Attaches to every site; for each, the probe, or why that was not possible.
///
/// # Errors
/// If a site is missing without which a recording would mislead.
fn attach(
    kernel: &mut Kernel,
    pid: NonZeroU32,
    discovery: &Discovery,
    cookies: &[Cookie],
) -> Result<Vec<Result<Option<UProbeLinkId>, String>>> {
    let mut attach_one = |site: &Site, cookie: Cookie| {
        let offset = site.offset.clone()?;
        let home = discovery.home(site).ok_or("its module is not mapped")?;
        kernel.attach(pid, &home.file.path(), offset, cookie).map_err(|error| format!("{error:#}"))
    };
    let mut all = Vec::new();
    for (site, &cookie) in discovery.sites.iter().zip(cookies) {
        let probe = attach_one(site, cookie).map(Some);
        if let (Err(missing), true) = (&probe, site.required) {
            bail!("failed to probe {}: {missing}", site.symbol);
        }
        all.push(probe);
    }
    Ok(all)
}

/// Writes what was found out about the target: its modules, the layout of its classes, and the probes.
fn describe(recorder: &mut Recorder, discovery: &Discovery, missing: &[Option<String>]) {
    for finding in discovery.derivation.findings.iter().chain([&discovery.derivation.owners]) {
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

/// User and group that called us by sudo: the trace is theirs, and they read it without.
fn caller_of_sudo() -> Option<(u32, u32)> {
    let id = |name| std::env::var(name).ok()?.parse().ok();
    rustix::process::geteuid().is_root().then_some((id("SUDO_UID")?, id("SUDO_GID")?))
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
        origin: trace::Name::default(),
        python: discovery.python.as_ref().map(|python| python.version.clone()).unwrap_or_default(),
    }
}
