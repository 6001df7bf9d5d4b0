// SPDX-License-Identifier: Apache-2.0
//! Two runs compared: what appeared, what vanished, and whether that is certain.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use serde::Serialize;

use super::{BalanceSum, Finding, Integrity, Site, Summary, TestRow};
use crate::{
    model::{Certainty, Colour, Verdict},
    trace::{MADE_BEFORE, UNRECORDED},
};

/// The difference between two runs. A *finding* is a verdict other than normal at a site in a test.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// ChangeKind it comes to.
    pub conclusion: Conclusion,
    /// Whether that stands.
    pub certainty: Certainty,
    /// Why it is only possible, as sentences.
    pub doubts: Vec<String>,
    /// How far the earlier run can be trusted.
    pub before: Integrity,
    /// How far the later run can be trusted.
    pub after: Integrity,
    /// The findings that are not the same, those that ask for most attention first.
    pub changes: Vec<Change>,
    /// The findings that are the same in both.
    pub unchanged: Vec<Change>,
    /// How often each verdict was given, also the normal ones.
    pub verdicts: Vec<VerdictChange>,
    /// The balance of addresses where it differs.
    pub balance: Vec<BalanceChange>,
    /// The tests that did something else.
    pub tests: Vec<TestChange>,
}

/// ChangeKind a difference comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conclusion {
    /// Neither run has a finding.
    Clean,
    /// Findings are gone, none appeared, and none as bad is left.
    Fixed,
    /// Findings are gone, none appeared, and some as bad are left.
    Better,
    /// The same findings.
    Unchanged,
    /// Findings appeared, and others are gone.
    Mixed,
    /// Findings appeared.
    Worse,
    /// The findings of the earlier run are in tests that the later did not run.
    Untested,
}

/// A finding in two runs.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// ChangeKind became of it.
    pub what: ChangeKind,
    /// The verdict.
    pub verdict: Verdict,
    /// How much attention it asks for.
    pub colour: Colour,
    /// The site.
    pub site: Rc<Site>,
    /// The test, `null` for what happened outside of any.
    pub test: Option<String>,
    /// How often in the earlier run.
    pub before: u64,
    /// How often in the later run.
    pub after: u64,
    /// How often the later run was at the same site in the same test with another verdict: the code still runs.
    pub after_otherwise: u64,
    /// Whether the change stands.
    pub certainty: Certainty,
}

/// ChangeKind became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It was not there before.
    Appeared,
    /// There are more of it.
    More,
    /// There are as many.
    Same,
    /// There are fewer of it.
    Fewer,
    /// It is gone.
    Vanished,
    /// It cannot be there: its test did not run, or allocated nothing any more.
    Untested,
}

/// A verdict in two runs.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictChange {
    /// The verdict.
    pub verdict: Verdict,
    /// How often in the earlier run.
    pub before: u64,
    /// How often in the later run.
    pub after: u64,
}

/// The balance of one type of memory of one device in two runs.
#[derive(Clone, Debug, Serialize)]
pub struct BalanceChange {
    /// Device.
    pub device: String,
    /// Type of memory.
    pub buffer_type: String,
    /// In the earlier run.
    pub before: BalanceSum,
    /// In the later run.
    pub after: BalanceSum,
}

/// A test in two runs.
#[derive(Clone, Debug, Serialize)]
pub struct TestChange {
    /// Test id; `null` for what happened outside of any test.
    pub test: Option<String>,
    /// In the earlier run; `null` if it did not run.
    pub before: Option<TestSum>,
    /// In the later run; `null` if it did not run.
    pub after: Option<TestSum>,
}

/// ChangeKind a test did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TestSum {
    /// Buffers allocated.
    pub allocations: u64,
    /// Buffers whose life ended.
    pub frees: u64,
    /// Bytes allocated less bytes freed.
    pub bytes_left: i64,
}

