// SPDX-License-Identifier: Apache-2.0
//! What a free means to the account, and the release that follows it or does not.

use super::{ALLOCATED, Account, Live, Pending, Place, both, end};
use crate::{
    model::{
        Buffer, Certainty, Entry, Moment, Outcome, Previous, Verdict,
        ledger::rule::{Effect, Origin},
        recent::Ended,
    },
    trace::Event,
};

impl Account {
    pub(super) fn free(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        if event.status != ALLOCATED {
            self.repeat(event, moment, sink);
            return;
        }
        let (outcome, origin) = self.begin_free(event, moment);
        if outcome.verdict == Verdict::Phantom {
            self.decide(&outcome, sink);
            return;
        }
        if origin != Origin::Alias {
            self.remember(&outcome);
        }
        *self.threads.of(moment.thread) = Some(Pending::Free(Box::new(outcome), origin));
    }

    /// What is freed, with the verdict that stands if no allocator is called.
    fn begin_free(&mut self, event: &Event, moment: Moment) -> (Outcome, Origin) {
        if let Some(live) = self.remove_live(event.unique_id, moment) {
            let (verdict, origin) = match live.buffer {
                Buffer { phantom: true, .. } => (Verdict::Phantom, Origin::Owner),
                Buffer { found: true, .. } => (Verdict::PreAttach, Origin::Older(Verdict::PreAttach)),
                _ => (Verdict::AfterClose, Origin::Owner),
            };
            // Of one that was found, a bulk release may be lost; one that leaked can't be allocated still.
            let certainty = match (live.buffer.found, live.is_leaked()) {
                (true, _) => self.certainty_since_allocation(&live.buffer),
                (false, true) => self.contradicted(),
                (false, false) => Certainty::Confirmed,
            };
            return (Outcome { certainty, previous: live.previous(), ..end(live.buffer, verdict, moment) }, origin);
        }
        if let Some(&ended) = self.recent.get(event.unique_id) {
            return (self.free_after_end(ended, moment), Origin::Ended);
        }
        let buffer = self.buffer(event);
        if buffer.phantom {
            return (end(buffer, Verdict::Phantom, moment), Origin::Owner);
        }
        match self.older(event.unique_id) {
            Some((verdict, certainty)) => {
                (Outcome { certainty, ..end(buffer, verdict, moment) }, Origin::Older(verdict))
            }
            None if !event.owns => (Outcome { ends: false, ..end(buffer, Verdict::AfterClose, moment) }, Origin::Alias),
            // Its allocation was lost, or it was released in bulk too long ago to be remembered.
            None => (end(buffer, Verdict::AfterClose, moment), Origin::Unseen),
        }
    }

    /// A bulk release leaves the status as it was; after any other end it cannot be "allocated".
    fn free_after_end(&mut self, ended: Ended, moment: Moment) -> Outcome {
        let (verdict, certainty) = match ended.verdict {
            Verdict::Bulk if !ended.leaked => (Verdict::AfterClose, Certainty::Confirmed),
            Verdict::Phantom => (Verdict::Phantom, Certainty::Confirmed),
            _ => (Verdict::AfterClose, self.contradicted()),
        };
        let previous = Previous::Free(ended.moment, ended.verdict);
        Outcome { certainty, previous, ends: false, ..end(ended.buffer, verdict, moment) }
    }

    /// A free of what is deallocated already.
    fn repeat(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        let leaked = self.live.get(event.unique_id).filter(|live| live.is_leaked());
        let (buffer, previous) = if let Some(leaked) = leaked {
            (leaked.buffer, leaked.previous())
        } else if let Some(live) = self.remove_live(event.unique_id, moment) {
            self.end_unseen(live.buffer, Verdict::Marked, moment, sink);
            (live.buffer, Previous::Unseen)
        } else {
            match self.recent.get(event.unique_id) {
                Some(ended) => (ended.buffer, Previous::Free(ended.moment, ended.verdict)),
                None if self.recent.has_forgotten() => (self.buffer(event), Previous::Forgotten),
                None => (self.buffer(event), Previous::Unseen),
            }
        };
        sink(&Entry::Outcome(Outcome { previous, ends: false, ..end(buffer, Verdict::Repeat, moment) }));
    }

