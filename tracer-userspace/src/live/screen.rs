// SPDX-License-Identifier: Apache-2.0
//! What is shown, where, and what the user is asked for.

use crate::analysis::{Filter, Query};

/// What the view shows, besides the trace itself.
pub struct Screen {
    /// How far the recording is.
    pub phase: Phase,
    /// The file that is written, as the user may be told.
    pub output: Option<String>,
    pub(super) colours: bool,
    pub(super) focus: Pane,
    /// Whether the pane in focus has the whole screen.
    pub(super) zoomed: bool,
    /// The keys of the selected rows, by pane; the first row if there is none.
    pub(super) selected: [Option<String>; Pane::ALL.len()],
    /// Which of its orders each pane has.
    pub(super) orders: [usize; Pane::ALL.len()],
    pub(super) search: String,
    /// What the user types at the moment.
    pub(super) prompt: Option<Prompt>,
    /// A text that covers the panes.
    pub(super) pager: Option<Pager>,
    /// What is to be said once, until the next key.
    pub(super) message: Option<String>,
}

/// How far a recording is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is no trace yet, and why.
    Waiting(String),
    /// It is recorded here.
    Recording,
    /// It is, or was, recorded elsewhere.
    Following,
    /// The recording comes to its end.
    Stopping,
    /// It is over, and how it ended.
    Over(String),
}

/// What the view asks of whoever runs it.
#[derive(Clone, Debug)]
pub enum Ask {
    /// To end.
    Quit,
    /// To read the trace for a timeline, and give it to [`Screen::answer`].
    Timeline(Query, Filter),
}

/// A part of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Memory,
    Verdicts,
    Sites,
    Tests,
}

/// Something to type.
pub(super) struct Prompt {
    pub(super) question: Question,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Filter,
    Search,
    Address,
}

/// A text to read, line by line.
pub(super) struct Pager {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    /// The first line that is shown.
    pub(super) top: usize,
    /// Whether the text is still to come.
    pub(super) waits: bool,
}

impl Pane {
    pub(super) const ALL: [Self; 4] = [Self::Memory, Self::Verdicts, Self::Sites, Self::Tests];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Verdicts => "verdicts",
            Self::Sites => "sites",
            Self::Tests => "tests",
        }
    }

    /// What it can be sorted by.
    pub(super) const fn orders(self) -> [&'static str; 3] {
        match self {
            Self::Memory => ["bytes", "peak", "name"],
            Self::Verdicts => ["severity", "time", "count"],
            Self::Sites => ["growth", "bytes", "buffers"],
            Self::Tests => ["time", "bytes", "verdicts"],
        }
    }
}

impl Question {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Filter => "filter by device, type, test, site: ",
            Self::Search => "search: ",
            Self::Address => "timeline of address: ",
        }
    }
}

impl Screen {
    pub(super) fn new(phase: Phase, colours: bool) -> Self {
        Self {
            phase,
            output: None,
            colours,
            focus: Pane::Verdicts,
            zoomed: false,
            selected: Default::default(),
            orders: [0; Pane::ALL.len()],
            search: String::new(),
            prompt: None,
            pager: None,
            message: None,
        }
    }

    /// Says something until the next key.
    pub fn say(&mut self, message: String) {
        self.message = Some(message);
    }

    /// Gives the text that was asked for, if it is still wanted.
    pub fn answer(&mut self, text: &str) {
        if let Some(pager) = self.pager.as_mut().filter(|pager| pager.waits) {
            pager.lines = text.lines().map(str::to_owned).collect();
            pager.waits = false;
        }
    }

    /// Which of its orders a pane has.
    pub(super) fn order(&self, pane: Pane) -> usize {
        self.orders[pane as usize]
    }

    pub(super) fn open(&mut self, title: String, text: &str) {
        let lines = text.lines().map(str::to_owned).collect();
        self.pager = Some(Pager { title, lines, top: 0, waits: false });
    }

    pub(super) fn wait(&mut self, title: String) {
        let lines = vec!["reading the trace …".to_owned()];
        self.pager = Some(Pager { title, lines, top: 0, waits: true });
    }
}
