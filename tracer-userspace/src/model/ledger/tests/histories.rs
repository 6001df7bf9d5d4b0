// SPDX-License-Identifier: Apache-2.0
//! Random histories of the target, whole, attached late, and with losses: the ledger against what really happened.

use std::collections::{BTreeMap, HashMap};

use super::{
    Entry, Ledger, Outcome,
    target::{Met, Middle, Object, World, bank_bytes},
};
use crate::{
    model::{Certainty, Previous, Verdict},
    trace::{Border, DeviceClass, End, Item, Kind, Loss, Record, Shortened, text},
};

const HISTORIES: u64 = 10_000;

/// splitmix64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<T>(&mut self, from: impl Iterator<Item = T>) -> Option<T> {
        let mut from: Vec<T> = from.collect();
        if from.is_empty() { None } else { Some(from.swap_remove(self.below(from.len() as u64) as usize)) }
    }
}

/// A history and what is recorded of it.
struct History {
    world: World,
    items: Vec<Item>,
}

/// A history; if `late`, the recording begins somewhere in it.
fn history(seed: u64, late: bool) -> History {
    let mut random = Random(seed);
    let mut world = World::new(!random.one_in(4));
    world.open_mesh(0, 0xa);
    let attach = if late { 10 + random.below(50) } else { 0 };
    let mut found = Vec::new();
    for step in 0..130 {
        if step == attach {
            finish(&mut world, &mut random);
            world.attached = true;
            world.processes[0].attached_at = world.processes[0].next_unique_id;
            if random.one_in(2) {
                found = world.snapshot();
            }
        }
        let process = random.below(world.processes.len() as u64) as usize;
        let thread = random.below(world.processes[process].threads.len() as u64) as usize;
        match world.processes[process].threads[thread] {
            Some(middle) => go_on(&mut world, process, thread, middle, &mut random),
            None => act(&mut world, process, thread, &mut random),
        }
    }
    finish(&mut world, &mut random);
    let ends: Vec<Item> = (0..world.processes.len()).map(|process| exit(&mut world, process)).collect();
    let mut items = vec![border(1, world.processes[0].attached_at)];
    items.extend(found);
    for event in &world.events {
        items.push(Item::Event(*event));
        if event.kind == Kind::Fork {
            items.push(border(event.child, world.processes[event.child as usize - 1].forked_at));
        }
    }
    items.extend(ends);
    History { world, items }
}

fn border(process: u32, next_unique_id: u64) -> Item {
    Border { process, next_unique_id, ..Border::default() }.into()
}

/// Lets every thread end what it is in the middle of.
fn finish(world: &mut World, random: &mut Random) {
    for process in 0..world.processes.len() {
        for thread in 0..world.processes[process].threads.len() {
            if let Some(middle) = world.processes[process].threads[thread] {
                go_on(world, process, thread, middle, random);
            }
        }
    }
}

fn exit(world: &mut World, process: usize) -> Item {
    let time = world.exit(process);
    let reason = "exited".into();
    End { process: world.processes[process].number, time, reason }.into()
}

fn go_on(world: &mut World, process: usize, thread: usize, middle: Middle, random: &mut Random) {
    match middle {
        Middle::Free(object, began) => world.finish_free(process, thread, object, began),
        Middle::Request(object, began) => {
            let met = match random.below(12) {
                0 => Met::Hooked,
                1 => Met::OutOfMemory,
                _ => {
                    // Few addresses, so that they are reused at once.
                    let address = 0x1000 + 0x400 * random.below(10);
                    let free = world.is_free(process, object, address);
                    if free { Met::At(address, random.below(3) as u32) } else { Met::OutOfMemory }
                }
            };
            world.meet(process, thread, (object, began), met);
        }
    }
}

