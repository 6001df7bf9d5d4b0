// SPDX-License-Identifier: Apache-2.0
//! The gate: rules that a run has to keep, less what is known already.

mod baseline;
mod counted;
mod expect;
mod rule;
mod suppress;

use std::collections::BTreeSet;

use foldhash::HashMap;
use serde::Serialize;
use time::Date;

use super::{
    Finding, Integrity, Summary,
    diff::{gaps, stopped},
};
use crate::model::{Certainty, Colour, Verdict};

pub use baseline::{Baseline, Known};
pub use counted::{Counted, CountedFold, Counts};
pub use expect::{CountedIn, Expectation, Expectations, Expected, Unmet};
pub use rule::{Rule, Subject};
pub use suppress::{Suppression, Suppressions};

/// How a run stands to its rules.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Whether all rules and expectations are kept.
    pub passed: bool,
    /// Whether a gap in the traces could hide that they are not.
    pub certainty: Certainty,
    /// Why it could, as sentences.
    pub doubts: Vec<String>,
    /// How far the traces can be trusted.
    pub integrity: Integrity,
    /// The rules, in the order they were given.
    pub rules: Vec<Ruling>,
    /// The expectations, in the order of their file.
    pub expectations: Vec<Expected>,
    /// Findings that were left out because the baseline has them.
    pub known: Vec<Finding>,
    /// Findings that were left out because they are suppressed.
    pub suppressed: Vec<Suppressed>,
    /// What is wrong with the baseline and the suppressions: unused, expired.
    pub notices: Vec<String>,
}

/// A rule, and what it found.
#[derive(Clone, Debug, Serialize)]
pub struct Ruling {
    /// The rule, as it is written.
    pub rule: String,
    /// What it counts.
    pub subject: String,
    /// Whether what is only possible counted.
    pub with_possible: bool,
    /// Whether it is kept.
    pub passed: bool,
    /// What counted, in the whole run or in the worst test.
    pub count: u64,
    /// What counted besides, if possible verdicts were not to count.
    pub possible: u64,
    /// For a rule that goes by test, each test that ran, and whether it keeps the rule.
    pub tests: Vec<TestRuling>,
    /// The findings that count; for a rule that goes by test, those of tests that break it.
    pub findings: Vec<Finding>,
}

/// A rule in one test.
#[derive(Clone, Debug, Serialize)]
pub struct TestRuling {
    /// Test id, absent for what happened outside of any.
    pub test: Option<String>,
    /// Whether it keeps the rule.
    pub passed: bool,
    /// What counted.
    pub count: u64,
}

/// A finding that is not to count, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Suppressed {
    /// The finding.
    pub finding: Finding,
    /// The reason that the suppression gives.
    pub reason: String,
}

/// What a run is checked by.
#[derive(Clone, Debug)]
pub struct Gate {
    /// What must not be.
    pub rules: Vec<Rule>,
    /// What is known already.
    pub baseline: Option<Baseline>,
    /// What is not to count.
    pub suppressions: Suppressions,
    /// What buffers are expected to do.
    pub expectations: Expectations,
    /// Whether what is only possible counts as well.
    pub strict: bool,
    /// The day, by which suppressions expire.
    pub today: Date,
}

impl Gate {
    /// Checks a run; `counts` is what its expectations are held against.
    #[must_use]
    pub fn check(&self, summary: &Summary, counts: &Counts) -> Check {
        let sorted = self.sort(&summary.findings);
        let mut doubts = gaps(&summary.integrity, "the run");
        doubts.extend(stopped(&summary.integrity, "the run"));
        let rules: Vec<Ruling> = self.rules.iter().map(|rule| self.rule(*rule, &sorted.counting, summary)).collect();
        let expectations: Vec<Expected> = self.expectations.hold(counts, self.strict);
        let unsure = !doubts.is_empty()
            || rules.iter().any(|ruling| ruling.possible > 0)
            || expectations.iter().any(|it| it.passed && !it.unmet.is_empty());
        let kept = rules.iter().all(|ruling| ruling.passed) && expectations.iter().all(|it| it.passed);
        Check {
            passed: kept && !(self.strict && unsure),
            certainty: if unsure { Certainty::Possible } else { Certainty::Confirmed },
            doubts,
            integrity: summary.integrity.clone(),
            rules,
            expectations,
            notices: self.notices(&sorted),
            known: sorted.known,
            suppressed: sorted.suppressed,
        }
    }

