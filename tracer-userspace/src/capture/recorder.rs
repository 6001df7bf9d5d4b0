// SPDX-License-Identifier: Apache-2.0
//! From hits to the trace file: one process's events, with their stacks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Result, bail};
use tracer_common::{Cookie, DeviceClass, Kind, UNREADABLE_OBJECT};

use super::{
    decode::{NativeStack, PythonStack, RawHit, StackCopy},
    intern::Interned,
    order::{Delivery, InOrder},
    python::Interpreter,
    space::{Changes, Space},
    stacks::Stacks,
    tally::Tally,
};
use crate::{
    discover::{maps::Mapping, python::Frames},
    trace::{self, Event, Hex, Record, Writer},
};

/// Texts that wait for their hits. More are there only if hits were lost, and the oldest are of those.
const MOST_WAITING: usize = 64;

/// Turns the hits of one process into events of a trace file.
pub struct Recorder {
    writer: Writer,
    process: u32,
    /// The session's `boot_ns`.
    boot_ns: u64,
    /// By site number.
    sites: Vec<Cookie>,
    /// Trace numbers of its space's modules are their index, plus one.
    stacks: Stacks,
    interned: Interned,
    /// By the hit's sequence number.
    texts: BTreeMap<u64, Vec<u8>>,
    order: InOrder<Event>,
    /// Time of the last event that was written.
    written: u64,
    lost: u64,
    /// What the events add up to, for the progress line and the summary.
    pub tally: Tally,
}

impl Recorder {
    /// Continues a file that has its `session` and `process` records.
    pub fn new(writer: Writer, process: u32, boot_ns: u64, sites: Vec<Cookie>, space: Space) -> Result<Self> {
        Ok(Self {
            writer,
            process,
            boot_ns,
            sites,
            stacks: Stacks::new(space)?,
            interned: Interned::default(),
            texts: BTreeMap::new(),
            order: InOrder::default(),
            written: 0,
            lost: 0,
            tally: Tally::default(),
        })
    }

    /// Has the Python part of stacks read: the frames of process `pid`.
    pub fn set_interpreter(&mut self, pid: u32, frames: &Frames) {
        let mut define = Vec::new();
        self.stacks.set_interpreter(Interpreter::new(pid, frames.clone(), &mut define));
        self.define(define);
    }

    /// The stacks, and what they need of the process.
    #[must_use]
    pub fn stacks(&self) -> &Stacks {
        &self.stacks
    }

    /// See [`Stacks::missed_modules`].
    pub fn missed_modules(&mut self) -> BTreeSet<usize> {
        self.stacks.missed_modules()
    }

    /// Takes a native stack that hits may have from now on.
    pub fn native(&mut self, stack: NativeStack) {
        let mut define = Vec::new();
        self.stacks.native(stack, &mut self.interned, &mut define);
        self.define(define);
    }

    /// Takes a Python stack that hits may have from now on.
    pub fn python(&mut self, stack: &PythonStack) {
        let mut define = Vec::new();
        self.stacks.python(stack, &mut self.interned, &mut define);
        self.define(define);
    }

    /// Takes the copy of the stack of a hit that is to come; see [`Stacks::copy`].
    pub fn copy(&mut self, copy: &StackCopy<'_>) -> bool {
        self.stacks.copy(copy)
    }

    /// Takes the text of a hit that is to come.
    pub fn text(&mut self, sequence: u64, text: &[u8]) {
        self.texts.insert(sequence, text.to_vec());
        if self.texts.len() > MOST_WAITING {
            self.texts.pop_first();
        }
    }

    /// Writes an event for a hit.
    ///
    /// Returns the thread's stack end if it was learned from this hit.
    ///
    /// # Errors
    /// If the fields of a fresh allocation cannot be what the layout says: recording on would record nonsense.
    pub fn hit(&mut self, raw: &RawHit) -> Result<Option<u64>> {
        check_layout(raw)?;
        let mut define = Vec::new();
        let mut stack_end = None;
        let event = self.event(raw, &mut stack_end, &mut define);
        self.define(define);
        let mut ready = Vec::new();
        self.order.arrived(raw.hit.sequence, event, &mut ready);
        self.write(ready);
        Ok(stack_end)
    }

    fn event(&mut self, raw: &RawHit, stack_end: &mut Option<u64>, define: &mut Vec<Record>) -> Event {
        let hit = &raw.hit;
        let mut stack = 0;
        if self.sites.get(usize::from(hit.site)).is_some_and(|site| site.stack && site.kind == raw.kind) {
            let found = self.stacks.number(hit, &mut self.interned, define);
            self.tally.stack(found.end, found.python);
            (stack, *stack_end) = (found.number, found.stack_end);
        }
        match raw.kind {
            Kind::ThreadExit => self.stacks.thread_ended(hit.tid),
            Kind::Modules => self.stacks.modules_change(),
            _ => {}
        }
        let text = match self.texts.remove(&hit.sequence) {
            Some(text) => self.interned.text(&String::from_utf8_lossy(&text), define),
            None => 0,
        };
        Event {
            sequence: hit.sequence,
            time: self.time(hit.time),
            process: self.process,
            thread: hit.tid,
            kind: raw.kind,
            object: hit.object,
            unique_id: hit.unique_id,
            address: hit.address,
            size: hit.size,
            page_size: hit.page_size.into(),
            buffer_type: hit.buffer_type.into(),
            status: hit.status,
            owns: hit.owns != 0,
            hooked: hit.hooked != 0,
            unreadable: hit.flags & UNREADABLE_OBJECT != 0,
            device: hit.device,
            device_class: device_class(hit.device_class),
            device_id: hit.device_id,
            allocator: hit.allocator,
            stack,
            text,
            child: 0,
        }
    }

