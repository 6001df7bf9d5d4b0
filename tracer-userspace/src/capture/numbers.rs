// SPDX-License-Identifier: Apache-2.0
//! What the kernel side's numbers of stacks stand for.
//!
//! The kernel side forgets which stacks it has sent when it has sent many, or when modules change, and sends them again
//! under new numbers. Two processors that meet a new stack at once send it under a number each, and either may be the one that
//! the kernel side goes on with. What is kept here grows with the stacks that differ, not with how often they come.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    rc::Rc,
    time::{Duration, Instant},
};

/// How long after a stack came again its earlier number may still arrive with a hit: a probe that found that number just
/// before it was forgotten has to be done by then. And how far apart numbers are of which one replaced the other: those that
/// came closer may be of two processors.
const LATE: Duration = Duration::from_secs(10);

/// Values, and the numbers that they were sent under.
#[derive(Debug)]
pub struct Numbers<T> {
    /// The place in `values`, by number.
    places: HashMap<u32, usize>,
    /// Each value once, with the numbers that may still be used for it, and since when, oldest first.
    values: Vec<(Rc<T>, VecDeque<Since>)>,
    /// The place in `values`, by value.
    known: HashMap<Rc<T>, usize>,
    /// Numbers of values that have later ones, and since when, oldest first.
    replaced: VecDeque<Since>,
}

/// A number, and when that began.
type Since = (Instant, u32);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { places: HashMap::new(), values: Vec::new(), known: HashMap::new(), replaced: VecDeque::new() }
    }
}

impl<T: Eq + Hash> Numbers<T> {
    /// A number stands for this value from now on.
    pub fn insert(&mut self, number: u32, value: T) {
        self.insert_at(Instant::now(), number, value);
    }

    /// What a number stands for, and the place of that, which is the same for equal values.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<(usize, &T)> {
        let &place = self.places.get(&number)?;
        Some((place, &self.values.get(place)?.0))
    }

    fn insert_at(&mut self, now: Instant, number: u32, value: T) {
        match self.known.get(&value) {
            Some(&place) => {
                let current = &mut self.values[place].1;
                while let Some((_, earlier)) = current.pop_front_if(|(since, _)| now.duration_since(*since) >= LATE) {
                    self.replaced.push_back((now, earlier));
                }
                current.push_back((now, number));
                self.places.insert(number, place);
            }
            None => {
                let (place, value) = (self.values.len(), Rc::new(value));
                self.values.push((Rc::clone(&value), VecDeque::from([(now, number)])));
                self.known.insert(value, place);
                self.places.insert(number, place);
            }
        }
        while let Some((_, number)) = self.replaced.pop_front_if(|(since, _)| now.duration_since(*since) >= LATE) {
            self.places.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_comes_again_has_its_place_and_two_numbers_for_a_while() {
        let begin = Instant::now();
        let mut numbers = Numbers::default();
        numbers.insert_at(begin, 1, "a");
        numbers.insert_at(begin, 2, "b");
        numbers.insert_at(begin, 3, "a");
        assert_eq!([1, 2, 3, 4].map(|it| numbers.get(it)), [Some((0, &"a")), Some((1, &"b")), Some((0, &"a")), None]);
        numbers.insert_at(begin + LATE, 4, "a");
        numbers.insert_at(begin + 2 * LATE, 5, "c");
        assert_eq!([1, 3, 4, 5].map(|it| numbers.get(it)), [None, None, Some((0, &"a")), Some((2, &"c"))]);
    }

    #[test]
    fn of_two_numbers_that_came_at_once_either_may_be_used_as_long_as_there_is_no_other() {
        let begin = Instant::now();
        let mut numbers = Numbers::default();
        numbers.insert_at(begin, 1, "a");
        numbers.insert_at(begin + Duration::from_millis(1), 2, "a");
        numbers.insert_at(begin + 5 * LATE, 3, "b");
        assert_eq!([1, 2].map(|it| numbers.get(it)), [Some((0, &"a")); 2]);
        numbers.insert_at(begin + 6 * LATE, 4, "a");
        numbers.insert_at(begin + 7 * LATE, 5, "b");
        assert_eq!([1, 2, 4].map(|it| numbers.get(it)), [None, None, Some((0, &"a"))]);
    }

    #[test]
    fn memory_does_not_grow_with_how_often_values_come() {
        let begin = Instant::now();
        let mut numbers = Numbers::default();
        for number in 1..=100_000_u32 {
            // A thousand a second.
            numbers.insert_at(begin + Duration::from_millis(number.into()), number, number % 100);
        }
        assert_eq!((numbers.values.len(), numbers.known.len()), (100, 100));
        assert!(numbers.places.len() <= 20_201, "{}", numbers.places.len());
        assert_eq!(numbers.get(100_000), Some((99, &0)));
    }
}
