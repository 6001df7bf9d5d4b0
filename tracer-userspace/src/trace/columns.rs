// SPDX-License-Identifier: Apache-2.0
//! The columns of a chunk: which there are, and their numbers when they are unpacked.

use std::iter;

use super::{
    Event,
    chunk::MAX_EVENTS,
    column::Unpacker,
    event::ORDERED,
    field::{get_bytes, get_varint},
    rows::KIND,
};

/// The parts of a body.
pub(super) struct Parts<'a> {
    /// Packed.
    pub(super) items: &'a [u8],
    /// How many events there are.
    pub(super) count: usize,
    columns: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn of(body: &'a [u8]) -> Result<Self, &'static str> {
        let mut columns = body;
        let items = get_bytes(&mut columns).ok_or("the items of a chunk are cut")?;
        let count =
            get_varint(&mut columns).filter(|&count| count <= MAX_EVENTS).ok_or("a chunk has too many events")?;
        Ok(Self { items, count: count as usize, columns })
    }

    /// The columns' numbers, and what they are packed into.
    pub(super) fn columns(&self) -> impl Iterator<Item = Result<(u64, &'a [u8]), &'static str>> {
        let mut rest = self.columns;
        iter::from_fn(move || {
            let is_end = rest.is_empty();
            let next = || {
                let number = get_varint(&mut rest).ok_or("a column has no number")?;
                Ok((number, get_bytes(&mut rest).ok_or("a column is cut")?))
            };
            (!is_end).then(next)
        })
    }
}

/// The events of a chunk by their kinds: events of a kind resemble each other, and a request the allocation that meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kinds {
    /// Those that there are, ascending, and how many events of each.
    kinds: Vec<u8>,
    pub(super) lengths: Vec<usize>,
}

impl Kinds {
    pub(super) fn of(kinds: impl Iterator<Item = u8>) -> Self {
        let mut counts = [0_usize; 256];
        kinds.for_each(|kind| counts[usize::from(kind)] += 1);
        let there = (0..=u8::MAX).zip(counts).filter(|(_, count)| *count > 0);
        let (kinds, lengths) = there.unzip();
        Self { kinds, lengths }
    }

    /// Whether there are events of such a kind.
    pub(super) fn any(&self, is_such: impl Fn(u8) -> bool) -> bool {
        self.kinds.iter().any(|&kind| is_such(kind))
    }

    /// The place of each event in the order by kinds; those of a kind stay in the order of recording.
    pub(super) fn places(&self, kinds: impl Iterator<Item = u8>) -> Vec<u32> {
        let mut next = [0_u32; 256];
        let mut first = 0;
        for (&kind, &length) in self.kinds.iter().zip(&self.lengths) {
            next[usize::from(kind)] = first;
            first += length as u32;
        }
        let place = |kind: u8| {
            let next = &mut next[usize::from(kind)];
            *next += 1;
            *next - 1
        };
        kinds.map(place).collect()
    }
}

/// Some events of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// Of all events of the chunk.
    pub(super) kinds: Kinds,
    /// Their places in the order of recording, ascending.
    pub(super) recorded: Vec<u32>,
    /// The place of each in the order by kinds.
    pub(super) by_kind: Vec<u32>,
}

impl Rows {
    /// Those at these places in the order of recording, given the place of each event in the order by kinds.
    pub(super) fn new(kinds: Kinds, recorded: Vec<u32>, by_kind: &[u32]) -> Self {
        let by_kind = recorded.iter().map(|&place| by_kind[place as usize]).collect();
        Self { kinds, recorded, by_kind }
    }
}

/// What decoding needs meanwhile, and the next time again.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) unpacker: Unpacker,
    pub(super) columns: Columns,
}

/// The numbers of a chunk's columns.
#[derive(Default)]
pub(super) struct Columns {
    /// By the order of [`Event::COLUMNS`]; those of an earlier chunk where the column is not there.
    numbers: [Vec<u64>; Event::COLUMNS.len()],
    are_there: [bool; Event::COLUMNS.len()],
}

