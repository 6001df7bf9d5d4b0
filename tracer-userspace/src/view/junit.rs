// SPDX-License-Identifier: Apache-2.0
//! How a run stands to its rules, as JUnit XML for continuous integration.

use super::check::{headline, numbers, show_finding};
use crate::{
    analysis::{Check, Expected, Ruling},
    trace::escape_lines,
};

/// Shows a check: a test case for each rule, or for each test of a rule that goes by test, and for each expectation.
#[must_use]
pub fn junit(check: &Check) -> String {
    let mut cases: Vec<Case> = check.rules.iter().flat_map(cases).collect();
    cases.extend(check.expectations.iter().map(expected));
    if !check.passed && cases.iter().all(|case| case.failure.is_none()) {
        let text = check.doubts.join("\n");
        cases.push(Case { class: "check", name: "strict".to_owned(), failure: Some((headline(check), text)) });
    }
    if check.integrity.damaged {
        let message = "a trace is damaged: what is behind is missing".to_owned();
        let text = check.integrity.problems.join("\n");
        cases.push(Case { class: "check", name: "damaged".to_owned(), failure: Some((message, text)) });
    }
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!("<testsuite name=\"tt-buftrace\" tests=\"{}\" failures=\"{failures}\">\n", cases.len()));
    for Case { class, name, failure } in &cases {
        let head = format!("<testcase classname=\"tt-buftrace.{class}\" name=\"{}\"", xml(name));
        match failure {
            None => out.push_str(&format!("  {head}/>\n")),
            Some((message, text)) => {
                let message = xml(message.trim_end());
                out.push_str(&format!("  {head}>\n    <failure message=\"{message}\">{}</failure>\n", xml(text)));
                out.push_str("  </testcase>\n");
            }
        }
    }
    let said: Vec<String> =
        check.doubts.iter().chain(&check.notices).chain(&check.integrity.problems).cloned().collect();
    if !said.is_empty() {
        out.push_str(&format!("  <system-out>{}</system-out>\n", xml(&said.join("\n"))));
    }
    out.push_str("</testsuite>\n");
    out
}

/// A test case, and how it failed: in a line, and in all.
struct Case {
    class: &'static str,
    name: String,
    failure: Option<(String, String)>,
}

fn cases(ruling: &Ruling) -> Vec<Case> {
    if ruling.tests.is_empty() {
        let failure = (!ruling.passed).then(|| (format!("{} found", ruling.count), findings(ruling, None)));
        return vec![Case { class: "rule", name: ruling.rule.clone(), failure }];
    }
    let case = |test: &crate::analysis::TestRuling| {
        let id = test.test.as_deref();
        let failure = (!test.passed).then(|| (format!("{} found", test.count), findings(ruling, Some(id))));
        Case { class: "rule", name: format!("{}: {}", ruling.rule, id.unwrap_or("(outside of tests)")), failure }
    };
    ruling.tests.iter().map(case).collect()
}

fn findings(ruling: &Ruling, test: Option<Option<&str>>) -> String {
    let mut out = String::new();
    for finding in ruling.findings.iter().filter(|it| test.is_none_or(|test| it.test.as_deref() == test)) {
        show_finding(finding, &mut out);
    }
    out
}

fn expected(expected: &Expected) -> Case {
    let lines = expected
        .unmet
        .iter()
        .map(|it| format!("{} {:#x}: {}\n", it.buffer_type, it.address, numbers(it.allocations, it.frees)));
    let message = match expected.addresses {
        0 => "no buffer that this is about".to_owned(),
        all => format!("not as expected at {} of {all} addresses", expected.unmet.len()),
    };
    let failure = (!expected.passed).then(|| (message, lines.collect()));
    Case { class: "expectation", name: expected.name.clone(), failure }
}

/// XML has no control characters at all, not even escaped ones; line ends are kept.
fn xml(text: &str) -> String {
    let text = escape_lines(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}
