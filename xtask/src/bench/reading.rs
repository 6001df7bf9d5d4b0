// SPDX-License-Identifier: Apache-2.0
//! How fast traces are read, and in how much memory.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Error, Result};

use super::{
    driven::{file, size},
    figure::{Bound, Chart, Figure, Section, Unit},
    peers::{Churn, Peer, memray},
    sites::field,
};
use crate::{command::run, process::Usage, recorder::tool, root};

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(90);
const SIZES: [u64; 2] = [1_000_000, 10_000_000];
/// What `--large` adds.
const LARGE: u64 = 100_000_000;
/// The most events of files of peers: recording them takes about a minute for ten millions.
const MOST_OF_PEERS: u64 = 10_000_000;
/// Different stacks, in our files and in theirs.
const STACKS: u64 = 20_000;
// What is compared, by name.
const REPORT: &str = "tt-buftrace report";
const BY_EVENTS: &str = "tt-buftrace report, without the epilogue";
const TIMELINE: &str = "tt-buftrace timeline";
/// One of the tests in our files.
const A_TEST: &str = "*::test_case_9";
const STATS: &str = "memray stats";
const PRINT: &str = "heaptrack_print";

/// One command on one file.
struct Run {
    name: &'static str,
    events: u64,
    usage: Usage,
}

impl Run {
    /// Events a second of one core.
    fn speed(&self) -> f64 {
        self.events as f64 / self.usage.cpu
    }
}

/// Measures.
pub(super) fn measure(large: bool) -> Result<Vec<Section>> {
    let mut synthesize = Command::new("cargo");
    synthesize.args(["build", "--release", "--package", "buftrace-tests", "--bin", "synthesize"]);
    run(synthesize.current_dir(root()))?;
    let mut runs = Vec::new();
    let mut figures = Vec::new();
    for events in SIZES.into_iter().chain(large.then_some(LARGE)) {
        runs.extend(own(events, &mut figures)?);
        if events > MOST_OF_PEERS {
            continue;
        }
        for peer in [Peer::Memray, Peer::Heaptrack] {
            match peer.version().and_then(|_| theirs(peer, events)) {
                Ok(measured) => runs.extend(measured),
                Err(error) => figures.push(absent(peer.name(), events, &error)),
            }
        }
    }
    figures.splice(0..0, runs.iter().flat_map(each));
    let method = format!(
        "Files with so many events, of {STACKS} different stacks. Ours are made up: requests, allocations and frees of \
         buffers of many sizes, in no order, in tests; two fifths of the events are allocations or frees. They end as \
         recordings do, with an epilogue: what reading their events came to. With --test, the parts are read that have \
         some of the test; without an epilogue, as of a recording that was killed, all events are. Theirs are of \
         calls of malloc and free of as many sizes as stacks, recorded by themselves. Events a second are of one core: \
         by processor time. Output goes nowhere; what takes more than {} s is ended. `timeline` is that of one address; `diff` compares a trace with itself, and reads it twice.",
        LIMIT.as_secs()
    );
    let charts = vec![
        chart(&runs, "Time to read", "seconds", |usage| usage.seconds),
        chart(&runs, "Memory to read", "MiB at most", |usage| usage.peak as f64 / f64::from(1 << 20)),
    ];
    let compared = "The longest runs, and those on as many events as the others have.".to_string();
    Ok(vec![
        Section { title: "Reading".into(), method, figures, charts },
        Section { title: "Reading, compared".into(), method: compared, figures: aims(&runs), charts: Vec::new() },
    ])
}

