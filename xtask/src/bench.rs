// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench stacks`: what a hit with its stack costs, as ratios within one run.
//!
//! The target frees one buffer again and again ([`FREES`]), so that each call hits one probe with a stack. Each way of
//! tracing is measured in turn, several times over, by the target's own clock and by the kernel's statistics of the
//! program; the medians count.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
    sys::{Stats, enable_stats},
};

use crate::{
    command::run,
    object::OBJECT,
    python,
    recorder::{Recorder, build_tool, counters},
    root,
};

/// The target's script.
const FREES: &str = "tests/lookalike/frees.py";
/// The probed function.
const SYMBOL: &str = "_ZN2tt8tt_metal6Buffer15deallocate_implEv";
/// How deep the target's calls are: some 60 native and 30 Python frames.
const DEPTHS: [&str; 2] = ["7", "22"];
/// Frees of one measurement.
const COUNT: u64 = 20_000;
/// Frees before it, in which the recorder loads its unwind tables.
const WARM_UP: u64 = 2_000;
const ROUNDS: usize = 5;
/// `BPF_PROG_TYPE_KPROBE` of the kernel's `uapi/linux/bpf.h`: what uprobe programs are.
const BPF_PROG_TYPE_KPROBE: u64 = 2;
/// How long the burst is, and how fast.
const BURST_SECONDS: u64 = 10;
const BURST_RATE: u64 = 50_000;

/// A way of tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Not at all.
    Untraced,
    /// By a program that does nothing.
    Empty,
    /// By the recorder.
    Recorded,
    /// By the recorder, which remembers no rows.
    Forgetful,
    /// By the recorder, with stack copies.
    Copied,
}

impl Way {
    const ALL: [Self; 5] = [Self::Untraced, Self::Empty, Self::Recorded, Self::Forgetful, Self::Copied];

    /// What it is called in the table, and the options of `tt-buftrace record` where that is what traces.
    fn describe(self) -> (&'static str, Option<&'static [&'static str]>) {
        match self {
            Self::Untraced => ("untraced", None),
            Self::Empty => ("empty program", None),
            Self::Recorded => ("tt-buftrace record", Some(&[])),
            Self::Forgetful => ("  without remembered rows", Some(&["--forget-rows"])),
            Self::Copied => ("  with --stack-copy as well", Some(&["--stack-copy"])),
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, Default)]
struct Sample {
    /// Nanoseconds a free, by the target's clock.
    target: f64,
    /// Nanoseconds a hit, by the kernel's statistics of the program.
    program: f64,
    /// The kernel side's counters, by name.
    counters: BTreeMap<String, u64>,
}

/// Measures, and prints a table in Markdown.
pub fn stacks() -> Result<()> {
    build_tool()?;
    let bench = Bench::new()?;
    let mut samples: BTreeMap<Way, Vec<Sample>> = BTreeMap::new();
    for round in 0..ROUNDS {
        for way in Way::ALL {
            eprintln!("round {} of {ROUNDS}: {}", round + 1, way.describe().0.trim());
            samples.entry(way).or_default().push(bench.measure(way)?);
        }
    }
    print!("{}", table(&samples));
    print!("{}", bench.burst()?);
    Ok(())
}

struct Bench {
    folder: PathBuf,
    library: PathBuf,
    python: PathBuf,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = root().join("target/bench");
        fs::create_dir_all(&folder)?;
        let lookalike = root().join("tests/lookalike/build.py");
        run(Command::new("python3").arg(lookalike).args(["--only", "buffer"]).arg(folder.join("lookalike")))?;
        let library = folder.join("lookalike/buffer/libtt_metal.so");
        Ok(Self { folder, library, python: python::with_pytest()? })
    }

    fn measure(&self, way: Way) -> Result<Sample> {
        let mut target = Target::start(self)?;
        let _statistics = enable_stats(Stats::RunTime).context("failed to have the kernel keep statistics")?;
        let (name, options) = way.describe();
        let mut recorder = options.map(|options| self.record(&target, options)).transpose()?;
        let empty = (way == Way::Empty).then(|| attach_empty(&target, &self.library)).transpose()?;
        target.free(WARM_UP, 0)?;
        sleep(Duration::from_millis(300));
        let program = match way {
            Way::Untraced => None,
            Way::Empty => Some(std::process::id()),
            _ => recorder.as_ref().map(Recorder::pid),
        };
        let before = program.map(run_time).transpose()?;
        let nanoseconds = target.free(COUNT, 0)?;
        let after = program.map(run_time).transpose()?;
        let mut sample = Sample { target: nanoseconds, ..Sample::default() };
        if let (Some((time, count)), Some((later, more))) = (before, after) {
            ensure!(more - count >= COUNT, "{name}: the program ran {} times, not {COUNT}", more - count);
            sample.program = (later - time).as_nanos() as f64 / (more - count) as f64;
        }
        drop(empty);
        if let Some(recorder) = recorder.take() {
            recorder.stop()?;
            sample.counters = counters(&self.trace())?;
        }
        target.end()?;
        Ok(sample)
    }

    /// Frees at a steady rate for some seconds, and says what was lost.
    fn burst(&self) -> Result<String> {
        let mut target = Target::start(self)?;
        let recorder = self.record(&target, &[])?;
        target.free(WARM_UP, 0)?;
        let nanoseconds = target.free(BURST_SECONDS * BURST_RATE, BURST_RATE)?;
        recorder.stop()?;
        target.end()?;
        let counters = counters(&self.trace())?;
        let value = |name: &str| counters.get(name).copied().unwrap_or(0);
        let (sent, kept, lost) = (value("sent"), value("kept"), value("ring-full"));
        ensure!(sent == kept + lost, "{sent} events were sent, but {kept} kept and {lost} lost");
        let rate = 1e9 / nanoseconds;
        Ok(format!("\nAt {rate:.0} events a second for {BURST_SECONDS} s: {sent} sent, {kept} kept, {lost} lost.\n"))
    }

    fn record(&self, target: &Target, options: &[&str]) -> Result<Recorder> {
        Recorder::attach(target.child.id(), &self.trace(), options)
    }

    fn trace(&self) -> PathBuf {
        self.folder.join("bench.ttb")
    }
}

/// The target: it does as it is told, line by line.
struct Target {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Target {
    fn start(bench: &Bench) -> Result<Self> {
        let mut child = Command::new(&bench.python)
            .arg(root().join(FREES))
            .args(DEPTHS)
            .env("LOOKALIKE_LIBRARY", &bench.library)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the target")?;
        let orders = child.stdin.take().context("the target has no input")?;
        let answers = BufReader::new(child.stdout.take().context("the target has no output")?);
        let mut target = Self { child, orders, answers };
        // It answers when it has everything loaded.
        target.free(1, 0)?;
        Ok(target)
    }

