// SPDX-License-Identifier: Apache-2.0
//! Reading a part of a trace again, from what the ledger was when the part began.

use super::{Entry, Ledger, Source, merge::Merge};
use crate::trace::{Event, Item};

/// A trace whose records were all read, so that its parts can be read for themselves.
pub struct Replay {
    merge: Merge,
}

/// What all before a part of a trace came to, as far as entries behind it depend on that.
pub struct State(Ledger);

impl State {
    /// Reads one. `None` if it is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok().map(Self)
    }

    /// That of a ledger, as it is kept; `None` if that is not possible.
    pub(super) fn to_bytes(ledger: &Ledger) -> Option<Vec<u8>> {
        postcard::to_allocvec(ledger).ok()
    }
}

impl Replay {
    pub(super) fn new(merge: Merge) -> Self {
        Self { merge }
    }

    /// Reads a part of the trace, and gives the entries that the whole has of it to `sink`, but those about
    /// [ends](Entry::is_at_end); of its last part those, too, that its end makes.
    pub fn read<S: Source>(
        &mut self,
        State(mut ledger): State,
        source: &mut S,
        is_last: bool,
        mut sink: impl FnMut(&Entry),
    ) {
        let sink = &mut |entry: &Entry| {
            if !entry.is_at_end() {
                sink(entry);
            }
        };
        while let Some(item) = source.next() {
            match item {
                Item::Event(mut event) => self.event(&mut event, &mut ledger, sink),
                Item::Record(mut record) => {
                    self.merge.record(&mut record);
                    ledger.record(&record, sink);
                }
            }
            for event in source.take_run() {
                self.event(event, &mut ledger, sink);
            }
        }
        if is_last {
            ledger.finish(sink);
        }
    }

    fn event(&mut self, event: &mut Event, ledger: &mut Ledger, sink: &mut impl FnMut(&Entry)) {
        self.merge.event(event);
        ledger.event(event, sink);
    }
}
