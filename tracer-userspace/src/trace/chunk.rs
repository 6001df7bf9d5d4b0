// SPDX-License-Identifier: Apache-2.0
//! The body of a chunk: items in order, with the events' fields in columns.

use std::{ops::Range, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Event, Item, Kind, Record, Sought,
    column::Packer,
    columns::{Columns, Kinds, Parts, Rows, Scratch, Unpacked},
    event::{ORDERED, Row},
    field::{get_bytes, get_varint, put_bytes, put_varint},
    macros::Refusal,
    rows::{KIND, context_rows, is_of_context, sought_rows, tells_sought},
};

/// Most bytes that a body can have, and its items when unpacked. The writer cuts far earlier; this bounds what a reader
/// allocates.
pub(super) const MAX_BODY: usize = 16 << 20;
/// Most events of one chunk, for the same reason: columns of equal numbers take no bytes.
pub(super) const MAX_EVENTS: u64 = 1 << 16;
/// Most bytes of an epilogue, for the same reason: its pieces are compressed, too.
pub(super) const LONGEST_EPILOGUE: usize = 256 << 20;
/// Stands in the place of a record's number for a piece of the epilogue.
const EPILOGUE: u64 = 21;
/// Where the writer cuts: few enough that a chunk is read in an instant, many enough to compress well.
const FULL_EVENTS: usize = 1 << 12;
const FULL_BYTES: usize = 1 << 20;

/// The checksum that chunks have: of their own bodies and those of every chunk before. So a chunk is good in its own place
/// only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Checksum(u32);

impl Checksum {
    /// That of the next chunk.
    pub(super) fn with(&mut self, body: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(body);
        self.0 = hasher.finalize();
        self.0
    }
}

/// A chunk that is being filled.
#[derive(Default)]
pub(super) struct Encoder {
    items: Vec<u8>,
    record: Vec<u8>,
    rows: Vec<Row>,
    /// Events since the last record, not yet mentioned in `items`.
    run: u64,
    packer: Packer,
    numbers: Vec<u64>,
}

impl Encoder {
    pub(super) fn record(&mut self, record: &Record) {
        self.end_run();
        self.record.clear();
        record.put(&mut self.record);
        put_varint(record.number(), &mut self.items);
        put_bytes(&self.record, &mut self.items);
    }

    pub(super) fn event(&mut self, event: Event) {
        self.rows.push(event.to_row());
        self.run += 1;
    }

    /// Adds a piece of the epilogue.
    pub(super) fn epilogue(&mut self, piece: &[u8]) {
        self.end_run();
        put_varint(EPILOGUE, &mut self.items);
        put_bytes(piece, &mut self.items);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.rows.is_empty()
    }

    /// How many events it has.
    pub(super) fn events(&self) -> u64 {
        self.rows.len() as u64
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= FULL_BYTES || self.rows.len() >= FULL_EVENTS
    }

    /// Whether a reader would refuse it.
    pub(super) fn is_too_large(&self) -> bool {
        self.items.len() > MAX_BODY / 2
    }

    /// Forgets what it has.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.rows.clear();
        self.run = 0;
    }

    /// Gives the body, and starts anew.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.end_run();
        let mut body = Vec::new();
        put_bytes(&self.packer.bytes(&self.items), &mut body);
        put_varint(self.rows.len() as u64, &mut body);
        let kinds = || self.rows.iter().map(|row| row[ORDERED - 1] as u8);
        let by_kind = Kinds::of(kinds());
        let places = by_kind.places(kinds());
        for (index, column) in Event::COLUMNS.iter().enumerate() {
            self.numbers.clear();
            let part = if index < ORDERED {
                self.numbers.extend(self.rows.iter().map(|row| row[index]));
                self.packer.numbers(&self.numbers, &[self.rows.len()])
            } else {
                self.numbers.resize(self.rows.len(), 0);
                self.rows.iter().zip(&places).for_each(|(row, &place)| self.numbers[place as usize] = row[index]);
                self.packer.numbers(&self.numbers, &by_kind.lengths)
            };
            if self.numbers.iter().any(|&number| number != 0) {
                put_varint(column.number, &mut body);
                put_bytes(&part, &mut body);
            }
        }
        self.clear();
        body
    }

    fn end_run(&mut self) {
        if self.run > 0 {
            put_varint(0, &mut self.items);
            put_varint(self.run, &mut self.items);
            self.run = 0;
        }
    }
}

