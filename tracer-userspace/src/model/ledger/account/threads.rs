// SPDX-License-Identifier: Apache-2.0
//! What each thread of a process is in the middle of.

use std::mem;

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use crate::model::{Buffer, Moment, Outcome, Previous, ledger::rule::Origin};

/// What a thread began, and its next event about a buffer decides.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Pending {
    Request(Buffer, Moment),
    Free(Box<Outcome>, Origin),
    /// The mark of this buffer has its verdict; some builds report it as a release, too.
    Marked(u64),
}

impl Pending {
    /// Whether the end of its thread may have come before the rest: a thread can be killed between a free and the release,
    /// and nothing told before that there would be none.
    pub(super) fn may_be_cut(&self) -> bool {
        matches!(self, Self::Free(outcome, Origin::Owner) if outcome.previous == Previous::None)
    }
}

/// What the threads began. Mostly an event is of the same thread as the one before, so that its thread's is at hand.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Threads {
    thread: u32,
    pending: Option<Pending>,
    others: HashMap<u32, Pending>,
}

impl Threads {
    /// What a thread began.
    #[inline]
    pub(super) fn of(&mut self, thread: u32) -> &mut Option<Pending> {
        if thread != self.thread {
            let before = mem::replace(&mut self.pending, self.others.remove(&thread));
            if let Some(pending) = before {
                self.others.insert(self.thread, pending);
            }
            self.thread = thread;
        }
        &mut self.pending
    }

    /// Takes what a thread began.
    #[inline]
    pub(super) fn take(&mut self, thread: u32) -> Option<Pending> {
        match self.of(thread) {
            // Mostly there is nothing, which costs nothing.
            None => None,
            pending => pending.take(),
        }
    }

    /// What all of them began, in the order of their ids.
    pub(super) fn into_all(mut self) -> impl Iterator<Item = Pending> {
        self.others.extend(self.pending.map(|pending| (self.thread, pending)));
        let mut all: Vec<_> = self.others.into_iter().collect();
        all.sort_by_key(|(thread, _)| *thread);
        all.into_iter().map(|(_, pending)| pending)
    }
}
