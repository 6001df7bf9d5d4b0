// SPDX-License-Identifier: Apache-2.0
//! Stacks as other tools show them: a name a function, the outermost first, native and Python functions in one stack.

use crate::{
    analysis::frame_name,
    model::{Definitions, Line, LineKind, StackLines},
    trace::escape,
};

/// Stands for the stack of an allocation that was not seen.
pub(super) const BEFORE: &str = "(allocated before the recording, or in a gap)";
/// Stands for one that was not recorded.
pub(super) const NO_STACK: &str = "(no stack)";

/// A function of a stack, or a remark that stands in its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    /// Short and printable.
    pub(super) name: String,
    /// Source file, printable; absent if not known.
    pub(super) file: Option<String>,
    /// Line in it; absent if not known.
    pub(super) line: Option<u32>,
}

/// Gives stacks as frames.
#[derive(Clone, Copy, Debug)]
pub struct Stacks<'a> {
    /// What the names are from.
    pub definitions: &'a Definitions,
    /// Whether the Python interpreter's own functions are shown as well.
    pub all: bool,
}

impl Stacks<'_> {
    /// The frames of a stack, outermost first. If the stack is not whole, the first frame says so.
    pub(super) fn frames(&self, stack: Option<u32>) -> Vec<Frame> {
        let Some(number) = stack else { return vec![Frame::remark(BEFORE)] };
        let stack = self.definitions.stack(number).filter(|stack| !stack.lines.is_empty());
        let Some(stack) = stack else { return vec![Frame::remark(NO_STACK)] };
        let functions = stack.shown(self.all).rev().map(|(_, line)| Frame::of(line));
        remark(&stack).map(|text| Frame::remark(&text)).into_iter().chain(functions).collect()
    }
}

impl Frame {
    pub(super) fn of(line: &Line) -> Self {
        Self { name: name(line), file: line.file.as_deref().map(escape), line: line.line }
    }

    pub(super) fn remark(text: &str) -> Self {
        Self { name: escape(text), file: None, line: None }
    }
}

/// What is to be said of a stack that is not whole.
pub(super) fn remark(stack: &StackLines) -> Option<String> {
    let end = (stack.end != "complete").then(|| format!("the stack ends here: {}", stack.end));
    let python = match stack.python.as_str() {
        "" | "complete" => None,
        "uncertain" => Some("Python functions may stand in the wrong places".to_owned()),
        "nameless" => Some("Python code was gone before its name was read".to_owned()),
        reason => Some(format!("Python functions are missing: {reason}")),
    };
    let remarks: Vec<String> = [end, python].into_iter().flatten().collect();
    (!remarks.is_empty()).then(|| format!("({})", remarks.join(", ")))
}

/// A Python function is told by its file too, one without a name by its library.
fn name(line: &Line) -> String {
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let place = match (line.kind, &line.function) {
        (LineKind::Python, _) => line.file.as_deref().map(base),
        (_, Some(_)) => None,
        (_, None) => line.module.as_deref().map(base),
    };
    let function = frame_name(line);
    escape(&place.map_or_else(|| function.clone(), |place| format!("{function} ({place})")))
}
