// SPDX-License-Identifier: Apache-2.0
//! What is read can be written in the formats of other tools, whatever it says.

use buftrace::{
    analysis::{Filter, Measure, ProfileFold},
    export::{
        Export as _, Folded, Heading, Links, Perfetto, Stacks, Unit, write_folded, write_pprof, write_speedscope,
        write_svg,
    },
    model,
    trace::Item,
};

use crate::views::{Items, printable};

/// Writes each format.
pub(crate) fn write(items: &[Item]) {
    let filter = Filter::default();
    let (mut fold, mut links) = (ProfileFold::new(&filter), Links::default());
    let known = model::read(vec![Items::new(items)], &mut |entry| {
        fold.entry(entry);
        links.entry(entry);
    });
    let profile = fold.finish();
    let stacks = Stacks { definitions: &known.definitions, all: false };
    for measure in Measure::ALL {
        let folded = Folded::new(&profile, measure, Unit::Bytes, stacks);
        text(&mut |out| write_folded(&folded, Some(&folded), out).expect("memory takes all"));
        let heading = Heading { measure, unit: Unit::Bytes, remark: String::new() };
        // Sizes may be too large to be drawn.
        text(&mut |out| drop(write_svg(&folded, None, &heading, out)));
    }
    text(&mut |out| write_speedscope(&profile, stacks, "a", out).expect("memory takes all"));
    write_pprof(&profile, &known, true, &[], &mut Vec::new()).expect("memory takes all");
    let mut out = Vec::new();
    let mut perfetto = Box::new(Perfetto::new(&known, links, &filter, &mut out).expect("memory takes all"));
    model::read(vec![Items::new(items)], &mut |entry| perfetto.entry(entry).expect("memory takes all"));
    perfetto.finish().expect("memory takes all");
}

fn text(write: &mut dyn FnMut(&mut dyn std::io::Write)) {
    let mut out = Vec::new();
    write(&mut out);
    printable(&String::from_utf8(out).expect("UTF-8"));
}
