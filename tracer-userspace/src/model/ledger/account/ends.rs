// SPDX-License-Identifier: Apache-2.0
//! The ends of buffers that no free makes, and of the account.

use super::{Account, Blocks, Live, Pending, both, end};
use crate::{
    model::{Buffer, Certainty, Entry, Moment, Outcome, Previous, Verdict, recent::Ended},
    trace::Event,
};

impl Account {
    pub(super) fn marked(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        *self.threads.of(moment.thread) = Some(Pending::Marked(event.unique_id));
        if let Some(live) = self.remove_live(event.unique_id, moment) {
            self.forget_block(&live.buffer);
            let verdict = if live.buffer.phantom { Verdict::Phantom } else { Verdict::Marked };
            self.decide(&end(live.buffer, verdict, moment), sink);
        } else if let Some(&ended) = self.recent.get(event.unique_id) {
            self.late_mark(ended, moment, sink);
        } else if self.buffer(event).phantom {
            self.decide(&end(self.buffer(event), Verdict::Phantom, moment), sink);
        } else if !event.owns {
            // A pointer that dangles does not point to a device's table of functions, so that no class is read there.
            let buffer = self.buffer_on_device(event);
            self.report(Outcome { ends: false, ..end(buffer, Verdict::AliasFree, moment) }, false, sink);
        } else {
            let (verdict, certainty) = self.older(event.unique_id).unwrap_or((Verdict::Marked, Certainty::Possible));
            self.decide(&Outcome { certainty, ..end(self.buffer(event), verdict, moment) }, sink);
        }
    }

    /// The destructor of a deallocated owner: news only if nothing showed the deallocation.
    pub(super) fn destroyed(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        if self.live.get(event.unique_id).is_some_and(Live::is_leaked) {
            return;
        }
        if let Some(live) = self.remove_live(event.unique_id, moment) {
            let certainty = self.certainty_since_allocation(&live.buffer);
            let verdict = if live.buffer.phantom { Verdict::Phantom } else { Verdict::Marked };
            self.forget_block(&live.buffer);
            self.decide(&Outcome { certainty, ..end(live.buffer, verdict, moment) }, sink);
        } else if let Some(&ended) = self.recent.get(event.unique_id) {
            self.late_mark(ended, moment, sink);
        } else {
            self.blocks.note_left(event.buffer_type, event.address, moment.time);
        }
    }

    /// A bulk release does not change the status, so somebody marked the buffer after it. After any other end, this is
    /// nothing new.
    fn late_mark(&mut self, ended: Ended, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        if ended.verdict == Verdict::Bulk && !ended.leaked {
            let previous = Previous::Free(ended.moment, ended.verdict);
            let certainty = self.certainty_since_allocation(&ended.buffer);
            if let Some(ended) = self.recent.get_mut(ended.buffer.unique_id) {
                ended.verdict = Verdict::Marked;
            }
            let outcome = Outcome { certainty, previous, ends: false, ..end(ended.buffer, Verdict::Marked, moment) };
            sink(&Entry::Outcome(outcome));
        }
    }

    pub(super) fn bulk(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        let allocator = event.object;
        self.tells_bulk = true;
        if self.border != Some(0) {
            self.unseen_ends = Some(moment.time);
            self.emptied.insert(allocator);
        }
        self.blocks.take_all_back(allocator);
        for unique_id in self.live.of(allocator) {
            let Some(live) = self.remove_live(unique_id, moment) else { continue };
            let verdict = if live.buffer.phantom { Verdict::Phantom } else { Verdict::Bulk };
            // A free of its own may be among what was lost.
            let (certainty, previous) = (self.certainty_of_block(&live.buffer), live.previous());
            self.decide(&Outcome { certainty, previous, ..end(live.buffer, verdict, moment) }, sink);
        }
    }

    /// Ends a buffer that must have ended, unseen: a free was lost, or the status was set inline. It was removed from the
    /// live ones.
    pub(super) fn end_unseen(
        &mut self,
        buffer: Buffer,
        verdict: Verdict,
        moment: Moment,
        sink: &mut impl FnMut(&Entry),
    ) {
        self.forget_block(&buffer);
        let verdict = if buffer.found && verdict == Verdict::Released { Verdict::PreAttach } else { verdict };
        let unseen = Moment { stack: 0, thread: 0, ..moment };
        self.decide(&Outcome { certainty: Certainty::Possible, ..end(buffer, verdict, unseen) }, sink);
    }

    /// Ends the account: what is live is held, for good if the process itself ended (`exited`); else it may be freed yet.
    pub(in crate::model::ledger) fn end(&mut self, time: u64, exited: bool, sink: &mut impl FnMut(&Entry)) {
        for pending in std::mem::take(&mut self.threads).into_all() {
            let went_on = exited && !pending.may_be_cut();
            self.settle(Some(pending), went_on, sink);
        }
        self.blocks = Blocks::default();
        for live in std::mem::take(&mut self.live).into_all() {
            let (verdict, told) = match (live.buffer.phantom, exited) {
                (true, _) => (Verdict::Phantom, Certainty::Confirmed),
                (false, true) => (Verdict::Held, Certainty::Confirmed),
                (false, false) => (Verdict::Held, Certainty::Possible),
            };
            let certainty = both(told, self.certainty_of_block(&live.buffer));
            let (moment, previous) = (Moment { time, thread: 0, test: 0, stack: 0 }, live.previous());
            sink(&Entry::Outcome(Outcome { certainty, previous, ..end(live.buffer, verdict, moment) }));
        }
    }

    pub(super) fn decide(&mut self, outcome: &Outcome, sink: &mut impl FnMut(&Entry)) {
        self.remember(outcome);
        sink(&Entry::Outcome(*outcome));
    }

    pub(super) fn remember(&mut self, outcome: &Outcome) {
        let Outcome { buffer, moment, verdict, previous, .. } = *outcome;
        if buffer.allocated.is_none() {
            self.blocks.note_left(buffer.buffer_type, buffer.address, moment.time);
        }
        let leaked = matches!(previous, Previous::Free(_, Verdict::Leaked));
        self.recent.insert(Ended { buffer, moment, verdict, leaked });
    }
}
