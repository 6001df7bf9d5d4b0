// SPDX-License-Identifier: Apache-2.0
//! Two runs compared, as text: first in words, then what appeared, what vanished, and the rest.

use std::collections::BTreeMap;

use super::{
    integrity::command,
    table::{Table, count, signed_bytes},
};
use crate::{
    analysis::{BalanceSum, Change, ChangeKind, Conclusion, Diff, Integrity, TestSum},
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
    if let Some(selected) = &diff.after.selected {
        out.push_str(&format!("Only {}\n", escape(&selected.only)));
    }
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
    let step = |change: &Change| change.before.abs_diff(change.after);
    let of = |kinds: &[ChangeKind]| told(diff.changes.iter().filter(|it| kinds.contains(&it.what)), step);
    let gone = of(&[ChangeKind::Vanished, ChangeKind::Fewer]);
    let new = of(&[ChangeKind::Appeared, ChangeKind::More]);
    let same = told(diff.unchanged.iter().chain(diff.changes.iter().filter(|it| it.after > 0)), |it| it.after);
    let (word, rest) = match diff.conclusion {
        Conclusion::Clean => ("Clean", "neither run has a finding".to_owned()),
        Conclusion::Fixed if same.is_empty() => ("Fixed", format!("{gone} gone, nothing left, nothing new")),
        Conclusion::Fixed => ("Fixed", format!("{gone} gone, nothing new; {same} left")),
        Conclusion::Better => ("Better, not fixed", format!("{gone} gone, {same} left")),
        Conclusion::Unchanged => ("Not fixed", format!("both runs have {same}")),
        Conclusion::Mixed => ("Changed, not fixed", format!("{new} new, {gone} gone")),
        Conclusion::Worse => ("Worse", format!("{new} new, nothing gone")),
        Conclusion::Untested => {
            let untested = of(&[ChangeKind::Untested, ChangeKind::Vanished, ChangeKind::Fewer]);
            ("Not tested", format!("the later run did not get to {untested}"))
        }
    };
    match diff.certainty {
        Certainty::Confirmed => format!("{word}: {rest}.\n"),
        Certainty::Possible => format!("Possibly {}: {rest}.\n", word.to_lowercase()),
    }
}

