// SPDX-License-Identifier: Apache-2.0
//! Verdicts that are about more than one buffer: whose block it is, aliases, generations of a device, forks.

use expect_test::expect;

use super::{ALLOCATE, EXITED, check, entries};
use crate::model::REMEMBERED;

/// Buffer 20 is released in bulk with the device still open, as its allocator is told to; 21 gets its address.
const BULK: &str = "
event 3 t=15 p=1 tid=7 bulk object=0xa stack=5
event 4 t=16 p=1 tid=7 allocated uid=21 size=64 address=0x100 class=mesh owns=1 allocator=0xa stack=6
";

#[test]
fn a_free_by_address_can_hit_the_next_owner() {
    let events = "
        event 5 t=20 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 owns=1 stack=2
        event 6 t=21 p=1 tid=7 released uid=20 size=64 address=0x100 status=1 class=mesh owns=1
        event 7 t=30 p=1 tid=8 free uid=21 size=64 address=0x100 status=1 owns=1 stack=3
        event 8 t=31 p=1 tid=8 released uid=21 size=64 address=0x100 status=1 class=mesh owns=1";
    check(
        &[ALLOCATE, BULK, events, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        15 bulk 20 on mesh0 at 0x100 stack 5
        16 allocated 21 on mesh0 at 0x100 stack 6 test 0
        20 stolen-free (ends nothing) 20 on mesh0 at 0x100 stack 2 after bulk at 15 with 21
        30 stale-free 21 on mesh0 at 0x100 stack 3 after stolen-free at 20
    "#]],
    );
}

#[test]
fn an_alias_that_reports_an_allocation_gets_no_memory() {
    // Buffer 21 is a chip's part of 20, buffer 22 a view of it on the same device; both report their frees too.
    let events = "
        event 3 t=12 p=1 tid=7 allocated uid=21 size=64 address=0x100 status=1 class=chip allocator=0xb
        event 4 t=13 p=1 tid=7 allocated uid=22 size=64 address=0x100 status=1 class=mesh allocator=0xa
        event 5 t=14 p=1 tid=7 marked uid=21 size=64 address=0x100 status=1 stack=2
        event 6 t=15 p=1 tid=7 released uid=21 size=64 address=0x100 status=1 class=chip
        event 7 t=16 p=1 tid=7 released uid=22 size=64 address=0x100 status=1 class=mesh
        event 8 t=17 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 owns=1 stack=3
        event 9 t=18 p=1 tid=7 released uid=20 size=64 address=0x100 status=1 class=mesh owns=1";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        12 alias on chip0 at 0x100 of 20 stack 0
        13 alias on mesh0 at 0x100 of 20 stack 0
        14 alias-free (ends nothing) 21 on ? at 0x100 stack 2 with 20
        16 alias-free (ends nothing) 22 on mesh0 at 0x100 stack 0 with 20
        17 released 20 on mesh0 at 0x100 stack 3
    "#]],
    );
}

