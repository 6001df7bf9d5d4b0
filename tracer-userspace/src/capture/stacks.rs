// SPDX-License-Identifier: Apache-2.0
//! From what the kernel side sends of a stack to its number in the trace file.
//!
//! The kernel side walks most stacks itself, and sends each native and each Python part once. Where it can't walk (a
//! table that is not loaded yet, a rule that it does not know, modules that have just changed) it sends a copy, which is
//! walked here by the whole `.eh_frame`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use tracer_common::{Epoch, Hit, NATIVE_LOST, NativeFrame, PYTHON_LOST, PythonEnd};
use tracer_unwind::walk::Stop;

use super::{
    decode::{NativeStack, PythonStack, StackCopy},
    intern::{CodeAddress, Interned},
    merge::{self, merge},
    numbers::Numbers,
    python::{Interpreter, PythonPart},
    space::{Changes, Files, Space},
    symbolize::{Request, Symbols},
};
use crate::unwind::{End, Frame, Machine, Walk, walk};

/// A look at the process's mappings costs a millisecond; an address that stays unknown must not cause one each time.
const REFRESH_AT_MOST: Duration = Duration::from_millis(100);
/// Walks that wait for their hits. More are there only if hits were lost, and the oldest are of those.
const MOST_WAITING: usize = 64;

/// What the stacks of all processes have in common.
pub struct Catalog {
    /// The modules that they are in.
    pub files: Files,
    /// The numbers that they have in the file.
    pub interned: Interned,
    /// The thread that looks up names.
    pub symbols: Symbols,
}

impl Catalog {
    /// An empty one.
    ///
    /// # Errors
    /// If there can't be a thread.
    pub fn new() -> Result<Self> {
        Ok(Self { files: Files::default(), interned: Interned::default(), symbols: Symbols::start()? })
    }
}

/// The stacks of one process.
pub struct Stacks {
    space: Space,
    refreshed: Instant,
    /// Whether modules were loaded or unloaded since the last look.
    outdated: bool,
    /// Whose frames are captured, if anyone's.
    interpreter: Option<Interpreter>,
    natives: Numbers<Native>,
    pythons: Numbers<PythonPart>,
    /// What copies gave, and of which epoch they are, by the hit's sequence number.
    walks: BTreeMap<u64, (Walk, u32)>,
    /// Numbers in the file of those that were sent in two parts, and the state of their Python frames, by the places of
    /// these in `natives` and `pythons`.
    merged: HashMap<(usize, Option<usize>), (u32, &'static str)>,
    /// By thread id.
    stack_ends: HashMap<u32, u64>,
    /// Modules of copied stacks.
    missed: BTreeSet<usize>,
    /// What a comparison of both ways came to.
    pub compared: Compared,
}

/// How often a stack was walked in both ways, and how often both came to the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Stacks that the kernel side walked to the end, and that were copied as well.
    pub stacks: u64,
    /// Those of which the copy gave other frames.
    pub different: u64,
}

impl Compared {
    /// Adds what came of others.
    pub const fn add(&mut self, other: Self) {
        self.stacks += other.stacks;
        self.different += other.different;
    }
}

/// The stack of one hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackNumber {
    /// In the file.
    pub number: u32,
    /// How its native part ended.
    pub end: End,
    /// The state of its Python frames, empty if there are none.
    pub python: &'static str,
    /// Where the thread's stack ends, if that was learned from this hit.
    pub stack_end: Option<u64>,
}

/// A native stack from the kernel side.
#[derive(PartialEq, Eq, Hash)]
struct Native {
    raw: Vec<NativeFrame>,
    frames: Vec<merge::Native>,
    stop: Stop,
}

impl Stacks {
    /// Of the process of this space.
    #[must_use]
    pub fn new(space: Space) -> Self {
        Self {
            space,
            refreshed: Instant::now(),
            outdated: false,
            interpreter: None,
            natives: Numbers::default(),
            pythons: Numbers::default(),
            walks: BTreeMap::new(),
            merged: HashMap::new(),
            stack_ends: HashMap::new(),
            missed: BTreeSet::new(),
            compared: Compared::default(),
        }
    }

    /// Those of process `pid`, which was forked from this one: the same code objects, and the modules of that epoch.
    #[must_use]
    pub fn forked(&self, pid: u32, epoch: u32) -> Self {
        let interpreter = self.interpreter.as_ref().map(|interpreter| interpreter.forked(pid));
        // Whether its mappings are still those of its parent is to be looked at.
        Self { interpreter, outdated: true, ..Self::new(self.space.forked(pid, epoch)) }
    }

