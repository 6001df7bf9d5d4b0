// SPDX-License-Identifier: Apache-2.0
//! What buffers are expected to do: so many allocations and so many frees for each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Counted, Counts};
use crate::{
    analysis::{Pattern, SitePattern, names},
    model::Certainty,
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
/// ledger = "server"                # what the graph tracker was told; "allocator", what really happened, if not said
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
    ledger: CountedIn,
    allocations: u64,
    frees: u64,
}

/// The ledger that an expectation is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CountedIn {
    /// What really happened.
    #[default]
    Allocator,
    /// What a server at the graph tracker would have counted.
    Server,
}

/// An expectation, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Expected {
    /// Its name.
    pub name: String,
    /// The ledger that it is about.
    pub ledger: CountedIn,
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
    #[serde(default)]
    ledger: CountedIn,
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
    pub(super) fn hold(&self, counts: &Counts, strict: bool) -> Vec<Expected> {
        let counted = |expectation: &Expectation| match expectation.ledger {
            CountedIn::Allocator => &counts.allocator,
            CountedIn::Server => &counts.server,
        };
        self.0.iter().map(|expectation| expectation.hold(counted(expectation), strict)).collect()
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
            test: raw.test.as_deref().map(Pattern::parse).transpose().map_err(|problem| what(&problem))?,
            ledger: raw.ledger,
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
            ledger: self.ledger,
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{
        analysis::{CountedFold, Filter, Site},
        model::read_text,
    };

    /// What each kind of buffer should report, if the chips of a mesh report their allocations and frees are the owner's.
    const TABLE: &str = r#"
        [[expect]]
        name = "regular buffer"
        test = "test_regular"
        ledger = "server"
        allocations = 1
        frees = 1
        [[expect]]
        name = "mesh buffer"
        test = "test_mesh"
        ledger = "server"
        allocations = 9
        frees = 1
        [[expect]]
        name = "program pool"
        test = "test_pool"
        ledger = "server"
        allocations = 1
        frees = 1
        [[expect]]
        name = "view"
        test = "test_view"
        ledger = "server"
        allocations = 1
        frees = 0
    "#;

    /// Writes the trace of a target in which aliases report.
    struct Fork {
        text: String,
        events: u64,
    }

    impl Fork {
        fn event(&mut self, what: &str) {
            self.events += 1;
            self.text += &format!("event {0} t={0} p=1 tid=7 {what}\n", self.events);
        }

        fn test(&mut self, name: &str) {
            let number = self.events + 1;
            self.text += &format!("text id={number} text=\"t.py::test_{name} (call)\"\n");
            self.event(&format!("test-begin text={number}"));
        }

        /// An owner on the mesh with this id.
        fn allocate(&mut self, uid: u64, address: u64) {
            let about = format!("uid={uid} size=64 class=mesh owns=1 allocator=0xa");
            self.event(&format!("request {about} stack=1"));
            self.event(&format!("allocated {about} address={address} status=1"));
        }

        fn free(&mut self, uid: u64, address: u64) {
            let about = format!("uid={uid} size=64 address={address} owns=1 status=1 allocator=0xa");
            self.event(&format!("free {about}"));
            self.event(&format!("released {about} class=mesh"));
        }

        /// Freed again, and reported again, as nothing checks the status.
        fn free_again(&mut self, uid: u64, address: u64) {
            self.event(&format!("free uid={uid} size=64 address={address} owns=1 status=2"));
            self.event(&format!("released uid={uid} size=64 address={address} owns=1 status=2 class=mesh"));
        }

        fn alias(&mut self, uid: u64, address: u64, device: &str) {
            self.event(&format!("allocated uid={uid} size=64 address={address} {device} status=1"));
        }

        fn mark(&mut self, uid: u64, address: u64, device: &str) {
            let about = format!("uid={uid} size=64 address={address} {device} status=1");
            self.event(&format!("marked {about}"));
            self.event(&format!("released {about}"));
        }
    }

    /// Two regular buffers one after the other, a mesh buffer on eight chips of which so many report a free, one that a
    /// program keeps in its pool, and a view; the last two are freed once too often if the target is broken.
    fn fork(chips_that_free: u64, mesh_frees: bool, broken: bool) -> String {
        let text = "process id=1 pid=7\nborder process=1\nframe id=1 address=1\nstack id=1 frames=1\n".to_owned();
        let mut fork = Fork { text, events: 0 };
        fork.test("regular");
        for uid in [0, 1] {
            fork.allocate(uid, 0x100);
            fork.free(uid, 0x100);
        }
        fork.test("mesh");
        fork.allocate(10, 0x100);
        let chip = |number: u64| format!("class=chip id={number}");
        (0..8).for_each(|number| fork.alias(11 + number, 0x100, &chip(number)));
        (0..chips_that_free).for_each(|number| fork.mark(11 + number, 0x100, &chip(number)));
        if mesh_frees {
            fork.free(10, 0x100);
        }
        fork.test("pool");
        fork.allocate(20, 0x200);
        fork.free(20, 0x200);
        if broken {
            fork.free_again(20, 0x200);
        }
        fork.test("base");
        fork.allocate(30, 0x300);
        fork.test("view");
        fork.alias(31, 0x320, "class=mesh");
        if broken {
            fork.mark(31, 0x320, "class=mesh");
        }
        fork.text
    }

    fn counted(text: &str) -> Counts {
        let mut fold = CountedFold::default();
        let model = read_text(text, &mut |entry| fold.entry(entry));
        fold.finish(&model, &Filter::default().select(&model.definitions))
    }

    fn hold(expectations: &str, counts: &Counts) -> Vec<Expected> {
        Expectations::parse(expectations).expect("parsed").hold(counts, false)
    }

    fn passed(results: &[Expected]) -> Vec<bool> {
        results.iter().map(|it| it.passed).collect()
    }

    #[test]
    fn the_table_holds_for_owners_that_free_alone_and_not_for_chips_that_free_too() {
        assert_eq!(passed(&hold(TABLE, &counted(&fork(0, true, false)))), [true; 4]);
        let broken = hold(TABLE, &counted(&fork(8, true, true)));
        assert_eq!(passed(&broken), [true, false, false, false]);
        let numbers = |index: usize| {
            let unmet: &Unmet = &broken[index].unmet[0];
            (unmet.address, unmet.allocations, unmet.frees, unmet.devices.len())
        };
        assert_eq!([1, 2, 3].map(numbers), [(0x100, 9, 9, 9), (0x200, 1, 2, 1), (0x320, 1, 1, 1)]);
        // The chips free, and the owner does not.
        let chips = hold(TABLE, &counted(&fork(8, false, false)));
        assert_eq!(passed(&chips), [true, false, true, true]);
        assert_eq!((chips[1].unmet[0].allocations, chips[1].unmet[0].frees), (9, 8));
    }

    #[test]
    fn the_allocator_knows_owners_alone_and_what_was_freed_too_often() {
        let table = TABLE.replace("\"server\"", "\"allocator\"").replace("allocations = 9", "allocations = 1");
        // Nothing was allocated in the last test: a view gets no memory.
        assert_eq!(passed(&hold(&table, &counted(&fork(0, true, false)))), [true, true, true, false]);
        let broken = hold(&table, &counted(&fork(8, true, true)));
        assert_eq!(passed(&broken), [true, false, false, false]);
        assert_eq!((broken[1].unmet[0].allocations, broken[1].unmet[0].frees), (1, 9));
    }

    #[test]
    fn an_alias_belongs_to_the_site_of_its_owner() {
        let counts = counted(&fork(8, true, false));
        let mesh = counts.server.iter().filter(|row| row.test.as_deref() == Some("t.py::test_mesh"));
        let sites: Vec<&str> = mesh.map(|row| row.site.name.as_str()).collect();
        assert_eq!((sites.len(), sites.contains(&"no stack")), (9, false), "{sites:?}");
    }

    #[test]
    fn numbers_that_may_be_wrong_break_nothing_unless_asked_to() {
        let unsure = Counted {
            process: 1,
            device: None,
            buffer_type: "DRAM".to_owned(),
            address: 0x100,
            test: Some("test_regular".to_owned()),
            site: Rc::new(Site::of(None)),
            allocations: 1,
            frees: 0,
            certainty: Certainty::Possible,
        };
        let counts = Counts { server: vec![unsure], ..Counts::default() };
        let expectations = Expectations::parse(TABLE).expect("parsed");
        let with = |strict| expectations.hold(&counts, strict)[0].passed;
        assert!(with(false) && !with(true));
        // A loss may have hidden any of them.
        let lost = fork(8, true, true) + "loss process=1 after=1 before=2 count=1 cause=ring-full\n";
        assert_eq!(passed(&hold(TABLE, &counted(&lost))), [true; 4]);
    }

    #[test]
    fn what_is_not_freed_by_the_end_of_a_recording_is_not_as_expected() {
        let leak = |end: &str| {
            let mut fork = Fork { text: fork(0, true, false), events: 900 };
            fork.test("regular");
            fork.allocate(90, 0x900);
            let table = TABLE.replace("\"server\"", "\"allocator\"");
            hold(&table, &counted(&(fork.text + end)))[0].passed
        };
        let stopped = "end process=1 time=999 reason=interrupted\n";
        assert!(!leak(stopped) && !leak("end process=1 time=999 reason=exited\n"));
        assert!(leak(&format!("loss process=1 after=1 before=2 count=1 cause=ring-full\n{stopped}")));
    }

    #[test]
    fn an_expectation_of_nothing_fails() {
        assert_eq!(passed(&hold(TABLE, &Counts::default())), [false; 4]);
        for wrong in ["allocations=0\nfrees=0", "allocations=1\nfrees=0\ntype=\"L2\"", "allocations=1"] {
            assert!(Expectations::parse(&format!("[[expect]]\nname=\"a\"\n{wrong}")).is_err(), "{wrong}");
        }
        assert!(Expectations::parse("[[expect]]\nname=\"a\"\nallocations=1\nfrees=1\nledger=\"x\"").is_err());
    }
}
