// SPDX-License-Identifier: Apache-2.0
//! What a trace says besides its events.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::Moment;
use crate::trace::{
    Border, Code, End, Frame, Interpreter, LayoutField, Loss, Mapping, Module, Probe, Process, PythonFrame, Record,
    Session, Snapshot, Stack, Symbol,
};

/// Most functions at one address; inlining goes nowhere as deep, and a forged trace ends here.
const MOST_INLINED: usize = 256;
/// About as many lines of a stack are kept, for the same reason.
const MOST_LINES: usize = 4096;
/// About as many bytes of names of a stack, likewise, and as many of one name.
const MOST_NAMES: usize = 1 << 20;
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

/// How many lines, and bytes of their names, parts of a stack have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    lines: usize,
    names: usize,
}

/// A stack with names, innermost function first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackLines {
    /// A function a line; inlined functions have lines of their own.
    pub lines: Vec<Line>,
    /// `complete`, why the stack could not be walked further, or `too-many-lines`.
    pub end: String,
    /// Its Python frames: empty if there are none, `complete`, `uncertain` if they may be in the wrong places, or why
    /// some are missing.
    pub python: String,
}

/// What a line of a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// A function of machine code.
    Native,
    /// A function of machine code in a Python interpreter, or of a library by which Python calls C or C++: it runs, or is
    /// run by, the functions around it.
    Interpreter,
    /// A Python function.
    Python,
}

/// One function of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is.
    pub kind: LineKind,
    /// Demangled or qualified name, absent if not known.
    pub function: Option<String>,
    /// Source file, absent if not known.
    pub file: Option<String>,
    /// Line in it, absent if not known.
    pub line: Option<u32>,
    /// Path of the module, absent if the address is in none.
    pub module: Option<String>,
    /// The module's own address, or the absolute one where there is no module; 0 for a Python function.
    pub address: u64,
    /// Whether the function was inlined into the next.
    pub inlined: bool,
    /// Why there is no name, where that is known: `gone`, `replaced` or `damaged` for a Python function.
    pub missing: Option<String>,
}

impl Extent {
    /// That of some lines.
    pub(crate) fn of(lines: &[Line]) -> Self {
        Self { lines: lines.len(), names: lines.iter().map(size_of_names).sum() }
    }

    /// Adds that of the next part.
    pub(crate) fn add(&mut self, next: Self) {
        self.lines += next.lines;
        self.names += next.names;
    }

    /// Whether a stack has so many lines or names that no more are kept.
    pub(crate) fn is_full(self) -> bool {
        self.lines >= MOST_LINES || self.names > MOST_NAMES
    }
}

impl StackLines {
    /// Its end if it has too many lines, or names, to be kept.
    pub(crate) const TOO_MANY: &str = "too-many-lines";

    /// The lines with their numbers; without the interpreter's own where there are Python functions, unless all are
    /// wanted.
    pub fn shown(&self, all: bool) -> impl DoubleEndedIterator<Item = (usize, &Line)> {
        let hides = !all && self.lines.iter().any(|line| line.kind == LineKind::Python);
        self.lines.iter().enumerate().filter(move |(_, line)| !(hides && line.kind == LineKind::Interpreter))
    }
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
        tests.filter(|(text, test)| text != test).map(|(_, test)| test).collect()
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
        let stack = self.stacks.get(&number)?;
        let python = stack.python.to_string();
        let (mut lines, mut extent) = (Vec::new(), Extent::default());
        for &frame in &stack.frames {
            if extent.is_full() {
                return Some(StackLines { lines, end: StackLines::TOO_MANY.to_owned(), python });
            }
            let more = self.lines(frame);
            extent.add(Extent::of(&more));
            lines.extend(more);
        }
        Some(StackLines { lines, end: stack.end.to_string(), python })
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

fn size_of_names(line: &Line) -> usize {
    [&line.function, &line.file, &line.module].into_iter().flatten().map(String::len).sum()
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
