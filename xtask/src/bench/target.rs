// SPDX-License-Identifier: Apache-2.0
//! What tracing costs the target, by way of tracing: look-alike and ttnn, one chip and eight.

use std::{collections::BTreeMap, thread::sleep, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    driven::{Library, Order, Pairs, file},
    figure::{Bound, Chart, Figure, Section, Unit, median},
    sites::Sites,
    tracing::{Tracing, Way},
};
use crate::recorder::{Recorder, counters};

const CASES: [(&str, Library, u32); 4] = [
    ("look-alike, 1 chip", Library::Lookalike, 1),
    ("look-alike, 8 chips", Library::Lookalike, 8),
    ("ttnn, 1 chip", Library::Ttnn, 1),
    ("ttnn, 8 chips", Library::Ttnn, 8),
];
const ROUNDS: usize = 3;
/// Pairs of one measurement.
const PAIRS: u64 = 10_000;
/// Pairs before it, in which tables are loaded and what lies in the processor's caches settles.
const WARM_UP: u64 = 1_000;
/// Pairs of a second in a run that has other things to do: an allocation and a free each, 10,000 events.
const PAIRS_A_SECOND: u64 = 5_000;

const TAKES: &str = "a pair takes";
const ADDED: &str = "of that, tracing";

/// What was measured in one way.
#[derive(Default)]
struct Samples {
    /// Nanoseconds of processor time a pair, with nothing else to do.
    alone: Vec<f64>,
    /// The same where it comes in between work that makes it 10,000 events a second, untraced.
    between: Vec<f64>,
    /// With that work.
    paced: Vec<f64>,
    /// With that work, by the clock.
    paced_wall: Vec<f64>,
}

/// Measures.
pub(super) fn measure() -> Result<Vec<Section>> {
    let (mut sections, mut drawn) = (Vec::new(), Vec::new());
    for (name, library, chips) in CASES {
        let section = case(name, library, chips)?;
        if library == Library::Ttnn {
            drawn.push((chips, section.figures.clone()));
        }
        sections.push(section);
    }
    if let Some(last) = sections.last_mut() {
        last.charts.push(chart(&drawn));
    }
    Ok(sections)
}

/// What tracing adds to a pair, by how many chips the target has.
fn chart(cases: &[(u32, Vec<Figure>)]) -> Chart {
    let point = |way: Way, (chips, figures): &(u32, Vec<Figure>)| {
        let is_it = |figure: &&Figure| figure.subject == way.name() && figure.quantity == ADDED;
        let added = figures.iter().find(is_it)?.value.as_ref().ok()?;
        Some((f64::from(*chips), *added))
    };
    let line = |way: Way| (way.name().to_string(), cases.iter().filter_map(|case| point(way, case)).collect());
    let lines = Way::ALL.into_iter().filter(|way| *way != Way::Untraced).map(line).collect();
    Chart {
        title: "What tracing adds to an allocation and its free".into(),
        across: "chips, of ttnn",
        up: "µs of the target's",
        lines,
    }
}

fn case(name: &str, library: Library, chips: u32) -> Result<Section> {
    let mut target = Pairs::start(library, chips, &[])?;
    target.make(Order { pairs: WARM_UP, ..Order::default() })?;
    let (sites, hits) = look(&mut target)?;
    let work = calibrate(&mut target)?;
    let mut samples: BTreeMap<Way, Result<Samples, String>> = BTreeMap::new();
    for round in 0..ROUNDS {
        for way in Way::ALL {
            eprintln!("{name}, round {} of {ROUNDS}: {}", round + 1, way.name());
            let so_far = samples.entry(way).or_insert_with(|| Ok(Samples::default()));
            let Ok(values) = so_far else { continue };
            match (one(&mut target, way, &sites, work, values), way.peer()) {
                (Err(error), Some(_)) => *so_far = Err(format!("{error:#}")),
                (measured, _) => measured?,
            }
        }
    }
    target.end()?;
    let (title, figures) = (format!("What tracing costs: {name}"), figures(name, samples, &hits)?);
    Ok(Section { title, method: method(name == CASES[0].0, &hits), figures, charts: Vec::new() })
}

/// Hits of probes, a pair.
struct Hits {
    all: f64,
    with_stack: f64,
    frames: f64,
}

/// Records some pairs, to see which probes they hit.
fn look(target: &mut Pairs) -> Result<(Sites, Hits)> {
    let trace = file("look.ttb");
    let recorder = Recorder::attach(target.pid(), &trace, &[])?;
    target.make(Order { pairs: WARM_UP, ..Order::default() })?;
    recorder.stop()?;
    let counters = counters(&trace)?;
    let count = |name: &str| counters.get(name).copied().unwrap_or(0) as f64;
    let all: u64 = counters.iter().filter(|(name, _)| name.starts_with("hits.")).map(|(_, count)| count).sum();
    let walked = count("walked");
    let hits = Hits {
        all: all as f64 / WARM_UP as f64,
        with_stack: walked / WARM_UP as f64,
        frames: (count("native-frames") + count("python-frames")) / walked.max(1.0),
    };
    Ok((Sites::of(&trace)?, hits))
}

