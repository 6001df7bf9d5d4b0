// SPDX-License-Identifier: Apache-2.0
//! How a number went over the whole time, in bounded memory: the longer that is, the coarser.

/// How many spans of time are told apart.
const SPANS: usize = 512;

/// The largest values of a number in equal spans of time since the start.
#[derive(Clone, Debug)]
pub struct History {
    /// Length of a span, nanoseconds.
    span: u64,
    largest: Vec<u64>,
    now: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { span: 1, largest: Vec::new(), now: 0 }
    }
}

impl History {
    /// Notes the value from this time on, in nanoseconds after the start.
    pub(super) fn note(&mut self, time: u64, value: u64) {
        while time / self.span >= SPANS as u64 {
            self.span *= 2;
            self.largest = self.largest.chunks(2).filter_map(|pair| pair.iter().copied().max()).collect();
        }
        let index = (time / self.span) as usize;
        // It stayed what it was until now. What comes late belongs to the past, of which the order is not known.
        self.largest.resize(self.largest.len().max(index + 1), self.now);
        self.largest[index] = self.largest[index].max(value);
        self.now = value;
    }

    /// The largest values in so many equal parts of the time until `end`.
    #[must_use]
    pub fn columns(&self, columns: usize, end: u64) -> Vec<u64> {
        let spans = (end / self.span + 1) as usize;
        let at = |column: usize| column * spans / columns.max(1);
        let column = |index: usize| {
            let (from, to) = (at(index), at(index + 1).max(at(index) + 1));
            let known = self.largest.get(from..to.min(self.largest.len())).unwrap_or(&[]);
            let after = (to > self.largest.len()).then_some(self.now);
            known.iter().copied().chain(after).max().unwrap_or(0)
        };
        (0..columns).map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_time_is_told_coarsely_and_no_peak_is_missing() {
        let mut history = History::default();
        let hour = 3_600_000_000_000;
        for second in 0..36_000_u64 {
            let value = if second == 20_000 { 77 } else { second / 3600 };
            history.note(second * 1_000_000_000, value);
        }
        assert!(history.largest.len() <= SPANS);
        // The last span of the fifth hour has some seconds of the sixth.
        assert_eq!(history.columns(10, 10 * hour - 1), [0, 1, 2, 3, 5, 77, 6, 7, 8, 9]);
        assert_eq!(history.columns(2, 20 * hour - 1), [77, 9], "it stays what it is");
        assert_eq!(History::default().columns(3, hour), [0; 3]);
    }

    #[test]
    fn lines_of_a_log_are_times_too() {
        let mut history = History::default();
        for line in 0..8 {
            history.note(line, line);
        }
        assert_eq!(history.columns(4, 7), [1, 3, 5, 7]);
        assert_eq!(history.columns(16, 7)[14..], [7, 7]);
    }
}
