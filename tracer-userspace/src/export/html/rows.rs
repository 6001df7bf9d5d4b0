// SPDX-License-Identifier: Apache-2.0
//! What the page draws: lives and events of buffers, by the memory that they are in.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{column::Columns, stacks::Stacks};
use crate::{
    analysis::{Life, LifeFold, Piece, buffer_type},
    model::{Certainty, Colour, Definitions, Device, Entry, Moment, Outcome, Previous, Verdict},
    trace::escape,
};

/// Bits of a state above its verdict.
const POSSIBLE: u64 = 1 << 4;
const FOUND: u64 = 1 << 5;
const ENDLESS: u64 = 1 << 6;

/// One type of memory of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Memory {
    process: u32,
    device: Option<Device>,
    buffer_type: u32,
}

/// A memory, in words.
#[derive(Debug, Serialize)]
struct NamedMemory {
    process: u32,
    device: Option<String>,
    buffer_type: String,
}

/// When a test of a process ran, as far as it touched buffers.
#[derive(Debug, Serialize)]
struct Span {
    process: u32,
    test: usize,
    first: u64,
    last: u64,
}

/// What columns refer to by numbers.
#[derive(Debug, Serialize)]
pub(super) struct Tables {
    memories: Vec<NamedMemory>,
    /// Without phases; the first stands for none.
    tests: Vec<String>,
    spans: Vec<Span>,
}

/// A buffer from its allocation to its end.
#[derive(Debug)]
struct LifeRow {
    memory: Memory,
    begin: u64,
    end: u64,
    address: u64,
    size: u64,
    id: u64,
    bank_bytes: Option<u64>,
    state: u64,
    allocated: Place,
    ended: Place,
}

/// An excess free, a failed request, shared bytes, or the end of a buffer from before the recording.
#[derive(Debug)]
struct EventRow {
    memory: Memory,
    time: u64,
    address: u64,
    size: u64,
    id: u64,
    owner: u64,
    state: u64,
    here: Place,
    /// 0 none, 1 forgotten, 2 unseen, else 3 and the verdict's number.
    before: u64,
    previous: (u64, Place),
    /// Absent if the allocation was not seen.
    allocated: Option<(u64, Place)>,
}

/// Text number of a test, and a stack.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    test: u32,
    stack: u32,
}

/// Collects them. Its memory grows with their number: some hundred bytes each.
#[derive(Debug, Default)]
pub(super) struct Rows {
    fold: LifeFold,
    lives: Vec<LifeRow>,
    events: Vec<EventRow>,
    /// First and last time by process and text number.
    tests: BTreeMap<(u32, u32), (u64, u64)>,
}

impl Rows {
    /// Takes the next entry.
    pub(super) fn entry(&mut self, entry: &Entry) {
        let moment = match entry {
            Entry::Allocation(it) => Some(it.moment),
            Entry::Alias(it) => Some(it.moment),
            Entry::Outcome(it) => Some(it.moment),
            Entry::Found(_) => None,
        };
        if let Some(Moment { time, test, .. }) = moment.filter(|moment| moment.test != 0) {
            let span = self.tests.entry((entry.process(), test)).or_insert((time, time));
            *span = (span.0.min(time), span.1.max(time));
        }
        match (self.fold.entry(entry), entry) {
            // What was never in memory has no life, but may be freed too often.
            (Some(Piece::Life(life)), Entry::Outcome(outcome)) if life.buffer.phantom => self.event(outcome),
            (Some(Piece::Life(life)), _) => self.life(&life),
            (Some(Piece::Event(outcome)), _) => self.event(&outcome),
            (None, _) => {}
        }
    }

    /// Writes the columns, and gives what they refer to.
    pub(super) fn finish(mut self, definitions: &Definitions, stacks: &mut Stacks, columns: &mut Columns) -> Tables {
        for life in std::mem::take(&mut self.fold).finish() {
            self.life(&life);
        }
        let Self { mut lives, mut events, tests, .. } = self;
        lives.sort_by_key(|row| (row.memory.kind(), row.begin, row.id));
        events.sort_by_key(|row| (row.memory.kind(), row.time, row.id));
        let mut memories: Vec<Memory> =
            lives.iter().map(|row| row.memory).chain(events.iter().map(|row| row.memory)).collect();
        memories.sort_unstable();
        memories.dedup();
        let mut names = Tests::new(definitions);
        let spans = names.spans(&tests);
        let mut writer = ColumnWriter { memories: &memories, names: &mut names, stacks, definitions, columns };
        writer.lives(&lives);
        writer.events(&events);
        Tables { memories: memories.iter().map(Memory::named).collect(), tests: names.names, spans }
    }

