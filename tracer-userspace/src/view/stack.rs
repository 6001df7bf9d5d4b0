// SPDX-License-Identifier: Apache-2.0
//! Stacks, a function a line.

use super::names::shorten;
use crate::{
    model::{Line, LineKind, StackLines},
    trace::escape,
};

/// How many lines of a stack are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// The innermost, without the native frames of a Python interpreter where there are Python frames.
    First(usize),
    /// All.
    All,
}

/// Appends a stack, indented; and why it does not reach its end, if so.
pub(super) fn show(stack: &StackLines, frames: Frames, indent: &str, out: &mut String) {
    let has_python = stack.lines.iter().any(|line| line.kind == LineKind::Python);
    let lines = stack.lines.iter().enumerate();
    let lines: Vec<_> = match frames {
        Frames::All => lines.collect(),
        Frames::First(_) => lines.filter(|(_, line)| !(has_python && line.kind == LineKind::Interpreter)).collect(),
    };
    let shown = match frames {
        Frames::First(count) => count.min(lines.len()),
        Frames::All => lines.len(),
    };
    // The numbers are those of the whole stack, so that they stay the same whatever is shown.
    for (index, line) in lines.iter().take(shown) {
        out.push_str(&format!("{indent}#{index} {}\n", escape(&show_line(line))));
    }
    let hidden = lines.len() - shown;
    let interpreter = stack.lines.len() - lines.len();
    match (hidden, interpreter) {
        (0, 0) => {}
        (0, _) => out.push_str(&format!("{indent}({interpreter} of the interpreter's own are hidden: --frames all)\n")),
        (_, 0) => out.push_str(&format!("{indent}… {hidden} more (--frames all)\n")),
        _ => out
            .push_str(&format!("{indent}… {hidden} more, and {interpreter} of the interpreter's own (--frames all)\n")),
    }
    match stack.python.as_str() {
        "" | "complete" => {}
        "uncertain" => out.push_str(&format!("{indent}(Python functions may stand in the wrong places)\n")),
        reason => out.push_str(&format!("{indent}(Python functions are missing: {})\n", escape(reason))),
    }
    if stack.end != "complete" {
        out.push_str(&format!("{indent}(the stack ends here: {})\n", escape(&stack.end)));
    }
}

fn show_line(line: &Line) -> String {
    let function = match (line.kind, line.function.as_deref()) {
        (LineKind::Python, Some(name)) => name.to_owned(),
        (_, Some(name)) => shorten(name),
        (_, None) => "?".to_owned(),
    };
    let source = match (&line.file, line.line) {
        (Some(file), Some(number)) => format!(" ({file}:{number})"),
        (Some(file), None) => format!(" ({file})"),
        (None, _) => String::new(),
    };
    if line.kind == LineKind::Python {
        let missing = line.missing.as_ref().map(|reason| format!(" [Python, {reason}]")).unwrap_or_default();
        return format!("{function}{source}{missing}");
    }
    if line.inlined {
        return format!("{function}{source} [inlined]");
    }
    let module = line.module.as_deref().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    let plus = if module.is_empty() { "" } else { "+" };
    format!("{function}{source} {module}{plus}{:#x}", line.address)
}
