// SPDX-License-Identifier: Apache-2.0
//! Bytes an event in the file.

use anyhow::{Context as _, Result};

use super::{
    driven::{Library, Order, Pairs, file, size},
    figure::{Bound, Figure, Section, Unit},
    peers::{Churn, Peer},
    perf::Perf,
    sites::Sites,
};
use crate::recorder::{Recorder, counters};

/// Pairs of an allocation and a free.
const PAIRS: u64 = 100_000;
/// perf copies so much that a part will do.
const PERF_PAIRS: u64 = 10_000;
/// How many of a hundred come from a stack that none came from before.
const FRESH: u64 = 5;
/// Stacks that the others come from, of what peers trace.
const KNOWN: u64 = 64;
const FILE: &str = "file";
const EACH: &str = "an allocation or a free";

/// Measures.
pub(super) fn measure() -> Result<Vec<Section>> {
    let mut target = Pairs::start(Library::Lookalike, 8, &[])?;
    let (mut figures, ours, sites) = own(&mut target)?;
    let perf = perf(&mut target, &sites);
    target.end()?;
    let perf = add(&mut figures, Peer::Perf.name(), perf);
    let [heaptrack, memray] = [Peer::Heaptrack, Peer::Memray].map(|peer| {
        let churn = Churn { events: 2 * PAIRS, known: KNOWN, fresh: FRESH };
        let recorded = peer.version().and_then(|_| churn.record(peer)).and_then(|path| size(&path));
        add(&mut figures, peer.name(), recorded.map(|bytes| (bytes, (2 * PAIRS) as f64)))
    });
    let mut compare = |quantity, theirs: Result<f64, String>, aim: Option<(&'static str, Bound)>| {
        let figure = match theirs {
            Ok(theirs) => Figure::new("tt-buftrace record", quantity, Unit::Times, theirs / ours),
            Err(why) => Figure::missing("tt-buftrace record", quantity, Unit::Times, why),
        };
        figures.push(match aim {
            Some((name, bound)) => figure.with_aim(name, bound, ""),
            None => figure,
        });
    };
    compare("perf's to ours", perf, Some(("perf.data's bytes an event to ours", Bound::AtLeast(10.0))));
    compare("memray's to ours", memray, Some(("memray's bytes an event to ours", Bound::AtLeast(1.0))));
    compare("heaptrack's to ours", heaptrack, None);
    let method = format!(
        "{PAIRS} allocations and as many frees, {FRESH} of a hundred from a stack that none came from before. tt-buftrace: \
         the look-alike, eight chips, in pytest; allocation and free have a stack each, native and Python merged, which the \
         file names; and it has more events than allocations and frees. perf: the same run on the same probes, {PERF_PAIRS} \
         of each; bytes for each that it kept. memray (--native) and heaptrack: malloc and free of a small C program made \
         for them; allocations alone have a stack there, of some 45 native frames (and the \
         interpreter's, with memray), which memray's file does not name."
    );
    Ok(vec![Section { title: "Bytes an event in the file".into(), method, figures, charts: Vec::new() }])
}

/// Our own: the figures, bytes for an allocation or a free, and where the probes are.
fn own(target: &mut Pairs) -> Result<(Vec<Figure>, f64, Sites)> {
    let name = "tt-buftrace record";
    let trace = file("size.ttb");
    let recorder = Recorder::attach(target.pid(), &trace, &[])?;
    target.make(Order { pairs: PAIRS, fresh: FRESH, ..Order::default() })?;
    recorder.stop()?;
    let counters = counters(&trace)?;
    let count = |name: &str| counters.get(name).copied().unwrap_or(0) as f64;
    let bytes = size(&trace)? as f64;
    let (kept, each) = (count("kept"), bytes / (2 * PAIRS) as f64);
    let why = format!(
        "{} different stacks, of {:.0} frames on average",
        Unit::Count.text(count("new-stacks")),
        (count("native-frames") + count("python-frames")) / count("walked").max(1.0)
    );
    let figures = vec![
        Figure::new(name, FILE, Unit::Memory, bytes),
        Figure::new(name, EACH, Unit::Bytes, each),
        Figure::new(name, "an event of the trace", Unit::Bytes, bytes / kept).with_aim(
            "bytes an event on disk, 95 % repeated stacks",
            Bound::AtMost(8.0),
            why,
        ),
        Figure::new(name, "lost", Unit::Count, count("ring-full")),
    ];
    Ok((figures, each, Sites::of(&trace)?))
}

/// perf's: bytes, and the allocations and frees that it kept.
fn perf(target: &mut Pairs, sites: &Sites) -> Result<(u64, f64)> {
    Peer::Perf.version()?;
    let only_stacks: Vec<_> = sites.sites.iter().filter(|site| site.has_stack).cloned().collect();
    let sites = Sites { sites: only_stacks, ..sites.clone() };
    let data = file("perf.data");
    let perf = Perf::start(target.pid(), &sites, &data)?;
    // At a rate that it can keep up with.
    target.make(Order { pairs: PERF_PAIRS, rate: 2_000, fresh: FRESH, ..Order::default() })?;
    let said = perf.stop()?;
    // [ perf record: Captured and wrote 83.1 MB perf.data (10000 samples) ]
    let samples = said.split_once(" samples)").and_then(|(before, _)| before.rsplit('(').next()?.parse().ok());
    Ok((size(&data)?, samples.with_context(|| format!("perf does not say how much it kept: {said}"))?))
}

/// Adds figures of a peer: bytes for an allocation or a free.
fn add(figures: &mut Vec<Figure>, name: &str, measured: Result<(u64, f64)>) -> Result<f64, String> {
    match measured {
        Ok((bytes, events)) => {
            let each = bytes as f64 / events;
            figures.push(Figure::new(name, FILE, Unit::Memory, bytes as f64));
            figures.push(Figure::new(name, EACH, Unit::Bytes, each));
            Ok(each)
        }
        Err(error) => {
            let why = format!("{error:#}");
            figures.push(Figure::missing(name, EACH, Unit::Bytes, &why));
            Err(why)
        }
    }
}
