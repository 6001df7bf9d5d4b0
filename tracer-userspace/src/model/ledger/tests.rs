// SPDX-License-Identifier: Apache-2.0
//! Each verdict, from the events that the target is known to make.

mod banks;
mod forgotten;
mod found;
pub(in crate::model) mod histories;
mod leaked;
mod others;
mod target;

use std::collections::HashMap;

use expect_test::{Expect, expect};

use super::{Alias, Allocation, Entry, Found, Ledger, Outcome, Previous};
use crate::{
    model::{Buffer, Certainty},
    trace::{Item, Kind, kind_word, text},
};

/// Reads events between a border at 10 and nothing, and compares the entries.
fn check(events: &str, expected: &Expect) {
    let text = format!("border process=1 next_unique_id=10\n{events}");
    expected.assert_eq(&entries(&text).concat());
}

/// Takes items to the ledger, as they are, and shows its entries and problems.
fn entries(text: &str) -> Vec<String> {
    let mut shown = Vec::new();
    let mut sink = |entry: &Entry| shown.push(show(entry));
    let mut ledger = Ledger::default();
    for item in text::parse(text).expect("every line is an item") {
        match item {
            Item::Event(event) => ledger.event(&event, &mut sink),
            Item::Record(record) => ledger.record(&record, &mut sink),
        }
    }
    ledger.finish(&mut sink);
    shown.extend(ledger.problems().iter().map(|problem| format!("problem: {problem}\n")));
    shown
}

fn show(entry: &Entry) -> String {
    match entry {
        Entry::Allocation(Allocation { buffer, moment }) => {
            format!("{} allocated {} stack {} test {}\n", moment.time, place(buffer), moment.stack, moment.test)
        }
        Entry::Found(Found { buffer, time }) => format!("{time} found {}\n", place(buffer)),
        Entry::Alias(Alias { device, address, owner, moment, .. }) => {
            let device = device.map_or_else(|| "?".to_owned(), |device| device.to_string());
            let owner = owner.map_or_else(|| "nobody".to_owned(), |owner| owner.to_string());
            format!("{} alias on {device} at {address:#x} of {owner} stack {}\n", moment.time, moment.stack)
        }
        Entry::Outcome(Outcome { buffer, verdict, certainty, moment, previous, ends, other }) => {
            let possible = if *certainty == Certainty::Possible { " possible" } else { "" };
            let late = if *ends { "" } else { " (ends nothing)" };
            let previous = match previous {
                Previous::None => String::new(),
                Previous::Free(moment, verdict) => {
                    format!(" after {} at {}", verdict.name(), moment.time)
                }
                Previous::Close(moment) => format!(" after a close at {}", moment.time),
                Previous::Forgotten => " after something forgotten".to_owned(),
                Previous::Unseen => " after something unseen".to_owned(),
            };
            let other = other.map_or(String::new(), |other| format!(" with {}", other.unique_id));
            let (name, place) = (verdict.name(), place(buffer));
            format!("{} {name}{possible}{late} {place} stack {}{previous}{other}\n", moment.time, moment.stack)
        }
    }
}

fn place(buffer: &Buffer) -> String {
    let device = buffer.device.map_or_else(|| "?".to_owned(), |device| device.to_string());
    format!("{} on {device} at {:#x}", buffer.unique_id, buffer.address)
}

/// An allocation of buffer 20, as the target makes it.
const ALLOCATE: &str = "
event 1 t=10 p=1 tid=7 request uid=20 size=64 class=mesh owns=1 stack=1
event 2 t=11 p=1 tid=7 allocated uid=20 size=64 address=0x100 status=1 class=mesh owns=1 allocator=0xa stack=9
";
const EXITED: &str = "\nend process=1 time=99 reason=exited\n";

#[test]
fn released() {
    let events = "
        event 3 t=20 p=1 tid=8 free uid=20 size=64 status=1 class=chip id=5 stack=2
        event 4 t=21 p=1 tid=7 free uid=3 size=64 status=1
        event 5 t=22 p=1 tid=8 released uid=20 size=64 status=1";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            20 released 20 on mesh0 at 0x100 stack 2
            21 pre-attach 3 on ? at 0x0 stack 0
        "#]],
    );
}

