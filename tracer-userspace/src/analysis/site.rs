// SPDX-License-Identifier: Apache-2.0
//! The site: a stack reduced to what is the same in the next run.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::function::reduce;
use crate::model::{Line, LineKind, StackLines};

/// What stands for the site of an allocation before the recording.
const BEFORE: &str = "allocated before the recording";

/// A stack, reduced to what survives another address space, a rebuild of the target, and lines that moved.
///
/// What counts: the names of native functions without parameters and template arguments, and the qualified names of
/// Python functions with their file's base name. What does not: addresses, lines, inlining, the depth of recursion, the
/// buffer classes' own functions, the standard libraries, the interpreter and its glue, and whatever starts a test or a
/// thread. A function without a name counts as its library.
///
/// Two sites are the same if their ids are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Twelve hexadecimal digits, from the frames alone: the same on any machine and in any version of this format.
    pub id: String,
    /// A few words for people: the innermost function that tells something, and the Python functions it was called by.
    pub name: String,
    /// The functions that count, innermost first: `ns::Class::function`, `Class.function (file.py)`, `operation` of a
    /// graph capture, or `? (library)`.
    pub frames: Vec<String>,
    /// Whether the stack was whole and all of its functions had names. Without that, the same place in the code may have
    /// another site in another run, or two places the same.
    pub exact: bool,
}

/// What a line of a stack is to its site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    /// As [`Site::frames`] has it.
    text: String,
    part: Part,
    /// Whether its function has a name.
    named: bool,
}

/// Whose function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Native,
    /// Python of the user's own.
    Own,
    /// Python of a package.
    Installed,
}

/// The outermost frame of a program that is a string, as execnet gives one to the workers of pytest-xdist: if the user's own code is
/// elsewhere, it only runs that.
const STARTER: &str = "<module> (<string>)";

impl Site {
    /// The site of a stack; `None` stands for an event without one.
    #[must_use]
    pub fn of(stack: Option<&StackLines>) -> Self {
        let Some(stack) = stack else { return Self::without_stack() };
        let marks: Vec<Mark> = stack.lines.iter().filter_map(|line| Mark::of(line)).collect();
        Self::new(&marks.iter().collect::<Vec<_>>(), is_whole(&stack.end, &stack.python))
    }

    /// That of a stack whose lines have these marks.
    pub(super) fn new(marks: &[&Mark], whole: bool) -> Self {
        let marks = match marks {
            [inner @ .., last] if last.text == STARTER && inner.iter().any(|mark| mark.part == Part::Own) => inner,
            _ => marks,
        };
        let mut frames: Vec<String> = marks.iter().map(|mark| mark.text.clone()).collect();
        frames.dedup();
        let named = marks.iter().all(|mark| mark.named);
        Self { id: id(&frames), name: name(marks), exact: whole && named && !frames.is_empty(), frames }
    }

    /// That of an event without a stack.
    pub(super) fn without_stack() -> Self {
        Self { id: id(&[]), name: "no stack".to_owned(), frames: Vec::new(), exact: false }
    }

    /// Where a buffer was allocated that is from before the recording.
    pub(super) fn before() -> Self {
        Self { id: id(&[BEFORE.to_owned()]), name: BEFORE.to_owned(), ..Self::without_stack() }
    }
}

/// Whether a stack has all of its lines, by what its end and its Python part say.
pub(super) fn is_whole(end: &str, python: &str) -> bool {
    end == "complete" && matches!(python, "" | "complete")
}

impl Mark {
    /// That of a line; `None` if it does not count.
    pub(super) fn of(line: &Line) -> Option<Self> {
        let (part, text) = match line.kind {
            LineKind::Interpreter => return None,
            LineKind::Native => (Part::Native, native(line)?),
            LineKind::Python => (python_part(line)?, python(line)),
        };
        Some(Self { text, part, named: line.function.is_some() })
    }
}

/// How a function of machine code counts.
fn native(line: &Line) -> Option<String> {
    let library = line.module.as_deref().map(library_mark);
    if line.inlined || library.is_some_and(is_standard) {
        return None;
    }
    match line.function.as_deref() {
        Some(function) => Some(reduce(function)).filter(|name| !is_plumbing(name)),
        None => Some(format!("? ({})", library.unwrap_or("no library"))),
    }
}

