// SPDX-License-Identifier: Apache-2.0
//! From hits to the trace file: the events of the recorded processes, with their stacks.

mod event;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    time::{Duration, Instant},
};

use anyhow::Result;
use tracer_common::{Cookie, Epoch, Hit};

use super::{
    clock::boot_now,
    decode::{NativeStack, PythonStack, RawHit, StackCopy},
    order::{Delivery, InOrder},
    python::Interpreter,
    session::Reason,
    space::{Changes, Range, Space},
    stacks::{Catalog, Compared, Stacks},
    tally::Tally,
};
use crate::{
    discover::{maps::Mapping, python::Frames},
    trace::{self, Event, Hex, Identity, MADE_BEFORE, Record, Writer},
};

/// Texts that wait for their hits. More are there only if hits were lost, and the oldest are of those.
const MOST_WAITING: usize = 64;

/// How long after a process ended its last events may still be put in order.
const LATE: Duration = Duration::from_secs(3);

/// Turns the hits of the recorded processes into events of a trace file.
pub struct Recorder {
    /// None until the first process is recorded. Before that there is nothing to write.
    writer: Option<Writer>,
    /// The session's `boot_ns`.
    boot_ns: u64,
    /// By site number.
    sites: Vec<Cookie>,
    /// What the processes have in common. Trace numbers of modules are their index, plus one.
    pub catalog: Catalog,
    /// By process id.
    processes: HashMap<u32, Recorded>,
    /// The number of the latest process, be it in the file or a child that did nothing on record.
    last_process: u32,
    /// How many are in the file.
    described: u32,
    /// How many modules are in the file.
    modules: u32,
    /// Ends that are not written yet.
    ends: Vec<(Instant, trace::End)>,
    /// By the hit's sequence number.
    texts: BTreeMap<u64, Vec<u8>>,
    /// None for hits of processes that are followed, but not recorded.
    order: InOrder<Option<Event>>,
    /// What is written next: nothing, but for the room for it.
    ready: Vec<Delivery<Option<Event>>>,
    /// Time of the last event that was written.
    written: u64,
    /// The same, when all of it was in the file.
    flushed: u64,
    lost: u64,
    /// Hits of processes that are followed, but not recorded.
    others: u64,
    /// Hits of processes that should be recorded, but were not heard of yet, or have a layout that is not known.
    unplaced: u64,
    /// Ids of buffers that processes made before they were recorded, although they were waited for.
    made_before: u64,
    /// What walking stacks in both ways came to, of processes that have ended.
    compared: Compared,
    /// What the events add up to, for the progress line and the summary.
    pub tally: Tally,
}

/// A recorded process.
struct Recorded {
    /// In the file.
    number: u32,
    stacks: Stacks,
    /// Time of its latest hit, in nanoseconds since boot; that of its beginning, if there is none.
    last: u64,
}

impl Recorder {
    /// One that records nothing yet.
    ///
    /// # Errors
    /// If there can't be a thread.
    pub fn new(boot_ns: u64) -> Result<Self> {
        Ok(Self {
            writer: None,
            boot_ns,
            sites: Vec::new(),
            catalog: Catalog::new()?,
            processes: HashMap::new(),
            last_process: 0,
            described: 0,
            modules: 0,
            ends: Vec::new(),
            texts: BTreeMap::new(),
            order: InOrder::default(),
            ready: Vec::new(),
            written: 0,
            flushed: 0,
            lost: 0,
            others: 0,
            unplaced: 0,
            made_before: 0,
            compared: Compared::default(),
            tally: Tally::default(),
        })
    }

