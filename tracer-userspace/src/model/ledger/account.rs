// SPDX-License-Identifier: Apache-2.0
//! The account of one process.

mod frees;

use std::collections::{BTreeMap, HashMap};

use super::{Allocation, Buffer, Device, Entry, Moment, Outcome, Previous};
use crate::{
    model::{
        Certainty, Verdict,
        recent::{Ended, Recent},
    },
    trace::{DeviceClass, Event, Kind},
};

/// Status at entry of a free: the request was not met.
const REQUESTED: u8 = 0;
/// Status at entry of a free: it takes effect.
const ALLOCATED: u8 = 1;

/// What is known of one process. It ends more than once if the trace goes on after its end.
#[derive(Debug)]
pub(super) struct Account {
    process: u32,
    /// The `next_unique_id` when recording began.
    pub(super) border: Option<u64>,
    /// Events that could not be attributed, because their object could not be read.
    pub(super) unreadable: u64,
    live: BTreeMap<u64, Buffer>,
    recent: Recent,
    threads: HashMap<u32, Pending>,
    /// The test that runs; pytest's variable belongs to the process.
    pub(super) test: u32,
    /// Time of the first event behind the latest gap.
    gap: Option<u64>,
    /// Events that cannot be, given those before.
    contradictions: u64,
}

/// What a thread began, and its next event about a buffer decides.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Request(Buffer, Moment),
    Free(Outcome),
}

impl Account {
    pub(super) fn new(process: u32) -> Self {
        Self {
            process,
            border: None,
            unreadable: 0,
            live: BTreeMap::new(),
            recent: Recent::default(),
            threads: HashMap::new(),
            test: 0,
            gap: None,
            contradictions: 0,
        }
    }

    /// Notes that events before this time were lost.
    pub(super) fn add_gap(&mut self, time: u64) {
        self.gap = self.gap.max(Some(time));
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let process = self.process;
        let mut problems = Vec::new();
        if self.unreadable > 0 {
            problems.push(format!(
                "process {process}: the object of {} events could not be read; they count as lost",
                self.unreadable
            ));
        }
        if self.contradictions > 0 {
            problems.push(format!(
                "process {process}: {} events contradict those before them; their verdicts are only possible",
                self.contradictions
            ));
        }
        problems
    }

    pub(super) fn event(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        let moment = Moment { time: event.time, thread: event.thread, test: self.test, stack: event.stack };
        let pending = match event.kind.is_about_buffer() || event.kind == Kind::ThreadExit {
            true => self.threads.remove(&event.thread),
            false => None,
        };
        match event.kind {
            Kind::Request => {
                self.settle(pending, true, sink);
                let request = Buffer { device: device(event), ..self.buffer(event) };
                self.threads.insert(event.thread, Pending::Request(request, moment));
            }
            Kind::Allocated => self.allocated(event, moment, pending, sink),
            Kind::Free if event.status == REQUESTED => self.failed(event, moment, pending, sink),
            Kind::Free => {
                self.settle(pending, true, sink);
                self.free(event, moment, sink);
            }
            Kind::Released => self.released(event, moment, pending, sink),
            Kind::Marked => {
                self.settle(pending, true, sink);
                // A mark of what is deallocated already changes nothing.
                if event.status == ALLOCATED {
                    self.marked(event, moment, sink);
                }
            }
            Kind::Destroyed => {
                self.settle(pending, true, sink);
                self.destroyed(event, moment, sink);
            }
            Kind::Bulk => self.bulk(event, moment, sink),
            Kind::TestBegin => self.test = event.text,
            Kind::TestEnd => self.test = 0,
            Kind::ThreadExit => self.settle(pending, true, sink),
            // What a close does to buffers has events of its own; what follows an exec is another program's.
            Kind::DeviceClose | Kind::Modules | Kind::Exec | Kind::CodeFreed => {}
        }
    }

    /// Ends the account: what is live is held. `exited` if the process itself ended, `complete` if the trace says how.
    pub(super) fn end(&mut self, time: u64, exited: bool, complete: bool, sink: &mut impl FnMut(&Entry)) {
        let mut threads: Vec<_> = std::mem::take(&mut self.threads).into_iter().collect();
        threads.sort_by_key(|(thread, _)| *thread);
        for (_, pending) in threads {
            self.settle(Some(pending), exited, sink);
        }
        for buffer in std::mem::take(&mut self.live).into_values() {
            let since = buffer.allocated.map_or(0, |moment| moment.time);
            let verdict = if buffer.phantom { Verdict::Phantom } else { Verdict::Held };
            let certainty = if complete { self.certainty_since(since) } else { Certainty::Possible };
            let moment = Moment { time, thread: 0, test: 0, stack: 0 };
            sink(&Entry::Outcome(Outcome { buffer, verdict, certainty, moment, previous: Previous::None, ends: true }));
        }
    }

