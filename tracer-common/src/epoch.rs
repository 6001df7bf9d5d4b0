// SPDX-License-Identifier: Apache-2.0
//! How often a target's modules have changed.

/// Bits of the number.
const NUMBER: u64 = (1 << 32) - 1;
/// An unload, in the bits that count them.
const UNLOAD: u64 = 1 << 32;
/// Whether an unload has begun and not ended.
const UNLOADING: u64 = 1 << 63;

/// The modules of a target as of a moment, in one word that is compared whole: how often they have changed by then, which is
/// the epoch's number, and how often any were unloaded. The dynamic linker says both, before and after each change, one change
/// at a time.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch(pub u64);

impl Epoch {
    /// That of a forked child's stacks as long as its modules are those that it was born with, for all that is known.
    pub const INHERITED: Self = Self(0);
    /// The first of a forked child's own modules.
    pub const FIRST_OWN: Self = Self(1);

    /// The next one, by what the dynamic linker says of itself.
    #[must_use]
    pub const fn next(self, state: LinkerState) -> Self {
        let number = self.0.wrapping_add(1) & NUMBER;
        let unloads = self.0 & !NUMBER & !UNLOADING;
        Self(match state {
            LinkerState::Other => number | unloads,
            LinkerState::Unloading => number | unloads.wrapping_add(UNLOAD) & !UNLOADING | UNLOADING,
            LinkerState::Unknown => number | unloads.wrapping_add(UNLOAD) & !UNLOADING,
        })
    }

    /// The changes by then.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// The unloads that may have ended between the moment of `before` and this one, if less than 2³¹ have.
    #[must_use]
    pub const fn unloads_since(self, before: Self) -> u32 {
        let ended = before.unloads().wrapping_sub((before.0 & UNLOADING != 0) as u32);
        self.unloads().wrapping_sub(ended) & (u32::MAX >> 1)
    }

    /// Those that had begun.
    const fn unloads(self) -> u32 {
        (self.0 >> 32) as u32 & (u32::MAX >> 1)
    }
}

/// What the dynamic linker is about, as it tells debuggers: `r_state` of `_r_debug`, in glibc's `elf/link.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkerState {
    /// It has begun to unload modules: `RT_DELETE`.
    Unloading,
    /// It has begun to load some, or has done what it had begun: `RT_ADD`, `RT_CONSISTENT`.
    Other,
    /// It can't be read, or there are several name spaces of modules (`dlmopen`), of which it tells of one only.
    Unknown,
}

impl LinkerState {
    /// From the first words of `_r_debug`, where `r_version` is 1 as long as there is one name space (glibc 2.35 and later).
    #[must_use]
    pub const fn of(debug: &[u64; 4]) -> Self {
        let [version, _, _, state] = *debug;
        match (version as u32, state as u32) {
            (1, 0 | 1) => Self::Other,
            (1, 2) => Self::Unloading,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [LinkerState; 4] =
        [LinkerState::Other, LinkerState::Other, LinkerState::Unloading, LinkerState::Other];

    #[test]
    fn each_change_is_another_epoch() {
        let mut epoch = Epoch::default();
        for (state, number) in STATES.into_iter().zip(1..) {
            epoch = epoch.next(state);
            assert_eq!(epoch.number(), number);
        }
    }

    #[test]
    fn what_is_being_unloaded_may_go_at_any_moment_of_it() {
        let [added, consistent, unloading, after] = {
            let mut epoch = Epoch::FIRST_OWN;
            STATES.map(|state| {
                epoch = epoch.next(state);
                epoch
            })
        };
        assert_eq!(consistent.unloads_since(added), 0);
        assert_eq!(unloading.unloads_since(added), 1);
        assert_eq!(unloading.unloads_since(unloading), 1);
        assert_eq!(after.unloads_since(unloading), 1);
        assert_eq!(after.unloads_since(after), 0);
        assert_eq!(after.next(LinkerState::Unknown).unloads_since(after), 1);
    }

    #[test]
    fn counts_come_round() {
        let last = Epoch(!UNLOADING);
        let next = last.next(LinkerState::Unloading);
        assert_eq!((next.number(), next.unloads_since(last)), (0, 1));
        assert_eq!(next.next(LinkerState::Other).unloads_since(last), 1);
    }

    #[test]
    fn only_one_name_space_is_known() {
        assert_eq!(LinkerState::of(&[1, 0, 0, 2]), LinkerState::Unloading);
        assert_eq!(LinkerState::of(&[1, 0, 0, 0]), LinkerState::Other);
        assert_eq!(LinkerState::of(&[2, 0, 0, 0]), LinkerState::Unknown);
        assert_eq!(LinkerState::of(&[0; 4]), LinkerState::Unknown);
    }
}