    pub(super) fn released(
        &mut self,
        event: &Event,
        moment: Moment,
        pending: Option<Pending>,
        sink: &mut impl FnMut(&Entry),
    ) {
        match pending {
            Some(Pending::Free(mut outcome, origin)) if outcome.buffer.unique_id == event.unique_id => {
                self.add_device(&mut outcome.buffer, event);
                self.release(&mut outcome, origin, sink);
            }
            Some(Pending::Marked(unique_id)) if unique_id == event.unique_id => {}
            other => {
                self.settle(other, true, sink);
                self.released_alone(event, moment, sink);
            }
        }
    }

    /// A release without the free before it: an alias that only reports, or the free was lost.
    fn released_alone(&mut self, event: &Event, moment: Moment, sink: &mut impl FnMut(&Entry)) {
        let ended = self.recent.get(event.unique_id);
        if let Some(ended) = ended.filter(|ended| ended.verdict != Verdict::Bulk) {
            // Its end was concluded from what came after it. But it is only now that the allocator frees its address,
            // whoever has that by now.
            if ended.moment.thread == 0 {
                self.contradicted();
                self.add_gap(moment.time);
            }
            return;
        }
        if !event.owns && ended.is_none() && !self.live.contains(event.unique_id) {
            let buffer = self.buffer_on_device(event);
            self.report(Outcome { ends: false, ..end(buffer, Verdict::AliasFree, moment) }, false, sink);
            return;
        }
        let (mut outcome, origin) = self.begin_free(event, moment);
        self.add_device(&mut outcome.buffer, event);
        match origin {
            _ if outcome.verdict == Verdict::Phantom => self.decide(&outcome, sink),
            Origin::Older(_) => self.release(&mut outcome, origin, sink),
            _ => {
                outcome.certainty = Certainty::Possible;
                self.release(&mut outcome, origin, sink);
            }
        }
    }

    /// A free that reaches its allocator.
    fn release(&mut self, outcome: &mut Outcome, origin: Origin, sink: &mut impl FnMut(&Entry)) {
        let mut effect = self.take_back(&outcome.buffer);
        if let (&Effect::Theirs(other), Origin::Unseen) = (&effect, origin)
            && self.certainty_since_allocation(&other) == Certainty::Possible
        {
            // What was lost is the free of the other, and the allocation of this one in its place.
            if self.remove_live(other.unique_id, outcome.moment).is_some() {
                self.end_unseen(other, Verdict::Released, outcome.moment, sink);
            }
            effect = Effect::Nothing;
        }
        if effect != Effect::Own {
            self.forget_block(&outcome.buffer);
        }
        let Some(verdict) = origin.verdict(&effect) else { return self.report(*outcome, true, sink) };
        // How old the one is does not matter to the other.
        if matches!((origin, &effect), (Origin::Older(_), Effect::Theirs(_))) {
            outcome.certainty = Certainty::Confirmed;
        }
        outcome.certainty = both(outcome.certainty, self.certainty(&outcome.buffer, origin, &effect));
        if let Effect::Theirs(robbed) = effect {
            outcome.other = Some(robbed);
            self.live.rob(robbed.unique_id, outcome.moment);
        }
        outcome.verdict = verdict;
        self.decide(outcome, sink);
    }

    /// What the allocator of a buffer does when it is told to free the buffer's address.
    fn take_back(&mut self, buffer: &Buffer) -> Effect {
        // The allocator that is called is that of the device as it is now.
        let Some(place) = Place::of(buffer, self.generation(buffer.device)) else { return Effect::Untraceable };
        match self.blocks.take_back(place) {
            None => Effect::Nothing,
            Some(unique_id) if unique_id == buffer.unique_id => Effect::Own,
            Some(unique_id) => {
                let live = self.live.get(unique_id).map(|live| live.buffer);
                live.or(self.recent.get(unique_id).map(|ended| ended.buffer)).map_or(Effect::Nothing, Effect::Theirs)
            }
        }
    }