impl Columns {
    /// The numbers of a column, by its own number; none where all of them are 0. Of one that was unpacked for some events only,
    /// what others have is anything.
    pub(super) fn of(&self, number: u64) -> &[u64] {
        let index = number as usize - 1;
        if self.are_there[index] { &self.numbers[index] } else { &[] }
    }
}

/// The columns that were unpacked.
pub(super) struct Unpacked {
    /// `None` if no event has a kind.
    pub(super) kinds: Option<Kinds>,
    /// Columns that this version does not know.
    pub(super) unknown: u64,
}

impl Scratch {
    /// Unpacks the columns that are wanted, by number and packed form; that of the kinds is one of them.
    pub(super) fn unpack(
        &mut self,
        parts: &Parts,
        mut wants: impl FnMut(u64, &[u8], &mut Unpacker) -> bool,
    ) -> Result<Unpacked, &'static str> {
        let (Self { unpacker, columns }, count) = (self, parts.count);
        columns.are_there.fill(false);
        let mut unpacked = Unpacked { kinds: None, unknown: 0 };
        for column in parts.columns() {
            let (number, part) = column?;
            let Some(index) = Event::COLUMNS.iter().position(|column| column.number == number) else {
                unpacked.unknown += 1;
                continue;
            };
            let all = [count];
            let lengths = match &unpacked.kinds {
                _ if index < ORDERED => &all[..],
                None => return Err("a column comes before that of the kinds"),
                Some(Kinds { lengths, .. }) => lengths,
            };
            if !wants(number, part, unpacker) {
                continue;
            }
            let column = &mut columns.numbers[index];
            column.resize(count, 0);
            columns.are_there[index] = true;
            unpacker.numbers(part, lengths, column).ok_or("a column is malformed")?;
            if index == ORDERED - 1 {
                if column.iter().any(|&kind| kind > 255) {
                    return Err("a column is malformed");
                }
                unpacked.kinds = Some(Kinds::of(column.iter().map(|&kind| kind as u8)));
            }
        }
        Ok(unpacked)
    }

    /// Forgets what is unpacked.
    pub(super) fn forget(&mut self) {
        self.columns.are_there.fill(false);
    }

    /// Chooses events by some columns, of which that of the kinds is one, given the place of each event in the order by kinds;
    /// `None` if nothing is chosen, or no event has a kind.
    pub(super) fn choose(
        &mut self,
        parts: &Parts,
        is_told_by: impl Fn(u64) -> bool,
        choose: impl FnOnce(&Columns, &[u32]) -> Option<Vec<u32>>,
    ) -> Result<Option<Rows>, &'static str> {
        let Some(kinds) = self.unpack(parts, |column, _, _| is_told_by(column))?.kinds else { return Ok(None) };
        let by_kind = kinds.places(self.columns.of(KIND).iter().map(|&kind| kind as u8));
        Ok(choose(&self.columns, &by_kind).map(|recorded| Rows::new(kinds, recorded, &by_kind)))
    }

    /// Unpacks of the columns that are wanted and not there yet what some events have, and nothing of the others: how many columns
    /// this version does not know.
    pub(super) fn unpack_some(
        &mut self,
        parts: &Parts,
        rows: &Rows,
        wants: impl Fn(u64) -> bool,
    ) -> Result<u64, &'static str> {
        let Self { unpacker, columns } = self;
        let mut unknown = 0;
        let all = [parts.count];
        let mut by_kind = rows.by_kind.clone();
        by_kind.sort_unstable();
        for column in parts.columns() {
            let (number, part) = column?;
            let Some(index) = Event::COLUMNS.iter().position(|column| column.number == number) else {
                unknown += 1;
                continue;
            };
            if columns.are_there[index] || !wants(number) {
                continue;
            }
            let (lengths, places) = match index {
                ..ORDERED => (&all[..], &rows.recorded),
                _ => (&rows.kinds.lengths[..], &by_kind),
            };
            let column = &mut columns.numbers[index];
            column.resize(parts.count, 0);
            columns.are_there[index] = true;
            unpacker.some_numbers(part, lengths, places, column).ok_or("a column is malformed")?;
        }
        Ok(unknown)
    }
}
