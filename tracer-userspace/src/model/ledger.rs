// SPDX-License-Identifier: Apache-2.0
//! The account of buffers: from events to allocations and verdicts, one event at a time.
//!
//! A buffer is (process, unique id); its address and object are reused at once and identify nothing. A block is
//! (process, device, generation of the device, allocator, buffer type, address). Memory is bounded by the live buffers,
//! one pending event a thread, and what was freed in the latest events, at most twice [`REMEMBERED`] of them.
//!
//! How the target behaves, and what follows:
//!
//! - A request is followed by its allocation on the same thread, or by a free with status "requested" if it failed.
//! - Between the two, on that thread, the allocator is asked for so many bytes in each bank.
//! - A free of an allocated buffer is followed, as the thread's next event about a buffer, by the release at the
//!   allocator. If it is not, the device was closed before and no allocator was called. So the verdict waits for that
//!   event; the table in [`rule`] says what it is. A release and what the allocator then does count as one.
//! - An allocator frees by address and knows no owners. So whose block a free releases is a matter of what the allocator
//!   gave out since: its own, another's, or nobody's.
//! - Closing a device releases all buffers of its allocator without a word to them: they are freed again later, without
//!   effect. Such a late free is no excess, unless it reaches an allocator.
//! - A device that is gone leaves its buffers only marked; newer targets do that inline, and only the destructor of the
//!   buffer, with status "deallocated", shows it.
//! - A buffer that owns nothing is given no memory and has nothing to free; some builds report allocations and frees of
//!   such buffers nevertheless. An owner is told by its request, or by saying so.
//! - What an allocator held when the recording began is known by its own set of owners, where that could be read. The set
//!   keeps what a bulk release before then took, so a verdict that needs the memory to be an owner's is only possible.
//! - A forked child has copies of its parent's buffers. What it does to them stays in the child.
//! - A gap makes what it touches possible: nothing that happened in it can be ruled out. An allocator gives no memory
//!   twice, so what seems to be given twice across a gap was released in it.

mod account;
mod entry;
mod rule;
#[cfg(test)]
pub(super) mod tests;

pub(super) use account::REACH;
pub use entry::{Alias, Allocation, Buffer, Device, Entry, Found, Moment, Outcome, Previous};

use account::Account;
use serde::{Deserialize, Serialize};

use super::{ByKey, REMEMBERED};
use crate::trace::{Event, Kind, Record};

/// The account of one trace.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Ledger {
    /// By process.
    accounts: ByKey<u32, Account>,
    /// Losses of nobody knows whose events.
    gaps: Gaps,
    /// How many events came.
    events: u64,
    /// Time of the last event, where accounts end that nothing else ended.
    last: u64,
}

/// Gaps that concern every account that there was before them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Gaps {
    count: u64,
    /// When the latest ended.
    latest: u64,
}

impl Ledger {
    /// Takes the next event.
    pub fn event(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        self.last = self.last.max(event.time);
        self.skip(1);
        let account = self.account(event.process);
        if event.unreadable && (event.kind.is_about_buffer() || event.kind == Kind::Bulk) {
            // Without its identity the event is as good as lost.
            account.add_gap(event.time);
            account.unreadable = account.unreadable.saturating_add(1);
            return;
        }
        account.event(event, sink);
        if event.kind == Kind::Fork && event.child != 0 {
            let parent = account.parent();
            self.account(event.child).inherit(parent);
        }
    }

    /// Takes an event about a buffer that nobody asks about. That its thread went on may tell what the thread's event before
    /// it was.
    pub(super) fn elsewhere(&mut self, event: &Event, sink: &mut impl FnMut(&Entry)) {
        self.last = self.last.max(event.time);
        self.skip(1);
        self.account(event.process).elsewhere(event, sink);
    }

    /// Counts events that were passed over, so that what is forgotten when is the same without them.
    #[inline]
    pub(super) fn skip(&mut self, events: u64) {
        let before = self.events;
        self.events = before.saturating_add(events);
        if before / REMEMBERED != self.events / REMEMBERED {
            self.begin_generation();
        }
    }

    /// Takes the next record; only some matter here.
    pub fn record(&mut self, record: &Record, sink: &mut impl FnMut(&Entry)) {
        match record {
            Record::Border(border) => {
                let account = self.account(border.process);
                account.border = Some(border.next_unique_id);
                account.test = border.test;
            }
            Record::Loss(loss) if loss.process == 0 => {
                self.gaps.count = self.gaps.count.saturating_add(1);
                self.gaps.latest = self.gaps.latest.max(loss.before);
            }
            Record::Loss(loss) => self.account(loss.process).add_gap(loss.before),
            Record::LiveOwner(live) => {
                self.last = self.last.max(live.time);
                self.account(live.process).found(live, sink);
            }
            Record::End(end) => {
                self.last = self.last.max(end.time);
                // Only a process that ended by itself has nothing left to do.
                let exited = matches!(end.reason.as_str(), "exited" | "executed");
                self.account(end.process).end(end.time, exited, sink);
            }
            _ => {}
        }
    }

    /// Ends the accounts of processes that no `end` ended: the trace was cut.
    pub fn finish(&mut self, sink: &mut impl FnMut(&Entry)) {
        for (_, account) in self.accounts.iter_mut() {
            account.add_gaps(self.gaps);
            account.end(self.last, false, sink);
        }
    }

    /// The tests that run now: process and text numbers.
    pub fn running_tests(&self) -> impl Iterator<Item = (u32, u32)> {
        self.all().filter(|account| account.test != 0).map(|account| (account.process, account.test))
    }

    /// What was odd, as sentences.
    pub fn problems(&self) -> Vec<String> {
        self.all().flat_map(Account::problems).collect()
    }

    /// How many buffers are remembered, live or not.
    pub(super) fn buffers(&self) -> usize {
        self.all().map(Account::buffers).sum()
    }

    /// How much is kept: live buffers, blocks given, owners, their addresses, addresses that some left, ended buffers.
    #[cfg(test)]
    fn kept(&self) -> [usize; 6] {
        self.all().map(Account::kept).fold([0; 6], |sum, kept| std::array::from_fn(|at| sum[at] + kept[at]))
    }

    /// Begins the next generation of freed buffers, or a later one.
    #[cold]
    fn begin_generation(&mut self) {
        let generation = self.events / REMEMBERED;
        self.accounts.iter_mut().for_each(|(_, account)| account.forget(generation));
    }

    /// In the order of their processes.
    fn all(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter().map(|(_, account)| account)
    }

    fn account(&mut self, process: u32) -> &mut Account {
        let Self { gaps, events, .. } = *self;
        let account = self.accounts.of_or(process, || Account::new(process, gaps, events / REMEMBERED));
        // Not when there is one: there may be many, and many accounts.
        account.add_gaps(self.gaps);
        account
    }
}
