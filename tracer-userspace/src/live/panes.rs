// SPDX-License-Identifier: Apache-2.0
//! The rows of each pane as text, in its order.

use std::cmp::Reverse;

use super::{Live, draw::at_seconds, screen::Pane};
use crate::{
    analysis::{Clock, LiveFinding, LiveMemory, LivePicture, LiveSite, LiveTest},
    model::{Certainty, Colour},
    trace::escape,
    view::{Table, bytes, signed_bytes, verdict_counts, when},
};

/// Levels of a column of the history, from nothing to the peak.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A pane's rows.
pub(super) struct Rows {
    /// The titles of the columns; empty if there are no rows.
    pub(super) titles: String,
    pub(super) rows: Vec<Row>,
}

/// One of them.
pub(super) struct Row {
    /// Stays the same while the row does.
    pub(super) key: String,
    pub(super) text: String,
    /// All of the row's names, for a search.
    pub(super) names: String,
    pub(super) colour: Colour,
    /// Where it is in the picture.
    pub(super) index: usize,
}

/// The rows of a pane, for so many columns of the screen.
pub(super) fn rows(live: &Live, pane: Pane, width: usize) -> Rows {
    let (picture, order) = (&live.picture, live.screen.order(pane));
    match pane {
        Pane::Memory => memory(picture, order, width),
        Pane::Verdicts => verdicts(picture, order, width),
        Pane::Sites => sites(picture, order, width),
        Pane::Tests => tests(picture, order, width),
    }
}

fn memory(picture: &LivePicture, order: usize, width: usize) -> Rows {
    let name = |it: &LiveMemory| format!("{} {}", it.device.as_deref().unwrap_or("unknown"), it.buffer_type);
    let sorted = sorted(&picture.memories, |it| {
        let by = match order {
            0 => it.live.bytes,
            1 => it.peak,
            _ => 0,
        };
        (Reverse(by), name(it), it.process)
    });
    let several = picture.processes.len() > 1;
    let history = width.saturating_sub(58).clamp(8, 120);
    let mut table = Table::new(&["process", "memory", ">live", ">buffers", ">peak", "history"]);
    let mut rows = Vec::new();
    for (index, it) in sorted {
        table.row(&[
            if several { it.process.to_string() } else { String::new() },
            name(it),
            bytes(it.live.bytes),
            it.live.buffers.to_string(),
            bytes(it.peak),
            sparkline(&it.history.columns(history, picture.last), it.peak),
        ]);
        rows.push(Row {
            key: format!("{} {}", it.process, name(it)),
            text: String::new(),
            names: name(it),
            colour: Colour::Normal,
            index,
        });
    }
    finish(&table, rows)
}

fn verdicts(picture: &LivePicture, order: usize, width: usize) -> Rows {
    let sorted = sorted(&picture.findings, |it| {
        let (severity, count) = match order {
            0 => (Some(it.verdict.colour()), 0),
            1 => (None, 0),
            _ => (None, it.count),
        };
        (Reverse((severity, count, it.latest.moment.time)), it.stack, it.verdict)
    });
    let rest =
        width.saturating_sub(if sorted.iter().any(|(_, it)| it.certainty == Certainty::Possible) { 46 } else { 36 });
    let longest = picture.findings.iter().filter_map(|it| it.test.as_ref()).map(String::len).max().unwrap_or(0);
    let test = longest.min(rest - rest * 3 / 5);
    let site = rest - test;
    let mut table = Table::new(&["verdict", "", ">times", ">last at", "site", "test"]);
    let mut rows = Vec::new();
    for (index, it) in sorted {
        let test_name = it.test.clone().unwrap_or_default();
        table.row(&[
            format!("{} {}", mark(it.verdict.colour()), it.verdict.name()),
            if it.certainty == Certainty::Possible { "possible".to_owned() } else { String::new() },
            it.count.to_string(),
            at(it.latest.moment.time, clock(picture, it.latest.buffer.process)),
            site_name(&it.site.name, site),
            end(&test_name, test),
        ]);
        rows.push(Row {
            key: verdict_key(it),
            text: String::new(),
            names: [it.verdict.name(), &it.site.name, &it.site.id, &test_name].join(" "),
            colour: it.verdict.colour(),
            index,
        });
    }
    finish(&table, rows)
}

