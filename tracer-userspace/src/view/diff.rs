// SPDX-License-Identifier: Apache-2.0
//! Two runs compared, as text: first in words, then what appeared, what vanished, and the rest.

use std::collections::BTreeMap;

use super::table::{Table, count, signed_bytes};
use crate::{
    analysis::{Balance, Change, ChangeKind, Conclusion, Diff, Integrity, TestSum},
    model::{Certainty, Verdict},
    trace::escape,
};

/// Shows a difference, with at most so many rows a table.
#[must_use]
pub fn diff(diff: &Diff, top: usize) -> String {
    let mut out = headline(diff);
    for doubt in &diff.doubts {
        out.push_str(&format!("  only possible: {}\n", escape(doubt)));
    }
    out.push_str(&format!("\nBefore: {}\nAfter:  {}\n", side(&diff.before), side(&diff.after)));
    for (title, kinds) in [
        ("Appeared", &[ChangeKind::Appeared][..]),
        ("More", &[ChangeKind::More]),
        ("Vanished", &[ChangeKind::Vanished]),
        ("Fewer", &[ChangeKind::Fewer]),
        ("Not tested: the later run did not get there", &[ChangeKind::Untested]),
    ] {
        findings(title, diff.changes.iter().filter(|it| kinds.contains(&it.what)), top, &mut out);
    }
    findings("The same in both", diff.unchanged.iter(), top, &mut out);
    section("Verdicts", verdicts(diff), top, &mut out);
    section("Balance of addresses, where it differs", balance(diff), top, &mut out);
    section("Tests that did something else", tests(diff), top, &mut out);
    for (name, integrity) in [("before", &diff.before), ("after", &diff.after)] {
        for problem in &integrity.problems {
            out.push_str(&format!("! {name}: {}\n", escape(problem)));
        }
    }
    out
}

fn headline(diff: &Diff) -> String {
    let of = |kinds: &[ChangeKind]| told(diff.changes.iter().filter(|it| kinds.contains(&it.what)));
    let gone = of(&[ChangeKind::Vanished, ChangeKind::Fewer]);
    let new = of(&[ChangeKind::Appeared, ChangeKind::More]);
    let same = told(diff.unchanged.iter().chain(diff.changes.iter().filter(|it| it.after > 0)));
    let (word, rest) = match diff.conclusion {
        Conclusion::Clean => ("Clean", "neither run has a finding".to_owned()),
        Conclusion::Fixed if same.is_empty() => ("Fixed", format!("{gone} gone, nothing left, nothing new")),
        Conclusion::Fixed => ("Fixed", format!("{gone} gone, nothing new; {same} left")),
        Conclusion::Better => ("Better, not fixed", format!("{gone} gone, {same} left")),
        Conclusion::Unchanged => ("Not fixed", format!("both runs have {same}")),
        Conclusion::Mixed => ("Changed, not fixed", format!("{new} new, {gone} gone")),
        Conclusion::Worse => ("Worse", format!("{new} new, nothing gone")),
        Conclusion::Untested => ("Not tested", format!("the later run did not get to {}", of(&[ChangeKind::Untested]))),
    };
    match diff.certainty {
        Certainty::Confirmed => format!("{word}: {rest}.\n"),
        Certainty::Possible => format!("Possibly {}: {rest}.\n", word.to_lowercase()),
    }
}

/// By how much findings changed (or how many there are, if they did not), by verdict: `2 repeat at 1 site`.
fn told<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    let mut verdicts: BTreeMap<Verdict, (u64, Vec<&str>)> = BTreeMap::new();
    for change in changes {
        let (sum, sites) = verdicts.entry(change.verdict).or_default();
        let step = change.before.abs_diff(change.after);
        *sum += if step == 0 { change.after } else { step };
        if !sites.contains(&change.site.id.as_str()) {
            sites.push(&change.site.id);
        }
    }
    let mut rows: Vec<_> = verdicts.into_iter().collect();
    rows.sort_by_key(|(verdict, _)| std::cmp::Reverse(verdict.colour()));
    let words = rows
        .into_iter()
        .map(|(verdict, (sum, sites))| format!("{sum} {} at {}", verdict.name(), count(sites.len() as u64, "site")));
    words.collect::<Vec<_>>().join(", ")
}

