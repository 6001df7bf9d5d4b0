// SPDX-License-Identifier: Apache-2.0
//! What can be said on the command line. Nothing else knows clap.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

use clap::{
    ArgGroup, Args as ClapArgs, Parser, Subcommand, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser as _},
};

use super::profile::ProfileOptions;
use super::scope::{By, ExcessBy, Scope, Sort, parse_excess_verdict, parse_verdict};
use crate::{
    analysis::{Cause, Query, Rule},
    discover::symbols::ProbeSet,
    model::Verdict,
    view::{Frames, StackChoice},
};

/// Follows the device buffers of a running TT-Metal process, and says what happened to each.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Attach to a running process, or start a command, and write a trace
    Record(Record),
    /// Show what happens while it happens: of a process, which is recorded, or of a trace that is written
    Live(Live),
    /// Say what tracing needs and does not have, for this machine and for a process
    Doctor(Doctor),
    /// Make a trace of an allocation server's log, or of ttnn's graph captures
    Import(Import),
    /// Totals, verdicts, the balance of each address, and the same by test
    Report(Report),
    /// Everything that happened to a device, an address or a buffer
    Timeline(Timeline),
    /// Where buffers are freed too often: this free, the free before it, the allocation
    Excess(Excess),
    /// What was not freed: leak candidates by site, test, device or type, with their age
    Held(Held),
    /// What another run changed, e.g. the one with a fix: what appeared, and what vanished
    Diff(Diff),
    /// Whether a run keeps rules, for continuous integration: the exit code is 1 if it does not
    Check(Check),
    /// Write a format that other tools read
    Export(Export),
    /// What a verdict means, what usually causes it, and where to look; the same of a cause
    Explain(Explain),
    /// A copy of a trace without the names of hosts, folders, files, functions and tests that are nobody else's
    Redact(Redact),
    /// Every record and event as a line of text
    Dump(Dump),
    /// Man pages and shell completions, for packages and for ~/.local
    Generate(Generate),
}