/// How far the target has to count after each pair to make so many a second.
fn calibrate(target: &mut Pairs) -> Result<u64> {
    const COUNT: u64 = 10_000;
    let order = Order { pairs: WARM_UP, ..Order::default() };
    let alone = target.make(order)?.cpu;
    let step = (target.make(Order { work: COUNT, ..order })?.cpu - alone) / COUNT as f64;
    let spare = 1e9 / PAIRS_A_SECOND as f64 - alone;
    Ok((spare / step).max(0.0) as u64)
}

fn one(target: &mut Pairs, way: Way, sites: &Sites, work: u64, samples: &mut Samples) -> Result<()> {
    let tracing =
        Tracing::start(way, target.pid(), sites).with_context(|| format!("failed to trace by {}", way.name()))?;
    target.make(Order { pairs: WARM_UP, ..Order::default() })?;
    sleep(Duration::from_millis(300));
    let alone = target.make(Order { pairs: PAIRS, ..Order::default() })?;
    let paced = target.make(Order { pairs: PAIRS_A_SECOND, work, ..Order::default() })?;
    tracing.stop()?;
    samples.alone.push(alone.cpu);
    samples.between.push(paced.inside);
    samples.paced.push(paced.cpu);
    samples.paced_wall.push(paced.wall);
    Ok(())
}

fn method(is_first: bool, hits: &Hits) -> String {
    let pair = format!(
        "A pair is an allocation and its free, two buffer events; it hits {:.0} probes, {:.0} of them with a stack, of \
         {:.0} frames.",
        hits.all, hits.with_stack, hits.frames
    );
    if !is_first {
        return format!("As above. {pair}");
    }
    format!(
        "A pytest session allocates and frees; tracers attach to it and detach in turn, {ROUNDS} rounds, medians. {pair} \
         Times are the thread's own processor time, the kernel's part included. The slow-down is that of a run that does \
         other work too, so much that it has 10,000 buffer events a second when it is not traced: what the pairs in it take \
         more, of what the run takes untraced; by the clock, too, which tells little on a busy machine. All ways probe the \
         same functions. bpftrace follows frame pointers, which these libraries don't have: its stacks end after a frame \
         or two; perf copies 8 KiB of stack, walks nothing, and drops what is too much."
    )
}

fn figures(case: &str, samples: BTreeMap<Way, Result<Samples, String>>, hits: &Hits) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let (mut untraced, mut empty) = (None, None);
    for (way, measured) in samples {
        let name = way.name();
        let samples = match measured {
            Ok(samples) => samples,
            Err(why) => {
                figures.push(Figure::missing(name, TAKES, Unit::Microseconds, why));
                continue;
            }
        };
        let (alone, between) = (median(samples.alone)?, median(samples.between)?);
        let (paced, wall) = (median(samples.paced)?, median(samples.paced_wall)?);
        figures.push(Figure::new(name, TAKES, Unit::Microseconds, alone / 1e3));
        let (without, between_without, paced_without, wall_without) =
            *untraced.get_or_insert((alone, between, paced, wall));
        if way == Way::Untraced {
            continue;
        }
        let cost = alone - without;
        let of_empty = *empty.get_or_insert(cost);
        figures.push(Figure::new(name, ADDED, Unit::Microseconds, cost / 1e3));
        let against = Figure::new(name, "against an empty program", Unit::Times, cost / of_empty);
        let slowed =
            Figure::new(name, "slow-down at 10,000 events/s", Unit::Share, (between - between_without) / paced_without);
        if way == Way::Recorded {
            let each = format!(
                "{:.0} hits a pair, {:.0} with a stack of {:.0} frames",
                hits.all, hits.with_stack, hits.frames
            );
            figures.push(against.with_aim(format!("cost against an empty program: {case}"), Bound::AtMost(5.0), &each));
            let why = format!("a pair costs {:.1} µs more: {each}", cost / 1e3);
            figures.push(slowed.with_aim(
                format!("slow-down of pytest at 10,000 buffer events/s: {case}"),
                Bound::AtMost(0.05),
                why,
            ));
        } else {
            figures.extend([against, slowed]);
        }
        figures.push(Figure::new(name, "of the whole run, by the clock", Unit::Share, wall / wall_without - 1.0));
    }
    Ok(figures)
}