#[test]
fn a_free_of_what_is_free_is_stale() {
    let events = "
        event 5 t=20 p=1 tid=7 bulk object=0xa stack=5
        event 6 t=21 p=1 tid=7 free uid=21 size=64 address=0x100 status=1 owns=1 stack=2
        event 7 t=22 p=1 tid=7 released uid=21 size=64 address=0x100 status=1 class=mesh owns=1";
    check(
        &[ALLOCATE, BULK, events, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        15 bulk 20 on mesh0 at 0x100 stack 5
        16 allocated 21 on mesh0 at 0x100 stack 6 test 0
        20 bulk 21 on mesh0 at 0x100 stack 5
        21 stale-free (ends nothing) 21 on mesh0 at 0x100 stack 2 after bulk at 20
    "#]],
    );
}

#[test]
fn a_robbed_owner_and_the_next_one_overlap() {
    let events = "
        event 5 t=20 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 owns=1 stack=2
        event 6 t=21 p=1 tid=7 released uid=20 size=64 address=0x100 status=1 class=mesh owns=1
        event 7 t=22 p=1 tid=7 allocated uid=22 size=64 address=0x100 class=mesh owns=1 allocator=0xa stack=6
        event 8 t=23 p=1 tid=7 free uid=21 size=64 address=0x100 status=1 owns=1 stack=3
        event 9 t=24 p=1 tid=7 released uid=21 size=64 address=0x100 status=1 class=mesh owns=1";
    check(
        &[ALLOCATE, BULK, events, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            15 bulk 20 on mesh0 at 0x100 stack 5
            16 allocated 21 on mesh0 at 0x100 stack 6 test 0
            20 stolen-free (ends nothing) 20 on mesh0 at 0x100 stack 2 after bulk at 15 with 21
            22 allocated 22 on mesh0 at 0x100 stack 6 test 0
            22 overlap (ends nothing) 22 on mesh0 at 0x100 stack 6 with 21
            23 stolen-free 21 on mesh0 at 0x100 stack 3 after stolen-free at 20 with 22
            99 held 22 on mesh0 at 0x100 stack 0 after stolen-free at 23
        "#]],
    );
}

#[test]
fn pages_overlap_in_one_allocator_and_type_only() {
    let events = "
        event 1 t=11 p=1 tid=7 allocated uid=20 owns=1 size=64 page=32 address=0x100 class=mesh allocator=0xa
        event 2 t=12 p=1 tid=7 allocated uid=21 owns=1 size=64 page=32 address=0x11f class=mesh allocator=0xa
        event 3 t=13 p=1 tid=7 allocated uid=22 owns=1 size=64 page=32 address=0x140 class=mesh allocator=0xa
        event 4 t=14 p=1 tid=7 allocated uid=23 owns=1 size=64 page=32 address=0x100 class=mesh allocator=0xa type=1
        event 5 t=15 p=1 tid=7 allocated uid=24 owns=1 size=64 page=32 address=0x100 class=mesh allocator=0xb
        event 6 t=16 p=1 tid=7 allocated uid=25 owns=1 size=64 page=32 address=0x100 class=mesh id=1 allocator=0xa
        event 7 t=17 p=1 tid=7 allocated uid=26 owns=1 size=64 page=64 address=0xd0 class=mesh allocator=0xa
        event 8 t=18 p=1 tid=7 allocated uid=27 owns=1 size=64 hooked=1 class=mesh allocator=0xa
        event 9 t=19 p=1 tid=7 allocated uid=28 owns=1 size=64 hooked=1 class=mesh allocator=0xa";
    check(
        events,
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 0 test 0
        12 allocated 21 on mesh0 at 0x11f stack 0 test 0
        12 overlap (ends nothing) 21 on mesh0 at 0x11f stack 0 with 20
        13 allocated 22 on mesh0 at 0x140 stack 0 test 0
        14 allocated 23 on mesh0 at 0x100 stack 0 test 0
        15 allocated 24 on mesh0 at 0x100 stack 0 test 0
        16 allocated 25 on mesh1 at 0x100 stack 0 test 0
        17 allocated 26 on mesh0 at 0xd0 stack 0 test 0
        17 overlap (ends nothing) 26 on mesh0 at 0xd0 stack 0 with 20
        18 allocated 27 on mesh0 at 0x0 stack 0 test 0
        19 allocated 28 on mesh0 at 0x0 stack 0 test 0
        19 held possible 20 on mesh0 at 0x100 stack 0
        19 held possible 21 on mesh0 at 0x11f stack 0
        19 held possible 22 on mesh0 at 0x140 stack 0
        19 held possible 23 on mesh0 at 0x100 stack 0
        19 held possible 24 on mesh0 at 0x100 stack 0
        19 held possible 25 on mesh1 at 0x100 stack 0
        19 held possible 26 on mesh0 at 0xd0 stack 0
        19 phantom 27 on mesh0 at 0x0 stack 0
        19 phantom 28 on mesh0 at 0x0 stack 0
    "#]],
    );
}

#[test]
fn across_a_gap_memory_given_twice_was_released_in_it() {
    let events = "
        loss process=1 after=11 before=20 count=2 cause=ring-full
        event 5 t=20 p=1 tid=7 allocated uid=21 size=64 address=0x100 class=mesh owns=1 allocator=0xa
        event 6 t=21 p=1 tid=7 allocated uid=22 size=64 address=0x200 class=mesh owns=1 allocator=0xa
        loss process=1 after=21 before=30 count=2 cause=ring-full
        event 9 t=30 p=1 tid=8 free uid=23 size=64 address=0x200 status=1 owns=1 allocator=0xa
        event 10 t=31 p=1 tid=8 released uid=23 size=64 address=0x200 status=1 class=mesh owns=1";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 released possible 20 on mesh0 at 0x100 stack 0
        20 allocated 21 on mesh0 at 0x100 stack 0 test 0
        21 allocated 22 on mesh0 at 0x200 stack 0 test 0
        30 released possible 22 on mesh0 at 0x200 stack 0
        30 released possible 23 on mesh0 at 0x200 stack 0
        99 held possible 21 on mesh0 at 0x100 stack 0
    "#]],
    );
}

/// A build whose chips report the free of memory that is the mesh's: 20 is the owner, 21 and 22 its parts.
#[test]
fn aliases_report_frees_at_the_address_of_a_live_owner() {
    let events = "
        event 3 t=12 p=1 tid=7 alias address=0x100 size=64 class=chip id=0 stack=1
        event 4 t=13 p=1 tid=7 alias address=0x300 size=64 class=chip id=1 stack=1
        event 5 t=20 p=1 tid=7 marked uid=21 size=64 address=0x100 status=1 stack=2
        event 6 t=21 p=1 tid=7 released uid=21 size=64 address=0x100 status=1 class=chip id=0 stack=2
        event 7 t=22 p=1 tid=7 released uid=22 size=64 address=0x100 status=1 class=chip id=1 stack=3
        event 8 t=23 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 owns=1 stack=4
        event 9 t=24 p=1 tid=7 released uid=20 size=64 address=0x100 status=1 class=mesh owns=1
        event 10 t=25 p=1 tid=7 destroyed uid=21 size=64 address=0x100 status=1 class=chip id=0";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        12 alias on chip0 at 0x100 of 20 stack 1
        13 alias on chip1 at 0x300 of nobody stack 1
        20 alias-free (ends nothing) 21 on ? at 0x100 stack 2 with 20
        22 alias-free (ends nothing) 22 on chip1 at 0x100 stack 3 with 20
        23 released 20 on mesh0 at 0x100 stack 4
    "#]],
    );
}

