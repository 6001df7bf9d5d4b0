// SPDX-License-Identifier: Apache-2.0
//! What a process has taken: processor time and memory, while it runs or when it has ended.

use std::{
    fs, io,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::text;

/// `USER_HZ`, which is the same on all x86-64 kernels: ticks a second in `/proc/PID/stat`.
const TICKS: f64 = 100.0;
/// How long to wait before looking again whether a command has ended.
const PAUSE: Duration = Duration::from_millis(2);

/// Seconds of processor time that a process has had so far.
pub fn cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} has ended"))?;
    // The name before it may have spaces in it; the times are the 14th and the 15th field.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Ok(fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS)
}

/// Resident memory of a process that is mapped from no file, in bytes.
pub fn own_memory(pid: u32) -> Result<u64> {
    memory(pid, "RssAnon:")
}

/// Resident memory of a process in bytes, with what is mapped.
pub fn resident_memory(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, name: &str) -> Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} has ended"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB")?.trim().parse().ok());
    let kibibytes: u64 = line.with_context(|| format!("the kernel does not tell `{name}` of process {pid}"))?;
    Ok(kibibytes << 10)
}

/// What a command took from its start to its end, with what it started and waited for.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// By the clock, in seconds.
    pub seconds: f64,
    /// Processor time, in seconds.
    pub cpu: f64,
    /// The most resident memory at a time, in bytes.
    pub peak: u64,
}

impl Usage {
    /// Runs a command, without its output, and fails if it does, or takes longer than it may.
    pub fn of(command: &mut Command, limit: Duration) -> Result<Self> {
        let begin = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start `{}`", text(command)))?;
        let (status, usage) = loop {
            let ended = wait(child.id()).with_context(|| format!("failed to wait for `{}`", text(command)))?;
            if let Some(ended) = ended {
                break ended;
            }
            if begin.elapsed() > limit {
                child.kill()?;
                child.wait()?;
                bail!("it took longer than {} s", limit.as_secs());
            }
            sleep(PAUSE);
        };
        ensure!(status == 0, "`{}` ended with the status {status:#x}", text(command));
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        Ok(Self {
            seconds: begin.elapsed().as_secs_f64(),
            cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
            // In kibibytes on Linux.
            peak: (usage.ru_maxrss as u64) << 10,
        })
    }
}

/// Looks whether a child of ours has ended: its status as the kernel has it, and what it took.
fn wait(child: u32) -> io::Result<Option<(libc::c_int, libc::rusage)>> {
    let mut status = 0;
    // SAFETY: a `rusage` is made of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let child = libc::pid_t::try_from(child).map_err(io::Error::other)?;
    // SAFETY: both pointers are to variables that live as long as the call.
    match unsafe { libc::wait4(child, &raw mut status, libc::WNOHANG, &raw mut usage) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some((status, usage))),
    }
}
