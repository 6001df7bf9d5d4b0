// SPDX-License-Identifier: Apache-2.0
//! What each way to free a buffer means to the account.

use super::{ALLOCATED, Account, Pending, device, emit};
use crate::{
    model::{Buffer, Certainty, Entry, Moment, Outcome, Previous, Verdict, recent::Ended},
    trace::Event,
};

impl Account {
    pub(super) fn free(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        if event.status != ALLOCATED {
            self.repeat(event, moment, sink);
        } else if let Some(buffer) = self.live.remove(&event.unique_id) {
            if buffer.phantom {
                self.close(buffer, Verdict::Phantom, Certainty::Confirmed, moment, sink);
            } else {
                self.await_release(buffer, Verdict::AfterClose, Certainty::Confirmed, moment, Previous::None);
            }
        } else if let Some(&ended) = self.recent.get(event.unique_id) {
            // A bulk release leaves the status as it was; after any other end it cannot be "allocated".
            let certainty = match ended.verdict {
                Verdict::Bulk => Certainty::Confirmed,
                _ => Certainty::Possible,
            };
            self.contradictions += u64::from(certainty == Certainty::Possible);
            let previous = Previous::Free(ended.moment, ended.verdict);
            self.await_release(ended.buffer, Verdict::AfterClose, certainty, moment, previous);
        } else if event.hooked || event.size == 0 {
            self.close(self.buffer(event), Verdict::Phantom, Certainty::Confirmed, moment, sink);
        } else if let Some(certainty) = self.pre_attach(event.unique_id) {
            self.await_release(self.buffer(event), Verdict::PreAttach, certainty, moment, Previous::None);
        } else {
            // Its allocation was lost, or it was released in bulk too long ago to be remembered.
            let buffer = self.buffer(event);
            self.await_release(buffer, Verdict::AfterClose, Certainty::Possible, moment, Previous::None);
        }
    }

    /// A free of what is deallocated already.
    fn repeat(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        if let Some(buffer) = self.live.remove(&event.unique_id) {
            self.end_unseen(buffer, moment, sink);
            emit(buffer, Verdict::Repeat, Certainty::Confirmed, moment, Previous::Unseen, false, sink);
            return;
        }
        let (buffer, previous) = match self.recent.get(event.unique_id) {
            Some(ended) => (ended.buffer, Previous::Free(ended.moment, ended.verdict)),
            None if self.recent.has_forgotten() => (self.buffer(event), Previous::Forgotten),
            None => (self.buffer(event), Previous::Unseen),
        };
        emit(buffer, Verdict::Repeat, Certainty::Confirmed, moment, previous, false, sink);
    }

    pub(super) fn released(
        &mut self,
        event: &Event,
        moment: Moment,
        pending: Option<Pending>,
        sink: &mut impl FnMut(&Entry),
    ) {
        match pending {
            Some(Pending::Free(outcome)) if outcome.buffer.unique_id == event.unique_id => {
                let verdict = match outcome.verdict {
                    Verdict::PreAttach => Verdict::PreAttach,
                    _ => Verdict::Released,
                };
                // The device of a buffer that reaches its allocator is alive; so that of one from before is learned here.
                let device = outcome.buffer.device.or(device(event));
                self.decide(Outcome { verdict, buffer: Buffer { device, ..outcome.buffer }, ..outcome }, sink);
            }
            other => {
                self.settle(other, true, sink);
                // The free itself was lost, but the release is here to see.
                if let Some(buffer) = self.live.remove(&event.unique_id) {
                    let verdict = if buffer.phantom { Verdict::Phantom } else { Verdict::Released };
                    self.close(buffer, verdict, Certainty::Confirmed, moment, sink);
                } else if self.recent.get(event.unique_id).is_none() {
                    let (verdict, certainty) = match self.pre_attach(event.unique_id) {
                        Some(certainty) => (Verdict::PreAttach, certainty),
                        None => (Verdict::Released, Certainty::Possible),
                    };
                    self.close(self.buffer(event), verdict, certainty, moment, sink);
                }
            }
        }
    }

    pub(super) fn marked(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        if let Some(buffer) = self.live.remove(&event.unique_id) {
            self.close(buffer, Verdict::Marked, Certainty::Confirmed, moment, sink);
        } else if let Some(&ended) = self.recent.get(event.unique_id) {
            self.late_mark(ended, moment, sink);
        } else if let Some(certainty) = self.pre_attach(event.unique_id) {
            self.close(self.buffer(event), Verdict::PreAttach, certainty, moment, sink);
        } else {
            self.close(self.buffer(event), Verdict::Marked, Certainty::Possible, moment, sink);
        }
    }

    /// The destructor of a deallocated owner: news only if nothing showed the deallocation.
    pub(super) fn destroyed(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        if let Some(buffer) = self.live.remove(&event.unique_id) {
            let certainty = self.certainty_since(buffer.allocated.map_or(0, |moment| moment.time));
            let verdict = if buffer.phantom { Verdict::Phantom } else { Verdict::Marked };
            self.close(buffer, verdict, certainty, moment, sink);
        } else if let Some(&ended) = self.recent.get(event.unique_id) {
            self.late_mark(ended, moment, sink);
        }
    }

    /// A bulk release does not change the status, so somebody marked the buffer after it. After any other end, this is
    /// nothing new.
    fn late_mark(&mut self, ended: Ended, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        if ended.verdict == Verdict::Bulk {
            let previous = Previous::Free(ended.moment, ended.verdict);
            let certainty = self.certainty_since(ended.moment.time);
            if let Some(ended) = self.recent.get_mut(ended.buffer.unique_id) {
                ended.verdict = Verdict::Marked;
            }
            emit(ended.buffer, Verdict::Marked, certainty, moment, previous, false, sink);
        }
    }

    pub(super) fn bulk(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        let allocator = event.object;
        let released: Vec<_> = self.live.extract_if(.., |_, buffer| buffer.allocator == allocator).collect();
        for (_, buffer) in released {
            let verdict = if buffer.phantom { Verdict::Phantom } else { Verdict::Bulk };
            // A free of its own may be among what was lost.
            let certainty = self.certainty_since(buffer.allocated.map_or(0, |moment| moment.time));
            self.close(buffer, verdict, certainty, moment, sink);
        }
    }

    /// Leaves a free to the thread's next event: a release, or anything else, and then the verdict is `otherwise`.
    fn await_release(
        &mut self,
        buffer: Buffer,
        otherwise: Verdict,
        certainty: Certainty,
        moment: Moment,
        previous: Previous,
    ) {
        let ends = previous == Previous::None;
        let outcome = Outcome { buffer, verdict: otherwise, certainty, moment, previous, ends };
        self.remember(&outcome);
        self.threads.insert(moment.thread, Pending::Free(outcome));
    }

    /// Ends a buffer that must have been deallocated, unseen: a free was lost, or the status was set inline.
    pub(super) fn end_unseen(&mut self, buffer: Buffer, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        let unseen = Moment { stack: 0, thread: 0, ..moment };
        self.close(buffer, Verdict::Marked, Certainty::Possible, unseen, sink);
    }

    /// Whether a buffer that is not known was there before recording began; without a border that is only possible.
    fn pre_attach(&self, unique_id: u64) -> Option<Certainty> {
        match self.border {
            Some(border) => (unique_id < border).then_some(Certainty::Confirmed),
            None => Some(Certainty::Possible),
        }
    }
}
