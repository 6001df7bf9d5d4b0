// SPDX-License-Identifier: Apache-2.0
//! The numbers of a column, and other bytes of a chunk, as they are in the file.
//!
//! A column is a list of differences between neighbours, zigzag so that small negative ones are short too. Where most are
//! equal they are kept as runs, which are read without looking at each. Where the same numbers come again and again in no
//! order (addresses, sizes), a table has them, and the column says which. What is left is compressed where that helps. Each
//! column is compressed for itself: its numbers are like each other, and who needs one column reads that one.

use foldhash::HashMap;

use super::field::{get_bytes, get_varint, put_bytes, put_varint};

/// zstd's own default: beyond it, time grows faster than the gain.
const LEVEL: i32 = 3;
/// Shorter than this, a frame of zstd's gains nothing.
const WORTHWHILE: usize = 48;
/// How many times shorter runs must be: many short ones compress worse than what they stand for.
const RUNS_GAIN: usize = 16;
/// A table is looked at only where the differences take more bytes than one for so many numbers.
const TABLE_WORTHWHILE: usize = 8;

/// How the bytes of a part are to be understood: its first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Form {
    /// As they are.
    Plain = 0,
    /// Their number as a varint, then a frame of zstd's.
    Packed = 1,
    /// Of a column: pairs of a difference and how often it follows.
    Runs = 2,
    /// Of a column: the numbers that there are, ascending, as a column with its size before it and their count behind; then
    /// a part with the places of the column's numbers in there, the low bytes of all before the high bytes of all, if there
    /// are any.
    Table = 3,
}

impl Form {
    fn take(part: &mut &[u8]) -> Option<Self> {
        let (&first, rest) = part.split_first()?;
        *part = rest;
        [Self::Plain, Self::Packed, Self::Runs, Self::Table].into_iter().find(|form| *form as u8 == first)
    }
}

/// Makes parts.
pub(crate) struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    deltas: Vec<u8>,
    runs: Vec<u8>,
    places: HashMap<u64, u16>,
}

impl Default for Packer {
    fn default() -> Self {
        let zstd = zstd::bulk::Compressor::new(LEVEL).expect("zstd has its own default level");
        Self { zstd, deltas: Vec::new(), runs: Vec::new(), places: HashMap::default() }
    }
}

impl Packer {
    /// The part that these bytes make.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.len() > WORTHWHILE
            && let Ok(packed) = self.zstd.compress(bytes)
            && packed.len() < bytes.len()
        {
            let mut part = vec![Form::Packed as u8];
            put_varint(bytes.len() as u64, &mut part);
            part.extend(packed);
            return part;
        }
        [&[Form::Plain as u8], bytes].concat()
    }

    /// The part that these numbers make, differences starting from zero at the beginning of each slice.
    pub(crate) fn numbers(&mut self, numbers: &[u64], lengths: &[usize]) -> Vec<u8> {
        let part = self.differences(numbers, lengths);
        if part.len() * TABLE_WORTHWHILE <= numbers.len() {
            return part;
        }
        self.table(numbers).filter(|table| table.len() < part.len()).unwrap_or(part)
    }

    fn differences(&mut self, numbers: &[u64], lengths: &[usize]) -> Vec<u8> {
        self.deltas.clear();
        self.runs.clear();
        let mut run = (0, 0);
        let mut numbers = numbers.iter();
        for &length in lengths {
            let mut last = 0_u64;
            for &number in numbers.by_ref().take(length) {
                let delta = number.wrapping_sub(last) as i64;
                let zigzag = ((delta << 1) ^ (delta >> 63)) as u64;
                last = number;
                put_varint(zigzag, &mut self.deltas);
                if run.0 != zigzag {
                    end_run(run, &mut self.runs);
                    run = (zigzag, 0);
                }
                run.1 += 1;
            }
        }
        end_run(run, &mut self.runs);
        if self.runs.len() * RUNS_GAIN <= self.deltas.len() {
            return [&[Form::Runs as u8], &self.runs[..]].concat();
        }
        let deltas = std::mem::take(&mut self.deltas);
        let part = self.bytes(&deltas);
        self.deltas = deltas;
        part
    }

    /// `None` if there are too many different numbers.
    fn table(&mut self, numbers: &[u64]) -> Option<Vec<u8>> {
        self.places.clear();
        let most = usize::from(u16::MAX).min(numbers.len() / 2);
        for &number in numbers {
            self.places.insert(number, 0);
            if self.places.len() > most {
                return None;
            }
        }
        let mut table: Vec<u64> = self.places.keys().copied().collect();
        table.sort_unstable();
        for (place, number) in (0..).zip(&table) {
            self.places.insert(*number, place);
        }
        let places = numbers.iter().map(|number| self.places[number].to_le_bytes());
        let mut bytes: Vec<u8> = places.clone().map(|[low, _]| low).collect();
        if table.len() > 256 {
            bytes.extend(places.map(|[_, high]| high));
        }
        let mut part = vec![Form::Table as u8];
        put_bytes(&self.differences(&table, &[table.len()]), &mut part);
        put_varint(table.len() as u64, &mut part);
        part.extend(self.bytes(&bytes));
        Some(part)
    }
}