#[test]
fn aliases_that_outlive_their_owner() {
    let release = "
        event 3 t=20 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 owns=1 stack=4
        event 4 t=21 p=1 tid=7 released uid=20 size=64 address=0x100 status=1 class=mesh owns=1
        event 5 t=22 p=1 tid=7 released uid=21 size=64 address=0x100 status=1 class=chip id=0 stack=5
        event 6 t=23 p=1 tid=7 request uid=30 size=64 class=mesh allocator=0xa
        event 6 t=23 p=1 tid=7 allocated uid=30 owns=1 size=64 address=0x100 class=mesh allocator=0xa
        event 7 t=24 p=1 tid=7 released uid=22 size=64 address=0x100 status=1 class=chip id=1 stack=5
        event 8 t=25 p=1 tid=7 released uid=31 size=64 address=0x100 status=1 class=chip id=1 stack=5
        event 9 t=26 p=1 tid=7 released uid=32 size=64 address=0x900 status=1 class=chip id=1 stack=5";
    let late = entries(&["border process=1 next_unique_id=10\n", ALLOCATE, release, EXITED].concat()).concat();
    let whole = entries(&["border process=1\n", ALLOCATE, release, EXITED].concat()).concat();
    expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 released 20 on mesh0 at 0x100 stack 4
        22 alias-free (ends nothing) 21 on chip0 at 0x100 stack 5 after released at 20 with 20
        23 allocated 30 on mesh0 at 0x100 stack 0 test 0
        24 alias-free (ends nothing) 22 on chip1 at 0x100 stack 5 after released at 20 with 20
        25 alias-free (ends nothing) 31 on chip1 at 0x100 stack 5 with 30
        26 alias-free possible (ends nothing) 32 on chip1 at 0x900 stack 5
        99 held 30 on mesh0 at 0x100 stack 0
    "#]]
    .assert_eq(&whole);
    assert_eq!(late, whole, "whoever owns the memory, they do not");
}