    /// Parts the findings into those that count, those that are known, and those that are suppressed.
    fn sort<'a>(&self, findings: &'a [Finding]) -> Sorted<'a> {
        let mut sorted = Sorted::default();
        for finding in findings {
            // The rest is there to be counted.
            let bad = self.minds(finding.verdict);
            if let Some((index, reason)) = self.suppressions.find(finding, self.today).filter(|_| bad) {
                sorted.used.insert(index);
                sorted.suppressed.push(Suppressed { finding: finding.clone(), reason: reason.to_owned() });
            } else if bad && self.baseline.as_ref().is_some_and(|baseline| baseline.has(finding)) {
                sorted.known.push(finding.clone());
            } else {
                sorted.counting.push(finding);
            }
        }
        sorted
    }

    /// Whether what has a verdict can be known or suppressed: it asks for attention, or a rule for it.
    fn minds(&self, verdict: Verdict) -> bool {
        verdict.colour() != Colour::Normal || self.rules.iter().any(|rule| rule.subject.has(verdict))
    }

    fn rule(&self, rule: Rule, counting: &[&Finding], summary: &Summary) -> Ruling {
        let with_possible = self.strict || rule.possible;
        let count = |finding: &Finding| if with_possible { finding.count() } else { finding.confirmed };
        let subject: Vec<&Finding> = counting.iter().copied().filter(|it| rule.subject.has(it.verdict)).collect();
        let own = match rule.subject {
            Subject::Lost => Some(summary.integrity.lost()),
            Subject::Damaged => Some(u64::from(summary.integrity.damaged)),
            Subject::Verdict(_) | Subject::Colours(_) => None,
        };
        let mut tests = Vec::new();
        if rule.by_test {
            let mut counts: HashMap<Option<&str>, u64> = HashMap::default();
            for finding in &subject {
                let sum = counts.entry(finding.test.as_deref()).or_default();
                *sum = sum.saturating_add(count(finding));
            }
            let outside = counting.iter().any(|it| it.test.is_none()).then_some(None);
            for test in summary.ran.iter().map(|test| Some(test.as_str())).chain(outside) {
                let count = counts.get(&test).copied().unwrap_or(0);
                tests.push(TestRuling { test: test.map(str::to_owned), passed: count <= rule.allowed, count });
            }
        }
        let all = |count: &dyn Fn(&Finding) -> u64| subject.iter().fold(0_u64, |sum, it| sum.saturating_add(count(it)));
        let (total, at_most) = own.map_or_else(|| (all(&count), all(&Finding::count)), |own| (own, own));
        let worst = tests.iter().map(|test| test.count).max().unwrap_or(0);
        let counted = if rule.by_test { worst } else { total };
        let broken: BTreeSet<Option<&str>> =
            tests.iter().filter(|test| !test.passed).map(|test| test.test.as_deref()).collect();
        let listed = subject.into_iter().filter(|it| !rule.by_test || broken.contains(&it.test.as_deref()));
        Ruling {
            rule: rule.to_string(),
            subject: rule.subject.to_string(),
            with_possible,
            passed: counted <= rule.allowed,
            count: counted,
            possible: at_most - total,
            findings: listed.cloned().collect(),
            tests,
        }
    }

    fn notices(&self, sorted: &Sorted<'_>) -> Vec<String> {
        let mut notices = self.suppressions.notices(&sorted.used, self.today);
        if let Some(baseline) = &self.baseline {
            let suppressed = sorted.suppressed.iter().map(|it| &it.finding);
            notices.extend(baseline.notices(sorted.known.iter().chain(suppressed), |verdict| self.minds(verdict)));
            let placeless =
                sorted.counting.iter().filter(|it| self.minds(it.verdict) && it.site.frames.is_empty()).count();
            if placeless > 0 {
                notices.push(format!("findings without a stack, which no baseline can know: {placeless}"));
            }
        }
        notices
    }
}

#[derive(Default)]
struct Sorted<'a> {
    counting: Vec<&'a Finding>,
    known: Vec<Finding>,
    suppressed: Vec<Suppressed>,
    /// Suppressions that were of use.
    used: BTreeSet<usize>,
}
