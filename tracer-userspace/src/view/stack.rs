// SPDX-License-Identifier: Apache-2.0
//! Stacks, a function a line.

use crate::{
    analysis::frame_name,
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

/// Shows a stack, indented; and why it does not reach its end, if so.
#[must_use]
pub fn stack(stack: &StackLines, frames: Frames) -> String {
    let mut out = String::new();
    show(stack, frames, "  ", &mut out);
    out
}

/// Appends a stack, indented; and why it does not reach its end, if so.
pub(super) fn show(stack: &StackLines, frames: Frames, indent: &str, out: &mut String) {
    let lines: Vec<_> = stack.shown(frames == Frames::All).collect();
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
        "nameless" => out.push_str(&format!("{indent}(Python code was gone before its name was read)\n")),
        reason => out.push_str(&format!("{indent}(Python functions are missing: {})\n", escape(reason))),
    }
    if stack.end != "complete" {
        out.push_str(&format!("{indent}(the stack ends here: {})\n", escape(&stack.end)));
    }
}

/// Longest name that is shown whole: some that nothing can demangle have many hundred characters.
const LONGEST: usize = 200;

fn show_line(line: &Line) -> String {
    let function = cut(frame_name(line));
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

/// Cuts a long name in its middle: what tells such names apart may be at either end.
fn cut(name: String) -> String {
    let characters = name.chars().count();
    if characters <= LONGEST {
        return name;
    }
    let half = LONGEST / 2;
    let begin: String = name.chars().take(half).collect();
    let end: String = name.chars().skip(characters - half).collect();
    format!("{begin}…{end}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::model::read_text;

    /// C++ called by Python, called by C, called by Python: `interpreter` is what ran the Python functions.
    const TRACE: &str = r##"
process id=1 pid=7
module id=1 path="/lib/lib.so"
module id=2 path="/lib/libpython3.12.so.1.0"
python process=1 module=2 version="3.12.1"
frame id=1 module=1 address=0x10
frame id=2 module=2 address=0x20 returns=1
symbol frame=2 function="_PyEval_EvalFrameDefault" offset=0x9
frame id=3 module=2 address=0x30 returns=1
code id=1 function="Model.load.<locals>.inner" file="/src/model.py" first_line=3
code id=2 missing=gone
python-frame id=4 code=1 line=37
python-frame id=5 code=2
stack id=1 frames=1,4,2,3,5,2 end=complete python=complete
stack id=2 frames=1,4,2 end=copy-too-small python=uncertain
stack id=3 frames=1,2 end=complete
stack id=4 frames=1,4 end=complete python="too-many-frames"
"##;

    fn shown(stack: u32, frames: Frames) -> String {
        let model = read_text(TRACE, &mut |_| {});
        let mut out = String::new();
        show(&model.definitions.stack(stack).expect("defined"), frames, "| ", &mut out);
        out
    }

    #[test]
    fn python_functions_hide_what_runs_them() {
        expect![[r#"
            | #0 ? lib.so+0x10
            | #1 Model.load.<locals>.inner (/src/model.py:37)
            | #4 ? [Python, gone]
            | (3 of the interpreter's own are hidden: --frames all)
        "#]]
        .assert_eq(&shown(1, Frames::First(12)));
        expect![[r#"
            | #0 ? lib.so+0x10
            | … 2 more, and 3 of the interpreter's own (--frames all)
        "#]]
        .assert_eq(&shown(1, Frames::First(1)));
        expect![[r#"
            | #0 ? lib.so+0x10
            | #1 Model.load.<locals>.inner (/src/model.py:37)
            | #2 _PyEval_EvalFrameDefault libpython3.12.so.1.0+0x20
            | #3 ? libpython3.12.so.1.0+0x30
            | #4 ? [Python, gone]
            | #5 _PyEval_EvalFrameDefault libpython3.12.so.1.0+0x20
        "#]]
        .assert_eq(&shown(1, Frames::All));
    }

    #[test]
    fn a_stack_without_python_functions_hides_nothing() {
        expect![[r#"
            | #0 ? lib.so+0x10
            | #1 _PyEval_EvalFrameDefault libpython3.12.so.1.0+0x20
        "#]]
        .assert_eq(&shown(3, Frames::First(12)));
    }

    #[test]
    fn a_long_name_is_cut_in_its_middle() {
        let name = |length: usize| format!("_Zä{}é", "x".repeat(length - 4));
        assert_eq!(cut(name(200)), name(200));
        assert_eq!(cut(name(201)), format!("_Zä{}…{}é", "x".repeat(97), "x".repeat(99)));
    }

    #[test]
    fn what_is_not_certain_is_said() {
        assert!(shown(2, Frames::All).contains("(Python functions may stand in the wrong places)"));
        assert!(shown(4, Frames::All).contains("(Python functions are missing: too-many-frames)"));
    }
}
