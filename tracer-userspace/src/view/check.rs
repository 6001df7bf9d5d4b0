// SPDX-License-Identifier: Apache-2.0
//! How a run stands to its rules, as text.

use super::{
    integrity,
    table::{bytes, count},
};
use crate::{
    analysis::{Check, CountedIn, Expected, Finding, Ruling},
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
        out.push_str(&format!("  as far as recorded: {}\n", escape(doubt)));
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
        (true, _) if check.integrity.damaged => {
            "Passed as far as the traces can be read, but one is damaged: exit code 1.\n".to_owned()
        }
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
    let Expected { name, ledger, allocations, frees, addresses, unmet, passed } = expected;
    let word = if *passed { "passed" } else { "FAILED" };
    let reported = if *ledger == CountedIn::Server { " reported" } else { "" };
    out.push_str(&format!("{word}  {}: {}{reported}", escape(name), numbers(*allocations, *frees)));
    out.push_str(&match (addresses, unmet.len()) {
        (0, _) => ", and no buffer that this is about\n".to_owned(),
        (_, 0) => format!(" at {addresses} addresses\n"),
        (_, wrong) => format!(", but not at {wrong} of {addresses} addresses\n"),
    });
    for unmet in unmet.iter().take(MOST) {
        let possible = if unmet.certainty == Certainty::Possible { " (possible)" } else { "" };
        out.push_str(&format!(
            "  {} {:#x}: {} on {}{possible}\n",
            escape(&unmet.buffer_type),
            unmet.address,
            numbers(unmet.allocations, unmet.frees),
            escape(&unmet.devices.join(", ")),
        ));
    }
    if unmet.len() > MOST {
        out.push_str(&format!("  … and {} more (--json)\n", unmet.len() - MOST));
    }
}

