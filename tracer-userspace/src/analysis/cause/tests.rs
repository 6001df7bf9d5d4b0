// SPDX-License-Identifier: Apache-2.0
//! Each pattern on a trace that has it, and on one that only looks like it.

use std::collections::BTreeSet;

use super::{Cause, RULES};
use crate::{
    analysis::{Excess, ExcessFold, ExcessSite, Order, Ranking},
    model::read_text,
};

/// Three stacks: #1 where a buffer is freed below `FUNCTION`, #2 where it was freed before, #3 where it was allocated.
const STACKS: &str = r##"
process id=1 pid=7
process id=2 pid=8
border process=1 time=1 next_unique_id=0
module id=1 path="/opt/libtt_metal.so"
module id=2 path="/usr/lib/libpython3.12.so"
python process=1 module=2 version="3.12.1"
frame id=1 module=1 address=0x10
symbol frame=1 function="tt::tt_metal::Buffer::deallocate_impl()" offset=0
frame id=2 module=1 address=0x20 returns=1
symbol frame=2 function="FUNCTION" offset=0
frame id=3 module=2 address=0x30 returns=1
symbol frame=3 function="_PyEval_EvalFrameDefault" offset=0
code id=1 function="Model.unload" file="/src/m.py" first_line=3
code id=2 function="Model.offload" file="/src/m.py" first_line=9
code id=3 function="gc_collect_harder" file="/venv/lib/python3.12/site-packages/_pytest/unraisableexception.py" first_line=1
python-frame id=4 code=1 line=33
python-frame id=5 code=2 line=12
python-frame id=6 code=3 line=29
stack id=1 frames=1,2,3,4,3 end=complete python=complete
stack id=2 frames=1,3,5,3 end=complete python=complete
stack id=3 frames=1,3,6,3 end=complete python=complete
text id=1 text="t.py::one (call)"
text id=2 text="t.py::one (teardown)"
text id=3 text="t.py::two (call)"
"##;

/// A free by the stack #2, and once more by #1.
const TWICE: &str = "
event 1 t=10 p=1 tid=7 request uid=1 size=64 class=mesh stack=3
event 2 t=11 p=1 tid=7 allocated uid=1 size=64 address=0x100 owns=1 class=mesh allocator=0xa
event 3 t=20 p=1 tid=7 free uid=1 size=64 address=0x100 owns=1 status=1 stack=2
event 4 t=21 p=1 tid=7 released uid=1 size=64 address=0x100 owns=1 status=1 class=mesh allocator=0xa
event 5 t=30 p=1 tid=7 free uid=1 size=64 address=0x100 owns=1 status=2 stack=1
";

fn excess(function: &str, events: &str) -> Excess {
    let mut fold = ExcessFold::default();
    let text = STACKS.replace("FUNCTION", function) + events;
    let model = read_text(&text, &mut |entry| fold.entry(entry));
    fold.finish(None, Ranking { order: Order::Time, top: None }, &model)
}

fn causes(site: &ExcessSite) -> Vec<String> {
    site.causes.iter().map(|it| format!("{}: {}", it.cause.name(), it.evidence)).collect()
}

/// The causes of the only site.
#[track_caller]
fn of(function: &str, events: &str) -> Vec<String> {
    let found = excess(function, events);
    let [site] = found.sites.as_slice() else { panic!("{found:?}") };
    causes(site)
}

