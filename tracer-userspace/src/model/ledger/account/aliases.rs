// SPDX-License-Identifier: Apache-2.0
//! Buffers that own nothing: their making, and frees that they report.
//!
//! Whose memory an alias is over is not recorded where it ends. But unique ids rise, so its owner is older; and a part
//! of a mesh buffer and a view have the address of their owner. Which chips a mesh has is not recorded, so owners on any
//! device count.

use super::{Account, both, device};
use crate::{
    model::{Alias, Buffer, Certainty, Entry, Moment, Outcome, Previous, Verdict},
    trace::Event,
};

impl Account {
    /// An alias is made, or reported as an allocation; its unique id is known in the second case only.
    pub(super) fn alias(
        &mut self,
        event: &Event,
        unique_id: Option<u64>,
        moment: Moment,
        sink: &mut impl FnMut(&Entry),
    ) {
        let &Event { buffer_type, address, size, .. } = event;
        let owner = self.blocks.owner_before(buffer_type, address, unique_id.unwrap_or(u64::MAX));
        let (process, device) = (self.process, device(event));
        sink(&Entry::Alias(Alias { process, unique_id, device, buffer_type, address, size, owner, moment }));
    }

    /// An alias reports that it is freed; no memory is released. What only reports can do no harm, but an allocator that
    /// was told to free what is free already can.
    pub(super) fn report(&mut self, outcome: Outcome, reached_allocator: bool, sink: &mut impl FnMut(&Entry)) {
        let buffer = outcome.buffer;
        let possible = Outcome { verdict: Verdict::AliasFree, certainty: Certainty::Possible, ..outcome };
        let owner = self.blocks.owner_before(buffer.buffer_type, buffer.address, buffer.unique_id);
        // An alias from before the recording may be over what was released before it.
        let older = self.older(buffer.unique_id).is_some();
        let owner = owner.and_then(|owner| self.live.get(owner)).filter(|owner| !(owner.buffer.found && older));
        let outcome = if let Some(owner) = owner {
            // Its own owner may be an older one, on another device; of one that was never seen, this free is a stolen one.
            let since = if reached_allocator { 0 } else { owner.requested };
            let certainty = match self.another_left(&buffer, owner.requested) {
                true => Certainty::Possible,
                false => self.certainty_since(since),
            };
            Outcome { certainty, other: Some(owner.buffer), ..possible }
        } else if let Some((verdict, certainty)) = self.older(buffer.unique_id) {
            // If a free before this was lost, it did release memory.
            Outcome { verdict, certainty: both(certainty, self.certainty_since(0)), ..possible }
        } else if let Some(owner) =
            self.recent.owner_before(buffer.buffer_type, buffer.address, buffer.unique_id).copied()
        {
            // Behind a gap, the next owner may be there unseen; and if there were buffers before the recording, so may one
            // of those, on another device.
            let gap = self.certainty_since(owner.moment.time) == Certainty::Possible;
            let verdict = if gap || !reached_allocator { Verdict::AliasFree } else { Verdict::StaleFree };
            let all_seen = match self.border == Some(0) || !reached_allocator {
                true => Certainty::Confirmed,
                false => Certainty::Possible,
            };
            let previous = Previous::Free(owner.moment, owner.verdict);
            Outcome {
                verdict,
                certainty: both(all_seen, self.certainty_since(0)),
                previous,
                other: Some(owner.buffer),
                ..possible
            }
        } else {
            possible
        };
        sink(&Entry::Outcome(outcome));
    }

    /// Whether an owner at an alias's address left while the one that is there lived, on another device: the alias may be
    /// its. Or whether owners may have gone unseen.
    fn another_left(&self, alias: &Buffer, since: u64) -> bool {
        self.unseen_ends.is_some_and(|time| time >= since)
            || self.blocks.owner_left(alias.buffer_type, alias.address, since)
    }
}
