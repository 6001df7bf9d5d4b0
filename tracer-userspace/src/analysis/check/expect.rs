// SPDX-License-Identifier: Apache-2.0
//! What buffers are expected to do: so many allocations and so many frees for each.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::{
    analysis::{Pattern, Site, SitePattern, names, site::Sites},
    model::{Buffer, Certainty, Colour, Device, Entry, Model, Moment, Outcome, Verdict},
    trace::parse_buffer_type,
};

/// The expectations of a file:
///
/// ```toml
/// [[expect]]
/// name = "mesh buffer on eight chips"
/// test = "*::test_mesh_buffer*"    # the test that allocates; any, if not said
/// site = "MeshBuffer::create"      # where it allocates; any, if not said
/// type = "DRAM"                    # any, if not said
/// allocations = 9                  # of one buffer, at its address, on all devices together
/// frees = 1
/// ```
///
/// A test may have been given an address several times: it has to have the expected numbers, or a multiple of both.
#[derive(Clone, Debug, Default)]
pub struct Expectations(Vec<Expectation>);

/// One of them.
#[derive(Clone, Debug)]
pub struct Expectation {
    name: String,
    test: Option<Pattern>,
    site: Option<SitePattern>,
    buffer_type: Option<String>,
    allocations: u64,
    frees: u64,
}

/// What was counted at one address of one device for one place of allocation. Whoever counts decides what an allocation
/// and a free is.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Process number.
    pub process: u32,
    /// Device, absent if it is not known.
    pub device: Option<String>,
    /// Type of memory, e.g. `L1`.
    pub buffer_type: String,
    /// The address.
    pub address: u64,
    /// The test that allocated, absent if there was none.
    pub test: Option<String>,
    /// Where it allocated.
    pub site: Site,
    /// Allocations.
    pub allocations: u64,
    /// Frees, also those beyond the allocations.
    pub frees: u64,
    /// Whether these numbers stand.
    pub certainty: Certainty,
}

/// An expectation, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Expected {
    /// Its name.
    pub name: String,
    /// Whether there is an address, and none that is for certain not as expected.
    pub passed: bool,
    /// Allocations of one buffer.
    pub allocations: u64,
    /// Frees of one buffer.
    pub frees: u64,
    /// Addresses that it is about, in each test.
    pub addresses: u64,
    /// Addresses that are not as expected.
    pub unmet: Vec<Unmet>,
}

/// An address with other numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Unmet {
    /// Process number.
    pub process: u32,
    /// Type of memory.
    pub buffer_type: String,
    /// The address.
    pub address: u64,
    /// The test that it was given to.
    pub test: Option<String>,
    /// Devices that had it.
    pub devices: Vec<String>,
    /// Allocations on all of them.
    pub allocations: u64,
    /// Frees on all of them.
    pub frees: u64,
    /// Whether these numbers stand.
    pub certainty: Certainty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    expect: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    test: Option<String>,
    site: Option<String>,
    r#type: Option<String>,
    allocations: u64,
    frees: u64,
}

impl Expectations {
    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        file.expect.into_iter().map(Expectation::new).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Holds them against what was counted; `strict` if numbers that may be wrong count too.
    pub(super) fn hold(&self, counted: &[Counted], strict: bool) -> Vec<Expected> {
        self.0.iter().map(|expectation| expectation.hold(counted, strict)).collect()
    }
}

impl Expectation {
    fn new(raw: Raw) -> Result<Self, String> {
        let what = |problem: &str| format!("the expectation `{}`: {problem}", raw.name);
        if raw.allocations == 0 {
            return Err(what("a buffer has at least one allocation"));
        }
        let number = raw.r#type.as_deref().map(|name| parse_buffer_type(name).ok_or_else(|| what("no such type")));
        let site = raw.site.as_deref().map(|text| SitePattern::parse(text).map_err(|problem| what(&problem)));
        Ok(Self {
            buffer_type: number.transpose()?.map(names::buffer_type),
            site: site.transpose()?,
            test: raw.test.as_deref().map(Pattern::new),
            allocations: raw.allocations,
            frees: raw.frees,
            name: raw.name,
        })
    }

