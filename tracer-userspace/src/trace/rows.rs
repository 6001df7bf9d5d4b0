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

/// Most threads of a chunk that are told apart.
pub(super) const MOST_THREADS: usize = 256;

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

/// Whether the events that are sought can be told by this column.
pub(super) fn tells_sought(column: u64, sought: &Sought) -> bool {
    matches!(column, PROCESS | THREAD | KIND | ADDRESS) || column == UNIQUE_ID && sought.unique_id.is_some()
}

/// Whether events of a kind concern what is at one address, or one thread's request, and nothing else.
pub(super) fn is_of_one_place(kind: u8) -> bool {
    Kind::from_u8(kind).is_some_and(|kind| {
        kind.is_about_buffer() || matches!(kind, Kind::Bank | Kind::Alias | Kind::Circular | Kind::CircularFreed)
    })
}

/// Whether a column has something to say of events that are not of one place, in a chunk with these kinds.
pub(super) fn is_of_context(column: u64, kinds: &Kinds) -> bool {
    // Most such chunks have no others than these, which say when, in which thread, and which text.
    let says_text =
        |kind| matches!(Kind::from_u8(kind), Some(Kind::TestBegin | Kind::TestEnd | Kind::ThreadExit | Kind::Modules));
    column <= ORDERED as u64 || column == TEXT || kinds.any(|kind| !is_of_one_place(kind) && !says_text(kind))
}

/// The places, in the order of recording, of the events that are not of one place.
pub(super) fn context_rows(columns: &Columns) -> Vec<u32> {
    let kinds = (0..).zip(columns.of(KIND));
    kinds.filter(|(_, kind)| !is_of_one_place(**kind as u8)).map(|(place, _)| place).collect()
}

/// The places, in the order of recording, of the events by which the account of some buffers is what it is with all, given the
/// places in the order by kinds, and which there are sought. What the chunks before and behind need of this one is among them: of each thread, the first
/// event about a buffer and the last. `None` if there are too many threads.
pub(super) fn sought_rows(columns: &Columns, by_kind: &[u32], is_sought: &[bool]) -> Option<Vec<u32>> {
    let roles: [Role; 256] = std::array::from_fn(|kind| Role::of(kind as u8));
    let mut wanted = Vec::new();
    let mut threads: Vec<Open> = Vec::new();
    let mut known = 0;
    for (place, (&kind, &row)) in columns.of(KIND).iter().zip(by_kind).enumerate() {
        let is_sought = is_sought[row as usize];
        let role = roles[kind as usize % 256];
        if is_sought || role == Role::Context {
            wanted.push(place as u32);
        }
        let decides = role == Role::Decides;
        if !decides && role != Role::Bank {
            continue;
        }
        let thread = Thread::of(columns, place);
        if threads.get(known).is_none_or(|it| it.thread != thread) {
            known = threads.iter().position(|it| it.thread == thread).unwrap_or_else(|| {
                threads.push(Open { thread, since: Vec::new(), is_sought: true });
                threads.len() - 1
            });
            if threads.len() > MOST_THREADS {
                return None;
            }
        }
        let open = &mut threads[known];
        if decides {
            if is_sought || open.is_sought {
                wanted.push(place as u32);
                wanted.append(&mut open.since);
            }
            open.since.clear();
            open.is_sought = is_sought;
        }
        open.since.push(place as u32);
    }
    threads.iter().for_each(|it| wanted.extend(&it.since));
    wanted.sort_unstable();
    wanted.dedup();
    Some(wanted)
}

/// What an event is for others of its thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// About a buffer: it decides what the one before was.
    Decides,
    /// What the allocator does for a request.
    Bank,
    /// Not of one place.
    Context,
    /// Nothing.
    None,
}

impl Role {
    pub(super) fn of(kind: u8) -> Self {
        match Kind::from_u8(kind) {
            Some(kind) if kind.is_about_buffer() => Self::Decides,
            Some(Kind::Bank) => Self::Bank,
            _ if !is_of_one_place(kind) => Self::Context,
            _ => Self::None,
        }
    }
}

/// What a thread did last, which its next event about a buffer decides.
struct Open {
    thread: Thread,
    /// The latest event about a buffer, and those of the allocator's for its request.
    since: Vec<u32>,
    /// Whether that event is sought, or may be, as it is in a chunk before.
    is_sought: bool,
}
