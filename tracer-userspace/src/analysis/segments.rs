// SPDX-License-Identifier: Apache-2.0
//! Parts of a trace that can be read for themselves: for who asks about a test, a site or a time, most events of a long
//! trace need not be read.
//!
//! What an entry is hangs on what was before it. So a segment begins with what the ledger was there, and ends where the next
//! one begins; and it says what its entries are about. What is held at the end of a process is about wherever it was
//! allocated, and kept elsewhere: see [`Epilogue`](super::Epilogue).

use std::mem;

use serde::{Deserialize, Serialize};

use super::filter::origin;
use crate::{
    model::{Entry, Moment, REMEMBERED, Reading, State},
    trace::Seam,
};

/// Events of a segment at least: some four million, a second or two of reading. Of generations of freed buffers it has whole
/// ones, so that it begins where one was just forgotten, and little is remembered.
const EVENTS: u64 = 32 * REMEMBERED;
/// Most bytes of all segments, which are memory of a recorder: with more, two neighbours become one.
const BYTES: usize = 32 << 20;
/// Most buffers that what is known at the begin of a segment may be about: for the time and memory that it takes to write it down.
const BUFFERS: usize = 2 * REMEMBERED as usize;
/// Most bytes of that, as no file is believed to need more.
const LONGEST_STATE: usize = 64 << 20;
/// The least that zstd can do: this is done while others wait for the processor.
const LEVEL: i32 = 1;

/// The segments of a trace, in their order.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Segments(Vec<Segment>);

#[derive(Debug, Deserialize, Serialize)]
struct Segment {
    from: Seam,
    /// Packed bytes of a [`State`].
    state: Vec<u8>,
    origins: Origins,
}

/// Where the entries of a segment belong.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Origins {
    /// The earliest time and the latest; absent if there are no entries.
    pub(super) times: Option<(u64, u64)>,
    /// Text numbers of tests.
    pub(super) tests: NumberSet,
    /// Stack numbers.
    pub(super) stacks: NumberSet,
}

/// A set of numbers that a model counts from 1 on: a bit for each.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct NumberSet(Vec<u64>);

/// Segments that follow each other, to be read as one.
pub struct Run {
    /// Where it begins.
    pub from: Seam,
    /// Where it ends; absent if that is the end of the trace.
    pub to: Option<Seam>,
    state: Vec<u8>,
}

/// Finds segments while a trace is read.
pub(super) struct SegmentsFold {
    /// The last one is not at its end.
    segments: Segments,
    /// Of all others.
    bytes: usize,
    most_bytes: usize,
    /// A segment may begin at the first seam behind so many events, twice as many, and so on.
    length: u64,
    /// The chunk that is read, and how many events are before it.
    chunk: Option<(Seam, u64)>,
}

impl Segments {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that have entries of a selection, as far as its tests, sites and times tell.
    pub(super) fn runs(self, takes: impl Fn(&Origins) -> bool) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut is_open = false;
        for Segment { from, state, origins } in self.0 {
            let is_taken = takes(&origins);
            match runs.last_mut() {
                Some(run) if is_open && !is_taken => run.to = Some(from),
                _ if !is_open && is_taken => runs.push(Run { from, to: None, state }),
                _ => {}
            }
            is_open = is_taken;
        }
        runs
    }

    /// Makes one of each two, and says how many bytes all but the last have.
    fn halve(&mut self) -> usize {
        let mut all = mem::take(&mut self.0).into_iter();
        while let Some(mut segment) = all.next() {
            if let Some(next) = all.next() {
                segment.origins.merge(&next.origins);
            }
            self.0.push(segment);
        }
        self.0.iter().rev().skip(1).map(Segment::bytes).sum()
    }
}

impl Segment {
    fn bytes(&self) -> usize {
        self.state.len() + (self.origins.tests.0.len() + self.origins.stacks.0.len()) * size_of::<u64>()
    }
}

impl Origins {
    fn entry(&mut self, entry: &Entry) {
        let Moment { time, test, stack, .. } = origin(entry);
        let (first, last) = self.times.unwrap_or((time, time));
        self.times = Some((first.min(time), last.max(time)));
        self.tests.insert(test);
        self.stacks.insert(stack);
    }

    fn merge(&mut self, other: &Self) {
        self.times = match (self.times, other.times) {
            (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
            (times, others) => times.or(others),
        };
        self.tests.merge(&other.tests);
        self.stacks.merge(&other.stacks);
    }
}

impl NumberSet {
    pub(super) fn contains(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    fn insert(&mut self, number: u32) {
        let (word, bit) = place(number);
        self.grow(word + 1);
        self.0[word] |= bit;
    }

    fn merge(&mut self, other: &Self) {
        self.grow(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    fn grow(&mut self, words: usize) {
        if self.0.len() < words {
            self.0.resize(words, 0);
        }
    }
}

/// Which word has the bit of a number, and which bit that is.
fn place(number: u32) -> (usize, u64) {
    ((number / u64::BITS) as usize, 1 << (number % u64::BITS))
}

impl Run {
    /// What is known where it begins; `None` if that is malformed.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        State::from_bytes(&zstd::bulk::decompress(&self.state, LONGEST_STATE).ok()?)
    }
}

impl Default for SegmentsFold {
    fn default() -> Self {
        Self::new(EVENTS, BYTES)
    }
}

impl SegmentsFold {
    pub(super) fn new(length: u64, most_bytes: usize) -> Self {
        Self { segments: Segments::default(), bytes: 0, most_bytes, length, chunk: None }
    }

    /// Takes note of the seam before the chunk that the next item is of, where reading has come to this.
    pub(super) fn seam(&mut self, seam: &Seam, reading: &Reading) {
        let latest = match &self.chunk {
            Some((chunk, _)) if chunk == seam => return,
            Some((_, events)) => Some(*events),
            None => None,
        };
        let events = reading.model().events;
        self.chunk = Some((seam.clone(), events));
        if latest.is_none_or(|latest| latest / self.length < events / self.length)
            && let Some(state) = reading.state(BUFFERS)
            && let Ok(state) = zstd::bulk::compress(&state, LEVEL)
        {
            self.begin(Segment { from: seam.clone(), state, origins: Origins::default() });
        }
    }

    /// Takes the next entry.
    pub(super) fn entry(&mut self, entry: &Entry) {
        if !entry.is_at_end()
            && let Some(segment) = self.segments.0.last_mut()
        {
            segment.origins.entry(entry);
        }
    }

    /// Ends with the trace.
    pub(super) fn finish(self) -> Segments {
        self.segments
    }

    fn begin(&mut self, segment: Segment) {
        self.bytes += self.segments.0.last().map_or(0, Segment::bytes);
        self.segments.0.push(segment);
        while self.bytes > self.most_bytes && self.segments.0.len() > 1 {
            self.bytes = self.segments.halve();
            self.length = self.length.saturating_mul(2);
        }
    }
}
