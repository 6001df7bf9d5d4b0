// SPDX-License-Identifier: Apache-2.0
//! Columns that line up, and numbers as people read them.

use crate::{analysis::Clock, trace::escape};

/// Columns are no wider than this: a longer cell runs over, instead of making every line as long.
const WIDEST: usize = 256;

/// Rows of cells; a column whose title begins with `>` is set to the right.
pub(crate) struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each title. Cells are made safe to print.
    pub(crate) fn row<const N: usize>(&mut self, cells: &[String; N]) {
        self.rows.push(cells.iter().map(|cell| escape(cell)).collect());
    }

    /// Keeps the first rows; returns how many are left out.
    pub(super) fn cut(&mut self, top: usize) -> usize {
        let hidden = self.rows.len().saturating_sub(top);
        self.rows.truncate(top);
        hidden
    }

    /// Appends the table with each line indented by two; without rows, nothing. A column with empty cells only is left
    /// out.
    pub(super) fn show(&self, out: &mut String) {
        for line in self.lines() {
            out.push_str(&line);
            out.push('\n');
        }
    }

    /// The same line by line, the titles first.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let titles: Vec<String> = self.titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let columns: Vec<(usize, usize)> = (0..titles.len())
            .filter(|&column| self.rows.iter().any(|row| !cell(row, column).is_empty()))
            .map(|column| {
                let lines = self.rows.iter().chain([&titles]);
                (column, lines.map(|row| cell(row, column).chars().count()).max().unwrap_or(0).min(WIDEST))
            })
            .collect();
        let line = |row: &Vec<String>| {
            let mut line = String::from(" ");
            for &(column, width) in &columns {
                let text = cell(row, column);
                line.push_str(&match self.titles[column].starts_with('>') {
                    true => format!(" {text:>width$} "),
                    false => format!(" {text:<width$} "),
                });
            }
            line.truncate(line.trim_end().len());
            line
        };
        [&titles].into_iter().chain(&self.rows).map(line).collect()
    }
}

/// A size: exact below 10 KiB, else to three digits or more.
pub fn bytes(bytes: u64) -> String {
    if bytes < 10 * 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if value < 100.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A difference of sizes.
pub(crate) fn signed_bytes(difference: i64) -> String {
    match difference {
        0 => "0 B".to_owned(),
        1.. => format!("+{}", bytes(difference.unsigned_abs())),
        _ => format!("-{}", bytes(difference.unsigned_abs())),
    }
}

/// A number and what it counts, e.g. `1 gap`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A time, by what the times of its process are.
pub(crate) fn when(at: u64, clock: Clock) -> String {
    match clock {
        Clock::Time => time(at),
        Clock::Lines => format!("line {at}"),
        Clock::Nodes => format!("node {at}"),
    }
}

/// A time relative to the start, in seconds.
fn time(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1000)
}

/// A span of time, as people say it.
pub(super) fn seconds(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        1_000_000_000..600_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        _ => format!("{} min", ns / 60_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0, 2048, 10_240, 1_048_576, 1_500_000_000, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "2048 B", "10.0 KiB", "1.0 MiB", "1.4 GiB", "16777216 TiB"]);
        assert_eq!([5, 0, -20_480].map(signed_bytes), ["+5 B", "0 B", "-20.0 KiB"]);
        assert_eq!(time(61_000_002_500), "61.000002");
        let spans = [2_000, 3_900_000, 61_040_000_000, 7_200_000_000_000].map(seconds);
        assert_eq!(spans, ["2 µs", "3 ms", "61.0 s", "120 min"]);
    }

    #[test]
    fn columns_line_up_and_stay_on_their_line() {
        let mut table = Table::new(&["name", "nothing", ">count"]);
        table.row(&["a".to_owned(), String::new(), "1000".to_owned()]);
        table.row(&["long\x1b[2J\nname".to_owned(), String::new(), "1".to_owned()]);
        let mut out = String::new();
        table.show(&mut out);
        assert_eq!(out, "  name                 count\n  a                     1000\n  long\\u{1b}[2J\\nname      1\n");
    }

    #[test]
    fn one_long_cell_does_not_make_every_line_long() {
        let mut table = Table::new(&["name", ">count"]);
        for name in ["a".to_owned(), "b".repeat(100_000)] {
            table.row(&[name, "1".to_owned()]);
        }
        let mut out = String::new();
        table.show(&mut out);
        assert!(out.len() < 100_000 + 3 * (WIDEST + 20), "{} bytes", out.len());
    }
}
