// SPDX-License-Identifier: Apache-2.0
//! How a run stands to its rules, as text.

use super::{
    integrity,
    table::{bytes, count},
};
use crate::{
    analysis::{Check, Expected, Finding, Ruling},
    model::Certainty,
    trace::escape,
};

/// Most findings, tests or addresses that are named of one rule.
const MOST: usize = 10;

/// Shows a check.
#[must_use]
pub fn check(check: &Check) -> String {
    let mut out = headline(check);
    for doubt in &check.doubts {
        out.push_str(&format!("  only possible: {}\n", escape(doubt)));
    }
    out.push('\n');
    for ruling in &check.rules {
        show_ruling(ruling, &mut out);
    }
    for expected in &check.expectations {
        show_expected(expected, &mut out);
    }
    if !check.known.is_empty() {
        out.push_str(&format!("\n{} known from the baseline\n", count(check.known.len() as u64, "finding")));
    }
    if !check.suppressed.is_empty() {
        out.push_str("\nSuppressed\n");
    }
    for suppressed in &check.suppressed {
        show_finding(&suppressed.finding, &mut out);
        out.push_str(&format!("    reason: {}\n", escape(&suppressed.reason)));
    }
    out.push('\n');
    for notice in &check.notices {
        out.push_str(&format!("! {}\n", escape(notice)));
    }
    integrity::show(&check.integrity, &mut out);
    out
}

/// The outcome in one line.
pub(super) fn headline(check: &Check) -> String {
    let broken = check.rules.iter().filter(|it| !it.passed).map(|it| it.rule.clone());
    let unmet = check.expectations.iter().filter(|it| !it.passed).map(|it| format!("\"{}\"", it.name));
    let broken: Vec<String> = broken.chain(unmet).collect();
    match (check.passed, check.certainty) {
        (true, Certainty::Confirmed) => "Passed.\n".to_owned(),
        (true, Certainty::Possible) => "Passed, as far as the recording goes.\n".to_owned(),
        (false, _) if broken.is_empty() => "Failed: the recording does not go far enough to pass.\n".to_owned(),
        (false, _) => format!("Failed: {}.\n", escape(&broken.join(", "))),
    }
}

fn show_ruling(ruling: &Ruling, out: &mut String) {
    let word = if ruling.passed { "passed" } else { "FAILED" };
    let by_test = if ruling.tests.is_empty() { "" } else { " in the worst test" };
    out.push_str(&format!("{word}  {}: {}{by_test}", ruling.rule, ruling.count));
    if ruling.possible > 0 {
        out.push_str(&format!(", and {} only possible", ruling.possible));
    }
    out.push('\n');
    if ruling.passed {
        return;
    }
    for test in ruling.tests.iter().filter(|test| !test.passed).take(MOST) {
        out.push_str(&format!(
            "  {} in {}\n",
            test.count,
            escape(test.test.as_deref().unwrap_or("(outside of tests)"))
        ));
    }
    for finding in ruling.findings.iter().take(MOST) {
        show_finding(finding, out);
    }
    if ruling.findings.len() > MOST {
        out.push_str(&format!("  … and {} more (--json)\n", ruling.findings.len() - MOST));
    }
}

/// Two lines or three: what, where, in which test.
pub(super) fn show_finding(finding: &Finding, out: &mut String) {
    let Finding { verdict, site, test, confirmed, possible, bytes: size } = finding;
    let possible = if *possible > 0 { format!(" and {possible} possible") } else { String::new() };
    out.push_str(&format!("  {confirmed}{possible} {}, {}  site {}\n", verdict.name(), bytes(*size), site.id));
    out.push_str(&format!("    {}\n", escape(&site.name)));
    if let Some(test) = test {
        out.push_str(&format!("    in {}\n", escape(test)));
    }
}

fn show_expected(expected: &Expected, out: &mut String) {
    let Expected { name, allocations, frees, addresses, unmet, passed } = expected;
    let word = if *passed { "passed" } else { "FAILED" };
    out.push_str(&format!("{word}  {}: {allocations} allocations, {frees} frees", escape(name)));
    out.push_str(&match (addresses, unmet.len()) {
        (0, _) => ", and no buffer that this is about\n".to_owned(),
        (_, 0) => format!(" at {addresses} addresses\n"),
        (_, wrong) => format!(", but not at {wrong} of {addresses} addresses\n"),
    });
    for unmet in unmet.iter().take(MOST) {
        let possible = if unmet.certainty == Certainty::Possible { " (possible)" } else { "" };
        out.push_str(&format!(
            "  {} {:#x}: {} allocations, {} frees on {}{possible}\n",
            escape(&unmet.buffer_type),
            unmet.address,
            unmet.allocations,
            unmet.frees,
            escape(&unmet.devices.join(", ")),
        ));
    }
    if unmet.len() > MOST {
        out.push_str(&format!("  … and {} more (--json)\n", unmet.len() - MOST));
    }
}
