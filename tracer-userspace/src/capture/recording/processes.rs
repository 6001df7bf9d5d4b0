// SPDX-License-Identifier: Apache-2.0
//! Processes of a recording that come from others by a fork, become other programs, and end.

use std::{rc::Rc, time::Instant};

use anyhow::Result;
use tracer_common::{Epoch, Hit};

use super::Recording;
use crate::{
    capture::{
        attach,
        followed::{Forked, Link, Recorded, Stage},
        kernel,
        search::Search,
        session::Reason,
        watch::CodeWatch,
    },
    discover::process::Process,
};

impl Recording<'_> {
    /// A process made a child: its number in the file, 0 if it is not recorded.
    pub(super) fn forked(&mut self, hit: &Hit) -> Result<u32> {
        let (Ok(pid), Ok(target)) = (u32::try_from(hit.object), u32::try_from(hit.size)) else { return Ok(0) };
        let Some(parent) = self.processes.get(&hit.tgid).filter(|_| self.options.follow) else { return Ok(0) };
        let (Stage::Recorded(recorded), true) = (&parent.stage, target != 0) else {
            self.insert(pid, false, Stage::Looking(Search::new(false)))?;
            return Ok(0);
        };
        let (parent, discovery) = (recorded.link.number, Rc::clone(&recorded.discovery));
        let Some(number) = self.recorder.add_forked(hit, pid) else { return Ok(0) };
        let (since, link) = (Instant::now(), Link { number, target });
        let forked = Forked { since, link, parent, made: hit.time, discovery };
        self.insert(pid, false, Stage::Forked(forked))?;
        Ok(number)
    }

    /// Writes down a forked child that does something on record, or is there to stay.
    pub(super) fn adopt(&mut self, pid: u32) -> Result<()> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(()) };
        let Stage::Forked(Forked { link, parent, made, discovery, .. }) = &process.stage else { return Ok(()) };
        let (link, parent, discovery) = (*link, *parent, Rc::clone(discovery));
        // Of a child that is gone already, `/proc` tells nothing any more; it had its parent's command line.
        let start = made / (1_000_000_000 / rustix::param::clock_ticks_per_second());
        let gone = Process { pid, start, inside: None, ..discovery.process.clone() };
        let identity = Process::read(pid).unwrap_or(gone);
        self.recorder.record(attach::process_record(&identity, discovery.python.as_ref(), link.number, parent));
        self.recorder.describe_forked(pid);
        let probes = match self.detached || process.has_ended() {
            true => Vec::new(),
            false => self.sites.attach_forked(&mut self.kernel, &mut self.recorder, pid, &discovery),
        };
        let watch = discovery.frames().map(|frames| CodeWatch::forked(pid, link.target, frames.layout));
        process.stage = Stage::Recorded(Box::new(Recorded {
            link,
            epoch: Epoch::INHERITED,
            told: false,
            discovery,
            probes,
            watch,
            snapshots: None,
        }));
        self.refresh(pid)
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
        if let Stage::Recorded(mut recorded) = stage {
            self.recorder.end(pid, reason);
            kernel::detach_later(recorded.take_probes());
            if recorded.told && !self.detached {
                self.kernel.remove_space(link.target)?;
            }
        }
        self.recorder.remove(pid);
        Ok(())
    }
}
