// SPDX-License-Identifier: Apache-2.0
//! The buffers of one process by their unique ids: owners that live, and what was freed lately.

use super::live::{Live, Owners};
use crate::model::{
    Moment,
    ids::Ids,
    recent::{Ended, Place, Recent},
};

/// The buffers of one process. A unique id is looked up several times with each event, so there is one table of them.
#[derive(Debug)]
pub(super) struct Buffers {
    by_id: Ids,
    live: Owners,
    recent: Recent,
}

/// Where a buffer is, as a number: its place, and behind it which of the three it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Live(usize),
    Ended(Place),
}

impl At {
    fn of(number: usize) -> Self {
        let at = number / 4;
        match number % 4 {
            0 => Self::Live(at),
            kind => Self::Ended(Place { odd: kind == 1, at }),
        }
    }

    fn number(self) -> usize {
        match self {
            Self::Live(at) => 4 * at,
            Self::Ended(Place { odd: true, at }) => 4 * at + 1,
            Self::Ended(Place { odd: false, at }) => 4 * at + 2,
        }
    }
}

impl Buffers {
    /// Begins in a generation of freed buffers.
    pub(super) fn new(generation: u64) -> Self {
        Self { by_id: Ids::default(), live: Owners::default(), recent: Recent::new(generation) }
    }

    /// Goes on in a generation of freed buffers, and forgets all but those of the one before.
    pub(super) fn begin(&mut self, generation: u64) {
        self.recent.begin(generation);
        self.by_id.retain(|number| match At::of(number) {
            At::Live(_) => true,
            At::Ended(place) => self.recent.get(place).is_some(),
        });
    }

    pub(super) fn live(&self, unique_id: u64) -> Option<&Live> {
        match self.at(unique_id)? {
            At::Live(owner) => Some(self.live.get(owner)),
            At::Ended(_) => None,
        }
    }

    /// Adds an owner, in place of what has its unique id.
    pub(super) fn insert(&mut self, live: Live) {
        let unique_id = live.buffer.unique_id;
        let at = At::Live(self.live.insert(live));
        match self.by_id.insert(unique_id, at.number()).map(At::of) {
            Some(At::Live(before)) => drop(self.live.remove(before)),
            Some(At::Ended(before)) => self.recent.remove(before),
            None => {}
        }
    }

    /// Takes an owner out. Mostly it is remembered then, so the table keeps its place.
    pub(super) fn remove(&mut self, unique_id: u64) -> Option<Live> {
        let At::Live(owner) = self.at(unique_id)? else { return None };
        self.by_id.clear(unique_id);
        Some(self.live.remove(owner))
    }

    /// Takes all owners out, in the order of their unique ids.
    pub(super) fn remove_all(&mut self) -> impl Iterator<Item = Live> + use<> {
        self.by_id.retain(|number| !matches!(At::of(number), At::Live(_)));
        std::mem::take(&mut self.live).into_all()
    }

    /// Notes that the free of another buffer released the block of an owner.
    pub(super) fn rob(&mut self, unique_id: u64, moment: Moment) {
        if let Some(At::Live(owner)) = self.at(unique_id) {
            self.live.rob(owner, moment);
        }
    }

    /// The unique ids of the owners that have their memory of an allocator, in their order.
    pub(super) fn of(&self, allocator: u64) -> Vec<u64> {
        self.live.of(allocator)
    }

    pub(super) fn ended(&self, unique_id: u64) -> Option<&Ended> {
        match self.at(unique_id)? {
            At::Live(_) => None,
            At::Ended(place) => self.recent.get(place),
        }
    }

    pub(super) fn ended_mut(&mut self, unique_id: u64) -> Option<&mut Ended> {
        match self.at(unique_id)? {
            At::Live(_) => None,
            At::Ended(place) => self.recent.get_mut(place),
        }
    }

    /// Remembers the end of a buffer, in place of another end of it.
    pub(super) fn remember(&mut self, ended: Ended) {
        let unique_id = ended.buffer.unique_id;
        match self.at(unique_id) {
            // It was made again meanwhile, which cannot be.
            Some(At::Live(_)) => return,
            Some(At::Ended(place)) => {
                // Of which more is known by now. At its address, another buffer's may have come since.
                if let Some(known) = self.recent.get_mut(place).filter(|known| known.is_the_same_as(&ended)) {
                    *known = ended;
                    return;
                }
                self.recent.remove(place);
            }
            None => {}
        }
        let at = At::Ended(self.recent.push(ended));
        self.by_id.insert(unique_id, at.number());
    }

    /// The latest of the owners that lived at an address and are older than a buffer, on whatever device.
    pub(super) fn owner_before(&mut self, buffer_type: u32, address: u64, unique_id: u64) -> Option<&Ended> {
        let owner = self.recent.owner_before(buffer_type, address, unique_id)?;
        self.ended(owner)
    }

    /// Whether a buffer at an address ended since a time, on whatever device.
    pub(super) fn ended_since(&mut self, buffer_type: u32, address: u64, since: u64) -> bool {
        self.recent.ended_since(buffer_type, address, since)
    }

    /// Whether there was time to forget a buffer.
    pub(super) fn has_forgotten(&self) -> bool {
        self.recent.has_forgotten()
    }

    fn at(&self, unique_id: u64) -> Option<At> {
        self.by_id.get(unique_id).map(At::of)
    }

    /// How many live, and how many are remembered.
    #[cfg(test)]
    pub(super) fn kept(&self) -> [usize; 2] {
        let (live, ended) = (self.live.len(), self.recent.kept());
        assert!((live..=live + ended).contains(&self.by_id.len()));
        [live, ended]
    }
}