    fn allocated(&mut self, event: &Event, moment: Moment, pending: Option<Pending>, sink: &mut impl FnMut(&Entry)) {
        let moment = match pending {
            Some(Pending::Request(request, requested)) if request.unique_id == event.unique_id => {
                Moment { stack: requested.stack, ..moment }
            }
            // Its request was lost, or made before recording began: the stack is not known.
            other => {
                self.settle(other, true, sink);
                moment
            }
        };
        let buffer = Buffer { device: device(event), allocated: Some(moment), ..self.buffer(event) };
        if let Some(lost) = self.live.insert(event.unique_id, buffer) {
            self.contradictions += 1;
            self.end_unseen(lost, moment, sink);
        }
        sink(&Entry::Allocation(Allocation { buffer, moment }));
    }

    /// A free that says that the request was not met. The stack is that of the request, which is what failed.
    fn failed(&mut self, event: &Event, moment: Moment, pending: Option<Pending>, sink: &mut impl FnMut(&Entry)) {
        let (buffer, stack) = match pending {
            Some(Pending::Request(request, requested)) if request.unique_id == event.unique_id => {
                (request, requested.stack)
            }
            other => {
                self.settle(other, true, sink);
                (self.buffer(event), moment.stack)
            }
        };
        let moment = Moment { stack, ..moment };
        emit(buffer, Verdict::Failed, Certainty::Confirmed, moment, Previous::None, true, sink);
    }

    /// Decides what was pending on a thread that did something else by now; if it did not go on, that is unsure.
    fn settle(&mut self, pending: Option<Pending>, went_on: bool, sink: &mut impl FnMut(&Entry)) {
        let unsure = |since| !went_on || self.gap.is_some_and(|gap| gap >= since);
        match pending {
            None => {}
            Some(Pending::Free(outcome)) => {
                let certainty = if unsure(outcome.moment.time) { Certainty::Possible } else { outcome.certainty };
                self.decide(Outcome { certainty, ..outcome }, sink);
            }
            // The thread went on without the allocation and without the free that tells of a failure.
            Some(Pending::Request(buffer, moment)) => {
                emit(buffer, Verdict::Failed, Certainty::Possible, moment, Previous::None, true, sink);
            }
        }
    }

    fn decide(&mut self, outcome: Outcome, sink: &mut impl FnMut(&Entry)) {
        self.remember(&outcome);
        sink(&Entry::Outcome(outcome));
    }

    /// Ends a buffer's life.
    fn close(
        &mut self,
        buffer: Buffer,
        verdict: Verdict,
        certainty: Certainty,
        moment: Moment,
        sink: &mut impl FnMut(&Entry),
    ) {
        let outcome = Outcome { buffer, verdict, certainty, moment, previous: Previous::None, ends: true };
        self.decide(outcome, sink);
    }

    fn remember(&mut self, outcome: &Outcome) {
        let Outcome { buffer, moment, verdict, .. } = *outcome;
        self.recent.insert(Ended { buffer, moment, verdict });
    }

    /// What a verdict about everything after `since` is worth.
    fn certainty_since(&self, since: u64) -> Certainty {
        if self.gap.is_some_and(|gap| gap >= since) { Certainty::Possible } else { Certainty::Confirmed }
    }

    /// The buffer of an event, as far as the event alone tells. Without the device, see [`device`].
    fn buffer(&self, event: &Event) -> Buffer {
        Buffer {
            process: self.process,
            unique_id: event.unique_id,
            device: None,
            buffer_type: event.buffer_type,
            address: event.address,
            size: event.size,
            allocator: event.allocator,
            phantom: event.hooked || event.size == 0,
            allocated: None,
        }
    }
}

/// The device, as it is when a buffer is requested, allocated or released. At a free the pointer to it may be dangling.
fn device(event: &Event) -> Option<Device> {
    let known = event.device_class != DeviceClass::Unknown;
    known.then_some(Device { class: event.device_class, id: event.device_id })
}

fn emit(
    buffer: Buffer,
    verdict: Verdict,
    certainty: Certainty,
    moment: Moment,
    previous: Previous,
    ends: bool,
    sink: &mut impl FnMut(&Entry),
) {
    sink(&Entry::Outcome(Outcome { buffer, verdict, certainty, moment, previous, ends }));
}
