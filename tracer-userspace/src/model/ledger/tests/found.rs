// SPDX-License-Identifier: Apache-2.0
//! Owners from before the recording that were found live.

use expect_test::expect;

use super::{EXITED, check};

/// Buffers 3 and 4, found when the first event named their allocator.
const FOUND: &str = "
event 1 t=10 p=1 tid=7 request uid=20 size=64 class=mesh owns=1 stack=1
live process=1 time=11 unique_id=3 address=0x100 size=64 page_size=64 device_class=mesh allocator=0xa
live process=1 time=11 unique_id=4 address=0x200 size=64 page_size=64 device_class=mesh allocator=0xa
event 2 t=12 p=1 tid=7 allocated uid=20 size=64 address=0x300 status=1 class=mesh owns=1 allocator=0xa
";

#[test]
fn they_are_released_held_or_taken_in_bulk() {
    let events = "
        event 3 t=20 p=1 tid=7 free uid=3 size=64 address=0x100 status=1 allocator=0xa owns=1 stack=2
        event 4 t=21 p=1 tid=7 released uid=3 size=64 address=0x100 status=1 class=mesh allocator=0xa owns=1";
    check(
        &[FOUND, events, EXITED].concat(),
        &expect![[r#"
            11 found 3 on mesh0 at 0x100
            11 found 4 on mesh0 at 0x200
            12 allocated 20 on mesh0 at 0x300 stack 1 test 0
            20 pre-attach 3 on mesh0 at 0x100 stack 2
            99 held possible 4 on mesh0 at 0x200 stack 0
            99 held 20 on mesh0 at 0x300 stack 0
        "#]],
    );
    let events = "
        event 3 t=20 p=1 tid=7 bulk object=0xa stack=2
        event 4 t=21 p=1 tid=7 free uid=3 size=64 address=0x100 status=1 allocator=0xa owns=1 stack=3
        event 5 t=22 p=1 tid=7 thread-exit";
    check(
        &[FOUND, events, EXITED].concat(),
        &expect![[r#"
            11 found 3 on mesh0 at 0x100
            11 found 4 on mesh0 at 0x200
            12 allocated 20 on mesh0 at 0x300 stack 1 test 0
            20 bulk possible 3 on mesh0 at 0x100 stack 2
            20 bulk possible 4 on mesh0 at 0x200 stack 2
            20 bulk 20 on mesh0 at 0x300 stack 2
            21 after-close (ends nothing) 3 on mesh0 at 0x100 stack 3 after bulk at 20
        "#]],
    );
}

#[test]
fn a_free_by_address_that_hits_one_robs_it() {
    // Buffer 30 was never seen to get memory, and nothing was lost.
    let events = "
        event 3 t=20 p=1 tid=7 free uid=30 size=64 page=64 address=0x100 status=1 allocator=0xa owns=1 stack=2
        event 4 t=21 p=1 tid=7 released uid=30 size=64 page=64 address=0x100 status=1 class=mesh allocator=0xa owns=1
        event 5 t=30 p=1 tid=7 request uid=31 size=64 page=64 class=mesh owns=1
        event 6 t=31 p=1 tid=7 allocated uid=31 size=64 page=64 address=0x100 status=1 class=mesh owns=1 allocator=0xa
        event 7 t=40 p=1 tid=7 free uid=3 size=64 page=64 address=0x100 status=1 allocator=0xa owns=1 stack=3
        event 8 t=41 p=1 tid=7 released uid=3 size=64 page=64 address=0x100 status=1 class=mesh allocator=0xa owns=1";
    check(
        &[FOUND, events, EXITED].concat(),
        &expect![[r#"
            11 found 3 on mesh0 at 0x100
            11 found 4 on mesh0 at 0x200
            12 allocated 20 on mesh0 at 0x300 stack 1 test 0
            20 stolen-free possible 30 on mesh0 at 0x100 stack 2 with 3
            31 allocated 31 on mesh0 at 0x100 stack 0 test 0
            31 overlap possible (ends nothing) 31 on mesh0 at 0x100 stack 0 with 3
            40 stolen-free 3 on mesh0 at 0x100 stack 3 after stolen-free at 20 with 31
            99 held possible 4 on mesh0 at 0x200 stack 0
            99 held 20 on mesh0 at 0x300 stack 0
            99 held 31 on mesh0 at 0x100 stack 0 after stolen-free at 40
        "#]],
    );
}

#[test]
fn memory_that_is_given_again_was_perhaps_released_before() {
    let events = "
        event 3 t=30 p=1 tid=7 request uid=31 size=64 page=64 class=mesh owns=1
        event 4 t=31 p=1 tid=7 allocated uid=31 size=64 page=64 address=0x100 status=1 class=mesh owns=1 allocator=0xa";
    check(
        &[FOUND, events].concat(),
        &expect![[r#"
            11 found 3 on mesh0 at 0x100
            11 found 4 on mesh0 at 0x200
            12 allocated 20 on mesh0 at 0x300 stack 1 test 0
            31 allocated 31 on mesh0 at 0x100 stack 0 test 0
            31 overlap possible (ends nothing) 31 on mesh0 at 0x100 stack 0 with 3
            31 held possible 3 on mesh0 at 0x100 stack 0
            31 held possible 4 on mesh0 at 0x200 stack 0
            31 held possible 20 on mesh0 at 0x300 stack 0
            31 held possible 31 on mesh0 at 0x100 stack 0
        "#]],
    );
}

#[test]
fn what_ended_before_it_was_read_is_no_news() {
    let events = "
        event 1 t=10 p=1 tid=7 free uid=3 size=64 address=0x100 status=1 allocator=0xa owns=1 stack=2
        event 2 t=11 p=1 tid=7 released uid=3 size=64 address=0x100 status=1 class=mesh allocator=0xa owns=1
        event 3 t=12 p=1 tid=7 bulk object=0xb
        live process=1 time=13 unique_id=3 address=0x100 size=64 page_size=64 device_class=mesh allocator=0xa
        live process=1 time=13 unique_id=4 address=0x100 size=64 page_size=64 device_class=mesh allocator=0xb
        live process=1 time=13 unique_id=10 address=0x100 size=64 page_size=64 device_class=mesh allocator=0xa";
    check(
        &[events, EXITED].concat(),
        &expect![[r#"
            10 pre-attach 3 on mesh0 at 0x100 stack 2
        "#]],
    );
}
