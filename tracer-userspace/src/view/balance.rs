// SPDX-License-Identifier: Apache-2.0
//! The balance of addresses as text: first as reported, then as it was.

use super::{
    report::{more, or_unknown, section, verdict_counts},
    table::Table,
};
use crate::analysis::{Balance, Explained, ServerRow};

/// Appends the tables. `process` names a process where there are several.
pub(super) fn show(balance: &Balance, process: impl Fn(u32) -> String, out: &mut String) {
    match &balance.server {
        Some(rows) => section(AS_REPORTED, &server(rows), out),
        None => out.push_str(&format!(
            "\n{AS_REPORTED}\n  not for this selection: it knows no tests, sites, types or times\n"
        )),
    }
    section("Addresses with more reported frees than allocations", &server_offenders(balance), out);
    more(balance.hidden_server_offenders, out);
    section("Balance of addresses in the allocators", &allocator(balance, &process), out);
    section("Addresses freed more often than allocated", &allocator_offenders(balance, &process), out);
    more(balance.hidden_allocator_offenders, out);
}

const AS_REPORTED: &str = "Balance of addresses as reported to the graph tracker (device number and address alone)";

fn server(rows: &[ServerRow]) -> Table {
    let titles = [
        "source",
        "device",
        ">addresses",
        ">allocs = frees",
        ">not freed",
        ">freed more",
        ">unknown",
        ">excess",
        "which were",
    ];
    let mut table = Table::new(&titles);
    let source = source_name(rows);
    for row in rows {
        table.row(&[
            row.source.map_or(String::new(), &source),
            row.device.map_or_else(|| "all".to_owned(), |device| device.to_string()),
            row.addresses.to_string(),
            with_share(row.even, row.addresses),
            with_share(row.not_freed, row.addresses),
            with_share(row.freed_more, row.addresses),
            row.unknown.to_string(),
            row.excess.to_string(),
            explained(&row.explained),
        ]);
    }
    table
}

fn server_offenders(balance: &Balance) -> Table {
    let titles =
        ["source", "device", ">address", "", "type", ">allocs", ">frees", ">unknown", ">balance", "which were"];
    let mut table = Table::new(&titles);
    let source = source_name(balance.server.as_deref().unwrap_or_default());
    for row in &balance.server_offenders {
        table.row(&[
            source(row.source),
            row.device.to_string(),
            format!("{:#x}", row.address),
            row.address.to_string(),
            row.buffer_types.join("+"),
            row.allocations.to_string(),
            row.frees.to_string(),
            row.unknown.to_string(),
            format!("-{}", row.frees.saturating_sub(row.allocations)),
            explained(&row.explained),
        ]);
    }
    table
}

/// Names a source, where there are several.
fn source_name(rows: &[ServerRow]) -> impl Fn(u32) -> String + use<> {
    let first = rows.first().and_then(|row| row.source);
    let several = rows.iter().any(|row| row.source.is_some() && row.source != first);
    move |source| if several { source.to_string() } else { String::new() }
}

fn explained(explained: &Explained) -> String {
    let mut text = verdict_counts(&explained.verdicts);
    let mut add = |count: u64, separator: &str, what: &str| {
        if count > 0 {
            let separator = if text.is_empty() { "" } else { separator };
            text.push_str(&format!("{separator}{count} {what}"));
        }
    };
    add(explained.without_verdict, ", ", "without a verdict");
    add(explained.not_freed, ", less ", "not freed");
    text
}

/// A number, and how much of all it is.
fn with_share(count: u64, all: u64) -> String {
    if count == 0 || count == all {
        return count.to_string();
    }
    let percent = count as f64 / all as f64 * 100.0;
    if percent < 1.0 { format!("{count} (<1%)") } else { format!("{count} ({percent:.0}%)") }
}

fn allocator(balance: &Balance, process: impl Fn(u32) -> String) -> Table {
    let titles = ["process", "device", "type", ">addresses", ">allocs = frees", ">not freed", ">freed more"];
    let mut table = Table::new(&titles);
    for row in &balance.allocator {
        table.row(&[
            process(row.process),
            or_unknown(row.device.as_ref()),
            row.buffer_type.clone(),
            row.addresses.to_string(),
            row.even.to_string(),
            row.not_freed.to_string(),
            row.freed_more.to_string(),
        ]);
    }
    table
}

fn allocator_offenders(balance: &Balance, process: impl Fn(u32) -> String) -> Table {
    let mut table =
        Table::new(&["process", "device", "type", ">address", ">allocs", ">frees", ">excess", "which were"]);
    for row in &balance.allocator_offenders {
        table.row(&[
            process(row.process),
            or_unknown(row.device.as_ref()),
            row.buffer_type.clone(),
            format!("{:#x}", row.address),
            row.allocations.to_string(),
            row.frees.to_string(),
            format!("+{}", row.frees.saturating_sub(row.allocations)),
            verdict_counts(&row.excess),
        ]);
    }
    table
}
