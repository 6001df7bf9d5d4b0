// SPDX-License-Identifier: Apache-2.0
//! In which order rows are, and how many of them.

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The largest number.
    Count,
    /// The most bytes.
    Bytes,
    /// The earliest.
    Time,
}

/// The order of rows and their number.
#[derive(Clone, Copy, Debug)]
pub struct Ranking {
    /// What comes first.
    pub order: Order,
    /// Most rows; `None` for all.
    pub top: Option<usize>,
}

impl Ranking {
    /// Cuts ranked rows; returns how many are left out.
    pub(super) fn cut<T>(self, rows: &mut Vec<T>) -> usize {
        let hidden = rows.len().saturating_sub(self.top.unwrap_or(usize::MAX));
        rows.truncate(rows.len() - hidden);
        hidden
    }

    /// What to sort by: less comes first.
    pub(super) fn key(self, count: u64, bytes: u64, time: u64) -> u64 {
        match self.order {
            Order::Count => u64::MAX - count,
            Order::Bytes => u64::MAX - bytes,
            Order::Time => time,
        }
    }
}
