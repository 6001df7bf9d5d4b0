// SPDX-License-Identifier: Apache-2.0
//! Which entries an analysis is about.

use std::{collections::BTreeSet, fmt};

use foldhash::HashSet;
use serde::Serialize;

use super::{
    Pattern, SitePattern, Sites, names,
    segments::{NumberSet, Origins},
};
use crate::{
    model::{Definitions, Device, Entry, Moment, Origin, Outcome, Verdict},
    trace::DeviceClass,
};

/// What a filter has for a second of a recording, a line of a log, or a node of a graph.
const UNIT: u64 = 1_000_000_000;

/// Most devices that are named where another one was asked for.
const NAMED: usize = 8;

/// What to look at; what is absent matches everything.
///
/// An entry belongs to the time, test and site where it happened. What nobody did to a buffer itself (it is live at the
/// end, or when its allocator releases everything) belongs where the buffer was allocated.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The device that has the memory: of what an alias reports, the owner's.
    pub device: Option<DeviceQuery>,
    /// The type of memory, as the target numbers them.
    pub buffer_type: Option<u32>,
    /// The test id, without its phase.
    pub test: Option<Pattern>,
    /// The site.
    pub site: Option<SitePattern>,
    /// Verdicts; if there are some, allocations do not match, as they have none.
    pub verdicts: Vec<Verdict>,
    /// Not before this time, in nanoseconds. Of what was imported, 10⁹ of them are a line or a node.
    pub since: Option<u64>,
    /// Before this time, in the same.
    pub until: Option<u64>,
}

/// A device by class and id, or by id alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceQuery {
    /// This one.
    Exactly(Device),
    /// A mesh or a chip with this id.
    Any(u32),
}

/// A filter that knows the numbers of the traces that it is for.
#[derive(Debug)]
pub struct Selection {
    filter: Filter,
    /// Text numbers; `None` if every test will do.
    tests: Option<HashSet<u32>>,
    /// Stack numbers; `None` if every site will do.
    stacks: Option<HashSet<u32>>,
    /// Processes whose times are lines or nodes.
    imported: HashSet<u32>,
    without_device: u64,
    /// Those of all entries, selected or not, if one is asked for.
    devices: BTreeSet<Device>,
    /// The same of types of memory.
    buffer_types: BTreeSet<u32>,
    /// When the last recorded process ended, if all of them have.
    end: Option<u64>,
}

/// What a view shows of its traces, where that is not everything.
#[derive(Clone, Debug, Serialize)]
pub struct Selected {
    /// What was asked for, by the names of the options.
    pub only: String,
    /// Entries that match all but the device, which is not known because their allocation was not seen.
    pub without_device: u64,
    /// What was asked for that nothing in the traces has, as sentences.
    pub unmatched: Vec<String>,
}

