// SPDX-License-Identifier: Apache-2.0
//! The report as text.

use super::{
    balance, holders, integrity,
    table::{Table, bytes, count, signed_bytes, when},
};
use crate::analysis::{Report, VerdictCount};

/// Shows a report.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut out = String::new();
    integrity::show(&report.integrity, &mut out);
    let has_server = report.balance.server.as_ref().is_some_and(|rows| !rows.is_empty());
    let is_empty = !has_server && report.totals.is_empty() && report.verdicts.is_empty() && report.tests.is_empty();
    if is_empty && report.integrity.selected.is_some() {
        out.push_str("\nNothing matches.\n");
        return out;
    }
    let several = report.integrity.processes.len() > 1;
    let process = |number: u32| {
        if several { number.to_string() } else { String::new() }
    };
    section("Memory", &totals(report, process), &mut out);
    section("Circular buffers, in the L1 of each core that has them", &circular(report, process), &mut out);
    section("Verdicts", &verdicts(report), &mut out);
    balance::show(&report.balance, process, &mut out);
    section("Tests", &tests(report), &mut out);
    section("Held at the peak", &holders::peaks(report, process), &mut out);
    more(report.hidden_peaks, &mut out);
    section("Failed requests, and what was held then", &holders::failures(report, process), &mut out);
    if report.other_failures > 0 {
        out.push_str(&format!("  … and {} more\n", count(report.other_failures, "failed request")));
    }
    out
}

/// Absent values in tables.
pub(super) fn or_unknown(value: Option<&String>) -> String {
    value.map_or_else(|| "unknown".to_owned(), String::clone)
}

pub(crate) fn verdict_counts(counts: &[VerdictCount]) -> String {
    let counts: Vec<String> = counts.iter().map(|row| format!("{} {}", row.count, row.verdict.name())).collect();
    counts.join(", ")
}

/// Says how many rows of a table are left out.
pub(super) fn more(hidden: usize, out: &mut String) {
    if hidden > 0 {
        out.push_str(&format!("  … and {hidden} more (--top)\n"));
    }
}

pub(super) fn section(title: &str, table: &Table, out: &mut String) {
    let mut text = String::new();
    table.show(&mut text);
    if !text.is_empty() {
        out.push_str(&format!("\n{title}\n{text}"));
    }
}

fn totals(report: &Report, process: impl Fn(u32) -> String) -> Table {
    let mut table = Table::new(&[
        "process",
        "device",
        "type",
        ">before",
        ">bytes",
        ">allocated",
        ">bytes",
        ">freed",
        ">bytes",
        ">live",
        ">bytes",
        ">peak",
        ">at",
        "in",
    ]);
    let any_found = report.totals.iter().any(|row| row.found > 0);
    for row in &report.totals {
        table.row(&[
            process(row.process),
            or_unknown(row.device.as_ref()),
            row.buffer_type.clone(),
            if any_found { row.found.to_string() } else { String::new() },
            if any_found { bytes(row.bytes_found) } else { String::new() },
            row.allocations.to_string(),
            bytes(row.bytes_allocated),
            row.frees.to_string(),
            bytes(row.bytes_freed),
            row.live.to_string(),
            bytes(row.bytes_live),
            row.peak_bytes.map(bytes).unwrap_or_default(),
            row.peak_time.map(|at| when(at, report.integrity.clock(row.process))).unwrap_or_default(),
            row.peak_test.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn circular(report: &Report, process: impl Fn(u32) -> String) -> Table {
    let mut table = Table::new(&["process", "device", ">laid out", ">bytes", ">in buffers", ">all gone", ">peak"]);
    for row in &report.circular {
        table.row(&[
            process(row.process),
            or_unknown(row.device.as_ref()),
            row.allocations.to_string(),
            bytes(row.bytes),
            row.in_buffers.to_string(),
            row.releases.to_string(),
            bytes(row.peak_bytes),
        ]);
    }
    table
}

fn verdicts(report: &Report) -> Table {
    let mut table = Table::new(&["verdict", ">confirmed", ">possible", "meaning"]);
    for row in &report.verdicts {
        let meaning = row.meaning.to_owned();
        table.row(&[row.verdict.name().to_owned(), row.confirmed.to_string(), row.possible.to_string(), meaning]);
    }
    table
}

/// A test id in a table: of a long one, beginning and end, as parameters are behind.
fn test_id(id: &str) -> String {
    const HALF: usize = 50;
    let border = |place| id.char_indices().nth(place).map_or(id.len(), |(at, _)| at);
    match id.chars().count().checked_sub(2 * HALF) {
        None | Some(0) => id.to_owned(),
        Some(more) => format!("{}…{}", &id[..border(HALF)], &id[border(HALF + more)..]),
    }
}

fn tests(report: &Report) -> Table {
    let mut table = Table::new(&["test", ">allocs", ">frees", ">bytes", ">left", "verdicts"]);
    if report.tests.iter().all(|row| row.test.is_none()) {
        return table;
    }
    for row in &report.tests {
        table.row(&[
            row.test.as_deref().map_or_else(|| "(outside of tests)".to_owned(), test_id),
            row.allocations.to_string(),
            row.frees.to_string(),
            bytes(row.bytes_allocated),
            signed_bytes(row.bytes_left),
            verdict_counts(&row.verdicts),
        ]);
    }
    table
}
