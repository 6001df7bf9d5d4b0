// SPDX-License-Identifier: Apache-2.0
//! Waits until a process has loaded the library that holds the buffers.

use std::{collections::HashSet, process::Child, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use super::session::{Progress, Stop};
use crate::discover::{Discovery, LIBRARY_SYMBOL, Obstacle, maps, module::Module, process::Process, symbols::ProbeSet};

/// How often a process is looked at that has not loaded its library yet.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// `None` if the process ended, or the user had enough, before it loaded the library.
pub(super) async fn wait_for_library(
    pid: u32,
    set: ProbeSet,
    child: &mut Option<Child>,
    stop: &mut Stop,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Option<Discovery>> {
    let first = Process::read(pid)?;
    let mut told = false;
    let mut files = Files::default();
    loop {
        // At first all is looked at, so that what can't be looked into is told.
        if !told || files.may_have_library(pid) {
            match Discovery::of(pid, set) {
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

/// The mapped files that were looked into. An import maps a hundred of them one by one, and to look into all takes
/// milliseconds: each is looked into once.
#[derive(Default)]
struct Files {
    seen: HashSet<((u32, u32), u64)>,
    found: bool,
}

impl Files {
    /// Whether a file that names the library's symbol is mapped, perhaps in part only yet.
    fn may_have_library(&mut self, pid: u32) -> bool {
        for mapping in maps::read(pid).unwrap_or_default() {
            if !mapping.executable || self.seen.contains(&(mapping.device, mapping.inode)) {
                continue;
            }
            // A file that can't be opened may be in the middle of being mapped: it is tried again.
            if let Ok(module) = Module::open(pid, &mapping) {
                self.seen.insert((mapping.device, mapping.inode));
                self.found |= module.elf().is_ok_and(|elf| elf.mentions(LIBRARY_SYMBOL));
            }
        }
        self.found
    }
}
