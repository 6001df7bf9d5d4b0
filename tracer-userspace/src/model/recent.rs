// SPDX-License-Identifier: Apache-2.0
//! The memory of buffers freed lately, by which a repeat is told from a free of something unknown.

use std::collections::{HashMap, VecDeque};

use super::{Buffer, Moment, Verdict};

/// How many freed buffers are remembered for each process, the latest first to stay.
pub const REMEMBERED: usize = 65_536;

/// The end of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) buffer: Buffer,
    pub(super) moment: Moment,
    pub(super) verdict: Verdict,
}

/// The last [`REMEMBERED`] ended buffers by their unique id.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ended: HashMap<u64, Ended>,
    order: VecDeque<u64>,
    forgotten: bool,
}

impl Recent {
    pub(super) fn insert(&mut self, ended: Ended) {
        let unique_id = ended.buffer.unique_id;
        if self.ended.insert(unique_id, ended).is_none() {
            self.order.push_back(unique_id);
        }
        while self.order.len() > REMEMBERED {
            let oldest = self.order.pop_front();
            self.forgotten |= oldest.is_some_and(|oldest| self.ended.remove(&oldest).is_some());
        }
    }

    pub(super) fn get(&self, unique_id: u64) -> Option<&Ended> {
        self.ended.get(&unique_id)
    }

    pub(super) fn get_mut(&mut self, unique_id: u64) -> Option<&mut Ended> {
        self.ended.get_mut(&unique_id)
    }

    /// Whether any buffer had to be forgotten.
    pub(super) fn has_forgotten(&self) -> bool {
        self.forgotten
    }
}