/// How many findings these are, by verdict: `2 repeat at 1 site`.
fn told<'a>(changes: impl Iterator<Item = &'a Change>, count_of: impl Fn(&Change) -> u64) -> String {
    let mut verdicts: BTreeMap<Verdict, (u64, Vec<&str>)> = BTreeMap::new();
    for change in changes {
        let (sum, sites) = verdicts.entry(change.verdict).or_default();
        *sum += count_of(change);
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
        integrity.processes.iter().map(|it| format!("{} (pid {})", command(&it.command), it.pid)).collect();
    let lost = integrity.lost();
    let lost = if lost > 0 { format!("{lost} lost") } else { "none lost".to_owned() };
    format!("{}, {lost}; {}", count(integrity.events, "event"), commands.join("; "))
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
        let (BalanceSum { even, not_freed, freed_more }, after) = (row.before, row.after);
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::diff;
    use crate::{
        analysis::{self, Conclusion, Diff, SummaryFold},
        model::{Certainty, read_text},
    };

    const HEAD: &str = r##"
session wall_ns=1735689599000000000
process id=1 pid=4711 command="pytest t.py"
border process=1 next_unique_id=1
frame id=1 address=0x1
symbol frame=1 function="make()"
frame id=2 address=0x2
symbol frame=2 function="drop()"
frame id=3 address=0x3
symbol frame=3 function="Cache::clear()"
stack id=1 frames=1 end=complete
stack id=2 frames=2 end=complete
stack id=3 frames=3 end=complete
stack id=4 frames=3 end=copy-too-small
"##;

    /// A run of tests with their buffers, each as the stacks of its frees: the first takes effect.
    fn run(tests: &[(u32, &[&[u32]])], end: &str) -> String {
        let mut lines = HEAD.to_owned();
        let (mut number, mut unique_id) = (0, 0);
        let mut event = |lines: &mut String, rest: String| {
            number += 1;
            lines.push_str(&format!("event {number} t={} p=1 tid=7 {rest}\n", 1000 * number));
        };
        for (test, buffers) in tests {
            let name = ["one", "two"][*test as usize - 1];
            lines.push_str(&format!("text id={test} text=\"t.py::{name} (call)\"\n"));
            event(&mut lines, format!("test-begin text={test}"));
            for frees in *buffers {
                unique_id += 1;
                let buffer = format!("uid={unique_id} size=64 address={:#x}", 64 * unique_id);
                event(&mut lines, format!("request {buffer} class=mesh stack=1"));
                event(&mut lines, format!("allocated {buffer} class=mesh"));
                for (index, stack) in frees.iter().enumerate() {
                    event(&mut lines, format!("free {buffer} status={} stack={stack}", if index == 0 { 1 } else { 2 }));
                    if index == 0 {
                        event(&mut lines, format!("released {buffer} status=1"));
                    }
                }
            }
            event(&mut lines, "test-end".to_owned());
        }
        format!("{lines}{end}\nend process=1 time=900000 reason=exited\n")
    }

    fn compared(before: &str, after: &str) -> Diff {
        let [before, after] = [before, after].map(|text| {
            let mut fold = SummaryFold::default();
            let model = read_text(text, &mut |entry| fold.entry(entry));
            fold.finish(&model)
        });
        analysis::diff(&before, &after)
    }

    /// Test one frees two buffers by hand, and its cache frees them again.
    const BUG: &[(u32, &[&[u32]])] = &[(1, &[&[2, 3], &[2, 3]]), (2, &[&[3]])];
    const FIX: &[(u32, &[&[u32]])] = &[(1, &[&[3], &[3]]), (2, &[&[3]])];

    #[test]
    fn a_fix_is_real() {
        let value = compared(&run(BUG, ""), &run(FIX, ""));
        assert_eq!((value.conclusion, value.certainty), (Conclusion::Fixed, Certainty::Confirmed));
        expect![[r#"
            Fixed: 2 repeat at 1 site gone, nothing left, nothing new.

            Before: 18 events, none lost; pytest t.py (pid 4711)
            After:  16 events, none lost; pytest t.py (pid 4711)

            Vanished
              2 → 0 repeat  site e8f83a9418d5
                Cache::clear
                in t.py::one; the later run comes by 2 times without it

            Verdicts
              verdict   before  after  change
              released       3      3
              repeat         2      0      -2

            Balance of addresses, where it differs
              device  type  allocs = frees  not freed  freed more
              mesh0   DRAM           1 → 3      0 → 0       2 → 0
        "#]]
        .assert_eq(&diff(&value, 10));
    }

    #[test]
    fn a_fix_is_only_possible_where_events_were_lost() {
        let loss = "loss process=1 after=5 before=9 count=3 cause=ring-full";
        let value = compared(&run(BUG, ""), &run(FIX, loss));
        assert_eq!((value.conclusion, value.certainty), (Conclusion::Fixed, Certainty::Possible));
        assert!(diff(&value, 10).starts_with(
            "Possibly fixed: 2 repeat at 1 site gone, nothing left, nothing new.\n  \
             only possible: 3 events of the later run were lost\n"
        ));
        // A stack with a gap may be the same place or not.
        let short: &[(u32, &[&[u32]])] = &[(1, &[&[2, 4], &[2, 4]]), (2, &[&[3]])];
        assert_eq!(compared(&run(short, ""), &run(FIX, "")).certainty, Certainty::Possible);
    }

    #[test]
    fn a_fix_that_leaks_is_none() {
        let leak: &[(u32, &[&[u32]])] = &[(1, &[&[3], &[]]), (2, &[&[3]])];
        let value = compared(&run(BUG, ""), &run(leak, ""));
        assert_eq!(value.conclusion, Conclusion::Mixed);
        expect![[r#"
            Changed, not fixed: 1 held at 1 site new, 2 repeat at 1 site gone.

            Before: 18 events, none lost; pytest t.py (pid 4711)
            After:  14 events, none lost; pytest t.py (pid 4711)

            Appeared
              0 → 1 held  site bb714e1ca03a
                make
                in t.py::one

            Vanished
              2 → 0 repeat  site e8f83a9418d5
                Cache::clear
                in t.py::one; the later run comes by once without it

            Verdicts
              verdict   before  after  change
              released       3      2      -1
              repeat         2      0      -2
              held           0      1      +1

            Balance of addresses, where it differs
              device  type  allocs = frees  not freed  freed more
              mesh0   DRAM           1 → 2      0 → 1       2 → 0

            Tests that did something else
              test       allocs  frees         left
              t.py::one       2  2 → 1  0 B → +64 B
        "#]]
        .assert_eq(&diff(&value, 10));
    }

    #[test]
    fn each_difference_has_its_word() {
        let half: &[(u32, &[&[u32]])] = &[(1, &[&[2, 3], &[3]]), (2, &[&[3]])];
        let skipped: &[(u32, &[&[u32]])] = &[(2, &[&[3]])];
        for (before, after, conclusion, words) in [
            (FIX, FIX, Conclusion::Clean, "Clean: neither run has a finding."),
            (BUG, BUG, Conclusion::Unchanged, "Not fixed: both runs have 2 repeat at 1 site."),
            (BUG, half, Conclusion::Better, "Better, not fixed: 1 repeat at 1 site gone, 1 repeat at 1 site left."),
            (half, BUG, Conclusion::Worse, "Worse: 1 repeat at 1 site new, nothing gone."),
            (BUG, skipped, Conclusion::Untested, "Not tested: the later run did not get to 2 repeat at 1 site."),
        ] {
            let value = compared(&run(before, ""), &run(after, ""));
            assert_eq!(value.conclusion, conclusion, "{words}");
            assert_eq!(diff(&value, 10).lines().next(), Some(words));
        }
    }

    #[test]
    fn what_is_gone_from_outside_of_tests_says_nothing_where_other_tests_ran() {
        let outside = "event 90 t=800000 p=1 tid=7 free uid=1 size=64 status=2 stack=3";
        for (in_test, words) in [
            (&[2, 3][..], "Possibly not tested: the later run did not get to 2 repeat at 1 site."),
            (&[3], "Possibly not tested: the later run did not get to 1 repeat at 1 site."),
        ] {
            let value = compared(&run(&[(1, &[in_test])], outside), &run(&[(2, &[&[3]])], ""));
            let text = diff(&value, 10);
            assert_eq!(text.lines().next(), Some(words));
            assert!(text.contains("\n  only possible: the runs have no test in common\n"), "{text}");
        }
    }
}
