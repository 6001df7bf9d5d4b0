// SPDX-License-Identifier: Apache-2.0
//! The account of one process.

mod aliases;
mod blocks;
mod ends;
mod found;
mod frees;
mod live;
mod threads;

use std::collections::BTreeSet;

pub(in crate::model) use blocks::REACH;
use blocks::{Blocks, Place};
use foldhash::HashMap;
use live::{Live, Owners};
use serde::{Deserialize, Serialize};
use threads::{Pending, Threads};

use super::{Allocation, Buffer, Device, Entry, Gaps, Moment, Outcome, Previous};
use crate::{
    model::{Certainty, Verdict, recent::Recent},
    trace::{DeviceClass, Event, Kind},
};

/// Status at entry of a free: the request was not met.
const REQUESTED: u8 = 0;
/// Status at entry of a free: it takes effect.
const ALLOCATED: u8 = 1;
/// Status at entry of a destructor: the memory went before.
const DEALLOCATED: u8 = 2;

/// What is known of one process. It ends more than once if the trace goes on after its end.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Account {
    pub(super) process: u32,
    /// The `next_unique_id` when recording began.
    pub(super) border: Option<u64>,
    /// In a forked child: the parent had given all unique ids below this.
    inherited: Option<u64>,
    /// Above every unique id that was seen.
    seen: u64,
    /// Events that could not be attributed, because their object could not be read.
    pub(super) unreadable: u64,
    live: Owners,
    blocks: Blocks,
    recent: Recent,
    threads: Threads,
    /// Allocators that released everything, of processes that have made buffers before the recording.
    emptied: BTreeSet<u64>,
    /// How often each device was opened.
    generations: HashMap<Device, u32>,
    /// The test that runs; pytest's variable belongs to the process.
    pub(super) test: u32,
    /// Time of the first event behind the latest gap.
    gap: Option<u64>,
    /// How many of the gaps that concern every account are known here, or from before this one.
    gaps: u64,
    /// When owners may last have ended without a word: those from before the recording in a bulk release, all of a device
    /// at its close.
    unseen_ends: Option<u64>,
    /// Events that cannot be, given those before.
    contradictions: u64,
    /// Whether a bulk release was told, so that others would be.
    tells_bulk: bool,
    /// The latest close of a device.
    closed: Option<Moment>,
}

/// What a child gets from its parent.
pub(super) struct Parent {
    seen: u64,
    generations: HashMap<Device, u32>,
    test: u32,
}

impl Account {
    /// Begins in a [generation](Self::forget).
    pub(super) fn new(process: u32, gaps: Gaps, generation: u64) -> Self {
        Self {
            process,
            border: None,
            inherited: None,
            seen: 0,
            unreadable: 0,
            live: Owners::default(),
            blocks: Blocks::default(),
            recent: Recent::new(generation),
            threads: Threads::default(),
            emptied: BTreeSet::new(),
            generations: HashMap::default(),
            test: 0,
            gap: None,
            gaps: gaps.count,
            unseen_ends: None,
            contradictions: 0,
            tells_bulk: false,
            closed: None,
        }
    }

    /// Forgets buffers that were freed before the generation before this one.
    pub(super) fn forget(&mut self, generation: u64) {
        self.recent.begin(generation);
    }

    /// Notes that events before this time were lost.
    pub(super) fn add_gap(&mut self, time: u64) {
        self.gap = self.gap.max(Some(time));
    }

    /// Takes note of gaps that concern every account, if there are new ones.
    pub(super) fn add_gaps(&mut self, gaps: Gaps) {
        if self.gaps < gaps.count {
            self.gaps = gaps.count;
            self.add_gap(gaps.latest);
        }
    }

    /// What a child that is made now gets.
    pub(super) fn parent(&self) -> Parent {
        let seen = self.seen.max(self.border.unwrap_or(0)).max(self.inherited.unwrap_or(0));
        Parent { seen, generations: self.generations.clone(), test: self.test }
    }