    /// Where the modules are.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Has the Python part of stacks read.
    pub fn set_interpreter(&mut self, interpreter: Interpreter) {
        self.interpreter = Some(interpreter);
    }

    /// Takes a native stack that hits may have from now on.
    pub fn native(&mut self, stack: NativeStack, catalog: &mut Catalog) {
        let (mut raw, mut stop) = (stack.frames, stack.stop);
        let uncertain = |frame: &NativeFrame| {
            self.space.range(plain(*frame).inside(), stack.epoch).is_err_and(|end| end == End::ModulesChanged)
        };
        // A forked child was walked by the modules that it was born with, but it has another one there by now.
        if let Some(last) = raw.iter().position(uncertain) {
            raw.truncate(last + 1);
            stop = Stop::ModulesChanged;
        }
        let frames = raw.iter().map(|frame| self.frame(plain(*frame), stack.epoch, catalog)).collect();
        self.natives.insert(stack.id, Native { raw, frames, stop });
    }

    /// Takes a Python stack that hits may have from now on.
    pub fn python(&mut self, stack: &PythonStack, catalog: &mut Catalog) {
        if let Some(interpreter) = &mut self.interpreter {
            let id = stack.id;
            let part = interpreter.part(stack, &mut catalog.interned);
            self.pythons.insert(id, part);
        }
    }

    /// Takes the copy of the stack of a hit that is to come. False if it should be taken again after [`Self::refresh`]:
    /// the stack leads to where there was no module at the last look.
    pub fn copy(&mut self, copy: &StackCopy<'_>, catalog: &Catalog) -> bool {
        let walk = walk(Machine::at(&copy.registers), copy.stack(), &self.space.at(&catalog.files, copy.epoch));
        let known = walk.end != End::NoModule || self.refreshed.elapsed() < REFRESH_AT_MOST;
        let ranges = walk.frames.iter().filter_map(|frame| self.space.range(frame.inside(), copy.epoch).ok());
        self.missed.extend(ranges.map(|range| range.module));
        self.walks.insert(copy.sequence, (walk, copy.epoch));
        if self.walks.len() > MOST_WAITING {
            self.walks.pop_first();
        }
        known
    }

    /// A thread has ended: its id may be given to another.
    pub fn thread_ended(&mut self, tid: u32) {
        self.stack_ends.remove(&tid);
    }

    /// Modules are loaded or unloaded.
    pub fn modules_change(&mut self) {
        self.outdated = true;
    }