    /// All probes are attached: what has a unique id below `next_unique_id` existed before. `test` is the test that runs.
    pub fn border(&mut self, next_unique_id: u64, test: Option<&str>) {
        let mut define = Vec::new();
        let test = test.map_or(0, |test| self.interned.text(test, &mut define));
        self.define(define);
        let time = self.time(boot_now());
        self.writer.record(trace::Border { process: self.process, time, next_unique_id, test });
    }

    /// Adds a record.
    pub fn record(&mut self, record: impl Into<Record>) {
        self.writer.record(record);
    }

    /// Nanoseconds after the session's start, from nanoseconds since boot.
    #[must_use]
    pub fn time(&self, boot: u64) -> u64 {
        boot.saturating_sub(self.boot_ns)
    }

    /// Called each second: what is known by now goes to the file, where a crash can't take it.
    pub fn flush(&mut self) -> Result<()> {
        let mut ready = Vec::new();
        self.order.settle(&mut ready);
        self.write(ready);
        for symbol in self.stacks.symbols().ready() {
            self.writer.record(symbol);
        }
        for (name, &value) in &self.tally.stacks {
            self.writer.record(trace::CounterValue { name: name.as_str().into(), value });
        }
        self.writer.flush()
    }

    /// Called when no more hits can come, of `sent` in all. Waits for names that are still looked up.
    pub fn finish(&mut self, sent: u64, patience: Duration) -> Result<()> {
        let mut ready = Vec::new();
        self.order.finish(sent, &mut ready);
        self.write(ready);
        let (symbols, missing) = self.stacks.symbols().finish(patience);
        for symbol in symbols {
            self.writer.record(symbol);
        }
        if missing > 0 {
            let text = format!("{missing} code addresses have no names: symbol tables took too long to read");
            self.writer.record(trace::Problem { text });
        }
        self.writer.flush()
    }

    /// The number of the module that a mapping is of, 0 if it is not known.
    #[must_use]
    pub fn module_number(&self, mapping: &Mapping) -> u32 {
        self.stacks.space().find(mapping).map_or(0, |index| index as u32 + 1)
    }

    /// Events that never arrived, so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Bytes in the file so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Looks for modules that were mapped or unmapped since the last look.
    pub fn refresh(&mut self, epoch: &dyn Fn() -> u32) {
        let changes = self.stacks.refresh(epoch);
        self.changed(changes);
    }

    /// Writes what a look at the process's mappings found.
    pub fn changed(&mut self, changes: Changes) {
        let time = self.time(boot_now());
        for (index, module) in self.stacks.space().modules().iter().enumerate().skip(changes.first_new_module) {
            let path = module.module.mapping.path.to_string_lossy().into_owned();
            let build_id = module.module.build_id.clone();
            self.writer.record(trace::Module { id: index as u32 + 1, path, build_id });
        }
        for range in changes.ranges {
            self.writer.record(trace::Mapping {
                process: self.process,
                module: range.module as u32 + 1,
                start: Hex(range.start),
                end: Hex(range.end),
                bias: Hex(range.bias),
                time,
            });
        }
        self.problems(changes.problems);
    }

    /// Tells of what went wrong, each once.
    pub fn problems(&mut self, problems: Vec<String>) {
        for text in problems {
            if self.tally.problem(&text) {
                self.writer.record(trace::Problem { text });
            }
        }
    }

    fn define(&mut self, records: Vec<Record>) {
        for record in records {
            self.writer.record(record);
        }
    }

    fn write(&mut self, deliveries: Vec<Delivery<Event>>) {
        let mut lost = None;
        for delivery in deliveries {
            match delivery {
                Delivery::Lost(count) => lost = Some(count),
                Delivery::Event(event) => {
                    self.loss(lost.take(), event.time);
                    self.written = event.time;
                    self.tally.event(&event);
                    self.writer.event(event);
                }
            }
        }
        self.loss(lost, self.written);
    }

    fn loss(&mut self, count: Option<u64>, before: u64) {
        let Some(count) = count else { return };
        self.lost += count;
        let (process, after) = (self.process, self.written);
        self.writer.record(trace::Loss { process, after, before, count, cause: "ring-full".into() });
    }
}

/// Nanoseconds since boot, as the kernel side's clock has it.
#[must_use]
pub fn boot_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

fn device_class(class: u8) -> DeviceClass {
    match class {
        1 => DeviceClass::Chip,
        2 => DeviceClass::Mesh,
        _ => DeviceClass::Unknown,
    }
}

/// A buffer whose allocation has just succeeded has values that are known beforehand: the last check that the derived
/// layout is right. (At a free the object may be anything, if the target has the bug that is looked for.)
fn check_layout(raw: &RawHit) -> Result<()> {
    let hit = &raw.hit;
    if raw.kind != Kind::Allocated || hit.flags & UNREADABLE_OBJECT != 0 {
        return Ok(());
    }
    let plausible = hit.status == 1 && hit.buffer_type <= 4 && hit.owns <= 1 && hit.hooked <= 1;
    if !plausible {
        bail!(
            "the derived field layout does not fit this target: an allocated buffer has status {}, type {}, owns {}, \
             hooked {}; nothing more is recorded, please report the library's build id",
            hit.status,
            hit.buffer_type,
            hit.owns,
            hit.hooked
        );
    }
    Ok(())
}
