// SPDX-License-Identifier: Apache-2.0
//! The live view: a trace that grows, as a screen. Pure: items, keys and times come in, and a frame comes out.
//!
//! [`Live`] holds what is known ([`watched`]) and what is shown of it ([`screen`]); [`update()`] takes a key, and
//! [`draw()`] fills a frame.

mod detail;
mod draw;
mod panes;
mod screen;
#[cfg(test)]
mod tests;
mod update;
mod watched;

use std::time::Duration;

pub use draw::draw;
pub use screen::{Ask, Phase, Screen};
pub use update::update;
pub use watched::Watched;

use crate::analysis::{Filter, LivePicture};

/// All that the view is made of.
pub struct Live {
    /// What is known.
    pub watched: Watched,
    /// What is shown of it.
    pub screen: Screen,
    /// For how long nothing has come.
    idle: Duration,
    picture: LivePicture,
}

impl Live {
    /// Begins with nothing known; with colours, or without.
    #[must_use]
    pub fn new(phase: Phase, colours: bool) -> Self {
        let (watched, screen) = (Watched::default(), Screen::new(phase, colours));
        Self { watched, screen, idle: Duration::ZERO, picture: LivePicture::default() }
    }

    /// Makes the picture anew, after nothing has come for so long.
    pub fn refresh(&mut self, idle: Duration) {
        self.idle = idle;
        self.picture = self.watched.picture(idle);
    }

    /// Shows only what a filter takes.
    fn set_filter(&mut self, filter: Filter) {
        self.watched.filter = filter;
        self.refresh(self.idle);
    }

    /// Shows what there is now until [`Self::go_on`].
    fn freeze(&mut self) {
        self.watched.freeze();
        self.refresh(self.idle);
    }

    /// Shows what comes, with growth since the freeze.
    fn go_on(&mut self) {
        self.watched.go_on();
        self.refresh(self.idle);
    }
}