/// Our commands on a trace of so many events; adds what could not be measured.
fn own(events: u64, missing: &mut Vec<Figure>) -> Result<Vec<Run>> {
    let trace = file("reading.ttb");
    let path = trace.to_string_lossy();
    let mut runs = Vec::new();
    let mut measure = |name, arguments: &[&str], events| {
        eprintln!("{name}");
        match Usage::of(Command::new(tool()).args(arguments), LIMIT) {
            Ok(usage) => runs.push(Run { name, events, usage }),
            Err(error) => missing.push(absent(name, events, &error)),
        }
    };
    synthesize(events, &trace, &[])?;
    measure(BY_EVENTS, &["report", &path], events);
    synthesize(events, &trace, &["epilogue"])?;
    let address = an_address(&trace)?;
    measure(REPORT, &["report", &path], events);
    measure("tt-buftrace report --type", &["report", "--type", "L1", &path], events);
    measure("tt-buftrace report --test", &["report", "--test", A_TEST, &path], events);
    measure("tt-buftrace excess", &["excess", &path], events);
    measure(TIMELINE, &["timeline", "--address", &address, &path], events);
    measure("tt-buftrace diff", &["diff", &path, &path], 2 * events);
    fs::remove_file(&trace)?;
    Ok(runs)
}

/// Makes a trace of so many events.
fn synthesize(events: u64, trace: &Path, end: &[&str]) -> Result<()> {
    let mut synthesize = Command::new(root().join("target/release/synthesize"));
    run(synthesize.arg(events.to_string()).arg(trace).arg(STACKS.to_string()).args(end))?;
    eprintln!("{} in {}", Unit::Count.text(events as f64), Unit::Memory.text(size(trace)? as f64));
    Ok(())
}

/// What could not be measured.
fn absent(name: &str, events: u64, error: &Error) -> Figure {
    let subject = format!("{name}, {} events", Unit::Count.text(events as f64));
    Figure::missing(subject, "by the clock", Unit::Seconds, format!("{error:#}"))
}

/// The address of the first allocation of a trace.
fn an_address(trace: &Path) -> Result<String> {
    let mut dump = Command::new(tool()).arg("dump").arg(trace).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(dump.stdout.take().context("the dump has no output")?).lines();
    let address = lines.map_while(Result::ok).find_map(|line| {
        let is_allocation = line.starts_with("event ") && line.contains(" allocated ");
        field(&line, "address").filter(|_| is_allocation).map(str::to_string)
    });
    // What it would still write is not wanted.
    dump.wait()?;
    address.context("the trace has no allocation")
}

/// Those of a peer, on a file of its own of as many events.
fn theirs(peer: Peer, events: u64) -> Result<Vec<Run>> {
    let recorded = Churn { events, known: STACKS, fresh: 0 }.record(peer)?;
    let of = |name, command: &mut Command| -> Result<Run> {
        eprintln!("{name}");
        Ok(Run { name, events, usage: Usage::of(command, LIMIT)? })
    };
    let runs = match peer {
        Peer::Memray => vec![
            of(STATS, memray()?.arg("stats").arg(&recorded))?,
            of(
                "memray table",
                memray()?.args(["table", "--force", "--output"]).arg(file("memray.html")).arg(&recorded),
            )?,
        ],
        _ => vec![of(PRINT, Command::new("heaptrack_print").arg(&recorded))?],
    };
    fs::remove_file(recorded)?;
    Ok(runs)
}

/// The row of a run.
fn each(run: &Run) -> Vec<Figure> {
    let subject = format!("{}, {} events", run.name, Unit::Count.text(run.events as f64));
    let seconds = Figure::new(&subject, "by the clock", Unit::Seconds, run.usage.seconds);
    let speed = Figure::new(&subject, "events a second of a core", Unit::Rate, run.speed());
    let memory = Figure::new(&subject, "memory at most", Unit::Memory, run.usage.peak as f64);
    vec![seconds, speed, memory]
}

