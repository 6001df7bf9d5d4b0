// SPDX-License-Identifier: Apache-2.0
//! The commands that compare runs and judge them: `diff` and `check`.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use time::OffsetDateTime;

use super::{
    Status,
    args::{Check, Diff},
    file::{is_trace, read_text, refuse_same, save},
    read::{read, read_with_origins},
};
use crate::{
    analysis::{self, Baseline, CountedFold, Counts, Expectations, Filter, Gate, Summary, SummaryFold, Suppressions},
    view,
};

pub(super) fn diff(args: &Diff, out: &mut impl Write) -> Result<Status> {
    let before = summary(&args.before.0, args.scope.filter()?)?;
    let after = summary(&args.after.0, args.scope.filter()?)?;
    let value = analysis::diff(&before, &after);
    let text = if args.json { view::json("diff", &value) } else { view::diff(&value, args.top) };
    out.write_all(text.as_bytes())?;
    let damaged = value.before.damaged || value.after.damaged;
    Ok(if damaged { Status::Problems } else { Status::Done })
}

pub(super) fn check(args: &Check, out: &mut impl Write) -> Result<Status> {
    refuse_outputs(args)?;
    let gate = gate(args)?;
    let filter = args.scope.filter()?;
    let (summary, counts) = match gate.expectations.is_empty() {
        true => (summary(&args.traces.paths, filter)?, Counts::default()),
        false => summary_and_counts(&args.traces.paths, filter)?,
    };
    if let Some(selected) = summary.integrity.selected.as_ref().filter(|it| !it.unmatched.is_empty()) {
        bail!("nothing is checked by {}: {}", selected.only, selected.unmatched.join("; "));
    }
    let value = gate.check(&summary, &counts);
    let text = if args.json { view::json("check", &value) } else { view::check(&value) };
    out.write_all(text.as_bytes())?;
    // What can't be written is still shown.
    out.flush()?;
    if let Some(path) = &args.write_baseline {
        let baseline = Baseline::of(&summary);
        save(path, &baseline.show())?;
        if !args.json {
            writeln!(out, "wrote {} findings, for --baseline, to {}", baseline.count(), path.display())?;
        }
    }
    if let Some(path) = &args.junit {
        save(path, &view::junit(&value))?;
    }
    Ok(if value.passed && !value.integrity.damaged { Status::Done } else { Status::Problems })
}

/// Nothing that is read may be written; but a baseline may be brought up to date.
fn refuse_outputs(args: &Check) -> Result<()> {
    let read = || args.traces.paths.iter().chain(&args.suppress).chain(&args.expect);
    if let Some(path) = &args.write_baseline {
        refuse_same(path, read())?;
    }
    if let Some(path) = &args.junit {
        refuse_same(path, read().chain(&args.baseline).chain(&args.write_baseline))?;
    }
    Ok(())
}

fn gate(args: &Check) -> Result<Gate> {
    let expectations = parse_file(args.expect.as_deref(), Expectations::parse)?.unwrap_or_default();
    let filter = args.scope.filter()?;
    if args.expect.is_some() && (filter.since.is_some() || filter.until.is_some()) {
        bail!("expectations are of whole lives: --since and --until do not go with them");
    }
    Ok(Gate {
        rules: args.fail_on.clone(),
        baseline: args.baseline.as_deref().map(|path| baseline(path, filter.clone())).transpose()?,
        suppressions: parse_file(args.suppress.as_deref(), Suppressions::parse)?.unwrap_or_default(),
        expectations,
        strict: args.strict,
        today: OffsetDateTime::now_utc().date(),
    })
}

/// A baseline is a trace or a file of its own; they are told apart by how they begin.
fn baseline(path: &Path, filter: Filter) -> Result<Baseline> {
    if is_trace(path)? {
        return Ok(Baseline::of(&summary(&[path.to_owned()], filter)?));
    }
    parse_text(path, Baseline::parse)
}

fn parse_file<T>(path: Option<&Path>, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>> {
    path.map(|path| parse_text(path, parse)).transpose()
}

fn parse_text<T>(path: &Path, parse: impl Fn(&str) -> Result<T, String>) -> Result<T> {
    let read = parse(&read_text(path)?).map_err(|problem| anyhow!(problem));
    read.with_context(|| format!("failed to read {}", path.display()))
}

fn summary(paths: &[PathBuf], filter: Filter) -> Result<Summary> {
    let mut fold = SummaryFold::default();
    let (model, selection) = read(paths, filter, |entry| fold.entry(entry))?;
    let mut summary = fold.finish(&model);
    summary.integrity.selected = selection.told();
    Ok(summary)
}

fn summary_and_counts(paths: &[PathBuf], filter: Filter) -> Result<(Summary, Counts)> {
    let (mut fold, mut counts) = (SummaryFold::default(), CountedFold::default());
    let (model, selection) = read_with_origins(paths, filter, |entry, is_selected| {
        if is_selected {
            fold.entry(entry);
        }
        // What is expected of a buffer counts where it was allocated, wherever it is freed.
        counts.entry(entry);
    })?;
    let mut summary = fold.finish(&model);
    summary.integrity.selected = selection.told();
    Ok((summary, counts.finish(&model, &selection)))
}