    /// What the verdict of [`Origin::verdict`] is worth.
    fn certainty(&self, buffer: &Buffer, origin: Origin, effect: &Effect) -> Certainty {
        match (origin, effect) {
            // Since it got the block, nobody else did.
            (_, Effect::Theirs(other)) => self.certainty_of_block(other),
            (Origin::Unseen, _) => Certainty::Possible,
            // The allocation of another buffer at the same address may be lost.
            _ => self.certainty_since_allocation(buffer),
        }
    }

    /// Decides a free that no release followed.
    pub(super) fn settle_free(
        &mut self,
        outcome: Outcome,
        origin: Origin,
        went_on: bool,
        sink: &mut impl FnMut(&Entry),
    ) {
        let unsure = !went_on || origin == Origin::Unseen;
        let since = if unsure { Certainty::Possible } else { self.certainty_since(outcome.moment.time) };
        let certainty = both(outcome.certainty, since);
        let may_leak = origin == Origin::Owner && outcome.previous == Previous::None;
        let kept = if may_leak { self.keeps_block(&outcome.buffer) } else { Some(false) };
        let (effect, certainty) = match (kept, certainty) {
            (Some(true), Certainty::Confirmed) => (Effect::Kept, certainty),
            (Some(false), _) => (Effect::Silent, certainty),
            (Some(true) | None, _) => (Effect::Silent, Certainty::Possible),
        };
        let verdict = origin.verdict(&effect).unwrap_or(outcome.verdict);
        let outcome = Outcome { verdict, certainty, ..outcome };
        match verdict {
            Verdict::Leaked => self.leaked(outcome, sink),
            _ => {
                self.forget_block(&outcome.buffer);
                self.decide(&outcome, sink);
            }
        }
    }

    /// Whether the allocator of a buffer that was not freed before has its block still, if that is known. Where bulk releases
    /// are told, one would have told that it took it; else any device that closed may have been the buffer's.
    fn keeps_block(&self, buffer: &Buffer) -> Option<bool> {
        let place = Place::of(buffer, buffer.generation)?;
        let allocated = buffer.allocated.map_or(0, |moment| moment.time);
        let may_be_untold = self.unseen_ends.is_some_and(|time| time >= allocated) && !self.tells_bulk;
        let is_known = self.certainty_since_allocation(buffer) == Certainty::Confirmed && !may_be_untold;
        match self.blocks.is_given(place, buffer.unique_id) {
            true => is_known.then_some(true),
            false => Some(false),
        }
    }

    /// A free that changes nothing about the memory: the owner of the block lives on.
    fn leaked(&mut self, outcome: Outcome, sink: &mut impl FnMut(&Entry)) {
        let Outcome { buffer, moment, verdict, .. } = outcome;
        self.recent.remove(buffer.unique_id);
        if let Some(place) = Place::of(&buffer, buffer.generation) {
            self.blocks.give_before(place, buffer.unique_id);
        }
        // When it was asked for is forgotten by now.
        self.live.insert(Live { buffer, requested: 0, freed: Some(Box::new((moment, verdict))) });
        let previous = self.closed.map_or(Previous::None, Previous::Close);
        sink(&Entry::Outcome(Outcome { previous, ends: false, ..outcome }));
    }

    /// Whether a buffer that is not known was there before recording began, or before the fork that made this process.
    pub(super) fn older(&self, unique_id: u64) -> Option<(Verdict, Certainty)> {
        let below = |border: Option<u64>| border.is_some_and(|border| unique_id < border);
        match (self.inherited, self.border) {
            (Some(_), _) if below(self.inherited) => Some((Verdict::Inherited, Certainty::Confirmed)),
            // The parent may have made it unseen, or the child, before its own recording began.
            (Some(_), None) => Some((Verdict::Inherited, Certainty::Possible)),
            (Some(_), Some(_)) if below(self.border) => Some((Verdict::Inherited, Certainty::Possible)),
            (None, Some(_)) if below(self.border) => Some((Verdict::PreAttach, Certainty::Confirmed)),
            (None, None) => Some((Verdict::PreAttach, Certainty::Possible)),
            _ => None,
        }
    }
}
