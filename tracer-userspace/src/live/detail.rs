// SPDX-License-Identifier: Apache-2.0
//! The texts that open over the panes.

use crate::{
    analysis::{ExcessSite, LiveFinding, LiveSite},
    model::{Certainty, Definitions, Moment, Verdict},
    trace::escape,
    view::{Frames, bytes, count, excess_site, stack},
};

/// Most lines of a stack.
const FRAMES: Frames = Frames::First(64);

/// What there is to know of a verdict at a site: the latest of them, with its stacks.
pub(super) fn finding(row: &LiveFinding, definitions: &Definitions) -> String {
    let LiveFinding { verdict, certainty, latest, .. } = row;
    let certainty = if *certainty == Certainty::Possible { ", only possible" } else { "" };
    let times = count(row.count, "time");
    let mut out = format!("{}{certainty}, {times}: {}\n\n", verdict.name(), verdict.meaning());
    let allocation = |moment: Option<Moment>| moment.map_or(0, |moment| moment.stack);
    match verdict {
        Verdict::Held => {
            out += &place("the allocation", allocation(latest.buffer.allocated), definitions);
        }
        Verdict::Failed => out += &place("the request", latest.moment.stack, definitions),
        Verdict::Overlap => {
            out += &place("this allocation", latest.moment.stack, definitions);
            let other = latest.other.and_then(|other| other.allocated);
            out += &place("the other buffer's allocation", allocation(other), definitions);
        }
        _ => out += &format!("The latest: {}", excess_site(&ExcessSite::of(latest, definitions), FRAMES)),
    }
    out
}

/// What a site holds, and its stack.
pub(super) fn site(row: &LiveSite, definitions: &Definitions) -> String {
    let LiveSite { site, load, .. } = row;
    let held = format!("holds {} in {}", bytes(load.bytes), count(load.buffers, "buffer"));
    let name = escape(&site.name);
    format!("{} {name}\n{held}\n\n{}", site.id, place("the allocation", row.stack.unwrap_or(0), definitions))
}

fn place(title: &str, number: u32, definitions: &Definitions) -> String {
    match definitions.stack(number) {
        Some(lines) => format!("{title}:\n{}", stack(&lines, FRAMES)),
        None => format!("{title}: no stack\n"),
    }
}

/// What the keys do, and what the screen means.
pub(super) const HELP: &str = "\
Keys
  q           quit; a recording of `live -p` ends with it, the process goes on
  space       freeze the screen and go on; growth is then since the freeze
  b           growth since the beginning again
  f           filter: device mesh0, type L1, test NAME, site NAME; Esc: no filter
  /  n  N     search a row or line; the next; the one before
  s           sort the pane by something else
  Tab  1 to 4 the next pane; this pane
  z           this pane alone, and all of them again
  ↑ ↓  j k    select a row; PgUp, PgDn, Home, End
  Enter       of a verdict: this free, the free before it, the allocation;
              of a site its stack; of a memory or a test: filter by it
  t  a        timeline of the verdict's address; of any address
  p           problems of the recording
  ?           this text; q or Esc closes it

Panes
  memory      bytes on one device that are live, now, at most, and over the whole time
  verdicts    what was other than normal, by site of the free: !! memory of one buffer was
              used or released by another; ! an excess free, harmless alone
  sites       where live buffers were allocated, and how much more of them there is
  tests       allocations and frees while they ran, setup and teardown included

Where events were lost, what that could change is called possible, never certain.
What a verdict means: tt-buftrace explain VERDICT";