    fn hold(&self, counted: &[Counted], strict: bool) -> Expected {
        let mut addresses: BTreeMap<(u32, Option<&str>, &str, u64), Unmet> = BTreeMap::new();
        for row in counted.iter().filter(|row| self.is_about(row)) {
            let key = (row.process, row.test.as_deref(), row.buffer_type.as_str(), row.address);
            let sum = addresses.entry(key).or_insert_with(|| Unmet {
                process: row.process,
                buffer_type: row.buffer_type.clone(),
                address: row.address,
                test: row.test.clone(),
                devices: Vec::new(),
                allocations: 0,
                frees: 0,
                certainty: Certainty::Confirmed,
            });
            sum.allocations = sum.allocations.saturating_add(row.allocations);
            sum.frees = sum.frees.saturating_add(row.frees);
            sum.certainty = sum.certainty.max(row.certainty);
            let device = row.device.clone().unwrap_or_else(|| "unknown".to_owned());
            if !sum.devices.contains(&device) {
                sum.devices.push(device);
            }
        }
        let count = addresses.len() as u64;
        let unmet: Vec<Unmet> = addresses.into_values().filter(|sum| !self.is_met(sum)).collect();
        let broken = unmet.iter().any(|sum| strict || sum.certainty == Certainty::Confirmed);
        Expected {
            name: self.name.clone(),
            passed: count > 0 && !broken,
            allocations: self.allocations,
            frees: self.frees,
            addresses: count,
            unmet,
        }
    }

    fn is_about(&self, row: &Counted) -> bool {
        self.test.as_ref().is_none_or(|test| row.test.as_deref().is_some_and(|it| test.matches(it)))
            && self.site.as_ref().is_none_or(|site| site.matches(&row.site))
            && self.buffer_type.as_ref().is_none_or(|it| *it == row.buffer_type)
    }

    fn is_met(&self, sum: &Unmet) -> bool {
        let times = sum.allocations / self.allocations;
        let whole = times > 0 && times.checked_mul(self.allocations) == Some(sum.allocations);
        whole && times.checked_mul(self.frees) == Some(sum.frees)
    }
}

/// Counts allocations and frees of owners: what really happened. Its memory grows with the number of addresses and of
/// places that allocate.
#[derive(Debug, Default)]
pub struct CountedFold {
    counts: HashMap<Key, Count>,
}

/// What rows are told apart by, in numbers of the traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    process: u32,
    device: Option<Device>,
    buffer_type: u32,
    address: u64,
    test: u32,
    stack: u32,
}

#[derive(Debug, Default)]
struct Count {
    allocations: u64,
    frees: u64,
    possible: bool,
}

