// SPDX-License-Identifier: Apache-2.0
//! The commands that compare runs and judge them: `diff` and `check`.

use std::{io::Write, path::PathBuf};

use anyhow::Result;

use super::{Status, args::Diff, read::read};
use crate::{
    analysis::{self, Filter, Summary, SummaryFold},
    view,
};

pub(super) fn diff(args: &Diff, out: &mut impl Write) -> Result<Status> {
    let before = summary(&args.before.0, args.scope.filter())?;
    let after = summary(&args.after.0, args.scope.filter())?;
    let value = analysis::diff(&before, &after);
    let text = if args.json { view::json("diff", &value) } else { view::diff(&value, args.top) };
    out.write_all(text.as_bytes())?;
    let damaged = value.before.damaged || value.after.damaged;
    Ok(if damaged { Status::Problems } else { Status::Done })
}

fn summary(paths: &[PathBuf], filter: Filter) -> Result<Summary> {
    let mut fold = SummaryFold::default();
    let (model, selected) = read(paths, filter, |entry| fold.entry(entry))?;
    let mut summary = fold.finish(&model);
    summary.integrity.selected = selected;
    Ok(summary)
}
