// SPDX-License-Identifier: Apache-2.0
//! Who held what, at the peak and when a request failed, as text.

use super::{
    report::or_unknown,
    table::{Table, bytes, when},
};
use crate::{
    analysis::{Failure, LiveSet, Load, Peak, Report, Site},
    model::Certainty,
};

const TITLES: [&str; 11] =
    [">at", "process", "device", "type", "", ">buffers", ">bytes", ">in each bank", "site", "", "in"];

/// What was live when most was.
pub(super) fn peaks(report: &Report, process: impl Fn(u32) -> String) -> Table {
    let mut table = Table::new(&TITLES);
    for peak in &report.peaks {
        let Peak { process: number, device, buffer_type, time, held } = peak;
        let at = when(*time, report.integrity.clock(*number));
        let memory = [at, process(*number), or_unknown(device.as_ref()), buffer_type.clone()];
        table.row(&row(memory, "in all", held.load, None, None));
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
        let load = Load::of_one(failure.bytes, failure.bank_bytes);
        table.row(&row(memory, what, load, Some(&failure.site), test.as_ref()));
        if let Some(held) = &failure.held {
            table.row(&row(NOTHING, "held in all", held.load, None, None));
            holders(held, &mut table);
        }
    }
    table
}

fn holders(held: &LiveSet, table: &mut Table) {
    let mut rest = held.load;
    for holder in &held.holders {
        table.row(&row(NOTHING, "held", holder.load, Some(&holder.site), holder.test.as_ref()));
        rest = rest.minus(holder.load);
    }
    if held.others > 0 {
        let mut cells = row(NOTHING, "held", rest, None, None);
        cells[9] = format!("({} more)", held.others);
        table.row(&cells);
    }
}

/// When and in which memory, where a row is about the same as the one before.
const NOTHING: [String; 4] = [const { String::new() }; 4];

/// A dash if nothing is known of the banks; at least so much if not all is.
fn in_each_bank(load: Load) -> String {
    match load.bank_unknown {
        0 => bytes(load.bank_bytes),
        unknown if unknown >= load.buffers => "-".to_owned(),
        _ => format!("≥ {}", bytes(load.bank_bytes)),
    }
}

fn row(memory: [String; 4], what: &str, load: Load, site: Option<&Site>, test: Option<&String>) -> [String; 11] {
    let [at, process, device, buffer_type] = memory;
    let id = site.filter(|site| !site.frames.is_empty()).map(|site| site.id.clone()).unwrap_or_default();
    let name = site.map(|site| site.name.clone()).unwrap_or_default();
    let test = test.cloned().unwrap_or_default();
    let (buffers, size, banks) = (load.buffers.to_string(), bytes(load.bytes), in_each_bank(load));
    [at, process, device, buffer_type, what.to_owned(), buffers, size, banks, id, name, test]
}