#[test]
fn repeat_knows_the_free_before() {
    let events = "
        event 3 t=20 p=1 tid=7 free uid=20 size=64 status=1 stack=2
        event 4 t=21 p=1 tid=7 released uid=20 size=64 status=1
        event 5 t=30 p=1 tid=8 free uid=20 size=64 status=2 stack=3
        event 6 t=31 p=1 tid=8 free uid=20 size=64 status=2 stack=3
        event 7 t=32 p=1 tid=8 free uid=4 size=64 status=2 stack=3
        event 8 t=33 p=1 tid=8 destroyed uid=20 size=64 status=2 owns=1";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            20 released 20 on mesh0 at 0x100 stack 2
            30 repeat (ends nothing) 20 on mesh0 at 0x100 stack 3 after released at 20
            31 repeat (ends nothing) 20 on mesh0 at 0x100 stack 3 after released at 20
            32 repeat (ends nothing) 4 on ? at 0x0 stack 3 after something unseen
        "#]],
    );
}

#[test]
fn after_close_is_a_free_that_no_release_follows() {
    let events = "
        event 3 t=15 p=1 tid=7 device-close class=mesh stack=5
        event 4 t=20 p=1 tid=7 free uid=20 size=64 status=1 stack=2
        event 5 t=30 p=1 tid=7 request uid=21 size=64 class=mesh";
    check(
        &[ALLOCATE, events].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            20 after-close possible 20 on mesh0 at 0x100 stack 2
            30 failed possible 21 on mesh0 at 0x0 stack 0
        "#]],
    );
}

#[test]
fn what_lives_at_the_end_of_a_recording_is_held_for_good_if_its_process_ended() {
    for (end, expected) in [
        ("end process=1 time=99 reason=exited", "99 held 20 on mesh0 at 0x100 stack 0\n"),
        ("end process=1 time=99 reason=executed", "99 held 20 on mesh0 at 0x100 stack 0\n"),
        ("end process=1 time=99 reason=interrupted", "99 held possible 20 on mesh0 at 0x100 stack 0\n"),
        ("end process=1 time=99 reason=failed", "99 held possible 20 on mesh0 at 0x100 stack 0\n"),
        ("", "11 held possible 20 on mesh0 at 0x100 stack 0\n"),
    ] {
        assert_eq!(entries(&[ALLOCATE, end].concat())[1..].concat(), expected, "{end}");
    }
    // That there is no memory behind it is no matter of the end.
    let phantom = ALLOCATE.replace("size=64", "size=0");
    let shown = entries(&[&phantom, "end process=1 time=99 reason=interrupted"].concat()).concat();
    assert!(shown.contains("99 phantom 20"), "{shown}");
}

#[test]
fn a_free_at_the_very_end_may_have_been_cut_off_by_it() {
    let free = "event 3 t=20 p=1 tid=7 free uid=20 size=64 status=1 stack=2\n";
    let exit = "event 4 t=25 p=1 tid=7 thread-exit";
    for end in [exit, "end process=1 time=99 reason=exited", "end process=1 time=99 reason=interrupted", ""] {
        let shown = entries(&[ALLOCATE, free, end].concat()).concat();
        let expected = "11 allocated 20 on mesh0 at 0x100 stack 1 test 0\n\
            20 after-close possible 20 on mesh0 at 0x100 stack 2\n";
        assert_eq!(shown, expected, "{end}");
    }
    // Unless what it was about was released already.
    let bulk = "event 2 t=15 p=1 tid=7 bulk object=0xa\n";
    let shown = entries(&[ALLOCATE, bulk, free, exit].concat()).concat();
    assert!(shown.contains("20 after-close (ends nothing) 20 "), "{shown}");
}

#[test]
fn bulk_takes_what_its_allocator_holds_and_later_frees_are_late() {
    let events = "
        event 3 t=12 p=1 tid=7 allocated uid=21 owns=1 size=64 address=0x200 class=mesh allocator=0xa
        event 4 t=13 p=1 tid=7 allocated uid=22 owns=1 size=64 address=0x200 class=mesh id=1 allocator=0xb
        event 5 t=20 p=1 tid=7 bulk object=0xa stack=5
        event 6 t=30 p=1 tid=7 free uid=20 size=64 status=1 stack=2
        event 7 t=31 p=1 tid=7 marked uid=21 size=64 status=1 stack=3
        event 8 t=32 p=1 tid=7 destroyed uid=21 size=64 status=2";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            12 allocated 21 on mesh0 at 0x200 stack 0 test 0
            13 allocated 22 on mesh1 at 0x200 stack 0 test 0
            20 bulk 20 on mesh0 at 0x100 stack 5
            20 bulk 21 on mesh0 at 0x200 stack 5
            30 after-close (ends nothing) 20 on mesh0 at 0x100 stack 2 after bulk at 20
            31 marked (ends nothing) 21 on mesh0 at 0x200 stack 3 after bulk at 20
            99 held 22 on mesh1 at 0x200 stack 0
        "#]],
    );
}