fn end_run((zigzag, count): (u64, u64), runs: &mut Vec<u8>) {
    if count > 0 {
        put_varint(zigzag, runs);
        put_varint(count, runs);
    }
}

/// Reads parts, without trust.
#[derive(Default)]
pub(crate) struct Unpacker {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    bytes: Vec<u8>,
}

impl Unpacker {
    /// The bytes of a part, if there are at most so many and it is none of numbers.
    pub(super) fn bytes<'a>(&'a mut self, mut part: &'a [u8], most: usize) -> Option<&'a [u8]> {
        match Form::take(&mut part)? {
            Form::Plain => Some(part).filter(|bytes| bytes.len() <= most),
            Form::Packed => self.unpack(part, most),
            Form::Runs | Form::Table => None,
        }
    }

    /// The numbers of a part, which must be as many as there is room for; differences start from zero where a slice of
    /// these lengths does.
    pub(crate) fn numbers(&mut self, part: &[u8], lengths: &[usize], numbers: &mut [u64]) -> Option<()> {
        let mut rest = part;
        match Form::take(&mut rest)? {
            Form::Runs => return get_runs(rest, lengths, numbers),
            Form::Table => return self.get_table(rest, numbers),
            Form::Plain | Form::Packed => {}
        }
        // A varint has ten bytes at most.
        let mut deltas = self.bytes(part, numbers.len() * 10)?;
        let mut numbers = numbers.iter_mut();
        for &length in lengths {
            let mut last = 0_u64;
            for number in numbers.by_ref().take(length) {
                last = last.wrapping_add(from_zigzag(get_short(&mut deltas)?));
                *number = last;
            }
        }
        (deltas.is_empty() && numbers.len() == 0).then_some(())
    }

    /// The same of some of the numbers only, at these ascending places: nothing else is written, nor looked at more than that
    /// takes.
    pub(super) fn some_numbers(
        &mut self,
        part: &[u8],
        lengths: &[usize],
        places: &[u32],
        numbers: &mut [u64],
    ) -> Option<()> {
        let mut rest = part;
        match Form::take(&mut rest)? {
            Form::Runs => return get_some_of_runs(rest, lengths, places, numbers),
            Form::Table => {
                let (known, Index { low, high }) = self.take_index(rest, numbers.len())?;
                for place in places.iter().map(|&place| place as usize) {
                    let index = u16::from_le_bytes([*low.get(place)?, high.get(place).copied().unwrap_or(0)]);
                    *numbers.get_mut(place)? = *known.get(usize::from(index))?;
                }
                return Some(());
            }
            Form::Plain | Form::Packed => {}
        }
        let mut deltas = self.bytes(part, numbers.len() * 10)?;
        let mut places = places.iter().map(|&place| place as usize).peekable();
        let mut end = 0;
        for &length in lengths {
            let (mut next, mut last) = (end, 0_u64);
            end += length;
            while let Some(place) = places.next_if(|&place| place < end) {
                for _ in next..=place {
                    last = last.wrapping_add(from_zigzag(get_short(&mut deltas)?));
                }
                *numbers.get_mut(place)? = last;
                next = place + 1;
            }
            deltas = skip_varints(deltas, end - next)?;
        }
        (deltas.is_empty() && end == numbers.len()).then_some(())
    }

