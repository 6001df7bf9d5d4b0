// SPDX-License-Identifier: Apache-2.0
//! A flame graph as SVG: a page of its own that a browser opens, with zoom and search, and nothing fetched.

use std::io::Write;

use anyhow::{Context as _, Result, bail};
use inferno::flamegraph::{
    self, Options, Palette, TextTruncateDirection,
    color::{BackgroundColor, MultiPalette},
};

use super::{Folded, Unit};
use crate::{analysis::Measure, trace::escape};

/// What stands above the graph.
#[derive(Clone, Debug)]
pub struct Heading {
    /// What is measured.
    pub measure: Measure,
    /// In what.
    pub unit: Unit,
    /// Where it comes from, and what is missing.
    pub remark: String,
}

/// Draws folded stacks; against those of an earlier run, if there is one: what became more is red, what became less blue,
/// and the width is that of the later run.
///
/// # Errors
///
/// The numbers are too large to be added up, or the output can't be written.
pub fn write_svg(folded: &Folded, before: Option<&Folded>, heading: &Heading, out: &mut dyn Write) -> Result<()> {
    let (Some(total), Some(_)) = (folded.total(), before.map_or(Some(0), Folded::total)) else {
        bail!("failed to draw: the sizes of the buffers are too large to be added up");
    };
    if total == 0 {
        return nothing(heading, out);
    }
    let lines: Vec<String> = match before {
        Some(before) => folded.lines_against(before).collect(),
        None => folded.lines().collect(),
    };
    let mut options = options(heading);
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out).context("failed to draw")
}

fn options(heading: &Heading) -> Options<'static> {
    let mut options = Options::default();
    options.title = title(heading);
    options.subtitle = Some(escape(&heading.remark));
    options.count_name = heading.unit.noun(heading.measure).to_owned();
    // C++ is told from the rest by its colons.
    options.colors = Palette::Multi(MultiPalette::Java);
    options.bgcolors = Some(BackgroundColor::Grey);
    // The same function has the same colour in every picture.
    options.deterministic = true;
    // The innermost functions tell most, and their names begin with what they belong to.
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.frame_height = 17;
    options
}

/// A picture needs something to show.
fn nothing(heading: &Heading, out: &mut dyn Write) -> Result<()> {
    let (size, text) = (r#"width="1200" height="60""#, title(heading));
    let style = r#"x="600" y="36" font-family="monospace" font-size="17" text-anchor="middle""#;
    writeln!(
        out,
        r#"<svg version="1.1" {size} xmlns="http://www.w3.org/2000/svg"><text {style}>{text}: none</text></svg>"#
    )
    .context("failed to write")
}

fn title(heading: &Heading) -> String {
    let name = heading.unit.name(heading.measure);
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{Stacks, tests::model};

    fn svg(trace: &str, measure: Measure) -> String {
        let (profile, model) = model(trace);
        let stacks = Stacks { definitions: &model.definitions, all: false };
        let folded = Folded::new(&profile, measure, Unit::Bytes, stacks);
        let heading = Heading { measure, unit: Unit::Bytes, remark: "a & b".to_owned() };
        let mut out = Vec::new();
        write_svg(&folded, None, &heading, &mut out).expect("drawn");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn each_function_has_its_bytes() {
        let svg = svg(crate::export::tests::TRACE, Measure::Allocated);
        assert!(svg.contains("<title>Model.load (model.py) (6,144 bytes, 100.00%)</title>"), "{svg}");
        assert!(svg.contains("Bytes allocated") && svg.contains("a &amp; b"), "{svg}");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert!(svg("process id=1 pid=7\n", Measure::Excess).contains("Bytes freed in excess: none"));
    }

    #[test]
    fn sizes_that_no_buffer_has_are_refused() {
        let most = "size=18446744073709551615";
        let trace = crate::export::tests::TRACE.replace("size=2048", most);
        let (profile, model) = model(&trace);
        let stacks = Stacks { definitions: &model.definitions, all: false };
        let folded = Folded::new(&profile, Measure::Allocated, Unit::Bytes, stacks);
        let heading = Heading { measure: Measure::Allocated, unit: Unit::Bytes, remark: String::new() };
        assert!(write_svg(&folded, None, &heading, &mut Vec::new()).is_err());
    }
}
