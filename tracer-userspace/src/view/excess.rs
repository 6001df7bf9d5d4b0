// SPDX-License-Identifier: Apache-2.0
//! Excess frees as text.

use super::{
    Frames, integrity,
    report::verdict_counts,
    stack,
    table::{Table, bytes, count},
};
use crate::{
    analysis::{Excess, ExcessGrouping, ExcessKind, ExcessSite, Place, Suspect},
    trace::escape,
};

/// Most tests that are named of one site.
const TESTS: usize = 5;

/// Shows the sites of excess frees, and below them those of late frees.
#[must_use]
pub fn excess(excess: &Excess, frames: Frames) -> String {
    let mut out = String::new();
    integrity::show(&excess.integrity, &mut out);
    match excess.by {
        Some(by) => groups(excess, by, &mut out),
        None => sites(excess, frames, &mut out),
    }
    if excess.hidden > 0 {
        let what = if excess.by.is_some() { "group" } else { "site" };
        out.push_str(&format!("\n… and {} more (--top)\n", count(excess.hidden as u64, what)));
    }
    out
}

/// Shows one site of them.
#[must_use]
pub fn excess_site(site: &ExcessSite, frames: Frames) -> String {
    let mut out = count(site.count, "free");
    show_site(site, frames, &mut out);
    out
}

fn sites(excess: &Excess, frames: Frames, out: &mut String) {
    // Of each kind at least one is shown, unless none is.
    let shows_any = [&excess.leaks, &excess.late, &excess.inherited].into_iter().any(|sites| !sites.is_empty());
    if excess.sites.is_empty() && (shows_any || excess.hidden == 0) {
        out.push_str("\nNo excess frees.\n");
    }
    for (index, site) in excess.sites.iter().enumerate() {
        out.push_str(&format!("\nSite {}: {}", index + 1, count(site.count, "excess free")));
        show_site(site, frames, out);
    }
    if !excess.leaks.is_empty() {
        out.push_str("\nLeaks, no excess: frees for which no allocator was called, so that the memory stays taken\n");
    }
    for (index, site) in excess.leaks.iter().enumerate() {
        out.push_str(&format!("\nLeak site {}: {}", index + 1, count(site.count, "free")));
        show_site(site, frames, out);
    }
    if !excess.late.is_empty() {
        out.push_str(
            "\nLate frees, no excess: no allocator was called, mostly as the memory was gone with its device\n",
        );
    }
    for (index, site) in excess.late.iter().enumerate() {
        out.push_str(&format!("\nLate site {}: {}", index + 1, count(site.count, "late free")));
        show_site(site, frames, out);
    }
    if !excess.inherited.is_empty() {
        out.push_str("\nFrees in forked children, no excess: the memory is their parent's, and stays as it is\n");
    }
    for (index, site) in excess.inherited.iter().enumerate() {
        out.push_str(&format!("\nChild site {}: {}", index + 1, count(site.count, "free")));
        show_site(site, frames, out);
    }
}

fn groups(excess: &Excess, by: ExcessGrouping, out: &mut String) {
    if excess.groups.is_empty() {
        if excess.hidden == 0 {
            out.push_str("\nNo excess frees.\n");
        }
        return;
    }
    let title = match by {
        ExcessGrouping::Test => "test",
        ExcessGrouping::Device => "device",
        ExcessGrouping::Type => "type",
        ExcessGrouping::Verdict => "verdict",
    };
    let mut table = Table::new(&["kind", title, ">frees", ">possible", ">bytes"]);
    for group in &excess.groups {
        let kind = match group.kind {
            ExcessKind::Excess => "excess",
            ExcessKind::Leak => "leak",
            ExcessKind::Late => "late",
            ExcessKind::Inherited => "in a child",
        };
        let possible = if group.possible > 0 { group.possible.to_string() } else { String::new() };
        table.row(&[kind.to_owned(), group.name.clone(), group.count.to_string(), possible, bytes(group.bytes)]);
    }
    out.push('\n');
    table.show(out);
}

fn show_site(site: &ExcessSite, frames: Frames, out: &mut String) {
    out.push_str(&format!(" ({})", verdict_counts(&site.verdicts)));
    if site.possible > 0 {
        out.push_str(&format!(", {} of them only possible", site.possible));
    }
    out.push_str(&format!("\n  {} {}\n", site.site.id, escape(&site.site.name)));
    for (test, count) in site.tests.iter().take(TESTS) {
        out.push_str(&format!("  {count} in {}\n", escape(test)));
    }
    if site.tests.len() > TESTS {
        out.push_str(&format!("  … and in {} more tests\n", site.tests.len() - TESTS));
    }
    let outside = site.count.saturating_sub(site.tests.values().fold(0, |sum, count| sum.saturating_add(*count)));
    if outside > 0 && !site.tests.is_empty() {
        out.push_str(&format!("  {outside} outside of tests\n"));
    }
    out.push_str(&format!("  e.g. {}\n", escape(&site.examples.join(", "))));
    show_causes(&site.causes, out);
    let free = Place { what: "no stack".to_owned(), stack: site.free.clone() };
    show_place("this free", &free, frames, out);
    let before = match site.previous.stack {
        Some(_) => format!("the free before ({})", site.previous.what),
        None => "the free before".to_owned(),
    };
    show_place(&before, &site.previous, frames, out);
    show_place("the allocation", &site.allocation, frames, out);
    if site.other_places > 0 {
        out.push_str(&format!("  (the same with other stacks of these three: {}, not shown)\n", site.other_places));
    }
}

fn show_causes(causes: &[Suspect], out: &mut String) {
    if causes.is_empty() {
        out.push_str("  cause: no known pattern\n");
    }
    for Suspect { cause, evidence } in causes {
        let words = cause.explain();
        out.push_str(&format!("  cause: {} ({})\n", words.meaning, cause.name()));
        out.push_str(&format!("    {}\n    look at {}\n", escape(evidence), words.look));
    }
}

fn show_place(title: &str, place: &Place, frames: Frames, out: &mut String) {
    match &place.stack {
        Some(lines) => {
            out.push_str(&format!("  {title}:\n"));
            stack::show(lines, frames, "    ", out);
        }
        None => out.push_str(&format!("  {title}: {}\n", escape(&place.what))),
    }
}