impl Filter {
    /// Whether it takes everything.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.words().is_empty()
    }

    /// Whether the filter is about tests, sites or times, so that the traces' definitions have to be known before their
    /// events.
    #[must_use]
    pub fn needs_definitions(&self) -> bool {
        self.test.is_some() || self.site.is_some() || self.since.is_some() || self.until.is_some()
    }

    /// Whether a buffer's allocation may match and its free not, or the other way round. If not, it takes whole memories.
    #[must_use]
    pub fn parts_lives(&self) -> bool {
        self.needs_definitions() || !self.verdicts.is_empty()
    }

    /// Makes it ready for the traces with these definitions; they matter only if it [needs](Self::needs_definitions)
    /// them.
    #[must_use]
    pub fn select(self, definitions: &Definitions) -> Selection {
        let tests = self.test.as_ref().map(|pattern| {
            let matches = |text| definitions.test(&Moment { test: text, ..Moment::default() });
            definitions.text_numbers().filter(|&text| matches(text).is_some_and(|it| pattern.matches(it))).collect()
        });
        let stacks = self.site.as_ref().map(|pattern| {
            let mut sites = Sites::new(definitions);
            let matches = |&stack: &u32| pattern.matches(sites.get(stack));
            definitions.stack_numbers().filter(matches).collect()
        });
        let imported = definitions.processes.iter().filter(|(_, process)| !process.origin.as_str().is_empty());
        let imported: HashSet<u32> = imported.map(|(&number, _)| number).collect();
        let ended = |process: &u32| {
            let time = definitions.ends.get(process)?.time;
            Some(if imported.contains(process) { time.saturating_mul(UNIT) } else { time })
        };
        let ends: Option<Vec<u64>> = definitions.processes.keys().map(ended).collect();
        let end = ends.and_then(|ends| ends.into_iter().max());
        Selection {
            filter: self,
            tests,
            stacks,
            imported,
            without_device: 0,
            devices: BTreeSet::new(),
            buffer_types: BTreeSet::new(),
            end,
        }
    }

    /// Takes what a user wrote, by the words of the options: `device mesh0, type L1, test test_a*, site Cache::clear`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for part in text.split(", ").map(str::trim).filter(|part| !part.is_empty()) {
            let (word, value) = part.split_once(' ').unwrap_or((part, ""));
            let value = value.trim();
            match word {
                "device" => filter.device = Some(DeviceQuery::parse(value)?),
                "type" => filter.buffer_type = Some(names::parse_buffer_type(value)?),
                "test" => filter.test = Some(Pattern::parse(value)?),
                "site" => filter.site = Some(SitePattern::parse(value)?),
                _ => {
                    return Err(
                        "a filter is `device mesh0, type L1, test NAME, site NAME`, or some of these".to_owned()
                    );
                }
            }
        }
        Ok(filter)
    }

    /// Whether a memory is wanted, by its device and type.
    pub(super) fn takes_memory(&self, device: Option<Device>, buffer_type: u32) -> bool {
        self.buffer_type.is_none_or(|wanted| wanted == buffer_type)
            && self.device.is_none_or(|query| device.is_some_and(|device| query.matches(device)))
    }

    /// The filter in the words of the options; empty if it takes everything.
    #[must_use]
    pub fn told(&self) -> String {
        self.words().join(", ")
    }

    fn words(&self) -> Vec<String> {
        let verdicts: Vec<&str> = self.verdicts.iter().map(|verdict| verdict.name()).collect();
        [
            self.device.map(|device| format!("device {device}")),
            self.buffer_type.map(|number| format!("type {}", names::buffer_type(number))),
            self.test.as_ref().map(|pattern| format!("test {pattern}")),
            self.site.as_ref().map(|pattern| format!("site {pattern}")),
            (!verdicts.is_empty()).then(|| format!("verdict {}", verdicts.join(" or "))),
            self.since.map(|time| format!("since {}", shown(time))),
            self.until.map(|time| format!("until {}", shown(time))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Selection {
    /// Whether an entry is selected.
    pub fn takes(&mut self, entry: &Entry) -> bool {
        let (device, buffer_type) = entry.memory();
        self.sees(device, buffer_type);
        self.matches_verdict(entry)
            && self.matches_time(entry)
            && self.matches_place(entry)
            && self.takes_memory(device, buffer_type, 1)
    }

    /// Tells of a memory that entries have, whether these are selected or not.
    pub(super) fn sees(&mut self, device: Option<Device>, buffer_type: u32) {
        if self.filter.device.is_some() {
            self.devices.extend(device);
        }
        if self.filter.buffer_type.is_some() {
            self.buffer_types.insert(buffer_type);
        }
    }

    /// Whether so many entries of one memory are selected, as far as that decides it.
    pub(super) fn takes_memory(&mut self, device: Option<Device>, buffer_type: u32, entries: u64) -> bool {
        if self.filter.buffer_type.is_some_and(|wanted| wanted != buffer_type) {
            return false;
        }
        match (self.filter.device, device) {
            (None, _) => true,
            (Some(query), Some(device)) => query.matches(device),
            (Some(_), None) => {
                self.without_device = self.without_device.saturating_add(entries);
                false
            }
        }
    }

    /// The filter.
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether what was counted of buffers with this origin is selected, by all but the time.
    pub(super) fn takes_origin(&self, origin: &Origin, device: Option<Device>) -> bool {
        let Origin { buffer_type, test, stack, .. } = *origin;
        self.filter.takes_memory(device, buffer_type)
            && self.tests.as_ref().is_none_or(|tests| tests.contains(&test))
            && self.stacks.as_ref().is_none_or(|stacks| stacks.contains(&stack))
    }

    /// Whether any entry of these origins may be selected, by its test, site and time.
    pub(super) fn may_take(&self, origins: &Origins) -> bool {
        let any = |wanted: &Option<HashSet<u32>>, there: &NumberSet| {
            wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|&number| there.contains(number)))
        };
        let Some((first, last)) = origins.times else { return false };
        any(&self.tests, &origins.tests)
            && any(&self.stacks, &origins.stacks)
            && self.filter.since.is_none_or(|since| last >= since)
            && self.filter.until.is_none_or(|until| first < until)
    }

    /// What to say of it; `None` if everything is selected.
    #[must_use]
    pub fn told(&self) -> Option<Selected> {
        let words = self.filter.words();
        (!words.is_empty()).then(|| Selected {
            only: words.join(", "),
            without_device: self.without_device,
            unmatched: self.unmatched(),
        })
    }

    fn unmatched(&self) -> Vec<String> {
        let Filter { device, buffer_type, test, site, since, .. } = &self.filter;
        let device = device.filter(|query| !self.devices.iter().any(|&device| query.matches(device)));
        let device = device.map(|query| format!("no entry is of device {query}{}", instead(&self.devices)));
        let is_none = |numbers: &Option<HashSet<u32>>| numbers.as_ref().is_some_and(HashSet::is_empty);
        let test = test.as_ref().filter(|_| is_none(&self.tests)).map(|it| format!("no test matches {it}"));
        let site = site.as_ref().filter(|_| is_none(&self.stacks)).map(|it| format!("no site matches {it}"));
        let buffer_type = buffer_type.filter(|wanted| !self.buffer_types.contains(wanted));
        let buffer_type = buffer_type.map(|number| format!("no entry is of type {}", names::buffer_type(number)));
        let late = since.zip(self.end).filter(|(since, end)| since > end);
        let late = late.map(|(since, end)| format!("nothing is since {}: all ends at {}", shown(since), shown(end)));
        device.into_iter().chain(buffer_type).chain(test).chain(site).chain(late).collect()
    }

    fn matches_verdict(&self, entry: &Entry) -> bool {
        let wanted = &self.filter.verdicts;
        wanted.is_empty() || matches!(entry, Entry::Outcome(outcome) if wanted.contains(&outcome.verdict))
    }

    fn matches_time(&self, entry: &Entry) -> bool {
        let Filter { since, until, .. } = self.filter;
        if since.is_none() && until.is_none() {
            return true;
        }
        let imported = self.imported.contains(&entry.process());
        let time = self.origin(entry).time;
        let time = if imported { time.saturating_mul(UNIT) } else { time };
        since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until)
    }

    fn origin(&self, entry: &Entry) -> Moment {
        match entry {
            // Without threads, what happened is not told from what nobody did by its thread.
            Entry::Outcome(outcome) if outcome.verdict != Verdict::Held && self.imported.contains(&entry.process()) => {
                outcome.moment
            }
            _ => origin(entry),
        }
    }

    fn matches_place(&self, entry: &Entry) -> bool {
        if self.tests.is_none() && self.stacks.is_none() {
            return true;
        }
        let moment = self.origin(entry);
        self.tests.as_ref().is_none_or(|tests| tests.contains(&moment.test))
            && self.stacks.as_ref().is_none_or(|stacks| stacks.contains(&moment.stack))
    }
}

