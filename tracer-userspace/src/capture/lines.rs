// SPDX-License-Identifier: Apache-2.0
//! Line numbers of Python instructions, as `frame.f_lineno` has them, from a code object's line table.
//!
//! The formats are those of CPython's `Objects/lnotab_notes.txt` (3.10) and `Objects/locations.md` (3.11 on).

use crate::discover::python::LineFormat;

/// The line of the instruction at `offset` bytes, or `None` if it belongs to none. A frame that has not begun has a
/// negative offset, and the first line.
#[must_use]
pub fn line(format: LineFormat, table: &[u8], first_line: u32, offset: i64) -> Option<u32> {
    if offset < 0 {
        return Some(first_line);
    }
    let first = i64::from(first_line);
    let line = match format {
        LineFormat::Pairs => in_pairs(table, first, offset),
        LineFormat::Locations => in_locations(table, first, offset),
    };
    line.and_then(|line| u32::try_from(line).ok())
}

/// Each pair is a number of bytes and a difference of lines; -128 is for bytes without a line.
fn in_pairs(table: &[u8], first: i64, offset: i64) -> Option<i64> {
    const NO_LINE: i8 = -128;
    let (mut end, mut line) = (0, first);
    for pair in table.chunks_exact(2) {
        end += i64::from(pair[0]);
        let difference = pair[1].cast_signed();
        if difference != NO_LINE {
            line += i64::from(difference);
        }
        if offset < end {
            return (difference != NO_LINE).then_some(line);
        }
    }
    None
}

/// Each entry begins with a byte whose highest bit is set: four bits of code, three of its length in instructions.
fn in_locations(table: &[u8], first: i64, offset: i64) -> Option<i64> {
    let (mut end, mut line) = (0, first);
    let mut rest = table;
    while let Some((&head, after)) = rest.split_first() {
        let length = after.iter().position(|byte| byte & 0x80 != 0).unwrap_or(after.len());
        let (entry, next) = after.split_at(length);
        rest = next;
        end += (i64::from(head & 7) + 1) * 2;
        let code = head >> 3 & 15;
        line += match code {
            // One or two bytes of columns, on the same line or one of the next two.
            10..=12 => i64::from(code - 10),
            // A difference, with columns or without.
            13 | 14 => difference(entry),
            _ => 0,
        };
        if offset < end {
            return (code != 15).then_some(line);
        }
    }
    None
}

/// A number in groups of six bits, the lowest first; its own lowest bit is the sign.
fn difference(entry: &[u8]) -> i64 {
    let mut value = 0_i64;
    for (index, byte) in entry.iter().take(6).enumerate() {
        value |= i64::from(byte & 0x3f) << (6 * index);
        if byte & 0x40 == 0 {
            break;
        }
    }
    if value & 1 == 1 { -(value >> 1) } else { value >> 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CPython itself says, by the script of the same name: for each code object its version, first line and table,
    /// and `co_lines()` as start-end:line.
    const TRUTH: &str = include_str!("lines.txt");

    #[test]
    fn lines_are_those_that_python_gives() {
        let mut looked_up = 0;
        for row in TRUTH.lines().filter(|row| !row.starts_with('#')) {
            let mut words = row.split(' ');
            let mut word = || words.next().expect("a row has four words and its lines");
            let format = if word() == "3.10" { LineFormat::Pairs } else { LineFormat::Locations };
            let (name, first) = (word(), word().parse().expect("a line"));
            let hex = word();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
            let table: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            assert_eq!(line(format, &table, first, -2), Some(first));
            for range in words {
                let (place, expected) = range.split_once(':').expect("start-end:line");
                let (start, end) = place.split_once('-').expect("start-end");
                let (start, end): (i64, i64) = (start.parse().expect("start"), end.parse().expect("end"));
                for offset in (start..end).step_by(2) {
                    assert_eq!(line(format, &table, first, offset), expected.parse().ok(), "{name} at {offset}");
                    looked_up += 1;
                }
            }
        }
        assert!(looked_up > 500, "{looked_up} instructions are too few to tell");
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut seed = 1_u32;
        for length in 0..300 {
            let table: Vec<u8> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            for format in [LineFormat::Pairs, LineFormat::Locations] {
                let _ = line(format, &table, u32::MAX, i64::MAX);
                let _ = line(format, &table, 0, 40);
            }
        }
    }
}
