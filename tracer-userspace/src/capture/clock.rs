// SPDX-License-Identifier: Apache-2.0
//! The clock that events have their times by: that since boot, which nobody can set, as the kernel itself has it.

use std::{fs, sync::LazyLock};

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

const SECOND: i64 = 1_000_000_000;

/// How far the clock is ahead in our time name space.
static AHEAD: LazyLock<i64> =
    LazyLock::new(|| fs::read_to_string("/proc/self/timens_offsets").map_or(0, |text| ahead(&text)));

/// Nanoseconds since boot, as the kernel side's clock has it.
#[must_use]
pub fn boot_now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let ours = now.tv_sec.wrapping_mul(SECOND).wrapping_add(now.tv_nsec);
    ours.wrapping_sub(*AHEAD).max(0).cast_unsigned()
}

/// The same time in ticks, as `/proc` says of processes when they began.
#[must_use]
pub fn ticks(boot: u64) -> u64 {
    boot.saturating_add_signed(*AHEAD) / (SECOND.cast_unsigned() / clock_ticks_per_second().max(1))
}

/// The offset of the clock since boot in nanoseconds, from the kernel's list: a clock's name, seconds and nanoseconds a
/// line. There is none where the kernel has no time name spaces.
fn ahead(offsets: &str) -> i64 {
    let numbers = offsets.lines().find_map(|line| line.strip_prefix("boottime "));
    let mut numbers = numbers.unwrap_or_default().split_ascii_whitespace().map_while(|word| word.parse::<i64>().ok());
    let (seconds, rest) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    seconds.saturating_mul(SECOND).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_that_of_the_clock_since_boot() {
        assert_eq!(ahead("monotonic           7         0\nboottime      1000000 500000000\n"), 1_000_000_500_000_000);
        assert_eq!(ahead("monotonic           0         0\nboottime           -2         1\n"), -1_999_999_999);
        assert_eq!((ahead(""), ahead("boottime x"), ahead("boottime 9223372036854775807 5")), (0, 0, i64::MAX));
    }
}
