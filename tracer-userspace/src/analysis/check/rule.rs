// SPDX-License-Identifier: Apache-2.0
//! A rule: what a run must not have, or not more of than so much.

use std::fmt;

use crate::model::{Colour, Verdict};

/// `SUBJECT[?][/test][>N]`: fails if there are more than `N` (0 if not said) of the subject, in the whole run or in any
/// single test; `?` counts what is only possible, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is counted.
    pub subject: Subject,
    /// Whether what is only possible counts.
    pub possible: bool,
    /// Whether each test has to keep it by itself.
    pub by_test: bool,
    /// How many there may be.
    pub allowed: u64,
}

/// What a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A verdict, by its name.
    Verdict(Verdict),
    /// `red`: verdicts of that colour. `excess`: these and the excess ones, all frees beyond the allocations. `yellow`
    /// and `excess` do not have each other; the first colour is the least that counts, the second the most.
    Colours([Colour; 2]),
    /// `lost`: events that are missing.
    Lost,
    /// `damaged`: whether a trace is damaged.
    Damaged,
}

impl Subject {
    /// Whether a verdict counts.
    #[must_use]
    pub fn has(self, verdict: Verdict) -> bool {
        match self {
            Self::Verdict(wanted) => wanted == verdict,
            Self::Colours([least, most]) => (least..=most).contains(&verdict.colour()),
            Self::Lost | Self::Damaged => false,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "red" => Some(Self::Colours([Colour::Red, Colour::Red])),
            "excess" => Some(Self::Colours([Colour::Excess, Colour::Red])),
            "yellow" => Some(Self::Colours([Colour::Yellow, Colour::Yellow])),
            "lost" => Some(Self::Lost),
            "damaged" => Some(Self::Damaged),
            _ => Verdict::from_name(name).map(Self::Verdict),
        }
    }
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (what, allowed) = match text.split_once('>') {
            Some((what, number)) => {
                (what, number.trim().parse().map_err(|_| format!("`{number}` is no number, in `{text}`"))?)
            }
            None => (text, 0),
        };
        let (name, by_test) = match what.trim().strip_suffix("/test") {
            Some(name) => (name, true),
            None => (what.trim(), false),
        };
        let (name, possible) = match name.strip_suffix('?') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let subject = Subject::parse(name).ok_or_else(|| {
            let verdicts = Verdict::ALL.map(Verdict::name).join(", ");
            format!("`{name}` is none of: excess, red, yellow, lost, damaged, {verdicts}")
        })?;
        if by_test && matches!(subject, Subject::Lost | Subject::Damaged) {
            return Err(format!("`{name}` is of the whole recording, not of a test"));
        }
        if possible && matches!(subject, Subject::Lost | Subject::Damaged) {
            return Err(format!("`{name}` is never only possible"));
        }
        Ok(Self { subject, possible, by_test, allowed })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verdict(verdict) => verdict.name(),
            Self::Colours([least, _]) => least.name(),
            Self::Lost => "lost",
            Self::Damaged => "damaged",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subject.fmt(f)?;
        if self.possible {
            f.write_str("?")?;
        }
        if self.by_test {
            f.write_str("/test")?;
        }
        if self.allowed > 0 { write!(f, ">{}", self.allowed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_they_are_shown() {
        for text in
            ["excess", "red", "yellow/test", "held>12", "repeat/test>3", "lost>100", "damaged", "held?", "held?/test>3"]
        {
            assert_eq!(Rule::parse(text).map(|rule| rule.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(Rule::parse(" held > 2 ").map(|rule| rule.to_string()), Ok("held>2".to_owned()));
        for wrong in ["", "leak", "held>", "held>-1", "held>many", "lost/test", "held/site", "lost?", "held/test?"] {
            assert!(Rule::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn excess_has_red_in_it_and_not_yellow() {
        let has = |rule: &str, verdict| Rule::parse(rule).expect("parsed").subject.has(verdict);
        assert!(has("excess", Verdict::Repeat) && has("excess", Verdict::StolenFree) && has("red", Verdict::Overlap));
        assert!(!has("excess", Verdict::Held) && !has("red", Verdict::Repeat) && !has("yellow", Verdict::Repeat));
    }
}
