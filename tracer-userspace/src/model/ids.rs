// SPDX-License-Identifier: Apache-2.0
//! A table of what belongs to unique ids.

use std::mem;

use foldhash::HashMap;

/// Ids of one page.
const PAGE: usize = 8;
/// What stands for nothing.
const NONE: u32 = u32::MAX;

/// An index by unique id. Ids mostly follow each other, and those of buffers that live at one time are near to each other:
/// so neighbours share a page, and a forged file can't make it use much more than a map would.
#[derive(Debug, Default)]
pub(super) struct Ids {
    pages: HashMap<u64, [u32; PAGE]>,
}

impl Ids {
    #[inline]
    pub(super) fn get(&self, unique_id: u64) -> Option<usize> {
        let (page, at) = place(unique_id);
        self.pages.get(&page).and_then(|page| index(page[at]))
    }

    /// Sets the index of an id, below `u32::MAX`, and returns the one before.
    pub(super) fn insert(&mut self, unique_id: u64, index: usize) -> Option<usize> {
        let (page, at) = place(unique_id);
        let page = self.pages.entry(page).or_insert([NONE; PAGE]);
        self::index(mem::replace(&mut page[at], index as u32))
    }

    pub(super) fn remove(&mut self, unique_id: u64) -> Option<usize> {
        let (number, at) = place(unique_id);
        let page = self.pages.get_mut(&number)?;
        let before = index(mem::replace(&mut page[at], NONE));
        if page.iter().all(|index| *index == NONE) {
            self.pages.remove(&number);
        }
        before
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pages.values().flatten().filter(|index| **index != NONE).count()
    }
}

fn place(unique_id: u64) -> (u64, usize) {
    (unique_id / PAGE as u64, (unique_id % PAGE as u64) as usize)
}

fn index(stored: u32) -> Option<usize> {
    (stored != NONE).then_some(stored as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_until_they_are_removed_and_leave_nothing() {
        let mut ids = Ids::default();
        let far = [0, 1, 15, 16, 17, u64::MAX];
        for (index, id) in far.into_iter().enumerate() {
            assert_eq!((ids.insert(id, index), ids.get(id)), (None, Some(index)));
        }
        assert_eq!((ids.insert(15, 9), ids.get(14), ids.len()), (Some(2), None, 6));
        assert_eq!(far.map(|id| ids.remove(id)), [0, 1, 9, 3, 4, 5].map(Some));
        assert_eq!((ids.remove(0), ids.pages.len()), (None, 0));
    }
}
