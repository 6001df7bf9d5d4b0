// SPDX-License-Identifier: Apache-2.0
//! What was not freed, as text.

use super::{
    Frames, integrity, stack,
    table::{Table, bytes, count, seconds},
};
use crate::{
    analysis::{Grouping, Held, HeldGroup, Until},
    trace::escape,
};

/// Most tests that are named of one site.
const TESTS: usize = 5;

/// Shows what was held: sites with their stacks, other groups as a table.
#[must_use]
pub fn held(held: &Held, frames: Frames) -> String {
    let mut out = String::new();
    integrity::show(&held.integrity, &mut out);
    if held.groups.is_empty() && held.hidden == 0 {
        out.push_str("\nNothing was held.\n");
        return out;
    }
    out.push('\n');
    for total in &held.totals {
        let buffers = count(total.count, "buffer");
        out.push_str(&format!(
            "{}: {buffers}, {}{}\n",
            what(total.until),
            bytes(total.bytes),
            doubts(total.possible, total.leaked)
        ));
    }
    match held.by {
        Grouping::Site => sites(held, frames, &mut out),
        Grouping::Test | Grouping::Device | Grouping::Type => table(held, &mut out),
    }
    if held.hidden > 0 {
        out.push_str(&format!("\n… and {} more (--top)\n", held.hidden));
    }
    out
}

fn sites(held: &Held, frames: Frames, out: &mut String) {
    for group in &held.groups {
        let id = group.site.as_ref().map(|site| format!(" {}", site.id)).unwrap_or_default();
        out.push_str(&format!("\nSite{id}: {}\n", escape(&group.name)));
        let size = bytes(group.bytes);
        out.push_str(&format!("  {}, {size}, {}", count(group.count, "buffer"), short(group.until)));
        if let Some(ages) = ages(group) {
            out.push_str(&format!(", {ages} old"));
        }
        out.push_str(&format!("{}\n", doubts(group.possible, group.leaked)));
        for (test, count) in group.tests.iter().take(TESTS) {
            out.push_str(&format!("  {count} of {}\n", escape(test)));
        }
        if group.tests.len() > TESTS {
            out.push_str(&format!("  … and of {} more tests\n", group.tests.len() - TESTS));
        }
        out.push_str(&format!("  e.g. {}\n", escape(&group.examples.join(", "))));
        if let Some(lines) = group.allocation.as_ref().and_then(|place| place.stack.as_ref()) {
            stack::show(lines, frames, "    ", out);
        }
    }
}

fn table(held: &Held, out: &mut String) {
    let title = match held.by {
        Grouping::Site => "site",
        Grouping::Test => "test",
        Grouping::Device => "device",
        Grouping::Type => "type",
    };
    let mut table = Table::new(&["until", title, ">buffers", ">possible", ">bytes", "age"]);
    for group in &held.groups {
        let possible = if group.possible > 0 { group.possible.to_string() } else { String::new() };
        let age = ages(group).unwrap_or_default();
        let until = short(group.until).to_owned();
        table.row(&[until, group.name.clone(), group.count.to_string(), possible, bytes(group.bytes), age]);
    }
    out.push('\n');
    table.show(out);
}

fn ages(group: &HeldGroup) -> Option<String> {
    let (oldest, youngest) = (seconds(group.oldest?), seconds(group.youngest?));
    Some(if oldest == youngest { oldest } else { format!("{youngest} to {oldest}") })
}

fn doubts(possible: u64, leaked: u64) -> String {
    let told = [(possible, "only possible"), (leaked, "freed, but leaked")];
    told.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!(", {number} of them {what}")).collect()
}

fn what(until: Until) -> &'static str {
    match until {
        Until::Exit => "Never freed until the process ended",
        Until::Exec => "Never freed until the process executed another program",
        Until::Close => "Held until their device closed, or its allocator released everything",
        Until::Stop => "Live when the recording stopped; the process may free them yet",
        Until::Source => "Live at the end of what was imported",
    }
}

fn short(until: Until) -> &'static str {
    match until {
        Until::Exit => "at exit",
        Until::Exec => "at exec",
        Until::Close => "at close",
        Until::Stop => "at stop",
        Until::Source => "at the end",
    }
}