#[test]
fn functions_on_the_stacks_name_causes_in_a_stated_order() {
    let function = "std::vector<std::shared_ptr<tt::tt_metal::Buffer>, std::allocator<int>>::~vector()";
    let name = "std::vector<std::shared_ptr<Buffer>>::~vector";
    let by_free = format!("container: this free is made by {name} (#1), from Model.unload (m.py:33)");
    assert_eq!(of(function, TWICE), [by_free]);
    let swapped = TWICE.replace("stack=2", "stack=9").replace("stack=1\n", "stack=2\n").replace("stack=9", "stack=1");
    let before = format!("container: the free before is made by {name} (#1), from Model.unload (m.py:33)");
    assert_eq!(of(function, &swapped), [before]);
    let nested = STACKS_OF_A_CACHE.to_owned() + &TWICE.replace("stack=1\n", "stack=4\n");
    let names: Vec<String> =
        of(function, &nested).iter().map(|it| it[..it.find(':').unwrap_or(0)].to_owned()).collect();
    assert_eq!(names, ["program-cache", "cache", "program-pool", "container"]);
    assert_eq!(of("model::release()", TWICE), [""; 0]);
}

/// A container within a program within a cache within a program cache.
const STACKS_OF_A_CACHE: &str = r##"
frame id=10 module=1 address=0x100 returns=1
symbol frame=10 function="tt::tt_metal::detail::ProgramImpl::~ProgramImpl()" offset=0
frame id=11 module=1 address=0x110 returns=1
symbol frame=11 function="model::KernelCache::evict()" offset=0
frame id=12 module=1 address=0x120 returns=1
symbol frame=12 function="tt::tt_metal::distributed::MeshDeviceImpl::disable_and_clear_program_cache()" offset=0
stack id=4 frames=1,2,10,11,12 end=complete
"##;

/// One owner on a mesh, and what an alias of it does.
fn alias(class: &str, id: u32, last: &str) -> String {
    TWICE.replace("event 5 t=30 p=1 tid=7 free uid=1 size=64 address=0x100 owns=1 status=2 stack=1", last).replace(
        "event 3 ",
        &format!(
            "event 103 t=15 p=1 tid=7 released uid=2 size=64 address=0x100 status=1 class={class} id={id}\nevent 3 "
        ),
    )
}

#[test]
fn aliases_are_told_by_whose_device_they_are_on() {
    let chip = of("f", &alias("chip", 3, ""));
    let told = "mesh-and-chip: this free: buffer 2 on chip3 owns nothing, 0x100 is the memory of buffer 1 on mesh0";
    assert_eq!(chip, [told]);
    let view = of("f", &alias("mesh", 0, ""));
    assert_eq!(view, ["view: this free: buffer 2 on mesh0 owns nothing, 0x100 is the memory of buffer 1 on mesh0"]);
    // An alias on another mesh may be anybody's.
    assert_eq!(of("f", &alias("mesh", 1, "")), [""; 0]);
    // A chip that reports when the owner is gone is harmless, and told all the same.
    let late = "event 5 t=30 p=1 tid=7 released uid=3 size=64 address=0x100 status=1 class=chip id=4";
    let [first] = of("f", &alias("chip", 3, late)).try_into().expect("one cause");
    assert!(first.starts_with("mesh-and-chip: all 2 frees: e.g. buffer 2 on chip3"), "{first}");
}

#[test]
fn a_view_that_releases_its_base() {
    let events = "
        event 1 t=10 p=1 tid=7 request uid=1 size=64 class=mesh stack=3
        event 2 t=11 p=1 tid=7 allocated uid=1 size=64 address=0x100 owns=1 class=mesh allocator=0xa
        event 3 t=20 p=1 tid=7 free uid=2 size=64 address=0x100 status=1 stack=1
        event 4 t=21 p=1 tid=7 released uid=2 size=64 address=0x100 status=1 class=mesh allocator=0xa\n";
    let found = of("f", events);
    assert_eq!(found, ["view: this free: buffer 2 on mesh0 owns nothing, 0x100 is the memory of buffer 1 on mesh0"]);
    // An owner that does the same is no view.
    let owner = excess("f", &events.replace("uid=2 size=64 address=0x100", "uid=2 size=64 address=0x100 owns=1"));
    assert!(owner.sites.iter().all(|site| site.causes.is_empty()), "{owner:?}");
}

