// SPDX-License-Identifier: Apache-2.0
//! The older part of a trace in short, to make room for what comes: its definitions, the events that say what lives, and how
//! many others there were.
//!
//! What is taken out counts as a loss, which comes before what is left: a verdict that reaches back into this part is
//! possible at most. Only what begins behind it is judged as if nothing was missing.

use std::collections::{BTreeMap, BTreeSet};

use super::{CounterValue, Event, Item, Kind, Loss, Name, Record};

/// [`Loss::cause`] of events that were taken out because the file would have become too large.
pub const MAX_SIZE: &str = "max-size";

/// Status at entry of a free, mark or destructor: the buffer never got memory.
const REQUESTED: u8 = 0;

/// A part of a trace that is being shortened.
#[derive(Debug, Default)]
pub struct Shortened {
    processes: BTreeMap<u32, Process>,
    /// Processes that have ended.
    ended: BTreeSet<u32>,
    /// The forks that made processes, by these.
    forks: BTreeMap<u32, Event>,
    /// Those in the part, by process and cause.
    losses: BTreeMap<(u32, Name), Loss>,
    counters: BTreeMap<Name, u64>,
    /// The latest time of an event.
    latest: u64,
}

/// What is to be known of a process.
#[derive(Debug, Default)]
struct Process {
    /// How many events it has.
    events: u64,
    /// The time of the first.
    first: u64,
    /// The allocations of live owners, behind their requests and what these took in each bank, by unique id.
    live: BTreeMap<u64, Vec<Event>>,
    /// Requests that nothing came of yet, and what they took in each bank, by thread.
    requests: BTreeMap<u32, Vec<Event>>,
    /// They tell the generations of devices apart.
    opened: Vec<Event>,
    /// The latest begin or end of a test.
    test: Option<Event>,
}

impl Shortened {
    /// Takes the next item; gives it back if it is a record that stays where it is.
    pub fn item(&mut self, item: Item) -> Option<Record> {
        match item {
            Item::Event(event) => self.event(event),
            Item::Record(Record::Loss(loss)) => add(&mut self.losses, &loss),
            Item::Record(Record::CounterValue(it)) => drop(self.counters.insert(it.name, it.value)),
            Item::Record(record) => {
                if let Record::End(end) = &record {
                    self.ended.insert(end.process);
                }
                return Some(record);
            }
        }
        None
    }

    /// What follows the records.
    #[must_use]
    pub fn finish(self) -> Vec<Item> {
        let Self { processes, ended, forks, mut losses, counters, latest } = self;
        let mut kept: Vec<Event> =
            forks.into_iter().filter(|(child, _)| !ended.contains(child)).map(|it| it.1).collect();
        let mut counts = BTreeMap::new();
        for (number, process) in processes {
            counts.insert(number, (process.events, process.first));
            if !ended.contains(&number) {
                kept.extend(process.kept());
            }
        }
        kept.sort_by_key(|event| event.sequence);
        for event in &kept {
            counts.entry(event.process).and_modify(|(events, _)| *events -= 1);
        }
        for (process, (count, after)) in counts.into_iter().filter(|(_, (count, _))| *count > 0) {
            add(&mut losses, &Loss { process, after, before: latest, count, cause: MAX_SIZE.into() });
        }
        // Those of unknown processes come last: they concern all that are known by then.
        let (unknown, known): (Vec<_>, Vec<_>) = losses.into_values().partition(|loss| loss.process == 0);
        let losses = known.into_iter().chain(unknown).map(|loss| Loss { before: loss.before.max(latest), ..loss });
        let counters = counters.into_iter().map(|(name, value)| CounterValue { name, value });
        losses.map(Item::from).chain(counters.map(Item::from)).chain(kept.into_iter().map(Item::Event)).collect()
    }

    fn event(&mut self, event: Event) {
        self.latest = self.latest.max(event.time);
        let process = self.processes.entry(event.process).or_default();
        if process.events == 0 {
            process.first = event.time;
        }
        process.events += 1;
        if event.kind == Kind::Fork && event.child != 0 {
            self.forks.insert(event.child, event);
        } else if !event.unreadable {
            process.event(event);
        }
    }
}

