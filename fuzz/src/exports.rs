// SPDX-License-Identifier: Apache-2.0
//! What is read can be written in the formats of other tools, whatever it says.

use std::mem;

use buftrace::{
    analysis::{Filter, Measure, ProfileFold},
    export::{
        Csv, Export, Folded, Heading, Html, JsonLines, Links, Perfetto, Stacks, Unit, write_folded, write_pprof,
        write_speedscope, write_svg,
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
    let definitions = &known.definitions;
    for format in 0..4 {
        let mut out = Vec::new();
        let mut export: Box<dyn Export + '_> = match format {
            0 => Box::new(Perfetto::new(&known, mem::take(&mut links), &filter, &mut out).expect("memory takes all")),
            1 => Box::new(Csv::new(definitions, Some(stacks), &mut out).expect("memory takes all")),
            2 => Box::new(JsonLines::new(definitions, Some(stacks), &mut out)),
            _ => Box::new(Html::new(&known, &filter, &mut out)),
        };
        model::read(vec![Items::new(items)], &mut |entry| export.entry(entry).expect("memory takes all"));
        export.finish(None).expect("memory takes all");
    }
}

fn text(write: &mut dyn FnMut(&mut dyn std::io::Write)) {
    let mut out = Vec::new();
    write(&mut out);
    printable(&String::from_utf8(out).expect("UTF-8"));
}
