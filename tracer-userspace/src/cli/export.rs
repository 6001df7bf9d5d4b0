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
    read::open,
};
use crate::{
    export::{self, Folded, Html},
    model::{self, Model},
};

pub(super) fn export(args: &Export) -> Result<Status> {
    let known = model::read(open(&args.traces.paths)?, &mut |_| {});
    match &args.output {
        Some(path) => {
            refuse_same(path, &args.traces.paths)?;
            write_file(path, |out| run(args, &known, out))
        }
        None => run(args, &known, &mut io::stdout().lock()),
    }
}

fn run(args: &Export, known: &Model, out: &mut dyn Write) -> Result<Status> {
    match args.to {
        Format::Folded => feed(args, known, Box::new(Folded::new(&known.definitions, out))),
        Format::Html => feed(args, known, Box::new(Html::new(known, &args.scope.filter(), out))),
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
    format.selected(selection.told());
    format.finish()?;
    for (name, damage) in &model.damages {
        eprintln!("warning: {name} is damaged at byte {}: {}; what is behind is left out", damage.at, damage.what);
    }
    Ok(if model.damages.is_empty() { Status::Done } else { Status::Problems })
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
