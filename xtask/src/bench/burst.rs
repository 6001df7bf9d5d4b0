// SPDX-License-Identifier: Apache-2.0
//! How many events a second are recorded without loss.

use anyhow::{Result, ensure};

use super::{
    driven::{Library, Order, Pairs, file},
    figure::{Figure, Section, Unit},
};
use crate::recorder::{Recorder, counters};

/// Buffer events a second that are asked for; the last is more than there can be.
const RATES: [u64; 5] = [20_000, 50_000, 100_000, 200_000, 1_000_000];
/// Long enough that the ring buffer does not hold all of the highest rate.
const SECONDS: u64 = 4;
const WARM_UP: u64 = 1_000;

/// Measures.
pub(super) fn measure() -> Result<Vec<Section>> {
    let mut target = Pairs::start(Library::Lookalike, 1, &[])?;
    let mut figures = Vec::new();
    let mut best = (0.0, 0.0);
    for rate in RATES {
        let trace = file("burst.ttb");
        let recorder = Recorder::attach(target.pid(), &trace, &[])?;
        target.make(Order { pairs: WARM_UP, ..Order::default() })?;
        let took =
            target.make(Order { pairs: SECONDS * rate / 2, seconds: SECONDS, rate: rate / 2, ..Order::default() })?;
        recorder.stop()?;
        let counters = counters(&trace)?;
        let count = |name: &str| counters.get(name).copied().unwrap_or(0);
        let (sent, kept, lost) = (count("sent"), count("kept"), count("ring-full"));
        ensure!(sent == kept + lost, "{sent} events were sent, but {kept} kept and {lost} lost");
        let reached = took.rate();
        let events = reached / 2.0 * sent as f64 / (took.pairs + WARM_UP as f64);
        let asked = format!("{} asked for", Unit::Rate.text(rate as f64));
        figures.extend([
            Figure::new(&asked, "buffer events, reached", Unit::Rate, reached),
            Figure::new(&asked, "events of the trace", Unit::Rate, events),
            Figure::new(&asked, "sent", Unit::Count, sent as f64),
            Figure::new(&asked, "lost", Unit::Count, lost as f64),
        ]);
        if lost == 0 && reached > best.0 {
            best = (reached, events);
        }
    }
    target.end()?;
    figures.push(Figure::new("most without loss", "buffer events, reached", Unit::Rate, best.0));
    figures.push(Figure::new("most without loss", "events of the trace", Unit::Rate, best.1));
    let method = format!(
        "The look-alike, one chip, in pytest, allocates and frees for {SECONDS} s at each rate, or as fast as one thread of it \
         can while it is traced. A buffer event is an allocation or a free; a trace has more events than these."
    );
    Ok(vec![Section { title: "Events a second without loss".into(), method, figures, charts: Vec::new() }])
}
