// SPDX-License-Identifier: Apache-2.0
//! The commands that read traces.

use std::{
    fs::File,
    io::{BufReader, Write},
    path::Path,
};

use anyhow::{Context, Result};

use super::{
    Status,
    args::{Dump, Excess, Report, Timeline, Traces},
};
use crate::{
    analysis::{ExcessFold, Integrity, ReportFold, TimelineFold},
    model::{self, Entry, Model, Source},
    trace::{Damage, Item, Reader, escape, text},
    view,
};

pub(super) fn report(args: &Report, out: &mut impl Write) -> Result<Status> {
    let mut fold = ReportFold::default();
    let model = read(&args.traces, |entry| fold.entry(entry))?;
    let value = fold.finish(&model);
    let text = if args.json { view::json("report", &value) } else { view::report(&value) };
    write(out, &text, &value.integrity)
}

pub(super) fn timeline(args: &Timeline, out: &mut impl Write) -> Result<Status> {
    let mut fold = TimelineFold::new(args.query());
    let model = read(&args.traces, |entry| fold.entry(entry))?;
    let value = fold.finish(&model);
    let text =
        if args.json { view::json("timeline", &value) } else { view::timeline(&value, args.stack_choice()) };
    write(out, &text, &value.integrity)
}

pub(super) fn excess(args: &Excess, out: &mut impl Write) -> Result<Status> {
    let mut fold = ExcessFold::default();
    let model = read(&args.traces, |entry| fold.entry(entry))?;
    let value = fold.finish(&model);
    let text = if args.json { view::json("excess", &value) } else { view::excess(&value, args.frames) };
    write(out, &text, &value.integrity)
}

/// Shows each file as it is, one after the other, so that the text can be read back.
pub(super) fn dump(args: &Dump, out: &mut impl Write) -> Result<Status> {
    let mut status = Status::Done;
    for mut trace in open(&args.traces)? {
        for item in trace.by_ref() {
            writeln!(out, "{}", text::show(&item))?;
        }
        if let Some(Damage { at, what }) = trace.damage() {
            writeln!(out, "# damaged at byte {at}: {}", escape(&what))?;
            status = Status::Problems;
        }
        if trace.skipped() > 0 {
            writeln!(out, "# skipped {} items that only a newer tt-buftrace can read", trace.skipped())?;
        }
    }
    Ok(status)
}

fn write(out: &mut impl Write, text: &str, integrity: &Integrity) -> Result<Status> {
    out.write_all(text.as_bytes())?;
    Ok(if integrity.damaged { Status::Problems } else { Status::Done })
}

fn read(traces: &Traces, mut sink: impl FnMut(&Entry)) -> Result<Model> {
    Ok(model::read(open(traces)?, &mut sink))
}

fn open(traces: &Traces) -> Result<Vec<TraceFile>> {
    traces.paths.iter().map(|path| TraceFile::open(path)).collect()
}

/// A trace file and its name.
struct TraceFile {
    name: String,
    reader: Reader<BufReader<File>>,
}

impl TraceFile {
    fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let reader = Reader::open(path).with_context(|| format!("failed to read {name}"))?;
        Ok(Self { name, reader })
    }
}

impl Iterator for TraceFile {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.reader.next()
    }
}

impl Source for TraceFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn damage(&self) -> Option<Damage> {
        self.reader.damage().cloned()
    }

    fn skipped(&self) -> u64 {
        self.reader.skipped()
    }
}