#[test]
fn buffers_of_graph_captures() {
    let hooked = TWICE.replace("address=0x100", "address=0x0 hooked=1");
    let told =
        "graph-capture: this free: there is no memory behind buffer 1, whose allocation of 64 bytes was only pretended";
    assert_eq!(of("f", &hooked), [told]);
    let empty = TWICE.replace("size=64", "size=0");
    assert_eq!(of("f", &empty), [""; 0], "size 0 is not pretended");
}

#[test]
fn a_forked_child_frees_its_copies() {
    let events = "
        event 1 t=10 p=1 tid=7 request uid=1 size=64 class=mesh stack=3
        event 2 t=11 p=1 tid=7 allocated uid=1 size=64 address=0x100 owns=1 class=mesh allocator=0xa
        event 3 t=12 p=1 tid=7 fork child=2
        event 4 t=20 p=2 tid=8 free uid=1 size=64 address=0x100 owns=1 status=1 stack=1
        event 5 t=21 p=2 tid=8 released uid=1 size=64 address=0x100 owns=1 status=1 class=mesh allocator=0xa
        event 6 t=22 p=2 tid=8 free uid=1 size=64 address=0x100 owns=1 status=2 stack=2
        event 7 t=30 p=1 tid=7 free uid=1 size=64 address=0x100 owns=1 status=1 stack=1
        event 8 t=31 p=1 tid=7 released uid=1 size=64 address=0x100 owns=1 status=1 class=mesh allocator=0xa\n";
    let found = excess("f", events);
    let told = "forked-child: this free: process 2 is a fork, and buffer 1 is older than it";
    // The first free in the child is no excess; the second is, in the child alone.
    assert_eq!(found.inherited.iter().map(causes).collect::<Vec<_>>(), [[told]]);
    assert_eq!(found.sites.iter().map(causes).collect::<Vec<_>>(), [[told]]);
    assert_eq!(found.sites[0].verdicts[0].verdict.name(), "repeat");
    // The same without the fork is a process that was always there.
    let alone = excess("f", &events.replace("fork child=2", "thread-exit"));
    assert!(alone.inherited.is_empty());
    assert!(alone.sites.iter().all(|site| site.causes.is_empty()), "{alone:?}");
}

#[test]
fn tensors_that_outlive_their_device() {
    let events = |free: &str| {
        format!(
            "event 1 t=10 p=1 tid=7 test-begin text=1
            event 2 t=11 p=1 tid=7 request uid=1 size=64 class=mesh stack=2
            event 3 t=12 p=1 tid=7 allocated uid=1 size=64 address=0x100 owns=1 class=mesh allocator=0xa
            event 4 t=13 p=1 tid=7 test-begin text=2
            event 5 t=14 p=1 tid=7 bulk object=0xa stack=1
            {free}
            event 8 t=22 p=1 tid=7 thread-exit\n"
        )
    };
    let late = |free: &str| excess("f", &events(free)).late.iter().map(causes).collect::<Vec<_>>();
    let closed = "mesh0 was closed before, by Model.unload (m.py:33), in t.py::one (teardown)";
    let free = "event 7 t=21 p=1 tid=7 free uid=1 size=64 address=0x100 owns=1 status=1 stack=";
    assert_eq!(late(&format!("{free}2")), [[format!("outlived-device: this free: {closed}")]]);
    // In the same test, it may be the locals of a function that just returned.
    assert_eq!(late(&format!("{free}3")), [[format!("outlived-device: this free: {closed}")]]);
    let kept = "; pytest let go of it, in gc_collect_harder (unraisableexception.py:29), when the test that allocated it \
        was over";
    let next = format!("event 6 t=20 p=1 tid=7 test-begin text=3\n{free}3");
    assert_eq!(late(&next), [[format!("outlived-device: this free: {closed}{kept}")]]);
    let gone = "event 7 t=21 p=1 tid=7 destroyed uid=1 size=64 address=0x100 owns=1 status=2 stack=2";
    assert_eq!(late(gone), [[format!("outlived-device: this free: {closed}")]]);
    let dropped = events(gone).lines().filter(|line| !line.contains("bulk")).collect::<Vec<_>>().join("\n") + "\n";
    let late: Vec<_> = excess("f", &dropped).late.iter().map(causes).collect();
    assert_eq!(late, [["outlived-device: this free: mesh0 was gone by then"]]);
}

