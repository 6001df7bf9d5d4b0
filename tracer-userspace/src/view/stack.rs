// SPDX-License-Identifier: Apache-2.0
//! Stacks, a function a line.

use super::names::shorten;
use crate::{
    model::{Line, StackLines},
    trace::escape,
};

/// How many lines of a stack are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// The innermost.
    First(usize),
    /// All.
    All,
}

/// Appends a stack, indented; and why it does not reach its end, if so.
pub(super) fn show(stack: &StackLines, frames: Frames, indent: &str, out: &mut String) {
    let shown = match frames {
        Frames::First(count) => count.min(stack.lines.len()),
        Frames::All => stack.lines.len(),
    };
    for (index, line) in stack.lines.iter().take(shown).enumerate() {
        out.push_str(&format!("{indent}#{index} {}\n", escape(&show_line(line))));
    }
    let hidden = stack.lines.len() - shown;
    if hidden > 0 {
        out.push_str(&format!("{indent}… {hidden} more (--frames all)\n"));
    }
    if stack.end != "complete" {
        out.push_str(&format!("{indent}(the stack ends here: {})\n", escape(&stack.end)));
    }
}

fn show_line(line: &Line) -> String {
    let function = line.function.as_deref().map_or_else(|| "?".to_owned(), shorten);
    let source = match (&line.file, line.line) {
        (Some(file), Some(number)) => format!(" ({file}:{number})"),
        (Some(file), None) => format!(" ({file})"),
        (None, _) => String::new(),
    };
    if line.inlined {
        return format!("{function}{source} [inlined]");
    }
    let module = line.module.as_deref().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    let plus = if module.is_empty() { "" } else { "+" };
    format!("{function}{source} {module}{plus}{:#x}", line.address)
}
