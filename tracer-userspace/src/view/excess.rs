// SPDX-License-Identifier: Apache-2.0
//! Excess frees as text.

use super::{Frames, integrity, report::verdict_counts, stack, table::count};
use crate::{
    analysis::{Excess, ExcessSite, Place},
    trace::escape,
};

/// Most tests that are named of one site.
const TESTS: usize = 5;

/// Shows the sites of excess frees, and below them those of late frees.
#[must_use]
pub fn excess(excess: &Excess, frames: Frames) -> String {
    let mut out = String::new();
    integrity::show(&excess.integrity, &mut out);
    if excess.sites.is_empty() {
        out.push_str("\nNo excess frees.\n");
    }
    for (index, site) in excess.sites.iter().enumerate() {
        out.push_str(&format!("\nSite {}: {}", index + 1, count(site.count, "excess free")));
        show_site(site, frames, &mut out);
    }
    if !excess.late.is_empty() {
        out.push_str("\nLate frees, no excess: the memory was gone with its device or allocator\n");
    }
    for (index, site) in excess.late.iter().enumerate() {
        out.push_str(&format!("\nLate site {}: {}", index + 1, count(site.count, "late free")));
        show_site(site, frames, &mut out);
    }
    if excess.hidden > 0 {
        out.push_str(&format!("\n… and {} more (--top)\n", count(excess.hidden as u64, "site")));
    }
    out
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
    out.push_str(&format!("  e.g. {}\n", escape(&site.examples.join(", "))));
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

fn show_place(title: &str, place: &Place, frames: Frames, out: &mut String) {
    match &place.stack {
        Some(lines) => {
            out.push_str(&format!("  {title}:\n"));
            stack::show(lines, frames, "    ", out);
        }
        None => out.push_str(&format!("  {title}: {}\n", escape(&place.what))),
    }
}