/// Compares an earlier and a later run.
#[must_use]
pub fn diff(before: &Summary, after: &Summary) -> Diff {
    let sides = Sides::new(before, after);
    let mut changes = sides.changes();
    changes.sort_by_key(|it| (it.what, Reverse(it.colour), Reverse(it.before.abs_diff(it.after)), it.site.id.clone()));
    let (unchanged, changes): (Vec<_>, Vec<_>) = changes.into_iter().partition(|it| it.what == ChangeKind::Same);
    let conclusion = conclude(&changes, &unchanged, sides.have_no_test_in_common());
    let doubts = sides.doubts(&changes, &unchanged);
    Diff {
        conclusion,
        certainty: if doubts.is_empty() { Certainty::Confirmed } else { Certainty::Possible },
        doubts,
        before: before.integrity.clone(),
        after: after.integrity.clone(),
        changes,
        unchanged,
        verdicts: verdicts(before, after),
        balance: balance(before, after),
        tests: sides.test_changes(),
    }
}

/// Verdict, site and test.
type Key<'a> = (Verdict, &'a str, Option<&'a str>);

/// Both runs, in a form to look things up in.
struct Sides<'a> {
    before: Side<'a>,
    after: Side<'a>,
}

struct Side<'a> {
    summary: &'a Summary,
    /// Those that ask for attention: of the others, there may be one for each place and test.
    findings: BTreeMap<Key<'a>, &'a Finding>,
    tests: BTreeMap<Option<&'a str>, TestSum>,
    /// Why what this side does not show may have happened all the same.
    gaps: Vec<String>,
    /// The same of what may have happened when it was not recorded any more.
    stopped: Option<String>,
}

impl<'a> Sides<'a> {
    fn new(before: &'a Summary, after: &'a Summary) -> Self {
        Self { before: Side::new(before, "the earlier run"), after: Side::new(after, "the later run") }
    }

    fn changes(&self) -> Vec<Change> {
        let keys: BTreeSet<Key> = self.before.findings.keys().chain(self.after.findings.keys()).copied().collect();
        keys.into_iter().filter_map(|key| self.change(key)).collect()
    }

    fn change(&self, key: Key) -> Option<Change> {
        let (verdict, id, test) = key;
        let [before, after] = [&self.before, &self.after].map(|side| side.findings.get(&key).copied());
        let site = &after.or(before)?.site;
        let what = self.what(test, before.map_or(0, Finding::count), after.map_or(0, Finding::count));
        // A loss where there is less of it may hide it; what is only possible where there is more may be nothing.
        let (more, less_side) = match what {
            ChangeKind::Appeared | ChangeKind::More => (after, &self.before),
            ChangeKind::Same | ChangeKind::Fewer | ChangeKind::Vanished | ChangeKind::Untested => (before, &self.after),
        };
        let exact = [before, after].into_iter().flatten().all(|finding| finding.site.exact);
        let whole = less_side.gaps.is_empty() && (less_side.stopped.is_none() || less_side.has_whole(verdict, test));
        let stands = exact && whole && more.is_some_and(|finding| finding.possible == 0);
        let here = self.after.count(id, test);
        Some(Change {
            what,
            verdict,
            colour: verdict.colour(),
            site: Rc::clone(site),
            test: test.map(str::to_owned),
            before: before.map_or(0, Finding::count),
            after: after.map_or(0, Finding::count),
            after_otherwise: here.saturating_sub(after.map_or(0, Finding::count)),
            certainty: if stands { Certainty::Confirmed } else { Certainty::Possible },
        })
    }

    fn what(&self, test: Option<&str>, before: u64, after: u64) -> ChangeKind {
        match before.cmp(&after) {
            Ordering::Equal => ChangeKind::Same,
            Ordering::Less if before == 0 => ChangeKind::Appeared,
            Ordering::Less => ChangeKind::More,
            Ordering::Greater if after > 0 => ChangeKind::Fewer,
            Ordering::Greater if self.is_untested(test) => ChangeKind::Untested,
            Ordering::Greater => ChangeKind::Vanished,
        }
    }

    /// Whether the later run did not come to where the test's findings could be.
    fn is_untested(&self, test: Option<&str>) -> bool {
        let allocations = |side: &Side<'_>| side.tests.get(&test).map_or(0, |sum| sum.allocations);
        let ran = test.is_none_or(|test| self.after.summary.ran.contains(test));
        !ran || (allocations(&self.before) > 0 && allocations(&self.after) == 0)
    }

