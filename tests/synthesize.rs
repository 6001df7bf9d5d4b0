// SPDX-License-Identifier: Apache-2.0
//! Writes a trace of as many events as asked for: `synthesize EVENTS FILE [STACKS [epilogue]]`. Without the last word it ends as a
//! recording does that was killed.
//!
//! It is as one process would leave it that makes buffers of many sizes, in DRAM and L1, from many places, in one test
//! after the other, and frees them in no order; one free in fifty is a repeat. Its addresses, objects and stacks vary as
//! those of such a process do: memory is given anew by size, last freed first, and a stack shares its outer frames with
//! others. The same arguments give the same file.

use std::{env, path::Path};

use anyhow::{Context as _, Result};
use buftrace::{
    analysis::EpilogueFold,
    trace::{
        Border, Code, CounterValue, DeviceClass, End, Event, Follower, Frame, Hex, Kind, Module, Process, PythonFrame,
        Session, Stack, Symbol, Text, Writer,
    },
};

const DEVICE: u64 = 0x55aa_0001_2720;
const ALLOCATOR: u64 = 0x55aa_0002_ef40;
const BANK_MANAGERS: [u64; 2] = [0x55aa_0003_d3c0, 0x55aa_0003_e4c0];
/// Where the heap is that buffer objects are on, and how far they are apart.
const HEAP: u64 = 0x55ab_0000_0010;
const OBJECT: u64 = 0x240;
/// Addresses that buffers of one type and size have to themselves.
const REGION: u64 = 1 << 32;
const SIZES: u64 = 24;
/// Around how many buffers live at a time.
const LIVE: usize = 4000;
/// Events of one phase of a test.
const PHASE: u64 = 20_000;
const DEPTH: std::ops::Range<u64> = 30..61;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let usage = "synthesize EVENTS FILE [STACKS [epilogue]]";
    let (events, file) = (arguments.first().context(usage)?.parse()?, Path::new(arguments.get(1).context(usage)?));
    let stacks = arguments.get(2).map_or(Ok(20_000), |text| text.parse())?;
    let mut run = Run::new(file, stacks)?;
    while run.sequence < events {
        run.step();
    }
    let mut writer = run.end()?;
    if arguments.get(3).is_some_and(|word| word == "epilogue") {
        let mut fold = EpilogueFold::default();
        fold.read(&mut Follower::open(file)?);
        writer.epilogue(&fold.finish().context("nothing was written")?.to_bytes())?;
    }
    Ok(())
}

struct Run {
    writer: Writer,
    random: Random,
    sequence: u64,
    time: u64,
    unique_ids: u64,
    live: Vec<Buffer>,
    /// Objects that were freed and how many there were; slots that were freed and how many there were, by type and size.
    objects: (Vec<u64>, u64),
    slots: Vec<(Vec<u64>, u64)>,
    /// Which stacks were written, and how many there are to choose from.
    stacks: (Vec<u32>, u32),
    texts: u32,
    frames: u32,
}

#[derive(Clone, Copy)]
struct Buffer {
    object: u64,
    unique_id: u64,
    slot: u64,
    class: u64,
    place: u64,
}

impl Buffer {
    fn buffer_type(self) -> u32 {
        (self.class / SIZES) as u32
    }

    fn page_size(self) -> u64 {
        2048 << (self.class % 3)
    }

    fn size(self) -> u64 {
        self.page_size() * (1 + (self.class % SIZES).pow(3))
    }

    fn address(self) -> u64 {
        // In each bank, as allocators count.
        self.class % SIZES * REGION + self.slot * self.size().next_multiple_of(2048)
    }
}

impl Run {
    fn new(file: &Path, stacks: u32) -> Result<Self> {
        let mut writer = Writer::create(file)?;
        writer.record(Session { tool: "synthesize".into(), host: "nowhere".into(), boot_ns: 1, ..Session::default() });
        writer.record(Process { id: 1, pid: 7, start: 1, command: "pytest tests".into(), ..Process::default() });
        let mut run = Self {
            writer,
            random: Random(1),
            sequence: 0,
            time: 0,
            unique_ids: 0,
            live: Vec::new(),
            objects: Default::default(),
            slots: vec![Default::default(); 2 * SIZES as usize],
            stacks: (vec![0; stacks as usize], 0),
            texts: 0,
            frames: 0,
        };
        run.write_frames();
        run.writer.record(Border { process: 1, ..Border::default() });
        run.event(Kind::DeviceOpen, None, |event| event.object = DEVICE);
        Ok(run)
    }

    /// The frames that stacks are made of: twice as many native ones as Python ones, a function for each eight.
    fn write_frames(&mut self) {
        for (id, path) in [(1, "/opt/lib/libtt_metal.so"), (2, "/opt/lib/_ttnn.so"), (3, "/usr/bin/python3")] {
            self.writer.record(Module { id, path: path.into(), build_id: format!("{id:040x}") });
        }
        self.frames = (self.stacks.0.len() as u32 / 2).clamp(300, 30_000);
        for id in 1..=self.frames {
            if id % 3 == 0 {
                let code = id / 24 + 1;
                if id % 24 == 0 || id == 3 {
                    let (function, file) = (format!("Layer{}.step", code % 90), format!("/src/model_{}.py", code / 90));
                    let code = Code { id: code, function, file, first_line: 10 * (code % 90) + 1, ..Code::default() };
                    self.writer.record(code);
                }
                self.writer.record(PythonFrame { id, code, line: 10 * (code % 90) + 1 + id % 8 });
            } else {
                let address = Hex(0x1_0000 + 0x40 * u64::from(id));
                self.writer.record(Frame { id, module: 1 + id % 2, address, returns: true });
                let (function, offset) =
                    (format!("tt::ns{}::function_{}(int)", id % 7, id / 8), Hex(u64::from(id % 8)));
                self.writer.record(Symbol { frame: id, function, offset, ..Symbol::default() });
            }
        }
    }

