// SPDX-License-Identifier: Apache-2.0
//! Frees that reach no allocator, although the memory is taken still.

use expect_test::expect;

use super::{ALLOCATE, EXITED, check, entries};

/// Another device closes, with its allocator; then the buffer is freed, and its thread goes on.
const LEAK: &str = "
event 3 t=15 p=1 tid=7 device-close class=mesh id=3 stack=5
event 4 t=16 p=1 tid=7 bulk object=0xb stack=6
event 5 t=20 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 stack=2
event 6 t=21 p=1 tid=7 destroyed uid=20 size=64 address=0x100 status=2
";

#[test]
fn what_leaked_is_live_until_its_allocator_releases_all() {
    let again = "event 7 t=30 p=1 tid=8 free uid=20 size=64 address=0x100 status=2 stack=3\n";
    let bulk = "event 8 t=40 p=1 tid=7 bulk object=0xa stack=7\n";
    check(
        &[ALLOCATE, LEAK, again, bulk, again, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 leaked (ends nothing) 20 on mesh0 at 0x100 stack 2 after a close at 15
        30 repeat (ends nothing) 20 on mesh0 at 0x100 stack 3 after leaked at 20
        40 bulk 20 on mesh0 at 0x100 stack 7 after leaked at 20
        30 repeat (ends nothing) 20 on mesh0 at 0x100 stack 3 after bulk at 40
    "#]],
    );
    check(
        &[ALLOCATE, LEAK, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 leaked (ends nothing) 20 on mesh0 at 0x100 stack 2 after a close at 15
        99 held 20 on mesh0 at 0x100 stack 0 after leaked at 20
    "#]],
    );
}

#[test]
fn where_no_bulk_release_is_told_any_close_may_be_of_its_device() {
    let untold: String = LEAK.lines().filter(|line| !line.contains("bulk")).map(|line| format!("{line}\n")).collect();
    check(
        &[ALLOCATE, &untold, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 after-close possible 20 on mesh0 at 0x100 stack 2
    "#]],
    );
    // But not one before its allocation.
    let before = "event 1 t=5 p=1 tid=7 device-close class=mesh id=3 stack=5\n";
    let since: String = untold.lines().filter(|line| !line.contains("close")).map(|line| format!("{line}\n")).collect();
    check(
        &[before, ALLOCATE, &since, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 leaked (ends nothing) 20 on mesh0 at 0x100 stack 2 after a close at 5
        99 held 20 on mesh0 at 0x100 stack 0 after leaked at 20
    "#]],
    );
}

#[test]
fn what_may_have_been_released_did_not_certainly_leak() {
    let bulk = "event 2 t=14 p=1 tid=7 bulk object=0xa\n";
    let loss = "loss process=1 after=12 before=14 count=1 cause=ring-full\n";
    let stolen = "event 2 t=13 p=1 tid=7 free uid=3 size=64 address=0x100 status=1 allocator=0xa
        event 2 t=14 p=1 tid=7 released uid=3 size=64 address=0x100 status=1 class=mesh allocator=0xa\n";
    for before in [bulk, loss, stolen] {
        let shown = entries(&[ALLOCATE, before, LEAK].concat()).concat();
        assert!(shown.contains("20 after-close ") && !shown.contains("leaked"), "{shown}");
    }
    // On another thread, everything may go before this one's next event.
    let between = LEAK.replace("event 6", "event 6 t=20 p=1 tid=8 bulk object=0xa\nevent 6");
    let shown = entries(&[ALLOCATE, &between].concat()).concat();
    assert!(shown.contains("20 after-close 20 ") && !shown.contains("leaked"), "{shown}");
}

#[test]
fn memory_that_is_given_again_had_not_leaked() {
    let again = "event 7 t=30 p=1 tid=7 request uid=21 size=64 class=mesh stack=1
        event 8 t=31 p=1 tid=7 allocated uid=21 size=64 address=0x100 status=1 class=mesh owns=1 allocator=0xa\n";
    check(
        &[ALLOCATE, LEAK, again, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 leaked (ends nothing) 20 on mesh0 at 0x100 stack 2 after a close at 15
        31 released possible 20 on mesh0 at 0x100 stack 0
        31 allocated 21 on mesh0 at 0x100 stack 1 test 0
        99 held 21 on mesh0 at 0x100 stack 0
        problem: process 1: 1 events contradict those before them; their verdicts are only possible
    "#]],
    );
}

#[test]
fn an_alias_of_what_leaked_is_one_of_a_live_owner() {
    let alias = "event 7 t=30 p=1 tid=7 released uid=22 size=64 address=0x100 class=chip\n";
    check(
        &[ALLOCATE, LEAK, alias].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 leaked (ends nothing) 20 on mesh0 at 0x100 stack 2 after a close at 15
        30 alias-free possible (ends nothing) 22 on chip0 at 0x100 stack 0 with 20
        30 held possible 20 on mesh0 at 0x100 stack 0 after leaked at 20
    "#]],
    );
}
