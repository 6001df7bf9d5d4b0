// SPDX-License-Identifier: Apache-2.0
//! Perfetto's trace format, for its UI and its trace processor: a slice for each life of a buffer, counters of what is live,
//! an instant for each excess free with flows from its allocation and from the free before, and the tests.
//!
//! Times are those since boot, as in traces of the system, so that both can be looked at together. A slice is written when
//! the life ends: the order of packets does not matter. So memory grows with what is live, with the different names, and
//! with the buffers that are freed too often.

mod lanes;
mod links;
mod packets;
mod schema;
#[cfg(test)]
mod tests;
mod tracks;

use std::{collections::HashMap, io::Write};

use anyhow::Result;

pub use links::Links;

use super::{
    Export,
    frames::{BEFORE, NO_STACK, remark},
};
use crate::{
    analysis::{ExcessKind, Filter, Life, LifeFold, Load, Piece, Selected, Site, frame_name},
    model::{Buffer, Definitions, Entry, Line, Model, Moment, Outcome, Previous, TestSpan},
    trace::{Loss, escape},
};
use lanes::Lanes;
use packets::Packets;
use schema::{BOOTTIME, Clock, ClockSnapshot, DebugAnnotation, REALTIME, TracePacket, TrackEvent, Type};
use tracks::{Memory, Track, Tracks};

/// Writes lives, counters and findings over time.
pub struct Perfetto<'a> {
    definitions: &'a Definitions,
    packets: Packets<'a>,
    tracks: Tracks,
    links: Links,
    lives: LifeFold,
    lanes: HashMap<Memory, Lanes>,
    /// The lanes that are taken, by process and unique id.
    taken: HashMap<(u32, u64), (Memory, u32)>,
    /// What is live, and when that last changed; none if a selection parts allocations from their frees.
    live: Option<HashMap<Memory, (Load, u64)>>,
    /// Numbers of texts by stack number.
    stacks: HashMap<Option<u32>, u64>,
    sites: HashMap<Option<u32>, String>,
}

/// What an event is about, apart from its place and time.
#[derive(Default)]
struct What {
    name: String,
    category: &'static str,
    arguments: Vec<DebugAnnotation>,
    /// Links that begin here, and that end here.
    flows: [Vec<u64>; 2],
}