impl Process {
    fn event(&mut self, event: Event) {
        let unique_id = event.unique_id;
        match event.kind {
            Kind::Request => drop(self.requests.insert(event.thread, vec![event])),
            Kind::Bank => {
                if let Some(request) = self.requests.get_mut(&event.thread).filter(|request| request.len() == 1) {
                    request.push(event);
                }
            }
            Kind::Allocated => {
                let mut made = self.requests.remove(&event.thread).unwrap_or_default();
                if made.first().is_some_and(|request| request.unique_id != unique_id) {
                    made.clear();
                }
                if event.owns || !made.is_empty() {
                    made.push(event);
                    self.live.insert(unique_id, made);
                }
            }
            Kind::Free | Kind::Marked | Kind::Destroyed if event.status == REQUESTED => {
                self.requests.remove(&event.thread);
            }
            Kind::Free | Kind::Marked | Kind::Destroyed => {
                self.requests.remove(&event.thread);
                self.live.remove(&unique_id);
            }
            Kind::Bulk => {
                self.live.retain(|_, made| made.last().is_none_or(|allocated| allocated.allocator != event.object));
            }
            Kind::ThreadExit => drop(self.requests.remove(&event.thread)),
            Kind::DeviceOpen => self.opened.push(event),
            Kind::TestBegin | Kind::TestEnd => self.test = Some(event),
            Kind::Released
            | Kind::DeviceClose
            | Kind::Alias
            | Kind::Fork
            | Kind::Modules
            | Kind::Exec
            | Kind::CodeFreed
            | Kind::Circular
            | Kind::CircularFreed => {}
        }
    }

    fn kept(self) -> impl Iterator<Item = Event> {
        let live = self.live.into_values().flatten();
        live.chain(self.requests.into_values().flatten()).chain(self.opened).chain(self.test)
    }
}

/// Adds a loss to those of the same process and cause.
fn add(losses: &mut BTreeMap<(u32, Name), Loss>, loss: &Loss) {
    let sum = losses.entry((loss.process, loss.cause.clone())).or_insert_with(|| Loss { count: 0, ..loss.clone() });
    sum.count = sum.count.saturating_add(loss.count);
    sum.after = sum.after.min(loss.after);
    sum.before = sum.before.max(loss.before);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::text::{parse, show};

    fn shorten(text: &str) -> String {
        let mut shortened = Shortened::default();
        let items = parse(text).expect("every line is an item");
        let records: Vec<Item> = items.into_iter().filter_map(|item| shortened.item(item)).map(Item::Record).collect();
        records.into_iter().chain(shortened.finish()).map(|item| show(&item) + "\n").collect()
    }

    #[test]
    fn definitions_and_what_lives_are_left_and_the_rest_is_counted() {
        let text = "border process=1 time=0 next_unique_id=1
event 0 t=1 p=1 tid=9 device-open class=mesh id=1
event 1 t=2 p=1 tid=9 test-begin text=1
event 2 t=3 p=1 tid=9 request uid=1 owns=1 stack=1
stack id=1 end=complete
event 3 t=4 p=1 tid=9 allocated uid=1 status=1 owns=1 allocator=0x99
event 4 t=5 p=1 tid=9 request uid=2 owns=1
event 5 t=6 p=1 tid=9 allocated uid=2 status=1 owns=1 allocator=0x99
event 6 t=7 p=1 tid=9 free uid=2 status=1 owns=1
event 7 t=8 p=1 tid=9 released uid=2 status=1 owns=1
counter name=sent value=3
loss process=0 after=8 before=9 count=5 cause=ring-full
counter name=sent value=13
event 13 t=9 p=2 tid=8 free uid=7 status=1 owns=1
event 14 t=10 p=1 tid=9 request uid=3 owns=1
";
        let expected = "border process=1 next_unique_id=1
stack id=1 end=complete
loss process=1 after=1 before=10 count=4 cause=max-size
loss process=2 after=9 before=10 count=1 cause=max-size
loss after=8 before=10 count=5 cause=ring-full
counter name=sent value=13
event 0 t=1 p=1 tid=9 device-open class=mesh id=1
event 1 t=2 p=1 tid=9 test-begin text=1
event 2 t=3 p=1 tid=9 request uid=1 owns=1 stack=1
event 3 t=4 p=1 tid=9 allocated uid=1 status=1 owns=1 allocator=0x99
event 14 t=10 p=1 tid=9 request uid=3 owns=1
";
        assert_eq!(shorten(text), expected);
        // What is short already stays as it is, and losses add up.
        assert_eq!(shorten(expected), expected);
        let more = format!("{expected}event 15 t=20 p=1 tid=9 marked uid=1 status=1 owns=1\n");
        let again = shorten(&more);
        // Its two, the mark, and the request that its thread has gone on from.
        assert!(again.contains("loss process=1 after=1 before=20 count=8 cause=max-size\n"), "{again}");
    }

    #[test]
    fn of_a_process_that_has_ended_nothing_lives() {
        let text = "event 0 t=1 p=1 tid=9 allocated uid=1 status=1 owns=1
event 1 t=2 p=1 tid=9 fork child=2
event 2 t=3 p=1 tid=9 fork child=3
event 3 t=4 p=2 tid=8 allocated uid=2 status=1 owns=1
end process=2 time=5 reason=exited
";
        let expected = "end process=2 time=5 reason=exited
loss process=1 after=1 before=4 count=1 cause=max-size
loss process=2 after=4 before=4 count=1 cause=max-size
event 0 t=1 p=1 tid=9 allocated uid=1 status=1 owns=1
event 2 t=3 p=1 tid=9 fork child=3
";
        assert_eq!(shorten(text), expected);
    }
}
