// SPDX-License-Identifier: Apache-2.0
//! What the events add up to while they are recorded: for the progress line and the summary, not for verdicts.

use std::collections::{HashMap, HashSet};

use crate::{
    trace::{Event, Kind},
    unwind::End,
};

/// Running sums.
#[derive(Debug, Default)]
pub struct Tally {
    /// Events that were kept.
    pub events: u64,
    /// Allocations that succeeded.
    pub allocated: u64,
    /// Frees of owners that were allocated.
    pub freed: u64,
    /// Bytes on one device in buffers that were allocated since the recording began and are not freed.
    pub live_bytes: u64,
    /// Stacks that were walked to their end.
    pub complete: u64,
    /// Stacks that were not.
    pub incomplete: u64,
    /// Size and allocator by unique id.
    live: HashMap<u64, (u64, u64)>,
    problems: HashSet<String>,
}

impl Tally {
    /// Counts an event.
    pub fn event(&mut self, event: &Event) {
        self.events += 1;
        match event.kind {
            Kind::Allocated => {
                self.allocated += 1;
                self.live_bytes += event.size;
                self.live.insert(event.unique_id, (event.size, event.allocator));
            }
            Kind::Free | Kind::Marked | Kind::Destroyed if event.status != 0 => {
                if event.kind == Kind::Free && event.status == 1 {
                    self.freed += 1;
                }
                let (size, _) = self.live.remove(&event.unique_id).unwrap_or_default();
                self.live_bytes = self.live_bytes.saturating_sub(size);
            }
            Kind::Bulk => {
                self.live.retain(|_, (_, allocator)| *allocator != event.object);
                self.live_bytes = self.live.values().map(|(size, _)| size).sum();
            }
            _ => {}
        }
    }

    /// Counts how a walk ended.
    pub fn walk(&mut self, end: End) {
        match end {
            End::Complete => self.complete += 1,
            _ => self.incomplete += 1,
        }
    }

    /// Whether a problem is told for the first time.
    pub fn problem(&mut self, text: &str) -> bool {
        self.problems.insert(text.to_string())
    }
}