    /// A buffer without memory behind it is nowhere.
    fn life(&mut self, life: &Life) {
        let Life { buffer, begin, end } = life;
        if buffer.phantom {
            return;
        }
        let found = if buffer.found { FOUND } else { 0 };
        self.lives.push(LifeRow {
            memory: Memory { process: buffer.process, device: buffer.device, buffer_type: buffer.buffer_type },
            begin: *begin,
            end: end.map_or(u64::MAX, |end| end.moment.time),
            address: buffer.address,
            size: buffer.size,
            id: buffer.unique_id,
            bank_bytes: buffer.bank_bytes,
            state: found | end.map_or(ENDLESS, |end| state(end.verdict, end.certainty)),
            allocated: buffer.allocated.map_or_else(Place::default, Place::of),
            ended: end.map_or_else(Place::default, |end| Place::of(end.moment)),
        });
    }

    fn event(&mut self, outcome: &Outcome) {
        let owner = outcome.owner();
        if outcome.buffer.phantom && !matches!(outcome.verdict.colour(), Colour::Excess | Colour::Red) {
            return;
        }
        let (before, previous) = match outcome.previous {
            Previous::None => (0, None),
            Previous::Forgotten => (1, None),
            Previous::Unseen => (2, None),
            Previous::Close(moment) => (3, Some(moment)),
            Previous::Free(moment, verdict) => (4 + number(verdict), Some(moment)),
        };
        let timed = |moment: Moment| (moment.time, Place::of(moment));
        self.events.push(EventRow {
            memory: Memory { process: owner.process, device: owner.device, buffer_type: owner.buffer_type },
            time: outcome.moment.time,
            address: owner.address,
            size: outcome.buffer.size,
            id: outcome.buffer.unique_id,
            owner: owner.unique_id,
            state: state(outcome.verdict, outcome.certainty),
            here: Place::of(outcome.moment),
            before,
            previous: previous.map(timed).unwrap_or_default(),
            allocated: owner.allocated.map(timed),
        });
    }
}

impl Memory {
    /// What rows are put together by: a process may open a device again and again, each time under another number.
    fn kind(&self) -> (u32, u32) {
        (self.process, self.buffer_type)
    }

    fn named(&self) -> NamedMemory {
        NamedMemory {
            process: self.process,
            device: self.device.map(|device| device.to_string()),
            buffer_type: buffer_type(self.buffer_type),
        }
    }
}

impl Place {
    fn of(moment: Moment) -> Self {
        Self { test: moment.test, stack: moment.stack }
    }
}

fn state(verdict: Verdict, certainty: Certainty) -> u64 {
    number(verdict) | if certainty == Certainty::Possible { POSSIBLE } else { 0 }
}

/// The number of a verdict on the page: its place among all.
fn number(verdict: Verdict) -> u64 {
    Verdict::ALL.iter().position(|it| *it == verdict).unwrap_or(0) as u64
}

/// Tests by their numbers on the page: those of one test in several phases are the same.
struct Tests<'a> {
    definitions: &'a Definitions,
    names: Vec<String>,
    by_text: HashMap<u32, usize>,
    by_name: HashMap<String, usize>,
}

impl<'a> Tests<'a> {
    fn new(definitions: &'a Definitions) -> Self {
        let by_name = HashMap::from([(String::new(), 0)]);
        Self { definitions, names: vec![String::new()], by_text: HashMap::new(), by_name }
    }

    fn of(&mut self, text: u32) -> usize {
        if let Some(&known) = self.by_text.get(&text) {
            return known;
        }
        let moment = Moment { test: text, ..Moment::default() };
        let name = escape(self.definitions.test(&moment).unwrap_or(""));
        let names = &mut self.names;
        let number = *self.by_name.entry(name).or_insert_with_key(|name| {
            names.push(name.clone());
            names.len() - 1
        });
        self.by_text.insert(text, number);
        number
    }

    /// When each test ran, in the order of their begin.
    fn spans(&mut self, times: &BTreeMap<(u32, u32), (u64, u64)>) -> Vec<Span> {
        let mut spans: BTreeMap<(u32, usize), (u64, u64)> = BTreeMap::new();
        for (&(process, text), &(first, last)) in times {
            let span = spans.entry((process, self.of(text))).or_insert((first, last));
            *span = (span.0.min(first), span.1.max(last));
        }
        let named = |((process, test), (first, last))| Span { process, test, first, last };
        let mut spans: Vec<Span> = spans.into_iter().filter(|((_, test), _)| *test != 0).map(named).collect();
        spans.sort_by_key(|span| (span.process, span.first, span.test));
        spans
    }
}

/// Turns rows into columns.
struct ColumnWriter<'a, 'b> {
    memories: &'a [Memory],
    names: &'a mut Tests<'b>,
    stacks: &'a mut Stacks,
    definitions: &'a Definitions,
    columns: &'a mut Columns,
}

