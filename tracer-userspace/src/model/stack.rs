// SPDX-License-Identifier: Apache-2.0
//! Stacks with names, a line a function.

use std::rc::Rc;

use foldhash::HashMap;
use serde::Serialize;

use super::Definitions;

/// About as many lines of a stack are kept: a forged trace may have any number.
const MOST_LINES: usize = 4096;
/// About as many bytes of names of a stack, likewise.
const MOST_NAMES: usize = 1 << 20;

/// A stack with names, innermost function first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackLines {
    /// A function a line; inlined functions have lines of their own.
    pub lines: Vec<Rc<Line>>,
    /// `complete`, why the stack could not be walked further, or `too-many-lines`.
    pub end: String,
    /// Its Python frames: empty if there are none, `complete`, `uncertain` if they may be in the wrong places, `nameless`
    /// if one has no name, or why some are missing.
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

/// The stacks of a model, which share the lines of their frames.
#[derive(Debug)]
pub struct KnownStacks<'a> {
    definitions: &'a Definitions,
    frames: HashMap<u32, FrameLines>,
}

#[derive(Debug)]
struct FrameLines {
    lines: Vec<Rc<Line>>,
    extent: Extent,
}

/// How many lines, and bytes of their names, parts of a stack have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    lines: usize,
    names: usize,
}

impl StackLines {
    /// Its end if it has too many lines, or names, to be kept.
    pub(crate) const TOO_MANY: &str = "too-many-lines";

    /// The lines with their numbers; without the interpreter's own where there are Python functions, unless all are
    /// wanted.
    pub fn shown(&self, all: bool) -> impl DoubleEndedIterator<Item = (usize, &Line)> {
        let hides = !all && self.lines.iter().any(|line| line.kind == LineKind::Python);
        let lines = self.lines.iter().map(|line| &**line).enumerate();
        lines.filter(move |(_, line)| !(hides && line.kind == LineKind::Interpreter))
    }
}

impl<'a> KnownStacks<'a> {
    /// Begins with what they are put together from.
    #[must_use]
    pub fn new(definitions: &'a Definitions) -> Self {
        Self { definitions, frames: HashMap::default() }
    }

    /// What they are put together from.
    pub(crate) fn definitions(&self) -> &'a Definitions {
        self.definitions
    }

    /// The stack of a number, absent for 0.
    pub fn get(&mut self, number: u32) -> Option<StackLines> {
        let stack = self.definitions.frames(number)?;
        let (mut lines, mut extent, mut end) = (Vec::new(), Extent::default(), stack.end.as_str());
        for &frame in &stack.frames {
            if extent.is_full() {
                end = StackLines::TOO_MANY;
                break;
            }
            let frame = self.frames.entry(frame).or_insert_with(|| FrameLines::of(self.definitions.lines(frame)));
            lines.extend(frame.lines.iter().cloned());
            extent.add(frame.extent);
        }
        Some(StackLines { lines, end: end.to_owned(), python: stack.python.to_string() })
    }
}

impl FrameLines {
    fn of(lines: Vec<Line>) -> Self {
        Self { extent: Extent::of(&lines), lines: lines.into_iter().map(Rc::new).collect() }
    }
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

fn size_of_names(line: &Line) -> usize {
    [&line.function, &line.file, &line.module].into_iter().flatten().map(String::len).sum()
}