    /// The table of a part that has one, and that stands for so many numbers: they are among these.
    pub(super) fn table(&mut self, mut part: &[u8], count: usize) -> Option<Vec<u64>> {
        match Form::take(&mut part)? {
            Form::Table => self.take_table(&mut part, count),
            Form::Plain | Form::Packed | Form::Runs => None,
        }
    }

    fn take_table(&mut self, rest: &mut &[u8], most: usize) -> Option<Vec<u64>> {
        let table = get_bytes(rest)?;
        if matches!(table.first(), Some(&form) if form == Form::Table as u8) {
            return None;
        }
        let length = usize::try_from(get_varint(rest)?).ok().filter(|&length| length <= most)?;
        let mut known = vec![0; length];
        self.numbers(table, &[length], &mut known)?;
        Some(known)
    }

    /// A table, and where in it so many numbers are.
    fn take_index<'a>(&'a mut self, mut rest: &'a [u8], count: usize) -> Option<(Vec<u64>, Index<'a>)> {
        let known = self.take_table(&mut rest, count)?;
        let (low, high) = self.bytes(rest, count * 2)?.split_at_checked(count)?;
        (high.is_empty() || high.len() == low.len()).then_some((known, Index { low, high }))
    }

    fn get_table(&mut self, rest: &[u8], numbers: &mut [u64]) -> Option<()> {
        let (known, Index { low, high }) = self.take_index(rest, numbers.len())?;
        if high.is_empty() {
            for (number, &low) in numbers.iter_mut().zip(low) {
                *number = *known.get(usize::from(low))?;
            }
        } else {
            for ((number, &low), &high) in numbers.iter_mut().zip(low).zip(high) {
                *number = *known.get(usize::from(u16::from_le_bytes([low, high])))?;
            }
        }
        Some(())
    }

    fn unpack(&mut self, mut packed: &[u8], most: usize) -> Option<&[u8]> {
        let length = usize::try_from(get_varint(&mut packed)?).ok().filter(|&length| length <= most)?;
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Decompressor::new().ok();
        }
        self.bytes.clear();
        self.bytes.reserve(length);
        // A frame of more bytes than there is room for is an error.
        let written = self.zstd.as_mut()?.decompress_to_buffer(packed, &mut self.bytes).ok()?;
        (written == length).then_some(&self.bytes)
    }
}

/// Where in a table the numbers of a column are: the low bytes, and the high bytes if there are any.
struct Index<'a> {
    low: &'a [u8],
    high: &'a [u8],
}

/// The number that all of so many are, if a part of runs says so.
pub(super) fn get_same(mut part: &[u8], count: usize) -> Option<u64> {
    if Form::take(&mut part)? != Form::Runs {
        return None;
    }
    let (first, run) = (from_zigzag(get_varint(&mut part)?), get_varint(&mut part)?);
    let others = (count as u64).checked_sub(1)?;
    let are_same = match run {
        1 if others > 0 => get_varint(&mut part)? == 0 && get_varint(&mut part)? == others,
        _ => run == count as u64 && (others == 0 || first == 0),
    };
    (are_same && part.is_empty()).then_some(first)
}

fn get_runs(mut runs: &[u8], lengths: &[usize], numbers: &mut [u64]) -> Option<()> {
    let mut rest = numbers;
    let (mut delta, mut left) = (0_u64, 0_usize);
    for &length in lengths {
        let (mut slice, behind) = rest.split_at_mut_checked(length)?;
        let mut last = 0_u64;
        while !slice.is_empty() {
            if left == 0 {
                (delta, left) = get_run(&mut runs)?;
            }
            let (run, after) = slice.split_at_mut(left.min(slice.len()));
            left -= run.len();
            if delta == 0 {
                run.fill(last);
            } else {
                for number in run {
                    last = last.wrapping_add(delta);
                    *number = last;
                }
            }
            slice = after;
        }
        rest = behind;
    }
    (runs.is_empty() && left == 0 && rest.is_empty()).then_some(())
}