/// What is wanted of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Everything,
    /// Records, and the events by which the account of these buffers is what it is with all.
    Sought(Arc<Sought>),
    /// The same, where they were found before.
    Found(Rows),
    /// Records, and events that are not about one buffer, as far as they say something.
    Context,
    /// Records only: events are not even unpacked.
    Records,
    /// Not even its body, which is known to have this many events, and no records.
    Nothing {
        events: u64,
    },
}

/// A body that is being read, item by item, so that memory stays in proportion to the body.
#[derive(Default)]
pub struct Decoder {
    /// Offset of the chunk in the file.
    pub(super) at: u64,
    items: Vec<u8>,
    position: usize,
    events: Vec<Event>,
    /// Those of `events`, ascending, that have a number without meaning for its field, e.g. a kind that is not known.
    unknown: Vec<usize>,
    /// Which of the chunk's events they are; absent if they are all of them.
    places: Option<Vec<u32>>,
    /// Which of `events` comes next.
    next: usize,
    /// Which of the chunk's comes next, and how many there are.
    place: usize,
    count: usize,
    /// Events to give before the next item.
    run: u64,
    /// Events that are not wanted, of those that would have been given by now.
    pub(super) passed: u64,
    /// Items of kinds that this version does not know.
    pub(super) skipped: u64,
    /// The piece of the epilogue that is here: where in `items`.
    epilogue: Range<usize>,
}