/// How a Python function counts. The operations of a graph capture have no file.
fn python(line: &Line) -> String {
    let function = line.function.as_deref().unwrap_or("?");
    line.file.as_deref().map_or_else(|| function.to_owned(), |file| format!("{function} ({})", file_mark(file)))
}

fn python_part(line: &Line) -> Option<Part> {
    match line.file.as_deref() {
        Some(file) if runs_tests(file) => None,
        Some(file) if is_installed(file) => Some(Part::Installed),
        _ => Some(Part::Own),
    }
}

/// The digest goes over each frame and an end mark, so that no two lists of frames are the same text.
fn id(frames: &[String]) -> String {
    let mut digest = Sha256::new();
    for frame in frames {
        digest.update(frame);
        digest.update([0]);
    }
    digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The innermost native function, the innermost Python function of the user's own, and the outermost: the test.
fn name(marks: &[&Mark]) -> String {
    let innermost = marks.iter().find(|mark| mark.part == Part::Native);
    let mut python = marks.iter().filter(|mark| mark.part != Part::Native && mark.named);
    let mut own = python.clone().filter(|mark| mark.part == Part::Own);
    let caller = own.clone().next().or_else(|| python.next());
    let outermost = own.next_back().filter(|last| caller.is_some_and(|first| first.text != last.text));
    let named: Vec<&str> =
        [innermost, caller, outermost].into_iter().flatten().map(|mark| mark.text.as_str()).collect();
    if named.is_empty() { "no function known".to_owned() } else { named.join(" < ") }
}

/// Whether a Python function is the user's own, and neither a package's nor what runs the tests.
pub(super) fn is_own(line: &Line) -> bool {
    line.file.as_deref().is_some_and(|file| !is_installed(file) && !runs_tests(file))
}

/// Whether a Python function is pytest's, or of what it is made of.
pub(super) fn is_of_pytest(line: &Line) -> bool {
    let installed = line.file.as_deref().and_then(installed_part);
    installed.is_some_and(|file| ["_pytest/", "pluggy/", "pytest/"].iter().any(|package| file.starts_with(package)))
}

/// The libraries of C and C++, which also run a program and its threads.
fn is_standard(library: &str) -> bool {
    ["libc", "libpthread", "libstdc++", "libc++", "ld-linux-x86-64"].contains(&library)
}

/// Functions, by their reduced names, that every allocation or free goes through, that an optimizer inlines or not, or that run a program.
fn is_plumbing(name: &str) -> bool {
    let prefixes = ["std::", "__gnu_cxx::", "tt::tt_metal::Buffer::", "tt::tt_metal::BufferImpl::"];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == "_start"
}

/// Files of pytest and its plugins, and of what runs a module: tests run by other means have the same sites.
fn runs_tests(file: &str) -> bool {
    let runners = ["_pytest", "pluggy", "pytest", "xdist", "execnet", "pytest_forked", "pytest_timeout"];
    let installed = installed_part(file).unwrap_or("");
    runners.iter().any(|package| installed.split('/').next() == Some(package))
        || file.contains("/_pytest/")
        || file.contains("/pluggy/")
        || matches!(base_name(file), "pytest" | "py.test" | "<frozen runpy>" | "runpy.py")
        || file.starts_with("<frozen importlib")
}

/// The file of an installed package, from the package on.
fn installed_part(file: &str) -> Option<&str> {
    ["/site-packages/", "/dist-packages/"].iter().find_map(|folder| Some(file.rsplit_once(folder)?.1))
}

/// Whether a file is a package's, or of ttnn in a checkout.
fn is_installed(file: &str) -> bool {
    installed_part(file).is_some() || file.contains("/lib/python3") || file.contains("/ttnn/ttnn/")
}

/// A file by its base name, so that it is the same wherever the package is; one whose name says nothing with its folder.
fn file_mark(file: &str) -> &str {
    let base = base_name(file);
    if !base.starts_with("__") {
        return base;
    }
    let folder = file.strip_suffix(base).and_then(|rest| rest.strip_suffix('/')).map_or("", base_name);
    if folder.is_empty() { base } else { &file[file.len() - base.len() - 1 - folder.len()..] }
}

/// A library by its name, without its version, and without the digest that a wheel puts behind it (`libx-3f2a91bc.so`).
fn library_mark(path: &str) -> &str {
    let base = base_name(path);
    let name = base.split('.').next().unwrap_or(base);
    match name.rsplit_once('-') {
        Some((before, digest)) if digest.len() == 8 && digest.bytes().all(|c| c.is_ascii_hexdigit()) => before,
        _ => name,
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::model::read_text;

    /// The same free in two builds: other addresses, lines, folders, inlining, template arguments, recursion and pytest.
    const FIRST: &str = r##"
process id=1 pid=7
module id=1 path="/opt/a/libtt_metal.so"
module id=2 path="/usr/lib/libpython3.12.so.1.0"
module id=3 path="/opt/a/libother-0a1b2c3d.so.1"
module id=4 path="/lib/x86_64-linux-gnu/libc.so.6"
python process=1 module=2 version="3.12.1"
frame id=1 module=1 address=0x10
symbol frame=1 function="tt::tt_metal::Buffer::deallocate_impl()" offset=0x0
frame id=2 module=1 address=0x20 returns=1
symbol frame=2 function="void model::Cache<int>::clear<long>(int) const" offset=0x5
frame id=3 module=3 address=0x30 returns=1
frame id=4 module=2 address=0x40 returns=1
symbol frame=4 function="_PyEval_EvalFrameDefault" offset=0x9
frame id=5 module=4 address=0x50 returns=1
code id=1 function="Model.unload" file="/src/one/model.py" first_line=3
code id=2 function="test_it" file="/src/one/test_it.py" first_line=3
code id=3 function="pytest_pyfunc_call" file="/venv/lib/python3.12/site-packages/_pytest/python.py" first_line=3
code id=4 function="Op.__call__" file="/venv/lib/python3.12/site-packages/ttnn/__init__.py" first_line=3
python-frame id=6 code=1 line=37
python-frame id=7 code=2 line=12
python-frame id=8 code=3 line=99
python-frame id=9 code=4 line=1
stack id=1 frames=1,2,3,4,9,6,7,8,4,5 end=complete python=complete
stack id=2 frames=1,2 end=copy-too-small python=uncertain
stack id=3 frames=4,5 end=complete
"##;

    fn site(text: &str, stack: u32) -> Site {
        let model = read_text(text, &mut |_| {});
        Site::of(model.definitions.stack(stack).as_ref())
    }

    #[test]
    fn a_site_has_what_the_next_run_has_too() {
        let first = site(FIRST, 1);
        expect![[r#"
            model::Cache::clear
            ? (libother)
            Op.__call__ (ttnn/__init__.py)
            Model.unload (model.py)
            test_it (test_it.py)"#]]
        .assert_eq(&first.frames.join("\n"));
        assert_eq!(first.name, "model::Cache::clear < Model.unload (model.py) < test_it (test_it.py)");
        assert!(!first.exact, "a function without a name");
        let second = FIRST
            .replace("/opt/a/", "/home/b/build/")
            .replace("-0a1b2c3d.so.1", "-99887766.so.2")
            .replace("address=0x2", "address=0x77772")
            .replace("Cache<int>::clear<long>(int) const", "Cache<char>::clear<long>(A<B>)")
            .replace("/src/one/", "/src/two/")
            .replace("line=37", "line=41")
            .replace("/venv/lib/python3.12/site-packages/ttnn", "/git/ttnn/ttnn")
            .replace("frames=1,2,3,4,9,6,7,8,4,5", "frames=1,2,2,3,4,9,6,6,7,4,5");
        assert_eq!(site(&second, 1).id, first.id);
        let other = FIRST.replace("Model.unload", "Model.reload");
        assert_ne!(site(&other, 1).id, first.id);
    }

    #[test]
    fn a_site_says_when_it_is_not_exact() {
        assert!(!site(FIRST, 2).exact);
        let none = Site::of(None);
        assert_eq!((none.name.as_str(), none.exact), ("no stack", false));
        assert_eq!(site(FIRST, 3).name, "no function known");
        let named = FIRST.replace("1,2,3,4,9,6", "1,2,4,9,6");
        assert!(site(&named, 1).exact);
    }

    /// Suppressions and baselines hold ids: they must never change. `printf 'f\0main\0' | sha256sum | head -c 12`
    #[test]
    fn ids_are_for_ever() {
        assert_eq!(id(&["f".to_owned(), "main".to_owned()]), "47fa55c4b21c");
    }
}
