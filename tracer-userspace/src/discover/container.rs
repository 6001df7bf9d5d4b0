// SPDX-License-Identifier: Apache-2.0
//! Processes in containers: which process of this machine it is that goes by another number inside.
//!
//! Only the innermost PID name space counts: its number for a process is the one that the process itself has for it.

use std::{fmt, fs, io, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

use super::process::command_line;
use crate::trace::escape;

/// The numbers of name spaces begin above all process ids (`PROC_DYNAMIC_FIRST` in the kernel's fs/proc/generic.c).
const FIRST_NAME_SPACE: u32 = 0xf000_0000;

/// Most processes that are named where one was meant.
const MOST_CANDIDATES: usize = 8;

/// A process as its container sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Its process id in there.
    pub pid: u32,
    /// Number of the container's PID name space.
    pub name_space: u64,
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of a container (PID name space {})", self.pid, self.name_space)
    }
}

impl Inside {
    /// What the container of a process knows it as; `None` if it is in none.
    ///
    /// # Errors
    /// If there is no such process, or if it is not ours to look at.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let status = fs::read(format!("/proc/{pid}/status"))?;
        let Some(inner) = innermost(&status) else { return Ok(None) };
        Ok(Some(Self { pid: inner, name_space: name_space(pid)? }))
    }
}

/// The process that a container has this number for. The container is told by its PID name space's number, or by the id on
/// this machine of any process in it.
///
/// # Errors
/// If there is no such container, or no such process in it; or none that is ours to look at.
pub fn find(inner: u32, container: u32) -> Result<u32> {
    let wanted = match container {
        FIRST_NAME_SPACE.. => u64::from(container),
        _ => name_space(container).with_context(|| format!("failed to find the container of process {container}"))?,
    };
    ensure!(Some(wanted) != name_space(std::process::id()).ok(), "process {container} is in no container");
    let (mut hidden, mut populated) = (0, false);
    for pid in processes()? {
        match Inside::of(pid) {
            Ok(Some(inside)) if inside.name_space == wanted => {
                populated = true;
                if inside.pid == inner {
                    return Ok(pid);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => hidden += 1,
            // Also one that has ended meanwhile.
            _ => {}
        }
    }
    match populated {
        true => bail!("PID name space {wanted} has no process {inner}"),
        false if hidden > 0 => {
            bail!("no process in PID name space {wanted} can be seen; CAP_SYS_PTRACE shows {hidden} more processes")
        }
        false => bail!("no process on this machine is in PID name space {wanted}"),
    }
}

/// The processes that go by this number in some container, in words; empty if there are none.
pub(super) fn candidates(inner: u32) -> String {
    let found = processes().unwrap_or_default().into_iter().filter_map(|pid| {
        let inside = Inside::of(pid).ok()??;
        (inside.pid == inner).then_some((pid, inside))
    });
    let words = |(pid, inside)| {
        let command = command_line(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
        format!("; -p {pid} ({}) is {inside}", escape(&command))
    };
    found.take(MOST_CANDIDATES).map(words).collect()
}

/// Resolves what was asked for into a process id on this machine.
///
/// # Errors
/// As [`find`].
pub fn resolve(pid: u32, container: Option<u32>) -> Result<u32> {
    match container {
        Some(container) => find(pid, container).with_context(|| format!("failed to find process {pid} in a container")),
        None => Ok(pid),
    }
}

fn processes() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn name_space(pid: u32) -> io::Result<u64> {
    parse_link(&fs::read_link(format!("/proc/{pid}/ns/pid"))?).ok_or(io::ErrorKind::InvalidData.into())
}

fn parse_link(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// The last number of the line `NSpid:`, which has one for each PID name space from this one to the process's own.
fn innermost(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let numbers = std::str::from_utf8(lines.find_map(|line| line.strip_prefix(b"NSpid:"))?).ok()?;
    numbers.split_ascii_whitespace().skip(1).last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_that_of_the_container() {
        for (status, inner) in [
            ("Name:\tx\nNSpid:\t4711\t17\nNSsid:\t1\t1\n", Some(17)),
            ("NSpid:\t4711\t17\t3\n", Some(3)),
            ("NSpid:\t4711\n", None),
            ("NSpid:\t4711\tx\n", None),
            ("Name:\tNSpid: 1 2\n", None),
            ("", None),
        ] {
            assert_eq!(innermost(status.as_bytes()), inner, "{status}");
        }
    }

    #[test]
    fn name_spaces_are_told_by_their_numbers() {
        assert_eq!(parse_link(Path::new("pid:[4026532178]")), Some(4_026_532_178));
        for link in ["pid:[]", "user:[4026531837]", "pid:[1", ""] {
            assert_eq!(parse_link(Path::new(link)), None, "{link}");
        }
    }

    #[test]
    fn a_container_that_is_none_is_refused() {
        let own = std::process::id();
        assert_eq!(find(1, own).expect_err("no container").to_string(), format!("process {own} is in no container"));
        let absent = find(1, u32::MAX).expect_err("no such name space").to_string();
        assert!(absent.contains("PID name space 4294967295"), "{absent}");
    }
}