fn act(world: &mut World, process: usize, thread: usize, random: &mut Random) {
    let it = &world.processes[process];
    let object = |wanted: &dyn Fn(&Object) -> bool, random: &mut Random| {
        let objects = it.objects.iter().enumerate().filter(|(_, object)| !object.destroyed && wanted(object));
        random.pick(objects.map(|(at, _)| at))
    };
    let exists = |object: &Object| it.devices[object.device].exists;
    let open: Vec<usize> = (0..it.devices.len()).filter(|&at| it.devices[at].open).collect();
    match random.below(100) {
        0..36 => {
            let size = if random.one_in(20) { 0 } else { 0x400 * (1 + random.below(4)) };
            if let Some(device) = random.pick(open.into_iter()) {
                world.request(process, thread, device, random.below(2) as u32, size);
            }
        }
        36..60 => {
            let owner = object(&|it| it.owns && it.status == 1 && it.is_idle() && exists(it), random);
            if let Some(owner) = owner {
                if random.one_in(5) {
                    world.tell_destructor(process, thread, owner);
                }
                world.free(process, thread, owner);
            }
        }
        60..66 => {
            if let Some(freed) = object(&|it| it.status == 2, random) {
                world.free(process, thread, freed);
            }
        }
        66..71 => {
            if let Some(freed) = object(&|it| it.owns && it.status == 2, random) {
                world.destroy(process, thread, freed);
            }
        }
        71..76 => {
            if let Some(base) = object(&|object| it.is_live(object) && object.address() != 0, random) {
                world.alias(process, thread, base);
            }
        }
        76..84 => {
            if let Some(alias) = object(&|it| !it.owns && it.status == 1 && it.is_idle(), random) {
                world.report(process, thread, alias, random.one_in(2));
            }
        }
        84..86 => {
            if let Some(alias) = object(&|it| !it.owns && it.status == 1 && it.is_idle() && exists(it), random) {
                world.free(process, thread, alias);
            }
        }
        86..91 => {
            let requests = it.threads.iter().flatten().any(|middle| matches!(middle, Middle::Request(..)));
            match random.pick(open.into_iter()) {
                Some(device) if world.bulk_probe && random.one_in(3) => world.release_all(process, thread, device),
                Some(device) if !requests => world.close(process, thread, device),
                _ => {}
            }
        }
        91..92 => {
            if let Some(device) = random.pick(open.into_iter()).filter(|_| world.bulk_probe) {
                world.silence(process, thread, device);
            }
        }
        92..95 => {
            let used: Vec<u64> = open.iter().map(|&device| it.devices[device].allocator).collect();
            if random.one_in(2) {
                world.open_chip(process, thread, 0xc);
            } else if let Some(allocator) = [0xa, 0xb].into_iter().find(|allocator| !used.contains(allocator)) {
                world.open_mesh(process, allocator);
            }
        }
        95..96 => {
            let closed = it.devices.iter().position(|it| !it.open && it.class == DeviceClass::Mesh);
            if let Some(closed) = closed.filter(|&at| !it.objects.iter().any(|object| object.is_freed_on(at))) {
                world.processes[process].devices[closed].exists = false;
            }
        }
        96..98 => {
            let orphan = object(&|it| it.owns && it.status == 1 && it.is_idle() && !exists(it), random);
            if let Some(orphan) = orphan {
                world.drop_orphan(process, thread, orphan, random.one_in(2));
            }
        }
        98 if world.attached && world.processes.len() < 3 => world.fork(process, thread),
        _ => world.end_thread(process, thread),
    }
}

