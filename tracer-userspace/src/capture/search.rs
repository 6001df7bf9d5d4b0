// SPDX-License-Identifier: Apache-2.0
//! Looks for the library that holds the buffers, in a process that has not loaded it yet; and for processes by their name
//! or container.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::discover::{Discovery, Known, Obstacle, process::Process, symbols::ProbeSet};

/// How often a process is looked at that has just begun.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often one that has run for long.
const LOOK_SELDOM: Duration = Duration::from_millis(100);
/// How often the processes of the machine are looked through.
const SCAN_AGAIN: Duration = Duration::from_millis(200);

/// How long a process is taken to be still loading that has the library, but no C library: the dynamic linker maps them in no
/// certain order.
const LOADING: Duration = Duration::from_secs(1);

/// The search in one process.
pub(super) struct Search {
    began: Instant,
    looked: Option<Instant>,
    /// Whether the library was not there at the first look.
    has_waited: bool,
    /// Whether all is to be looked at next time.
    whole: bool,
}

impl Search {
    /// One whose first look is at everything if it is `whole`, so that what can't be looked into is told.
    pub(super) fn new(whole: bool) -> Self {
        Self { began: Instant::now(), looked: None, has_waited: false, whole }
    }

    /// Whether the process was there before its library: who waits for it wants all that the library does.
    pub(super) fn has_waited(&self) -> bool {
        self.has_waited
    }

    /// How soon it is time to look.
    pub(super) fn look_within(&self) -> Duration {
        let pause = (self.began.elapsed() / 100).clamp(LOOK_AGAIN, LOOK_SELDOM);
        self.looked.map_or(Duration::ZERO, |looked| pause.saturating_sub(looked.elapsed()))
    }

    /// What there is to know about the process by now, if it is time to look; `None` also while no file that it has mapped
    /// names the library's symbol.
    pub(super) fn look(&mut self, pid: u32, set: ProbeSet, known: &mut Known) -> Option<Result<Discovery, Obstacle>> {
        if self.look_within() > Duration::ZERO {
            return None;
        }
        self.looked = Some(Instant::now());
        let look = std::mem::take(&mut self.whole) || known.may_have_library(pid);
        let answer = look.then(|| Discovery::of(pid, set, known));
        self.has_waited |= !matches!(answer, Some(Ok(_)));
        let is_loading = matches!(&answer, Some(Ok(it)) if it.libc.is_none()) && self.began.elapsed() < LOADING;
        answer.filter(|_| !is_loading)
    }
}

/// Which processes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// Those of whose command line one word has this as its last part: `pytest` is in `python -m pytest` and in
    /// `/usr/bin/pytest -q`.
    Name(String),
    /// Those of a container, by its id or the beginning of it, as in the name of their control group.
    Container(String),
}

impl Select {
    fn matches(&self, pid: u32) -> bool {
        match self {
            Self::Name(name) => {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                named(&command, name)
            }
            Self::Container(id) => {
                let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                contained(&groups, id)
            }
        }
    }
}

/// Whether a word of a command line, as the kernel has it, ends in this name.
fn named(command: &[u8], name: &str) -> bool {
    let words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    words.into_iter().any(|word| Path::new(&*word).file_name().is_some_and(|last| last == name))
}

/// Whether a control group, as `/proc/PID/cgroup` has it, is that of a container: a part of its path begins with the id,
/// perhaps behind the name of the engine (`docker-ID.scope`, `/docker/ID`, `cri-containerd-ID.scope`, `libpod-ID`).
fn contained(groups: &str, id: &str) -> bool {
    let parts = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| path.split('/'));
    parts.into_iter().any(|part| {
        let own = part.rsplit_once('-').map_or(part, |(_, own)| own);
        own.starts_with(id) || part.starts_with(id)
    })
}

/// Looks through the processes of the machine.
pub(super) struct Scan {
    select: Select,
    scanned: Option<Instant>,
    /// By id and start time.
    seen: HashSet<(u32, u64)>,
}

impl Scan {
    pub(super) fn new(select: Select) -> Self {
        Self { select, scanned: None, seen: HashSet::new() }
    }

    /// Those that are meant and were not there at the last look, if it is time to look. Never this process itself.
    pub(super) fn look(&mut self) -> Vec<Process> {
        if self.scanned.is_some_and(|scanned| scanned.elapsed() < SCAN_AGAIN) {
            return Vec::new();
        }
        self.scanned = Some(Instant::now());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let meant: Vec<u32> = pids.filter(|&pid| pid != std::process::id() && self.select.matches(pid)).collect();
        let meant: Vec<Process> = meant.into_iter().filter_map(|pid| Process::read(pid).ok()).collect();
        let before = std::mem::take(&mut self.seen);
        self.seen = meant.iter().map(|process| (process.pid, process.start)).collect();
        meant.into_iter().filter(|process| !before.contains(&(process.pid, process.start))).collect()
    }

    /// Takes a process that is another program now for one that was not there.
    pub(super) fn forget(&mut self, pid: u32) {
        self.seen.retain(|&(seen, _)| seen != pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_last_part_of_a_word() {
        for (command, matches) in [
            (&b"python\0-m\0pytest\0-q\0"[..], true),
            (b"/usr/bin/python3\0/opt/venv/bin/pytest\0", true),
            (b"pytest\0", true),
            (b"vim\0test_pytest.py\0", false),
            (b"/opt/pytest/python\0", false),
            (b"", false),
        ] {
            assert_eq!(named(command, "pytest"), matches, "{}", String::from_utf8_lossy(command));
        }
    }

    #[test]
    fn a_container_is_found_by_the_beginning_of_its_id() {
        let id = "4f5e6d7c8b9a";
        for (groups, matches) in [
            ("0::/system.slice/docker-4f5e6d7c8b9a0123.scope\n", true),
            ("12:memory:/docker/4f5e6d7c8b9a0123\n0::/\n", true),
            ("0::/kubepods.slice/kubepods-pod77.slice/cri-containerd-4f5e6d7c8b9a0123.scope\n", true),
            ("0::/user.slice/user-1000.slice\n", false),
            ("0::/system.slice/docker-04f5e6d7c8b9a012.scope\n", false),
        ] {
            assert_eq!(contained(groups, id), matches, "{groups}");
        }
    }
}
