// SPDX-License-Identifier: Apache-2.0
//! The command that makes a trace of what other tools wrote.

use std::{fs::File, io::BufReader};

use anyhow::{Context as _, Result};

use super::{Status, args::Import};
use crate::{
    import::{Format, Importer, Summary},
    trace::{Item, Writer, escape},
};

pub(super) fn import(args: &Import) -> Result<Status> {
    let inputs: Vec<_> = args.files.iter().map(|path| (path, File::open(path))).collect();
    let mut files = Vec::new();
    for (path, file) in inputs {
        files.push((path, file.with_context(|| format!("failed to open {}", path.display()))?));
    }
    let mut writer = Writer::create(&args.output)?;
    let mut importer = Importer::default();
    let mut status = Status::Done;
    for (path, file) in files {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let mut sink = |item| match item {
            Item::Record(record) => writer.record(record),
            Item::Event(event) => writer.event(event),
        };
        let summary = importer
            .file(&name, BufReader::new(file), &mut sink)
            .with_context(|| format!("failed to import {}", path.display()))?;
        eprintln!("{}", escape(&show(&name, &summary)));
        if summary.unreadable > 0 {
            status = Status::Problems;
        }
    }
    writer.flush()?;
    Ok(status)
}

fn show(name: &str, summary: &Summary) -> String {
    let Summary { format, events, processes, parts, unreadable } = summary;
    let parts = match format {
        Format::AllocationServer => format!("{parts} lines"),
        Format::GraphCapture => format!("{parts} nodes"),
    };
    let rest =
        if *unreadable > 0 { format!("; {unreadable} could not be read, see the report") } else { String::new() };
    format!("{name}: {format}, {events} allocations and frees of {processes} processes in {parts}{rest}")
}
