// SPDX-License-Identifier: Apache-2.0
//! What a trace says besides its events.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Moment,
    stack::{KnownStacks, Line, LineKind, StackLines},
};
use crate::trace::{
    Border, Code, End, Frame, Interpreter, LayoutField, Loss, Mapping, Module, Probe, Process, PythonFrame, Record,
    Session, Snapshot, Stack, Symbol,
};

/// Most functions at one address; inlining goes nowhere as deep, and a forged trace ends here.
const MOST_INLINED: usize = 256;
/// Most bytes of one name, for the same reason.
const LONGEST_NAME: usize = 1 << 16;

/// The definitions by their numbers, and the statements in their order.
#[derive(Debug, Default)]
pub struct Definitions {
    /// One for each trace.
    pub sessions: Vec<Session>,
    /// The traced processes.
    pub processes: BTreeMap<u32, Process>,
    /// Where modules were mapped.
    pub mappings: Vec<Mapping>,
    /// The layout that was derived.
    pub layout: Vec<LayoutField>,
    /// The probe sites.
    pub probes: Vec<Probe>,
    /// Where recording began, by process.
    pub borders: BTreeMap<u32, Border>,
    /// Gaps.
    pub losses: Vec<Loss>,
    /// Totals by name, summed over the traces.
    pub counters: BTreeMap<String, u64>,
    /// What was odd, as sentences.
    pub problems: Vec<String>,
    /// The Python interpreters.
    pub interpreters: Vec<Interpreter>,
    /// The hosts of the processes, where their traces say.
    pub hosts: BTreeMap<u32, String>,
    /// How each process ended. One that is not here was cut off.
    pub ends: BTreeMap<u32, End>,
    /// The counters of the trace that is being read, which later records may replace.
    latest: BTreeMap<String, u64>,
    /// The host of the trace that is being read.
    host: String,
    modules: HashMap<u32, Module>,
    texts: HashMap<u32, String>,
    frames: HashMap<u32, Frame>,
    python_frames: HashMap<u32, PythonFrame>,
    codes: HashMap<u32, Code>,
    /// Modules that are interpreters.
    interpreter_modules: HashSet<u32>,
    symbols: HashMap<u32, Vec<Symbol>>,
    stacks: HashMap<u32, Stack>,
}

impl Definitions {
    /// Begins the next trace.
    pub(super) fn begin(&mut self) {
        self.latest.clear();
        self.host.clear();
    }

    /// Adds a record.
    pub(super) fn add(&mut self, record: Record) {
        match record {
            Record::Session(it) => {
                self.latest.clear();
                self.host.clone_from(&it.host);
                self.sessions.push(it);
            }
            Record::Process(it) => self.add_process(it),
            Record::Module(mut it) => {
                cut(&mut it.path);
                self.modules.insert(it.id, it);
            }
            Record::Mapping(it) => self.mappings.push(it),
            Record::LayoutField(it) => self.layout.push(it),
            Record::Probe(it) => self.probes.push(it),
            Record::Border(it) => drop(self.borders.insert(it.process, it)),
            Record::Text(it) => drop(self.texts.insert(it.id, it.text)),
            Record::Interpreter(it) => {
                self.interpreter_modules.insert(it.module);
                self.interpreters.push(it);
            }
            Record::Code(mut it) => {
                cut(&mut it.function);
                cut(&mut it.file);
                self.codes.insert(it.id, it);
            }
            Record::PythonFrame(it) => drop(self.python_frames.insert(it.id, it)),
            Record::Frame(it) => drop(self.frames.insert(it.id, it)),
            Record::Symbol(it) => self.add_symbol(it),
            Record::Stack(it) => drop(self.stacks.insert(it.id, it)),
            Record::Loss(it) => self.losses.push(it),
            Record::CounterValue(it) => self.add_counter(it.name.to_string(), it.value),
            Record::Problem(it) => self.problems.push(it.text),
            Record::End(it) => drop(self.ends.insert(it.process, it)),
            Record::Snapshot(it) => self.problems.extend(doubts(&it)),
            // The ledger's.
            Record::LiveOwner(_) => {}
        }
    }

    /// A total of the trace that is being read.
    pub(super) fn latest(&self, name: &str) -> Option<u64> {
        self.latest.get(name).copied()
    }

    /// The text of a number, absent for 0.
    #[must_use]
    pub fn text(&self, number: u32) -> Option<&str> {
        self.texts.get(&number).map(String::as_str)
    }

    /// The test that a moment fell into, as its test id without the phase.
    #[must_use]
    pub fn test(&self, moment: &Moment) -> Option<&str> {
        self.text(moment.test).map(without_phase)
    }

    /// The tests that ran, by their ids without phases, whether or not they touched a buffer.
    #[must_use]
    pub fn tests(&self) -> BTreeSet<&str> {
        let tests = self.texts.values().map(|text| (text.as_str(), without_phase(text)));
        tests.filter(|(text, test)| text != test || text.ends_with('…')).map(|(_, test)| test).collect()
    }

    /// The numbers of all texts.
    pub fn text_numbers(&self) -> impl Iterator<Item = u32> {
        self.texts.keys().copied()
    }

