// SPDX-License-Identifier: Apache-2.0
//! Who held what: the live buffers of one memory by the site and the test that allocated them.
//!
//! What the sites hold now is kept, and what each held at the peak that was touched since: it notes that first. So a peak
//! costs nothing when it comes, and memory grows with the sites that hold something, not with the events.

use std::{cmp::Reverse, collections::hash_map::Entry, rc::Rc};

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use super::{Site, names, sites::Sites};
use crate::model::Moment;

/// How many holders are named.
const HOLDERS: usize = 5;

/// What was live in one memory at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LiveSet {
    /// All of it.
    #[serde(flatten)]
    pub load: Load,
    /// Who held most, most bytes first, at most five.
    pub holders: Vec<Holder>,
    /// Holders that are not named.
    pub others: u64,
}

/// What some buffers of one memory take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Load {
    /// How many they are.
    pub buffers: u64,
    /// Their bytes on one device.
    pub bytes: u64,
    /// What they take in each bank of the device, alignment included, as far as that is known.
    pub bank_bytes: u64,
    /// Buffers of which that is not known: `bank_bytes` does not have them.
    pub bank_unknown: u64,
}

impl Load {
    /// One buffer of so many bytes.
    #[must_use]
    pub fn of_one(bytes: u64, bank_bytes: Option<u64>) -> Self {
        let bank_unknown = u64::from(bank_bytes.is_none());
        Self { buffers: 1, bytes, bank_bytes: bank_bytes.unwrap_or(0), bank_unknown }
    }

    /// What is there of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            buffers: self.buffers.saturating_add(other.buffers),
            bytes: self.bytes.saturating_add(other.bytes),
            bank_bytes: self.bank_bytes.saturating_add(other.bank_bytes),
            bank_unknown: self.bank_unknown.saturating_add(other.bank_unknown),
        }
    }

    /// What is left without the other.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            buffers: self.buffers.saturating_sub(other.buffers),
            bytes: self.bytes.saturating_sub(other.bytes),
            bank_bytes: self.bank_bytes.saturating_sub(other.bank_bytes),
            bank_unknown: self.bank_unknown.saturating_sub(other.bank_unknown),
        }
    }
}

/// What one site allocated in one test.
#[derive(Clone, Debug, Serialize)]
pub struct Holder {
    /// What it held.
    #[serde(flatten)]
    pub load: Load,
    /// Test that allocated them; `null` for none.
    pub test: Option<String>,
    /// Where it allocated them.
    pub site: Rc<Site>,
}

/// The live buffers of one memory, now and at the peak.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Live {
    bytes: u64,
    peak: u64,
    peak_moment: Moment,
    /// Counts the peaks.
    epoch: u64,
    /// Those that hold something.
    sites: HashMap<Place, Sum>,
    /// What those held at the peak that were touched since.
    at_peak: HashMap<Place, Load>,
}

/// Stack and test of an allocation; `None` for what was found live.
pub(super) type Place = Option<(u32, u32)>;

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Sum {
    now: Load,
    /// The peak that it was last touched after.
    epoch: u64,
}

impl Live {
    /// A buffer was allocated.
    pub(super) fn add(&mut self, moment: &Moment, load: Load) {
        self.enter(Some((moment.stack, moment.test)), moment, load);
    }

    /// A buffer from before the recording was found live.
    pub(super) fn find(&mut self, time: u64, load: Load) {
        self.enter(None, &Moment { time, ..Moment::default() }, load);
    }

    fn enter(&mut self, place: Place, moment: &Moment, load: Load) {
        match self.sites.entry(place) {
            Entry::Occupied(mut site) => {
                let sum = site.get_mut();
                sum.touch(place, self.epoch, &mut self.at_peak);
                sum.now = sum.now.plus(load);
            }
            Entry::Vacant(site) => drop(site.insert(Sum { now: load, epoch: self.epoch })),
        }
        self.bytes = self.bytes.saturating_add(load.bytes);
        if self.bytes > self.peak {
            (self.peak, self.peak_moment) = (self.bytes, *moment);
            self.epoch += 1;
            self.forget_peak();
        }
    }

    /// The life of a buffer ended that was allocated at this moment, or found live.
    pub(super) fn remove(&mut self, allocated: Option<&Moment>, load: Load) {
        let place = allocated.map(|moment| (moment.stack, moment.test));
        if let Entry::Occupied(mut site) = self.sites.entry(place) {
            let sum = site.get_mut();
            sum.touch(place, self.epoch, &mut self.at_peak);
            sum.now = sum.now.minus(load);
            if sum.now.buffers == 0 {
                site.remove();
            }
        }
        self.bytes = self.bytes.saturating_sub(load.bytes);
    }

    /// Most bytes that were live at once, and when.
    pub(super) fn peak(&self) -> (u64, Moment) {
        (self.peak, self.peak_moment)
    }

    /// What was live at the peak.
    pub(super) fn at_peak(&self, sites: &mut Sites) -> LiveSet {
        live_set(self.places_at_peak(), sites)
    }

    /// The same, before names are known.
    pub(super) fn places_at_peak(&self) -> impl Iterator<Item = (Place, Load)> {
        let untouched = self.sites.iter().filter(|(_, sum)| sum.epoch < self.epoch);
        let touched = self.at_peak.iter().map(|(&place, &load)| (place, load));
        untouched.map(|(&place, sum)| (place, sum.now)).chain(touched)
    }