/// Takes runs of events out and puts losses in their places. A child whose fork is lost is not recorded.
fn lose(items: Vec<Item>, random: &mut Random) -> Vec<Item> {
    let mut kept: Vec<Item> = Vec::new();
    let (mut losing, mut count, mut after) = (0, 0, 0);
    let mut unknown = Vec::new();
    for item in items {
        let Item::Event(event) = &item else {
            if count > 0 {
                kept.push(loss(after, after, count));
                count = 0;
            }
            let process = match &item {
                Item::Record(Record::End(End { process, .. }) | Record::Border(Border { process, .. })) => *process,
                _ => 0,
            };
            if !unknown.contains(&process) {
                kept.push(item);
            }
            continue;
        };
        if unknown.contains(&event.process) {
            unknown.extend((event.kind == Kind::Fork).then_some(event.child));
            continue;
        }
        if losing == 0 && random.one_in(25) {
            losing = 1 + random.below(8);
        }
        if losing > 0 {
            losing -= 1;
            count += 1;
            if event.kind == Kind::Fork {
                unknown.push(event.child);
            }
            continue;
        }
        if count > 0 {
            kept.push(loss(after, event.time, count));
            count = 0;
        }
        after = event.time;
        kept.push(item);
    }
    kept
}

/// Shortens what comes before some point, perhaps twice, as a recording does whose file gets too large.
fn shorten(mut items: Vec<Item>, random: &mut Random) -> Vec<Item> {
    for _ in 0..1 + random.below(2) {
        let behind = items.split_off(random.below(items.len() as u64) as usize);
        let mut shortened = Shortened::default();
        let mut short: Vec<Item> =
            items.into_iter().filter_map(|item| shortened.item(item)).map(Item::Record).collect();
        short.extend(shortened.finish());
        short.extend(behind);
        items = short;
    }
    items
}

/// What is recorded of a history, of some with losses.
pub(crate) fn recorded(seed: u64) -> Vec<Item> {
    let items = history(seed, seed % 2 == 1).items;
    if seed % 3 == 2 { lose(items, &mut Random(!seed)) } else { items }
}

fn loss(after: u64, before: u64, count: u64) -> Item {
    Loss { process: 0, after, before, count, cause: "ring-full".into() }.into()
}

/// What the ledger says, and how often each verdict was right and confirmed, or only possible.
#[derive(Default)]
struct Score {
    confirmed: BTreeMap<Verdict, u64>,
    possible: BTreeMap<Verdict, u64>,
}

impl Score {
    fn add(&mut self, outcome: &Outcome) {
        let count = match outcome.certainty {
            Certainty::Confirmed => &mut self.confirmed,
            Certainty::Possible => &mut self.possible,
        };
        *count.entry(outcome.verdict).or_default() += 1;
    }
}

fn outcomes(items: &[Item]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut sink = |entry: &Entry| {
        if let Entry::Outcome(outcome) = entry {
            outcomes.push(*outcome);
        }
    };
    let mut ledger = Ledger::default();
    for item in items {
        match item {
            Item::Event(event) => ledger.event(event, &mut sink),
            Item::Record(record) => ledger.record(record, &mut sink),
        }
    }
    ledger.finish(&mut sink);
    outcomes
}

/// Every confirmed verdict is what happened; in a `whole` recording, so is every other, and none is missing.
fn compare(seed: u64, world: &World, items: &[Item], whole: bool, score: &mut Score) {
    let mut at: HashMap<(u32, u64, u64), usize> = HashMap::new();
    for (index, truth) in world.truths.iter().enumerate() {
        at.extend(truth.times.iter().map(|&time| ((truth.process, truth.unique_id, time), index)));
    }
    let mut told = vec![0; world.truths.len()];
    for outcome in outcomes(items) {
        score.add(&outcome);
        let key = (outcome.buffer.process, outcome.buffer.unique_id, outcome.moment.time);
        let index = at.get(&key).copied();
        if let Some(index) = index {
            told[index] += 1;
        }
        let truth = index.map(|index| world.truths[index].verdict);
        // Of several devices with owners at one address, an alias may be on any.
        // The set of an allocator keeps what a bulk release before the recording took.
        let about_found = outcome.buffer.found || outcome.other.is_some_and(|other| other.found);
        let unsure =
            outcome.certainty == Certainty::Possible && (!whole || about_found || is_about_alias(outcome.verdict));
        let all = || items.iter().map(text::show).collect::<Vec<_>>().join("\n");
        let taken = bank_bytes_of(&outcome, whole);
        assert_eq!(outcome.buffer.bank_bytes, taken, "history {seed}: {outcome:?}\n{}", all());
        assert!(unsure || truth == Some(outcome.verdict), "history {seed}: {outcome:?}\nwas {truth:?}\n{}", all());
        // The child's border may lie after its first own buffers.
        let cut = outcome.verdict == Verdict::AfterClose && outcome.previous == Previous::None;
        let sure = outcome.certainty == Certainty::Confirmed || outcome.verdict == Verdict::Inherited || cut;
        assert!(unsure || !whole || sure, "history {seed}: {outcome:?}\n{}", all());
    }
    for (truth, told) in world.truths.iter().zip(told) {
        let due = u32::from(!truth.no_news);
        assert!(!whole || told == due, "history {seed}: {truth:?} was told {told} times");
    }
}