    /// The modules, in no order.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.values()
    }

    /// The numbers of all stacks.
    pub fn stack_numbers(&self) -> impl Iterator<Item = u32> {
        self.stacks.keys().copied()
    }

    /// The stack of a number, absent for 0.
    #[must_use]
    pub fn stack(&self, number: u32) -> Option<StackLines> {
        KnownStacks::new(self).get(number)
    }

    /// The same by the numbers of its frames.
    pub(crate) fn frames(&self, stack: u32) -> Option<&Stack> {
        self.stacks.get(&stack)
    }

    /// The lines of a frame, innermost first.
    pub(crate) fn lines(&self, frame: u32) -> Vec<Line> {
        match (self.frames.get(&frame), self.python_frames.get(&frame)) {
            (Some(frame), _) => self.native_lines(frame),
            (None, Some(frame)) => vec![self.python_line(frame)],
            (None, None) => Vec::new(),
        }
    }

    fn add_process(&mut self, process: Process) {
        if !self.host.is_empty() {
            self.hosts.insert(process.id, self.host.clone());
        }
        self.processes.insert(process.id, process);
    }

    fn native_lines(&self, frame: &Frame) -> Vec<Line> {
        let module = self.modules.get(&frame.module).map(|module| module.path.clone());
        let symbols = self.symbols.get(&frame.id).map_or(&[][..], Vec::as_slice);
        let outermost = symbols.first().map(|symbol| symbol.function.as_str());
        let glue = module.as_deref().is_some_and(is_glue_module) || outermost.is_some_and(is_glue_function);
        let kind = match glue || self.interpreter_modules.contains(&frame.module) {
            true => LineKind::Interpreter,
            false => LineKind::Native,
        };
        let bare = Line {
            kind,
            function: None,
            file: None,
            line: None,
            module,
            address: frame.address.0,
            inlined: false,
            missing: None,
        };
        if symbols.is_empty() {
            return vec![bare];
        }
        let line = |(index, symbol): (usize, &Symbol)| Line {
            function: Some(symbol.function.clone()).filter(|name| !name.is_empty()),
            file: Some(symbol.file.clone()).filter(|file| !file.is_empty()),
            line: Some(symbol.line).filter(|&line| line != 0),
            inlined: index > 0,
            ..bare.clone()
        };
        symbols.iter().enumerate().rev().map(line).collect()
    }

    fn python_line(&self, frame: &PythonFrame) -> Line {
        let code = self.codes.get(&frame.code);
        let text = |field: fn(&Code) -> &String| code.map(field).filter(|text| !text.is_empty()).cloned();
        let missing = code.map(|code| code.missing.to_string()).filter(|reason| !reason.is_empty());
        Line {
            kind: LineKind::Python,
            function: text(|code| &code.function),
            file: text(|code| &code.file),
            line: Some(frame.line).filter(|&line| line != 0),
            module: None,
            address: 0,
            inlined: false,
            missing,
        }
    }

    /// Two traces may both name a frame that they share: the second time changes nothing.
    fn add_symbol(&mut self, mut symbol: Symbol) {
        cut(&mut symbol.function);
        cut(&mut symbol.file);
        let symbols = self.symbols.entry(symbol.frame).or_default();
        if symbols.len() < MOST_INLINED && !symbols.contains(&symbol) {
            symbols.push(symbol);
        }
    }

    fn add_counter(&mut self, name: String, value: u64) {
        let before = self.latest.insert(name.clone(), value).unwrap_or(0);
        let total = self.counters.entry(name).or_default();
        *total = total.wrapping_sub(before).wrapping_add(value);
    }
}

/// What is doubtful in a snapshot.
fn doubts(snapshot: &Snapshot) -> Vec<String> {
    let Snapshot { process, allocator, left_out, settled, missing, .. } = snapshot;
    let of = format!("process {process}, allocator {:#x}", allocator.0);
    let mut doubts = Vec::new();
    if !missing.is_empty() {
        doubts.push(format!("{of}: what it held when the recording began is not known: {missing}"));
    } else if !settled {
        doubts
            .push(format!("{of}: it changed while it was read; some buffers from before the recording may be missing"));
    }
    if *left_out > 0 {
        doubts.push(format!(
            "{of}: {left_out} of the buffers that it lists were left out, as it holds no memory for them"
        ));
    }
    doubts
}

/// Cuts a name that is too long, at a character's end.
fn cut(name: &mut String) {
    if LONGEST_NAME < name.len() {
        name.truncate(name.floor_char_boundary(LONGEST_NAME));
        name.push('…');
    }
}

/// ctypes and the library that it calls by.
fn is_glue_module(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("_ctypes.") || name.starts_with("libffi.")
}

/// nanobind and pybind11, as ttnn has them.
fn is_glue_function(name: &str) -> bool {
    name.contains("nanobind::detail::") || name.contains("pybind11::cpp_function::")
}

/// pytest writes the phase (`setup`, `call` or `teardown`) in parentheses behind the id of a test.
fn without_phase(text: &str) -> &str {
    [" (setup)", " (call)", " (teardown)"].iter().find_map(|phase| text.strip_suffix(phase)).unwrap_or(text)
}
