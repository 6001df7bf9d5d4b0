// SPDX-License-Identifier: Apache-2.0
//! Which events of a chunk are wanted for a few buffers, and which of their columns for the others.

use super::{
    Kind, Sought,
    columns::{Columns, Kinds},
    event::ORDERED,
};

/// Numbers of columns.
pub(super) const PROCESS: u64 = 3;
pub(super) const THREAD: u64 = 4;
pub(super) const KIND: u64 = 5;
pub(super) const UNIQUE_ID: u64 = 7;
pub(super) const ADDRESS: u64 = 8;
pub(super) const UNREADABLE: u64 = 15;
const TEXT: u64 = 21;
pub(super) const CHILD: u64 = 22;

/// A thread, by the numbers of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Thread {
    pub(super) process: u32,
    pub(super) thread: u32,
}

impl Thread {
    /// That of the event at a place in the order of recording.
    pub(super) fn of(columns: &Columns, place: usize) -> Self {
        Self { process: at(columns.of(PROCESS), place) as u32, thread: at(columns.of(THREAD), place) as u32 }
    }
}

/// The number at a place of a column that may not be there.
pub(super) fn at(numbers: &[u64], place: usize) -> u64 {
    numbers.get(place).copied().unwrap_or(0)
}

/// Whether events of a kind concern what is at one address, or one thread's request, and nothing else.
pub(super) fn is_of_one_place(kind: u8) -> bool {
    Kind::from_u8(kind).is_some_and(|kind| {
        kind.is_about_buffer() || matches!(kind, Kind::Bank | Kind::Alias | Kind::Circular | Kind::CircularFreed)
    })
}

/// Whether a column has something to say of events that are not of one place, in a chunk with these kinds.
pub(super) fn is_of_context(column: u64, kinds: Option<&Kinds>) -> bool {
    // Most such chunks have no others than these, which say when, in which thread, and which text.
    let says_text =
        |kind| matches!(Kind::from_u8(kind), Some(Kind::TestBegin | Kind::TestEnd | Kind::ThreadExit | Kind::Modules));
    column <= ORDERED as u64
        || column == TEXT
        || kinds.is_none_or(|kinds| kinds.any(|kind| !is_of_one_place(kind) && !says_text(kind)))
}

/// The places, in the order of recording, of the events that are not of one place.
pub(super) fn context_rows(columns: &Columns) -> Vec<u32> {
    let kinds = (0..).zip(columns.of(KIND));
    kinds.filter(|(_, kind)| !is_of_one_place(**kind as u8)).map(|(place, _)| place).collect()
}

/// The places, in the order of recording, of the events by which the account of some buffers is what it is with all, given the
/// places in the order by kinds. What the chunks before and behind need of this one is among them.
pub(super) fn sought_rows(columns: &Columns, by_kind: &[u32], sought: &Sought) -> Vec<u32> {
    let (addresses, unique_ids) = (columns.of(ADDRESS), columns.of(UNIQUE_ID));
    let mut wanted = vec![false; by_kind.len()];
    let mut threads: Vec<Open> = Vec::new();
    let mut known = 0;
    for (place, (&kind, &row)) in columns.of(KIND).iter().zip(by_kind).enumerate() {
        let kind = kind as u8;
        let is_sought = sought.is(at(addresses, row as usize), at(unique_ids, row as usize));
        wanted[place] = is_sought || !is_of_one_place(kind);
        let decides = Kind::from_u8(kind).is_some_and(Kind::is_about_buffer);
        if !decides && kind != Kind::Bank as u8 {
            continue;
        }
        let thread = Thread::of(columns, place);
        if threads.get(known).is_none_or(|it| it.thread != thread) {
            known = threads.iter().position(|it| it.thread == thread).unwrap_or_else(|| {
                threads.push(Open { thread, since: Vec::new(), is_sought: true });
                threads.len() - 1
            });
        }
        let open = &mut threads[known];
        if decides {
            if is_sought || open.is_sought {
                wanted[place] = true;
                open.since.iter().for_each(|&before| wanted[before] = true);
            }
            open.since.clear();
            open.is_sought = is_sought;
        }
        open.since.push(place);
    }
    threads.iter().flat_map(|it| &it.since).for_each(|&last| wanted[last] = true);
    (0..).zip(wanted).filter_map(|(place, is_wanted)| is_wanted.then_some(place)).collect()
}

/// What a thread did last, which its next event about a buffer decides.
struct Open {
    thread: Thread,
    /// The latest event about a buffer, and those of the allocator's for its request.
    since: Vec<usize>,
    /// Whether that event is sought, or may be, as it is in a chunk before.
    is_sought: bool,
}
