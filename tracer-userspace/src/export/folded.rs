// SPDX-License-Identifier: Apache-2.0
//! Folded stacks: a line a stack, its functions joined by semicolons, the outermost first, and how much it is. Two
//! numbers, before and after, where two runs are compared.

use std::{collections::BTreeMap, io::Write};

use anyhow::{Context as _, Result};

use super::{Stacks, Unit};
use crate::analysis::{Measure, Profile};

/// The stacks of a run by the names of their functions. The same names in another run are the same stack.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// Names, outermost first. As lists they sort such that what shares a caller stands together.
    stacks: BTreeMap<Vec<String>, u64>,
}

impl Folded {
    /// One measure of a profile.
    #[must_use]
    pub fn new(profile: &Profile, measure: Measure, unit: Unit, stacks: Stacks) -> Self {
        let mut folded = Self::default();
        for (stack, amount) in profile.by_stack(measure) {
            let sum = folded.stacks.entry(words(stacks, stack)).or_default();
            *sum = sum.saturating_add(unit.of(amount));
        }
        folded
    }

    /// A line a stack.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.stacks.iter().filter(|(_, value)| **value > 0).map(|(names, value)| format!("{} {value}", names.join(";")))
    }

    /// A line a stack of either run: what it was before, and what it is in this one.
    pub fn lines_against<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = String> + 'a {
        let mut both: BTreeMap<&[String], [u64; 2]> = BTreeMap::new();
        for (at, folded) in [before, self].into_iter().enumerate() {
            for (names, &value) in &folded.stacks {
                both.entry(names).or_default()[at] = value;
            }
        }
        both.into_iter()
            .filter(|(_, values)| *values != [0; 2])
            .map(|(names, [before, after])| format!("{} {before} {after}", names.join(";")))
    }

    /// The sum over all stacks; absent if it is more than a flame graph can count.
    pub(super) fn total(&self) -> Option<u64> {
        let total = self.stacks.values().try_fold(0_u64, |sum, &value| sum.checked_add(value));
        total.filter(|&total| total <= i64::MAX as u64)
    }
}

/// Writes folded stacks, against those of an earlier run if there is one.
///
/// # Errors
///
/// The output can't be written.
pub fn write_folded(folded: &Folded, before: Option<&Folded>, out: &mut dyn Write) -> Result<()> {
    let mut write = |line: String| writeln!(out, "{line}").context("failed to write");
    match before {
        Some(before) => folded.lines_against(before).try_for_each(&mut write),
        None => folded.lines().try_for_each(&mut write),
    }
}

/// The names of a stack, outermost first.
pub(super) fn words(stacks: Stacks, stack: Option<u32>) -> Vec<String> {
    stacks.frames(stack).iter().map(|frame| word(&frame.name)).collect()
}

/// A name that cannot be taken for two functions, nor its end for a number.
fn word(name: &str) -> String {
    let name = name.trim().replace(';', ":");
    match name.rsplit_once(' ') {
        Some((head, tail)) if tail.chars().all(|c| c.is_ascii_digit() || c == '.') => format!("{head}_{tail}"),
        _ if name.is_empty() => "?".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::export::tests::{against, folded};

    #[test]
    fn native_and_python_functions_are_one_stack() {
        expect![[r#"
            (allocated before the recording, or in a gap) 64
            main (run.py);Model.load (model.py);tt::tt_metal::Buffer::create 6144
        "#]]
        .assert_eq(&folded(Measure::Peak, Unit::Bytes, false));
        expect![[r#"
            _start;_PyEval_EvalFrameDefault;main (run.py);_PyEval_EvalFrameDefault;Model.load (model.py);tt::tt_metal::Buffer::create 3
        "#]]
        .assert_eq(&folded(Measure::Allocated, Unit::Count, true));
    }

    #[test]
    fn a_stack_that_is_not_whole_says_so() {
        expect![[r#"
            (the stack ends here: copy-too-small);? (lib: 7.so);drop 2
        "#]]
        .assert_eq(&folded(Measure::Excess, Unit::Count, false));
    }

    #[test]
    fn two_runs_have_two_numbers() {
        expect![[r#"
            main (run.py);Model.load (model.py);tt::tt_metal::Buffer::create 0 2048
            main (run.py);Model.load (model.py);tt::tt_metal::Buffer::remake 2048 0
        "#]]
        .assert_eq(&against(Measure::Held, Unit::Bytes));
    }

    #[test]
    fn a_name_is_one_word_for_who_reads_it() {
        assert_eq!(word("a;b c 12"), "a:b c_12");
        assert_eq!(word("f 1.5 "), "f_1.5");
        assert_eq!((word(" "), word("operator()")), ("?".to_owned(), "operator()".to_owned()));
    }
}
