// SPDX-License-Identifier: Apache-2.0
//! What was measured: figures, each of something, in a unit, perhaps with an aim.

use std::fmt;

use anyhow::{Context as _, Result};

/// What one part measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    /// Heading.
    pub(super) title: String,
    /// How it was measured, in sentences.
    pub(super) method: String,
    /// The figures, in the order in which a reader meets them.
    pub(super) figures: Vec<Figure>,
    /// What is drawn of it.
    pub(super) charts: Vec<Chart>,
}

/// One measured quantity of one subject: a cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// Of what: a row.
    pub(super) subject: String,
    /// What of it: a column.
    pub(super) quantity: &'static str,
    /// In which unit the value is.
    pub(super) unit: Unit,
    /// The value, or why there is none.
    pub(super) value: Result<f64, String>,
    /// What it should be.
    pub(super) aim: Option<Aim>,
    /// What explains it, e.g. why it falls short of its aim; may be empty.
    pub(super) reason: String,
}

impl Figure {
    /// A figure that was measured.
    pub(super) fn new(subject: impl Into<String>, quantity: &'static str, unit: Unit, value: f64) -> Self {
        Self { subject: subject.into(), quantity, unit, value: Ok(value), aim: None, reason: String::new() }
    }

    /// One that could not be measured.
    pub(super) fn missing(
        subject: impl Into<String>,
        quantity: &'static str,
        unit: Unit,
        why: impl fmt::Display,
    ) -> Self {
        Self { value: Err(why.to_string()), ..Self::new(subject, quantity, unit, 0.0) }
    }

    /// The figure with its aim, and with what explains it.
    #[must_use]
    pub(super) fn with_aim(self, name: impl Into<String>, bound: Bound, reason: impl Into<String>) -> Self {
        Self { aim: Some(Aim { name: name.into(), bound }), reason: reason.into(), ..self }
    }

    /// Whether it is as it should be; `None` if it should be nothing, or was not measured.
    #[must_use]
    pub(super) fn is_met(&self) -> Option<bool> {
        let (value, aim) = (self.value.as_ref().ok()?, self.aim.as_ref()?);
        Some(match aim.bound {
            Bound::AtMost(most) => *value <= most,
            Bound::AtLeast(least) => *value >= least,
        })
    }
}

/// What a figure should be.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    /// What is aimed for, as a row of the table of aims has it.
    pub(super) name: String,
    /// The limit, in the figure's unit.
    pub(super) bound: Bound,
}

/// A limit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// So much or less.
    AtMost(f64),
    /// So much or more.
    AtLeast(f64),
}

/// The unit of a value, which says how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Millionths of a second.
    Microseconds,
    /// Seconds.
    Seconds,
    /// Bytes, in so few that they are counted.
    Bytes,
    /// Bytes, written as MiB.
    Memory,
    /// Parts of a hundred; 1 is 100 %.
    Share,
    /// How many times another figure.
    Times,
    /// How many a second.
    Rate,
    /// How many.
    Count,
}

impl Unit {
    /// A value with its unit.
    #[must_use]
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Self::Microseconds => format!("{value:.2} µs"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes => format!("{value:.1} B"),
            Self::Memory => format!("{:.1} MiB", value / f64::from(1 << 20)),
            Self::Share => format!("{:.1} %", value * 100.0),
            Self::Times => format!("{value:.1} ×"),
            Self::Rate => format!("{} /s", count(value)),
            Self::Count => count(value),
        }
    }
}

/// A number of things: whole, and in millions or thousands where there are many.
fn count(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.1} M", value / 1e6),
        _ if value >= 1e4 => format!("{:.1} k", value / 1e3),
        _ if value >= 10.0 || value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

/// A picture of some figures.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// Heading.
    pub(super) title: String,
    /// What is to the right.
    pub(super) across: &'static str,
    /// What is upwards, with its unit.
    pub(super) up: &'static str,
    /// Name and points of each line. Both axes are logarithmic, so that what grows in proportion is a straight line.
    pub(super) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// The value in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_at_its_bound_and_on_the_right_side_of_it() {
        let with = |value, bound| Figure::new("x", "y", Unit::Times, value).with_aim("z", bound, "").is_met();
        assert_eq!(with(5.0, Bound::AtMost(5.0)), Some(true));
        assert_eq!(with(5.1, Bound::AtMost(5.0)), Some(false));
        assert_eq!(with(5.1, Bound::AtLeast(5.0)), Some(true));
        assert_eq!(with(4.9, Bound::AtLeast(5.0)), Some(false));
    }

    #[test]
    fn what_was_not_measured_meets_nothing() {
        let missing = Figure::missing("x", "y", Unit::Times, "no perf").with_aim("z", Bound::AtMost(5.0), "");
        assert_eq!(missing.is_met(), None);
        assert_eq!(Figure::new("x", "y", Unit::Times, 1.0).is_met(), None);
    }

    #[test]
    fn values_are_written_with_their_units() {
        let texts = [
            (Unit::Microseconds, 0.972),
            (Unit::Bytes, 7.96),
            (Unit::Memory, 1_572_864.0),
            (Unit::Share, 0.0512),
            (Unit::Rate, 15_200_000.0),
            (Unit::Rate, 9_999.0),
            (Unit::Count, 54_321.0),
            (Unit::Count, 2.5),
            (Unit::Count, 0.0),
        ]
        .map(|(unit, value)| unit.text(value));
        assert_eq!(texts, ["0.97 µs", "8.0 B", "1.5 MiB", "5.1 %", "15.2 M /s", "9999 /s", "54.3 k", "2.5", "0"]);
    }

    #[test]
    fn the_median_is_the_middle_of_the_order() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]).ok(), Some(5.0));
        assert!(median(Vec::new()).is_err());
    }
}
