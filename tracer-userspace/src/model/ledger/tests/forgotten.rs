// SPDX-License-Identifier: Apache-2.0
//! For how long a freed buffer is remembered.

use super::{Entry, Ledger, show};
use crate::{
    model::REMEMBERED,
    trace::{Event, Item, Kind, text},
};

/// What becomes of a repeat that is the event of this number in its trace, of a buffer that is freed by the event of that
/// number. The other events come from `others`, by how many they are.
fn repeat(freed: u64, repeated: u64, others: &impl Fn(&mut Ledger, u64)) -> String {
    let mut shown = Vec::new();
    let mut ledger = Ledger::default();
    let mut take = |ledger: &mut Ledger, line: &str| {
        for item in text::parse(line).expect("every line is an item") {
            match item {
                Item::Event(event) => ledger.event(&event, &mut |entry: &Entry| shown.push(show(entry))),
                Item::Record(record) => ledger.record(&record, &mut |_| {}),
            }
        }
    };
    take(&mut ledger, "border process=1");
    others(&mut ledger, freed - 2);
    take(&mut ledger, "event 1 t=1 p=1 tid=7 allocated uid=3 owns=1 size=64 address=0x100 class=mesh");
    take(&mut ledger, "event 2 t=2 p=1 tid=7 free uid=3 owns=1 size=64 address=0x100 status=1");
    take(&mut ledger, "event 3 t=3 p=1 tid=7 released uid=3 owns=1 size=64 address=0x100 status=1 class=mesh");
    others(&mut ledger, repeated - freed - 2);
    take(&mut ledger, "event 4 t=4 p=1 tid=7 free uid=3 owns=1 size=64 address=0x100 status=2");
    shown.pop().expect("a repeat")
}

const KNOWN: &str = "4 repeat (ends nothing) 3 on mesh0 at 0x100 stack 0 after released at 2\n";
const FORGOTTEN: &str = "4 repeat (ends nothing) 3 on ? at 0x100 stack 0 after something forgotten\n";

/// Freed and repeated by events of these numbers, and what is known then.
const REPEATS: [(u64, u64, &str); 6] = [
    (2, 2 * REMEMBERED - 1, KNOWN),
    (2, 2 * REMEMBERED, FORGOTTEN),
    (2, 9 * REMEMBERED, FORGOTTEN),
    (REMEMBERED - 1, 2 * REMEMBERED - 1, KNOWN),
    (REMEMBERED, 3 * REMEMBERED - 1, KNOWN),
    (REMEMBERED, 3 * REMEMBERED, FORGOTTEN),
];

#[test]
fn what_was_freed_long_ago_is_forgotten_and_said_to_be() {
    let others = |ledger: &mut Ledger, count: u64| {
        for _ in 0..count {
            ledger.event(&Event { process: 1, thread: 9, ..Event::of(Kind::ThreadExit) }, &mut |_| {});
        }
    };
    for (freed, repeated, known) in REPEATS {
        assert_eq!(repeat(freed, repeated, &others), known, "{freed} {repeated}");
    }
}

#[test]
fn events_of_other_processes_and_those_that_are_left_out_count() {
    let of_another = |ledger: &mut Ledger, count: u64| {
        for _ in 0..count {
            ledger.event(&Event { process: 2, ..Event::of(Kind::TestEnd) }, &mut |_| {});
        }
    };
    let skipped = |ledger: &mut Ledger, count: u64| ledger.skip(count);
    let in_parts = |ledger: &mut Ledger, count: u64| (0..8).for_each(|part| ledger.skip((count + part) / 8));
    for (freed, repeated, known) in REPEATS {
        for shown in [
            repeat(freed, repeated, &of_another),
            repeat(freed, repeated, &skipped),
            repeat(freed, repeated, &in_parts),
        ] {
            assert_eq!(shown, known, "{freed} {repeated}");
        }
    }
}