fn sites(picture: &LivePicture, order: usize, width: usize) -> Rows {
    let sorted = sorted(&picture.sites, |it| {
        let by = match order {
            0 => it.growth,
            1 => it.load.bytes as i64,
            _ => it.load.buffers as i64,
        };
        (Reverse(by), it.stack)
    });
    let mut table = Table::new(&[">growth", ">held", ">buffers", "allocated at"]);
    let mut rows = Vec::new();
    for (index, it) in sorted {
        table.row(&[
            signed_bytes(it.growth),
            bytes(it.load.bytes),
            it.load.buffers.to_string(),
            site_name(&it.site.name, width.saturating_sub(36)),
        ]);
        rows.push(Row {
            key: site_key(it),
            text: String::new(),
            names: [it.site.name.as_str(), &it.site.id].join(" "),
            colour: Colour::Normal,
            index,
        });
    }
    finish(&table, rows)
}

fn tests(picture: &LivePicture, order: usize, width: usize) -> Rows {
    let worst = |it: &LiveTest| it.findings.iter().map(|row| row.verdict.colour()).max().unwrap_or(Colour::Normal);
    let found = |it: &LiveTest| it.findings.iter().map(|row| row.count).sum::<u64>();
    let sorted = sorted(&picture.tests, |it| {
        let by = match order {
            0 => (None, 0, it.first as i64),
            1 => (None, it.bytes_left, 0),
            _ => (Some(worst(it)), found(it) as i64, 0),
        };
        (Reverse((it.running && order == 0, by)), it.test.clone())
    });
    let mut table = Table::new(&["", ">allocs", ">frees", ">left", "verdicts", "test"]);
    let mut rows = Vec::new();
    let found_width =
        picture.tests.iter().map(|it| verdict_counts(&it.findings).len()).max().unwrap_or(0).min(width / 3);
    let room = width.saturating_sub(37 + found_width);
    let any_test = picture.tests.iter().any(|it| it.test.is_some());
    for (index, it) in sorted.into_iter().filter(|_| any_test) {
        let name = it.test.clone().unwrap_or_else(|| "(outside of tests)".to_owned());
        table.row(&[
            if it.running { "runs".to_owned() } else { String::new() },
            it.allocations.to_string(),
            it.frees.to_string(),
            signed_bytes(it.bytes_left),
            begin(&verdict_counts(&it.findings), found_width),
            end(&name, room),
        ]);
        rows.push(Row { key: name.clone(), text: String::new(), names: name, colour: worst(it), index });
    }
    finish(&table, rows)
}

fn sorted<T, K: Ord>(rows: &[T], key: impl Fn(&T) -> K) -> Vec<(usize, &T)> {
    let mut rows: Vec<_> = rows.iter().enumerate().collect();
    rows.sort_by_cached_key(|(_, row)| key(row));
    rows
}

fn finish(table: &Table, mut rows: Vec<Row>) -> Rows {
    let mut lines = table.lines().into_iter();
    let titles = lines.next().unwrap_or_default();
    for (row, line) in rows.iter_mut().zip(lines) {
        row.text = line;
    }
    Rows { titles, rows }
}

/// What tells a colour without one.
pub(super) fn mark(colour: Colour) -> &'static str {
    match colour {
        Colour::Red => "!!",
        Colour::Excess => "! ",
        Colour::Yellow | Colour::Normal => "  ",
    }
}

fn verdict_key(it: &LiveFinding) -> String {
    format!("{} {:?} {}", it.verdict.name(), it.certainty, it.stack)
}

fn site_key(it: &LiveSite) -> String {
    format!("{:?}", it.stack)
}

fn clock(picture: &LivePicture, process: u32) -> Clock {
    picture.processes.iter().find(|row| row.process == process).map_or(Clock::Time, |row| row.clock())
}

fn at(time: u64, clock: Clock) -> String {
    if clock == Clock::Time { at_seconds(time) } else { when(time, clock) }
}

/// The name of a site; where it is too long, the innermost function goes without its namespaces.
fn site_name(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return escape(name);
    }
    let (innermost, callers) = name.split_once(" < ").unwrap_or((name, ""));
    let mut parts: Vec<&str> = innermost.rsplitn(3, "::").take(2).collect();
    parts.reverse();
    let arrow = if callers.is_empty() { "" } else { " < " };
    begin(&format!("{}{arrow}{callers}", parts.join("::")), width)
}

fn sparkline(values: &[u64], peak: u64) -> String {
    let level = |value: u64| match u128::from(value) * 8 / u128::from(peak.max(1)) {
        0 => usize::from(value > 0),
        level => (level as usize).min(8),
    };
    values.iter().map(|&value| LEVELS[level(value)]).collect()
}

/// The first characters of a text.
fn begin(text: &str, width: usize) -> String {
    let text = escape(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The last characters of a text, which tell tests apart.
fn end(text: &str, width: usize) -> String {
    let text = escape(text);
    let length = text.chars().count();
    if length <= width {
        return text;
    }
    ['…'].into_iter().chain(text.chars().skip(length + 1 - width.max(1))).collect()
}