#[test]
fn with_two_meshes_an_alias_may_be_of_either() {
    let events = "
        event 3 t=12 p=1 tid=7 allocated uid=21 owns=1 size=64 address=0x100 class=mesh id=1 allocator=0xb
        event 4 t=13 p=1 tid=7 released uid=25 size=64 address=0x100 status=1 class=chip id=1
        event 5 t=20 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 owns=1
        event 6 t=21 p=1 tid=7 released uid=20 size=64 address=0x100 status=1 class=mesh owns=1
        event 7 t=22 p=1 tid=7 released uid=26 size=64 address=0x100 status=1 class=chip id=1";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        12 allocated 21 on mesh1 at 0x100 stack 0 test 0
        13 alias-free (ends nothing) 25 on chip1 at 0x100 stack 0 with 21
        20 released 20 on mesh0 at 0x100 stack 0
        22 alias-free possible (ends nothing) 26 on chip1 at 0x100 stack 0 with 21
        99 held 21 on mesh1 at 0x100 stack 0
    "#]],
    );
}

#[test]
fn an_alias_that_reaches_an_allocator_releases_what_is_there() {
    let events = "
        event 3 t=20 p=1 tid=7 free uid=21 size=64 address=0x100 status=1 allocator=0xa stack=2
        event 4 t=21 p=1 tid=7 released uid=21 size=64 address=0x100 status=1 class=mesh allocator=0xa
        event 5 t=30 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 owns=1 stack=3
        event 6 t=31 p=1 tid=7 released uid=20 size=64 address=0x100 status=1 class=mesh owns=1
        event 7 t=32 p=1 tid=7 free uid=22 size=64 address=0x100 status=1 allocator=0xa stack=2
        event 8 t=33 p=1 tid=7 free uid=23 size=64 address=0x100 status=2 allocator=0xa stack=2";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 stolen-free (ends nothing) 21 on mesh0 at 0x100 stack 2 with 20
        30 stale-free 20 on mesh0 at 0x100 stack 3 after stolen-free at 20
        32 after-close (ends nothing) 22 on ? at 0x100 stack 2
        33 repeat (ends nothing) 23 on ? at 0x100 stack 2 after something unseen
    "#]],
    );
}