/// What must be known of the banks: of an owner whose request is recorded, all; with losses, that or nothing.
fn bank_bytes_of(outcome: &Outcome, whole: bool) -> Option<u64> {
    let Outcome { buffer, verdict, .. } = outcome;
    let asked = (buffer.allocated.is_some() || *verdict == Verdict::Failed) && !buffer.phantom;
    (asked && (whole || buffer.bank_bytes.is_some())).then(|| bank_bytes(buffer.unique_id))
}

fn is_about_alias(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::AliasFree | Verdict::StaleFree)
}

#[test]
fn whole_histories_agree_exactly() {
    let mut score = Score::default();
    for seed in 0..HISTORIES {
        let late = seed % 2 == 1;
        let History { world, items } = history(seed, late);
        compare(seed, &world, &items, true, &mut score);
    }
    for verdict in EVERY {
        let count = score.confirmed.get(&verdict).copied().unwrap_or(0);
        assert!(count > 100, "{verdict:?} is confirmed {count} times");
    }
    let sum = |counts: &BTreeMap<Verdict, u64>| counts.values().sum::<u64>();
    assert!(sum(&score.possible) * 20 < sum(&score.confirmed), "{:?}", score.possible);
}

#[test]
fn what_is_confirmed_in_spite_of_losses_is_right() {
    let mut score = Score::default();
    for seed in 0..HISTORIES {
        let History { world, items } = history(seed, seed % 2 == 1);
        let items = lose(items, &mut Random(!seed));
        compare(seed, &world, &items, false, &mut score);
    }
    for verdict in EVERY {
        let (confirmed, possible) = (score.confirmed.get(&verdict), score.possible.get(&verdict));
        assert!(confirmed.is_some_and(|&count| count > 20), "{verdict:?} is confirmed {confirmed:?} times");
        // Repeats say of themselves what they are. Across a gap there is no overlap, only a release that was lost; and what may
        // have leaked is only possibly after-close.
        let sure = [Verdict::Repeat, Verdict::Overlap, Verdict::Leaked].contains(&verdict);
        assert!(sure || possible.is_some(), "{verdict:?} is never only possible");
    }
}

#[test]
fn what_is_confirmed_although_the_trace_was_shortened_is_right() {
    let mut score = Score::default();
    for seed in 0..HISTORIES {
        let History { world, items } = history(seed, seed % 2 == 1);
        let items = shorten(items, &mut Random(!seed));
        compare(seed, &world, &items, false, &mut score);
    }
    for verdict in EVERY {
        let confirmed = score.confirmed.get(&verdict);
        assert!(confirmed.is_some_and(|&count| count > 20), "{verdict:?} is confirmed {confirmed:?} times");
    }
}

const EVERY: [Verdict; 15] = [
    Verdict::Released,
    Verdict::Repeat,
    Verdict::AliasFree,
    Verdict::StaleFree,
    Verdict::StolenFree,
    Verdict::Overlap,
    Verdict::Leaked,
    Verdict::AfterClose,
    Verdict::Marked,
    Verdict::Bulk,
    Verdict::Failed,
    Verdict::Phantom,
    Verdict::PreAttach,
    Verdict::Inherited,
    Verdict::Held,
];