    /// Whether there is a file.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.writer.is_some()
    }

    /// Begins a file.
    pub fn begin(&mut self, writer: Writer, session: trace::Session) {
        self.writer = Some(writer);
        self.record(session);
        for text in self.tally.problems() {
            self.record(trace::Problem { text });
        }
    }

    /// Adds a probe site: its number.
    pub fn add_site(&mut self, site: impl FnOnce(u16) -> Cookie) -> Cookie {
        let cookie = site(self.sites.len() as u16);
        self.sites.push(cookie);
        cookie
    }

    /// The probe sites, by their numbers.
    #[must_use]
    pub fn sites(&self) -> &[Cookie] {
        &self.sites
    }

    /// Records a process from now on: its number in the file.
    pub fn add(&mut self, pid: u32, space: Space) -> u32 {
        self.insert(pid, Stacks::new(space))
    }

    /// Records the child that a recorded process made by this hit, from now on: its number in the file.
    pub fn add_forked(&mut self, fork: &Hit, pid: u32) -> Option<u32> {
        let stacks = self.processes.get(&fork.tgid)?.stacks.forked(pid, Epoch(fork.address).number());
        Some(self.insert(pid, stacks))
    }

    /// Writes where the modules of a forked child are.
    pub fn describe_forked(&mut self, pid: u32) {
        let Some(process) = self.processes.get(&pid) else { return };
        let (number, ranges) = (process.number, process.stacks.space().ranges().copied().collect::<Vec<_>>());
        self.mapped(number, &ranges);
    }

    fn insert(&mut self, pid: u32, stacks: Stacks) -> u32 {
        self.remove(pid);
        self.last_process += 1;
        self.processes.insert(pid, Recorded { number: self.last_process, stacks, last: boot_now() });
        self.last_process
    }

    /// Records a process no more.
    pub fn remove(&mut self, pid: u32) {
        if let Some(gone) = self.processes.remove(&pid) {
            self.compared.add(gone.stacks.compared);
        }
    }

    /// How many processes were recorded.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.described
    }

    /// What walking stacks in both ways came to.
    #[must_use]
    pub fn compared(&self) -> Compared {
        let mut sum = self.compared;
        self.processes.values().for_each(|process| sum.add(process.stacks.compared));
        sum
    }

    /// A process ends, or its recording does; what is still to come of it is written first.
    pub fn end(&mut self, pid: u32, reason: Reason) {
        let Some(process) = self.processes.get(&pid) else { return };
        // The end of its last thread was a hit.
        let time = if reason == Reason::Exited { process.last } else { boot_now() };
        let end = trace::End { process: process.number, time: self.time(time), reason: reason.name().into() };
        self.ends.push((Instant::now(), end));
        self.tally.end(process.number);
    }

    /// Has the Python part of stacks read.
    pub fn set_interpreter(&mut self, pid: u32, frames: &Frames) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.stacks.set_interpreter(Interpreter::new(pid, frames.clone(), &mut self.catalog.interned));
        }
        self.define();
    }

    /// The stacks of a recorded process, and what they need of it.
    #[must_use]
    pub fn stacks(&self, pid: u32) -> Option<&Stacks> {
        self.processes.get(&pid).map(|process| &process.stacks)
    }

    /// See [`Stacks::missed_modules`].
    pub fn missed_modules(&mut self, pid: u32) -> BTreeSet<usize> {
        self.processes.get_mut(&pid).map(|process| process.stacks.missed_modules()).unwrap_or_default()
    }

    /// Takes a native stack that hits may have from now on.
    pub fn native(&mut self, stack: NativeStack) {
        if let Some(process) = self.processes.get_mut(&stack.tgid) {
            process.stacks.native(stack, &mut self.catalog);
        }
        self.define();
    }

    /// Takes a Python stack that hits may have from now on.
    pub fn python(&mut self, stack: &PythonStack) {
        if let Some(process) = self.processes.get_mut(&stack.tgid) {
            process.stacks.python(stack, &mut self.catalog);
        }
        self.define();
    }

    /// Takes the copy of the stack of a hit that is to come; see [`Stacks::copy`].
    pub fn copy(&mut self, copy: &StackCopy<'_>) -> bool {
        self.processes.get_mut(&copy.tgid).is_none_or(|process| process.stacks.copy(copy, &self.catalog))
    }

    /// Takes the text of a hit that is to come.
    pub fn text(&mut self, sequence: u64, text: &[u8]) {
        self.texts.insert(sequence, text.to_vec());
        if self.texts.len() > MOST_WAITING {
            self.texts.pop_first();
        }
    }

    /// Writes an event for a hit, if its process is recorded. `child` is the number in the file of the process that a
    /// fork made, 0 for none.
    ///
    /// Returns the thread's stack end if it was learned from this hit.
    ///
    /// # Errors
    /// If the fields of a fresh allocation cannot be what the layout says: to record more of the process would be to record
    /// nonsense. This hit is a loss then.
    pub fn hit(&mut self, raw: &RawHit, child: u32) -> Result<Option<u64>> {
        if event::is_of_probe(raw.kind) && !self.processes.contains_key(&raw.hit.tgid) {
            // It stays away, and is a loss at its place.
            self.unplaced += 1;
            return Ok(None);
        }
        event::check_layout(raw).inspect_err(|_| self.unplaced += 1)?;
        let mut stack_end = None;
        let event = self.event(raw, child, &mut stack_end);
        self.define();
        let mut ready = mem::take(&mut self.ready);
        self.order.arrived(raw.hit.sequence, event, &mut ready);
        self.write(ready.drain(..));
        self.ready = ready;
        Ok(stack_end)
    }

    /// All probes are attached to a process: what has a unique id below `next_unique_id` existed before. `test` is the
    /// test that runs.
    pub fn border(&mut self, process: u32, next_unique_id: u64, test: Option<&str>) {
        let test = test.map_or(0, |test| self.catalog.interned.text(test));
        self.define();
        let time = self.time(boot_now());
        self.record(trace::Border { process, time, next_unique_id, test });
    }

    /// A process that was waited for had made buffers with so many ids when it was recorded.
    pub fn made_before(&mut self, ids: u64) {
        self.made_before += ids;
        self.record(trace::CounterValue { name: MADE_BEFORE.into(), value: self.made_before });
    }

    /// Adds a record.
    pub fn record(&mut self, record: impl Into<Record>) {
        let record = record.into();
        self.described += u32::from(matches!(record, Record::Process(_)));
        if let Some(writer) = &mut self.writer {
            writer.record(record);
        }
    }

    /// Nanoseconds since boot that the file's times are relative to.
    #[must_use]
    pub fn boot_ns(&self) -> u64 {
        self.boot_ns
    }

    /// Nanoseconds after the session's start, from nanoseconds since boot.
    #[must_use]
    pub fn time(&self, boot: u64) -> u64 {
        boot.saturating_sub(self.boot_ns)
    }

    /// Called each second, with what was in the ring taken in between: gives up what should have come by now.
    pub fn settle(&mut self) {
        let mut ready = Vec::new();
        self.order.settle(&mut ready);
        self.write(ready);
    }

    /// What is known by now goes to the file, where a crash can't take it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn flush(&mut self) -> Result<()> {
        for symbol in self.catalog.symbols.ready() {
            self.record(symbol);
        }
        let late = |ended: &Instant| ended.elapsed() >= LATE;
        for (_, end) in self.ends.extract_if(.., |(ended, _)| late(ended)).collect::<Vec<_>>() {
            self.record(end);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        for (name, value) in self.tally.stacks() {
            writer.record(trace::CounterValue { name: name.into(), value });
        }
        writer.flush()?;
        self.flushed = self.written;
        Ok(())
    }

    /// Called when no more hits can come, of `sent` in all. Waits for names that are still looked up.
    pub fn finish(&mut self, sent: u64, patience: Duration) -> Result<()> {
        let mut ready = Vec::new();
        self.order.finish(sent, &mut ready);
        self.write(ready);
        for (_, end) in mem::take(&mut self.ends) {
            self.record(end);
        }
        let (symbols, missing) = self.catalog.symbols.finish(patience);
        for symbol in symbols {
            self.record(symbol);
        }
        if missing > 0 {
            let text = format!("{missing} code addresses have no names: symbol tables took too long to read");
            self.record(trace::Problem { text });
        }
        self.flush()
    }

    /// Called when the recording goes no further, although `sent` hits were sent by now: what is not in the file is a loss.
    pub fn fail(&mut self, sent: u64) {
        let written = self.tally.events - self.writer.as_ref().map_or(0, Writer::unwritten);
        let count = sent.saturating_sub(self.others + self.lost + written);
        let before = self.time(boot_now());
        self.record(trace::Loss { process: 0, after: self.flushed, before, count, cause: "failed".into() });
    }

    /// The number of the module that a mapping is of, 0 if it is not known.
    #[must_use]
    pub fn module_number(&self, mapping: &Mapping) -> u32 {
        self.catalog.files.find(mapping).map_or(0, |index| index as u32 + 1)
    }

    /// Hits of processes that are followed, but not recorded: they are no events.
    #[must_use]
    pub fn others(&self) -> u64 {
        self.others
    }

    /// Hits of probes in processes of which nothing else is known, as the hit that told of their fork was lost, or whose
    /// layout is not what it was derived to be: losses, too.
    #[must_use]
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }

    /// Events that never arrived, so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Events that were taken out of the file again.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::dropped)
    }

    /// See [`Writer::epilogue`]. It is left out if it was made from another file, which has the path by now.
    ///
    /// # Errors
    /// It can't be written.
    pub fn epilogue(&mut self, made_from: Identity, epilogue: &[u8]) -> Result<()> {
        let writer = self.writer.as_mut().filter(|writer| writer.writes_to(made_from));
        writer.map_or(Ok(()), |writer| writer.epilogue(epilogue))
    }

    /// Bytes in the file so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::bytes)
    }

    /// Looks for modules of a process that were mapped or unmapped since the last look.
    pub fn refresh(&mut self, pid: u32, epoch: &dyn Fn() -> Epoch) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let (number, changes) = (process.number, process.stacks.refresh(&mut self.catalog, epoch));
        self.changed(number, changes);
    }

    /// Writes what a look at the mappings of a process found.
    pub fn changed(&mut self, process: u32, changes: Changes) {
        self.mapped(process, &changes.ranges);
        self.problems(changes.problems);
    }

    /// Writes that a process has these.
    fn mapped(&mut self, process: u32, ranges: &[Range]) {
        let time = self.time(boot_now());
        while let Some(code) = self.catalog.files.modules().get(self.modules as usize) {
            let path = code.module.mapping.path.to_string_lossy().into_owned();
            let build_id = code.module.build_id.clone();
            self.modules += 1;
            self.record(trace::Module { id: self.modules, path, build_id });
        }
        for range in ranges {
            self.record(trace::Mapping {
                process,
                module: range.module as u32 + 1,
                start: Hex(range.start),
                end: Hex(range.end),
                bias: Hex(range.bias),
                time,
            });
        }
    }

    /// Tells of what went wrong, each once.
    pub fn problems(&mut self, problems: Vec<String>) {
        for text in problems {
            if self.tally.problem(&text) {
                self.record(trace::Problem { text });
            }
        }
    }

    /// Writes what got a number.
    fn define(&mut self) {
        for record in self.catalog.interned.take_new() {
            self.record(record);
        }
    }

    fn write(&mut self, deliveries: impl IntoIterator<Item = Delivery<Option<Event>>>) {
        let mut lost = None;
        for delivery in deliveries {
            match delivery {
                // There may be hits of others between two losses, which are not written.
                Delivery::Lost(count) => *lost.get_or_insert(0) += count,
                Delivery::Event(None) => self.others += 1,
                Delivery::Event(Some(event)) => {
                    self.loss(lost.take(), event.time);
                    self.written = event.time;
                    self.tally.event(&event);
                    if let Some(writer) = &mut self.writer {
                        writer.event(event);
                    }
                }
            }
        }
        self.loss(lost, self.written);
    }

    fn loss(&mut self, count: Option<u64>, before: u64) {
        let Some(count) = count else { return };
        self.lost += count;
        // Nobody knows whose events they were.
        let process = if self.last_process == 1 { 1 } else { 0 };
        self.record(trace::Loss { process, after: self.written, before, count, cause: "ring-full".into() });
    }
}
