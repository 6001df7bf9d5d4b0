// SPDX-License-Identifier: Apache-2.0
//! Makes traces of what people already have: the log of an allocation server, or a graph capture of ttnn.
//!
//! Text comes in, the items of a trace come out; nothing here opens a file. What a source does not say is zero in its
//! events, and its processes name the source, so that no reader takes more from them than is there. What can't be read
//! is counted and quoted in the trace.

mod graph;
mod line;
mod server;

use std::{collections::HashMap, fmt, io::BufRead};

use anyhow::{Result, bail};

use crate::trace::{Event, Item, Kind, Problem, Session};

/// How many lines of a kind are quoted.
const QUOTES: usize = 5;
/// What stands before and behind a quote, and never in one: whoever shows the trace to others takes quotes out by them.
pub(crate) const QUOTED_FROM: char = '“';
pub(crate) const QUOTED_TO: char = '”';
/// Most characters of a quote.
const QUOTE: usize = 120;

/// What a file was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The log of an allocation server.
    AllocationServer,
    /// The JSON of a graph capture.
    GraphCapture,
}

/// What came of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What it was.
    pub format: Format,
    /// Allocations and frees in the trace.
    pub events: u64,
    /// Processes that made them.
    pub processes: u32,
    /// Lines of a log, or nodes of a graph.
    pub parts: u64,
    /// Of these, how many could not be read.
    pub unreadable: u64,
}

/// Takes one file after the other into one trace.
#[derive(Default)]
pub struct Importer {
    /// Numbers given to processes and texts so far.
    processes: u32,
    codes: HashMap<String, u32>,
    stacks: HashMap<Vec<u32>, u32>,
}

impl Importer {
    /// Reads a file that users know as `name`, and gives the items of its part of the trace to `sink`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is nothing that can be imported.
    pub fn file(&mut self, name: &str, mut input: impl BufRead, sink: &mut impl FnMut(Item)) -> Result<Summary> {
        let format = if looks_like_json(input.fill_buf()?) { Format::GraphCapture } else { Format::AllocationServer };
        sink(Session { tool: env!("CARGO_PKG_VERSION").to_owned(), ..Session::default() }.into());
        let summary = match format {
            Format::GraphCapture => graph::import(self, name, input, sink)?,
            Format::AllocationServer => server::import(self, name, input, sink)?,
        };
        if summary.events == 0 && summary.unreadable == 0 {
            bail!("it has no allocation and no free of an allocation server's log or of a graph capture");
        }
        Ok(summary)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllocationServer => "log of an allocation server",
            Self::GraphCapture => "graph capture",
        })
    }
}

/// A graph capture is a list of nodes, or an object with one. A log may begin with a bracket too.
fn looks_like_json(begin: &[u8]) -> bool {
    let mut bytes = begin.iter().filter(|byte| !byte.is_ascii_whitespace());
    match bytes.next() {
        Some(b'{') => true,
        Some(b'[') => matches!(bytes.next(), Some(b'{' | b']')),
        _ => false,
    }
}

/// An event that says nothing but when and what: the sequence number and the time are the line's or node's.
fn event(kind: Kind, process: u32, number: u64) -> Event {
    Event { sequence: number, time: number, process, buffer_type: u32::MAX, ..Event::of(kind) }
}

/// Counts what is odd in one way, and keeps the first few to quote.
#[derive(Default)]
struct Oddities {
    count: u64,
    quotes: Vec<String>,
}

impl Oddities {
    fn add(&mut self, number: u64, text: &str) {
        self.count += 1;
        if self.quotes.len() < QUOTES {
            let cut = if text.chars().nth(QUOTE).is_some() { "…" } else { "" };
            let text: String = text.trim().chars().take(QUOTE).collect();
            self.quotes.push(format!(
                "{number}: {QUOTED_FROM}{}{cut}{QUOTED_TO}",
                text.replace([QUOTED_FROM, QUOTED_TO], "\"")
            ));
        }
    }

    /// One problem for all: how many, and the first of them.
    fn report(&self, name: &str, what: &str, place: &str, sink: &mut impl FnMut(Item)) {
        if self.count > 0 {
            let more = if self.count > self.quotes.len() as u64 { "; …" } else { "" };
            let quotes: Vec<String> = self.quotes.iter().map(|quote| format!("{place} {quote}")).collect();
            let text = format!("{name}: {what}: {} ({}{more})", self.count, quotes.join("; "));
            sink(Problem { text }.into());
        }
    }
}