fn get_some_of_runs(mut runs: &[u8], lengths: &[usize], places: &[u32], numbers: &mut [u64]) -> Option<()> {
    let mut places = places.iter().map(|&place| place as usize).peekable();
    let (mut delta, mut left) = (0_u64, 0_usize);
    let (mut next, mut end) = (0, 0);
    for &length in lengths {
        let mut last = 0_u64;
        end += length;
        while next < end {
            if left == 0 {
                (delta, left) = get_run(&mut runs)?;
            }
            let run = left.min(end - next);
            while let Some(place) = places.next_if(|&place| place < next + run) {
                *numbers.get_mut(place)? = last.wrapping_add(delta.wrapping_mul((place - next) as u64 + 1));
            }
            last = last.wrapping_add(delta.wrapping_mul(run as u64));
            next += run;
            left -= run;
        }
    }
    (runs.is_empty() && left == 0 && end == numbers.len()).then_some(())
}

/// A run: the difference, and how often it follows.
fn get_run(runs: &mut &[u8]) -> Option<(u64, usize)> {
    let delta = from_zigzag(get_varint(runs)?);
    let count = usize::try_from(get_varint(runs)?).ok().filter(|&count| count > 0)?;
    Some((delta, count))
}

/// What is behind so many varints.
fn skip_varints(mut bytes: &[u8], mut count: usize) -> Option<&[u8]> {
    // Each ends with a byte whose highest bit is not set.
    while let Some((word, rest)) = bytes.split_first_chunk() {
        let ends = (!u64::from_le_bytes(*word) & 0x8080_8080_8080_8080).count_ones() as usize;
        if ends >= count {
            break;
        }
        count -= ends;
        bytes = rest;
    }
    (0..count).try_for_each(|_| get_varint(&mut bytes).map(drop))?;
    Some(bytes)
}

fn from_zigzag(zigzag: u64) -> u64 {
    (zigzag >> 1) ^ (zigzag & 1).wrapping_neg()
}