    /// Bytes that are live now.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is live now, by stack and test.
    pub(super) fn places(&self) -> impl Iterator<Item = (Place, Load)> {
        self.sites.iter().map(|(&place, sum)| (place, sum.now))
    }

    /// The same, to be kept.
    pub(super) fn now(&self) -> Snapshot {
        Snapshot { sites: self.places().collect() }
    }

    /// Begins to note what sites hold at a new peak.
    fn forget_peak(&mut self) {
        // To clear a table costs what it could hold.
        if self.at_peak.capacity() / 8 > self.at_peak.len() {
            self.at_peak = HashMap::default();
        } else {
            self.at_peak.clear();
        }
    }
}

impl Sum {
    /// Notes what it held at the peak of this number, if nothing changed since.
    fn touch(&mut self, place: Place, epoch: u64, at_peak: &mut HashMap<Place, Load>) {
        if self.epoch < epoch {
            at_peak.insert(place, self.now);
            self.epoch = epoch;
        }
    }
}

/// What was live at a moment, before names are known.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Snapshot {
    sites: Vec<(Place, Load)>,
}

impl Snapshot {
    pub(super) fn resolve(self, sites: &mut Sites) -> LiveSet {
        live_set(self.sites.into_iter(), sites)
    }
}

/// Several stacks may be one site, and the phases of a test are one test.
fn live_set(places: impl Iterator<Item = (Place, Load)>, sites: &mut Sites) -> LiveSet {
    let before = Rc::new(Site::before());
    let named = places.filter(|(_, load)| load.buffers > 0).map(|(place, load)| Holder {
        load,
        test: place.and_then(|(_, test)| names::test_of(sites.definitions(), test)),
        site: Rc::clone(place.map_or(&before, |(stack, _)| sites.get(stack))),
    });
    let mut holders: Vec<Holder> = named.collect();
    holders.sort_by(|a, b| (&a.site.id, &a.test).cmp(&(&b.site.id, &b.test)));
    holders.dedup_by(|holder, first| {
        let same = (&holder.site.id, &holder.test) == (&first.site.id, &first.test);
        if same {
            first.load = first.load.plus(holder.load);
        }
        same
    });
    holders.sort_by_key(|holder| Reverse((holder.load.bytes, holder.load.buffers)));
    let others = holders.len().saturating_sub(HOLDERS) as u64;
    let load = holders.iter().fold(Load::default(), |sum, holder| sum.plus(holder.load));
    holders.truncate(HOLDERS);
    LiveSet { load, holders, others }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(stack: u32, test: u32) -> Moment {
        Moment { stack, test, ..Moment::default() }
    }

    fn load(bytes: u64) -> Load {
        Load::of_one(bytes, Some(bytes / 2))
    }

    /// Holders as (stack, buffers, bytes): without definitions there are no names.
    fn sums(sites: impl Iterator<Item = (Place, Load)>) -> Vec<(u32, u64, u64)> {
        let mut sums: Vec<_> = sites
            .filter(|it| it.1.buffers > 0)
            .map(|(place, it)| (place.map_or(0, |it| it.0), it.buffers, it.bytes))
            .collect();
        sums.sort_unstable();
        sums
    }

    #[test]
    fn the_peak_is_what_was_live_then_whatever_came_later() {
        let mut live = Live::default();
        live.add(&moment(1, 0), load(10));
        live.add(&moment(2, 0), load(20));
        live.remove(Some(&moment(1, 0)), load(10));
        live.add(&moment(3, 0), load(30));
        live.add(&moment(3, 0), load(5));
        live.remove(Some(&moment(2, 0)), load(20));
        live.remove(Some(&moment(3, 0)), load(30));
        live.add(&moment(1, 0), load(40));
        assert_eq!(live.peak().0, 55);
        assert_eq!(sums(live.places_at_peak()), [(2, 1, 20), (3, 2, 35)]);
        assert_eq!(sums(live.now().sites.into_iter()), [(1, 1, 40), (3, 1, 5)]);
    }

    #[test]
    fn by_brute_force_every_peak_is_the_same() {
        // A fixed generator of numbers, so that a failure comes again.
        let mut state = 7_u32;
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let (mut live, mut held, mut best) = (Live::default(), Vec::new(), (0, Vec::new()));
        for _ in 0..5000 {
            if next(5) > 1 || held.is_empty() {
                let (stack, bytes) = (next(9), u64::from(next(100)));
                held.push((stack, bytes));
                live.add(&moment(stack, 0), load(bytes));
                let sum: u64 = held.iter().map(|it| it.1).sum();
                if sum > best.0 {
                    best = (sum, held.clone());
                }
            } else {
                let (stack, bytes) = held.swap_remove(next(held.len() as u32) as usize);
                live.remove(Some(&moment(stack, 0)), load(bytes));
            }
        }
        let mut expected: HashMap<u32, (u64, u64)> = HashMap::default();
        for (stack, bytes) in best.1 {
            let sum = expected.entry(stack).or_default();
            *sum = (sum.0 + 1, sum.1 + bytes);
        }
        let mut expected: Vec<_> = expected.into_iter().map(|(stack, (n, bytes))| (stack, n, bytes)).collect();
        expected.sort_unstable();
        assert_eq!(sums(live.places_at_peak()), expected);
    }

    #[test]
    fn sites_of_tests_long_gone_are_forgotten() {
        let mut live = Live::default();
        for test in 0..100_000 {
            live.add(&moment(1, test), load(10));
            live.remove(Some(&moment(1, test)), load(10));
        }
        assert_eq!((live.sites.len(), live.at_peak.len()), (0, 1));
    }
}
