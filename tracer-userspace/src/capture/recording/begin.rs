// SPDX-License-Identifier: Apache-2.0
//! How the recording of a process begins, or why it does not.

use std::{mem, rc::Rc, time::Instant};

use anyhow::{Result, ensure};
use tracer_common::{FIRST_FORKED, Target};

use super::Recording;
use crate::{
    capture::{
        attach,
        behind::Behind,
        followed::{Followed, Link, Recorded, Stage},
        session::{Progress, Reason},
        snapshot::Snapshots,
        space::Space,
        watch::CodeWatch,
    },
    discover::{Discovery, module::Module},
    trace::{Place, Writer},
};

impl Recording<'_> {
    /// A process can't be recorded: if it is what the user asked for, and nothing is recorded yet, nothing will be, unless
    /// another one that was asked for can be.
    pub(super) fn refuse(
        &mut self,
        pid: u32,
        wanted: bool,
        error: anyhow::Error,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<()> {
        let looking = |(other, process): (&u32, &Followed)| {
            *other != pid && process.root && matches!(process.stage, Stage::Looking(_))
        };
        let hopeless = wanted && !self.recorder.has_begun() && !self.processes.iter().any(looking);
        // What failed because the process ended is no failure.
        if self.processes.get(&pid).is_none_or(|process| process.is_ending(pid)) {
            return Ok(());
        }
        if hopeless {
            // Of a file that can't be begun, `doctor` knows nothing.
            let hint = || format!("failed to record (`tt-buftrace doctor -p {pid}` says more)");
            return Err(if self.place.is_some() { error.context(hint()) } else { error });
        }
        self.give_up(pid, &error)?;
        self.tell_problems(tell);
        Ok(())
    }

    /// Records nothing more of a process.
    pub(super) fn give_up(&mut self, pid: u32, error: &anyhow::Error) -> Result<()> {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.root = false;
            let stage = mem::replace(&mut process.stage, Stage::Refused);
            if stage.link().is_some() {
                self.kernel.remove_target(pid)?;
                self.forget(pid, stage, Reason::Failed)?;
            }
        }
        self.not_recorded(pid, error);
        Ok(())
    }

    pub(super) fn begin(
        &mut self,
        pid: u32,
        wanted: bool,
        discovery: Discovery,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<()> {
        match self.record(pid, Rc::new(discovery)) {
            Ok((discovery, no_probe)) => {
                self.tell_problems(tell);
                no_probe.iter().for_each(|problem| tell(Progress::Problem(problem)));
                tell(Progress::Attached(&discovery));
                Ok(())
            }
            Err(error) => self.refuse(pid, wanted, error, tell),
        }
    }

    /// Attaches to a process, and only then begins the file: a recording that can't begin leaves an earlier trace as it
    /// is. Returns what the user is to be told of probes that are not there.
    fn record(&mut self, pid: u32, discovery: Rc<Discovery>) -> Result<(Rc<Discovery>, Vec<String>)> {
        let Self { kernel, recorder, modules, sites, options, place, .. } = self;
        let layout = discovery.layout()?;
        ensure!(self.target + 1 < FIRST_FORKED, "this recording has had {FIRST_FORKED} processes already");
        self.target += 1;
        let target = self.target;
        let mut space = Space::new(pid);
        let epoch = kernel.epoch(target)?;
        let changes = space.refresh(&mut recorder.catalog.files, &|| epoch);
        modules.load_all(kernel, &space, &recorder.catalog.files)?;
        let mut probes = sites.attach(kernel, recorder, pid, &discovery, options.follow)?;
        let frames = discovery.frames();
        let code_freed = probes.code_freed.take();
        let watch = frames.map(|it| CodeWatch::begin(kernel, pid, target, it.layout, code_freed)).transpose()?;
        let (mut problems, no_probe) = attach::problems(&discovery, &probes);
        ensure!(discovery.process.is_alive(), "it has ended");
        if !recorder.has_begun() {
            let place = place.take().map_or_else(|| Place::take(&options.output), Ok)?;
            let mut writer = Writer::at(place)?;
            options.max_size.map_or(Ok(()), |bytes| writer.limit(bytes))?;
            recorder.begin(writer, attach::session_record(recorder.boot_ns()));
            self.behind = options.epilogue.then(|| Behind::begin(&options.output)).flatten();
            self.began = Instant::now();
        }
        // All probes begin at one moment here and end at one: nothing between the two is missing. Hits wait in the ring
        // until it is known whose they are.
        let copies = u32::from(options.copies);
        let linker = discovery.linker_state().unwrap_or(0);
        kernel.add_target(pid, Target { number: target, copies, linker, layout, ..Target::default() })?;
        let number = recorder.add(pid, space);
        recorder.record(attach::process_record(&discovery.process, discovery.python.as_ref(), number, 0));
        recorder.changed(number, changes);
        let border = discovery.read_next_unique_id();
        let test = discovery.read_current_test().unwrap_or_default();
        let mut has_waited = false;
        if let Some(process) = self.processes.get_mut(&pid) {
            has_waited = matches!(&process.stage, Stage::Looking(search) if search.has_waited());
            let (link, discovery) = (Link { number, target }, Rc::clone(&discovery));
            let probes = Some(mem::take(&mut probes.own));
            process.stage = Stage::Recorded(Box::new(Recorded {
                link,
                epoch,
                told: false,
                discovery,
                probes,
                watch,
                snapshots: None,
            }));
        }
        // Only from here on is it told when modules change. Until this is done, stacks are copied.
        self.refresh(pid)?;
        let recorder = &mut self.recorder;
        attach::describe(recorder, number, &discovery, &probes);
        if let Some(frames) = frames {
            recorder.set_interpreter(pid, frames);
        }
        let mut snapshots = None;
        match border {
            Ok(next) => {
                recorder.border(number, next, test.as_deref());
                if has_waited && next > 0 {
                    recorder.made_before(next);
                    problems.push(format!(
                        "process {pid} made buffers between loading TT-Metal and the begin of its recording, which are not in \
                         it: {next} ids, one for each owner and each of its aliases on chips (`pytest --buftrace` waits until it \
                         is recorded)"
                    ));
                }
                match discovery.owners() {
                    Ok(owners) => snapshots = Snapshots::new(number, owners, next),
                    Err(error) => problems.push(format!("buffers from before are known by their ids alone: {error:#}")),
                }
            }
            Err(error) => problems.push(format!("buffers from before the recording are not told apart: {error:#}")),
        }
        recorder.problems(problems);
        recorder.flush()?;
        if let Some(Followed { stage: Stage::Recorded(recorded), .. }) = self.processes.get_mut(&pid) {
            recorded.snapshots = snapshots;
        }
        // All was looked into, above all for names.
        discovery.modules.iter().for_each(Module::rest);
        self.recorder.catalog.files.modules().iter().for_each(|code| code.module.rest());
        Ok((discovery, no_probe))
    }
}
