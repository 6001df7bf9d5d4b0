// SPDX-License-Identifier: Apache-2.0
//! What is known of a trace that grows.

use std::{iter, time::Duration};

use crate::{
    analysis::{Filter, KnownSites, LiveFold, LivePicture, View},
    model::{Definitions, Model, Reading},
    trace::{Damage, Item, Record},
};

/// A trace as far as it was read.
#[derive(Default)]
pub struct Watched {
    /// `None` before the first item.
    reading: Option<Reading>,
    fold: LiveFold,
    sites: KnownSites,
    /// Whether there are names that the sites do not have yet.
    more_names: bool,
    /// What is shown instead, while the view is frozen.
    frozen: Option<Box<Frozen>>,
    /// What growth is measured from.
    since: Option<Box<LiveFold>>,
    pub(super) filter: Filter,
    /// What stands for definitions before the first item.
    nothing: Model,
}

/// What was known at a moment.
struct Frozen {
    fold: LiveFold,
    /// The tests that ran, as process and text numbers.
    running: Vec<(u32, u32)>,
}

impl Watched {
    /// Takes the next item.
    pub fn item(&mut self, item: Item) {
        self.more_names |= matches!(item, Item::Record(Record::Symbol(_)));
        let reading = self.reading.get_or_insert_with(|| Reading::new(iter::once(&item)));
        reading.item(item, &mut |entry| self.fold.entry(entry));
    }

    /// The recording is over: there will be no more items.
    pub fn end(&mut self, name: &str, damage: Option<Damage>, skipped: u64) {
        if let Some(reading) = &mut self.reading {
            reading.end(name, damage, skipped, &mut |entry| self.fold.entry(entry));
        }
    }

    /// The trace is read from its beginning once more.
    pub fn restart(&mut self) {
        // Numbers may stand for other things now.
        *self = Self { filter: self.filter.clone(), ..Self::default() };
    }

    /// The names and statements so far.
    pub(super) fn definitions(&self) -> &Definitions {
        &self.model().definitions
    }

    pub(super) fn freeze(&mut self) {
        self.frozen = Some(Box::new(Frozen { fold: self.fold.clone(), running: self.running() }));
    }

    pub(super) fn go_on(&mut self) {
        self.since = self.frozen.take().map(|frozen| Box::new(frozen.fold));
    }

    /// Measures growth from the beginning again.
    pub(super) fn forget_freeze(&mut self) {
        self.since = None;
    }

    /// When the view was frozen, if it is.
    pub(super) fn frozen_at(&self) -> Option<u64> {
        self.frozen.as_ref().map(|frozen| frozen.fold.last())
    }

    /// When growth is measured from, if not from the beginning.
    pub(super) fn since(&self) -> Option<u64> {
        self.since.as_ref().map(|fold| fold.last())
    }

    pub(super) fn picture(&mut self, idle: Duration) -> LivePicture {
        if std::mem::take(&mut self.more_names) {
            self.sites.forget_inexact();
        }
        let now = self.running();
        let model = self.reading.as_ref().map_or(&self.nothing, Reading::model);
        let (fold, running) = match self.frozen.as_deref() {
            Some(Frozen { fold, running }) => (fold, running),
            None => (&self.fold, &now),
        };
        let view = View { model, filter: &self.filter, running, since: self.since.as_deref(), idle };
        fold.picture(&view, &mut self.sites)
    }

    fn running(&self) -> Vec<(u32, u32)> {
        let ends = &self.model().definitions.ends;
        let running = self.reading.iter().flat_map(Reading::running_tests);
        running.filter(|(process, _)| !ends.contains_key(process)).collect()
    }

    fn model(&self) -> &Model {
        self.reading.as_ref().map_or(&self.nothing, Reading::model)
    }
}
