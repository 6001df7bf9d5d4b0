// SPDX-License-Identifier: Apache-2.0
//! The options by which reading commands select, group and rank.

use anyhow::{Result, ensure};
use clap::{Args as ClapArgs, ValueEnum};

use crate::{
    analysis::{
        DeviceQuery, ExcessGrouping, ExcessKind, Filter, Grouping, Order, Pattern, SitePattern, parse_buffer_type,
    },
    model::Verdict,
};

/// What to look at. What happened counts where it happened, what is held where it was allocated.
#[derive(Debug, ClapArgs)]
pub(super) struct Scope {
    /// Device: mesh0, chip3, device3 of a log, or a number for any of these
    #[arg(long, value_parser = DeviceQuery::parse)]
    device: Option<DeviceQuery>,
    /// Type of memory: DRAM, L1, L1_SMALL, TRACE or SYSTEM_MEMORY
    #[arg(long = "type", id = "type", value_name = "TYPE", value_parser = parse_buffer_type)]
    buffer_type: Option<u32>,
    /// Test: a part of its id, or all of it with * for anything
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::parse)]
    test: Option<Pattern>,
    /// Site: its id, or parts of functions' names, innermost first: "Cache::clear < test_unload"
    #[arg(long, value_name = "PATTERN", value_parser = SitePattern::parse)]
    site: Option<SitePattern>,
    /// From this time on, in seconds after the start; of an imported log from this line on, of a graph from this node on
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    since: Option<u64>,
    /// Before this time, line or node
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    until: Option<u64>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Sort {
    /// The largest number
    Count,
    /// The most bytes
    Bytes,
    /// The earliest
    Time,
}

/// What buffers are grouped by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum By {
    /// Where they were allocated
    Site,
    /// The test that allocated them
    Test,
    /// Their device
    Device,
    /// Their type of memory
    Type,
}

/// What excess frees are grouped by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ExcessBy {
    /// Where they were made
    Site,
    /// The test that made them
    Test,
    /// The device of the memory
    Device,
    /// The type of the memory
    Type,
    /// What they were
    Verdict,
}

impl Scope {
    /// As the analyses have it.
    ///
    /// # Errors
    ///
    /// It is of no time at all.
    pub(super) fn filter(&self) -> Result<Filter> {
        if let (Some(since), Some(until)) = (self.since, self.until) {
            ensure!(since < until, "--since is not before --until: nothing is in between");
        }
        Ok(Filter {
            device: self.device,
            buffer_type: self.buffer_type,
            test: self.test.clone(),
            site: self.site.clone(),
            verdicts: Vec::new(),
            since: self.since,
            until: self.until,
        })
    }

    /// The same for some verdicts alone.
    pub(super) fn with(&self, verdicts: &[Verdict]) -> Result<Filter> {
        Ok(Filter { verdicts: verdicts.to_vec(), ..self.filter()? })
    }
}

impl From<Sort> for Order {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Count => Self::Count,
            Sort::Bytes => Self::Bytes,
            Sort::Time => Self::Time,
        }
    }
}

impl From<By> for Grouping {
    fn from(by: By) -> Self {
        match by {
            By::Site => Self::Site,
            By::Test => Self::Test,
            By::Device => Self::Device,
            By::Type => Self::Type,
        }
    }
}

impl From<ExcessBy> for Option<ExcessGrouping> {
    fn from(by: ExcessBy) -> Self {
        match by {
            ExcessBy::Site => None,
            ExcessBy::Test => Some(ExcessGrouping::Test),
            ExcessBy::Device => Some(ExcessGrouping::Device),
            ExcessBy::Type => Some(ExcessGrouping::Type),
            ExcessBy::Verdict => Some(ExcessGrouping::Verdict),
        }
    }
}

pub(super) fn parse_verdict(text: &str) -> Result<Verdict, String> {
    verdict_of(text, |_| true)
}

/// One that a free can have that is no ordinary one.
pub(super) fn parse_excess_verdict(text: &str) -> Result<Verdict, String> {
    verdict_of(text, |verdict| ExcessKind::of(verdict).is_some())
}

fn verdict_of(text: &str, fits: impl Fn(Verdict) -> bool) -> Result<Verdict, String> {
    let names = || -> Vec<&str> { Verdict::ALL.into_iter().filter(|it| fits(*it)).map(Verdict::name).collect() };
    let known = Verdict::from_name(text).filter(|it| fits(*it));
    known.ok_or_else(|| format!("the verdicts are {}", names().join(", ")))
}

/// Nanoseconds, from seconds with a fraction. Done in whole numbers, so that times read back as views show them. The number
/// of a line or a node is taken in the same way.
fn parse_time(text: &str) -> Result<u64, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    let nanoseconds = || {
        let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
        whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction)
    };
    let sound = digits(whole) && digits(fraction) && fraction.len() <= 9;
    sound
        .then(nanoseconds)
        .flatten()
        .ok_or_else(|| "a time is a number of seconds, like 12.5, or the number of a line or a node".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Device, trace::DeviceClass};

    #[test]
    fn no_time_at_all_is_refused() {
        let of = |since, until| {
            let scope = Scope { device: None, buffer_type: None, test: None, site: None, since, until };
            scope.filter().map_err(|error| error.to_string()).map(|_| ())
        };
        assert_eq!((of(Some(1), Some(2)), of(Some(5), None), of(None, Some(1))), (Ok(()), Ok(()), Ok(())));
        let refused = Err("--since is not before --until: nothing is in between".to_owned());
        assert_eq!((of(Some(2), Some(2)), of(Some(3), Some(2))), (refused.clone(), refused));
    }

    #[test]
    fn devices_times_and_types_are_understood() {
        let exactly = |class, id| Ok(DeviceQuery::Exactly(Device { class, id }));
        assert_eq!(DeviceQuery::parse("mesh0"), exactly(DeviceClass::Mesh, 0));
        assert_eq!(DeviceQuery::parse("chip31"), exactly(DeviceClass::Chip, 31));
        assert_eq!(DeviceQuery::parse("7"), Ok(DeviceQuery::Any(7)));
        assert!(DeviceQuery::parse("mesh").is_err() && DeviceQuery::parse("gpu0").is_err());
        assert_eq!(parse_time("12.5"), Ok(12_500_000_000));
        assert_eq!(parse_time("0.000001"), Ok(1000));
        for wrong in ["", ".5", "-1", "1e9", "99999999999", "1.0000000001"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        assert_eq!((parse_buffer_type("l1"), parse_buffer_type("TRACE")), (Ok(1), Ok(4)));
        assert_eq!(parse_excess_verdict("marked"), Ok(Verdict::Marked));
        let refused = "the verdicts are repeat, alias-free, stale-free, stolen-free, leaked, after-close, marked, inherited, unmatched";
        for wrong in ["held", "released", "overlap", "leak"] {
            assert_eq!(parse_excess_verdict(wrong), Err(refused.to_owned()));
        }
        assert!(parse_buffer_type("l2").is_err() && parse_verdict("leak").is_err());
    }
}