impl<'a> Perfetto<'a> {
    /// Begins with what the first reading of the traces gave, for the entries that a filter takes.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    pub fn new(model: &'a Model, links: Links, filter: &Filter, out: &'a mut dyn Write) -> Result<Self> {
        let definitions = &model.definitions;
        let sessions = definitions.sessions.iter().filter(|session| session.wall_ns != 0);
        let (wall, boot) = sessions.map(|session| (session.wall_ns, session.boot_ns)).min().unwrap_or((0, 0));
        let mut perfetto = Self {
            definitions,
            packets: Packets::new(out, boot),
            tracks: Tracks::new(model),
            links,
            lives: LifeFold::default(),
            lanes: HashMap::new(),
            taken: HashMap::new(),
            live: (!filter.parts_lives()).then(HashMap::new),
            stacks: HashMap::new(),
            sites: HashMap::new(),
        };
        perfetto.clocks(wall, boot)?;
        model.spans.spans.iter().try_for_each(|span| perfetto.test(span))?;
        perfetto.losses(&definitions.losses)?;
        Ok(perfetto)
    }

    fn clocks(&mut self, wall: u64, boot: u64) -> Result<()> {
        let clock = |id, time| Clock { clock_id: Some(id), timestamp: Some(time) };
        let wall = Some(clock(REALTIME, wall)).filter(|_| wall != 0);
        let clocks = [clock(BOOTTIME, boot)].into_iter().chain(wall).collect();
        let clock_snapshot = Some(ClockSnapshot { clocks, primary_trace_clock: Some(BOOTTIME as i32) });
        self.packets.send(TracePacket { clock_snapshot, ..TracePacket::default() })
    }

    fn test(&mut self, span: &TestSpan) -> Result<()> {
        let name = self.definitions.text(span.text).unwrap_or("").to_owned();
        let what = What { name, category: "test", ..What::default() };
        self.slice(Track::Tests(span.process), span.begin, span.end, what)
    }

    /// Gaps in the order of their begin; what overlaps is told from the end of the earlier one on.
    fn losses(&mut self, losses: &[Loss]) -> Result<()> {
        let mut losses: Vec<&Loss> = losses.iter().collect();
        losses.sort_by_key(|loss| (loss.process, loss.after, loss.before));
        let mut last = (0, 0);
        for loss in losses {
            let begin = if last.0 == loss.process { loss.after.max(last.1) } else { loss.after };
            let end = loss.before.max(begin);
            last = (loss.process, end);
            let name = format!("{} events lost ({})", loss.count, loss.cause);
            let what = What { name, category: "loss", ..What::default() };
            self.slice(Track::Losses(loss.process), begin, Some(end), what)?;
        }
        Ok(())
    }

    fn begin(&mut self, buffer: &Buffer, time: u64) {
        let memory = Memory::of(buffer);
        let lane = self.lanes.entry(memory).or_default().take(time);
        self.taken.insert((buffer.process, buffer.unique_id), (memory, lane));
    }

    fn life(&mut self, life: &Life) -> Result<()> {
        let Life { buffer, begin, end } = life;
        let Some((memory, lane)) = self.taken.remove(&(buffer.process, buffer.unique_id)) else { return Ok(()) };
        let ended = end.map(|end| end.moment.time.max(*begin));
        if let (Some(end), Some(lanes)) = (ended, self.lanes.get_mut(&memory)) {
            lanes.leave(lane, end);
        }
        let mut arguments = self.describe(buffer);
        arguments.extend(self.place(["allocated_in", "allocated_at"], buffer.allocated.as_ref()));
        if let Some(end) = end {
            arguments.extend(self.place(["ended_in", "ended_at"], Some(&end.moment).filter(|it| it.thread != 0)));
            arguments.push(self.word("verdict", end.verdict.name()));
            arguments.push(self.word("certainty", end.certainty.name()));
        }
        let name = self.site(buffer.allocated.map(|moment| moment.stack));
        let category = end.map_or("no end", |end| end.verdict.name());
        let flows = [self.links.of_allocation(buffer), Vec::new()];
        self.slice(Track::Lane(memory, lane), *begin, ended, What { name, category, arguments, flows })
    }

    /// A free beyond the allocations, and the free before it if that was not told yet.
    fn excess(&mut self, outcome: &Outcome) -> Result<()> {
        let track = Track::Excess(Memory::of(outcome.owner()));
        let before = self.links.of_free_before(outcome);
        if let (false, Previous::Free(moment, verdict)) = (before.is_empty(), outcome.previous) {
            let name = format!("free before ({}): {}", verdict.name(), self.site(Some(moment.stack)));
            let mut arguments = self.describe(&outcome.buffer);
            arguments.extend(self.place(["test", "stack"], Some(&moment)));
            arguments.push(self.word("verdict", verdict.name()));
            let what = What { name, category: "free before", arguments, flows: [before, Vec::new()] };
            self.instant(track, moment.time, what)?;
        }
        let ends = self.links.of_excess(outcome);
        self.finding(track, outcome, ends)
    }

    fn finding(&mut self, track: Track, outcome: &Outcome, ends: Vec<u64>) -> Result<()> {
        let Outcome { buffer, verdict, certainty, moment, .. } = outcome;
        let name = format!("{}: {}", verdict.name(), self.site(Some(moment.stack)));
        let mut arguments = self.describe(buffer);
        arguments.extend(self.place(["test", "stack"], Some(moment)));
        arguments.push(self.word("verdict", verdict.name()));
        arguments.push(self.word("certainty", certainty.name()));
        if let Some(other) = outcome.other {
            arguments.push(self.packets.uint("other_unique_id", other.unique_id));
        }
        let what = What { name, category: verdict.name(), arguments, flows: [Vec::new(), ends] };
        self.instant(track, moment.time, what)
    }

    /// Counts what an entry takes or gives back.
    fn count(&mut self, entry: &Entry) -> Result<()> {
        let (buffer, time, takes) = match entry {
            Entry::Allocation(it) if !it.buffer.phantom => (&it.buffer, it.moment.time, true),
            Entry::Found(it) => (&it.buffer, it.time, true),
            Entry::Outcome(it) if it.gives_back() => (&it.buffer, it.moment.time, false),
            _ => return Ok(()),
        };
        let memory = Memory::of(buffer);
        let Some(live) = &mut self.live else { return Ok(()) };
        let (load, last) = live.entry(memory).or_default();
        let change = Load::of_one(buffer.size, buffer.bank_bytes);
        *load = if takes { load.plus(change) } else { load.minus(change) };
        // Frees are decided a little later than they happen; what is live has one order all the same.
        *last = time.max(*last);
        let (load, time) = (*load, *last);
        self.counter(Track::Bytes(memory), time, load.bytes)?;
        match buffer.bank_bytes {
            Some(_) => self.counter(Track::BankBytes(memory), time, load.bank_bytes),
            None => Ok(()),
        }
    }

    fn describe(&mut self, buffer: &Buffer) -> Vec<DebugAnnotation> {
        let packets = &mut self.packets;
        let mut arguments = vec![
            packets.uint("unique_id", buffer.unique_id),
            packets.pointer("address", buffer.address),
            packets.uint("size", buffer.size),
        ];
        arguments.extend(buffer.bank_bytes.map(|bytes| packets.uint("bank_bytes", bytes)));
        arguments
    }

    /// The test and the stack of a moment, as arguments of these names.
    fn place(&mut self, keys: [&str; 2], moment: Option<&Moment>) -> Vec<DebugAnnotation> {
        let test = moment.and_then(|moment| self.definitions.test(moment)).map(str::to_owned);
        let test = test.map(|test| self.word(keys[0], &test));
        let stack = moment.map(|moment| self.stack(Some(moment.stack)));
        let stack = stack.map(|stack| self.packets.text(keys[1], stack));
        test.into_iter().chain(stack).collect()
    }

    fn word(&mut self, key: &str, text: &str) -> DebugAnnotation {
        let value = self.packets.value(&escape(text));
        self.packets.text(key, value)
    }

    /// The number of a stack's text, a line a function, innermost first.
    fn stack(&mut self, stack: Option<u32>) -> u64 {
        if let Some(&known) = self.stacks.get(&stack) {
            return known;
        }
        let text = stack_text(self.definitions, stack);
        let number = self.packets.value(&text);
        self.stacks.insert(stack, number);
        number
    }

    /// The name of the site of a stack; none if the allocation was not seen.
    fn site(&mut self, stack: Option<u32>) -> String {
        let definitions = self.definitions;
        let name = || stack.map_or_else(|| BEFORE.to_owned(), |it| Site::of(definitions.stack(it).as_ref()).name);
        self.sites.entry(stack).or_insert_with(name).clone()
    }

    fn slice(&mut self, track: Track, begin: u64, end: Option<u64>, what: What) -> Result<()> {
        let track = self.tracks.number(track, &mut self.packets)?;
        self.event(track, Type::SliceBegin, begin, what)?;
        match end {
            Some(end) => self.packets.event(end, event(track, Type::SliceEnd)),
            None => Ok(()),
        }
    }

    fn instant(&mut self, track: Track, time: u64, what: What) -> Result<()> {
        let track = self.tracks.number(track, &mut self.packets)?;
        self.event(track, Type::Instant, time, what)
    }

    fn counter(&mut self, track: Track, time: u64, value: u64) -> Result<()> {
        let track = self.tracks.number(track, &mut self.packets)?;
        let counter_value = Some(i64::try_from(value).unwrap_or(i64::MAX));
        self.packets.event(time, TrackEvent { counter_value, ..event(track, Type::Counter) })
    }

    fn event(&mut self, track: u64, kind: Type, time: u64, what: What) -> Result<()> {
        let name_iid = Some(self.packets.name(&escape(&what.name)));
        let category_iids = vec![self.packets.category(what.category)];
        let [flow_ids, terminating_flow_ids] = what.flows;
        let debug_annotations = what.arguments;
        let event = TrackEvent {
            name_iid,
            category_iids,
            debug_annotations,
            flow_ids,
            terminating_flow_ids,
            ..event(track, kind)
        };
        self.packets.event(time, event)
    }
}

