// SPDX-License-Identifier: Apache-2.0
//! What a trace says: its definitions, and the account of its buffers. Pure: items come in, values come out.

mod by_key;
mod circular;
mod definitions;
mod ends;
mod explain;
mod few;
mod ids;
mod ledger;
mod merge;
mod numbers;
mod origins;
mod part;
mod reading;
mod recent;
mod replay;
mod reported;
mod server;
mod source;
mod spans;
mod stack;
mod verdict;

pub use circular::{Circular, CircularSum};
pub use definitions::Definitions;
pub use explain::Explanation;
pub use ledger::{Alias, Allocation, Buffer, Device, Entry, Found, Ledger, Moment, Outcome, Previous};
pub use origins::{Origin, Tally};
pub use part::sought;
pub use reading::Reading;
pub use recent::REMEMBERED;
pub use replay::{Replay, State};
pub use server::{Reports, Server};
pub use source::{Source, Trace};
pub use spans::{TestSpan, TestSpans};
pub use stack::{KnownStacks, Line, LineKind, StackLines};
pub use verdict::{Certainty, Colour, Verdict};

pub(crate) use by_key::ByKey;
#[cfg(test)]
pub(crate) use ledger::tests::histories::recorded;
pub(crate) use stack::Extent;

use serde::{Deserialize, Serialize};

use crate::trace::{Damage, Sought};

/// What is known when all traces are read.
#[derive(Debug, Default)]
pub struct Model {
    /// The definitions of all traces, under common numbers.
    pub definitions: Definitions,
    /// What the graph trackers reported, as a server that keeps a log of it would count.
    pub server: Server,
    /// What the graph trackers reported of circular buffers.
    pub circular: Circular,
    /// When which test ran.
    pub spans: TestSpans,
    /// Events read.
    pub events: u64,
    /// Events that the kernel side sent and that are neither here nor among the losses, of the traces that have the total;
    /// absent if none has.
    pub unaccounted: Option<i64>,
    /// Damage by trace name.
    pub damages: Vec<(String, Damage)>,
    /// Items that only a later version of the tool can read.
    pub skipped: u64,
}

/// What reading the events of one trace came to, apart from entries.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct EventSums {
    events: u64,
    /// The trace's numbers of the processes, in the order of those that they have in all this.
    processes: Vec<u32>,
    /// What was odd.
    problems: Vec<String>,
    server: Server,
    circular: Circular,
    spans: TestSpans,
}

/// Reads traces, and gives each entry of the ledger to `sink`, in the order of each trace.
///
/// Numbers in entries (processes, stacks, texts) are those of the returned model; symbols and totals are complete only
/// there, so whoever needs a name keeps the number until then. Times are nanoseconds after the start of the earliest
/// trace, by the wall clocks of their hosts.
pub fn read<S: Source>(sources: Vec<S>, sink: &mut impl FnMut(&Entry)) -> Model {
    read_all(sources, |_| {}, sink)
}

/// The same for the entries of some buffers, from sources that may pass over what does not concern them. What the model has
/// of all buffers (server, circular buffers) is not complete.
pub fn read_about<S: Source>(sources: Vec<S>, sought: Sought, sink: &mut impl FnMut(&Entry)) -> Model {
    read_all(sources, |reading| reading.look_for(sought), sink)
}

/// The same, with what the server's ledger has [by place of allocation](Server::origins).
pub fn read_with_origins<S: Source>(sources: Vec<S>, sink: &mut impl FnMut(&Entry)) -> Model {
    read_all(sources, Reading::count_origins, sink)
}

/// Reads the records of a trace, and takes for its events what reading them came to, which is known when the source is at its
/// end: the same model, and what it takes to read parts of the trace. `None` if that is not known, or not of this trace.
pub fn read_sums<S: Source>(mut source: S, sums: impl FnOnce(&S) -> Option<EventSums>) -> Option<(Model, Replay)> {
    let first = source.next();
    let mut reading = Reading::new(first.iter());
    for item in first.into_iter().chain(source.by_ref()) {
        reading.item(item, &mut |_| {});
    }
    let sums = sums(&source).filter(|sums| sums.events == source.passed())?;
    reading.take_sums(sums)?;
    reading.finish(source.name(), source.damage(), source.skipped(), &mut |_| {});
    Some(reading.into_replay())
}

fn read_all<S: Source>(sources: Vec<S>, prepare: impl FnOnce(&mut Reading), sink: &mut impl FnMut(&Entry)) -> Model {
    let mut sources: Vec<_> = sources.into_iter().map(|mut source| (source.next(), source)).collect();
    let mut reading = Reading::new(sources.iter().filter_map(|(first, _)| first.as_ref()));
    prepare(&mut reading);
    for (first, source) in &mut sources {
        let mut next = first.take();
        while let Some(item) = next {
            reading.passed(source.passed());
            reading.item(item, sink);
            for event in source.take_run() {
                reading.event(event, sink);
            }
            next = source.next();
        }
        reading.passed(source.passed());
        reading.end(source.name(), source.damage(), source.skipped(), sink);
    }
    reading.into_model()
}

/// Reads one trace that is written as text.
#[cfg(test)]
pub(crate) fn read_text(text: &str, sink: &mut impl FnMut(&Entry)) -> Model {
    use crate::trace::Item;

    struct Lines(std::vec::IntoIter<Item>);
    impl Iterator for Lines {
        type Item = Item;
        fn next(&mut self) -> Option<Item> {
            self.0.next()
        }
    }
    impl Source for Lines {
        fn name(&self) -> &str {
            "a.trace"
        }
        fn damage(&self) -> Option<Damage> {
            None
        }
        fn skipped(&self) -> u64 {
            0
        }
        fn passed(&self) -> u64 {
            0
        }
    }
    let items = crate::trace::text::parse(text).expect("every line is an item");
    read_with_origins(vec![Lines(items.into_iter())], sink)
}