/// What is aimed for, by the longest runs that there are.
fn aims(runs: &[Run]) -> Vec<Figure> {
    let longest = |name: &str| runs.iter().filter(|run| run.name == name).max_by_key(|run| run.events);
    let mut figures = Vec::new();
    if let Some(report) = longest(REPORT) {
        let speed = Figure::new("report, the longest", "events/s of a core", Unit::Rate, report.speed());
        figures.push(speed.with_aim("report: events a second of a core", Bound::AtLeast(15e6), ""));
    }
    if let Some(report) = longest(BY_EVENTS) {
        let subject = "report, the longest, without the epilogue";
        figures.push(Figure::new(subject, "events/s of a core", Unit::Rate, report.speed()));
    }
    for (name, quantity, command, unit, limit) in [
        ("report of 100 million events: memory", "memory", REPORT, Unit::Memory, 300.0 * f64::from(1 << 20)),
        ("timeline of one address of 100 million events", "time", TIMELINE, Unit::Seconds, 1.0),
    ] {
        let run = longest(command).filter(|run| run.events == LARGE);
        let figure = match run {
            Some(run) if unit == Unit::Seconds => Figure::new(name, quantity, unit, run.usage.seconds),
            Some(run) => Figure::new(name, quantity, unit, run.usage.peak as f64),
            None => Figure::missing(name, quantity, unit, "only with --large"),
        };
        figures.push(figure.with_aim(name, Bound::AtMost(limit), ""));
    }
    for (peer, name, times) in
        [(STATS, "report against memray stats", 5.0), (PRINT, "report against heaptrack_print", 1.0)]
    {
        let theirs = longest(peer);
        let against = |ours| {
            let theirs = theirs?;
            let ours = runs.iter().find(|run| run.name == ours && run.events == theirs.events)?;
            Some((ours.events, ours.speed() / theirs.speed()))
        };
        let figure = match against(REPORT) {
            Some((events, times_as_fast)) => {
                let reason = format!("{} events each, by processor time", Unit::Count.text(events as f64));
                let figure = Figure::new(name, "times as fast", Unit::Times, times_as_fast);
                figure.with_aim(name, Bound::AtLeast(times), reason)
            }
            None => {
                let missing = Figure::missing(name, "times as fast", Unit::Times, format!("{peer} was not measured"));
                missing.with_aim(name, Bound::AtLeast(times), "")
            }
        };
        figures.push(figure);
        let by_events = against(BY_EVENTS).map(|(_, times)| {
            Figure::new(format!("{name}, without the epilogue"), "times as fast", Unit::Times, times)
        });
        figures.extend(by_events);
    }
    figures
}

fn chart(runs: &[Run], title: &str, up: &'static str, value: fn(&Usage) -> f64) -> Chart {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for run in runs {
        let point = (run.events as f64, value(&run.usage));
        match lines.iter_mut().find(|(name, _)| name == run.name) {
            Some((_, points)) => points.push(point),
            None => lines.push((run.name.to_string(), vec![point])),
        }
    }
    Chart { title: title.into(), across: "events", up, lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &'static str, events: u64, cpu: f64) -> Run {
        Run { name, events, usage: Usage { seconds: 2.0 * cpu, cpu, peak: 1 << 20 } }
    }

    fn value<'a>(figures: &'a [Figure], name: &str) -> Option<&'a Figure> {
        figures.iter().find(|figure| figure.aim.as_ref().is_some_and(|aim| aim.name == name))
    }

    #[test]
    fn a_peer_is_compared_on_as_many_events() {
        let runs = [run(REPORT, 1_000, 1.0), run(STATS, 1_000, 6.0), run(REPORT, 10_000, 1.0)];
        let figures = aims(&runs);
        let against = |name| value(&figures, name).and_then(|figure| figure.value.clone().ok());
        assert_eq!(against("report against memray stats"), Some(6.0));
        assert_eq!(against("report against heaptrack_print"), None);
        assert_eq!(against("report: events a second of a core"), Some(10_000.0));
    }

    #[test]
    fn what_is_aimed_for_large_traces_is_measured_on_these_alone() {
        let small = aims(&[run(REPORT, 10_000_000, 1.0), run(TIMELINE, 10_000_000, 1.0)]);
        let large = aims(&[run(REPORT, LARGE, 1.0), run(TIMELINE, LARGE, 0.4)]);
        for name in ["report of 100 million events: memory", "timeline of one address of 100 million events"] {
            assert_eq!(value(&small, name).and_then(Figure::is_met), None, "{name}");
            assert_eq!(value(&large, name).and_then(Figure::is_met), Some(true), "{name}");
        }
    }
}