impl Export for Perfetto<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.count(entry)?;
        let piece = self.lives.entry(entry);
        if let Some(Piece::Life(life)) = &piece {
            self.life(life)?;
        }
        match entry {
            Entry::Allocation(it) => self.begin(&it.buffer, it.moment.time),
            Entry::Found(it) => self.begin(&it.buffer, it.time),
            Entry::Alias(_) => {}
            Entry::Outcome(outcome) => match (ExcessKind::of(outcome.verdict), piece) {
                (Some(ExcessKind::Excess), _) => self.excess(outcome)?,
                (_, Some(Piece::Event(_))) => {
                    self.finding(Track::Others(Memory::of(&outcome.buffer)), outcome, Vec::new())?;
                }
                (_, Some(Piece::Life(_)) | None) => {}
            },
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, _: Option<&Selected>) -> Result<()> {
        for life in std::mem::take(&mut self.lives).finish() {
            self.life(&life)?;
        }
        self.packets.flush()
    }
}

fn event(track: u64, kind: Type) -> TrackEvent {
    TrackEvent { r#type: Some(kind.into()), track_uuid: Some(track), ..TrackEvent::default() }
}

fn stack_text(definitions: &Definitions, stack: Option<u32>) -> String {
    let Some(number) = stack else { return BEFORE.to_owned() };
    let Some(stack) = definitions.stack(number).filter(|stack| !stack.lines.is_empty()) else {
        return NO_STACK.to_owned();
    };
    let line = |(_, line): (usize, &Line)| {
        let place = match (&line.file, line.line) {
            (Some(file), Some(number)) => format!(" ({file}:{number})"),
            (Some(file), None) => format!(" ({file})"),
            (None, _) => String::new(),
        };
        escape(&(frame_name(line) + &place))
    };
    let lines = stack.shown(false).map(line).chain(remark(&stack).map(|text| escape(&text)));
    lines.collect::<Vec<_>>().join("\n")
}
