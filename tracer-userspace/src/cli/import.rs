// SPDX-License-Identifier: Apache-2.0
//! The command that makes a trace of what other tools wrote.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    Status,
    args::Import,
    file::{is_replaceable, open_stream, refuse_same, replace},
};
use crate::{
    import::{Format, Importer, Summary},
    trace::{Item, Writer, escape, refuse_other},
};

pub(super) fn import(args: &Import) -> Result<Status> {
    let files = args.files.iter().map(|path| Ok((path, open_stream(path)?))).collect::<Result<Vec<_>>>()?;
    refuse_same(&args.output, &args.files)?;
    refuse_other(&args.output)?;
    match is_replaceable(&args.output) {
        true => replace(&args.output, |new| {
            let status = write(files, new)?;
            // Somebody may have begun to record there meanwhile.
            refuse_other(&args.output)?;
            Ok(status)
        }),
        false => write(files, &args.output),
    }
}

fn write(files: Vec<(&PathBuf, File)>, output: &Path) -> Result<Status> {
    let mut writer = Writer::create(output)?;
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
        say!("{}\n", escape(&show(&name, &summary)));
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