pub(super) fn numbers(allocations: u64, frees: u64) -> String {
    format!("{}, {}", count(allocations, "allocation"), count(frees, "free"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use time::{Date, Month};

    use super::check;
    use crate::{
        analysis::{
            Baseline, Check, CountedFold, Expectations, Filter, Gate, Rule, Summary, SummaryFold, Suppressions,
        },
        model::read_text,
        view::junit,
    };

    /// In test one a cache frees buffer 1 again; in test two buffer 2 is held, and a third may be.
    const TRACE: &str = r##"
session wall_ns=1735689599000000000
process id=1 pid=4711 command="pytest"
border process=1 next_unique_id=1
text id=1 text="t.py::one (call)"
text id=2 text="t.py::two (call)"
frame id=1 address=0x1
symbol frame=1 function="make()"
frame id=2 address=0x2
symbol frame=2 function="Cache::clear()"
stack id=1 frames=1 end=complete
stack id=2 frames=2 end=complete
event 1 t=1000 p=1 tid=7 test-begin text=1
event 2 t=1100 p=1 tid=7 request uid=1 size=64 class=mesh stack=1
event 3 t=1100 p=1 tid=7 allocated uid=1 size=64 address=0x10 class=mesh
event 4 t=1200 p=1 tid=7 free uid=1 size=64 address=0x10 status=1 stack=2
event 5 t=1200 p=1 tid=7 released uid=1 size=64 status=1
event 6 t=1300 p=1 tid=7 free uid=1 size=64 address=0x10 status=2 stack=2
event 7 t=1400 p=1 tid=7 test-end
event 8 t=2000 p=1 tid=7 test-begin text=2
event 9 t=2100 p=1 tid=7 request uid=3 size=64 class=mesh stack=1
event 10 t=2100 p=1 tid=7 allocated uid=3 size=64 address=0x20 class=mesh
# LOSS
event 20 t=2200 p=1 tid=7 request uid=2 size=64 class=mesh stack=1
event 21 t=2200 p=1 tid=7 allocated uid=2 size=64 address=0x30 class=mesh
end process=1 time=3000 reason=exited
"##;

    const LOSS: &str = "loss process=1 after=2100 before=2200 count=9 cause=ring-full";

    fn gate(rules: &str) -> Gate {
        Gate {
            rules: rules.split(',').map(|rule| Rule::parse(rule).expect("a rule")).collect(),
            baseline: None,
            suppressions: Suppressions::default(),
            expectations: Expectations::default(),
            strict: false,
            today: Date::from_calendar_date(2027, Month::January, 31).expect("a day"),
        }
    }

    fn run(gate: &Gate, trace: &str) -> (Check, Summary) {
        let (mut fold, mut counts) = (SummaryFold::default(), CountedFold::default());
        let model = read_text(trace, &mut |entry| {
            fold.entry(entry);
            counts.entry(entry);
        });
        let summary = fold.finish(&model);
        let all = Filter::default().select(&model.definitions);
        (gate.check(&summary, &counts.finish(&model, &all)), summary)
    }

    #[test]
    fn broken_rules_say_by_what() {
        let expectations = "[[expect]]\nname = \"buffer\"\ntest = \"t.py::one\"\nallocations = 1\nfrees = 1\n";
        let expectations = Expectations::parse(expectations).expect("parsed");
        let gate = Gate { expectations, ..gate("excess,held>1,held/test>1,red,lost") };
        expect![[r#"
            Failed: excess, held>1, held/test>1, "buffer".

            FAILED  excess: 1
              1 repeat, 64 B  site e8f83a9418d5
                Cache::clear
                in t.py::one
            FAILED  held>1: 2
              2 held, 128 B  site bb714e1ca03a
                make
                in t.py::two
            FAILED  held/test>1: 2 in the worst test
              2 in t.py::two
              2 held, 128 B  site bb714e1ca03a
                make
                in t.py::two
            passed  red: 0
            passed  lost: 0
            FAILED  buffer: 1 allocation, 1 free, but not at 1 of 1 addresses
              DRAM 0x10: 1 allocation, 2 frees on mesh0

            Start 2024-12-31 23:59:59 UTC, times in seconds after it
            Process 1: pid 4711, pytest, exited at 0.000003
            12 events, none lost
        "#]]
        .assert_eq(&check(&run(&gate, TRACE).0));
        expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <testsuite name="tt-buftrace" tests="7" failures="4">
              <testcase classname="tt-buftrace.rule" name="excess">
                <failure message="1 found">  1 repeat, 64 B  site e8f83a9418d5
                Cache::clear
                in t.py::one
            </failure>
              </testcase>
              <testcase classname="tt-buftrace.rule" name="held&gt;1">
                <failure message="2 found">  2 held, 128 B  site bb714e1ca03a
                make
                in t.py::two
            </failure>
              </testcase>
              <testcase classname="tt-buftrace.rule" name="held/test&gt;1: t.py::one"/>
              <testcase classname="tt-buftrace.rule" name="held/test&gt;1: t.py::two">
                <failure message="2 found">  2 held, 128 B  site bb714e1ca03a
                make
                in t.py::two
            </failure>
              </testcase>
              <testcase classname="tt-buftrace.rule" name="red"/>
              <testcase classname="tt-buftrace.rule" name="lost"/>
              <testcase classname="tt-buftrace.expectation" name="buffer">
                <failure message="not as expected at 1 of 1 addresses">DRAM 0x10: 1 allocation, 2 frees
            </failure>
              </testcase>
            </testsuite>
        "#]]
        .assert_eq(&junit(&run(&gate, TRACE).0));
    }

    #[test]
    fn what_a_loss_could_hide_passes_only_as_far_as_recorded() {
        let lossy = TRACE.replace("# LOSS", LOSS);
        expect![[r#"
            Passed, as far as the recording goes.
              as far as recorded: 9 events of the run were lost

            passed  held>1: 0, and 2 only possible
            passed  red: 0

            Start 2024-12-31 23:59:59 UTC, times in seconds after it
            Process 1: pid 4711, pytest, exited at 0.000003
            12 events, 9 lost in 1 gap (ring-full)
        "#]]
        .assert_eq(&check(&run(&gate("held>1,red"), &lossy).0));
        let strict = Gate { strict: true, ..gate("held>1") };
        let value = run(&strict, &lossy).0;
        assert_eq!((value.passed, value.rules[0].count), (false, 2));
        // Nothing is red, but the lost events could be.
        let value = run(&Gate { strict: true, ..gate("red") }, &lossy).0;
        assert!(!value.passed && value.rules[0].passed);
        assert!(junit(&value).contains("failures=\"1\""));
    }

    #[test]
    fn a_rule_may_count_what_is_only_possible() {
        let stopped = TRACE.replace("reason=exited", "reason=interrupted");
        let (value, _) = run(&gate("held,held?,held?/test>1,held?>2,red?"), &stopped);
        let told: Vec<_> = value.rules.iter().map(|it| (it.passed, it.count, it.possible)).collect();
        assert_eq!(told, [(true, 0, 2), (false, 2, 0), (false, 2, 0), (true, 2, 0), (true, 0, 0)]);
        assert!(check(&value).starts_with("Failed: held?, held?/test>1.\n"));
    }

    #[test]
    fn a_damaged_trace_is_not_said_to_pass_alone() {
        let (mut value, _) = run(&gate("red"), TRACE);
        assert!(check(&value).starts_with("Passed.\n"));
        value.integrity.damaged = true;
        assert!(
            check(&value).starts_with("Passed as far as the traces can be read, but one is damaged: exit code 1.\n")
        );
    }

    #[test]
    fn what_is_known_or_suppressed_does_not_count_until_it_expires() {
        let suppress = |day: &str| {
            let text = format!("[[suppress]]\nsite = \"Cache::*\"\nreason = \"known\"\nexpires = 2027-01-{day}\n");
            Gate { suppressions: Suppressions::parse(&text).expect("parsed"), ..gate("excess") }
        };
        let (value, summary) = run(&suppress("31"), TRACE);
        assert!(value.passed && value.notices.is_empty());
        assert_eq!(value.suppressed[0].reason, "known");
        let value = run(&suppress("30"), TRACE).0;
        assert!(!value.passed);
        assert_eq!(value.notices, ["the suppression of site `Cache::*` expired on 2027-01-30 (known)"]);

        let baseline = Baseline::parse(&Baseline::of(&summary).show()).expect("parsed");
        let with = Gate { baseline: Some(baseline), ..gate("excess,held") };
        let value = run(&with, TRACE).0;
        assert_eq!((value.passed, value.known.len()), (true, 2));
        // The same at another site is new, and what is known is not there.
        let value = run(&with, &TRACE.replace("Cache::clear()", "Pool::clear()")).0;
        assert!(!value.passed && !value.rules[0].passed && value.rules[1].passed);
        assert!(value.notices[0].contains("was not found"));
    }
}
