// SPDX-License-Identifier: Apache-2.0
//! The payload of a chunk: items in order, with the events' fields in columns.

use super::{
    Event, Item, Record,
    event::Row,
    field::{get_bytes, get_varint, put_bytes, put_varint},
    macros::Refusal,
};

/// Most bytes that a payload can have. The writer cuts far earlier; this bounds what a reader allocates.
pub(super) const MAX_PAYLOAD: usize = 16 << 20;
/// Most events of one chunk, for the same reason: columns of zeros take no bytes.
const MAX_EVENTS: u64 = 1 << 16;
/// Where the writer cuts: few enough that a chunk is read in an instant, many enough to compress well.
const FULL_EVENTS: usize = 1 << 14;
const FULL_BYTES: usize = 1 << 20;

/// The checksum that chunks have: of their own compressed bytes and those of every chunk before. So a chunk is good in its
/// own place only.
#[derive(Clone, Default)]
pub(super) struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// That of the next chunk.
    pub(super) fn with(&mut self, compressed: &[u8]) -> u32 {
        self.0.update(compressed);
        self.0.clone().finalize()
    }
}

/// A chunk that is being filled.
#[derive(Default)]
pub(super) struct Encoder {
    items: Vec<u8>,
    body: Vec<u8>,
    rows: Vec<Row>,
    /// Events since the last record, not yet mentioned in `items`.
    run: u64,
}

impl Encoder {
    pub(super) fn record(&mut self, record: &Record) {
        self.end_run();
        self.body.clear();
        record.put(&mut self.body);
        put_varint(record.number(), &mut self.items);
        put_bytes(&self.body, &mut self.items);
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

    /// Gives the payload, and starts anew.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.end_run();
        let mut payload = Vec::with_capacity(self.items.len() + 16 * self.rows.len());
        put_bytes(&self.items, &mut payload);
        put_varint(self.rows.len() as u64, &mut payload);
        for (index, column) in Event::COLUMNS.iter().enumerate() {
            if self.rows.iter().any(|row| row[index] != 0) {
                self.body.clear();
                put_column(self.rows.iter().map(|row| row[index]), &mut self.body);
                put_varint(column.number, &mut payload);
                put_bytes(&self.body, &mut payload);
            }
        }
        self.items.clear();
        self.rows.clear();
        payload
    }

    fn end_run(&mut self) {
        if self.run > 0 {
            put_varint(0, &mut self.items);
            put_varint(self.run, &mut self.items);
            self.run = 0;
        }
    }
}

/// Appends the differences between neighbours, zigzag so that small negative ones are short too.
fn put_column(numbers: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    let mut last = 0_u64;
    for number in numbers {
        let delta = number.wrapping_sub(last) as i64;
        put_varint(((delta << 1) ^ (delta >> 63)) as u64, out);
        last = number;
    }
}

/// Takes a difference off the front of `input` and adds it to `last`.
fn get_delta(input: &mut &[u8], last: u64) -> Option<u64> {
    let zigzag = get_varint(input)?;
    let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
    Some(last.wrapping_add(delta as u64))
}

/// A payload that is being read, item by item, so that memory stays in proportion to the payload.
pub(super) struct Decoder {
    items: Vec<u8>,
    position: usize,
    rows: std::vec::IntoIter<Row>,
    /// Events to give before the next item.
    run: u64,
    /// Items of kinds that this version does not know.
    pub(super) skipped: u64,
}

impl Decoder {
    /// # Errors
    ///
    /// What is malformed.
    pub(super) fn new(payload: &[u8]) -> Result<Self, &'static str> {
        let mut rest = payload;
        let items = get_bytes(&mut rest).ok_or("the items of a chunk are cut")?.to_vec();
        let mut decoder = Self { items, position: 0, rows: Vec::new().into_iter(), run: 0, skipped: 0 };
        let count = get_varint(&mut rest).filter(|&count| count <= MAX_EVENTS).ok_or("a chunk has too many events")?;
        let mut rows = vec![Row::default(); count as usize];
        while !rest.is_empty() {
            let number = get_varint(&mut rest).ok_or("a column has no number")?;
            let column = get_bytes(&mut rest).ok_or("a column is cut")?;
            match Event::COLUMNS.iter().position(|known| known.number == number) {
                Some(index) => {
                    get_column(column, &mut rows, index).ok_or("a column is malformed")?;
                }
                None => decoder.skipped += 1,
            }
        }
        decoder.rows = rows.into_iter();
        Ok(decoder)
    }

    /// The next item, `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<Item, &'static str>> {
        loop {
            if self.run > 0 {
                self.run -= 1;
                let Some(row) = self.rows.next() else {
                    return Some(Err("events are missing"));
                };
                match Event::from_row(row) {
                    Some(event) => return Some(Ok(Item::Event(event))),
                    None => self.skipped += 1,
                }
            } else if self.position == self.items.len() {
                return (self.rows.len() > 0).then_some(Err("events are in no place"));
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

fn get_column(mut column: &[u8], rows: &mut [Row], index: usize) -> Option<()> {
    let mut last = 0;
    for row in rows {
        last = get_delta(&mut column, last)?;
        row[index] = last;
    }
    column.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(payload: &[u8]) -> (Result<Vec<Item>, &'static str>, u64) {
        match Decoder::new(payload) {
            Err(what) => (Err(what), 0),
            Ok(mut decoder) => {
                let items = std::iter::from_fn(|| decoder.next()).collect();
                (items, decoder.skipped)
            }
        }
    }

    #[test]
    fn columns_take_any_number() {
        let numbers = [0, u64::MAX, 1, 1 << 63, 0, 5, 4];
        let mut out = Vec::new();
        put_column(numbers.into_iter(), &mut out);
        let mut rows = vec![Row::default(); numbers.len()];
        assert_eq!(get_column(&out, &mut rows, 3), Some(()));
        assert_eq!(rows.iter().map(|row| row[3]).collect::<Vec<_>>(), numbers);
    }

    #[test]
    fn what_a_later_version_added_is_skipped_and_counted() {
        // Items: record 99 with 2 bytes, `text` (8) with a field more than we know, a run of 2 events.
        let items_section = [99, 2, 7, 7, 8, 4, 1, 1, b'a', 9, 0, 2];
        let mut payload = vec![items_section.len() as u8];
        payload.extend(items_section);
        // Two events: column 5 (kind) with 3 and 200, column 77 with anything.
        payload.extend([2, 5, 3, 6, 0x8a, 3, 77, 1, 0]);
        let (items, skipped) = items(&payload);
        let lines: Vec<String> = items.unwrap_or_default().iter().map(super::super::text::show).collect();
        assert_eq!(lines, ["text id=1 text=\"a\"", "event 0 free"]);
        assert_eq!(skipped, 3, "a record, a column and a kind");
    }

    #[test]
    fn malformed_payloads_are_refused() {
        for (payload, what) in [
            (&[][..], "the items of a chunk are cut"),
            (&[9, 1], "the items of a chunk are cut"),
            (&[0, 0xff, 0xff, 0xff, 0x7f], "a chunk has too many events"),
            (&[0, 1, 5, 0], "a column is malformed"),
            (&[0, 1, 5, 2, 6, 6], "a column is malformed"),
            (&[0, 1, 5, 1, 6], "events are in no place"),
            (&[2, 0, 1, 0], "events are missing"),
            (&[2, 8, 9, 0], "a record is cut"),
            (&[4, 8, 2, 1, 9, 0], "a record is malformed"),
        ] {
            assert_eq!(items(payload).0, Err(what), "{payload:?}");
        }
    }
}