#[derive(Debug, ClapArgs)]
#[command(group(ArgGroup::new("target").args(["pid", "name", "container", "command"]).required(true)))]
pub(super) struct Record {
    /// Process to attach to; it is not stopped, and goes on when the recording ends. May be given more than once
    #[arg(short, long, value_parser = parse_pid)]
    pub(super) pid: Vec<u32>,
    /// PID is that of a container, which is told by any of its processes as this machine has them (docker inspect -f
    /// '{{.State.Pid}}'), or by the number that `readlink /proc/self/ns/pid` prints inside
    #[arg(long = "in", value_name = "CONTAINER", requires = "pid")]
    pub(super) inside: Option<u32>,
    /// Attach to processes of this name as they come, until Ctrl-C: a word of their command line ends in it, e.g. pytest
    #[arg(short = 'n', long = "wait", value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Attach to processes of this container as they come, until Ctrl-C: by its id, or the beginning of it
    #[arg(long, value_name = "ID", value_parser = parse_container)]
    pub(super) container: Option<String>,
    /// Record the children that processes make, too [default for a command]
    #[arg(long, overrides_with = "no_follow_forks")]
    pub(super) follow_forks: bool,
    /// Leave out the children that processes make [default for --pid, --wait and --container]
    #[arg(long)]
    pub(super) no_follow_forks: bool,
    /// Trace file [default: buftrace-PID.ttb for one --pid, else buftrace.ttb]
    #[arg(short, long, value_name = "TRACE")]
    pub(super) output: Option<PathBuf>,
    /// Keep the trace below this size, e.g. 500M or 2G: when it has half of that, events of buffers that are gone by then are
    /// taken out of its older part, and counted as lost
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) max_size: Option<u64>,
    /// What is probed
    #[arg(long, value_name = "SET", default_value = "owners")]
    pub(super) probes: Probes,
    /// Copy each stack as well, walk it by the whole .eh_frame, and say whether both ways agree; costs the target more
    #[arg(long)]
    pub(super) stack_copy: bool,
    /// Look up every row of the unwind tables anew: for measuring what remembering them is worth
    #[arg(long, hide = true)]
    pub(super) forget_rows: bool,
    /// Size of the ring buffer between kernel and recorder, in MiB: a power of two
    #[arg(long, value_name = "MIB", default_value = "32", value_parser = parse_ring)]
    pub(super) ring: u32,
    /// Print what the kernel side logs
    #[arg(long)]
    pub(super) verbose_kernel: bool,
    /// Print neither progress nor summary
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Command to start and record
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, ClapArgs)]
#[command(group(ArgGroup::new("source").args(["pid", "trace"]).required(true)))]
pub(super) struct Live {
    /// Trace that is still written, e.g. by `record`, or that is finished
    #[arg(value_name = "TRACE")]
    pub(super) trace: Option<PathBuf>,
    /// Process to record and show; it is not stopped, and goes on when the view ends. May be given more than once
    #[arg(short, long, conflicts_with = "trace", value_parser = parse_pid)]
    pub(super) pid: Vec<u32>,
    /// PID is that of a container: see `record`
    #[arg(long = "in", value_name = "CONTAINER", requires = "pid")]
    pub(super) inside: Option<u32>,
    /// Record the children that the process makes, too
    #[arg(long, requires = "pid")]
    pub(super) follow_forks: bool,
    /// Keep the trace in this file; else it is gone with the view
    #[arg(short, long, value_name = "TRACE", requires = "pid")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Doctor {
    /// Look at this process too
    #[arg(short, long, value_parser = parse_pid)]
    pub(super) pid: Option<u32>,
    /// PID is that of a container: see `record`
    #[arg(long = "in", value_name = "CONTAINER", requires = "pid")]
    pub(super) container: Option<u32>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Import {
    /// Logs of an allocation server and graph captures in JSON; each is a source of its own
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Trace file
    #[arg(short, long, value_name = "TRACE")]
    pub(super) output: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Report {
    #[command(flatten)]
    pub(super) traces: Traces,
    #[command(flatten)]
    pub(super) scope: Scope,
    /// Most rows of the tables of addresses and of peaks
    #[arg(long, value_name = "N", default_value = "10")]
    pub(super) top: usize,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(group(ArgGroup::new("query").args(["device", "address", "buffer", "type", "test", "site", "verdict"])
    .required(true).multiple(true)))]
pub(super) struct Timeline {
    #[command(flatten)]
    pub(super) traces: Traces,
    /// Device address, in decimal or as 0x…
    #[arg(long, value_parser = parse_address)]
    address: Option<u64>,
    /// Unique id of a buffer
    #[arg(long)]
    buffer: Option<u64>,
    #[command(flatten)]
    pub(super) scope: Scope,
    /// Verdicts, joined by commas
    #[arg(long, value_name = "VERDICT", value_delimiter = ',', value_parser = parse_verdict)]
    pub(super) verdict: Vec<Verdict>,
    /// Show the stack of each step
    #[arg(long)]
    stacks: bool,
    #[command(flatten)]
    frames: StackLength,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Excess {
    #[command(flatten)]
    pub(super) traces: Traces,
    #[command(flatten)]
    pub(super) scope: Scope,
    /// Verdicts, joined by commas
    #[arg(long, value_name = "VERDICT", value_delimiter = ',', value_parser = parse_excess_verdict)]
    pub(super) verdict: Vec<Verdict>,
    /// What comes first
    #[arg(long, value_name = "ORDER", default_value = "count")]
    pub(super) sort: Sort,
    /// What frees are grouped by
    #[arg(long, default_value = "site")]
    pub(super) by: ExcessBy,
    /// Most sites that are shown of each kind, or most groups
    #[arg(long, value_name = "N")]
    pub(super) top: Option<usize>,
    #[command(flatten)]
    pub(super) frames: StackLength,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Held {
    #[command(flatten)]
    pub(super) traces: Traces,
    #[command(flatten)]
    pub(super) scope: Scope,
    /// What buffers are grouped by
    #[arg(long, default_value = "site")]
    pub(super) by: By,
    /// What comes first
    #[arg(long, value_name = "ORDER", default_value = "bytes")]
    pub(super) sort: Sort,
    /// Most groups that are shown
    #[arg(long, value_name = "N", default_value = "20")]
    pub(super) top: usize,
    #[command(flatten)]
    pub(super) frames: StackLength,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Diff {
    /// Trace of the earlier run; several are joined by commas
    #[arg(value_name = "BEFORE", value_parser = OsStringValueParser::new().map(Side::from))]
    pub(super) before: Side,
    /// Trace of the later run; several are joined by commas
    #[arg(value_name = "AFTER", value_parser = OsStringValueParser::new().map(Side::from))]
    pub(super) after: Side,
    #[command(flatten)]
    pub(super) scope: Scope,
    /// Most rows of each table
    #[arg(long, value_name = "N", default_value = "10")]
    pub(super) top: usize,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(group(ArgGroup::new("asked").args(["fail_on", "expect", "write_baseline"]).required(true).multiple(true)))]
pub(super) struct Check {
    #[command(flatten)]
    pub(super) traces: Traces,
    /// Rules, joined by commas: SUBJECT, SUBJECT>N, or SUBJECT/test>N for each test by itself; SUBJECT? counts what is only
    /// possible, too. A subject is a verdict (see `explain`), excess (with red), red, yellow, lost (events) or damaged
    /// (traces)
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = Rule::parse)]
    pub(super) fail_on: Vec<Rule>,
    /// File of what each buffer is expected to do: [[expect]] with name, test, site, type, ledger (server or allocator),
    /// allocations, frees
    #[arg(long, value_name = "FILE")]
    pub(super) expect: Option<PathBuf>,
    /// What is known already and does not count: an earlier trace, or a file of --write-baseline
    #[arg(long, value_name = "FILE")]
    pub(super) baseline: Option<PathBuf>,
    /// Write what is found to a file for --baseline
    #[arg(long, value_name = "FILE")]
    pub(super) write_baseline: Option<PathBuf>,
    /// File of what does not count: [[suppress]] with site, verdict, test, reason, expires
    #[arg(long, value_name = "FILE")]
    pub(super) suppress: Option<PathBuf>,
    /// Fail also on what is only possible, and if events were lost
    #[arg(long)]
    pub(super) strict: bool,
    #[command(flatten)]
    pub(super) scope: Scope,
    /// Write the outcome as JUnit XML too
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Export {
    #[command(flatten)]
    pub(super) traces: Traces,
    /// What is written
    #[arg(long, value_name = "FORMAT")]
    pub(super) to: Format,
    /// File [default: standard output]; of parquet and visualizer a folder, which is new, empty or of an earlier export
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// In csv and jsonl, the functions of each stack too
    #[arg(long)]
    pub(super) stacks: bool,
    #[command(flatten)]
    pub(super) profile: ProfileOptions,
    #[command(flatten)]
    pub(super) scope: Scope,
}

/// Formats of other tools.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// A page for a browser, whole in one file: memory over time, flame graphs, and the tables of report, excess and held
    Html,
    /// A line a stack and how much it is, for flame-graph tools; with --against two numbers, before and after
    Folded,
    /// A flame graph that any browser opens; with --against what became more is red, what became less blue
    Svg,
    /// JSON for speedscope, with all measures
    Speedscope,
    /// For pprof and what reads its format, with all measures, and test, device, type and process as labels
    Pprof,
    /// For the Perfetto UI and its trace processor: lives, bytes and excess frees over time
    Perfetto,
    /// A row for each allocation, free and end, for pandas and spreadsheets
    Csv,
    /// The same as a JSON object a line, for jq
    Jsonl,
    /// Tables of all that is in the traces, by host and process, for DuckDB, Spark and pyarrow
    Parquet,
    /// A report of ttnn-visualizer: what was live after each operation
    Visualizer,
}

impl Format {
    /// Whether it is a folder of files.
    pub(super) fn is_folder(self) -> bool {
        matches!(self, Self::Parquet | Self::Visualizer)
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct Explain {
    /// The verdict or cause; without one, all are listed
    #[arg(value_name = "NAME", value_parser = parse_topic)]
    pub(super) topic: Option<Topic>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What can be explained.
#[derive(Clone, Copy, Debug)]
pub(super) enum Topic {
    Verdict(Verdict),
    Cause(Cause),
}

#[derive(Debug, ClapArgs)]
pub(super) struct Redact {
    /// The trace
    #[arg(value_name = "TRACE")]
    pub(super) input: PathBuf,
    /// Trace file without the names
    #[arg(short, long, value_name = "TRACE")]
    pub(super) output: PathBuf,
    /// What the words that stand for names are made with: traces redacted with one key can be compared. Keep it as you keep
    /// the names: who has it can check a guess [default: a random one]
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Dump {
    #[command(flatten)]
    pub(super) traces: Traces,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Generate {
    /// Folder like /usr: its share/ gets man pages, and completions for bash, zsh and fish
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Traces {
    /// Traces; several are read as one, e.g. those of all ranks of a run
    #[arg(required = true, value_name = "TRACE")]
    pub(super) paths: Vec<PathBuf>,
}

/// How much of a stack is shown.
#[derive(Debug, ClapArgs)]
pub(super) struct StackLength {
    /// Lines shown of each stack: a number, without the Python interpreter's own functions, or all
    #[arg(long, default_value = "16", value_parser = parse_frames)]
    pub(super) frames: Frames,
}

/// The traces of one run.
#[derive(Clone, Debug)]
pub(super) struct Side(pub(super) Vec<PathBuf>);

impl From<OsString> for Side {
    fn from(text: OsString) -> Self {
        Self(text.as_bytes().split(|&byte| byte == b',').map(|path| OsStr::from_bytes(path).into()).collect())
    }
}

impl Export {
    /// All files that are read.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &PathBuf> {
        self.traces.paths.iter().chain(self.profile.against.iter().flat_map(|side| &side.0))
    }
}

impl Timeline {
    pub(super) fn query(&self) -> Query {
        Query { address: self.address, buffer: self.buffer }
    }

    pub(super) fn stack_choice(&self) -> StackChoice {
        if self.stacks { StackChoice::Show(self.frames.frames) } else { StackChoice::Hide }
    }
}

/// What is probed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Probes {
    /// Allocations and frees of buffers that own their memory
    Owners,
    /// Also the creation of buffers over memory of others, which every mesh buffer has one of for each chip
    Full,
}

impl From<Probes> for ProbeSet {
    fn from(probes: Probes) -> Self {
        match probes {
            Probes::Owners => Self::Owners,
            Probes::Full => Self::Full,
        }
    }
}

fn parse_pid(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "a process is told by its number, as `ps` shows it (`record --wait` takes a name)".to_owned())
}

/// An id is long enough to be one container's.
fn parse_container(text: &str) -> Result<String, String> {
    match text.len() >= 4 {
        true => Ok(text.to_owned()),
        false => Err("an id, or at least its first four characters".to_owned()),
    }
}

/// The kernel takes powers of two of at least a page; 1 GiB is the most that its 32-bit size allows.
fn parse_ring(text: &str) -> Result<u32, String> {
    let mebibytes: Option<u32> = text.parse().ok().filter(|size: &u32| size.is_power_of_two() && *size <= 1024);
    mebibytes.map(|size| size << 20).ok_or_else(|| "a power of two from 1 to 1024".to_owned())
}

fn parse_topic(text: &str) -> Result<Topic, String> {
    let causes = || Cause::ALL.map(Cause::name).join(", ");
    let verdict = parse_verdict(text).map(Topic::Verdict);
    verdict.or_else(|verdicts| {
        Cause::from_name(text).map(Topic::Cause).ok_or_else(|| format!("{verdicts}; the causes are {}", causes()))
    })
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G']) {
        Some(digits) if text.ends_with(['k', 'K']) => (digits, 10),
        Some(digits) if text.ends_with(['m', 'M']) => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|&bytes| bytes >= 1 << 20).ok_or_else(|| "a size of at least 1M, e.g. 500M or 2G".to_owned())
}

fn parse_address(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "an address is a number, in decimal or as 0x…".to_owned())
}

fn parse_frames(text: &str) -> Result<Frames, String> {
    if text == "all" {
        return Ok(Frames::All);
    }
    text.parse().map(Frames::First).map_err(|_| "a number of lines, or all".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn addresses_are_understood() {
        assert_eq!((parse_address("0x100400"), parse_address("1049600")), (Ok(1_049_600), Ok(1_049_600)));
        assert!(parse_address("100400h").is_err());
    }
}
