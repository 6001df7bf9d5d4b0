// SPDX-License-Identifier: Apache-2.0
//! How many allocations and frees there are a second, of late.

use std::{collections::VecDeque, time::Duration};

/// Nanoseconds of one count.
const STEP: u64 = 500_000_000;
/// How many counts make a rate: five seconds.
const STEPS: u64 = 10;

/// Counts of the last few seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// Numbers of steps, allocations, frees.
    steps: VecDeque<(u64, [u64; 2])>,
}

impl Pace {
    pub(super) fn allocation(&mut self, time: u64) {
        self.step(time)[0] += 1;
    }

    pub(super) fn free(&mut self, time: u64) {
        self.step(time)[1] += 1;
    }

    /// Allocations and frees a second, at a time after which nothing came for so long.
    pub(super) fn rates(&self, last: u64, idle: Duration) -> [f64; 2] {
        // What comes is up to a second old.
        let idle = idle.saturating_sub(Duration::from_secs(1)).as_nanos() as u64;
        let now = last.saturating_add(idle) / STEP;
        let recent = self.steps.iter().filter(|(step, _)| step + STEPS > now);
        let counts = recent.fold([0; 2], |sum, (_, count)| [sum[0] + count[0], sum[1] + count[1]]);
        let seconds = (STEPS.min(now + 1) * STEP) as f64 / 1e9;
        counts.map(|count| count as f64 / seconds)
    }

    fn step(&mut self, time: u64) -> &mut [u64; 2] {
        let step = time / STEP;
        // What comes late counts now.
        if self.steps.back().is_none_or(|(last, _)| *last < step) {
            self.steps.push_back((step, [0; 2]));
        }
        while self.steps.len() > STEPS as usize {
            self.steps.pop_front();
        }
        let last = self.steps.len() - 1;
        &mut self.steps[last].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut pace = Pace::default();
        let second = 1_000_000_000;
        for time in (0..60).map(|tenth| tenth * second / 10) {
            pace.allocation(time);
            if time >= 3 * second {
                pace.free(time);
            }
        }
        let last = 6 * second - 1;
        assert_eq!(pace.rates(last, Duration::ZERO), [10.0, 6.0]);
        assert_eq!(pace.rates(last, Duration::from_secs(3)), [6.0, 6.0], "two of five seconds were idle");
        assert_eq!(pace.rates(last, Duration::from_secs(60)), [0.0, 0.0]);
        assert!(pace.steps.len() <= STEPS as usize);
    }

    #[test]
    fn a_recording_that_has_just_begun_has_a_rate() {
        let mut pace = Pace::default();
        pace.allocation(400_000_000);
        assert_eq!(pace.rates(400_000_000, Duration::ZERO), [2.0, 0.0]);
    }
}
