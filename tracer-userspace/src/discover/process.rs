// SPDX-License-Identifier: Apache-2.0
//! The identity of a process, and its mapped files opened as the process itself has them.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt as _},
        },
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{
    container::{self, Inside},
    maps::{self, Mapping},
};

/// Most bytes of a command line that are read: a process can make its own as long as it likes.
const LONGEST_COMMAND: u64 = 1 << 16;

/// A process. `pid` and `start` together name it for as long as the machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id, as this process's own PID name space has it.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start: u64,
    /// Command line, words joined by a space; the kernel's short name if that is empty.
    pub command: String,
    /// Effective user.
    pub uid: u32,
    /// The program file, as the process sees it.
    pub program: PathBuf,
    /// What its container knows it as, if it is in one.
    pub inside: Option<Inside>,
}

impl Process {
    /// Reads what `/proc/PID` says.
    ///
    /// # Errors
    /// If there is no such process, or if it is not ours to look at.
    pub fn read(pid: u32) -> Result<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let stat = match fs::read(proc.join("stat")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("there is no process {pid}{}", container::candidates(pid))
            }
            stat => stat.with_context(|| format!("failed to look at process {pid}"))?,
        };
        let stat = parse_stat(&stat).with_context(|| format!("failed to understand /proc/{pid}/stat"))?;
        if stat.state == 'Z' {
            bail!("process {pid} has ended");
        }
        let command = command_line(&read_at_most(&proc.join("cmdline"), LONGEST_COMMAND).unwrap_or_default());
        let uid = fs::metadata(&proc).with_context(|| format!("failed to look at process {pid}"))?.uid();
        let failed = |error: io::Error| {
            match error.kind() {
            io::ErrorKind::NotFound => anyhow!("process {pid} has ended, or is a part of the kernel"),
            _ => anyhow!(error).context(format!(
                "failed to look at process {pid} of user {uid}: another user's, or a protected one, takes CAP_SYS_PTRACE"
            )),
        }
        };
        Ok(Self {
            pid,
            start: stat.start,
            command: if command.is_empty() { stat.name } else { command },
            uid,
            program: match (fs::read_link(proc.join("exe")).map_err(failed)?, maps::changed_root(pid)) {
                (program, Some(root)) => maps::below(&root, &program),
                (program, None) => program,
            },
            inside: Inside::of(pid).map_err(failed)?,
        })
    }

    /// Whether this very process still runs, not another one of the same number.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let stat = fs::read(format!("/proc/{}/stat", self.pid)).ok();
        stat.and_then(|stat| parse_stat(&stat)).is_some_and(|stat| stat.start == self.start && stat.state != 'Z')
    }
}

/// How a file was found to be the one that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Device and inode are those of the mapping.
    Inode,
    /// Only the inode is: a layered file system (overlayfs) shows one device to `stat` and another to the mapping.
    InodeOnly,
    /// The kernel's own link to the mapped file was followed, so it can be no other.
    Link,
}

/// A mapped file, open: it stays readable after the process has ended, and when the path leads elsewhere.
#[derive(Debug)]
pub struct MappedFile {
    /// The open file.
    pub file: File,
    /// How it is known to be the right one.
    pub verified: Verified,
}

impl MappedFile {
    /// Opens the file behind a mapping: by its path below the process's root, else by the kernel's link.
    ///
    /// # Errors
    /// If neither leads to the mapped file; says which capability would help.
    pub fn open(pid: u32, mapping: &Mapping) -> Result<Self> {
        let by_path = open_by_path(pid, mapping);
        if let Ok(Some((file, verified))) = by_path {
            return Ok(Self { file, verified });
        }
        let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
        match File::open(&link) {
            Ok(file) => Ok(Self { file, verified: Verified::Link }),
            Err(by_link) => {
                let path = mapping.path.display();
                let by_path = by_path.map_or_else(|error| with_remedy(&error), |_| "is another file by now".into());
                let by_link = with_remedy(&by_link);
                bail!("failed to open {path} as process {pid} has it: the path: {by_path}; {link}: {by_link}")
            }
        }
    }

    /// A path that leads this process, and the kernel on its behalf, to the open file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// The kernel refuses to follow its link by `EPERM`, and to open the file, whichever way, by `EACCES`.
fn with_remedy(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => format!("{error}, which takes CAP_CHECKPOINT_RESTORE"),
        Some(libc::EACCES) => format!("{error}, which takes CAP_DAC_READ_SEARCH"),
        _ => error.to_string(),
    }
}

/// `None` if the path leads to another file than the mapped one.
fn open_by_path(pid: u32, mapping: &Mapping) -> io::Result<Option<(File, Verified)>> {
    let below = mapping.path.strip_prefix("/").unwrap_or(&mapping.path);
    // Only looked at until it is known to be a file: opening a pipe waits, and opening a device may do anything.
    let path = Path::new(&format!("/proc/{pid}/root")).join(below);
    let found = File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
    let metadata = found.metadata()?;
    if metadata.ino() != mapping.inode || !metadata.is_file() {
        return Ok(None);
    }
    let device = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    Ok(match device == mapping.device {
        true => Some((file, Verified::Inode)),
        false if mapping.deleted => None,
        false => Some((file, Verified::InodeOnly)),
    })
}

struct Stat {
    name: String,
    state: char,
    start: u64,
}

/// When the process of this number began, in ticks since boot; `None` if there is none.
#[must_use]
pub fn start(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat).map(|stat| stat.start)
}

/// The name, in parentheses, may hold parentheses and spaces itself: the last one closes it.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let name = text.get(open + 1..close)?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    Some(Stat {
        name: String::from_utf8_lossy(name).into_owned(),
        state: fields.next()?.chars().next()?,
        // Field 22 of proc_pid_stat(5); the state was field 3.
        start: fields.nth(22 - 4)?.parse().ok()?,
    })
}

fn read_at_most(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut begin = Vec::new();
    File::open(path)?.take(bytes).read_to_end(&mut begin)?;
    Ok(begin)
}

pub(super) fn command_line(words: &[u8]) -> String {
    let words = words.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| OsStr::from_bytes(word).to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21\n";

    #[test]
    fn the_start_time_is_found_whatever_the_name() {
        for name in ["python3", "a b", "odd) S 1 (", "((", ""] {
            let stat = parse_stat(format!("77 ({name}) {TAIL}").as_bytes()).expect("a stat line");
            assert_eq!((stat.name.as_str(), stat.start), (name, 987_654));
        }
    }

    #[test]
    fn a_cut_stat_line_is_no_stat() {
        for text in
            ["", "77 (x", "77 (x)", "77 (x) S 1 2", ")(", "77 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"]
        {
            assert!(parse_stat(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn this_process_is_alive_and_its_program_opens_as_mapped() {
        let process = Process::read(std::process::id()).expect("own process");
        assert!(process.is_alive());
        let maps = maps::read(process.pid).expect("own maps");
        let own = maps.iter().find(|mapping| mapping.path == process.program).expect("the test binary");
        let file = MappedFile::open(process.pid, own).expect("the test binary");
        assert_eq!(fs::metadata(file.path()).expect("through the descriptor").ino(), own.inode);
    }

    #[test]
    fn a_replaced_file_is_not_taken_for_the_mapped_one() {
        let process = Process::read(std::process::id()).expect("own process");
        let maps = maps::read(process.pid).expect("own maps");
        let own = maps.iter().find(|mapping| mapping.path == process.program).expect("the test binary");
        let other = Mapping { inode: own.inode + 1, ..own.clone() };
        assert!(open_by_path(process.pid, &other).expect("the path is there").is_none());
    }
}
