// SPDX-License-Identifier: Apache-2.0
//! What the modules' unwind tables come to: rows, rules, and what the kernel side can't unwind by them.

use std::collections::HashSet;

use super::{Check, unreadable};
use crate::{
    discover::module::Module,
    unwind::{Compiled, Counts, Reason, compile},
    view::bytes,
};

/// What makes a file's tables wrong, and not only hard.
const WRONG: [Reason; 3] = [Reason::Overlap, Reason::Damaged, Reason::Limit];

/// A check for all modules, and one for each.
pub(super) fn checks(modules: &[Module]) -> Vec<Check> {
    let (mut counts, mut size, mut rules) = (Counts::default(), 0, HashSet::new());
    let (mut without, mut each) = (Vec::new(), Vec::new());
    for module in modules {
        match module.elf() {
            Ok(elf) => match compile(elf.object()) {
                Some(compiled) => {
                    counts.add(&compiled.counts);
                    size += size_of(&compiled);
                    rules.extend(compiled.rules.iter().copied());
                    each.push(check_module(&module.name(), &compiled));
                }
                None => without.push(module.name()),
            },
            Err(error) => each.push(Check::warn("tables", format!("{error:#}"), unreadable())),
        }
    }
    let tables = modules.len() - without.len();
    let found = format!("{tables} of {} modules have tables: {}", modules.len(), sum(&counts, rules.len(), size));
    let all = match without.is_empty() {
        true => Check::ok("unwinding", found),
        false => Check::warn(
            "unwinding",
            format!("{found}; none in {}", without.join(", ")),
            "stacks end where they reach these",
        ),
    };
    std::iter::once(all).chain(each).collect()
}

fn check_module(name: &str, compiled: &Compiled) -> Check {
    let counts = &compiled.counts;
    let mut found = format!("{name}: {}", sum(counts, compiled.rules.len(), size_of(compiled)));
    let reasons: Vec<_> = counts.reasons().map(|(reason, count)| format!("{count} {}", reason.text())).collect();
    if !reasons.is_empty() {
        found += &format!(" ({})", reasons.join(", "));
    }
    match counts.reasons().any(|(reason, _)| WRONG.contains(&reason)) {
        true => Check::warn("tables", found, "stacks may end in this file"),
        false => Check::ok("tables", found),
    }
}

fn sum(counts: &Counts, rules: usize, size: u64) -> String {
    let unsupported: u64 = counts.unsupported.iter().sum();
    let hard = match unsupported {
        0 => String::new(),
        _ => format!("; {unsupported} of {} rows read need a copy of the stack", counts.read),
    };
    format!("{} rows, {rules} rules, {}{hard}", counts.rows, bytes(size))
}

fn size_of(compiled: &Compiled) -> u64 {
    compiled.parts.iter().map(|part| size_of_val(part.blocks.as_slice()) as u64).sum()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tracer_unwind::{rule::Rule, table::Block};

    use super::*;
    use crate::{doctor::Outcome, unwind::Part};

    fn compiled(unsupported: &[(Reason, u64)]) -> Compiled {
        let mut counts = Counts { functions: 9, read: 50, rows: 60, ..Counts::default() };
        for &(reason, count) in unsupported {
            counts.unsupported[reason as usize] = count;
        }
        let part = Part { start: 0, end: 1, blocks: vec![Block::EMPTY; 3] };
        Compiled { rules: vec![Rule::NONE, Rule::UNSUPPORTED], parts: vec![part], counts }
    }

    #[test]
    fn a_line_says_what_is_left_and_why() {
        expect!["ok   tables       a.so: 60 rows, 2 rules, 12.0 KiB"]
            .assert_eq(&check_module("a.so", &compiled(&[])).to_string());
        let hard = compiled(&[(Reason::CfaRegister, 3), (Reason::Expression, 1)]);
        expect![[r#"ok   tables       a.so: 60 rows, 2 rules, 12.0 KiB; 4 of 50 rows read need a copy of the stack (3 frame found by another register, 1 unknown expression)"#]]
            .assert_eq(&check_module("a.so", &hard).to_string());
    }

    #[test]
    fn a_file_that_is_wrong_is_warned_of() {
        assert_eq!(check_module("a.so", &compiled(&[(Reason::Damaged, 1)])).outcome, Outcome::Warn);
    }
}