fn side(integrity: &Integrity) -> String {
    let commands: Vec<String> =
        integrity.processes.iter().map(|it| format!("{} (pid {})", it.command, it.pid)).collect();
    let lost = integrity.lost();
    let lost = if lost > 0 { format!("{lost} lost") } else { "none lost".to_owned() };
    escape(&format!("{}, {lost}; {}", count(integrity.events, "event"), commands.join("; ")))
}

fn findings<'a>(title: &str, changes: impl Iterator<Item = &'a Change>, top: usize, out: &mut String) {
    let changes: Vec<_> = changes.collect();
    if !changes.is_empty() {
        out.push_str(&format!("\n{title}\n"));
    }
    for change in changes.iter().take(top) {
        let certainty = if change.certainty == Certainty::Possible { " (possible)" } else { "" };
        let (verdict, site) = (change.verdict.name(), &change.site);
        let steps = if change.before == change.after {
            change.before.to_string()
        } else {
            format!("{} → {}", change.before, change.after)
        };
        out.push_str(&format!("  {steps} {verdict}{certainty}  site {}\n", site.id));
        out.push_str(&format!("    {}\n", escape(&site.name)));
        let test = change.test.as_deref().map_or_else(|| "outside of tests".to_owned(), |test| format!("in {test}"));
        out.push_str(&format!("    {}{}\n", escape(&test), now(change)));
    }
    if changes.len() > top {
        out.push_str(&format!("  … and {} more (--top)\n", changes.len() - top));
    }
}

/// What the later run does where it does less wrong.
fn now(change: &Change) -> String {
    match (change.what, change.after_otherwise) {
        (ChangeKind::Vanished | ChangeKind::Fewer, 1..) => {
            format!("; the later run comes by {} without it", times(change.after_otherwise))
        }
        (ChangeKind::Vanished, 0) => "; the later run does not come by".to_owned(),
        _ => String::new(),
    }
}

fn times(number: u64) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

fn section(title: &str, mut table: Table, top: usize, out: &mut String) {
    let hidden = table.cut(top);
    let mut text = String::new();
    table.show(&mut text);
    if !text.is_empty() {
        out.push_str(&format!("\n{title}\n{text}"));
    }
    if hidden > 0 {
        out.push_str(&format!("  … and {hidden} more (--top)\n"));
    }
}

fn verdicts(diff: &Diff) -> Table {
    let mut table = Table::new(&["verdict", ">before", ">after", ">change"]);
    for row in &diff.verdicts {
        let change = signed(i128::from(row.after) - i128::from(row.before));
        table.row(&[row.verdict.name().to_owned(), row.before.to_string(), row.after.to_string(), change]);
    }
    table
}

fn balance(diff: &Diff) -> Table {
    let mut table = Table::new(&["device", "type", ">allocs = frees", ">not freed", ">freed more"]);
    let step = |before: u64, after: u64| format!("{before} → {after}");
    for row in &diff.balance {
        let (Balance { even, not_freed, freed_more }, after) = (row.before, row.after);
        table.row(&[
            row.device.clone(),
            row.buffer_type.clone(),
            step(even, after.even),
            step(not_freed, after.not_freed),
            step(freed_more, after.freed_more),
        ]);
    }
    table
}

fn tests(diff: &Diff) -> Table {
    let mut table = Table::new(&["test", ">allocs", ">frees", ">left"]);
    for row in &diff.tests {
        let step = |value: fn(&TestSum) -> String| {
            let show = |sum: &Option<TestSum>| sum.as_ref().map_or_else(|| "not run".to_owned(), value);
            let (before, after) = (show(&row.before), show(&row.after));
            if before == after { before } else { format!("{before} → {after}") }
        };
        table.row(&[
            row.test.clone().unwrap_or_else(|| "(outside of tests)".to_owned()),
            step(|sum| sum.allocations.to_string()),
            step(|sum| sum.frees.to_string()),
            step(|sum| signed_bytes(sum.bytes_left)),
        ]);
    }
    table
}

fn signed(difference: i128) -> String {
    if difference == 0 { String::new() } else { format!("{difference:+}") }
}
