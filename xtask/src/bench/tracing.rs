// SPDX-License-Identifier: Apache-2.0
//! Ways of tracing a target, from none at all to other tools' on the same sites.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;

use super::{
    driven::file,
    peers::Peer,
    perf::Perf,
    sites::{Site, Sites},
};
use crate::{command::run, recorder::Recorder};

/// A way of tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Not at all.
    Untraced,
    /// By a program that does nothing.
    Empty,
    /// By the recorder.
    Recorded,
    /// By the recorder, with stack copies.
    Copied,
    /// By bpftrace, which counts.
    BpftraceCount,
    /// By bpftrace, which counts by stack where the recorder takes one.
    BpftraceStacks,
    /// By perf, which copies the stack where the recorder takes one.
    PerfDwarf,
}

impl Way {
    /// All, from none to the most.
    pub(super) const ALL: [Self; 7] = [
        Self::Untraced,
        Self::Empty,
        Self::Recorded,
        Self::Copied,
        Self::BpftraceCount,
        Self::BpftraceStacks,
        Self::PerfDwarf,
    ];

    /// What it is called in tables.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::Empty => "empty program",
            Self::Recorded => "tt-buftrace record",
            Self::Copied => "tt-buftrace record --stack-copy",
            Self::BpftraceCount => "bpftrace: count()",
            Self::BpftraceStacks => "bpftrace: ustack",
            Self::PerfDwarf => "perf record --call-graph dwarf",
        }
    }

    /// The other tool that does it.
    #[must_use]
    pub(super) fn peer(self) -> Option<Peer> {
        match self {
            Self::BpftraceCount | Self::BpftraceStacks => Some(Peer::Bpftrace),
            Self::PerfDwarf => Some(Peer::Perf),
            _ => None,
        }
    }
}

/// A target that is being traced.
pub(super) enum Tracing {
    /// By nobody.
    None,
    /// By a program that does nothing, as long as this is there.
    Empty(Ebpf),
    /// By the recorder.
    Recorder(Recorder),
    /// By bpftrace.
    Bpftrace(Child),
    /// By perf.
    Perf(Perf),
}

impl Tracing {
    /// Attaches to a process, and returns when it is traced.
    pub(super) fn start(way: Way, pid: u32, sites: &Sites) -> Result<Self> {
        let record = |options: &[&str]| Recorder::attach(pid, &file("traced.ttb"), options).map(Self::Recorder);
        match way {
            Way::Untraced => Ok(Self::None),
            Way::Empty => sites.attach_empty(pid).map(Self::Empty),
            Way::Recorded => record(&[]),
            Way::Copied => record(&["--stack-copy"]),
            Way::BpftraceCount => bpftrace(pid, &bpftrace_program(sites, false)).map(Self::Bpftrace),
            Way::BpftraceStacks => bpftrace(pid, &bpftrace_program(sites, true)).map(Self::Bpftrace),
            Way::PerfDwarf => Perf::start(pid, sites, "/dev/null".as_ref()).map(Self::Perf),
        }
    }

    /// Detaches.
    pub(super) fn stop(self) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Empty(ebpf) => {
                drop(ebpf);
                Ok(())
            }
            Self::Recorder(recorder) => recorder.stop(),
            Self::Bpftrace(mut child) => {
                run(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
                let status = child.wait()?;
                ensure!(status.success(), "bpftrace ended with {status}");
                Ok(())
            }
            Self::Perf(perf) => perf.stop().map(drop),
        }
    }
}

/// A program for bpftrace that says when it is attached.
fn bpftrace_program(sites: &Sites, with_stacks: bool) -> String {
    let mut program = String::from("BEGIN { printf(\"ready\\n\"); }\n");
    for Site { symbol, has_stack, .. } in &sites.sites {
        let action = if with_stacks && *has_stack { "@stacks[ustack()] = count();" } else { "@hits = count();" };
        program.push_str(&format!("uprobe:{}:{symbol} {{ {action} }}\n", sites.library.display()));
    }
    program
}

fn bpftrace(pid: u32, program: &str) -> Result<Child> {
    let mut child = Command::new("bpftrace")
        .args(["-p", &pid.to_string(), "-e", program])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start bpftrace")?;
    let mut lines = BufReader::new(child.stdout.take().context("bpftrace has no output")?).lines();
    let is_ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
    std::thread::spawn(move || lines.for_each(drop));
    if !is_ready {
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("bpftrace did not attach: {}", said.lines().last().unwrap_or("it does not say why"));
    }
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpftrace_takes_stacks_where_the_recorder_does() {
        let site = |symbol: &str, has_stack| Site { symbol: symbol.into(), offset: 0, has_stack };
        let sites = Sites { library: "/lib.so".into(), sites: vec![site("_Zfree", true), site("_Zreleased", false)] };
        let program = bpftrace_program(&sites, true);
        assert!(program.contains("uprobe:/lib.so:_Zfree { @stacks[ustack()] = count(); }"), "{program}");
        assert!(program.contains("uprobe:/lib.so:_Zreleased { @hits = count(); }"), "{program}");
        assert!(!bpftrace_program(&sites, false).contains("ustack"));
    }
}
