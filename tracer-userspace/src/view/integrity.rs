// SPDX-License-Identifier: Apache-2.0
//! What every view says first: of which processes, from when, and what is missing.

use std::collections::BTreeSet;

use time::{OffsetDateTime, macros::format_description};

use super::table::{count, when};
use crate::{
    analysis::{Clock, Integrity, ProcessRow},
    trace::escape,
};

/// Appends the head of a view.
pub(super) fn show(integrity: &Integrity, out: &mut String) {
    if integrity.processes.is_empty() || integrity.processes.iter().any(|row| row.clock() == Clock::Time) {
        let start = integrity.start_ns.map_or_else(|| "at an unknown time".to_owned(), wall_clock);
        out.push_str(&format!("Start {start}, times in seconds after it\n"));
    }
    let hosts: BTreeSet<_> = integrity.processes.iter().filter_map(|row| row.host.as_ref()).collect();
    for process in &integrity.processes {
        out.push_str(&show_process(process, hosts.len() > 1));
    }
    out.push_str(&count(integrity.events, "event"));
    for loss in &integrity.losses {
        let gaps = count(loss.gaps, "gap");
        out.push_str(&format!(", {} lost in {gaps} ({})", loss.events, escape(&loss.cause)));
    }
    out.push_str(if integrity.losses.is_empty() { ", none lost\n" } else { "\n" });
    if let Some(unaccounted) = integrity.unaccounted.filter(|&events| events != 0) {
        out.push_str(&format!("! {unaccounted} events were sent that are neither here nor known to be lost\n"));
    }
    for (what, rows) in [("stacks", &integrity.stacks), ("Python parts of stacks", &integrity.python_stacks)] {
        let all = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.value));
        let cut: Vec<_> = rows.iter().filter(|row| row.name != "complete").collect();
        if !cut.is_empty() {
            let cut: Vec<_> = cut.iter().map(|row| format!("{} {}", row.value, escape(&row.name))).collect();
            out.push_str(&format!("Of {all} {what} not all are whole: {}\n", cut.join(", ")));
        }
    }
    if !integrity.never_fired.is_empty() {
        out.push_str(&format!("Probes that never fired: {}\n", escape(&integrity.never_fired.join(", "))));
    }
    for problem in &integrity.problems {
        out.push_str(&format!("! {}\n", escape(problem)));
    }
    if let Some(selected) = &integrity.selected {
        out.push_str(&format!("Only {}\n", escape(&selected.only)));
        for unmatched in &selected.unmatched {
            out.push_str(&format!("! {}\n", escape(unmatched)));
        }
        if selected.without_device > 0 {
            let more = selected.without_device;
            out.push_str(&format!("! {more} more match all but the device, which is known of seen allocations only\n"));
        }
    }
}

fn show_process(row: &ProcessRow, hosts: bool) -> String {
    let host = row.host.as_ref().filter(|_| hosts).map_or(String::new(), |host| format!(" on {}", escape(host)));
    let inside = row.inner_pid.map_or(String::new(), |pid| format!(" ({pid} in its container)"));
    let pid = if row.pid == 0 { "pid not known".to_owned() } else { format!("pid {}{inside}{host}", row.pid) };
    let at = |end| when(end, row.clock());
    let end = match (row.reason.as_deref(), row.end) {
        (Some("exited"), Some(end)) => format!("exited at {}", at(end)),
        (Some("interrupted"), Some(end)) => format!("recorded until {}", at(end)),
        (Some("dead"), Some(end)) => format!("found dead at {}", at(end)),
        (Some("log-ended" | "capture-ended"), Some(end)) => format!("to {}", at(end)),
        (Some(reason), Some(end)) => format!("{reason} at {}", at(end)),
        _ => "no end: it is still being recorded, or was cut".to_owned(),
    };
    let source = match row.clock() {
        Clock::Time => String::new(),
        Clock::Lines => {
            ", a log: no times, threads or stacks; it tells no buffers apart, so that no verdict is confirmed"
                .to_owned()
        }
        Clock::Nodes => ", a graph capture: no times or threads; operations for stacks".to_owned(),
    };
    let what = match row.parent {
        Some(parent) => format!("forked from process {parent}"),
        None => command(&row.command),
    };
    format!("Process {}: {pid}, {what}, {}{source}\n", row.process, escape(&end))
}

/// The beginning of a command line, on one line.
pub(crate) fn command(whole: &str) -> String {
    const MOST: usize = 120;
    let mut shown: String = whole.chars().take(MOST).collect();
    if shown.len() < whole.len() {
        shown.push('…');
    }
    escape(&shown)
}

/// UTC, to the second.
fn wall_clock(ns: u64) -> String {
    let seconds = i64::try_from(ns / 1_000_000_000).ok();
    let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| "at an unknown time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date_1() {
        // `date -u -d @SECONDS`
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_827_696, "2000-02-29 12:34:56 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(wall_clock(seconds * 1_000_000_000), shown);
        }
    }
}
