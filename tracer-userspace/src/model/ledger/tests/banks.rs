// SPDX-License-Identifier: Apache-2.0
//! What buffers take in each bank.

use crate::{
    model::{Entry, Ledger},
    trace::{Item, text},
};

const REQUEST: &str = "event 1 t=10 p=1 tid=7 request uid=20 size=64 class=mesh owns=1";
const ALLOCATED: &str = "event 9 t=19 p=1 tid=7 allocated uid=20 size=64 address=0x100 status=1 class=mesh owns=1";
const FAILED: &str = "event 9 t=19 p=1 tid=7 free uid=20 size=64 status=0 owns=1";

/// What is known of the banks of each buffer that is allocated or not met.
fn taken(lines: &[&str]) -> Vec<Option<u64>> {
    let (mut ledger, mut taken) = (Ledger::default(), Vec::new());
    let mut sink = |entry: &Entry| match entry {
        Entry::Allocation(it) => taken.push(it.buffer.bank_bytes),
        Entry::Outcome(it) => taken.push(it.buffer.bank_bytes),
        Entry::Found(_) | Entry::Alias(_) => {}
    };
    for item in text::parse(&lines.join("\n")).expect("every line is an item") {
        match item {
            Item::Event(event) => ledger.event(&event, &mut sink),
            Item::Record(record) => ledger.record(&record, &mut sink),
        }
    }
    taken
}

#[test]
fn a_request_has_what_its_own_thread_asks_of_the_banks() {
    let bank = "event 2 t=11 p=1 tid=7 bank size=2048";
    assert_eq!(taken(&[REQUEST, bank, ALLOCATED]), [Some(2048)]);
    assert_eq!(taken(&[REQUEST, bank, FAILED]), [Some(2048)]);
    for other in ["event 2 t=11 p=1 tid=8 bank size=2048", "event 2 t=11 p=2 tid=7 bank size=2048"] {
        assert_eq!(taken(&[REQUEST, other, ALLOCATED]), [None], "{other}");
    }
    assert_eq!(taken(&[bank, REQUEST, ALLOCATED, "event 10 t=20 p=1 tid=7 bank size=1"]), [None]);
}

#[test]
fn its_own_is_the_first_where_other_devices_mirror_it() {
    let banks = ["event 2 t=11 p=1 tid=7 bank size=2048", "event 3 t=12 p=1 tid=7 bank size=4096"];
    assert_eq!(taken(&[REQUEST, banks[0], banks[1], ALLOCATED]), [Some(2048)]);
}

#[test]
fn across_a_gap_it_may_be_another_requests() {
    let gap = "loss process=1 after=10 before=11 count=2 cause=ring-full";
    let bank = "event 5 t=11 p=1 tid=7 bank size=2048";
    assert_eq!(taken(&[REQUEST, gap, bank, ALLOCATED]), [None]);
    let earlier = "loss process=1 after=0 before=9 count=2 cause=ring-full";
    assert_eq!(taken(&[earlier, REQUEST, bank, ALLOCATED]), [Some(2048)]);
}

#[test]
fn without_its_request_an_allocation_has_none() {
    assert_eq!(taken(&["event 2 t=11 p=1 tid=7 bank size=2048", ALLOCATED]), [None]);
}
