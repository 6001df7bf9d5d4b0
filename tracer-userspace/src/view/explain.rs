// SPDX-License-Identifier: Apache-2.0
//! Verdicts in plain words, as text.

use super::table::Table;
use crate::{
    analysis::{Cause, CauseWords},
    model::{Colour, Explanation, Verdict},
};

/// Explains one verdict.
#[must_use]
pub fn explain(told: &Explanation) -> String {
    let mut out = format!("{} ({})\n  {}\n", told.verdict.name(), colour(told.colour), sentence(told.meaning));
    out.push_str(&format!("\nEffect\n  {}\n", told.effect));
    list("Usual causes", told.causes, &mut out);
    list("Where to look", told.look, &mut out);
    out.push_str(&format!("\nCertainty\n  {}\n", told.certainty));
    out
}

/// Explains one cause.
#[must_use]
pub fn explain_cause(told: &CauseWords) -> String {
    let CauseWords { cause, meaning, evidence, look } = told;
    let mut out = format!("{} (cause)\n  {}\n", cause.name(), sentence(meaning));
    out.push_str(&format!("\nEvidence\n  {evidence}\n\nWhere to look\n  {}\n", sentence(look)));
    out
}

/// Lists all verdicts and causes, those verdicts that ask for most attention first.
#[must_use]
pub fn verdicts() -> String {
    let mut all = Verdict::ALL;
    all.sort_by_key(|verdict| std::cmp::Reverse(verdict.colour()));
    let mut table = Table::new(&["verdict", "attention", "meaning"]);
    for verdict in all {
        table.row(&[verdict.name(), verdict.colour().name(), verdict.meaning()].map(str::to_owned));
    }
    let mut out = String::new();
    table.show(&mut out);
    let mut table = Table::new(&["cause", "meaning"]);
    for cause in Cause::ALL {
        table.row(&[cause.name(), cause.explain().meaning].map(str::to_owned));
    }
    out.push('\n');
    table.show(&mut out);
    out.push_str("\nMore on one: tt-buftrace explain NAME\n");
    out
}

fn colour(colour: Colour) -> &'static str {
    match colour {
        Colour::Normal => "normal: as it should be",
        Colour::Yellow => "yellow: worth a look",
        Colour::Excess => "excess: a free beyond the allocations, without effect on memory",
        Colour::Red => "red: memory of one buffer was used or released by another",
    }
}

fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn list(title: &str, items: &[&str], out: &mut String) {
    if !items.is_empty() {
        out.push_str(&format!("\n{title}\n"));
    }
    for item in items {
        out.push_str(&format!("  - {item}\n"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_verdict_in_plain_words() {
        expect![[r#"
            repeat (excess: a free beyond the allocations, without effect on memory)
              Freed again although it was deallocated already; the call had no effect.

            Effect
              No memory is touched. But two places believe that they own the buffer, and one of them is wrong.

            Usual causes
              - A container or cache of shared pointers is cleared after its buffers were deallocated by hand.
              - A tensor was deallocated twice by C++, or it and a view of it; `ttnn.deallocate` ignores a second call.
              - Teardown cleans up on two levels what was allocated once.

            Where to look
              - `excess`: this free, and the free before it. One of the two should not be there.
              - `timeline --buffer ID --stacks`: the whole life of one of the examples.

            Certainty
              Possible if events were lost after the buffer's allocation, or if that was before the recording.
        "#]]
        .assert_eq(&explain(&Verdict::Repeat.explain()));
        assert_eq!(verdicts().lines().count(), Verdict::ALL.len() + Cause::ALL.len() + 5);
    }

    #[test]
    fn a_cause_in_plain_words() {
        expect![[r#"
            container (cause)
              A container of shared pointers, or of tensors, is destroyed or emptied with buffers in it.

            Evidence
              This free, or the one before it, is made below a container's destructor, clear or erase; its elements are named.

            Where to look
              What the container holds by then: buffers whose device is closed, or that are deallocated by hand besides.
        "#]]
        .assert_eq(&explain_cause(&Cause::Container.explain()));
    }
}