    /// Whether the earlier run had tests, and the later one none of these.
    fn have_no_test_in_common(&self) -> bool {
        let (before, after) = (&self.before.summary.ran, &self.after.summary.ran);
        !before.is_empty() && before.is_disjoint(after)
    }

    fn doubts(&self, changes: &[Change], unchanged: &[Change]) -> Vec<String> {
        let sides = [&self.before, &self.after];
        let mut doubts: Vec<String> = sides.iter().flat_map(|side| &side.gaps).cloned().collect();
        let told: Vec<&Change> = changes.iter().chain(unchanged).collect();
        let is_whole =
            |side: &&Side<'_>| !told.is_empty() && told.iter().all(|it| side.has_whole(it.verdict, it.test.as_deref()));
        doubts.extend(sides.into_iter().filter(|side| !is_whole(side)).filter_map(|side| side.stopped.clone()));
        let untested = changes.iter().filter(|it| it.what == ChangeKind::Untested).count();
        if untested > 0 && untested < changes.len() {
            doubts.push(format!("the later run did not get to the tests of {untested} findings"));
        }
        if !changes.is_empty() && self.have_no_test_in_common() {
            doubts.push("the runs have no test in common".to_owned());
        }
        let all = || changes.iter().chain(unchanged);
        let inexact = all().filter(|it| !it.site.exact).count();
        if inexact > 0 {
            doubts.push(format!(
                "{inexact} findings have gaps or nameless functions in their stacks: sites may differ by these alone"
            ));
        }
        let possible = |side: &Side<'_>| side.findings.values().any(|it| it.possible > 0);
        if possible(&self.before) || possible(&self.after) {
            doubts.push("some of the findings are themselves only possible".to_owned());
        }
        doubts
    }

    fn test_changes(&self) -> Vec<TestChange> {
        let tests: BTreeSet<_> = self.before.tests.keys().chain(self.after.tests.keys()).copied().collect();
        let change = |test: Option<&str>| {
            let [before, after] = [&self.before, &self.after].map(|side| side.test(test));
            (before != after).then(|| TestChange { test: test.map(str::to_owned), before, after })
        };
        tests.into_iter().filter_map(change).collect()
    }
}

impl<'a> Side<'a> {
    fn new(summary: &'a Summary, name: &str) -> Self {
        let bad = summary.findings.iter().filter(|it| it.verdict.colour() != Colour::Normal);
        let sum =
            |row: &TestRow| TestSum { allocations: row.allocations, frees: row.frees, bytes_left: row.bytes_left };
        Self {
            summary,
            findings: bad.map(|finding| (finding.key(), finding)).collect(),
            tests: summary.tests.iter().map(|row| (row.test.as_deref(), sum(row))).collect(),
            gaps: gaps(&summary.integrity, name),
            stopped: stopped(&summary.integrity, name),
        }
    }

    /// Whether a recording that was stopped has all that a test does of a kind: the test was over, and it is not what may come
    /// later of its buffers.
    fn has_whole(&self, verdict: Verdict, test: Option<&str>) -> bool {
        let later = matches!(verdict, Verdict::Held | Verdict::Marked | Verdict::AfterClose | Verdict::Leaked);
        let is_over = |test: &str| self.summary.ran.contains(test) && !self.summary.unfinished.contains(test);
        !later && test.is_some_and(is_over)
    }

    /// How many findings there are at a site in a test, whatever the verdict.
    fn count(&self, id: &str, test: Option<&str>) -> u64 {
        let findings = &self.summary.findings;
        let of = |verdict| findings.binary_search_by(|it| it.key().cmp(&(verdict, id, test))).ok();
        let counts = Verdict::ALL.into_iter().filter_map(of).map(|at| findings[at].count());
        counts.fold(0, u64::saturating_add)
    }