    /// Whether the process's mappings are not what they were at the last look.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.outdated
    }

    /// Looks for modules that were mapped or unmapped since the last look; see [`Space::refresh`].
    pub fn refresh(&mut self, catalog: &mut Catalog, epoch: &dyn Fn() -> Epoch) -> Changes {
        self.refreshed = Instant::now();
        self.outdated = false;
        self.space.refresh(&mut catalog.files, epoch)
    }

    /// The modules that stacks went through which the kernel side could not walk, since the last call.
    pub fn missed_modules(&mut self) -> BTreeSet<usize> {
        mem::take(&mut self.missed)
    }

    /// The number of the stack of a hit.
    pub fn number(&mut self, hit: &Hit, catalog: &mut Catalog) -> StackNumber {
        let walk = self.walks.remove(&hit.sequence);
        let native = self.natives.get(hit.native);
        let native_stop = native.map(|(_, native)| native.stop);
        let python = self.pythons.get(hit.python).map(|(place, _)| place);
        // A number that stands for nothing here is as good as none.
        let python_lost = hit.flags & PYTHON_LOST != 0 || hit.python != 0 && python.is_none();
        let whole = hit.flags & NATIVE_LOST == 0 && !python_lost;
        let key = native.filter(|_| whole).map(|(place, _)| (place, python));
        let known = key.and_then(|key| self.merged.get(&key));
        if let (None, Some(&(number, python)), Some(stop)) = (&walk, known, native_stop) {
            return StackNumber { number, end: stop.into(), python, stack_end: None };
        }
        let mut stack_end = None;
        let (native, end) = match walk {
            Some((walk, epoch)) => {
                stack_end = self.learn(hit.tid, &walk);
                self.compare(hit.native, &walk);
                match native_stop {
                    Some(stop) if !Stop::wants_copy(stop as u8) => (self.native_frames(hit.native), stop.into()),
                    _ => {
                        let frames = walk.frames.iter().map(|frame| self.frame(*frame, epoch, catalog)).collect();
                        (frames, walk.end)
                    }
                }
            }
            None => (self.native_frames(hit.native), native_stop.map_or(End::NotSent, End::from)),
        };
        let python = match self.pythons.get(hit.python) {
            Some((_, part)) => part.clone(),
            None if python_lost => PythonPart::without(PythonEnd::NotSent),
            None => PythonPart::without(PythonEnd::NotRead),
        };
        let (number, python) = merged(&native, end, python, &mut catalog.interned);
        if let (Some(key), Some(false)) = (key, native_stop.map(|stop| Stop::wants_copy(stop as u8))) {
            self.merged.insert(key, (number, python));
        }
        StackNumber { number, end, python, stack_end }
    }

    fn native_frames(&self, id: u32) -> Vec<merge::Native> {
        self.natives.get(id).map(|(_, native)| native.frames.clone()).unwrap_or_default()
    }

    /// Notes where a thread's stack ends, so that the next copy is no larger than needed.
    fn learn(&mut self, tid: u32, walk: &Walk) -> Option<u64> {
        let new = walk.end == End::Complete && self.stack_ends.insert(tid, walk.stack_end) != Some(walk.stack_end);
        new.then_some(walk.stack_end)
    }

    /// A copy that the kernel side did not need itself: both ways must come to the same.
    fn compare(&mut self, id: u32, walk: &Walk) {
        let Some((_, native)) = self.natives.get(id).filter(|(_, it)| !Stop::wants_copy(it.stop as u8)) else { return };
        let both = native.raw.iter().zip(&walk.frames);
        // A copy has a largest size, and a stack may be larger than that.
        let cut = walk.end == End::CopyTooSmall;
        let same = both.clone().all(|(kernel, ours)| plain(*kernel) == *ours)
            && (cut || native.raw.len() == walk.frames.len() && End::from(native.stop) == walk.end);
        self.compared.stacks += 1;
        self.compared.different += u64::from(!same);
    }

    fn frame(&self, frame: Frame, epoch: u32, catalog: &mut Catalog) -> merge::Native {
        let evaluator = self.interpreter.as_ref().is_some_and(|it| it.is_evaluator(frame.inside()));
        let Frame { address, returns } = frame;
        let range = self.space.range(frame.inside(), epoch).ok();
        let code = CodeAddress {
            module: range.map_or(0, |range| range.module as u32 + 1),
            address: address.wrapping_sub(range.map_or(0, |range| range.bias)),
            returns,
        };
        let (frame, new) = catalog.interned.frame(code);
        if let (true, Some(range)) = (new, range) {
            let module = Arc::clone(&catalog.files.modules()[range.module].module);
            catalog.symbols.request(Request { frame, module, address: code.address, returns });
        }
        merge::Native { frame, evaluator }
    }
}

/// The number of the stack that these make together, and the state of its Python frames.
fn merged(native: &[merge::Native], end: End, python: PythonPart, interned: &mut Interned) -> (u32, &'static str) {
    let merged = merge(native, python.pieces);
    let state = match python.end {
        PythonEnd::NotRead | PythonEnd::NoThreadState => "",
        PythonEnd::Complete if !merged.certain => "uncertain",
        PythonEnd::Complete if python.nameless => "nameless",
        PythonEnd::Complete => "complete",
        PythonEnd::UnreadableState => "unreadable-state",
        PythonEnd::OtherThread => "other-thread",
        PythonEnd::UnreadableFrame => "unreadable-frame",
        PythonEnd::TooManyFrames => "too-many-frames",
        PythonEnd::NotSent => "not-sent",
    };
    (interned.stack(merged.frames, end, state), state)
}

fn plain(frame: NativeFrame) -> Frame {
    Frame { address: frame.address(), returns: frame.returns() }
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Complete => Self::Complete,
            Stop::NoModule => Self::NoModule,
            Stop::NoTable => Self::NoTable,
            Stop::NotLoaded => Self::NotLoaded,
            Stop::Unsupported => Self::UnsupportedRule,
            Stop::RegisterLost => Self::RegisterLost,
            Stop::Unreadable => Self::Unreadable,
            Stop::NoProgress => Self::NoProgress,
            Stop::TooManyFrames => Self::TooManyFrames,
            Stop::Uretprobe => Self::Uretprobe,
            Stop::ModulesChanged => Self::ModulesChanged,
        }
    }
}