    fn step(&mut self) {
        if self.sequence / PHASE >= u64::from(self.texts) {
            self.next_phase();
        }
        // Around as many live as are wanted, and up and down by tests.
        let wanted = LIVE / 2 + LIVE * (self.texts as usize % 8) / 8;
        if self.random.below(2 * wanted as u64) as usize >= self.live.len() {
            self.allocate();
        } else {
            self.free();
        }
    }

    fn next_phase(&mut self) {
        self.texts += 1;
        let (id, phase) = (self.texts, ["setup", "call", "teardown"][self.texts as usize % 3]);
        let text = format!("tests/test_model_{}.py::test_case_{} ({phase})", id / 300, id / 3);
        self.writer.record(Text { id, text });
        self.event(Kind::TestBegin, None, |event| event.text = id);
    }

    fn allocate(&mut self) {
        let class = self.random.below(2 * SIZES);
        let object = take(&mut self.objects);
        let slot = take(&mut self.slots[class as usize]);
        let place = self.random.skewed(self.stacks.0.len() as u64 / 2);
        let buffer = Buffer { object: HEAP + object * OBJECT, unique_id: self.unique_ids, slot, class, place };
        self.unique_ids += 1 + u64::from(self.random.below(4) == 0);
        let stack = self.stack(place);
        self.event(Kind::Request, Some(buffer), |event| {
            (event.address, event.status, event.stack) = (0, 0, stack);
        });
        let manager = BANK_MANAGERS[buffer.buffer_type() as usize];
        self.event(Kind::Bank, None, |event| (event.object, event.size) = (manager, buffer.size().div_ceil(12)));
        self.event(Kind::Allocated, Some(buffer), |_| {});
        self.live.push(buffer);
    }

    fn free(&mut self) {
        // Most are young.
        let age = self.random.skewed(self.live.len() as u64) as usize;
        let buffer = self.live.remove(self.live.len() - 1 - age);
        let stack = self.stack(self.stacks.0.len() as u64 / 2 + buffer.place);
        let freed = |event: &mut Event| (event.stack, event.device_class) = (stack, DeviceClass::Unknown);
        self.event(Kind::Free, Some(buffer), freed);
        self.event(Kind::Released, Some(buffer), |_| {});
        if self.random.below(50) == 0 {
            self.event(Kind::Free, Some(buffer), |event| {
                freed(event);
                event.status = 2;
            });
        }
        self.objects.0.push((buffer.object - HEAP) / OBJECT);
        self.slots[buffer.class as usize].0.push(buffer.slot);
    }

    /// The number of a stack, which is written when it is first needed. Neighbours share what is outside.
    fn stack(&mut self, place: u64) -> u32 {
        let place = place.min(self.stacks.0.len() as u64 - 1);
        if self.stacks.0[place as usize] == 0 {
            self.stacks.1 += 1;
            let (id, count) = (self.stacks.1, u64::from(self.frames));
            let depth = DEPTH.start + place / 64 % (DEPTH.end - DEPTH.start);
            let frames = (0..depth).map(|level| {
                let path = if level < 10 { place } else { place / 64 };
                (Random(path * 64 + level + 1).next() % count) as u32 + 1
            });
            let (end, python) = ("complete".into(), "complete".into());
            self.writer.record(Stack { id, frames: frames.collect(), end, python });
            self.stacks.0[place as usize] = id;
        }
        self.stacks.0[place as usize]
    }

    fn event(&mut self, kind: Kind, buffer: Option<Buffer>, change: impl Fn(&mut Event)) {
        self.time += 600 + self.random.skewed(8000);
        let (sequence, time) = (self.sequence, self.time);
        let mut event = Event { sequence, time, process: 1, thread: 7, ..Event::of(kind) };
        if let Some(buffer) = buffer {
            event.object = buffer.object;
            event.unique_id = buffer.unique_id;
            event.address = buffer.address();
            event.size = buffer.size();
            event.page_size = buffer.page_size();
            event.buffer_type = buffer.buffer_type();
            (event.status, event.owns) = (1, true);
            (event.device, event.device_class, event.device_id) = (DEVICE, DeviceClass::Mesh, 1);
            event.allocator = ALLOCATOR;
        }
        change(&mut event);
        self.writer.event(event);
        self.sequence += 1;
    }

    fn end(mut self) -> Result<Writer> {
        self.writer.record(End { process: 1, time: self.time, reason: "interrupted".into() });
        self.writer.record(CounterValue { name: "sent".into(), value: self.sequence });
        self.writer.flush()?;
        Ok(self.writer)
    }
}

/// The last one freed, or a new one.
fn take((freed, count): &mut (Vec<u64>, u64)) -> u64 {
    freed.pop().unwrap_or_else(|| {
        *count += 1;
        *count - 1
    })
}

/// Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Small ones more often: half of them are below an eighth of the bound.
    fn skewed(&mut self, bound: u64) -> u64 {
        let bound = self.below(bound) + 1;
        let bound = self.below(bound) + 1;
        self.below(bound)
    }
}
