// SPDX-License-Identifier: Apache-2.0
//! A page that shows a trace in a browser: one file, which needs no server and no network.
//!
//! Its numbers are those of [`Report`](crate::analysis::Report), [`Excess`](crate::analysis::Excess) and
//! [`Held`](crate::analysis::Held), by the names that they have in JSON; beside them are the life and the events of each
//! buffer as columns, which it draws. The exporter needs about 150 bytes for each buffer, and so does the page.

mod column;
mod page;
mod rows;
mod stacks;

use std::io::Write;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use self::{
    column::{Column, Columns},
    rows::{Rows, Tables},
    stacks::Stacks,
};
use super::Export;
use crate::{
    analysis::{
        Cause, ExcessFold, ExcessKind, ExcessSite, Filter, Grouping, HeldFold, Order, Ranking, ReportFold, Selected,
    },
    model::{Colour, Entry, Model, Verdict},
    trace::escape,
};

/// Most rows of each table of the page.
const TOP: usize = 200;

/// Up to here a number of JSON is exact for a page.
const EXACT: u64 = (1 << 53) - 1;

/// Writes the page.
pub struct Html<'a, W> {
    model: &'a Model,
    report: ReportFold,
    excess: ExcessFold,
    held: HeldFold,
    rows: Rows,
    out: W,
}

/// What the page knows besides the columns.
#[derive(Serialize)]
struct Facts<'a> {
    version: &'static str,
    verdicts: Vec<VerdictWords>,
    report: Value,
    excess: Value,
    /// Of each site of `excess`: this free, the free before, the allocation.
    excess_stacks: [Vec<[usize; 3]>; ExcessKind::ALL.len()],
    held: Value,
    /// Of each group of `held`.
    held_stacks: Vec<usize>,
    causes: Vec<Value>,
    tables: Tables,
    stacks: Stacks,
    columns: &'a [Column],
}

#[derive(Serialize)]
struct VerdictWords {
    name: &'static str,
    colour: Colour,
    meaning: &'static str,
}

impl<'a, W: Write> Html<'a, W> {
    /// Begins with what the traces define, for the entries that a filter takes.
    pub fn new(model: &'a Model, filter: &Filter, out: W) -> Self {
        let (excess, held, rows) = Default::default();
        Self { model, report: ReportFold::new(filter), excess, held, rows, out }
    }
}

impl<W: Write> Export for Html<'_, W> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.report.entry(entry);
        self.excess.entry(entry);
        self.held.entry(entry);
        self.rows.entry(entry);
        Ok(())
    }

    fn finish(self: Box<Self>, selected: Option<&Selected>) -> Result<()> {
        let Self { model, report, excess, held, rows, mut out } = *self;
        let (mut stacks, mut columns) = (Stacks::new(), Columns::default());
        let tables = rows.finish(&model.definitions, &mut stacks, &mut columns);
        let mut report = report.finish(TOP, model);
        report.integrity.selected = selected.cloned();
        let mut excess = excess.finish(None, Ranking { order: Order::Count, top: Some(TOP) }, model);
        let mut places =
            |sites: &mut Vec<ExcessSite>| sites.iter_mut().map(|it| take_stacks(it, &mut stacks)).collect();
        let excess_stacks =
            [&mut excess.sites, &mut excess.leaks, &mut excess.late, &mut excess.inherited].map(&mut places);
        let mut held = held.finish(Grouping::Site, Ranking { order: Order::Bytes, top: Some(TOP) }, model);
        let allocations = held.groups.iter_mut().map(|group| group.allocation.as_mut().and_then(|it| it.stack.take()));
        let held_stacks = allocations.map(|lines| lines.map_or(0, |lines| stacks.add(Some(&lines)))).collect();
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION"),
            verdicts: Verdict::ALL.map(VerdictWords::of).into(),
            report: printable(serde_json::to_value(&report)?),
            excess: printable(serde_json::to_value(&excess)?),
            excess_stacks,
            held: printable(serde_json::to_value(&held)?),
            held_stacks,
            causes: Cause::ALL
                .map(|cause| serde_json::to_value(cause.explain()))
                .into_iter()
                .collect::<Result<_, _>>()?,
            tables,
            stacks,
            columns: &columns.directory,
        };
        let facts = serde_json::to_vec(&facts)?;
        page::write(&mut out, &facts, &columns.bytes).context("failed to write")?;
        out.flush().context("failed to write")
    }
}

impl VerdictWords {
    fn of(verdict: Verdict) -> Self {
        Self { name: verdict.name(), colour: verdict.colour(), meaning: verdict.meaning() }
    }
}

/// Puts the stacks of a site among those of the page.
fn take_stacks(site: &mut ExcessSite, stacks: &mut Stacks) -> [usize; 3] {
    [site.free.take(), site.previous.stack.take(), site.allocation.stack.take()]
        .map(|lines| lines.map_or(0, |lines| stacks.add(Some(&lines))))
}

/// The same with each text as it may be shown, and numbers that are too large for a page as texts.
fn printable(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escape(&text)),
        Value::Array(values) => values.into_iter().map(printable).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (escape(&name), printable(value))).collect::<Map<_, _>>().into()
        }
        // A double would round it.
        Value::Number(number) if number.as_u64().is_some_and(|it| it > EXACT) => Value::String(number.to_string()),
        other => other,
    }
}
