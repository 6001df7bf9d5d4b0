// SPDX-License-Identifier: Apache-2.0
//! Lives that overlap need rows of their own: a life has a lane from its begin to its end, the lowest that is free.

use std::collections::BTreeSet;

/// How many free lanes are looked at, so that forged times cost no more.
const LOOKED_AT: usize = 16;

/// The lanes of one memory.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    free: BTreeSet<u32>,
    /// When the last life on each lane ended.
    ended: Vec<u64>,
}

impl Lanes {
    /// A lane for a life that begins.
    pub(super) fn take(&mut self, begin: u64) -> u32 {
        let lowest = self.free.iter().take(LOOKED_AT);
        let free = lowest.copied().find(|&lane| self.ended.get(lane as usize).is_some_and(|&ended| ended <= begin));
        let lane = free.unwrap_or_else(|| {
            self.ended.push(0);
            self.ended.len() as u32 - 1
        });
        self.free.remove(&lane);
        lane
    }

    /// The life on a lane ended: from then on it is free.
    pub(super) fn leave(&mut self, lane: u32, end: u64) {
        if let Some(ended) = self.ended.get_mut(lane as usize) {
            *ended = end;
            self.free.insert(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_on_one_lane_do_not_overlap() {
        let mut lanes = Lanes::default();
        assert_eq!((lanes.take(10), lanes.take(20)), (0, 1));
        lanes.leave(0, 30);
        assert_eq!(lanes.take(25), 2, "it was seen to begin late, by another thread");
        assert_eq!(lanes.take(30), 0);
        lanes.leave(1, 50);
        lanes.leave(2, 40);
        assert_eq!((lanes.take(60), lanes.take(60), lanes.take(60)), (1, 2, 3));
    }
}