    fn test(&self, test: Option<&str>) -> Option<TestSum> {
        let ran = test.is_some_and(|test| self.summary.ran.contains(test));
        self.tests.get(&test).copied().or_else(|| ran.then(TestSum::default))
    }
}

/// Why a run may have had what its traces do not show, as sentences.
pub(super) fn gaps(integrity: &Integrity, name: &str) -> Vec<String> {
    let mut gaps = Vec::new();
    let lost = integrity.lost();
    if lost > 0 {
        gaps.push(format!("{lost} events of {name} were lost"));
    }
    if integrity.damaged {
        gaps.push(format!("a trace of {name} is damaged"));
    }
    if integrity.processes.is_empty() {
        gaps.push(format!("nothing of {name} was recorded"));
    }
    let counted = |name: &str| integrity.counters.iter().find(|it| it.name == name).map_or(0, |it| it.value);
    match counted(UNRECORDED) {
        0 => {}
        1 => gaps.push(format!("a process of {name} is not recorded")),
        several => gaps.push(format!("{several} processes of {name} are not recorded")),
    }
    if counted(MADE_BEFORE) > 0 {
        gaps.push(format!("buffers of {name} were made before its recording began"));
    }
    let ends = |reason: Option<&str>| integrity.processes.iter().filter(|it| it.reason.as_deref() == reason).count();
    if ends(None) > 0 {
        gaps.push(format!("a recording of {name} has no end: it is still being made, or was cut"));
    }
    if ends(Some("failed")) > 0 {
        gaps.push(format!("a recording of {name} failed"));
    }
    let unmatched = integrity.selected.iter().flat_map(|selected| &selected.unmatched);
    gaps.extend(unmatched.map(|what| format!("{what} in {name}")));
    gaps
}

/// That a run went on without being recorded, as a sentence.
pub(super) fn stopped(integrity: &Integrity, name: &str) -> Option<String> {
    let stopped = integrity.processes.iter().any(|it| it.reason.as_deref() == Some("interrupted"));
    stopped.then(|| format!("a recording of {name} was stopped while the process went on"))
}

fn conclude(changes: &[Change], unchanged: &[Change], other_tests: bool) -> Conclusion {
    let any = |kinds: [ChangeKind; 2]| changes.iter().any(|it| kinds.contains(&it.what));
    let worse = any([ChangeKind::Appeared, ChangeKind::More]);
    let better = any([ChangeKind::Vanished, ChangeKind::Fewer]);
    let gone = changes.iter().filter(|it| it.what == ChangeKind::Vanished).map(|it| it.colour).min();
    let left = changes.iter().filter(|it| it.after > 0).chain(unchanged).map(|it| it.colour).max();
    match (worse, better) {
        (true, true) => Conclusion::Mixed,
        (true, false) => Conclusion::Worse,
        (false, true) if other_tests => Conclusion::Untested,
        (false, true) if left < gone => Conclusion::Fixed,
        (false, true) => Conclusion::Better,
        (false, false) if !unchanged.is_empty() => Conclusion::Unchanged,
        (false, false) if !changes.is_empty() => Conclusion::Untested,
        (false, false) => Conclusion::Clean,
    }
}

fn verdicts(before: &Summary, after: &Summary) -> Vec<VerdictChange> {
    let mut counts: BTreeMap<Verdict, [u64; 2]> = BTreeMap::new();
    for (side, summary) in [before, after].into_iter().enumerate() {
        for finding in &summary.findings {
            counts.entry(finding.verdict).or_default()[side] += finding.count();
        }
    }
    counts.into_iter().map(|(verdict, [before, after])| VerdictChange { verdict, before, after }).collect()
}

fn balance(before: &Summary, after: &Summary) -> Vec<BalanceChange> {
    let keys: BTreeSet<_> = before.balance.keys().chain(after.balance.keys()).collect();
    let change = |key: &(String, String)| {
        let [before, after] = [before, after].map(|side| side.balance.get(key).copied().unwrap_or_default());
        let (device, buffer_type) = key.clone();
        (before != after).then_some(BalanceChange { device, buffer_type, before, after })
    };
    keys.into_iter().filter_map(change).collect()
}
