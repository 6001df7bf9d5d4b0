// SPDX-License-Identifier: Apache-2.0
//! Reading item by item: what [`read`](super::read) does with a whole trace, and the live view with one that grows.

use super::{Entry, EventSums, Ledger, Model, Replay, State, merge::Merge, part::is_elsewhere, reported::Reported};
use crate::trace::{Damage, Event, Item, Kind, Record, Sought};

/// Traces that are being read, one after the other.
pub struct Reading {
    model: Model,
    merge: Merge,
    /// Of the trace that is being read, as all below.
    ledger: Ledger,
    reported: Reported,
    /// Events of it that were passed over.
    passed: u64,
    /// The only buffers whose entries are asked for.
    sought: Option<Sought>,
    /// What the model had of other traces when it began.
    events: u64,
    losses: usize,
}

impl Reading {
    /// Begins with the first trace. The first item of each is needed, by which the earliest start is known.
    pub fn new<'a>(firsts: impl Iterator<Item = &'a Item>) -> Self {
        let mut reading = Self {
            model: Model::default(),
            merge: Merge::new(firsts),
            ledger: Ledger::default(),
            reported: Reported::default(),
            passed: 0,
            sought: None,
            events: 0,
            losses: 0,
        };
        reading.begin();
        reading
    }

    /// Counts by place of allocation, too, what the server's ledger has.
    pub(super) fn count_origins(&mut self) {
        self.model.server.count_origins();
    }

    /// Gives entries of these buffers only, or not much more.
    pub(super) fn look_for(&mut self, sought: Sought) {
        self.sought = Some(sought);
    }

    /// Takes note that so many events of the trace were passed over by now.
    pub(super) fn passed(&mut self, passed: u64) {
        let more = passed - self.passed;
        if more > 0 {
            self.passed = passed;
            self.model.events += more;
            self.ledger.skip(more);
        }
    }

    /// Takes the next item, and gives what the ledger makes of it to `sink`.
    pub fn item(&mut self, item: Item, sink: &mut impl FnMut(&Entry)) {
        match item {
            Item::Event(mut event) => self.event(&mut event, sink),
            Item::Record(record) => self.record(record, sink),
        }
    }

    /// What is known so far. Of the trace that is being read it lacks what only its end tells.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tests that run now: process and text numbers.
    pub fn running_tests(&self) -> impl Iterator<Item = (u32, u32)> {
        self.ledger.running_tests()
    }

    /// Whether no process was imported.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.reported.is_empty()
    }

    /// What all items so far of the only trace that is read come to, as bytes of a [`State`], which must not remember more
    /// buffers than this. `None` if it does, or something was imported.
    #[must_use]
    pub fn state(&self, most: usize) -> Option<Vec<u8>> {
        (self.is_recorded() && self.ledger.buffers() <= most).then(|| State::to_bytes(&self.ledger)).flatten()
    }

    /// Ends a trace, of this name, with what is known of it only now, and begins the next.
    pub fn end(&mut self, name: &str, damage: Option<Damage>, skipped: u64, sink: &mut impl FnMut(&Entry)) {
        self.finish(name, damage, skipped, sink);
        self.begin();
    }

    /// Ends a trace, likewise, after which only the model and the numbers in it are good.
    pub(super) fn finish(&mut self, name: &str, damage: Option<Damage>, skipped: u64, sink: &mut impl FnMut(&Entry)) {
        let model = &mut self.model;
        self.ledger.finish(sink);
        self.reported.finish(sink);
        model.definitions.problems.extend(self.ledger.problems());
        if let Some(sent) = model.definitions.latest("sent") {
            let losses = model.definitions.losses.iter().skip(self.losses);
            let lost = losses.fold(0_u64, |sum, it| sum.saturating_add(it.count));
            let here = (model.events - self.events).wrapping_add(lost);
            let unaccounted = model.unaccounted.unwrap_or(0);
            model.unaccounted = Some(unaccounted.wrapping_add(sent.wrapping_sub(here) as i64));
        }
        model.skipped += skipped;
        model.damages.extend(damage.map(|damage| (name.to_owned(), damage)));
    }

    /// Ends the only trace that was read, and gives what its events came to.
    pub fn into_sums(mut self, sink: &mut impl FnMut(&Entry)) -> EventSums {
        self.ledger.finish(sink);
        self.reported.finish(sink);
        EventSums {
            events: self.model.events,
            processes: self.merge.processes().to_vec(),
            problems: self.ledger.problems(),
            server: self.model.server,
            circular: self.model.circular,
            spans: self.model.spans,
        }
    }

    /// Takes what the events of a trace came to, whose records alone were read; refused if its processes have other numbers
    /// here.
    pub(super) fn take_sums(&mut self, sums: EventSums) -> Option<()> {
        // An event may name a process before a record does.
        if !sums.processes.starts_with(self.merge.processes()) {
            return None;
        }
        sums.processes.iter().for_each(|&number| self.merge.know(number));
        (self.ledger, self.reported) = (Ledger::default(), Reported::default());
        let model = &mut self.model;
        model.events = sums.events;
        model.server = sums.server;
        model.circular = sums.circular;
        model.spans = sums.spans;
        model.definitions.problems.extend(sums.problems);
        Some(())
    }

    /// All that was read of the only trace, and what it takes to read parts of it again.
    pub(super) fn into_replay(self) -> (Model, Replay) {
        (self.model, Replay::new(self.merge))
    }

    /// All that was read.
    #[must_use]
    pub fn into_model(self) -> Model {
        self.model
    }

    fn begin(&mut self) {
        self.ledger = Ledger::default();
        self.reported = Reported::default();
        self.passed = 0;
        (self.events, self.losses) = (self.model.events, self.model.definitions.losses.len());
        self.merge.begin();
        self.model.definitions.begin();
        self.model.server.begin();
    }

    /// Takes the next item, which is an event, and gives it the numbers of the model.
    pub(super) fn event(&mut self, event: &mut Event, sink: &mut impl FnMut(&Entry)) {
        self.merge.event(event);
        let (model, event) = (&mut self.model, &*event);
        model.events += 1;
        if self.sought.as_ref().is_some_and(|sought| is_elsewhere(event, sought)) {
            self.ledger.elsewhere(event, sink);
            return;
        }
        match event.kind {
            Kind::Circular | Kind::CircularFreed => model.circular.event(event),
            Kind::TestBegin | Kind::TestEnd => model.spans.event(event),
            _ => {}
        }
        let server = &mut model.server;
        let mut sink = |entry: &Entry| {
            server.entry(event, entry);
            sink(entry);
        };
        match self.reported.covers(event.process) {
            true => {
                self.ledger.skip(1);
                self.reported.event(event, &mut sink);
            }
            false => self.ledger.event(event, &mut sink),
        }
        model.server.event(event);
    }

    fn record(&mut self, mut record: Record, sink: &mut impl FnMut(&Entry)) {
        self.merge.record(&mut record);
        self.model.server.record(&record);
        self.model.spans.record(&record);
        if !self.reported.record(&record, sink) {
            self.ledger.record(&record, sink);
        }
        self.model.definitions.add(record);
    }
}