/// A time in its unit.
fn shown(time: u64) -> String {
    let exact = format!("{}.{:09}", time / UNIT, time % UNIT);
    exact.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What there is, the first few of it.
fn instead(devices: &BTreeSet<Device>) -> String {
    let named: Vec<String> = devices.iter().take(NAMED).map(Device::to_string).collect();
    match devices.len().saturating_sub(NAMED) {
        _ if named.is_empty() => String::new(),
        0 => format!(", but of {}", named.join(", ")),
        more => format!(", but of {} and {more} more", named.join(", ")),
    }
}

/// When, where and in which test an entry belongs; see [`Filter`].
pub(super) fn origin(entry: &Entry) -> Moment {
    match entry {
        Entry::Allocation(allocation) => allocation.moment,
        Entry::Found(found) => Moment { time: found.time, ..Moment::default() },
        Entry::Alias(alias) => alias.moment,
        Entry::Outcome(outcome) => origin_of(outcome),
    }
}

/// The same of an outcome.
pub(super) fn origin_of(outcome: &Outcome) -> Moment {
    let Outcome { buffer, verdict, moment, .. } = *outcome;
    match verdict {
        Verdict::Bulk => buffer.allocated.unwrap_or(Moment { time: moment.time, ..Moment::default() }),
        _ if moment.thread == 0 => buffer.allocated.unwrap_or(moment),
        _ => moment,
    }
}

impl DeviceQuery {
    /// Takes what a user wrote: `mesh0`, `chip3`, `device3` of a log, or a number for any of these.
    ///
    /// # Errors
    ///
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let classes = [("mesh", DeviceClass::Mesh), ("chip", DeviceClass::Chip), ("device", DeviceClass::Unknown)];
        let exact = classes.into_iter().find_map(|(word, class)| Some((class, text.strip_prefix(word)?)));
        let query = match exact {
            Some((class, id)) => id.parse().map(|id| Self::Exactly(Device { class, id })),
            None => text.parse().map(Self::Any),
        };
        query.map_err(|_| "a device is mesh0, chip3 or 0, with any number".to_owned())
    }

    /// The number that it asks for, whatever the class.
    pub(super) fn id(self) -> u32 {
        match self {
            Self::Exactly(device) => device.id,
            Self::Any(id) => id,
        }
    }

    fn matches(self, device: Device) -> bool {
        match self {
            Self::Exactly(wanted) => wanted == device,
            Self::Any(id) => id == device.id,
        }
    }
}

