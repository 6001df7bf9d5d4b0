// SPDX-License-Identifier: Apache-2.0
//! The timeline as text.

use super::{
    Frames, integrity,
    report::or_unknown,
    stack,
    table::{bytes, when},
};
use crate::{
    analysis::{Integrity, Step, Timeline, What},
    model::{Certainty, Verdict},
    trace::escape,
};

/// Whether a timeline shows stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackChoice {
    /// It does not.
    Hide,
    /// It does, so much of each.
    Show(Frames),
}

/// Shows a timeline.
#[must_use]
pub fn timeline(timeline: &Timeline, stacks: StackChoice) -> String {
    let mut out = String::new();
    integrity::show(&timeline.integrity, &mut out);
    out.push('\n');
    out.push_str(&steps(timeline, stacks));
    out
}

/// Shows its steps alone.
#[must_use]
pub fn steps(timeline: &Timeline, stacks: StackChoice) -> String {
    let mut out = String::new();
    for step in &timeline.steps {
        out.push_str(&escape(&show_step(step, &timeline.integrity)));
        out.push('\n');
        if let (StackChoice::Show(frames), Some(lines)) = (stacks, timeline.stacks.get(&step.stack)) {
            stack::show(lines, frames, "      ", &mut out);
        }
    }
    if timeline.steps.is_empty() {
        out.push_str("Nothing matches.\n");
    }
    out
}

fn show_step(step: &Step, integrity: &Integrity) -> String {
    let what = match step.what {
        What::Alloc => format!("ALLOC #{}", step.number),
        What::Found => "FOUND".to_owned(),
        What::Alias => "ALIAS".to_owned(),
        What::Free => format!("FREE #{}", step.number),
        What::End => "END".to_owned(),
    };
    let several = integrity.processes.len() > 1;
    let process = if several { format!("process {}  ", step.process) } else { String::new() };
    let place = format!("{} {} {:#x}", or_unknown(step.device.as_ref()), step.buffer_type, step.address);
    let buffer = step.buffer.map_or_else(|| "new".to_owned(), |unique_id| unique_id.to_string());
    let at = when(step.time, integrity.clock(step.process));
    let mut line = format!("{at:>12}  {what:<9}  {process}buffer {buffer}  {place}  {}", bytes(step.bytes));
    if let Some(verdict) = step.verdict {
        let possible = if step.certainty == Some(Certainty::Possible) { " (possible)" } else { "" };
        line.push_str(&format!("  {}{possible}", verdict.name()));
        if let Some(other) = step.other {
            line.push_str(&format!(" ({} buffer {other})", relation(verdict)));
        }
    }
    if let Some(test) = &step.test {
        line.push_str(&format!("  in {test}"));
    }
    line
}

/// How the buffer of a step stands to the other one of its verdict.
fn relation(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::AliasFree => "alias of",
        Verdict::StolenFree => "robs",
        Verdict::Overlap => "shares bytes with",
        _ => "and",
    }
}
