// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: what tracing and reading cost, as ratios within one run, against what people would use instead.
//!
//! Each part measures one thing and returns figures; page and picture are made of these alone.

mod attach;
mod burst;
mod driven;
mod figure;
mod machine;
mod peers;
mod perf;
mod picture;
mod reading;
mod recorder;
mod report;
mod sites;
mod size;
mod stacks;
mod target;
mod tracing;

use std::fs;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use self::{
    driven::{file, folder},
    figure::{Chart, Section},
    peers::Peer,
};
use crate::recorder::build_tool;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What tracing costs the target for an allocation and its free, by way of tracing.
    Target,
    /// What a hit with its stack costs the target, against a hit without a program to speak of.
    Stacks,
    /// How many events a second are recorded without loss.
    Burst,
    /// Bytes an event in the file, against other tools' files.
    Size,
    /// How long attaching takes, and what unwind tables take.
    Attach,
    /// How fast traces are read and in how much memory, against other tools.
    Reading,
    /// What the recorder takes, by events a second.
    Recorder,
}

impl Part {
    fn measure(self, large: bool) -> Result<Vec<Section>> {
        match self {
            Self::Target => target::measure(),
            Self::Stacks => stacks::measure(),
            Self::Burst => burst::measure(),
            Self::Size => size::measure(),
            Self::Attach => attach::measure(),
            Self::Reading => reading::measure(large),
            Self::Recorder => recorder::measure(),
        }
    }

    /// The other tools that it measures.
    fn peers(self) -> &'static [Peer] {
        match self {
            Self::Target => &[Peer::Bpftrace, Peer::Perf],
            Self::Size => &[Peer::Perf, Peer::Heaptrack, Peer::Memray],
            Self::Reading => &[Peer::Heaptrack, Peer::Memray],
            Self::Stacks | Self::Burst | Self::Attach | Self::Recorder => &[],
        }
    }
}

/// Measures some parts, or all if none is named, and writes `report.md` and `report.svg` into `target/bench`; with `large`
/// also reads a trace of 100 million events.
///
/// # Errors
///
/// If a part fails, once the others are measured and written.
pub fn bench(parts: &[Part], large: bool) -> Result<()> {
    build_tool()?;
    fs::create_dir_all(folder())?;
    let parts = if parts.is_empty() { Part::value_variants() } else { parts };
    let peers: Vec<Peer> =
        Peer::ALL.into_iter().filter(|peer| parts.iter().any(|part| part.peers().contains(peer))).collect();
    // Also installs those that are not there.
    let machine = machine::describe(&peers);
    let mut failed = 0;
    let mut sections = Vec::new();
    for part in parts {
        match part.measure(large) {
            Ok(measured) => sections.extend(measured),
            Err(error) => {
                eprintln!("{part:?} failed: {error:#}");
                let title = format!("{part:?}");
                sections.push(Section { title, method: format!("Failed: {error:#}."), ..Section::default() });
                failed += 1;
            }
        }
    }
    let page = report::markdown(&machine, &sections);
    let charts: Vec<Chart> = sections.into_iter().flat_map(|section| section.charts).collect();
    print!("{page}");
    fs::write(file("report.md"), page)?;
    fs::write(file("report.svg"), picture::svg(&charts))?;
    eprintln!("written to {}", folder().display());
    ensure!(failed == 0, "{failed} of {} parts failed", parts.len());
    Ok(())
}
