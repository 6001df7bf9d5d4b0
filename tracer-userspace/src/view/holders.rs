// SPDX-License-Identifier: Apache-2.0
//! Who held what, at the peak and when a request failed, as text.

use super::{
    report::or_unknown,
    table::{Table, bytes, when},
};
use crate::{
    analysis::{Failure, LiveSet, Peak, Report, Site},
    model::Certainty,
};

const TITLES: [&str; 10] = [">at", "process", "device", "type", "", ">buffers", ">bytes", "site", "", "in"];

/// What was live when most was.
pub(super) fn peaks(report: &Report, process: impl Fn(u32) -> String) -> Table {
    let mut table = Table::new(&TITLES);
    for peak in &report.peaks {
        let Peak { process: number, device, buffer_type, time, held } = peak;
        let at = when(*time, report.integrity.clock(*number));
        let memory = [at, process(*number), or_unknown(device.as_ref()), buffer_type.clone()];
        table.row(&row(memory, "in all", held.buffers, held.bytes, None, None));
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
        table.row(&row(memory, what, 1, failure.bytes, Some(&failure.site), test.as_ref()));
        if let Some(held) = &failure.held {
            table.row(&row(NOTHING, "held in all", held.buffers, held.bytes, None, None));
            holders(held, &mut table);
        }
    }
    table
}

fn holders(held: &LiveSet, table: &mut Table) {
    let (mut buffers, mut size) = (held.buffers, held.bytes);
    for holder in &held.holders {
        table.row(&row(NOTHING, "held", holder.buffers, holder.bytes, Some(&holder.site), holder.test.as_ref()));
        (buffers, size) = (buffers.saturating_sub(holder.buffers), size.saturating_sub(holder.bytes));
    }
    if held.others > 0 {
        let mut rest = row(NOTHING, "held", buffers, size, None, None);
        rest[8] = format!("({} more)", held.others);
        table.row(&rest);
    }
}

/// When and in which memory, where a row is about the same as the one before.
const NOTHING: [String; 4] = [const { String::new() }; 4];

fn row(
    memory: [String; 4],
    what: &str,
    buffers: u64,
    size: u64,
    site: Option<&Site>,
    test: Option<&String>,
) -> [String; 10] {
    let [at, process, device, buffer_type] = memory;
    let id = site.filter(|site| !site.frames.is_empty()).map(|site| site.id.clone()).unwrap_or_default();
    let name = site.map(|site| site.name.clone()).unwrap_or_default();
    let test = test.cloned().unwrap_or_default();
    [at, process, device, buffer_type, what.to_owned(), buffers.to_string(), bytes(size), id, name, test]
}
