// SPDX-License-Identifier: Apache-2.0
//! The body of a chunk: items in order, with the events' fields in columns.

use super::{
    Event, Item, Record,
    column::{Packer, Unpacker},
    event::{ORDERED, Row},
    field::{get_bytes, get_varint, put_bytes, put_varint},
    macros::Refusal,
};

/// Most bytes that a body can have, and its items when unpacked. The writer cuts far earlier; this bounds what a reader
/// allocates.
pub(super) const MAX_BODY: usize = 16 << 20;
/// Most events of one chunk, for the same reason: columns of equal numbers take no bytes.
const MAX_EVENTS: u64 = 1 << 16;
/// Where the writer cuts: few enough that a chunk is read in an instant, many enough to compress well.
const FULL_EVENTS: usize = 1 << 12;
const FULL_BYTES: usize = 1 << 20;

/// The checksum that chunks have: of their own bodies and those of every chunk before. So a chunk is good in its own place
/// only.
#[derive(Clone, Default)]
pub(super) struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// That of the next chunk.
    pub(super) fn with(&mut self, body: &[u8]) -> u32 {
        self.0.update(body);
        self.0.clone().finalize()
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
        let kinds = Kinds::of(self.rows.iter().map(|row| row[ORDERED - 1] as u8));
        for (index, column) in Event::COLUMNS.iter().enumerate() {
            self.numbers.clear();
            let part = if index < ORDERED {
                self.numbers.extend(self.rows.iter().map(|row| row[index]));
                self.packer.numbers(&self.numbers, &[self.rows.len()])
            } else {
                self.numbers.extend(kinds.order.iter().map(|&at| self.rows[at as usize][index]));
                self.packer.numbers(&self.numbers, &kinds.lengths)
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

/// The events of a chunk by their kinds: events of a kind resemble each other, and a request the allocation that meets it.
struct Kinds {
    /// Where each event is in the order of recording; those of a kind stay in that order.
    order: Vec<u32>,
    /// How many there are of each kind that there is.
    lengths: Vec<usize>,
}

impl Kinds {
    fn of(kinds: impl Iterator<Item = u8> + Clone) -> Self {
        let mut counts = [0_usize; 256];
        kinds.clone().for_each(|kind| counts[usize::from(kind)] += 1);
        let mut next = 0;
        let mut places = counts.map(|count| {
            next += count;
            next - count
        });
        let mut order = vec![0; next];
        for (at, kind) in (0..).zip(kinds) {
            let place = &mut places[usize::from(kind)];
            order[*place] = at;
            *place += 1;
        }
        Self { order, lengths: counts.into_iter().filter(|&count| count > 0).collect() }
    }
}

/// What decoding needs meanwhile, and the next time again.
#[derive(Default)]
pub(super) struct Scratch {
    unpacker: Unpacker,
    /// By the order of [`Event::COLUMNS`]; empty where all numbers are 0.
    columns: [Vec<u64>; Event::COLUMNS.len()],
}

/// What is wanted of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Everything,
    /// Records only: events are not even unpacked.
    Records,
}

/// A body that is being read, item by item, so that memory stays in proportion to the body.
pub struct Decoder {
    /// Offset of the chunk in the file.
    pub(super) at: u64,
    want: Want,
    items: Vec<u8>,
    position: usize,
    /// `None` where a number has no meaning for its field, e.g. a kind of event that is not known.
    events: Vec<Option<Event>>,
    /// Which event comes next.
    next: usize,
    /// Events to give before the next item.
    run: u64,
    /// Items of kinds that this version does not know.
    pub(super) skipped: u64,
}

impl Decoder {
    /// # Errors
    ///
    /// What is malformed.
    pub(super) fn new(at: u64, body: &[u8], want: Want, scratch: &mut Scratch) -> Result<Self, &'static str> {
        let mut rest = body;
        let items = get_bytes(&mut rest).ok_or("the items of a chunk are cut")?;
        let items = scratch.unpacker.bytes(items, MAX_BODY).ok_or("the items of a chunk cannot be unpacked")?.to_vec();
        let count = get_varint(&mut rest).filter(|&count| count <= MAX_EVENTS).ok_or("a chunk has too many events")?;
        let mut decoder = Self { at, want, items, position: 0, events: Vec::new(), next: 0, run: 0, skipped: 0 };
        if want == Want::Everything {
            decoder.read_columns(rest, count as usize, scratch)?;
        }
        Ok(decoder)
    }

    fn read_columns(&mut self, mut rest: &[u8], count: usize, scratch: &mut Scratch) -> Result<(), &'static str> {
        let Scratch { unpacker, columns } = scratch;
        columns.iter_mut().for_each(Vec::clear);
        let mut kinds = None;
        while !rest.is_empty() {
            let number = get_varint(&mut rest).ok_or("a column has no number")?;
            let part = get_bytes(&mut rest).ok_or("a column is cut")?;
            let Some(index) = Event::COLUMNS.iter().position(|column| column.number == number) else {
                self.skipped += 1;
                continue;
            };
            let all = [count];
            let lengths = match &kinds {
                _ if index < ORDERED => &all[..],
                None => return Err("a column comes before that of the kinds"),
                Some(Kinds { lengths, .. }) => lengths,
            };
            let column = &mut columns[index];
            column.resize(count, 0);
            unpacker.numbers(part, lengths, column).ok_or("a column is malformed")?;
            if index == ORDERED - 1 {
                if column.iter().any(|&kind| kind > 255) {
                    return Err("a column is malformed");
                }
                kinds = Some(Kinds::of(column.iter().map(|&kind| kind as u8)));
            }
        }
        let Some(kinds) = kinds else {
            // No event has a kind.
            self.events.resize(count, None);
            return Ok(());
        };
        let mut places = vec![0; count];
        for (place, &at) in kinds.order.iter().enumerate() {
            places[at as usize] = place;
        }
        self.events.extend(places.iter().enumerate().map(|(at, &place)| Event::from_columns(columns, at, place)));
        Ok(())
    }

    /// The next item, `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<Item, &'static str>> {
        loop {
            if self.run > 0 && self.want == Want::Everything {
                self.run -= 1;
                let Some(event) = self.events.get(self.next) else {
                    return Some(Err("events are missing"));
                };
                self.next += 1;
                match event {
                    Some(event) => return Some(Ok(Item::Event(*event))),
                    None => self.skipped += 1,
                }
            } else if self.position == self.items.len() {
                return (self.next < self.events.len()).then_some(Err("events are in no place"));
            } else {
                match self.next_record() {
                    Ok(Some(record)) => return Some(Ok(record.into())),
                    Ok(None) => {}
                    Err(what) => return Some(Err(what)),
                }
            }
        }
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

    fn items(body: &[u8]) -> (Result<Vec<Item>, &'static str>, u64) {
        match Decoder::new(0, body, Want::Everything, &mut Scratch::default()) {
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
        let lines: Vec<String> = items.unwrap_or_default().iter().map(super::super::text::show).collect();
        assert_eq!(lines, ["text id=1 text=\"a\"", "event 0 free object=0x1", "event 0 free object=0x2"]);
        assert_eq!(skipped, 3, "a record, a column and a kind");
    }

    #[test]
    fn malformed_bodies_are_refused() {
        for (body, what) in [
            (&[][..], "the items of a chunk are cut"),
            (&[9, 0, 1], "the items of a chunk are cut"),
            (&[0], "the items of a chunk cannot be unpacked"),
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
