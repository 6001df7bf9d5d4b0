// SPDX-License-Identifier: Apache-2.0
//! Numbers for rules: a whole process needs some thousands of different ones.

use std::collections::HashMap;

use tracer_unwind::{rule::Rule, table::MAX_RULE};

/// Rules, each once, and their numbers.
#[derive(Clone, Debug)]
pub struct Rules {
    list: Vec<Rule>,
    numbers: HashMap<Rule, u16>,
}

impl Rules {
    /// Number of [`Rule::NONE`].
    pub const NONE: u16 = 0;
    /// Number of [`Rule::UNSUPPORTED`].
    pub const UNSUPPORTED: u16 = 1;

    /// The two that every list begins with.
    #[must_use]
    pub fn new() -> Self {
        let list = vec![Rule::NONE, Rule::UNSUPPORTED];
        let numbers = list.iter().copied().zip(0..).collect();
        Self { list, numbers }
    }

    /// The rules by their numbers. It only ever grows, at its end.
    #[must_use]
    pub fn list(&self) -> &[Rule] {
        &self.list
    }

    /// The number of a rule; `None` if it is new and there are no more numbers.
    pub fn number(&mut self, rule: Rule) -> Option<u16> {
        if let Some(&number) = self.numbers.get(&rule) {
            return Some(number);
        }
        let number = u16::try_from(self.list.len()).ok().filter(|&number| number <= MAX_RULE)?;
        self.list.push(rule);
        self.numbers.insert(rule, number);
        Some(number)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new()
    }
}
