// SPDX-License-Identifier: Apache-2.0
//! Who held what, at the peak and when a request failed, as text.

use super::{
    report::or_unknown,
    stack::site,
    table::{Table, bytes, when},
};
use crate::{
    analysis::{Failure, Held, Peak, Report},
    model::Certainty,
};

const TITLES: [&str; 9] = [">at", "process", "device", "type", "", ">buffers", ">bytes", "by", "in"];

/// What was live when most was.
pub(super) fn peaks(report: &Report, process: impl Fn(u32) -> String) -> Table {
    let mut table = Table::new(&TITLES);
    for peak in report.peaks.iter().filter(|peak| peak.held.buffers > 0) {
        let Peak { process: number, device, buffer_type, time, held } = peak;
        let at = when(*time, report.integrity.clock(*number));
        let memory = [at, process(*number), or_unknown(device.as_ref()), buffer_type.clone()];
        let all = [held.buffers.to_string(), bytes(held.bytes), String::new(), String::new()];
        table.row(&row(memory, "in all", all));
        holders(held, &mut table);
    }
    table
}

/// What was live when a request failed.
pub(super) fn failures(report: &Report, process: impl Fn(u32) -> String) -> Table {
    let mut table = Table::new(&TITLES);
    for failure in &report.failures {
        let Failure { process: number, device, buffer_type, time, certainty, test, .. } = failure;
        let at = when(*time, report.integrity.clock(*number));
        let memory = [at, process(*number), or_unknown(device.as_ref()), buffer_type.clone()];
        let what = if *certainty == Certainty::Possible { "requested (possible)" } else { "requested" };
        let request = ["1".to_owned(), bytes(failure.bytes), site(&failure.site), test.clone().unwrap_or_default()];
        table.row(&row(memory, what, request));
        let all = [failure.held.buffers.to_string(), bytes(failure.held.bytes), String::new(), String::new()];
        table.row(&row([const { String::new() }; 4], "held in all", all));
        holders(&failure.held, &mut table);
    }
    table
}

fn holders(held: &Held, table: &mut Table) {
    let nothing = [const { String::new() }; 4];
    for holder in &held.holders {
        let by = if holder.site.is_empty() { "no stack".to_owned() } else { site(&holder.site) };
        let test = holder.test.clone().unwrap_or_default();
        table.row(&row(nothing.clone(), "held", [holder.buffers.to_string(), bytes(holder.bytes), by, test]));
    }
    if held.others > 0 {
        let named: (u64, u64) =
            held.holders.iter().fold((0, 0), |sum, it| (sum.0 + it.buffers, sum.1.saturating_add(it.bytes)));
        let rest = [held.buffers.saturating_sub(named.0).to_string(), bytes(held.bytes.saturating_sub(named.1))];
        let [buffers, size] = rest;
        table.row(&row(nothing, "held", [buffers, size, format!("({} more)", held.others), String::new()]));
    }
}

fn row(memory: [String; 4], what: &str, rest: [String; 4]) -> [String; 9] {
    let [at, process, device, buffer_type] = memory;
    let [buffers, size, by, test] = rest;
    [at, process, device, buffer_type, what.to_owned(), buffers, size, by, test]
}
