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
    file::{is_replaceable, refuse_same, refuse_trace, replace},
    profile,
    read::open,
};
use crate::{
    analysis::Integrity,
    export::{self, Csv, Html, JsonLines, Links, Parquet, Perfetto, Visualizer},
    model::{self, Model},
    trace::escape,
};

pub(super) fn export(args: &Export) -> Result<Status> {
    refuse(args)?;
    match (&args.output, args.to.is_folder()) {
        (Some(path), true) => write_folder(args, path),
        (None, true) => bail!("this format is a folder of files: name it by -o FOLDER"),
        (Some(path), false) => {
            refuse_same(path, args.inputs())?;
            refuse_trace(path)?;
            write_file(path, |out| run(args, out))
        }
        (None, false) => run(args, &mut io::stdout().lock()),
    }
}

/// What does not go together is refused before anything is read.
fn refuse(args: &Export) -> Result<()> {
    if args.stacks && !matches!(args.to, Format::Csv | Format::Jsonl) {
        bail!("--stacks is for --to csv and --to jsonl");
    }
    if matches!(args.to, Format::Visualizer) && args.scope.filter()?.parts_lives() {
        bail!("of what is live, only a --device or --type can be shown alone");
    }
    args.profile.refuse(args.to)
}

fn run(args: &Export, out: &mut dyn Write) -> Result<Status> {
    match args.to {
        Format::Html => {
            let known = model::read(open(&args.traces.paths)?, &mut |_| {});
            feed(args, &known, Box::new(Html::new(&known, &args.scope.filter()?, out)))
        }
        Format::Csv | Format::Jsonl => {
            // Forks number processes, too, so that the events are read for that.
            let known = model::read(open(&args.traces.paths)?, &mut |_| {});
            let definitions = &known.definitions;
            let stacks = args.stacks.then(|| args.profile.stacks(definitions));
            match args.to {
                Format::Csv => feed(args, &known, Box::new(Csv::new(definitions, stacks, out)?)),
                _ => feed(args, &known, Box::new(JsonLines::new(definitions, stacks, out))),
            }
        }
        Format::Perfetto => {
            let mut links = Links::default();
            let known = model::read(open(&args.traces.paths)?, &mut |entry| links.entry(entry));
            feed(args, &known, Box::new(Perfetto::new(&known, links, &args.scope.filter()?, out)?))
        }
        _ => profile::write(args, out),
    }
}

fn write_folder(args: &Export, path: &Path) -> Result<Status> {
    let known = model::read(open(&args.traces.paths)?, &mut |_| {});
    let format: Box<dyn export::Export + '_> = match args.to {
        Format::Visualizer => Box::new(Visualizer::new(&known, path)?),
        _ => Box::new(Parquet::new(&known, path)?),
    };
    feed(args, &known, format)
}

/// Reads the traces again, for their entries.
fn feed(args: &Export, known: &Model, mut format: Box<dyn export::Export + '_>) -> Result<Status> {
    let mut selection = args.scope.filter()?.select(&known.definitions);
    let mut written = Ok(());
    let model = model::read(open(&args.traces.paths)?, &mut |entry| {
        if written.is_ok() && selection.takes(entry) {
            written = format.entry(entry);
        }
    });
    written?;
    format.finish(selection.told().as_ref())?;
    Ok(warn(&model))
}

/// Says what a format has no place for: that something is missing.
pub(super) fn warn(model: &Model) -> Status {
    for (name, damage) in &model.damages {
        let what = escape(&damage.what);
        say!("warning: {name} is damaged at byte {}: {what}; what is behind is left out\n", damage.at);
    }
    let lost = Integrity::of(model).lost();
    if lost > 0 {
        say!("warning: {lost} events were lost; what they told is missing\n");
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
