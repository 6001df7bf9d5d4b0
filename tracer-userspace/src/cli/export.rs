// SPDX-License-Identifier: Apache-2.0
//! The command that writes the formats of other tools.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Status,
    args::{Export, Format},
    file::{is_replaceable, refuse_same, replace},
    read::open,
};
use crate::{
    export::{self, Csv, Folded, Frames, JsonLines, Parquet, Visualizer},
    model::{self, Model},
};

pub(super) fn export(args: &Export) -> Result<Status> {
    let folder = folder(args)?;
    let known = model::read(open(&args.traces.paths)?, &mut |_| {});
    match &args.output {
        Some(path) if folder => write_folder(args, &known, path),
        Some(path) => {
            refuse_same(path, &args.traces.paths)?;
            write_file(path, |out| run(args, &known, out))
        }
        None => run(args, &known, &mut io::stdout().lock()),
    }
}

/// Whether the output is a folder. What does not go together is refused before anything is read.
fn folder(args: &Export) -> Result<bool> {
    if args.stacks && !matches!(args.to, Format::Csv | Format::Jsonl) {
        bail!("--stacks is for --to csv and --to jsonl");
    }
    let folder = matches!(args.to, Format::Parquet | Format::Visualizer);
    if folder && args.output.is_none() {
        bail!("this format is a folder, which -o names");
    }
    if matches!(args.to, Format::Visualizer) && args.scope.filter().parts_lives() {
        bail!("of what is live, only a --device or --type can be shown alone");
    }
    Ok(folder)
}

fn run(args: &Export, known: &Model, out: &mut dyn Write) -> Result<Status> {
    let definitions = &known.definitions;
    let frames = if args.stacks { Frames::Show } else { Frames::Hide };
    let format: Box<dyn export::Export + '_> = match args.to {
        Format::Folded => Box::new(Folded::new(definitions, out)),
        Format::Csv => Box::new(Csv::new(definitions, frames, out)?),
        Format::Jsonl => Box::new(JsonLines::new(definitions, frames, out)),
        Format::Parquet | Format::Visualizer => bail!("this format is a folder"),
    };
    feed(args, known, format)
}

fn write_folder(args: &Export, known: &Model, path: &Path) -> Result<Status> {
    let selected = args.scope.filter().select(&known.definitions).told();
    let format: Box<dyn export::Export + '_> = match args.to {
        Format::Visualizer => Box::new(Visualizer::new(known, path)?),
        _ => Box::new(Parquet::new(known, selected.as_ref(), path)?),
    };
    feed(args, known, format)
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
