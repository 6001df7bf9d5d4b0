// SPDX-License-Identifier: Apache-2.0
//! The commands that look at live processes: `record` and `doctor`.

use std::{
    io::{IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Status,
    args::{Doctor, Record},
};
use crate::{
    capture::{
        kernel,
        search::Select,
        session::{self, Figures, Options, Progress, Reason, Summary, Target},
        stacks::Compared,
    },
    discover::container,
    doctor::{self, Check, Outcome},
    trace::{escape, escape_json},
    view::bytes,
};

pub(super) fn record(args: Record) -> Result<Status> {
    check_machine()?;
    let pids = args.pid.iter().map(|&pid| container::resolve(pid, args.inside)).collect::<Result<Vec<_>>>()?;
    let follow = args.follow_forks || !args.command.is_empty() && !args.no_follow_forks;
    let (output, of_process) = match pids[..] {
        [pid] => (PathBuf::from(format!("buftrace-{pid}.ttb")), format!(" -p {pid}")),
        _ => (PathBuf::from("buftrace.ttb"), String::new()),
    };
    let output = args.output.unwrap_or(output);
    let target = match (args.name.map(Select::Name), args.container.map(Select::Container)) {
        (Some(select), _) | (_, Some(select)) => Target::Selected(select),
        _ if pids.is_empty() => Target::Command(args.command),
        _ => Target::Pids(pids),
    };
    let kernel = kernel::Options { ring_bytes: args.ring, verbose: args.verbose_kernel, remember: !args.forget_rows };
    let probes = args.probes.into();
    let options = Options { target, output, max_size: args.max_size, probes, follow, kernel, copies: args.stack_copy };
    let mut line = ProgressLine::new(args.quiet);
    let summary = session::record(&options, &mut |progress| line.tell(&progress))
        .with_context(|| format!("failed to record (`tt-buftrace doctor{of_process}` says more)"))?;
    line.clear();
    match summary {
        None => eprintln!(
            "nothing was recorded: the process ended, or the recording was stopped, before TT-Metal was loaded"
        ),
        Some(_) if args.quiet => {}
        Some(summary) => summarize(&summary, Some(&options.output)),
    }
    Ok(Status::Done)
}

/// Refuses a machine on which nothing can be recorded.
pub(super) fn check_machine() -> Result<()> {
    let missing: Vec<String> = failed(&doctor::machine()).map(ToString::to_string).collect();
    if !missing.is_empty() {
        bail!("tracing is not possible here:\n{}", missing.join("\n"));
    }
    Ok(())
}

/// The line on stderr that tells how the recording goes: rewritten in place on a terminal, left out elsewhere.
struct ProgressLine {
    quiet: bool,
    terminal: bool,
}

impl ProgressLine {
    fn new(quiet: bool) -> Self {
        Self { quiet, terminal: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, progress: &Progress) {
        match progress {
            Progress::Problem(problem) => {
                self.clear();
                eprintln!("warning: {}", escape(problem));
            }
            _ if self.quiet => {}
            Progress::Waiting(process) => eprintln!(
                "waiting: process {} ({}) has not loaded TT-Metal yet; Ctrl-C stops waiting",
                process.pid,
                escape(&process.command)
            ),
            Progress::Attached(discovery) => {
                eprintln!(
                    "recording process {} ({}): {} probes in {}; Ctrl-C stops the recording, not the process",
                    discovery.process.pid,
                    escape(&discovery.process.command),
                    discovery.sites.iter().filter(|site| site.offset.is_ok()).count(),
                    escape(&discovery.library().mapping.path.to_string_lossy()),
                );
            }
            Progress::Tick(figures) if self.terminal => {
                let Figures { seconds, events, rate, live_bytes, lost } = *figures;
                eprint!(
                    "\r\x1b[K{seconds:.0} s  {} events  {}/s  {} live  {} lost",
                    events,
                    rate,
                    bytes(live_bytes),
                    lost
                );
            }
            Progress::Tick(_) => {}
        }
    }

    fn clear(&self) {
        if self.terminal && !self.quiet {
            eprint!("\r\x1b[K");
        }
    }
}

/// How a recording ended.
pub(super) fn how_it_ended(summary: &Summary) -> &'static str {
    match summary.reason {
        Reason::Exited if summary.processes > 1 => "the processes ended",
        Reason::Exited => "the process ended",
        Reason::Interrupted => "stopped",
        Reason::Executed => "the process executes another program",
    }
}

pub(super) fn summarize(summary: &Summary, output: Option<&Path>) {
    let why = how_it_ended(summary);
    let tally = &summary.tally;
    eprintln!(
        "{why} after {:.1} s: {} events ({} allocations, {} frees), {} lost, {} written",
        summary.seconds,
        tally.events,
        tally.allocated,
        tally.freed,
        summary.lost,
        bytes(summary.bytes),
    );
    if summary.dropped > 0 {
        eprintln!("{} events were taken out of the trace again, so that it stays below --max-size", summary.dropped);
    }
    let (incomplete, stacks) = tally.incomplete();
    if incomplete > 0 {
        eprintln!("{incomplete} of {stacks} stacks do not reach their outermost function; `report` says why");
    }
    if summary.compared.stacks > 0 {
        let Compared { stacks, different } = summary.compared;
        eprintln!("{stacks} stacks were walked in both ways, {different} of them came out different");
    }
    if !summary.adds_up {
        eprintln!("warning: sent events are not the sum of kept and lost ones; please report this");
    }
    if let Some(output) = output {
        eprintln!("next: tt-buftrace report {}", escape(&output.to_string_lossy()));
    }
}

pub(super) fn doctor(args: &Doctor, out: &mut impl Write) -> Result<Status> {
    let mut checks = doctor::machine();
    // What is known to be missing would only fail again.
    if failed(&checks).next().is_none() {
        checks.push(doctor::probing());
    }
    let pid = args.pid.map(|pid| container::resolve(pid, args.container)).transpose()?;
    checks.extend(pid.map(doctor::target).unwrap_or_default());
    if args.json {
        writeln!(out, "{}", escape_json(&serde_json::to_string_pretty(&checks)?))?;
    } else {
        for check in &checks {
            writeln!(out, "{check}")?;
        }
    }
    Ok(if failed(&checks).next().is_some() { Status::Problems } else { Status::Done })
}

fn failed(checks: &[Check]) -> impl Iterator<Item = &Check> {
    checks.iter().filter(|check| check.outcome == Outcome::Fail)
}