#[test]
fn a_device_that_is_opened_again_has_nothing_of_before() {
    let before = "
        event 1 t=10 p=1 tid=7 allocated uid=20 size=64 address=0x100 class=chip id=3 owns=1 allocator=0xa
        event 2 t=11 p=1 tid=7 device-close object=0x70 class=chip id=3
        event 3 t=12 p=1 tid=7 device-open object=0x70 class=chip id=3
        event 4 t=13 p=1 tid=7 allocated uid=21 size=64 address=0x100 class=chip id=3 owns=1 allocator=0xa";
    let free = "
        event 5 t=20 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 owns=1
        event 6 t=21 p=1 tid=7 released uid=20 size=64 address=0x100 status=1 class=chip id=3 owns=1";
    check(
        &[before, free, EXITED].concat(),
        &expect![[r#"
            10 allocated 20 on chip3 at 0x100 stack 0 test 0
            13 allocated 21 on chip3 at 0x100 stack 0 test 0
            20 stolen-free 20 on chip3 at 0x100 stack 0 with 21
            99 held 21 on chip3 at 0x100 stack 0 after stolen-free at 20
        "#]],
    );
}

#[test]
fn a_pre_attach_owner_can_rob_as_well() {
    let events = "
        event 3 t=20 p=1 tid=7 free uid=3 size=64 address=0x100 status=1 owns=1 allocator=0xa stack=2
        event 4 t=21 p=1 tid=7 released uid=3 size=64 address=0x100 status=1 class=mesh owns=1 allocator=0xa";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
            11 allocated 20 on mesh0 at 0x100 stack 1 test 0
            20 stolen-free 3 on mesh0 at 0x100 stack 2 with 20
            99 held 20 on mesh0 at 0x100 stack 0 after stolen-free at 20
        "#]],
    );
}

#[test]
fn a_forked_child_frees_copies() {
    let events = "
        event 3 t=15 p=1 tid=7 fork child=2 stack=8
        event 4 t=20 p=2 tid=9 free uid=20 size=64 address=0x100 status=1 owns=1 stack=2
        event 5 t=21 p=2 tid=9 released uid=20 size=64 address=0x100 status=1 class=mesh owns=1
        event 6 t=22 p=2 tid=9 free uid=3 size=64 address=0x700 status=1 owns=1 stack=2
        event 7 t=23 p=2 tid=9 allocated uid=21 size=64 address=0x100 class=mesh owns=1 allocator=0xa
        event 8 t=24 p=2 tid=9 free uid=20 size=64 address=0x100 status=2 owns=1 stack=2
        event 9 t=30 p=1 tid=7 free uid=20 size=64 address=0x100 status=1 owns=1 stack=3
        event 10 t=31 p=1 tid=7 released uid=20 size=64 address=0x100 status=1 class=mesh owns=1";
    let ends = "\nend process=2 time=40 reason=exited\nend process=1 time=99 reason=exited";
    check(
        &[ALLOCATE, events, ends].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 inherited 20 on mesh0 at 0x100 stack 2
        22 inherited 3 on ? at 0x700 stack 2
        23 allocated 21 on mesh0 at 0x100 stack 0 test 0
        24 repeat (ends nothing) 20 on mesh0 at 0x100 stack 2 after inherited at 20
        30 released 20 on mesh0 at 0x100 stack 3
        40 held 21 on mesh0 at 0x100 stack 0
    "#]],
    );
}

#[test]
fn between_the_fork_and_the_childs_own_border_it_may_be_either() {
    let events = "
        event 3 t=15 p=1 tid=7 fork child=2
        border process=2 time=16 next_unique_id=30
        event 4 t=20 p=2 tid=9 free uid=25 size=64 address=0x100 status=1 owns=1
        event 5 t=21 p=2 tid=9 released uid=25 size=64 address=0x100 status=1 class=mesh owns=1
        event 6 t=22 p=2 tid=9 free uid=31 size=64 address=0x200 status=1 owns=1
        event 7 t=23 p=2 tid=9 released uid=31 size=64 address=0x200 status=1 class=mesh owns=1
        end process=2 time=40 reason=exited";
    check(
        &[ALLOCATE, events, EXITED].concat(),
        &expect![[r#"
        11 allocated 20 on mesh0 at 0x100 stack 1 test 0
        20 inherited possible 25 on mesh0 at 0x100 stack 0
        22 released possible 31 on mesh0 at 0x200 stack 0
        99 held 20 on mesh0 at 0x100 stack 0
    "#]],
    );
}

/// Live buffers, and a bounded number of others: what is kept does not grow with the number of events.
#[test]
fn memory_is_that_of_live_buffers_and_of_some_that_were() {
    let mut ledger = super::Ledger::default();
    let mut most = [0; 6];
    let rounds = REMEMBERED;
    for uid in 0..rounds {
        // Each lives for four rounds; one in seven leaks until its mesh closes, of 1000 buffers; one in nine is freed twice.
        let (mesh, address) = (uid / 1000, 0x100 * (1 + uid));
        let old = uid.wrapping_sub(4);
        let old_address = address.wrapping_sub(0x400);
        let mut lines = format!(
            "event 1 t={uid} p=1 tid=7 request uid={uid} size=64 class=mesh id={mesh} owns=1 allocator=0xa\n\
             event 2 t={uid} p=1 tid=7 allocated uid={uid} size=64 page=64 address={address} class=mesh id={mesh} \
             owns=1 allocator=0xa\n\
             event 3 t={uid} p=1 tid=7 free uid={old} size=64 address={old_address} status=1 owns=1 allocator=0xa\n"
        );
        if !uid.is_multiple_of(7) {
            lines += &format!(
                "event 4 t={uid} p=1 tid=7 released uid={old} size=64 address={old_address} class=mesh id={mesh} owns=1 \
                 allocator=0xa\n"
            );
        }
        if uid.is_multiple_of(9) {
            lines += &format!("event 5 t={uid} p=1 tid=7 free uid={old} size=64 status=2 owns=1\n");
        }
        if mesh != (uid + 1) / 1000 {
            lines += &format!("event 6 t={uid} p=1 tid=7 bulk object=0xa\n");
        }
        for item in crate::trace::text::parse(&lines).expect("events") {
            if let crate::trace::Item::Event(event) = item {
                ledger.event(&event, &mut |_| {});
            }
        }
        for (most, kept) in most.iter_mut().zip(ledger.kept()) {
            *most = kept.max(*most);
        }
    }
    let [live, given, owners, addresses, left, recent] = most;
    let few = 5 + 1000 / 7;
    assert!(live <= few && given <= few && owners <= few && addresses <= few && left <= few, "{most:?}");
    // Each round has three events at least, and ends one buffer.
    assert!(recent as u64 <= 2 * REMEMBERED / 3, "{most:?}");
}
