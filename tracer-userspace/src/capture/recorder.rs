// SPDX-License-Identifier: Apache-2.0
//! From hits to the trace file: one process's events, with their stacks.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tracer_common::{Cookie, DeviceClass, Kind, PythonEnd, UNREADABLE_OBJECT};

use super::{
    decode::{PythonHit, RawHit},
    intern::{CodeAddress, Interned},
    merge::{Native, merge},
    order::{Delivery, InOrder},
    python::{Interpreter, PythonPart},
    space::Space,
    symbolize::{Request, Symbols},
    tally::Tally,
};
use crate::{
    discover::{maps::Mapping, python::Frames},
    trace::{self, Event, Hex, Record, Writer},
    unwind::{End, Machine, Walk, walk},
};

/// A look at the process's mappings costs a millisecond; an address that stays unknown must not cause one each time.
const REFRESH_AT_MOST: Duration = Duration::from_millis(100);

/// Turns the hits of one process into events of a trace file.
pub struct Recorder {
    writer: Writer,
    process: u32,
    /// The session's `boot_ns`.
    boot_ns: u64,
    /// By site number.
    sites: Vec<Cookie>,
    space: Space,
    /// Trace numbers of the space's modules are their index, plus one.
    refreshed: Instant,
    interned: Interned,
    /// Frame numbers by process address, for as long as nothing is mapped anew.
    known_frames: HashMap<(u64, bool), u32>,
    symbols: Symbols,
    /// Whose frames are captured, if anyone's.
    interpreter: Option<Interpreter>,
    order: InOrder<Event>,
    /// Time of the last event that was written.
    written: u64,
    stack_ends: HashMap<u32, u64>,
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
            space,
            refreshed: Instant::now(),
            interned: Interned::default(),
            known_frames: HashMap::new(),
            symbols: Symbols::start()?,
            interpreter: None,
            order: InOrder::default(),
            written: 0,
            stack_ends: HashMap::new(),
            lost: 0,
            tally: Tally::default(),
        })
    }

    /// Has the Python part of stacks read: the frames of process `pid`.
    pub fn set_interpreter(&mut self, pid: u32, frames: &Frames) {
        let mut define = Vec::new();
        self.interpreter = Some(Interpreter::new(pid, frames.clone(), &mut define));
        self.define(define);
    }

    /// Takes the Python part of the stack of a hit that is to come.
    pub fn python(&mut self, part: PythonHit) {
        if let Some(interpreter) = &mut self.interpreter {
            interpreter.keep(part);
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
        let hit = &raw.hit;
        let time = self.time(hit.time);
        let mut define = Vec::new();
        let (stack, stack_end) = self.stack(raw, &mut define);
        let text = match raw.kind {
            Kind::TestBegin => self.interned.text(&String::from_utf8_lossy(raw.text), &mut define),
            _ => 0,
        };
        if raw.kind == Kind::ThreadExit {
            self.stack_ends.remove(&hit.tid);
        }
        let event = Event {
            sequence: hit.sequence,
            time,
            process: self.process,
            thread: hit.tid,
            kind: raw.kind,
            object: hit.object,
            unique_id: hit.unique_id,
            address: hit.address,
            size: hit.size,
            page_size: hit.page_size,
            buffer_type: hit.buffer_type,
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
        };
        self.define(define);
        let mut ready = Vec::new();
        self.order.arrived(hit.sequence, event, &mut ready);
        self.write(ready);
        Ok(stack_end)
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
        self.refresh();
        for symbol in self.symbols.ready() {
            self.writer.record(symbol);
        }
        self.writer.flush()
    }

    /// Called when no more hits can come, of `sent` in all. Waits for names that are still looked up.
    pub fn finish(&mut self, sent: u64, patience: Duration) -> Result<()> {
        let mut ready = Vec::new();
        self.order.finish(sent, &mut ready);
        self.write(ready);
        let (symbols, missing) = self.symbols.finish(patience);
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
        self.space.find(mapping).map_or(0, |index| index as u32 + 1)
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
    pub fn refresh(&mut self) {
        self.refreshed = Instant::now();
        let changes = self.space.refresh();
        if changes.any {
            self.known_frames.clear();
        }
        let time = self.time(boot_now());
        for (index, module) in self.space.modules().iter().enumerate().skip(changes.first_new_module) {
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
        for text in changes.problems {
            if self.tally.problem(&text) {
                self.writer.record(trace::Problem { text });
            }
        }
    }

    fn stack(&mut self, raw: &RawHit, define: &mut Vec<Record>) -> (u32, Option<u64>) {
        let wants_stack = self.sites.get(usize::from(raw.hit.site)).is_some_and(|site| site.stack);
        if !wants_stack || raw.kind == Kind::ThreadExit {
            return (0, None);
        }
        let python = match &mut self.interpreter {
            Some(interpreter) => interpreter.take(raw.hit.sequence, &mut self.interned, define),
            None => PythonPart { pieces: Vec::new(), end: PythonEnd::NotRead },
        };
        let Some(walk) = self.walk(raw) else {
            return (self.merged(&[], End::NotCopied, python, define), None);
        };
        self.tally.walk(walk.end);
        let native: Vec<Native> = walk
            .frames
            .iter()
            .map(|frame| Native {
                frame: self.frame(frame.address, frame.returns, define),
                evaluator: self.interpreter.as_ref().is_some_and(|it| it.is_evaluator(frame.inside())),
            })
            .collect();
        let stack = self.merged(&native, walk.end, python, define);
        let learned =
            walk.end == End::Complete && self.stack_ends.insert(raw.hit.tid, walk.stack_end) != Some(walk.stack_end);
        (stack, learned.then_some(walk.stack_end))
    }

    /// The number of the stack that these make together.
    fn merged(&mut self, native: &[Native], end: End, python: PythonPart, define: &mut Vec<Record>) -> u32 {
        let merged = merge(native, python.pieces);
        let state = match python.end {
            PythonEnd::NotRead | PythonEnd::NoThreadState => "",
            PythonEnd::Complete if merged.certain => "complete",
            PythonEnd::Complete => "uncertain",
            PythonEnd::UnreadableState => "unreadable-state",
            PythonEnd::OtherThread => "other-thread",
            PythonEnd::UnreadableFrame => "unreadable-frame",
            PythonEnd::TooManyFrames => "too-many-frames",
            PythonEnd::NotSent => "not-sent",
        };
        self.interned.stack(merged.frames, end, state, define)
    }

    /// `None` if the hit has no copy of its stack.
    fn walk(&mut self, raw: &RawHit) -> Option<Walk> {
        let machine = Machine::at(&raw.hit.registers);
        let first = walk(machine, raw.stack()?, &self.space);
        if first.end != End::NoModule || self.refreshed.elapsed() < REFRESH_AT_MOST {
            return Some(first);
        }
        self.refresh();
        Some(walk(machine, raw.stack()?, &self.space))
    }

    fn frame(&mut self, address: u64, returns: bool, define: &mut Vec<Record>) -> u32 {
        if let Some(&frame) = self.known_frames.get(&(address, returns)) {
            return frame;
        }
        let inside = address.wrapping_sub(u64::from(returns));
        let range = self.space.range(inside).copied();
        let code = CodeAddress {
            module: range.map_or(0, |range| range.module as u32 + 1),
            address: address.wrapping_sub(range.map_or(0, |range| range.bias)),
            returns,
        };
        let (frame, new) = self.interned.frame(code, define);
        if let (true, Some(range)) = (new, range) {
            let module = Arc::clone(&self.space.modules()[range.module].module);
            self.symbols.request(Request { frame, module, address: code.address, returns });
        }
        self.known_frames.insert((address, returns), frame);
        frame
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