impl CountedFold {
    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Allocation(it) if !it.buffer.phantom => self.count(&it.buffer, &it.moment).allocations += 1,
            Entry::Allocation(_) | Entry::Alias(_) => {}
            Entry::Outcome(outcome) => self.outcome(outcome),
        }
    }

    /// Ends in rows, in no order that matters.
    #[must_use]
    pub fn finish(self, model: &Model) -> Vec<Counted> {
        let mut sites = Sites::new(&model.definitions);
        let row = |(key, count): (Key, Count)| Counted {
            process: key.process,
            device: names::device(key.device),
            buffer_type: names::buffer_type(key.buffer_type),
            address: key.address,
            test: names::test_of(&model.definitions, key.test),
            site: sites.get(key.stack).clone(),
            allocations: count.allocations,
            frees: count.frees,
            certainty: if count.possible { Certainty::Possible } else { Certainty::Confirmed },
        };
        self.counts.into_iter().map(row).collect()
    }

    /// A free counts where its buffer was allocated; one whose allocation was not seen is none of ours.
    fn outcome(&mut self, outcome: &Outcome) {
        let Outcome { buffer, verdict, certainty, .. } = outcome;
        let Some(allocated) = buffer.allocated.filter(|_| !buffer.phantom) else {
            return;
        };
        let again = matches!(verdict.colour(), Colour::Excess | Colour::Red);
        let no_free = matches!(verdict, Verdict::Held | Verdict::Failed | Verdict::Overlap);
        let freed = !no_free && (again || outcome.ends);
        let count = self.count(buffer, &allocated);
        count.frees += u64::from(freed);
        count.possible |= *certainty == Certainty::Possible;
    }

    fn count(&mut self, buffer: &Buffer, allocated: &Moment) -> &mut Count {
        let key = Key {
            process: buffer.process,
            device: buffer.device,
            buffer_type: buffer.buffer_type,
            address: buffer.address,
            test: allocated.test,
            stack: allocated.stack,
        };
        self.counts.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer of each kind, as one counts who hears of aliases too: eight chips under one mesh.
    fn row(test: &str, device: &str, address: u64, allocations: u64, frees: u64) -> Counted {
        Counted {
            process: 1,
            device: Some(device.to_owned()),
            buffer_type: "DRAM".to_owned(),
            address,
            test: Some(test.to_owned()),
            site: Site::of(None),
            allocations,
            frees,
            certainty: Certainty::Confirmed,
        }
    }

    const TABLE: &str = r#"
        [[expect]]
        name = "regular buffer"
        test = "test_regular"
        allocations = 1
        frees = 1
        [[expect]]
        name = "mesh buffer"
        test = "test_mesh"
        allocations = 9
        frees = 1
        [[expect]]
        name = "program pool"
        test = "test_pool"
        allocations = 1
        frees = 1
        [[expect]]
        name = "view"
        test = "test_view"
        allocations = 1
        frees = 0
    "#;

    fn held(mesh_frees: u64, pool_frees: u64, view_frees: u64) -> Vec<Expected> {
        let mut rows = vec![
            row("test_regular", "chip0", 0x100, 3, 3),
            row("test_regular", "chip0", 0x200, 1, 1),
            row("test_mesh", "mesh0", 0x100, 2, 2),
            row("test_pool", "chip0", 0x300, 1, pool_frees),
            row("test_view", "chip0", 0x400, 1, view_frees),
        ];
        // Two mesh buffers, one after the other: sixteen chip buffers at the address of two that own.
        rows.extend((0..8).map(|chip| row("test_mesh", &format!("chip{chip}"), 0x100, 2, mesh_frees)));
        Expectations::parse(TABLE).expect("parsed").hold(&rows, false)
    }

    fn passed(results: &[Expected]) -> Vec<bool> {
        results.iter().map(|it| it.passed).collect()
    }

    #[test]
    fn the_table_holds_for_owners_that_free_alone_and_not_for_chips_that_free_too() {
        assert_eq!(passed(&held(0, 1, 0)), [true; 4]);
        let broken = held(2, 2, 1);
        assert_eq!(passed(&broken), [true, false, false, false]);
        let mesh = &broken[1].unmet[0];
        assert_eq!((mesh.allocations, mesh.frees, mesh.devices.len()), (18, 18, 9));
        // One of two buffers is freed once too often: no multiple.
        assert_eq!(passed(&held(0, 2, 0)), [true, true, false, true]);
    }

    #[test]
    fn numbers_that_may_be_wrong_break_nothing_unless_asked_to() {
        let unsure = Counted { certainty: Certainty::Possible, ..row("test_regular", "chip0", 0x100, 1, 0) };
        let expectations = Expectations::parse(TABLE).expect("parsed");
        let hold = |strict| expectations.hold(std::slice::from_ref(&unsure), strict)[0].passed;
        assert!(hold(false) && !hold(true));
    }

    #[test]
    fn an_expectation_of_nothing_fails() {
        let expectations = Expectations::parse(TABLE).expect("parsed");
        assert_eq!(passed(&expectations.hold(&[], false)), [false; 4]);
        assert!(Expectations::parse("[[expect]]\nname=\"a\"\nallocations=0\nfrees=0").is_err());
        assert!(Expectations::parse("[[expect]]\nname=\"a\"\nallocations=1\nfrees=0\ntype=\"L2\"").is_err());
        assert!(Expectations::parse("[[expect]]\nname=\"a\"\nallocations=1").is_err());
    }
}
