// SPDX-License-Identifier: Apache-2.0
//! The stacks that the page shows, each function, text and site once.

use std::{collections::HashMap, hash::Hash};

use serde::Serialize;

use crate::{
    analysis::{Site, frame_name},
    model::{Definitions, Line, LineKind, StackLines},
    trace::escape,
};

/// Stacks, functions and sites by their numbers on the page. Number 0 of a stack stands for none.
#[derive(Debug, Default, Serialize)]
pub(super) struct Stacks {
    texts: Vec<String>,
    frames: Vec<Frame>,
    stacks: Vec<Stack>,
    sites: Vec<NamedSite>,
    #[serde(skip)]
    known: Known,
}

/// What has a number already.
#[derive(Debug, Default)]
struct Known {
    /// By their numbers in the trace.
    stacks: HashMap<u32, usize>,
    alike: HashMap<Stack, usize>,
    texts: HashMap<String, usize>,
    frames: HashMap<Frame, usize>,
    sites: HashMap<String, usize>,
}

/// A function of a stack; its texts by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
struct Frame {
    kind: Kind,
    /// Short name.
    name: usize,
    /// Whole name.
    whole: usize,
    /// File and line, or module and address.
    place: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Native,
    Inlined,
    Interpreter,
    Python,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Stack {
    /// Innermost first.
    frames: Vec<usize>,
    site: usize,
    /// Why it ends, and what is wrong with its Python functions; empty if nothing is.
    end: usize,
    python: usize,
}

#[derive(Debug, Serialize)]
struct NamedSite {
    id: String,
    name: String,
}

impl Stacks {
    /// With none but the stack that is missing.
    pub(super) fn new() -> Self {
        let mut all = Self::default();
        all.add(None);
        all
    }

    /// The number of a stack of the trace.
    pub(super) fn of(&mut self, stack: u32, definitions: &Definitions) -> usize {
        if let Some(&known) = self.known.stacks.get(&stack) {
            return known;
        }
        let number = definitions.stack(stack).map_or(0, |lines| self.add(Some(&lines)));
        self.known.stacks.insert(stack, number);
        number
    }

    /// The number of a stack with names.
    pub(super) fn add(&mut self, lines: Option<&StackLines>) -> usize {
        let site = Site::of(lines);
        let (end, python) = lines.map_or(("", ""), |lines| (lines.end.as_str(), lines.python.as_str()));
        let unless_whole = |state: &str| if state == "complete" { String::new() } else { escape(state) };
        let stack = Stack {
            frames: lines.into_iter().flat_map(|it| &it.lines).map(|line| self.frame(line)).collect(),
            site: self.site(&site),
            end: self.text(unless_whole(end)),
            python: self.text(unless_whole(python)),
        };
        number(stack, &mut self.known.alike, &mut self.stacks)
    }

    fn frame(&mut self, line: &Line) -> usize {
        let name = escape(&frame_name(line));
        let whole = line.function.as_deref().map_or_else(|| name.clone(), escape);
        let frame = Frame {
            kind: match line.kind {
                LineKind::Native if line.inlined => Kind::Inlined,
                LineKind::Native => Kind::Native,
                LineKind::Interpreter => Kind::Interpreter,
                LineKind::Python => Kind::Python,
            },
            name: self.text(name),
            whole: self.text(whole),
            place: self.text(escape(&place(line))),
        };
        number(frame, &mut self.known.frames, &mut self.frames)
    }

    fn text(&mut self, text: String) -> usize {
        number(text, &mut self.known.texts, &mut self.texts)
    }

    fn site(&mut self, site: &Site) -> usize {
        let sites = &mut self.sites;
        *self.known.sites.entry(site.id.clone()).or_insert_with(|| {
            sites.push(NamedSite { id: site.id.clone(), name: escape(&site.name) });
            sites.len() - 1
        })
    }
}

/// The number of a value: its own, or the next.
fn number<T: Clone + Eq + Hash>(value: T, known: &mut HashMap<T, usize>, all: &mut Vec<T>) -> usize {
    *known.entry(value).or_insert_with_key(|value| {
        all.push(value.clone());
        all.len() - 1
    })
}

/// Where a function is: in its source, and for machine code in its module.
fn place(line: &Line) -> String {
    let source = match (&line.file, line.line) {
        (Some(file), Some(number)) => Some(format!("{file}:{number}")),
        (Some(file), None) => Some(file.clone()),
        (None, _) => None,
    };
    let missing = line.missing.as_ref().map(|reason| format!("[{reason}]"));
    let address = (line.kind != LineKind::Python && !line.inlined).then(|| {
        let module = line.module.as_deref().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
        format!("{module}{}{:#x}", if module.is_empty() { "" } else { "+" }, line.address)
    });
    [source, missing, address].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
