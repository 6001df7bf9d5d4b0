// SPDX-License-Identifier: Apache-2.0
//! What the recorder itself takes, by events a second.

use anyhow::Result;

use super::{
    driven::{Library, Order, Pairs, file},
    figure::{Bound, Chart, Figure, Section, Unit},
};
use crate::{
    process::{cpu, own_memory, resident_memory},
    recorder::Recorder,
};

/// Buffer events a second.
const RATES: [u64; 3] = [1_000, 10_000, 100_000];
/// The rate that there is an aim for.
const AIMED: u64 = 10_000;
const SECONDS: u64 = 8;
const WARM_UP: u64 = 1_000;
const MOST_MEMORY: f64 = (150 << 20) as f64;

/// Measures.
pub(super) fn measure() -> Result<Vec<Section>> {
    let mut target = Pairs::start(Library::Lookalike, 1, &[])?;
    let mut figures = Vec::new();
    let (mut recorder_line, mut target_line) = (Vec::new(), Vec::new());
    for rate in RATES {
        let recorder = Recorder::attach(target.pid(), &file("recorder.ttb"), &[])?;
        target.make(Order { pairs: WARM_UP, ..Order::default() })?;
        let before = cpu(recorder.pid())?;
        let took =
            target.make(Order { pairs: SECONDS * rate / 2, seconds: SECONDS, rate: rate / 2, ..Order::default() })?;
        let seconds = took.wall * took.pairs / 1e9;
        let share = (cpu(recorder.pid())? - before) / seconds;
        let (own, resident) = (own_memory(recorder.pid())?, resident_memory(recorder.pid())?);
        recorder.stop()?;
        let reached = took.rate();
        let asked = Unit::Rate.text(rate as f64);
        let share_figure = Figure::new(&asked, "of a core", Unit::Share, share);
        let resident_figure = Figure::new(&asked, "memory with what it has mapped", Unit::Memory, resident as f64);
        figures.push(Figure::new(&asked, "buffer events, reached", Unit::Rate, reached));
        if rate == AIMED {
            let each = format!("{:.1} µs of the recorder's for each buffer event", share / reached * 1e6);
            figures.push(share_figure.with_aim("recorder at 10,000 buffer events/s", Bound::AtMost(0.03), each));
            let what = "with what it has mapped: the ring, twice, and its program";
            figures.push(resident_figure.with_aim("its memory", Bound::AtMost(MOST_MEMORY), what));
        } else {
            figures.extend([share_figure, resident_figure]);
        }
        figures.push(Figure::new(&asked, "memory of its own", Unit::Memory, own as f64));
        recorder_line.push((reached, share * 100.0));
        target_line.push((reached, took.cpu / took.wall * 100.0));
    }
    target.end()?;
    let method = format!(
        "The look-alike, one chip, in pytest, allocates and frees for {SECONDS} s at each rate, or as fast as it can. A \
         buffer event is an allocation or a free. Processor time is that of all threads, from `/proc/PID/stat`, once the \
         recording runs; memory is that after {SECONDS} s."
    );
    let lines =
        vec![("tt-buftrace record".to_string(), recorder_line), ("the target, traced".to_string(), target_line)];
    let chart = Chart {
        title: "Processor time while recording".into(),
        across: "buffer events a second",
        up: "% of a core",
        lines,
    };
    Ok(vec![Section { title: "What the recorder takes".into(), method, figures, charts: vec![chart] }])
}
