// SPDX-License-Identifier: Apache-2.0
//! The account while it grows: at any moment a picture of memories, findings, sites and tests. No view writes it as JSON.
//!
//! What is kept grows with sites, devices and tests. Names are looked up for each picture anew, as symbols may come later
//! than the events that need them.

mod history;
mod pace;
mod rows;

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    time::Duration,
};

pub use history::History;
pub use rows::{LiveFinding, LiveMemory, LiveSite, LiveTest};

use pace::Pace;

use super::{
    Filter, KnownSites, LossRow, ProcessRow, VerdictRow,
    filter::{origin, origin_of},
    integrity,
    totals::{Memory, Totals, memory},
};
use crate::model::{Buffer, Certainty, Colour, Device, Entry, Model, Outcome, Verdict};

/// Collects what a [`LivePicture`] is made of.
#[derive(Clone, Debug, Default)]
pub struct LiveFold {
    totals: Totals,
    histories: BTreeMap<Memory, History>,
    pace: Pace,
    findings: HashMap<FindingKey, FindingSum>,
    last: u64,
}

/// What a picture is to show, besides what was collected.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is read so far.
    pub model: &'a Model,
    /// Device, type, test and site of the rows. A memory has no test and no site, nor has a test a device.
    pub filter: &'a Filter,
    /// The tests that run: process and text numbers.
    pub running: &'a [(u32, u32)],
    /// What growth is measured from; `None` for the beginning.
    pub since: Option<&'a LiveFold>,
    /// For how long nothing has come.
    pub idle: Duration,
}

/// Everything at one moment, unsorted.
#[derive(Clone, Debug, Default)]
pub struct LivePicture {
    /// The traced processes.
    pub processes: Vec<ProcessRow>,
    /// Events so far.
    pub events: u64,
    /// Events lost so far, by cause.
    pub losses: Vec<LossRow>,
    /// What was odd so far, as sentences.
    pub problems: Vec<String>,
    /// Nanoseconds from the start to the latest entry.
    pub last: u64,
    /// Allocations and frees a second, of late.
    pub pace: [f64; 2],
    /// How many frees and ends got which verdict, whatever the filter.
    pub verdicts: Vec<VerdictRow>,
    /// Memory by process, device and type.
    pub memories: Vec<LiveMemory>,
    /// Verdicts other than normal, by site.
    pub findings: Vec<LiveFinding>,
    /// What is held, by site of the allocation.
    pub sites: Vec<LiveSite>,
    /// Tests.
    pub tests: Vec<LiveTest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FindingKey {
    verdict: Verdict,
    certainty: Certainty,
    stack: u32,
    test: u32,
    device: Option<Device>,
    buffer_type: u32,
}

#[derive(Clone, Copy, Debug)]
struct FindingSum {
    count: u64,
    latest: Outcome,
}

impl LiveFold {
    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let time = origin(entry).time;
        self.last = self.last.max(time);
        self.totals.entry(entry);
        match entry {
            Entry::Allocation(allocation) => {
                self.pace.allocation(time);
                self.sample(&allocation.buffer, time);
            }
            Entry::Found(found) => self.sample(&found.buffer, time),
            Entry::Alias(_) => {}
            Entry::Outcome(outcome) => self.outcome(outcome),
        }
    }

    /// What there is now.
    pub fn picture(&self, view: &View<'_>, sites: &mut KnownSites) -> LivePicture {
        let View { model, idle, .. } = *view;
        let verdicts = self.totals.verdicts.iter();
        let mut rows = rows::Rows::new(view, sites);
        LivePicture {
            processes: integrity::processes(model),
            events: model.events,
            losses: integrity::losses(model),
            problems: integrity::problems_so_far(model),
            last: self.last,
            pace: self.pace.rates(self.last, idle),
            verdicts: verdicts.map(|(verdict, counts)| VerdictRow::new(verdict, counts)).collect(),
            memories: rows.memories(self),
            findings: rows.findings(self),
            sites: rows.sites(self),
            tests: rows.tests(self),
        }
    }

