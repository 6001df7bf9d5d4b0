// SPDX-License-Identifier: Apache-2.0
//! What an operation is in the report: what one thread did without a break at one site in one test.

use std::collections::BTreeMap;

use crate::{
    analysis::frame_name,
    model::{Buffer, Colour, Definitions, Entry, Line, LineKind, Moment, Outcome, StackLines, Verdict},
    trace::{BUFFER_TYPES, escape},
};

/// What entries of one operation have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Thread id.
    pub(super) thread: u32,
    /// Test id, without the phase.
    pub(super) test: Option<String>,
    /// Id of the site.
    pub(super) site: String,
}

/// An operation that goes on.
#[derive(Debug)]
pub(super) struct Operation {
    /// What its entries have in common.
    pub(super) key: Key,
    /// The site in a few words.
    pub(super) name: String,
    /// Its first moment.
    pub(super) first: Moment,
    /// Time of its last entry.
    pub(super) last: u64,
    allocations: u64,
    bytes: u64,
    verdicts: BTreeMap<Verdict, u64>,
    worst: Option<(Verdict, Buffer)>,
}

impl Operation {
    /// Begins with its first moment.
    pub(super) fn begin(key: Key, name: String, first: Moment) -> Self {
        let verdicts = BTreeMap::new();
        Self { key, name, first, last: first.time, allocations: 0, bytes: 0, verdicts, worst: None }
    }

    /// Takes its next entry.
    pub(super) fn add(&mut self, entry: &Entry, time: u64) {
        self.last = self.last.max(time);
        match entry {
            Entry::Allocation(it) if !it.buffer.phantom => {
                self.allocations += 1;
                self.bytes = self.bytes.saturating_add(it.buffer.size);
            }
            Entry::Outcome(Outcome { verdict, buffer, .. }) => {
                *self.verdicts.entry(*verdict).or_default() += 1;
                let is_worse = self.worst.is_none_or(|(worst, _)| severity(*verdict) > severity(worst));
                if severity(*verdict) > 0 && is_worse {
                    self.worst = Some((*verdict, *buffer));
                }
            }
            Entry::Allocation(_) | Entry::Found(_) | Entry::Alias(_) => {}
        }
    }

    /// What it did, by name.
    pub(super) fn arguments(&self) -> Vec<(&'static str, String)> {
        let seconds = |time: u64| format!("{}.{:09}", time / 1_000_000_000, time % 1_000_000_000);
        let test = self.key.test.clone().unwrap_or_else(|| "(outside of tests)".to_owned());
        vec![
            ("test", escape(&test)),
            ("thread", self.key.thread.to_string()),
            ("begin_seconds", seconds(self.first.time)),
            ("end_seconds", seconds(self.last)),
            ("allocations", self.allocations.to_string()),
            ("bytes_allocated", self.bytes.to_string()),
            ("verdicts", self.verdicts()),
            ("site", self.key.site.clone()),
        ]
    }

    /// What was wrong: the worst verdict, and a sentence.
    pub(super) fn error(&self) -> Option<(&'static str, String)> {
        let (verdict, buffer) = self.worst?;
        let device = buffer.device.map_or_else(|| "unknown device".to_owned(), |device| device.to_string());
        let memory = BUFFER_TYPES.get(buffer.buffer_type as usize).copied().unwrap_or("unknown memory");
        let example = format!("buffer {} ({device}, {memory} {:#x})", buffer.unique_id, buffer.address);
        let text = format!("{}; {}: {}, e.g. {example}", self.verdicts(), verdict.name(), verdict.meaning());
        Some((verdict.name(), text))
    }

    fn verdicts(&self) -> String {
        let counts = self.verdicts.iter().map(|(verdict, count)| format!("{count} {}", verdict.name()));
        counts.collect::<Vec<_>>().join(", ")
    }
}

/// How much a verdict asks to be shown as an error: memory errors, unmet requests, excess frees.
fn severity(verdict: Verdict) -> u8 {
    match verdict.colour() {
        Colour::Red => 3,
        Colour::Yellow if verdict == Verdict::Failed => 2,
        Colour::Excess => 1,
        Colour::Yellow | Colour::Normal => 0,
    }
}

/// A stack as the visualizer shows them: innermost function first, Python's own way to write where a function is.
pub(super) fn stack_trace(stack: u32, definitions: &Definitions) -> Option<String> {
    let StackLines { lines, end, .. } = definitions.stack(stack)?;
    let has_python = lines.iter().any(|line| line.kind == LineKind::Python);
    let shown = lines.iter().filter(|line| !has_python || line.kind != LineKind::Interpreter);
    let mut text: String = shown.map(|line| format!("  {}\n", escape(&place(line)))).collect();
    if end != "complete" {
        text.push_str(&format!("  (the stack ends here: {})\n", escape(&end)));
    }
    Some(text)
}

fn place(line: &Line) -> String {
    let function = frame_name(line);
    match (&line.file, line.line) {
        (Some(file), Some(number)) => format!("File \"{file}\", line {number}, in {function}"),
        _ => {
            let module = line.module.as_deref().unwrap_or("no module");
            format!("{function} in {}+{:#x}", module.rsplit('/').next().unwrap_or(module), line.address)
        }
    }
}