impl fmt::Display for DeviceQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(device) => device.fmt(f),
            Self::Any(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::read_text;

    /// Buffer 1 on mesh0 is freed in test two, buffer 2 in L1 of chip0 is held, buffer 3 is older than the recording.
    const TRACE: &str = r##"
process id=1 pid=7
border process=1 next_unique_id=1
text id=1 text="t.py::one (call)"
text id=2 text="t.py::two (call)"
frame id=1 address=0x1
symbol frame=1 function="make()"
frame id=2 address=0x2
symbol frame=2 function="drop()"
stack id=1 frames=1 end=complete
stack id=2 frames=2 end=complete
event 1 t=1000 p=1 tid=7 test-begin text=1
event 2 t=1100 p=1 tid=7 request uid=1 size=8 class=mesh stack=1
event 3 t=1100 p=1 tid=7 allocated uid=1 owns=1 size=8 address=0x10 class=mesh
event 4 t=1200 p=1 tid=7 request uid=2 size=8 class=chip type=1 stack=1
event 5 t=1200 p=1 tid=7 allocated uid=2 owns=1 size=8 address=0x10 class=chip type=1
event 6 t=2000 p=1 tid=7 test-begin text=2
event 7 t=2100 p=1 tid=7 free uid=1 size=8 address=0x10 status=1 stack=2
event 8 t=2100 p=1 tid=7 released uid=1 size=8 status=1
event 9 t=2200 p=1 tid=7 free uid=0 size=8 address=0x20 status=1 stack=2
event 10 t=2200 p=1 tid=7 released uid=0 size=8 status=1
end process=1 time=3000 reason=exited
"##;

    /// What is selected: `+1` for the allocation of buffer 1, `-1` for its end.
    fn selected(filter: Filter) -> (String, Option<Selected>) {
        let model = read_text(TRACE, &mut |_| {});
        let mut selection = filter.select(&model.definitions);
        let mut taken = Vec::new();
        read_text(TRACE, &mut |entry| {
            if selection.takes(entry) {
                taken.push(match entry {
                    Entry::Allocation(allocation) => format!("+{}", allocation.buffer.unique_id),
                    Entry::Found(found) => format!("={}", found.buffer.unique_id),
                    Entry::Alias(_) => "alias".to_owned(),
                    Entry::Outcome(outcome) => format!("-{}", outcome.buffer.unique_id),
                });
            }
        });
        (taken.join(" "), selection.told())
    }

    #[test]
    fn entries_belong_where_they_happened_and_what_is_held_where_it_was_allocated() {
        let filter = Filter::default();
        assert_eq!(selected(filter.clone()).0, "+1 +2 -1 -0 -2");
        let test = |text| Filter { test: Some(Pattern::new(text)), ..filter.clone() };
        assert_eq!(selected(test("one")).0, "+1 +2 -2");
        assert_eq!(selected(test("t.py::t*")).0, "-1 -0");
        assert_eq!(selected(test("(call)")).0, "");
        let site = |text| Filter { site: Some(SitePattern::parse(text).expect("parsed")), ..filter.clone() };
        assert_eq!(selected(site("make")).0, "+1 +2 -2");
        assert_eq!(selected(Filter { since: Some(1200), until: Some(2200), ..filter.clone() }).0, "+2 -1 -2");
        assert_eq!(selected(Filter { buffer_type: Some(1), ..filter.clone() }).0, "+2 -2");
        assert_eq!(selected(Filter { verdicts: vec![Verdict::Held, Verdict::PreAttach], ..filter }).0, "-0 -2");
    }

    #[test]
    fn a_filter_reads_back_as_it_is_told() {
        for text in ["", "device mesh0, type L1, test t.py::t*, site Cache::clear < test_unload", "device 3"] {
            assert_eq!(Filter::parse(text).map(|filter| filter.told()), Ok(text.to_owned()));
        }
        assert_eq!(Filter::parse(" type  l1 ").map(|filter| filter.told()), Ok("type L1".to_owned()));
        for wrong in ["mesh0", "device", "device gpu0", "type l2", "test", "site", "since 3"] {
            assert!(Filter::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_has_no_known_device_is_counted() {
        let (taken, told) = selected(Filter {
            device: Some(DeviceQuery::Any(0)),
            buffer_type: Some(0),
            until: Some(2_500_000_000),
            ..Filter::default()
        });
        assert_eq!(taken, "+1 -1");
        let told = told.expect("not everything");
        assert_eq!(told.only, "device 0, type DRAM, until 2.5");
        assert_eq!(told.without_device, 1);
        assert!(selected(Filter::default()).1.is_none());
    }

    #[test]
    fn what_a_chip_reports_of_a_mesh_is_the_meshs() {
        let text = "process id=1 pid=7\nborder process=1 time=1\n\
            event 1 t=10 p=1 tid=7 request uid=1 size=64 class=mesh id=2\n\
            event 2 t=11 p=1 tid=7 allocated uid=1 size=64 address=0x100 owns=1 class=mesh id=2 allocator=0xa\n\
            event 3 t=12 p=1 tid=7 released uid=5 size=64 address=0x100 status=1 class=chip id=3\n";
        let frees = |device: &str| {
            let device = Some(DeviceQuery::parse(device).expect("parsed"));
            let mut selection = Filter { device, ..Filter::default() }.select(&Definitions::default());
            let mut frees = 0;
            read_text(text, &mut |entry| {
                frees += u32::from(
                    selection.takes(entry) && matches!(entry, Entry::Outcome(it) if it.verdict == Verdict::AliasFree),
                );
            });
            (frees, selection.told().expect("not everything").unmatched)
        };
        assert_eq!(frees("mesh2"), (1, vec![]));
        assert_eq!(frees("chip3"), (0, vec!["no entry is of device chip3, but of mesh2".to_owned()]));
    }

    #[test]
    fn what_nothing_can_match_is_said() {
        let unmatched = |filter: Filter| selected(filter).1.expect("not everything").unmatched;
        let until = Filter { since: Some(3000), ..Filter::default() };
        assert_eq!(unmatched(until.clone()), [""; 0]);
        let behind = "nothing is since 0.000003001: all ends at 0.000003";
        assert_eq!(unmatched(Filter { since: Some(3001), ..until }), [behind]);
        assert_eq!(unmatched(Filter { buffer_type: Some(4), ..Filter::default() }), ["no entry is of type TRACE"]);
        assert_eq!(unmatched(Filter { buffer_type: Some(1), ..Filter::default() }), [""; 0]);
    }

    #[test]
    fn times_of_what_was_imported_are_its_lines() {
        let log = "process id=1 pid=0 origin=allocation-server\nprocess id=2 pid=7\nborder process=2\n\
            event 1 t=119 p=1 tid=0 allocated uid=1 owns=1 size=8 address=0x10\n\
            event 2 t=120 p=1 tid=0 allocated uid=2 owns=1 size=8 address=0x20\n\
            event 3 t=120 p=2 tid=7 allocated uid=3 owns=1 size=8 address=0x30 class=mesh\n\
            end process=1 time=130 reason=log-ended\nend process=2 time=130 reason=exited\n";
        let lines = |since: u64, until: u64| {
            let filter = Filter { since: Some(since * UNIT), until: Some(until * UNIT), ..Filter::default() };
            let model = read_text(log, &mut |_| {});
            let mut selection = filter.select(&model.definitions);
            let mut addresses = Vec::new();
            read_text(log, &mut |entry| {
                if let Entry::Allocation(it) = entry
                    && selection.takes(entry)
                {
                    addresses.push(it.buffer.address);
                }
            });
            addresses
        };
        assert_eq!(lines(120, 121), [0x20]);
        assert_eq!(lines(0, 120), [0x10, 0x30]);
        assert_eq!(lines(121, 200), [0; 0]);
    }
}
