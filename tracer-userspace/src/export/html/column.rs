// SPDX-License-Identifier: Apache-2.0
//! Columns of numbers for the page: differences to the number before, as zigzag varints.
//!
//! A page counts in doubles, which are exact to 2⁵³. A column with a number from 2⁵² on is marked as wide, and read by the
//! page in integers of any size; the differences in all others are exact in doubles, too.

use serde::Serialize;

/// From this on a number, or the zigzag of a difference, may not be exact as a double.
const WIDE: u64 = 1 << 52;

/// Where a column is, and how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Column {
    /// The name that the page's script knows it by.
    pub(super) name: &'static str,
    /// First byte in the block of columns.
    pub(super) at: usize,
    /// How many numbers it has.
    pub(super) count: usize,
    /// Whether a number in it is too large for a double.
    pub(super) wide: bool,
}

/// Columns, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// What is where.
    pub(super) directory: Vec<Column>,
    /// The numbers.
    pub(super) bytes: Vec<u8>,
}

impl Columns {
    /// Appends a column.
    pub(super) fn add(&mut self, name: &'static str, numbers: impl Iterator<Item = u64>) {
        let (at, mut count, mut wide, mut before) = (self.bytes.len(), 0, false, 0_u64);
        for number in numbers {
            count += 1;
            wide |= number >= WIDE;
            self.varint(zigzag(number.wrapping_sub(before)));
            before = number;
        }
        self.directory.push(Column { name, at, count, wide });
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// Small numbers for small differences of either sign.
fn zigzag(difference: u64) -> u64 {
    let sign = (difference as i64) >> 63;
    (difference << 1) ^ sign as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the page's script reads a wide column.
    fn read(columns: &Columns, index: usize) -> Vec<u64> {
        let column = columns.directory[index];
        let mut bytes = columns.bytes[column.at..].iter();
        let mut before = 0_u64;
        let mut next = || {
            let (mut value, mut shift) = (0_u64, 0);
            loop {
                let byte = u64::from(*bytes.next().expect("a whole number"));
                value |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let difference = if value & 1 == 0 { value >> 1 } else { !(value >> 1) };
            before = before.wrapping_add(difference);
            before
        };
        (0..column.count).map(|_| next()).collect()
    }

    #[test]
    fn columns_are_read_as_they_were_written() {
        let numbers = [
            vec![0, 1, 5, 5, 4, 1000, 0],
            vec![u64::MAX, 0, 1 << 63, u64::MAX - 1, 7],
            Vec::new(),
            vec![(1 << 52) - 1, 0, (1 << 52) - 1],
            vec![1 << 52],
        ];
        let mut columns = Columns::default();
        for column in &numbers {
            columns.add("a", column.iter().copied());
        }
        for (index, column) in numbers.iter().enumerate() {
            assert_eq!(&read(&columns, index), column);
        }
        assert_eq!(columns.directory.iter().map(|it| it.wide).collect::<Vec<_>>(), [false, true, false, false, true]);
    }

    /// By hand: differences 300, -1, 0 are 600, 1, 0 in zigzag, and 600 is 0x258: 0xd8 with more to come, 4.
    #[test]
    fn the_bytes_are_varints_of_zigzag_differences() {
        let mut columns = Columns::default();
        columns.add("a", [300, 299, 299].into_iter());
        assert_eq!(columns.bytes, [0xd8, 4, 1, 0]);
    }
}