/// As [`get_varint`], without a branch for each byte where there are eight to look at.
fn get_short(input: &mut &[u8]) -> Option<u64> {
    let Some(word) = input.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else { return get_varint(input) };
    if word & 0x80 == 0 {
        *input = &input[1..];
        return Some(word & 0x7f);
    }
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return get_varint(input);
    }
    // All bits up to the last byte's highest one; then groups of 7, of 14 and of 28 bits are pushed together.
    let word = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    let word = (word & 0x007f_007f_007f_007f) | ((word & 0x7f00_7f00_7f00_7f00) >> 1);
    let word = (word & 0x0000_3fff_0000_3fff) | ((word & 0x3fff_0000_3fff_0000) >> 2);
    let word = (word & 0x0fff_ffff) | ((word & 0x0fff_ffff_0000_0000) >> 4);
    *input = &input[ends.trailing_zeros() as usize / 8 + 1..];
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(slices: &[&[u64]]) -> Vec<u8> {
        let lengths: Vec<usize> = slices.iter().map(|slice| slice.len()).collect();
        let part = Packer::default().numbers(&slices.concat(), &lengths);
        let mut numbers = vec![7; lengths.iter().sum()];
        assert_eq!(Unpacker::default().numbers(&part, &lengths, &mut numbers), Some(()));
        assert_eq!(numbers, slices.concat());
        for step in [1, 2, 7, 61, 5000] {
            let places: Vec<u32> = (step / 2..numbers.len() as u32).step_by(step as usize).collect();
            let mut some = vec![7; numbers.len()];
            assert_eq!(Unpacker::default().some_numbers(&part, &lengths, &places, &mut some), Some(()));
            assert!(places.iter().all(|&place| some[place as usize] == numbers[place as usize]), "each {step}th");
        }
        part
    }

    #[test]
    fn columns_take_any_number() {
        let form = |slices: &[&[u64]]| there_and_back(slices)[0];
        assert_eq!(form(&[&[0, u64::MAX, 1, 1 << 63, 0, 5, 4]]), Form::Plain as u8);
        assert_eq!(form(&[&(0..8192).map(|number| number * (number % 251)).collect::<Vec<_>>()]), Form::Packed as u8);
        for different in [7, 256, 257, 4000] {
            // Of Knuth's linear congruential generator, the upper bits.
            let mut state = 1_u64;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % different) << 33
            };
            let numbers: Vec<u64> = (0..9000).map(|_| next()).collect();
            assert_eq!(form(&[&numbers[..10], &numbers[10..]]), Form::Table as u8);
        }
        assert_eq!(form(&[&[9; 1000], &[0; 50], &[], &(5..900).collect::<Vec<_>>()]), Form::Runs as u8);
        assert_eq!(there_and_back(&[]), [Form::Runs as u8]);
    }

    #[test]
    fn varints_of_every_length_are_what_leb128_says() {
        let values: Vec<u64> = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, u64::MAX >> bit]).collect();
        let mut bytes = Vec::new();
        values.iter().for_each(|&value| put_varint(value, &mut bytes));
        let mut rest = &bytes[..];
        assert!(values.iter().all(|&value| get_short(&mut rest) == Some(value)) && rest.is_empty());
        assert_eq!(get_short(&mut &[0xff; 12][..]), None, "more than 64 bits");
    }

    #[test]
    fn malformed_parts_are_refused() {
        let packed = Packer::default().bytes(&[1; 1000]);
        let mut unpacker = Unpacker::default();
        assert_eq!(unpacker.bytes(&packed, 1000), Some(&[1; 1000][..]));
        assert_eq!(unpacker.bytes(&packed, 999), None, "more than allowed");
        let mut longer = packed.clone();
        longer[1] += 1;
        assert_eq!(unpacker.bytes(&longer, 5000), None, "not as many as it says");
        assert_eq!(unpacker.bytes(&packed[..packed.len() - 1], 1000), None, "cut");
        assert_eq!(unpacker.bytes(&[9, 1], 1000), None, "of no form");
        let mut numbers = [0; 4];
        for (part, what) in [
            (&[][..], "no form"),
            (&[0, 2, 2, 2], "too few"),
            (&[0, 2, 2, 2, 2, 2], "too many"),
            (&[2, 2, 3], "too short a run"),
            (&[2, 2, 5], "too long a run"),
            (&[2, 2, 4, 2, 1], "a run too many"),
            (&[2, 2, 0, 2, 4], "an empty run"),
            (&[2, 2], "half a run"),
            (&[3, 3, 0, 2, 2, 2, 0, 0, 1, 2, 0], "a place behind the table"),
            (&[3, 3, 0, 2, 2, 2, 0, 0, 1, 1], "too few places"),
            (&[3, 3, 0, 2, 2, 2, 0, 0, 1, 1, 0, 0], "half of the high bytes"),
            (&[3, 3, 0, 2, 2, 9, 0, 0, 1, 1, 0], "too large a table"),
            (&[3, 5, 3, 2, 0, 2, 1, 1, 0, 0, 0, 0, 0], "a table in a table"),
        ] {
            assert_eq!(unpacker.numbers(part, &[4], &mut numbers), None, "{what}");
            assert_eq!(unpacker.some_numbers(part, &[4], &[0, 1, 2, 3], &mut numbers), None, "{what}");
        }
        let table = [3, 3, 0, 2, 2, 2, 0, 0, 1, 1, 0];
        assert_eq!(unpacker.numbers(&table, &[4], &mut numbers), Some(()));
        assert_eq!(numbers, [1, 2, 2, 1]);
        assert_eq!([4, 1].map(|count| unpacker.table(&table, count)), [Some(vec![1, 2]), None]);
        assert_eq!(unpacker.table(&[2, 2, 4], 4), None, "no table");
        assert_eq!(unpacker.numbers(&[2, 2, 4], &[1, 3], &mut numbers), Some(()));
        assert_eq!(numbers, [1, 1, 2, 3], "differences start again, runs go on");
    }

    #[test]
    fn equal_numbers_are_told_without_unpacking() {
        let part = |numbers: &[u64]| Packer::default().numbers(numbers, &[numbers.len()]);
        let mut numbers = [7; 300];
        assert_eq!(get_same(&part(&numbers), 300), Some(7));
        assert_eq!(get_same(&part(&numbers), 299), None, "more than there are to be");
        numbers[299] = 8;
        assert_eq!(get_same(&part(&numbers), 300), None, "another one");
        for (part, count, same) in [
            (&[2, 14, 1][..], 1, Some(7)),
            (&[2, 14, 1, 0, 1], 2, Some(7)),
            (&[2, 0, 5], 5, Some(0)),
            (&[2, 14, 2], 2, None),
            (&[2, 14, 1, 0, 1, 2, 1], 2, None),
            (&[2, 14, 1, 0], 2, None),
            (&[2, 14, 1], 0, None),
            (&[0, 14], 1, None),
            (&[], 1, None),
        ] {
            assert_eq!(get_same(part, count), same, "{part:?}");
        }
    }
}
