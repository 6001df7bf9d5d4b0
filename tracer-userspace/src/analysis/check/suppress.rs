// SPDX-License-Identifier: Apache-2.0
//! Findings that are not to count, for a reason and a time.

use std::collections::BTreeSet;

use serde::Deserialize;
use time::{Date, Month};
use toml::value::Datetime;

use crate::{
    analysis::{Finding, Pattern, SitePattern},
    model::Verdict,
};

/// The suppressions of a file:
///
/// ```toml
/// [[suppress]]
/// site = "model::WeightCache::clear < Model.unload"  # an id, or functions, innermost first
/// verdict = "repeat"                                 # any, if not said
/// test = "*::test_model_is_unloaded"                 # any, if not said
/// reason = "fixed upstream, waiting for the release"
/// expires = 2027-01-31                               # the last day that it counts
/// ```
#[derive(Clone, Debug, Default)]
pub struct Suppressions(Vec<Suppression>);

/// One of them.
#[derive(Clone, Debug)]
pub struct Suppression {
    site: SitePattern,
    verdict: Option<Verdict>,
    test: Option<Pattern>,
    reason: String,
    expires: Date,
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    suppress: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    site: String,
    verdict: Option<String>,
    test: Option<String>,
    reason: String,
    expires: Datetime,
}

impl Suppressions {
    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        file.suppress.into_iter().map(Suppression::new).collect::<Result<_, _>>().map(Self)
    }

    /// The first that suppresses a finding: its index and its reason.
    pub(super) fn find(&self, finding: &Finding, today: Date) -> Option<(usize, &str)> {
        let current = self.0.iter().enumerate().filter(|(_, it)| today <= it.expires);
        let mut matching = current.filter(|(_, it)| it.matches(finding));
        matching.next().map(|(index, it)| (index, it.reason.as_str()))
    }

    /// What is wrong with them: expired, or of no use.
    pub(super) fn notices(&self, used: &BTreeSet<usize>, today: Date) -> Vec<String> {
        let notice = |(index, it): (usize, &Suppression)| {
            let expired = today > it.expires;
            let what = if expired { format!("expired on {}", it.expires) } else { "was not used".to_owned() };
            (expired || !used.contains(&index))
                .then(|| format!("the suppression of site `{}` {what} ({})", it.site, it.reason))
        };
        self.0.iter().enumerate().filter_map(notice).collect()
    }
}

impl Suppression {
    fn new(raw: Raw) -> Result<Self, String> {
        let Raw { site, verdict, test, reason, expires } = raw;
        let what = |problem: &str| format!("the suppression of site `{site}`: {problem}");
        if reason.trim().is_empty() {
            return Err(what("a reason is needed"));
        }
        let known = |name: &str| Verdict::from_name(name).ok_or_else(|| what(&format!("there is no verdict `{name}`")));
        Ok(Self {
            verdict: verdict.as_deref().map(known).transpose()?,
            expires: date(expires).ok_or_else(|| what("`expires` is a day, like 2027-01-31"))?,
            site: SitePattern::parse(&site).map_err(|problem| what(&problem))?,
            test: test.as_deref().map(Pattern::parse).transpose().map_err(|problem| what(&problem))?,
            reason,
        })
    }

    fn matches(&self, finding: &Finding) -> bool {
        self.site.matches(&finding.site)
            && self.verdict.is_none_or(|verdict| verdict == finding.verdict)
            && self.test.as_ref().is_none_or(|test| finding.test.as_deref().is_some_and(|it| test.matches(it)))
    }
}

fn date(datetime: Datetime) -> Option<Date> {
    let date = datetime.date.filter(|_| datetime.time.is_none())?;
    Date::from_calendar_date(date.year.into(), Month::try_from(date.month).ok()?, date.day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_and_a_day_are_needed() {
        let parse = |lines: &str| Suppressions::parse(&format!("[[suppress]]\nsite = \"f\"\n{lines}\n"));
        assert!(parse("reason = \"known\"\nexpires = 2027-01-31").is_ok());
        for (lines, what) in [
            ("reason = \"known\"", "missing field `expires`"),
            ("expires = 2027-01-31", "missing field `reason`"),
            ("reason = \" \"\nexpires = 2027-01-31", "a reason is needed"),
            ("reason = \"known\"\nexpires = 2027-01-31T10:00:00", "`expires` is a day"),
            ("reason = \"known\"\nexpires = 2027-02-30", "invalid"),
            ("reason = \"known\"\nexpires = 2027-01-31\nverdict = \"leak\"", "no verdict `leak`"),
            ("reason = \"known\"\nexpires = 2027-01-31\nline = 3", "unknown field `line`"),
        ] {
            let error = parse(lines).err().unwrap_or_default();
            assert!(error.contains(what), "{lines}: {error}");
        }
    }
}
