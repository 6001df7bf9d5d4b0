// SPDX-License-Identifier: Apache-2.0
//! The commands that look at live processes: `record` and `doctor`.

use std::{
    io::{IsTerminal as _, Write},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Result, bail};
use signal_hook::low_level::signal_name;

use super::{
    Status,
    args::{Doctor, Record},
};
use crate::{
    capture::{
        kernel,
        search::Select,
        session::{self, Ending, Figures, Options, Progress, Reason, Started, Summary, Target},
        stacks::Compared,
    },
    discover::container,
    doctor::{self, Check, Outcome},
    trace::{escape, escape_json},
    view::{bytes, count},
};

/// What Ctrl-C is where there is a command, to which the terminal sends it as well.
const INTERRUPTS: &str = "Ctrl-C is for the command, a second one stops the recording";

pub(super) fn record(args: Record) -> Result<Status> {
    check_machine()?;
    let pids = args.pid.iter().map(|&pid| container::resolve(pid, args.inside)).collect::<Result<Vec<_>>>()?;
    let follow = args.follow_forks || !args.command.is_empty() && !args.no_follow_forks;
    let output = match pids[..] {
        [pid] => PathBuf::from(format!("buftrace-{pid}.ttb")),
        _ => PathBuf::from("buftrace.ttb"),
    };
    let output = args.output.unwrap_or(output);
    let target = match (args.name.map(Select::Name), args.container.map(Select::Container)) {
        (Some(select), _) | (_, Some(select)) => Target::Selected(select),
        _ if pids.is_empty() => Target::Command(args.command),
        _ => Target::Pids(pids),
    };
    let kernel = kernel::Options { ring_bytes: args.ring, verbose: args.verbose_kernel, remember: !args.forget_rows };
    let probes = args.probes.into();
    let (max_size, copies) = (args.max_size, args.stack_copy);
    let options = Options { target, output, max_size, probes, follow, kernel, copies, epilogue: true };
    let mut line = ProgressLine::new(args.quiet, &options.target);
    let ending = session::record(&options, &mut |progress| line.tell(&progress));
    line.clear();
    let ending = ending?;
    if ending.summary.is_none() || !args.quiet {
        summarize(&ending, Some(&options.output));
    }
    Ok(status(&ending))
}

/// That nothing was recorded is a problem: who asked for a trace has none.
pub(super) fn status(ending: &Ending) -> Status {
    if ending.summary.is_some() { Status::Done } else { Status::Problems }
}

/// Refuses a machine on which nothing can be recorded.
pub(super) fn check_machine() -> Result<()> {
    let missing: Vec<String> = failed(&doctor::machine()).map(ToString::to_string).collect();
    if !missing.is_empty() {
        bail!("tracing is not possible here:\n{}", missing.join("\n"));
    }
    Ok(())
}

/// What is said on stderr while a recording goes on, and the line that tells how it goes: rewritten in place on a terminal that
/// is ours alone, left out elsewhere.
struct ProgressLine {
    quiet: bool,
    /// Whether there is a command that we started. It has our terminal, and gets its Ctrl-C.
    command: bool,
    moving: bool,
}

impl ProgressLine {
    fn new(quiet: bool, target: &Target) -> Self {
        let command = matches!(target, Target::Command(_));
        Self { quiet, command, moving: !quiet && !command && std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, progress: &Progress) {
        match progress {
            Progress::Problem(problem) => {
                self.clear();
                say!("warning: {}\n", escape(problem));
            }
            _ if self.quiet => {}
            Progress::Selecting(Select::Name(name)) => {
                say!("waiting: for processes named {} that load TT-Metal; Ctrl-C stops\n", escape(name));
            }
            Progress::Selecting(Select::Container(id)) => {
                say!("waiting: for processes of container {} that load TT-Metal; Ctrl-C stops\n", escape(id));
            }
            Progress::Waiting(process) => say!(
                "waiting: process {} ({}) has not loaded TT-Metal yet; {}\n",
                process.pid,
                escape(&process.command),
                if self.command { INTERRUPTS } else { "Ctrl-C stops waiting" },
            ),
            Progress::Attached(discovery) => {
                self.clear();
                say!(
                    "recording process {} ({}): {} probes in {}; {}\n",
                    discovery.process.pid,
                    escape(&discovery.process.command),
                    discovery.sites.iter().filter(|site| site.offset.is_ok()).count(),
                    escape(&discovery.library().mapping.path.to_string_lossy()),
                    if self.command { INTERRUPTS } else { "Ctrl-C stops the recording, not the process" },
                );
            }
            Progress::Interrupted => {
                say!(
                    "the command has got Ctrl-C, too, and is recorded until it ends; a second one stops the recording\n"
                );
            }
            Progress::Tick(figures) if self.moving => {
                let Figures { seconds, events, rate, live_bytes, lost } = *figures;
                say!(
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
        if self.moving {
            say!("\r\x1b[K");
        }
    }
}

/// How a recording ended.
pub(super) fn how_it_ended(ending: &Ending) -> String {
    let several = ending.summary.as_ref().is_some_and(|summary| summary.processes > 1);
    match (ending.reason, ending.command) {
        (Reason::Exited, Some(Started::Ended(status))) if !status.success() => how_the_command_ended(status),
        (Reason::Exited, _) if several => "the processes ended".to_owned(),
        (Reason::Exited, _) => "the process ended".to_owned(),
        (Reason::Interrupted, _) => "stopped".to_owned(),
        (Reason::Executed, _) => "the process executes another program".to_owned(),
        (Reason::Failed, _) => "it failed".to_owned(),
    }
}

/// How a command ended that did not succeed.
fn how_the_command_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command exited with {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("the command was killed by {name}"),
            None => format!("the command was killed by signal {signal}"),
        },
        (None, None) => "the command ended".to_owned(),
    }
}

pub(super) fn summarize(ending: &Ending, output: Option<&Path>) {
    let why = how_it_ended(ending);
    match &ending.summary {
        None => say!("nothing was recorded: {why} before TT-Metal was loaded, or too soon after that for its probes\n"),
        Some(summary) => show(&why, summary),
    }
    if let Some(Started::GoesOn(pid)) = ending.command {
        say!("the command goes on, unrecorded, as process {pid}\n");
    }
    if let Some(output) = output.filter(|_| ending.summary.is_some()) {
        say!("next: tt-buftrace report {}\n", escape(&output.to_string_lossy()));
    }
}

fn show(why: &str, summary: &Summary) {
    let tally = &summary.tally;
    say!(
        "{why} after {:.1} s: {} ({}, {}), {} lost, {} written\n",
        summary.seconds,
        count(tally.events, "event"),
        count(tally.allocated, "allocation"),
        count(tally.freed, "free"),
        summary.lost,
        bytes(summary.bytes),
    );
    if summary.dropped > 0 {
        say!("{} events were taken out of the trace again, so that it stays below --max-size\n", summary.dropped);
    }
    let (incomplete, stacks) = tally.incomplete();
    if incomplete > 0 {
        say!("{incomplete} of {stacks} stacks do not reach their outermost function; `report` says why\n");
    }
    if summary.compared.stacks > 0 {
        let Compared { stacks, different } = summary.compared;
        say!("{stacks} stacks were walked in both ways, {different} of them came out different\n");
    }
    if !summary.adds_up {
        say!("warning: sent events are not the sum of kept and lost ones; please report this\n");
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
