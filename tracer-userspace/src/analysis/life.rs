// SPDX-License-Identifier: Apache-2.0
//! The lives of buffers: an allocation and its end joined, one at a time, as views over time need them.

use foldhash::HashMap;

use crate::model::{Allocation, Buffer, Certainty, Entry, Found, Moment, Outcome, Verdict};

/// A buffer from its allocation to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The buffer; `buffer.allocated` says when and where, and is absent for one that was found live.
    pub buffer: Buffer,
    /// When it was allocated, or found live: nanoseconds after the start.
    pub begin: u64,
    /// What became of it. Only a cut trace leaves this out.
    pub end: Option<End>,
}

/// What became of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// What its free was, or what else ended it; [`Verdict::Held`] if nothing did before the recording ended.
    pub verdict: Verdict,
    /// Whether that stands.
    pub certainty: Certainty,
    /// When and where.
    pub moment: Moment,
}

/// What lives are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A life, told when it ends.
    Life(Life),
    /// What is no part of a life that was seen to begin: an excess free, a failed request, shared bytes, or the free of a
    /// buffer from before the recording.
    Event(Outcome),
}

/// Joins allocations with their ends. Its memory grows with the live buffers.
#[derive(Debug, Default)]
pub struct LifeFold {
    live: HashMap<(u32, u64), Life>,
}

impl LifeFold {
    /// Takes the next entry, and gives what it completes. Aliases own no memory and have no life.
    pub fn entry(&mut self, entry: &Entry) -> Option<Piece> {
        match entry {
            Entry::Allocation(Allocation { buffer, moment }) => self.begin(buffer, moment.time),
            Entry::Found(Found { buffer, time }) => self.begin(buffer, *time),
            Entry::Alias(_) => None,
            Entry::Outcome(outcome) => Some(self.outcome(outcome)),
        }
    }

    /// Gives the lives that no entry ended, in the order of their begin.
    #[must_use]
    pub fn finish(self) -> Vec<Life> {
        let mut lives: Vec<Life> = self.live.into_values().collect();
        lives.sort_by_key(|life| (life.begin, life.buffer.process, life.buffer.unique_id));
        lives
    }

    /// A source that does not tell buffers apart may use a number twice; the earlier life then has no end.
    fn begin(&mut self, buffer: &Buffer, begin: u64) -> Option<Piece> {
        let life = Life { buffer: *buffer, begin, end: None };
        self.live.insert((buffer.process, buffer.unique_id), life).map(Piece::Life)
    }

    fn outcome(&mut self, outcome: &Outcome) -> Piece {
        let &Outcome { buffer, verdict, certainty, moment, ends, .. } = outcome;
        let ended = ends || verdict == Verdict::Held;
        let life = ended.then(|| self.live.remove(&(buffer.process, buffer.unique_id))).flatten();
        match life {
            // The buffer is taken from the outcome: the bytes in each bank may have come after the allocation.
            Some(life) => Piece::Life(Life { buffer, end: Some(End { verdict, certainty, moment }), ..life }),
            None => Piece::Event(*outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::read_text;

    const TRACE: &str = "process id=1 pid=7\n\
        event 1 t=5 p=1 tid=7 allocated uid=1 address=0x100 size=64 owns=1 class=mesh\n\
        event 2 t=6 p=1 tid=7 allocated uid=2 address=0x200 size=32 owns=1 class=mesh\n\
        event 3 t=7 p=1 tid=7 free uid=1 address=0x100 size=64 status=1\n\
        event 4 t=8 p=1 tid=7 released uid=1 address=0x100 size=64 status=1 class=mesh\n\
        event 5 t=9 p=1 tid=7 free uid=1 address=0x100 size=64 status=2\n\
        end process=1 time=20 reason=exited\n";

    #[test]
    fn a_life_is_told_when_it_ends_and_an_excess_free_is_none() {
        let (mut fold, mut told) = (LifeFold::default(), Vec::new());
        read_text(TRACE, &mut |entry| told.extend(fold.entry(entry)));
        let words: Vec<_> = told
            .iter()
            .map(|piece| match piece {
                Piece::Life(Life { buffer, begin, end }) => {
                    (buffer.unique_id, Some(*begin), end.map(|end| (end.verdict, end.moment.time)))
                }
                Piece::Event(outcome) => (outcome.buffer.unique_id, None, Some((outcome.verdict, outcome.moment.time))),
            })
            .collect();
        assert_eq!(
            words,
            [
                (1, Some(5), Some((Verdict::Released, 7))),
                (1, None, Some((Verdict::Repeat, 9))),
                (2, Some(6), Some((Verdict::Held, 20))),
            ]
        );
        assert!(fold.finish().is_empty());
    }
}
