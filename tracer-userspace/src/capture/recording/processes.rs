// SPDX-License-Identifier: Apache-2.0
//! Processes of a recording that come from others by a fork, become other programs, and end.

use std::{rc::Rc, time::Instant};

use anyhow::Result;
use tracer_common::{Counter, Epoch, Hit};

use super::Recording;
use crate::{
    capture::{
        attach,
        clock::ticks,
        followed::{Forked, Link, Recorded, Stage},
        search::Search,
        session::Reason,
        watch::CodeWatch,
    },
    discover::process::Process,
};

/// What is said of processes whose fork was among the hits that were lost.
const UNHEARD: &str = "the ring was full when a child process was forked: what it did until it was found is lost, too";

impl Recording<'_> {
    /// Looks for processes that are followed and of which nothing was heard, where hits were lost.
    pub(super) fn find_unheard(&mut self) -> Result<()> {
        let lost = self.recorder.lost();
        if std::mem::replace(&mut self.lost, lost) == lost || !self.options.follow || self.detached {
            return Ok(());
        }
        for (pid, _) in self.kernel.followed()? {
            self.found(pid);
        }
        Ok(())
    }

    /// How many processes hit a probe and are not recorded, those included that have ended.
    pub(super) fn unrecorded(&self) -> Result<u64> {
        let is_recorded = |pid| self.processes.get(pid).is_some_and(|process| process.stage.link().is_some());
        let followed = self.kernel.followed()?;
        let left = followed.iter().filter(|(pid, has_hit)| *has_hit && !is_recorded(pid)).count();
        Ok(self.kernel.counter(Counter::Unrecorded)? + left as u64)
    }

    /// A process that is followed: if nothing was heard of it before, the hit that told of its fork was lost.
    pub(super) fn found(&mut self, pid: u32) {
        // A command is forked from this process, which is followed for that moment.
        if !self.processes.contains_key(&pid) && pid != std::process::id() {
            self.recorder.problems(vec![UNHEARD.to_owned()]);
            self.insert_found(pid, Stage::Looking(Search::new(false)), None);
        }
    }

    /// Follows a process that nobody named, if its end can be watched.
    fn insert_found(&mut self, pid: u32, stage: Stage, made: Option<u64>) -> bool {
        self.insert(pid, false, stage, made).inspect_err(|error| self.not_recorded(pid, error)).is_ok()
    }

    /// Tells of a process that can't be recorded, or not any longer.
    pub(super) fn not_recorded(&mut self, pid: u32, error: &anyhow::Error) {
        self.recorder.problems(vec![format!("process {pid} is not recorded: {error:#}")]);
    }

    /// A process made a child: its number in the file, 0 if it is not recorded.
    pub(super) fn forked(&mut self, hit: &Hit) -> Result<u32> {
        let (Ok(pid), Ok(target)) = (u32::try_from(hit.object), u32::try_from(hit.size)) else { return Ok(0) };
        if !self.options.follow || !self.processes.contains_key(&hit.tgid) {
            return Ok(0);
        }
        if let Some(child) = self.processes.get(&pid)
            && let Some(link) = child.stage.link()
            && !child.has_ended()
        {
            // It was looked for where hits were lost, and found before the one that tells of its making.
            return Ok(link.number);
        }
        if let Some(before) = self.processes.remove(&pid) {
            // It had this number until now.
            self.forget(pid, before.stage, Reason::Exited)?;
        }
        let Some(parent) = self.processes.get(&hit.tgid) else { return Ok(0) };
        let (Stage::Recorded(recorded), true) = (&parent.stage, target != 0) else {
            self.insert_found(pid, Stage::Looking(Search::new(false)), Some(hit.time));
            return Ok(0);
        };
        let (parent, discovery) = (recorded.link.number, Rc::clone(&recorded.discovery));
        let Some(number) = self.recorder.add_forked(hit, pid) else { return Ok(0) };
        let (since, link) = (Instant::now(), Link { number, target });
        let forked = Forked { since, link, parent, made: hit.time, discovery };
        if !self.insert_found(pid, Stage::Forked(forked), Some(hit.time)) {
            self.recorder.remove(pid);
            return Ok(0);
        }
        Ok(number)
    }

    /// Writes down a forked child that does something on record, or is there to stay.
    pub(super) fn adopt(&mut self, pid: u32) -> Result<()> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(()) };
        let Stage::Forked(Forked { link, parent, made, discovery, .. }) = &process.stage else { return Ok(()) };
        let (link, parent, made, discovery) = (*link, *parent, *made, Rc::clone(discovery));
        // Of a child that is gone already, `/proc` tells nothing any more; it had its parent's command line.
        let gone = Process { pid, start: ticks(made), inside: None, ..discovery.process.clone() };
        let identity = Process::read(pid).ok().filter(|_| !process.has_ended()).unwrap_or(gone);
        self.recorder.record(attach::process_record(&identity, discovery.python.as_ref(), link.number, parent));
        self.recorder.describe_forked(pid);
        let watch = discovery.frames().map(|frames| CodeWatch::forked(pid, link.target, frames.layout));
        process.stage = Stage::Recorded(Box::new(Recorded {
            link,
            epoch: Epoch::INHERITED,
            told: false,
            discovery,
            probes: None,
            watch,
            snapshots: None,
        }));
        self.refresh(pid)
    }

    /// Probes children that were written down. That takes a while, and names of Python code have to be read before such a child
    /// ends.
    pub(super) fn probe_adopted(&mut self) {
        let Self { kernel, recorder, sites, processes, .. } = self;
        let unprobed = |stage: &Stage| matches!(stage, Stage::Recorded(recorded) if recorded.probes.is_none());
        for (&pid, process) in processes.iter_mut().filter(|(_, it)| unprobed(&it.stage) && !it.has_ended()) {
            if let Stage::Recorded(recorded) = &mut process.stage {
                recorded.probes = Some(sites.attach_forked(kernel, recorder, pid, &recorded.discovery));
            }
        }
    }

    pub(super) fn adopt_settled(&mut self) -> Result<()> {
        let settled: Vec<u32> =
            self.processes.iter().filter(|(_, process)| process.has_settled()).map(|(&pid, _)| pid).collect();
        settled.into_iter().try_for_each(|pid| self.adopt(pid))
    }

    /// A process executes another program.
    pub(super) fn executed(&mut self, pid: u32) -> Result<()> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(()) };
        let before = std::mem::replace(&mut process.stage, Stage::Looking(Search::new(false)));
        if let Some(scan) = &mut self.scan {
            scan.forget(pid);
        }
        if before.link().is_none() {
            return Ok(());
        }
        if !self.options.follow {
            self.processes.remove(&pid);
            self.reason = Reason::Executed;
        }
        self.forget(pid, before, Reason::Executed)
    }

    /// A process has ended, and all that it did was taken from the ring.
    pub(super) fn ended(&mut self, pid: u32, serial: u64) -> Result<()> {
        if self.processes.get(&pid).is_some_and(|process| process.serial == serial)
            && let Some(process) = self.processes.remove(&pid)
        {
            self.reason = Reason::Exited;
            self.forget(pid, process.stage, Reason::Exited)?;
        }
        Ok(())
    }

    /// Gives back what belonged to a process.
    pub(super) fn forget(&mut self, pid: u32, stage: Stage, reason: Reason) -> Result<()> {
        let Some(link) = stage.link() else { return Ok(()) };
        // It may have ended while it was made a target.
        self.kernel.remove_target_if(pid, link.target)?;
        if let Stage::Recorded(mut recorded) = stage {
            self.recorder.end(pid, reason);
            self.kernel.detach(recorded.take_probes());
            if recorded.told && !self.detached {
                self.kernel.remove_space(link.target)?;
            }
        }
        self.recorder.remove(pid);
        Ok(())
    }
}