#[test]
fn late_frees_of_one_site_are_told_by_the_close_that_each_came_after() {
    let mut events = "event 1 t=10 p=1 tid=7 test-begin text=1\n".to_owned();
    for (id, mesh) in [(1, 0), (2, 3), (3, 3)] {
        events += &format!(
            "event {n} t={n} p=1 tid=7 request uid={id} size=64 class=mesh id={mesh} stack=2
             event {m} t={m} p=1 tid=7 allocated uid={id} size=64 address={id}00 owns=1 class=mesh id={mesh} allocator={mesh}\n",
            n = 10 + 2 * id,
            m = 11 + 2 * id,
        );
    }
    events += "event 20 t=20 p=1 tid=7 bulk object=0 stack=1
        event 21 t=21 p=1 tid=7 test-begin text=2
        event 22 t=22 p=1 tid=7 bulk object=3 stack=2\n";
    for id in [1, 2, 3] {
        events +=
            &format!("event 3{id} t=3{id} p=1 tid=7 free uid={id} size=64 address={id}00 owns=1 status=1 stack=2\n");
    }
    events += "event 40 t=40 p=1 tid=7 thread-exit\n";
    let late: Vec<_> = excess("f", &events).late.iter().map(causes).collect();
    let told = "outlived-device: 2 of 3 frees: mesh3 was closed before, by Model.offload (m.py:12), in t.py::one (teardown); \
        1 of 3 frees: mesh0 was closed before, by Model.unload (m.py:33), in t.py::one (call)";
    assert_eq!(late, [[told]]);
}

#[test]
fn leaks_since_another_device_was_closed() {
    let events = "event 1 t=11 p=1 tid=7 request uid=1 size=64 class=mesh stack=2
        event 2 t=12 p=1 tid=7 allocated uid=1 size=64 address=0x100 owns=1 class=mesh allocator=0xa
        event 3 t=13 p=1 tid=7 test-begin text=2
        event 4 t=14 p=1 tid=7 device-close class=mesh id=1 stack=1
        event 5 t=15 p=1 tid=7 bulk object=0xb
        event 6 t=21 p=1 tid=7 free uid=1 size=64 address=0x100 owns=1 status=1 stack=2
        event 7 t=22 p=1 tid=7 request uid=2 size=64 class=mesh stack=2\n";
    let leaks = |events: &str| excess("f", events).leaks.iter().map(causes).collect::<Vec<_>>();
    let told = "other-device-closed: this free: the process had closed another device than mesh0 before, \
        by Model.unload (m.py:33), in t.py::one (teardown)";
    assert_eq!(leaks(events), [[told]]);
    let open: String = events.lines().filter(|line| !line.contains("close")).map(|line| format!("{line}\n")).collect();
    assert_eq!(leaks(&open), [Vec::<String>::new()]);
}

#[test]
fn every_cause_has_one_name_and_is_explained() {
    let names: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
    assert_eq!(names.len(), Cause::ALL.len());
    assert_eq!(RULES.map(|(cause, _)| cause), Cause::ALL);
    for cause in Cause::ALL {
        assert_eq!(Cause::from_name(cause.name()), Some(cause));
        assert_eq!(serde_json::to_value(cause).expect("JSON"), cause.name());
        let words = cause.explain();
        assert!(!words.meaning.is_empty() && !words.evidence.is_empty() && !words.look.is_empty());
    }
    assert_eq!(Cause::from_name("leak"), None);
}
