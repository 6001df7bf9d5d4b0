// SPDX-License-Identifier: Apache-2.0
//! What a hit with its stack costs, as ratios within one run.
//!
//! The target frees one buffer again and again ([`FREES`]), so that each call hits one probe with a stack. Each way of
//! tracing is measured in turn, several times over, by the target's own clock and by the kernel's statistics of the
//! program; the medians count.

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread::sleep, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf,
    sys::{Stats, enable_stats},
};

use super::{
    driven::{Driven, file, lookalike},
    figure::{Bound, Figure, Section, Unit, median},
    sites::Sites,
};
use crate::{
    python,
    recorder::{Recorder, counters},
    root,
};

/// The target's script.
const FREES: &str = "tests/lookalike/frees.py";
/// How deep the target's calls are: some 60 native and 30 Python frames.
const DEPTHS: [&str; 2] = ["7", "22"];
/// Frees of one measurement.
const COUNT: u64 = 20_000;
/// Frees before it, in which the recorder loads its unwind tables.
const WARM_UP: u64 = 2_000;
const ROUNDS: usize = 5;
/// `BPF_PROG_TYPE_KPROBE` of the kernel's `uapi/linux/bpf.h`: what uprobe programs are.
const BPF_PROG_TYPE_KPROBE: u64 = 2;

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
            Self::Forgetful => ("without remembered rows", Some(&["--forget-rows"])),
            Self::Copied => ("with --stack-copy as well", Some(&["--stack-copy"])),
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

/// Measures.
pub(super) fn measure() -> Result<Vec<Section>> {
    let library = lookalike()?;
    let sites = look(&library)?;
    let mut samples: BTreeMap<Way, Vec<Sample>> = BTreeMap::new();
    for round in 0..ROUNDS {
        for way in Way::ALL {
            eprintln!("stacks, round {} of {ROUNDS}: {}", round + 1, way.describe().0);
            samples.entry(way).or_default().push(one(way, &library, &sites)?);
        }
    }
    let (method, figures) = (method(&samples)?, figures(&samples)?);
    Ok(vec![Section { title: "A hit with its stack".into(), method, figures, charts: Vec::new() }])
}

/// Records some frees, to see where their probe is: the only one that is left of the sites.
fn look(library: &Path) -> Result<Sites> {
    let mut target = start(library)?;
    let trace = file("look.ttb");
    let recorder = Recorder::attach(target.pid(), &trace, &[])?;
    target.ask(&WARM_UP.to_string())?;
    recorder.stop()?;
    target.end()?;
    let sites = Sites::of(&trace)?;
    Ok(Sites { sites: sites.sites.into_iter().filter(|site| site.has_stack).collect(), ..sites })
}

/// A target that has everything loaded.
fn start(library: &Path) -> Result<Driven> {
    let mut command = Command::new(python::with_pytest()?);
    command.arg(root().join(FREES)).args(DEPTHS).env("LOOKALIKE_LIBRARY", library);
    let mut target = Driven::start(&mut command)?;
    target.ask("1")?;
    Ok(target)
}

fn one(way: Way, library: &Path, sites: &Sites) -> Result<Sample> {
    let mut target = start(library)?;
    let _statistics = enable_stats(Stats::RunTime).context("failed to have the kernel keep statistics")?;
    let (name, options) = way.describe();
    let trace = file("stacks.ttb");
    let recorder = options.map(|options| Recorder::attach(target.pid(), &trace, options)).transpose()?;
    let empty: Option<Ebpf> = (way == Way::Empty).then(|| sites.attach_empty(target.pid())).transpose()?;
    target.ask(&WARM_UP.to_string())?;
    sleep(Duration::from_millis(300));
    let program = match way {
        Way::Untraced => None,
        Way::Empty => Some(std::process::id()),
        _ => recorder.as_ref().map(Recorder::pid),
    };
    let before = program.map(run_time).transpose()?;
    let took = target.ask(&COUNT.to_string())?;
    let after = program.map(run_time).transpose()?;
    let nanoseconds = *took.first().context("the target did not answer with a number")?;
    let mut sample = Sample { target: nanoseconds, ..Sample::default() };
    if let (Some((time, count)), Some((later, more))) = (before, after) {
        ensure!(more - count >= COUNT, "{name}: the program ran {} times, not {COUNT}", more - count);
        sample.program = (later - time).as_nanos() as f64 / (more - count) as f64;
    }
    drop(empty);
    if let Some(recorder) = recorder {
        recorder.stop()?;
        sample.counters = counters(&trace)?;
    }
    target.end()?;
    Ok(sample)
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

fn values(samples: &BTreeMap<Way, Vec<Sample>>, way: Way, value: fn(&Sample) -> f64) -> Result<f64> {
    median(samples.get(&way).into_iter().flatten().map(value).collect())
}

fn figures(samples: &BTreeMap<Way, Vec<Sample>>) -> Result<Vec<Figure>> {
    let untraced = values(samples, Way::Untraced, |sample| sample.target)?;
    let empty = values(samples, Way::Empty, |sample| sample.target)? - untraced;
    let mut figures = Vec::new();
    for way in Way::ALL.into_iter().filter(|way| *way != Way::Untraced) {
        let name = way.describe().0;
        let cost = values(samples, way, |sample| sample.target)? - untraced;
        let program = values(samples, way, |sample| sample.program)?;
        figures.push(Figure::new(name, "a hit costs the target", Unit::Microseconds, cost / 1e3));
        figures.push(Figure::new(name, "of that, the program", Unit::Microseconds, program / 1e3));
        let against = Figure::new(name, "against an empty one", Unit::Times, cost / empty);
        figures.push(match way {
            Way::Recorded => against.with_aim(
                "a traced event with its stack against an empty program on the same site",
                Bound::AtMost(5.0),
                frames(samples)?,
            ),
            _ => against,
        });
    }
    Ok(figures)
}

/// What stacks there are, and what a frame of them takes.
fn frames(samples: &BTreeMap<Way, Vec<Sample>>) -> Result<String> {
    let per_walk = |name: &str| {
        let counters = samples.get(&Way::Recorded).and_then(|samples| samples.first()).map(|sample| &sample.counters);
        let value = |name: &str| counters.and_then(|counters| counters.get(name)).copied().unwrap_or(0) as f64;
        value(name) / value("walked").max(1.0)
    };
    let (native, python) = (per_walk("native-frames"), per_walk("python-frames"));
    let program = values(samples, Way::Recorded, |sample| sample.program)? / 1e3;
    Ok(format!(
        "a stack has {native:.0} native and {python:.0} Python frames; {:.0} of the native ones are remembered; {:.3} µs a \
         frame",
        per_walk("remembered"),
        program / (native + python),
    ))
}

fn method(samples: &BTreeMap<Way, Vec<Sample>>) -> Result<String> {
    Ok(format!(
        "The target frees one buffer {COUNT} times, which hits one probe: {}. A process for each measurement, {ROUNDS} \
         rounds of all ways, medians; the target's time is by the clock, the program's by the kernel's statistics.",
        frames(samples)?
    ))
}
