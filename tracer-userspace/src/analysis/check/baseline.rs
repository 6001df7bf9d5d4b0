// SPDX-License-Identifier: Apache-2.0
//! The findings of an earlier run, so that only new ones count.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    analysis::{Finding, Summary},
    model::{Colour, Verdict},
};

/// The version of the file, for a later tool that may have another.
const VERSION: u32 = 1;

/// What is known, by its sites, in whichever test: verdicts other than normal, and what only a device's close released, which
/// a rule may be about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    version: u32,
    #[serde(default)]
    known: Vec<Known>,
}

/// A verdict at a site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Name of the verdict.
    verdict: String,
    /// Id of the site.
    site: String,
    /// Its name, for people.
    name: String,
    /// How often it was found, for people.
    count: u64,
}

impl Baseline {
    /// What a run found, but for what has no stack: of that it is not known where it is.
    #[must_use]
    pub fn of(summary: &Summary) -> Self {
        let mut known: BTreeMap<(Verdict, &str), Known> = BTreeMap::new();
        let is_kept = |it: &&Finding| {
            (it.verdict.colour() != Colour::Normal || it.verdict == Verdict::Bulk) && !it.site.frames.is_empty()
        };
        for finding in summary.findings.iter().filter(is_kept) {
            let entry = known.entry((finding.verdict, &finding.site.id)).or_insert_with(|| Known {
                verdict: finding.verdict.name().to_owned(),
                site: finding.site.id.clone(),
                name: finding.site.name.clone(),
                count: 0,
            });
            entry.count = entry.count.saturating_add(finding.count());
        }
        Self { version: VERSION, known: known.into_values().collect() }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("it is empty".to_owned());
        }
        let baseline: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if baseline.version != VERSION {
            return Err(format!("it has version {}, and this tt-buftrace reads version {VERSION}", baseline.version));
        }
        match baseline.known.iter().find(|known| Verdict::from_name(&known.verdict).is_none()) {
            Some(known) => Err(format!("there is no verdict `{}`", known.verdict)),
            None => Ok(baseline),
        }
    }

    /// The text of a file.
    #[must_use]
    pub fn show(&self) -> String {
        let head = "# What tt-buftrace check knows already: findings at these sites do not count.\n";
        let body = toml::to_string(self).expect("a table of texts and numbers that fit can be written");
        format!("{head}{body}")
    }

    /// How many findings it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// Whether it has a finding. Of one without a stack it is not known where it is, so that it may be any.
    pub(super) fn has(&self, finding: &Finding) -> bool {
        !finding.site.frames.is_empty()
            && self.known.iter().any(|known| known.site == finding.site.id && known.verdict == finding.verdict.name())
    }

    /// What it has and the run has not, of verdicts that matter.
    pub(super) fn notices<'a>(
        &self,
        found: impl Iterator<Item = &'a Finding>,
        matters: impl Fn(Verdict) -> bool,
    ) -> Vec<String> {
        let found: BTreeSet<_> = found.map(|it| (it.verdict.name(), it.site.id.as_str())).collect();
        let gone = self.known.iter().filter(|it| !found.contains(&(it.verdict.as_str(), it.site.as_str())));
        gone.filter(|it| Verdict::from_name(&it.verdict).is_some_and(&matters))
            .map(|it| format!("the baseline's {} at site {} ({}) was not found", it.verdict, it.site, it.name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let known = Known {
            verdict: "repeat".to_owned(),
            site: "00112233aabb".to_owned(),
            name: "f < \"g\" (a\\b.py)\u{1b}".to_owned(),
            count: u64::MAX,
        };
        for count in [3, i64::MAX as u64, u64::MAX] {
            let baseline = Baseline { version: VERSION, known: vec![Known { count, ..known.clone() }] };
            let text = baseline.show();
            let read = Baseline::parse(&text).expect("parsed");
            assert_eq!((read.known[0].name.as_str(), read.known[0].site.as_str()), (&*known.name, &*known.site));
        }
    }

    #[test]
    fn another_version_is_refused_by_its_number() {
        assert!(Baseline::parse("version = 2").is_err_and(|error| error.contains("version 2")));
        assert!(Baseline::parse("known = []").is_err());
        let unknown = "version = 1\n[[known]]\nverdict = \"leak\"\nsite = \"a\"\nname = \"\"\ncount = 1";
        assert!(Baseline::parse(unknown).is_err_and(|error| error.contains("`leak`")));
    }
}