    /// When the latest entry was, in nanoseconds after the start.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let time = outcome.moment.time;
        self.last = self.last.max(time);
        if outcome.ends && outcome.verdict != Verdict::Held {
            self.pace.free(time);
            self.sample(&outcome.buffer, time);
        }
        if outcome.verdict.colour() == Colour::Normal {
            return;
        }
        let (owner, place) = (outcome.owner(), origin_of(outcome));
        let key = FindingKey {
            verdict: outcome.verdict,
            certainty: outcome.certainty,
            stack: place.stack,
            test: place.test,
            device: owner.device,
            buffer_type: owner.buffer_type,
        };
        let sum = self.findings.entry(key).or_insert(FindingSum { count: 0, latest: *outcome });
        (sum.count, sum.latest) = (sum.count + 1, *outcome);
    }

    /// Notes what a memory has now.
    fn sample(&mut self, buffer: &Buffer, time: u64) {
        let memory = memory(buffer);
        if let Some(sum) = self.totals.memories.get(memory) {
            self.histories.entry(memory).or_default().note(time, sum.live.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::{
        analysis::{Pattern, SitePattern},
        model::read_text,
    };

    /// Test one makes three buffers by `make`, frees the first twice by `drop` and keeps the others; the symbol of `make`
    /// is not there.
    const TRACE: &str = r##"
process id=1 pid=7 command=pytest
border process=1 next_unique_id=1
text id=1 text="t.py::one (call)"
text id=2 text="t.py::one (teardown)"
frame id=1 address=0x1
frame id=2 address=0x2
symbol frame=2 function="drop()"
stack id=1 frames=1 end=complete
stack id=2 frames=2 end=complete
event 1 t=1000000000 p=1 tid=7 test-begin text=1
event 2 t=1100000000 p=1 tid=7 request uid=1 size=8 class=mesh stack=1
event 3 t=1100000000 p=1 tid=7 allocated uid=1 owns=1 size=8 address=0x10 class=mesh
event 4 t=1200000000 p=1 tid=7 request uid=2 size=16 class=mesh stack=1
event 5 t=1200000000 p=1 tid=7 allocated uid=2 owns=1 size=16 address=0x20 class=mesh
event 6 t=1300000000 p=1 tid=7 request uid=3 size=32 class=mesh type=1 stack=1
event 7 t=1300000000 p=1 tid=7 allocated uid=3 owns=1 size=32 address=0x20 class=mesh type=1
event 8 t=1400000000 p=1 tid=7 test-begin text=2
event 9 t=1500000000 p=1 tid=7 free uid=1 size=8 address=0x10 status=1 stack=2
event 10 t=1500000000 p=1 tid=7 released uid=1 size=8 status=1
event 11 t=1600000000 p=1 tid=7 free uid=1 size=8 address=0x10 status=2 stack=2
"##;

    fn show(filter: &Filter, since: Option<&LiveFold>) -> String {
        let mut fold = LiveFold::default();
        let model = read_text(TRACE, &mut |entry| fold.entry(entry));
        let view = View { model: &model, filter, running: &[(1, 2)], since, idle: Duration::ZERO };
        let picture = fold.picture(&view, &mut KnownSites::default());
        let mut out = String::new();
        for it in &picture.memories {
            let device = it.device.as_deref().unwrap_or("?");
            let columns = it.history.columns(4, picture.last);
            out += &format!("{device} {} {} of {}, {columns:?}\n", it.buffer_type, it.live.bytes, it.peak);
        }
        let mut findings = picture.findings.clone();
        findings.sort_by_key(|it| it.verdict);
        for it in findings {
            out += &format!("{} {} times at {} in {:?}\n", it.verdict.name(), it.count, it.site.name, it.test);
        }
        for it in &picture.sites {
            out += &format!("{:+} to {} at {}\n", it.growth, it.load.bytes, it.site.name);
        }
        for it in &picture.tests {
            let (name, running) = (it.test.as_deref().unwrap_or("no test"), it.running);
            out += &format!("{name} {} {} {:+} running: {running}\n", it.allocations, it.frees, it.bytes_left);
        }
        out
    }

    #[test]
    fn a_picture_has_what_happened_so_far() {
        expect![[r#"
            mesh0 DRAM 16 of 24, [0, 0, 8, 24]
            mesh0 L1 32 of 32, [0, 0, 0, 32]
            repeat 1 times at drop in Some("t.py::one")
            held 2 times at ? (no library) in Some("t.py::one")
            +48 to 48 at ? (no library)
            t.py::one 3 1 +48 running: true
        "#]]
        .assert_eq(&show(&Filter::default(), None));
    }

    #[test]
    fn rows_are_filtered_by_what_they_have() {
        let filter = Filter { buffer_type: Some(1), ..Filter::default() };
        expect![[r#"
            mesh0 L1 32 of 32, [0, 0, 0, 32]
            held 1 times at ? (no library) in Some("t.py::one")
            +32 to 32 at ? (no library)
            t.py::one 3 1 +48 running: true
        "#]]
        .assert_eq(&show(&filter, None));
        let site = Some(SitePattern::parse("drop").expect("parsed"));
        let filter = Filter { site, test: Some(Pattern::new("two")), ..Filter::default() };
        expect![[r#"
            mesh0 DRAM 16 of 24, [0, 0, 8, 24]
            mesh0 L1 32 of 32, [0, 0, 0, 32]
        "#]]
        .assert_eq(&show(&filter, None));
    }

    #[test]
    fn growth_is_since_a_moment() {
        let mut since = LiveFold::default();
        let later = |line: &&str| [" t=13", " t=15", " t=16"].iter().any(|time| line.contains(time));
        let before: Vec<&str> = TRACE.lines().filter(|line| !later(line)).collect();
        read_text(&before.join("\n"), &mut |entry| since.entry(entry));
        assert!(show(&Filter::default(), Some(&since)).contains("+24 to 48"), "24 of 48 were there before");
    }
}
