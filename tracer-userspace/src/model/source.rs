// SPDX-License-Identifier: Apache-2.0
//! Where the items of a trace come from.

use crate::trace::{Damage, Event, Item, Reader};

/// One trace file, as a source of items.
pub trait Source: Iterator<Item = Item> {
    /// The events that come next, as far as they are at hand; none if it is better to ask for the next item.
    fn take_run(&mut self) -> &mut [Event] {
        &mut []
    }
    /// The name that the user knows it by.
    fn name(&self) -> &str;
    /// Where it stopped being readable; asked after the last item.
    fn damage(&self) -> Option<Damage>;
    /// Items skipped because a later version of the format added them; asked after the last item.
    fn skipped(&self) -> u64;
    /// Events passed over so far, of what nobody asks about.
    fn passed(&self) -> u64;
}

/// A trace that is read.
pub struct Trace {
    /// The name that the user knows it by.
    pub name: String,
    /// Has its items.
    pub reader: Reader,
}

impl Iterator for Trace {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.reader.next()
    }
}

impl Source for Trace {
    fn take_run(&mut self) -> &mut [Event] {
        self.reader.take_run()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn damage(&self) -> Option<Damage> {
        self.reader.damage().cloned()
    }

    fn skipped(&self) -> u64 {
        self.reader.skipped()
    }

    fn passed(&self) -> u64 {
        self.reader.passed()
    }
}
