// SPDX-License-Identifier: Apache-2.0
//! Figures as a page of Markdown.

use super::figure::{Bound, Figure, Section};

/// The page: machine, aims, and a table for each section.
#[must_use]
pub(super) fn markdown(machine: &[(String, String)], sections: &[Section]) -> String {
    let mut text = String::from("# What tt-buftrace costs\n\n| | |\n|---|---|\n");
    for (name, value) in machine {
        text.push_str(&format!("| {} | {} |\n", cell(name), cell(value)));
    }
    text.push_str(&aims(sections));
    for section in sections {
        text.push_str(&format!("\n## {}\n\n{}\n", section.title, section.method));
        text.push_str(&table(&section.figures));
        text.push_str(&missing(&section.figures));
    }
    text
}

/// A row for each figure that has an aim.
fn aims(sections: &[Section]) -> String {
    let figures: Vec<&Figure> = sections.iter().flat_map(|section| &section.figures).collect();
    let mut text = String::new();
    for figure in figures {
        let Some(aim) = &figure.aim else { continue };
        let (word, limit) = match aim.bound {
            Bound::AtMost(limit) => ("or less", limit),
            Bound::AtLeast(limit) => ("or more", limit),
        };
        let met = match figure.is_met() {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        };
        let value = figure.value.as_ref().map_or_else(|_| "–".into(), |value| figure.unit.text(*value));
        let why = figure.value.as_ref().err().unwrap_or(&figure.reason);
        let limit = figure.unit.text(limit);
        text.push_str(&format!("| {} | {value} | {limit} {word} | {met} | {} |\n", cell(&aim.name), cell(why)));
    }
    match text.is_empty() {
        true => text,
        false => format!("\n## Aims\n\n| figure | measured | aim | | |\n|---|---|---|---|---|\n{text}"),
    }
}

/// A row for each subject, a column for each quantity, both in the order in which they come.
fn table(figures: &[Figure]) -> String {
    let (mut subjects, mut quantities) = (Vec::new(), Vec::new());
    for figure in figures {
        if !subjects.contains(&figure.subject.as_str()) {
            subjects.push(figure.subject.as_str());
        }
        if !quantities.contains(&figure.quantity) {
            quantities.push(figure.quantity);
        }
    }
    let mut text = format!("\n| | {} |\n|---|{}\n", quantities.join(" | "), "---|".repeat(quantities.len()));
    for subject in subjects {
        text.push_str(&format!("| {} |", cell(subject)));
        for quantity in &quantities {
            let found = figures.iter().find(|figure| figure.subject == subject && figure.quantity == *quantity);
            let value = found.and_then(|figure| Some(figure.unit.text(*figure.value.as_ref().ok()?)));
            text.push_str(&format!(" {} |", value.unwrap_or_else(|| if found.is_some() { "–" } else { "" }.into())));
        }
        text.push('\n');
    }
    text
}

/// Why there is no figure, once for each subject and reason.
fn missing(figures: &[Figure]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for figure in figures {
        if let Err(why) = &figure.value {
            let line = format!("- {}: {}\n", figure.subject, why.replace('\n', " "));
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    match lines.is_empty() {
        true => String::new(),
        false => format!("\nNot measured:\n\n{}", lines.concat()),
    }
}

/// Text that stays within its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{
        super::figure::{Bound, Figure, Section, Unit},
        markdown,
    };

    #[test]
    fn a_page_has_machine_aims_tables_and_what_is_missing() {
        let figures = vec![
            Figure::new("untraced", "a pair takes", Unit::Microseconds, 2.5),
            Figure::new("traced", "a pair takes", Unit::Microseconds, 14.0),
            Figure::new("traced", "against empty", Unit::Times, 5.25).with_aim(
                "cost against an empty program",
                Bound::AtMost(5.0),
                "8 hits a pair",
            ),
            Figure::new("traced", "slow-down", Unit::Share, 0.04).with_aim("slow-down", Bound::AtMost(0.05), ""),
            Figure::missing("perf", "a pair takes", Unit::Microseconds, "there is no\nperf"),
            Figure::missing("perf", "against empty", Unit::Times, "there is no\nperf"),
            Figure::missing("reading", "memray's time", Unit::Times, "no memray").with_aim(
                "reading",
                Bound::AtLeast(5.0),
                "",
            ),
        ];
        let method = "Rounds of each.".to_string();
        let section = Section { title: "The target".into(), method, figures, charts: Vec::new() };
        let page = markdown(&[("cores".into(), "2 | 4".into())], &[section]);
        expect![[r#"
            # What tt-buftrace costs

            | | |
            |---|---|
            | cores | 2 \| 4 |

            ## Aims

            | figure | measured | aim | | |
            |---|---|---|---|---|
            | cost against an empty program | 5.2 × | 5.0 × or less | **not met** | 8 hits a pair |
            | slow-down | 4.0 % | 5.0 % or less | met |  |
            | reading | – | 5.0 × or more | not measured | no memray |

            ## The target

            Rounds of each.

            | | a pair takes | against empty | slow-down | memray's time |
            |---|---|---|---|---|
            | untraced | 2.50 µs |  |  |  |
            | traced | 14.00 µs | 5.2 × | 4.0 % |  |
            | perf | – | – |  |  |
            | reading |  |  |  | – |

            Not measured:

            - perf: there is no perf
            - reading: no memray
        "#]]
        .assert_eq(&page);
    }

    #[test]
    fn without_aims_there_is_no_table_of_them() {
        let figures = vec![Figure::new("x", "y", Unit::Count, 1.0)];
        let section = Section { title: "T".into(), figures, ..Section::default() };
        assert!(!markdown(&[], &[section]).contains("Aims"));
    }
}