impl Decoder {
    /// # Errors
    ///
    /// What is malformed.
    pub(super) fn new(at: u64, body: &[u8], want: &Want, scratch: &mut Scratch) -> Result<Self, &'static str> {
        let mut decoder = Self { at, ..Self::default() };
        if let Want::Nothing { events } = want {
            decoder.passed = *events;
            return Ok(decoder);
        }
        let parts = Parts::of(body)?;
        let items = scratch.unpacker.bytes(parts.items, MAX_BODY);
        decoder.items = items.ok_or("the items of a chunk cannot be unpacked")?.to_vec();
        decoder.count = parts.count;
        decoder.read_events(&parts, want, scratch)?;
        Ok(decoder)
    }

    fn read_events(&mut self, parts: &Parts, want: &Want, scratch: &mut Scratch) -> Result<(), &'static str> {
        let rows = match want {
            Want::Everything => None,
            Want::Sought(sought) => {
                let find = |columns: &Columns, by_kind: &[u32]| sought_rows(columns, by_kind, &sought.find(columns));
                scratch.choose(parts, |column| tells_sought(column, sought), find)?
            }
            Want::Context => {
                scratch.choose(parts, |column| column == KIND, |columns, _| Some(context_rows(columns)))?
            }
            Want::Found(rows) => {
                if rows.kinds.lengths.iter().sum::<usize>() != self.count {
                    return Err("a chunk has changed since it was looked at");
                }
                scratch.forget();
                Some(rows.clone())
            }
            Want::Records | Want::Nothing { .. } => {
                self.places = Some(Vec::new());
                return Ok(());
            }
        };
        let Some(rows) = rows else { return self.read_all(parts, scratch) };
        let is_said = |column| *want != Want::Context || is_of_context(column, &rows.kinds);
        let unknown = scratch.unpack_some(parts, &rows, is_said)?;
        self.skipped += unknown;
        (self.events, self.unknown) = Event::from_columns(&scratch.columns, &rows.recorded, &rows.by_kind);
        self.places = Some(rows.recorded);
        Ok(())
    }

    fn read_all(&mut self, parts: &Parts, scratch: &mut Scratch) -> Result<(), &'static str> {
        let Unpacked { kinds, unknown } = scratch.unpack(parts, |_, _, _| true)?;
        self.skipped += unknown;
        let Some(kinds) = kinds else {
            // No event has a kind.
            self.events.resize(self.count, Event::of(Kind::Request));
            self.unknown.extend(0..self.count);
            return Ok(());
        };
        let columns = &scratch.columns;
        let by_kind = kinds.places(columns.of(KIND).iter().map(|&kind| kind as u8));
        let recorded: Vec<u32> = (0..self.count as u32).collect();
        (self.events, self.unknown) = Event::from_columns(columns, &recorded, &by_kind);
        Ok(())
    }

    /// The piece of the epilogue that is here, known when the last item is.
    pub(super) fn epilogue(&self) -> &[u8] {
        &self.items[self.epilogue.clone()]
    }

    /// Gives the events that come next, as many as there are before the next record, unless some are not wanted or not known.
    #[inline]
    pub(super) fn take_run(&mut self) -> &mut [Event] {
        let run = usize::try_from(self.run).unwrap_or(usize::MAX);
        if self.places.is_some() || !self.unknown.is_empty() || run > self.events.len() - self.next {
            return &mut [];
        }
        let events = &mut self.events[self.next..][..run];
        self.next += run;
        self.place += run;
        self.run = 0;
        events
    }

    /// The next item, `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<Item, &'static str>> {
        loop {
            if self.run > 0 {
                match self.next_event() {
                    Ok(Some(event)) => return Some(Ok(Item::Event(event))),
                    Ok(None) => {}
                    Err(what) => return Some(Err(what)),
                }
            } else if self.position == self.items.len() {
                return (self.place < self.count).then_some(Err("events are in no place"));
            } else {
                match self.next_record() {
                    Ok(Some(record)) => return Some(Ok(record.into())),
                    Ok(None) => {}
                    Err(what) => return Some(Err(what)),
                }
            }
        }
    }

    /// The next event of the run, or `None` if that is one of a kind not known, or none is wanted.
    fn next_event(&mut self) -> Result<Option<Event>, &'static str> {
        let left = (self.count - self.place) as u64;
        let over = match &self.places {
            None => 0,
            Some(places) => places.get(self.next).map_or(u64::MAX, |&place| u64::from(place) - self.place as u64),
        };
        if over >= self.run {
            if self.run > left {
                return Err("events are missing");
            }
            self.pass(self.run);
            return Ok(None);
        }
        self.pass(over);
        let event = *self.events.get(self.next).ok_or("events are missing")?;
        let is_known = self.unknown.binary_search(&self.next).is_err();
        self.next += 1;
        self.place += 1;
        self.run -= 1;
        self.skipped += u64::from(!is_known);
        Ok(is_known.then_some(event))
    }

    /// Passes so many events over, which are there.
    fn pass(&mut self, events: u64) {
        self.passed += events;
        self.place += events as usize;
        self.run -= events;
    }

    /// The record at `position`, or `None` if it is a run of events or of a kind not known.
    fn next_record(&mut self) -> Result<Option<Record>, &'static str> {
        let mut rest = &self.items[self.position..];
        let number = get_varint(&mut rest).ok_or("an item has no number")?;
        let result = if number == 0 {
            self.run = get_varint(&mut rest).ok_or("a run of events is cut")?;
            None
        } else {
            let body = get_bytes(&mut rest).ok_or("a record is cut")?;
            match Record::get(number, body) {
                _ if number == EPILOGUE => {
                    let end = self.items.len() - rest.len();
                    self.epilogue = end - body.len()..end;
                    None
                }
                Ok(record) => Some(record),
                Err(Refusal::Malformed) => return Err("a record is malformed"),
                Err(Refusal::Unknown) => {
                    self.skipped += 1;
                    None
                }
            }
        };
        self.position = self.items.len() - rest.len();
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{rows::is_of_one_place, text};

    fn items(body: &[u8]) -> (Result<Vec<Item>, &'static str>, u64) {
        match Decoder::new(0, body, &Want::Everything, &mut Scratch::default()) {
            Err(what) => (Err(what), 0),
            Ok(mut decoder) => {
                let items = std::iter::from_fn(|| decoder.next()).collect();
                (items, decoder.skipped)
            }
        }
    }

    #[test]
    fn what_a_later_version_added_is_skipped_and_counted() {
        // Items: record 99 with 2 bytes, `text` (8) with a field more than we know, a run of 3 events.
        let items_section = [0, 99, 2, 7, 7, 8, 4, 1, 1, b'a', 9, 0, 3];
        let mut body = vec![items_section.len() as u8];
        body.extend(items_section);
        // Three events: column 5 (kind) with 3, 200 and 3; column 6 (object), by kind: 1, 2, 9; column 77 with anything.
        body.extend([3, 5, 6, 0, 6, 0x8a, 3, 0x89, 3, 6, 4, 0, 2, 2, 18, 77, 1, 0]);
        let (items, skipped) = items(&body);
        let lines: Vec<String> = items.unwrap_or_default().iter().map(text::show).collect();
        assert_eq!(lines, ["text id=1 text=\"a\"", "event 0 free object=0x1", "event 0 free object=0x2"]);
        assert_eq!(skipped, 3, "a record, a column and a kind");
    }

    #[test]
    fn context_is_what_everything_has_of_it() {
        let tests = "event 1 t=5 p=1 tid=7 allocated uid=1 address=0x10 size=64 owns=1 class=mesh\n\
            event 2 t=6 p=1 tid=7 test-begin text=3\nevent 3 t=7 p=2 tid=8 free uid=1 address=0x10 size=64 stack=4\n\
            event 4 t=8 p=1 tid=7 test-end\nevent 5 t=9 p=2 tid=8 thread-exit\nevent 6 t=9 p=2 tid=9 modules\n";
        let device = "event 7 t=9 p=2 tid=9 device-open object=0x50 class=chip id=3\n\
            event 8 t=9 p=2 tid=9 bulk object=0x60 allocator=0x70 stack=5\n";
        let mut scratch = Scratch::default();
        for (lines, events) in [(tests.to_owned(), 4), ([tests, device].concat(), 6), (tests.to_owned(), 4)] {
            let mut encoder = Encoder::default();
            for item in text::parse(&lines).expect("parsed") {
                if let Item::Event(event) = item {
                    encoder.event(event);
                }
            }
            let body = encoder.take();
            let mut read = |want| -> Vec<Event> {
                let mut decoder = Decoder::new(0, &body, &want, &mut scratch).expect("sound");
                let events = std::iter::from_fn(|| decoder.next()).map(|item| match item {
                    Ok(Item::Event(event)) => event,
                    other => panic!("{other:?}"),
                });
                events.collect()
            };
            let mut expected = read(Want::Everything);
            expected.retain(|event| !is_of_one_place(event.kind as u8));
            assert_eq!((read(Want::Context), expected.len()), (expected, events));
        }
    }

    #[test]
    fn malformed_bodies_are_refused() {
        for (body, what) in [
            (&[][..], "the items of a chunk are cut"),
            (&[9, 0, 1], "the items of a chunk are cut"),
            (&[0, 0], "the items of a chunk cannot be unpacked"),
            (&[1, 0, 0xff, 0xff, 0xff, 0x7f], "a chunk has too many events"),
            (&[1, 0, 1, 5, 0], "a column is malformed"),
            (&[1, 0, 1, 5, 3, 0, 6, 6], "a column is malformed"),
            (&[1, 0, 1, 5, 3, 0, 0x80, 4], "a column is malformed"),
            (&[1, 0, 1, 6, 2, 0, 6, 5, 2, 0, 6], "a column comes before that of the kinds"),
            (&[1, 0, 1, 5, 2, 0, 6], "events are in no place"),
            (&[3, 0, 0, 1, 0], "events are missing"),
            (&[3, 0, 8, 9, 0], "a record is cut"),
            (&[5, 0, 8, 2, 1, 9, 0], "a record is malformed"),
        ] {
            assert_eq!(items(body).0, Err(what), "{body:?}");
        }
    }

    #[test]
    fn events_without_kinds_are_skipped() {
        assert_eq!(items(&[3, 0, 0, 2, 2]), (Ok(Vec::new()), 2));
    }
}