    /// Makes this the account of a forked child.
    pub(super) fn inherit(&mut self, parent: Parent) {
        self.inherited = Some(parent.seen);
        self.generations = parent.generations;
        self.test = parent.test;
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
        let mut pending = None;
        if event.kind.is_about_buffer() {
            self.seen = self.seen.max(event.unique_id.saturating_add(1));
        }
        if event.kind.is_about_buffer() || event.kind == Kind::ThreadExit {
            pending = self.threads.take(event.thread);
        }
        match event.kind {
            Kind::Request => {
                self.settle(pending, true, sink);
                let request = self.buffer_on_device(event);
                *self.threads.of(event.thread) = Some(Pending::Request(request, moment));
            }
            Kind::Allocated if !event.owns && !is_requested(pending.as_ref(), event.unique_id) => {
                self.settle(pending, true, sink);
                self.alias(event, Some(event.unique_id), moment, sink);
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
                // Of an owner that is allocated still, the free comes next.
                if event.status == DEALLOCATED {
                    self.destroyed(event, moment, sink);
                }
            }
            Kind::Bulk => self.bulk(event, moment, sink),
            Kind::Bank => self.bank(event),
            Kind::DeviceOpen => self.opened(event),
            Kind::Alias => self.alias(event, None, moment, sink),
            Kind::TestBegin => self.test = event.text,
            Kind::TestEnd => self.test = 0,
            Kind::ThreadExit => {
                let went_on = !pending.as_ref().is_some_and(Pending::may_be_cut);
                self.settle(pending, went_on, sink);
            }
            // What a close does to buffers is told by a bulk release, if that has a probe.
            Kind::DeviceClose => (self.unseen_ends, self.closed) = (Some(event.time), Some(moment)),
            // A fork concerns the child's account; what follows an exec is another program's.
            Kind::Fork | Kind::Modules | Kind::Exec | Kind::CodeFreed => {}
            // They are no buffers.
            Kind::Circular | Kind::CircularFreed => {}
        }
    }

    pub(super) fn elsewhere(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        if event.kind.is_about_buffer() {
            let pending = self.threads.take(event.thread);
            self.settle(pending, true, sink);
        }
    }

    /// Tells the request that the thread is in what it takes in each bank. Across a gap it may be another one by now.
    fn bank(&mut self, event: &Event) {
        let gap = self.gap;
        if let Some(Pending::Request(buffer, requested)) = self.threads.of(event.thread)
            && gap.is_none_or(|gap| gap < requested.time)
        {
            // Where other devices mirror an allocation, its own comes first.
            buffer.bank_bytes.get_or_insert(event.size);
        }
    }

    fn allocated(&mut self, event: &Event, moment: Moment, pending: Option<Pending>, sink: &mut impl FnMut(&Entry)) {
        let (moment, requested, bank_bytes) = match pending {
            Some(Pending::Request(request, requested)) if request.unique_id == event.unique_id => {
                (Moment { stack: requested.stack, ..moment }, requested.time, request.bank_bytes)
            }
            // Its request was lost, or made before recording began: neither time nor stack is known.
            other => {
                self.settle(other, true, sink);
                (moment, 0, None)
            }
        };
        let mut buffer = self.buffer_on_device(event);
        (buffer.alias, buffer.allocated, buffer.bank_bytes) = (false, Some(moment), bank_bytes);
        if let Some(lost) = self.remove_live(event.unique_id, moment) {
            self.contradicted();
            self.end_unseen(lost.buffer, Verdict::Marked, moment, sink);
        }
        let overlapped = self.give(&buffer, moment, sink);
        if self.recent.ended_since(buffer.buffer_type, buffer.address, requested) {
            self.blocks.note_left(buffer.buffer_type, buffer.address, moment.time);
        }
        self.live.insert(Live { buffer, requested, freed: None });
        sink(&Entry::Allocation(Allocation { buffer, moment }));
        if let Some(other) = overlapped {
            let certainty = self.certainty_of_block(&other);
            let other = Some(other);
            let outcome = Outcome { other, certainty, ends: false, ..end(buffer, Verdict::Overlap, moment) };
            sink(&Entry::Outcome(outcome));
        }
    }

    /// Puts a new owner in its place; returns the live owner that has bytes there.
    fn give(&mut self, buffer: &Buffer, moment: Moment, sink: &mut impl FnMut(&Entry)) -> Option<Buffer> {
        let place = Place::of(buffer, buffer.generation)?;
        let mut overlapped = None;
        while let Some(live) = self.blocks.owner_in(place).and_then(|owner| self.live.get(owner)) {
            let (there, leaked) = (live.buffer, live.is_leaked());
            match self.certainty_since_allocation(&there) {
                // It was given back after all.
                Certainty::Confirmed if leaked => {
                    self.contradicted();
                }
                Certainty::Confirmed => {
                    overlapped = Some(there);
                    break;
                }
                Certainty::Possible => {}
            }
            self.remove_live(there.unique_id, moment);
            self.end_unseen(there, Verdict::Released, moment, sink);
        }
        self.blocks.give(place, buffer.unique_id);
        overlapped
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
        sink(&Entry::Outcome(end(buffer, Verdict::Failed, Moment { stack, ..moment })));
    }