#[test]
fn marked_by_a_call_or_as_the_destructor_shows() {
    let events = "
        event 3 t=12 p=1 tid=7 allocated uid=21 owns=1 size=64 address=0x200 class=mesh allocator=0xa
        event 4 t=20 p=1 tid=7 marked uid=20 size=64 status=1 stack=3
        event 5 t=21 p=1 tid=7 destroyed uid=20 size=64 status=2 stack=4
        event 6 t=22 p=1 tid=7 destroyed uid=21 size=64 status=2 stack=4
        event 7 t=23 p=1 tid=7 destroyed uid=5 size=64 status=2 stack=4
        event 8 t=24 p=1 tid=7 marked uid=20 size=64 status=2 stack=3";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            12 allocated 21 on mesh0 at 0x200 stack 0 test 0
            20 marked 20 on mesh0 at 0x100 stack 3
            22 marked 21 on mesh0 at 0x200 stack 4
        "#]],
    );
}

#[test]
fn failed_requests_have_the_stack_of_the_request() {
    let events = "
        event 1 t=10 p=1 tid=7 request uid=20 size=640 class=mesh stack=1
        event 2 t=11 p=1 tid=8 free uid=3 size=64 status=1
        event 3 t=12 p=1 tid=7 free uid=20 size=640 status=0 stack=2";
    check(
        &[events, EXITED].concat(),
        &expect![[r#"
            12 failed 20 on mesh0 at 0x0 stack 1
            11 pre-attach 3 on ? at 0x0 stack 0
        "#]],
    );
}

#[test]
fn phantoms_have_no_memory() {
    let events = "
        event 1 t=10 p=1 tid=7 request uid=20 size=64 class=mesh stack=1
        event 2 t=11 p=1 tid=7 allocated uid=20 owns=1 size=64 hooked=1 class=mesh
        event 3 t=12 p=1 tid=7 free uid=20 size=64 status=1 hooked=1
        event 4 t=13 p=1 tid=7 released uid=20 size=64 status=1 hooked=1
        event 5 t=14 p=1 tid=7 free uid=21 status=1
        event 6 t=15 p=1 tid=7 allocated uid=22 owns=1 size=64 hooked=1 class=mesh";
    check(
        &[events, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x0 stack 1 test 0
            12 phantom 20 on mesh0 at 0x0 stack 0
            14 phantom 21 on ? at 0x0 stack 0
            15 allocated 22 on mesh0 at 0x0 stack 0 test 0
            99 phantom 22 on mesh0 at 0x0 stack 0
        "#]],
    );
}

#[test]
fn without_a_border_what_is_not_known_is_possibly_older() {
    let text = "event 1 t=10 p=1 tid=7 free uid=3 size=64 status=1\nevent 2 t=11 p=1 tid=7 released uid=3 size=64";
    assert_eq!(entries(text).concat(), "10 pre-attach possible 3 on ? at 0x0 stack 0\n");
}

#[test]
fn a_gap_makes_what_it_touches_possible() {
    let events = "
        event 3 t=20 p=1 tid=7 free uid=20 size=64 status=1 stack=2
        loss process=1 after=20 before=30 count=2 cause=ring-full
        event 6 t=30 p=1 tid=7 request uid=22 size=64 class=mesh stack=1
        event 7 t=31 p=1 tid=7 allocated uid=22 owns=1 size=64 address=0x300 class=mesh
        event 8 t=32 p=1 tid=8 free uid=21 size=64 status=1 owns=1 address=0x200 stack=2
        event 9 t=33 p=1 tid=8 released uid=21 size=64 status=1";
    let before = "event 0 t=5 p=1 tid=7 allocated uid=19 owns=1 size=64 address=0x400 class=mesh\n";
    check(
        &[before, ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
            5 allocated 19 on mesh0 at 0x400 stack 0 test 0
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            20 after-close possible 20 on mesh0 at 0x100 stack 2
            31 allocated 22 on mesh0 at 0x300 stack 1 test 0
            32 released possible 21 on ? at 0x200 stack 2
            99 held possible 19 on mesh0 at 0x400 stack 0
            99 held 22 on mesh0 at 0x300 stack 0
        "#]],
    );
}

#[test]
fn lost_frees_show_in_what_follows() {
    let events = "
        loss process=1 after=11 before=20 count=1 cause=ring-full
        event 4 t=20 p=1 tid=7 released uid=20 size=64 status=1 stack=2";
    let again = "
        event 5 t=30 p=1 tid=7 allocated uid=21 owns=1 size=64 address=0x200 class=mesh
        event 6 t=31 p=1 tid=7 free uid=21 size=64 status=2 stack=2";
    check(
        &[ALLOCATE, events, again, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            20 released possible 20 on mesh0 at 0x100 stack 2
            30 allocated 21 on mesh0 at 0x200 stack 0 test 0
            31 marked possible 21 on mesh0 at 0x200 stack 0
            31 repeat (ends nothing) 21 on mesh0 at 0x200 stack 2 after something unseen
        "#]],
    );
}

#[test]
fn a_bulk_release_behind_a_gap_is_only_possible() {
    let events = "
        event 1 t=11 p=1 tid=7 allocated uid=20 owns=1 size=64 address=0x100 class=mesh allocator=0x70
        loss process=1 after=11 before=20 count=2 cause=ring-full
        event 4 t=21 p=1 tid=7 allocated uid=21 owns=1 size=64 address=0x200 class=mesh allocator=0x70
        event 5 t=30 p=1 tid=7 bulk object=0x70 stack=4";
    check(
        events,
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 0 test 0
            21 allocated 21 on mesh0 at 0x200 stack 0 test 0
            30 bulk possible 20 on mesh0 at 0x100 stack 4
            30 bulk 21 on mesh0 at 0x200 stack 4
        "#]],
    );
}

#[test]
fn an_unreadable_object_counts_as_a_gap() {
    let events = "event 3 t=20 p=1 tid=7 free unreadable=1\n";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            99 held possible 20 on mesh0 at 0x100 stack 0
            problem: process 1: the object of 1 events could not be read; they count as lost
        "#]],
    );
}

#[test]
fn the_test_is_that_of_the_moment() {
    let text = "
        text id=1 text=\"t.py::a (call)\"
        event 1 t=5 p=1 tid=6 test-begin text=1
        event 2 t=11 p=1 tid=7 allocated uid=20 owns=1 size=64 address=0x100 class=chip id=3
        event 3 t=12 p=1 tid=6 test-end
        event 4 t=13 p=1 tid=7 allocated uid=21 owns=1 size=64 address=0x200 class=chip id=3";
    check(
        text,
        &expect![[r#"
            11 allocated 20 on chip3 at 0x100 stack 0 test 1
            13 allocated 21 on chip3 at 0x200 stack 0 test 0
            13 held possible 20 on chip3 at 0x100 stack 0
            13 held possible 21 on chip3 at 0x200 stack 0
        "#]],
    );
}

#[test]
fn processes_are_apart() {
    let events = "
        event 3 t=20 p=2 tid=9 free uid=20 size=64 status=1 stack=2
        event 4 t=21 p=2 tid=9 released uid=20 size=64 status=1
        border process=2 next_unique_id=30";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            20 pre-attach possible 20 on ? at 0x0 stack 2
            99 held 20 on mesh0 at 0x100 stack 0
        "#]],
    );
}

/// Whatever comes, in whatever order: each allocation ends exactly once.
#[test]
fn each_life_ends_once() {
    // An LCG (the constants are Knuth's MMIX), seeded: the same events in each run.
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut ledger = Ledger::default();
    let (mut begun, mut ended, mut entries) = (HashMap::new(), HashMap::new(), 0);
    let mut sink = |entry: &Entry| {
        entries += 1;
        match entry {
            Entry::Allocation(Allocation { buffer, .. }) => {
                *begun.entry((buffer.process, buffer.unique_id)).or_insert(0) += 1;
            }
            Entry::Outcome(Outcome { buffer, ends: true, .. }) if buffer.allocated.is_some() => {
                *ended.entry((buffer.process, buffer.unique_id)).or_insert(0) += 1;
            }
            Entry::Outcome(_) | Entry::Found(_) | Entry::Alias(_) => {}
        }
    };
    for step in 0..200_000 {
        let kind = kind_word(Kind::ALL[random(Kind::ALL.len() as u64) as usize]);
        let (process, thread, uid) = (1 + random(2), random(3), random(50));
        let (status, hooked, size, object) = (random(3), u64::from(random(9) == 0), random(4), random(3));
        let line = format!(
            "event {step} {kind} t={step} p={process} tid={thread} uid={uid} status={status} hooked={hooked} \
             size={size} object={object} allocator={object} class=mesh"
        );
        for item in text::parse(&line).expect("an event") {
            if let Item::Event(event) = item {
                ledger.event(&event, &mut sink);
            }
        }
    }
    ledger.finish(&mut sink);
    assert!(entries > 40_000, "{entries}");
    assert_eq!(begun, ended);
}