impl ColumnWriter<'_, '_> {
    fn lives(&mut self, rows: &[LifeRow]) {
        let memories = self.memories;
        self.columns.add("life.memory", rows.iter().map(|row| place_in(memories, row.memory)));
        self.columns.add("life.begin", rows.iter().map(|row| row.begin));
        // What has no end is marked, and drawn to the end of everything.
        let lasted = |row: &LifeRow| if row.end == u64::MAX { 0 } else { row.end.saturating_sub(row.begin) };
        self.columns.add("life.lasted", rows.iter().map(lasted));
        self.columns.add("life.address", rows.iter().map(|row| row.address));
        self.columns.add("life.size", rows.iter().map(|row| row.size));
        self.columns.add("life.id", rows.iter().map(|row| row.id));
        self.columns.add("life.bank", rows.iter().map(|row| or_none(row.bank_bytes)));
        self.columns.add("life.state", rows.iter().map(|row| row.state));
        self.places("life.stack", "life.test", rows.iter().map(|row| row.allocated));
        self.places("life.endStack", "life.endTest", rows.iter().map(|row| row.ended));
        self.columns.add("life.endOrder", end_order(rows).into_iter());
    }

    fn events(&mut self, rows: &[EventRow]) {
        let memories = self.memories;
        self.columns.add("event.memory", rows.iter().map(|row| place_in(memories, row.memory)));
        self.columns.add("event.time", rows.iter().map(|row| row.time));
        self.columns.add("event.address", rows.iter().map(|row| row.address));
        self.columns.add("event.size", rows.iter().map(|row| row.size));
        self.columns.add("event.id", rows.iter().map(|row| row.id));
        self.columns.add("event.owner", rows.iter().map(|row| row.owner));
        self.columns.add("event.state", rows.iter().map(|row| row.state));
        self.columns.add("event.before", rows.iter().map(|row| row.before));
        self.columns.add("event.beforeTime", rows.iter().map(|row| row.previous.0));
        self.columns.add("event.allocatedTime", rows.iter().map(|row| or_none(row.allocated.map(|(time, _)| time))));
        self.places("event.stack", "event.test", rows.iter().map(|row| row.here));
        self.places("event.beforeStack", "event.beforeTest", rows.iter().map(|row| row.previous.1));
        let allocated = |row: &EventRow| row.allocated.map_or_else(Place::default, |(_, place)| place);
        self.places("event.allocatedStack", "event.allocatedTest", rows.iter().map(allocated));
    }

    fn places(&mut self, stack: &'static str, test: &'static str, places: impl Iterator<Item = Place> + Clone) {
        let (stacks, definitions, names) = (&mut *self.stacks, self.definitions, &mut *self.names);
        self.columns.add(stack, places.clone().map(|place| stacks.of(place.stack, definitions) as u64));
        self.columns.add(test, places.map(|place| names.of(place.test) as u64));
    }
}

/// One more than a number, 0 for none.
fn or_none(number: Option<u64>) -> u64 {
    number.map_or(0, |number| number.saturating_add(1))
}

fn place_in(memories: &[Memory], memory: Memory) -> u64 {
    memories.binary_search(&memory).map_or(0, |place| place as u64)
}

/// The lives of each process and type in the order of their ends, as their places among all.
fn end_order(rows: &[LifeRow]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&index| (rows[index].memory.kind(), rows[index].end, index));
    order.into_iter().map(|index| index as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::read_text;

    const TRACE: &str = "process id=1 pid=7\n\
        text id=1 text=\"t.py::a (call)\"\n\
        text id=2 text=\"t.py::a (teardown)\"\n\
        event 1 t=4 p=1 tid=7 test-begin text=1\n\
        event 2 t=5 p=1 tid=7 allocated uid=1 address=0x100 size=64 owns=1 class=mesh\n\
        event 3 t=6 p=1 tid=7 allocated uid=2 address=0x200 size=32 owns=1 class=mesh\n\
        event 4 t=6 p=1 tid=7 test-begin text=2\n\
        event 5 t=7 p=1 tid=7 free uid=2 address=0x200 size=32 status=1\n\
        event 6 t=8 p=1 tid=7 released uid=2 address=0x200 size=32 status=1 class=mesh\n\
        event 7 t=9 p=1 tid=7 free uid=2 address=0x200 size=32 status=2\n\
        event 8 t=10 p=1 tid=7 test-end\n\
        end process=1 time=20 reason=exited\n";

    #[test]
    fn lives_are_ordered_by_begin_and_by_end() {
        let mut rows = Rows::default();
        let model = read_text(TRACE, &mut |entry| rows.entry(entry));
        let (mut stacks, mut columns) = (Stacks::new(), Columns::default());
        let tables = rows.finish(&model.definitions, &mut stacks, &mut columns);
        assert_eq!(tables.memories.len(), 1);
        assert_eq!(tables.tests, ["", "t.py::a"]);
        assert_eq!(tables.spans.iter().map(|it| (it.test, it.first, it.last)).collect::<Vec<_>>(), [(1, 5, 9)]);
        let bytes = |name: &str| {
            let column = columns.directory.iter().find(|it| it.name == name).expect("there");
            &columns.bytes[column.at..column.at + column.count]
        };
        // Zigzag differences: 5, 6; 20 - 5, 7 - 6; life 1 before 0.
        assert_eq!(bytes("life.begin"), [10, 2]);
        assert_eq!(bytes("life.lasted"), [30, 27]);
        assert_eq!(bytes("life.endOrder"), [2, 1]);
        assert_eq!(bytes("event.time"), [18]);
    }
}