    /// Decides what was pending on a thread that did something else by now; if it did not go on, that is unsure.
    fn settle(&mut self, pending: Option<Pending>, went_on: bool, sink: &mut impl FnMut(&Entry)) {
        match pending {
            None | Some(Pending::Marked(_)) => {}
            Some(Pending::Free(outcome, origin)) => self.settle_free(*outcome, origin, went_on, sink),
            // The thread went on without the allocation and without the free that tells of a failure.
            Some(Pending::Request(buffer, moment)) => {
                let certainty = Certainty::Possible;
                sink(&Entry::Outcome(Outcome { certainty, ..end(buffer, Verdict::Failed, moment) }));
            }
        }
    }

    /// Takes an owner out of the live ones. Its block stays given until somebody says what came of it.
    fn remove_live(&mut self, unique_id: u64, moment: Moment) -> Option<Live> {
        let live = self.live.remove(unique_id)?;
        if let Some(place) = Place::of(&live.buffer, live.buffer.generation) {
            self.blocks.leave(place, unique_id, moment.time);
        }
        Some(live)
    }

    /// Forgets the block of an owner that no allocator was told of.
    fn forget_block(&mut self, buffer: &Buffer) {
        if let Some(place) = Place::of(buffer, buffer.generation) {
            self.blocks.forget(place, buffer.unique_id);
        }
    }

    /// How many buffers are remembered, live or not.
    pub(super) fn buffers(&self) -> usize {
        self.live.len() + self.recent.len()
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> [usize; 6] {
        let [given, owners, addresses, left] = self.blocks.kept();
        [self.live.checked_len(), given, owners, addresses, left, self.recent.kept()]
    }

    fn opened(&mut self, event: &Event) {
        match device(event) {
            Some(device) => {
                let generation = self.generations.entry(device).or_default();
                *generation = generation.saturating_add(1);
            }
            // It may be any.
            None => self.add_gap(event.time),
        }
    }

    fn generation(&self, device: Option<Device>) -> u32 {
        device.and_then(|device| self.generations.get(&device)).copied().unwrap_or(0)
    }

    /// Counts an event that cannot be, given those before, and tells what its verdict is worth.
    fn contradicted(&mut self) -> Certainty {
        self.contradictions = self.contradictions.saturating_add(1);
        Certainty::Possible
    }

    /// What a verdict about everything after `since` is worth.
    fn certainty_since(&self, since: u64) -> Certainty {
        if self.gap.is_some_and(|gap| gap >= since) { Certainty::Possible } else { Certainty::Confirmed }
    }

    /// What a verdict about a buffer's whole life is worth.
    fn certainty_since_allocation(&self, buffer: &Buffer) -> Certainty {
        self.certainty_since(buffer.allocated.map_or(0, |moment| moment.time))
    }

    /// What it is worth that a live buffer's block is its own. Of one that was found, a bulk release before the recording may
    /// have taken it.
    fn certainty_of_block(&self, buffer: &Buffer) -> Certainty {
        if buffer.found { Certainty::Possible } else { self.certainty_since_allocation(buffer) }
    }

    /// The buffer of an event, as far as the event alone tells, without the device.
    fn buffer(&self, event: &Event) -> Buffer {
        Buffer {
            process: self.process,
            unique_id: event.unique_id,
            device: None,
            generation: 0,
            buffer_type: event.buffer_type,
            address: event.address,
            size: event.size,
            page_size: event.page_size,
            bank_bytes: None,
            allocator: event.allocator,
            phantom: event.hooked || event.size == 0,
            alias: !event.owns,
            allocated: None,
            found: false,
        }
    }

    /// The buffer of an event with its device.
    fn buffer_on_device(&self, event: &Event) -> Buffer {
        let mut buffer = self.buffer(event);
        self.add_device(&mut buffer, event);
        buffer
    }

    /// Adds the device of the event, if none is known. Right for a request, an allocation and a release: there the device
    /// is alive. At a free the pointer to it may be dangling.
    fn add_device(&self, buffer: &mut Buffer, event: &Event) {
        if buffer.device.is_none() {
            buffer.device = device(event);
            buffer.generation = self.generation(buffer.device);
        }
    }
}

/// Whether an allocation was asked for: only owners ask.
fn is_requested(pending: Option<&Pending>, unique_id: u64) -> bool {
    matches!(pending, Some(Pending::Request(request, _)) if request.unique_id == unique_id)
}

fn device(event: &Event) -> Option<Device> {
    let known = event.device_class != DeviceClass::Unknown;
    known.then_some(Device { class: event.device_class, id: event.device_id })
}

/// The end of a buffer, confirmed, with nothing before it.
fn end(buffer: Buffer, verdict: Verdict, moment: Moment) -> Outcome {
    let certainty = Certainty::Confirmed;
    Outcome { buffer, verdict, certainty, moment, previous: Previous::None, ends: true, other: None }
}

/// What two certainties are worth together.
fn both(a: Certainty, b: Certainty) -> Certainty {
    if a == Certainty::Possible { a } else { b }
}