    /// Nanoseconds each free took.
    fn free(&mut self, count: u64, rate: u64) -> Result<f64> {
        writeln!(self.orders, "{count} {rate}").context("the target has ended")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().with_context(|| format!("the target answered {answer:?}"))
    }

    fn end(self) -> Result<()> {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        let status = child.wait()?;
        ensure!(status.success(), "the target ended with {status}");
        Ok(())
    }
}

/// Probes the same function by a program that does nothing, until what it returns is dropped.
fn attach_empty(target: &Target, library: &Path) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new().map_max_entries("EVENTS", 4096).load_file(root().join(OBJECT))?;
    let program: &mut UProbe = ebpf.program_mut("empty").context("the object has no program `empty`")?.try_into()?;
    program.load()?;
    let point = UProbeAttachPoint { location: UProbeAttachLocation::Symbol(SYMBOL), cookie: None };
    let pid = target.child.id().try_into().context("0 is no process id")?;
    program.attach(point, library, UProbeScope::OneProcess(pid))?;
    Ok(ebpf)
}

/// How long the uprobe program of a process has run, and how often, by the kernel's statistics.
fn run_time(pid: u32) -> Result<(Duration, u64)> {
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("the tracer has ended")? {
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if value("prog_type:") == Some(BPF_PROG_TYPE_KPROBE) {
            let nanoseconds = value("run_time_ns:").context("the kernel keeps no statistics")?;
            return Ok((Duration::from_nanos(nanoseconds), value("run_cnt:").unwrap_or(0)));
        }
    }
    bail!("process {pid} has no uprobe program")
}

fn table(samples: &BTreeMap<Way, Vec<Sample>>) -> String {
    let median = |way: Way, value: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.get(&way).into_iter().flatten().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let untraced = median(Way::Untraced, |sample| sample.target);
    let empty = median(Way::Empty, |sample| sample.target) - untraced;
    let mut text =
        String::from("| | a hit costs the target | of that, the program | against an empty one |\n|---|---|---|---|\n");
    for way in Way::ALL.into_iter().filter(|way| *way != Way::Untraced) {
        let cost = median(way, |sample| sample.target) - untraced;
        let program = median(way, |sample| sample.program);
        let (name, ratio) = (way.describe().0, cost / empty);
        text.push_str(&format!("| {name} | {:.2} µs | {:.2} µs | {ratio:.1} |\n", cost / 1e3, program / 1e3));
    }
    let per_walk = |name: &str| {
        let counters = samples.get(&Way::Recorded).and_then(|samples| samples.first()).map(|sample| &sample.counters);
        let value = |name: &str| counters.and_then(|counters| counters.get(name)).copied().unwrap_or(0) as f64;
        value(name) / value("walked").max(1.0)
    };
    let (native, python) = (per_walk("native-frames"), per_walk("python-frames"));
    let program = median(Way::Recorded, |sample| sample.program) / 1e3;
    text.push_str(&format!(
        "\nA stack has {native:.0} native and {python:.0} Python frames; {:.0} of the native ones are remembered; \
         {:.3} µs a frame.\n",
        per_walk("remembered"),
        program / (native + python),
    ));
    text
}
