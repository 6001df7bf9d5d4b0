// SPDX-License-Identifier: Apache-2.0
//! The command that writes the formats of other tools.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};

use super::{
    Status,
    args::{Export, Format},
    file::{is_replaceable, refuse_same, replace},
    profile,
    read::open,
};
use crate::{
    analysis::Integrity,
    export::{self, Links, Perfetto},
    model::{self, Model},
    trace::escape,
};

pub(super) fn export(args: &Export) -> Result<Status> {
    match &args.output {
        Some(path) => {
            refuse_same(path, args.inputs())?;
            write_file(path, |out| run(args, out))
        }
        None => run(args, &mut io::stdout().lock()),
    }
}

fn run(args: &Export, out: &mut dyn Write) -> Result<Status> {
    match args.to {
        Format::Folded | Format::Svg | Format::Speedscope | Format::Pprof => profile::write(args, out),
        Format::Perfetto => {
            let mut links = Links::default();
            let known = model::read(open(&args.traces.paths)?, &mut |entry| links.entry(entry));
            feed(args, &known, Box::new(Perfetto::new(&known, links, &args.scope.filter(), out)?))
        }
    }
}

/// Reads the traces again, for their entries.
fn feed(args: &Export, known: &Model, mut format: Box<dyn export::Export + '_>) -> Result<Status> {
    let mut selection = args.scope.filter().select(&known.definitions);
    let mut written = Ok(());
    let model = model::read(open(&args.traces.paths)?, &mut |entry| {
        if written.is_ok() && selection.takes(entry) {
            written = format.entry(entry);
        }
    });
    written?;
    format.finish()?;
    Ok(warn(&model))
}

/// Says what a format has no place for: that something is missing.
pub(super) fn warn(model: &Model) -> Status {
    for (name, damage) in &model.damages {
        let what = escape(&damage.what);
        eprintln!("warning: {name} is damaged at byte {}: {what}; what is behind is left out", damage.at);
    }
    let lost = Integrity::of(model).lost();
    if lost > 0 {
        eprintln!("warning: {lost} events were lost; what they told is missing");
    }
    if model.damages.is_empty() { Status::Done } else { Status::Problems }
}

/// A file that is there already stays as it was unless all of the new one can be written.
fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<Status>) -> Result<Status> {
    let failed = || format!("failed to write {}", path.display());
    let into = |path: &Path| {
        // What a trace tells is its owner's, in any format.
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = io::BufWriter::new(options.open(path)?);
        let status = write(&mut file)?;
        file.flush()?;
        Ok(status)
    };
    if is_replaceable(path) { replace(path, into) } else { into(path) }.with_context(failed)
}
