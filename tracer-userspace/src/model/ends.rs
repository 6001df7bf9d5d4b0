// SPDX-License-Identifier: Apache-2.0
//! How the ends of buffers are kept: there are ten thousands of them wherever a trace is cut, and they are much alike.

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use super::{REMEMBERED, recent::Ended};
use crate::trace::{Packer, Unpacker};

/// More ends than there are events until they are forgotten can't be.
const MOST: u32 = 2 * REMEMBERED as u32;

/// Numbers that are of one end alone.
const NUMBERS: usize = 9;

/// Ends as columns of numbers, which are packed as those of events are.
#[derive(Deserialize, Serialize)]
pub(super) struct Columns {
    /// All that there is but for those numbers.
    kinds: Vec<Kind>,
    count: u32,
    /// The place of each in `kinds`.
    places: Vec<u8>,
    numbers: [Vec<u8>; NUMBERS],
}

/// An end without its numbers, and whether it is the last one of its buffer.
type Kind = (Ended, bool);

impl Columns {
    pub(super) fn of(ends: impl Iterator<Item = Kind>) -> Self {
        let mut kinds = Vec::new();
        let mut known: HashMap<Vec<u8>, u64> = HashMap::default();
        let (mut places, mut numbers): (_, [_; NUMBERS]) = (Vec::new(), Default::default());
        for mut kind in ends {
            for (column, number) in numbers.iter_mut().zip(take_numbers(&mut kind.0)) {
                Vec::push(column, number);
            }
            let key = postcard::to_allocvec(&kind).unwrap_or_default();
            let place = *known.entry(key).or_insert_with(|| {
                kinds.push(kind);
                kinds.len() as u64 - 1
            });
            places.push(place);
        }
        let mut packer = Packer::default();
        let mut pack = |column: Vec<u64>| packer.numbers(&column, &[column.len()]);
        Self { kinds, count: places.len() as u32, places: pack(places), numbers: numbers.map(pack) }
    }

    /// The ends, in their order; `None` if they are none.
    pub(super) fn ends(&self) -> Option<Vec<Kind>> {
        let count = (self.count <= MOST).then_some(self.count as usize)?;
        let mut unpacker = Unpacker::default();
        let mut unpack = |part: &[u8]| {
            let mut column = vec![0; count];
            unpacker.numbers(part, &[count], &mut column).map(|()| column)
        };
        let places = unpack(&self.places)?;
        let columns = self.numbers.iter().map(|part| unpack(part)).collect::<Option<Vec<_>>>()?;
        let end = |(at, &place): (usize, &u64)| {
            let mut kind = *self.kinds.get(usize::try_from(place).ok()?)?;
            put_numbers(&mut kind.0, columns.iter().map(|column| column[at]))?;
            Some(kind)
        };
        places.iter().enumerate().map(end).collect()
    }
}

/// Takes the numbers out of an end, in which zeros stay.
fn take_numbers(Ended { buffer, moment, .. }: &mut Ended) -> [u64; NUMBERS] {
    use std::mem::take;
    let (age, stack) = match &mut buffer.allocated {
        Some(allocated) => (moment.time.wrapping_sub(take(&mut allocated.time)), take(&mut allocated.stack)),
        None => (0, 0),
    };
    [
        take(&mut buffer.unique_id),
        take(&mut buffer.address),
        take(&mut buffer.size),
        take(&mut buffer.page_size),
        buffer.bank_bytes.as_mut().map_or(0, take),
        age,
        stack.into(),
        take(&mut moment.time),
        take(&mut moment.stack).into(),
    ]
}

/// Puts them back; `None` if they are none.
fn put_numbers(Ended { buffer, moment, .. }: &mut Ended, mut numbers: impl Iterator<Item = u64>) -> Option<()> {
    let mut next = || numbers.next();
    buffer.unique_id = next()?;
    buffer.address = next()?;
    buffer.size = next()?;
    buffer.page_size = next()?;
    let bank_bytes = next()?;
    buffer.bank_bytes = buffer.bank_bytes.map(|_| bank_bytes);
    let (age, stack) = (next()?, u32::try_from(next()?).ok()?);
    moment.time = next()?;
    moment.stack = u32::try_from(next()?).ok()?;
    if let Some(allocated) = &mut buffer.allocated {
        (allocated.time, allocated.stack) = (moment.time.wrapping_sub(age), stack);
    }
    Some(())
}
