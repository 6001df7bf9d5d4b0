// SPDX-License-Identifier: Apache-2.0
//! From a trace, written as text, to each view of it.

use expect_test::expect;

use super::{Frames, StackChoice, diff, excess, held, json, report, timeline};
use crate::{
    analysis::{
        self, CountedFold, ExcessFold, Expectations, Filter, Gate, Grouping, HeldFold, Order, Query, Ranking,
        ReportFold, Rule, SummaryFold, Suppressions, TimelineFold,
    },
    model::{Entry, Model, read_text},
};

/// Two tests on a mesh; the second frees again what the first left in a list. One older buffer, one that stays.
const TRACE: &str = r##"
session tool="0.1.0" host="h" kernel="6.1" wall_ns=1735689599000000000 boot_ns=4
process id=1 pid=4711 start=9 command="python -m pytest \u{1b}[2J"
module id=1 path="/opt/ttnn/libtt_metal.so" build_id="8f22"
module id=2 path="/usr/bin/python3.12"
probe id=3 process=1 kind=marked symbol="_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv" missing="no such symbol"
border process=1 time=500000 next_unique_id=10
text id=1 text="t.py::one (call)"
text id=2 text="t.py::one (teardown)"
text id=3 text="t.py::two (call)"
frame id=1 module=1 address=0x4000
frame id=2 module=1 address=0x5010 returns=1
frame id=3 module=2 address=0x600 returns=1
frame id=4 module=1 address=0x4100
frame id=5 address=0x7f0012345678 returns=1
stack id=1 frames=2,3 end=complete
stack id=2 frames=1,2,3 end=complete
stack id=3 frames=4,5 end=no-module
event 1 t=1000000 p=1 tid=40 test-begin text=1
event 2 t=1001000 p=1 tid=40 request uid=10 size=4096 class=mesh stack=1
event 3 t=1002000 p=1 tid=40 allocated uid=10 size=4096 address=0x100400 class=mesh allocator=0xa
event 4 t=1003000 p=1 tid=40 request uid=11 size=2097152 type=1 class=mesh stack=1
event 5 t=1004000 p=1 tid=40 allocated uid=11 size=2097152 address=0x17f800 type=1 class=mesh allocator=0xa
event 6 t=1005000 p=1 tid=40 free uid=10 size=4096 address=0x100400 status=1 stack=2
event 7 t=1006000 p=1 tid=40 released uid=10 address=0x100400 status=1 class=mesh
event 8 t=1500000 p=1 tid=40 test-begin text=2
event 9 t=1501000 p=1 tid=40 free uid=3 size=64 address=0x100800 status=1 stack=2
event 10 t=1502000 p=1 tid=40 released uid=3 address=0x100800 status=1 class=mesh
event 11 t=1600000 p=1 tid=40 test-end
event 12 t=2000000 p=1 tid=40 test-begin text=3
event 13 t=2001000 p=1 tid=41 free uid=10 size=4096 address=0x100400 status=2 stack=3
event 14 t=2001500 p=1 tid=41 free uid=10 size=4096 address=0x100400 status=2 stack=3
event 15 t=2002000 p=1 tid=40 request uid=12 size=4096 class=mesh stack=1
event 16 t=2003000 p=1 tid=40 allocated uid=12 size=4096 address=0x100400 class=mesh allocator=0xb
event 17 t=2004000 p=1 tid=40 free uid=12 size=4096 address=0x100400 status=1 stack=2
event 18 t=2005000 p=1 tid=40 request uid=13 size=99999999 class=mesh stack=1
event 19 t=2006000 p=1 tid=40 free uid=13 size=99999999 stack=2
loss process=1 after=2006000 before=2009000 count=2 cause=ring-full
event 22 t=2009000 p=1 tid=40 test-end
symbol frame=1 function="tt::tt_metal::Buffer::deallocate_impl()" offset=0x0
symbol frame=2 function="tt::tt_metal::distributed::MeshBuffer::create(std::variant<int> const&, int)" offset=0x10 file="/src/mesh_buffer.cpp" line=77
symbol frame=2 function="std::__1::make_shared<tt::tt_metal::Buffer, int, long>(int&&)" file="/usr/include/memory" line=5
symbol frame=3 function="main" offset=0x20
counter name=sent value=22
end process=1 time=3000000 reason=exited
"##;

const ALL: Ranking = Ranking { order: Order::Count, top: None };

fn read(mut entry: impl FnMut(&Entry)) -> Model {
    read_text(TRACE, &mut entry)
}

#[test]
fn the_report_counts() {
    let mut fold = ReportFold::default();
    let model = read(|entry| fold.entry(entry));
    expect![[r#"
        Start 2024-12-31 23:59:59 UTC, times in seconds after it
        Process 1: pid 4711, python -m pytest \u{1b}[2J, exited at 0.003000
        20 events, 2 lost in 1 gap (ring-full)
        ! probe marked (_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv) is not attached: no such symbol

        Memory
          device  type  allocated    bytes  freed   bytes  live    bytes     peak        at  in
          mesh0   DRAM          2   8192 B      1  4096 B     1   4096 B   4096 B  0.001002  t.py::one
          mesh0   L1            1  2.0 MiB      0     0 B     1  2.0 MiB  2.0 MiB  0.001004  t.py::one

        Verdicts
          verdict     confirmed  possible  meaning
          released            1         0  freed once by its owner, and the allocator got the memory back
          repeat              2         0  freed again although it was deallocated already; the call had no effect
          leaked              1         0  freed, but its allocator was not called; the memory stays taken until the device closes
          failed              1         0  requested but never allocated, e.g. out of memory
          pre-attach          1         0  freed here, allocated before the recording began
          held                0         2  still live at the end

        Balance of addresses as reported to the graph tracker (device number and address alone)
          device  addresses  allocs = frees  not freed  freed more  unknown  excess  which were
          0               3               0    2 (67%)     1 (33%)        1       1  1 pre-attach

        Addresses with more reported frees than allocations
          device   address           type  allocs  frees  unknown  balance  which were
          0       0x100800  1050624  DRAM       0      1        1       -1  1 pre-attach

        Balance of addresses in the allocators
          device  type  addresses  allocs = frees  not freed  freed more
          mesh0   DRAM          2               1          0           1
          mesh0   L1            1               0          1           0

        Addresses freed more often than allocated
          device  type   address  allocs  frees  excess  which were
          mesh0   DRAM  0x100400       2      3      +1  2 repeat

        Tests
          test       allocs  frees    bytes      left  verdicts
          t.py::one       2      2  2.0 MiB  +2.0 MiB  1 released, 1 pre-attach, 1 held
          t.py::two       1      0   4096 B   +4096 B  2 repeat, 1 leaked, 1 failed, 1 held

        Held at the peak
                at  device  type          buffers    bytes  in each bank  site                                                         in
          0.001004  mesh0   L1    in all        1  2.0 MiB             -
                                  held          1  2.0 MiB             -  b777b1d0c592  tt::tt_metal::distributed::MeshBuffer::create  t.py::one
          0.001002  mesh0   DRAM  in all        1   4096 B             -
                                  held          1   4096 B             -  b777b1d0c592  tt::tt_metal::distributed::MeshBuffer::create  t.py::one

        Failed requests, and what was held then
                at  device  type               buffers     bytes  in each bank  site                                                         in
          0.002006  mesh0   DRAM  requested          1  95.4 MiB             -  b777b1d0c592  tt::tt_metal::distributed::MeshBuffer::create  t.py::two
                                  held in all        1    4096 B             -
                                  held               1    4096 B             -  b777b1d0c592  tt::tt_metal::distributed::MeshBuffer::create  t.py::two
    "#]]
    .assert_eq(&report(&fold.finish(10, &model)));
}

/// Three owners on one memory, one without a word of its banks, and a request that fails for them.
const BANKS: &str = "
process id=1 pid=4711 start=9
stack id=1 end=complete
event 1 t=1000 p=1 tid=40 request uid=10 size=4096 type=1 class=mesh stack=1
event 2 t=1001 p=1 tid=40 bank size=2048
event 3 t=1002 p=1 tid=40 allocated uid=10 size=4096 address=0x1000 type=1 class=mesh allocator=0xa
event 4 t=1003 p=1 tid=40 request uid=11 size=100 type=1 class=mesh stack=1
event 5 t=1004 p=1 tid=40 bank size=1024
event 6 t=1005 p=1 tid=40 allocated uid=11 size=100 address=0x2000 type=1 class=mesh allocator=0xa
event 7 t=1006 p=1 tid=40 request uid=12 size=9999 type=1 class=mesh stack=1
event 8 t=1007 p=1 tid=40 bank size=512
event 9 t=1008 p=1 tid=40 free uid=12 size=9999 type=1
event 10 t=1009 p=1 tid=40 request uid=13 size=1 type=1 class=mesh stack=1
event 11 t=1010 p=1 tid=40 allocated uid=13 size=1 address=0x3000 type=1 class=mesh allocator=0xa
event 12 t=1011 p=1 tid=40 request uid=14 size=9998 type=1 class=mesh stack=1
event 13 t=1012 p=1 tid=40 free uid=14 size=9998 type=1
";

#[test]
fn what_is_held_in_each_bank_is_known_unknown_or_a_part() {
    let mut fold = ReportFold::default();
    let model = read_text(BANKS, &mut |entry| fold.entry(entry));
    let value = fold.finish(10, &model);
    let shown = report(&value);
    expect![[r#"
         the peak
                at  device  type          buffers   bytes  in each bank
          0.000001  mesh0   L1    in all        3  4197 B      ≥ 3072 B
                                  held          3  4197 B      ≥ 3072 B  no function known

        Failed requests, and what was held then
                at  device  type               buffers   bytes  in each bank
          0.000001  mesh0   L1    requested          1  9999 B         512 B  no function known
                                  held in all        2  4196 B        3072 B
                                  held               2  4196 B        3072 B  no function known
          0.000001  mesh0   L1    requested          1  9998 B             -  no function known
                                  held in all        3  4197 B      ≥ 3072 B
                                  held               3  4197 B      ≥ 3072 B  no function known
    "#]]
    .assert_eq(shown.split_once("Held at").map_or("", |(_, held)| held));
    let json: serde_json::Value = serde_json::from_str(&json("report", &value)).expect("JSON");
    let [first, second] = json["failures"].as_array().expect("an array").as_slice() else { panic!("{json}") };
    assert_eq!((&first["bank_bytes"], &second["bank_bytes"]), (&512.into(), &serde_json::Value::Null));
    let known =
        |held: &serde_json::Value| [held["buffers"].clone(), held["bank_bytes"].clone(), held["bank_unknown"].clone()];
    assert_eq!(known(&first["held"]), [2, 3072, 0].map(serde_json::Value::from));
    assert_eq!(known(&second["held"]), [3, 3072, 1].map(serde_json::Value::from));
    assert_eq!(known(&second["held"]["holders"][0]), [3, 3072, 1].map(serde_json::Value::from));
}

#[test]
fn the_timeline_of_an_address() {
    let mut fold = TimelineFold::new(Query { address: Some(0x10_0400), buffer: None });
    let model = read(|entry| fold.entry(entry));
    let value = fold.finish(&model);
    expect![[r#"
        Start 2024-12-31 23:59:59 UTC, times in seconds after it
        Process 1: pid 4711, python -m pytest \u{1b}[2J, exited at 0.003000
        20 events, 2 lost in 1 gap (ring-full)
        ! probe marked (_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv) is not attached: no such symbol

            0.001002  ALLOC #1   buffer 10  mesh0 DRAM 0x100400  4096 B  in t.py::one (call)
            0.001005  FREE #1    buffer 10  mesh0 DRAM 0x100400  4096 B  released  in t.py::one (call)
            0.002001  FREE #2    buffer 10  mesh0 DRAM 0x100400  4096 B  repeat  in t.py::two (call)
            0.002001  FREE #3    buffer 10  mesh0 DRAM 0x100400  4096 B  repeat  in t.py::two (call)
            0.002003  ALLOC #2   buffer 12  mesh0 DRAM 0x100400  4096 B  in t.py::two (call)
            0.002004  FREE #4    buffer 12  mesh0 DRAM 0x100400  4096 B  leaked  in t.py::two (call)
            0.003000  END        buffer 12  mesh0 DRAM 0x100400  4096 B  held (possible)
    "#]]
    .assert_eq(&timeline(&value, StackChoice::Hide));
}

#[test]
fn the_timeline_of_a_buffer_with_stacks() {
    let mut fold = TimelineFold::new(Query { address: None, buffer: Some(10) });
    let model = read(|entry| fold.entry(entry));
    expect![[r#"
        Start 2024-12-31 23:59:59 UTC, times in seconds after it
        Process 1: pid 4711, python -m pytest \u{1b}[2J, exited at 0.003000
        20 events, 2 lost in 1 gap (ring-full)
        ! probe marked (_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv) is not attached: no such symbol

            0.001002  ALLOC #1   buffer 10  mesh0 DRAM 0x100400  4096 B  in t.py::one (call)
              #0 std::make_shared<…>(…) (/usr/include/memory:5) [inlined]
              #1 tt::tt_metal::distributed::MeshBuffer::create(…) (/src/mesh_buffer.cpp:77) libtt_metal.so+0x5010
              … 1 more (--frames all)
            0.001005  FREE #1    buffer 10  mesh0 DRAM 0x100400  4096 B  released  in t.py::one (call)
              #0 tt::tt_metal::Buffer::deallocate_impl() libtt_metal.so+0x4000
              #1 std::make_shared<…>(…) (/usr/include/memory:5) [inlined]
              … 2 more (--frames all)
            0.002001  FREE #2    buffer 10  mesh0 DRAM 0x100400  4096 B  repeat  in t.py::two (call)
              #0 ? libtt_metal.so+0x4100
              #1 ? 0x7f0012345678
              (the stack ends here: no-module)
            0.002001  FREE #3    buffer 10  mesh0 DRAM 0x100400  4096 B  repeat  in t.py::two (call)
              #0 ? libtt_metal.so+0x4100
              #1 ? 0x7f0012345678
              (the stack ends here: no-module)
    "#]]
    .assert_eq(&timeline(&fold.finish(&model), StackChoice::Show(Frames::First(2))));
}

#[test]
fn the_sites_of_excess() {
    let mut fold = ExcessFold::default();
    let model = read(|entry| fold.entry(entry));
    let value = fold.finish(None, ALL, &model);
    expect![[r#"
        Start 2024-12-31 23:59:59 UTC, times in seconds after it
        Process 1: pid 4711, python -m pytest \u{1b}[2J, exited at 0.003000
        20 events, 2 lost in 1 gap (ring-full)
        ! probe marked (_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv) is not attached: no such symbol

        Site 1: 2 excess frees (2 repeat)
          0a94d40f7912 ? (libtt_metal)
          2 in t.py::two
          e.g. buffer 10 (mesh0, DRAM 0x100400, process 1)
          cause: no known pattern
          this free:
            #0 ? libtt_metal.so+0x4100
            #1 ? 0x7f0012345678
            (the stack ends here: no-module)
          the free before (released):
            #0 tt::tt_metal::Buffer::deallocate_impl() libtt_metal.so+0x4000
            #1 std::make_shared<…>(…) (/usr/include/memory:5) [inlined]
            #2 tt::tt_metal::distributed::MeshBuffer::create(…) (/src/mesh_buffer.cpp:77) libtt_metal.so+0x5010
            #3 main python3.12+0x600
          the allocation:
            #0 std::make_shared<…>(…) (/usr/include/memory:5) [inlined]
            #1 tt::tt_metal::distributed::MeshBuffer::create(…) (/src/mesh_buffer.cpp:77) libtt_metal.so+0x5010
            #2 main python3.12+0x600

        Leaks, no excess: frees for which no allocator was called, so that the memory stays taken

        Leak site 1: 1 free (1 leaked)
          b777b1d0c592 tt::tt_metal::distributed::MeshBuffer::create
          1 in t.py::two
          e.g. buffer 12 (mesh0, DRAM 0x100400, process 1)
          cause: no known pattern
          this free:
            #0 tt::tt_metal::Buffer::deallocate_impl() libtt_metal.so+0x4000
            #1 std::make_shared<…>(…) (/usr/include/memory:5) [inlined]
            #2 tt::tt_metal::distributed::MeshBuffer::create(…) (/src/mesh_buffer.cpp:77) libtt_metal.so+0x5010
            #3 main python3.12+0x600
          the free before: none
          the allocation:
            #0 std::make_shared<…>(…) (/usr/include/memory:5) [inlined]
            #1 tt::tt_metal::distributed::MeshBuffer::create(…) (/src/mesh_buffer.cpp:77) libtt_metal.so+0x5010
            #2 main python3.12+0x600
    "#]]
    .assert_eq(&excess(&value, Frames::All));
    let json: serde_json::Value = serde_json::from_str(&json("excess", &value)).expect("JSON");
    assert_eq!(json["schema"], "tt-buftrace/excess/1");
    assert_eq!(json["sites"][0]["verdicts"][0]["verdict"], "repeat");
    assert_eq!(json["sites"][0]["free"]["end"], "no-module");
    assert_eq!(
        json["sites"][0]["previous"]["stack"]["lines"][0]["function"],
        "tt::tt_metal::Buffer::deallocate_impl()"
    );
    assert_eq!(json["integrity"]["losses"][0]["events"], 2);
}

#[test]
fn what_is_held_by_site_and_by_device() {
    let value = |by| {
        let mut fold = HeldFold::default();
        let model = read(|entry| fold.entry(entry));
        fold.finish(by, ALL, &model)
    };
    expect![[r#"
        Start 2024-12-31 23:59:59 UTC, times in seconds after it
        Process 1: pid 4711, python -m pytest \u{1b}[2J, exited at 0.003000
        20 events, 2 lost in 1 gap (ring-full)
        ! probe marked (_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv) is not attached: no such symbol

        Never freed until the process ended: 2 buffers, 2.0 MiB, 2 of them only possible, 1 of them freed, but leaked

        Site b777b1d0c592: tt::tt_metal::distributed::MeshBuffer::create
          2 buffers, 2.0 MiB, at exit, 997 µs to 1 ms old, 2 of them only possible, 1 of them freed, but leaked
          1 of t.py::one
          1 of t.py::two
          e.g. buffer 11 (mesh0, L1 0x17f800, process 1), buffer 12 (mesh0, DRAM 0x100400, process 1)
            #0 std::make_shared<…>(…) (/usr/include/memory:5) [inlined]
            #1 tt::tt_metal::distributed::MeshBuffer::create(…) (/src/mesh_buffer.cpp:77) libtt_metal.so+0x5010
            … 1 more (--frames all)
    "#]]
    .assert_eq(&held(&value(Grouping::Site), Frames::First(2)));
    let table = held(&value(Grouping::Device), Frames::All);
    let begin = table.find("Never freed").unwrap_or(0);
    expect![[r#"
        Never freed until the process ended: 2 buffers, 2.0 MiB, 2 of them only possible, 1 of them freed, but leaked

          until    device  buffers  possible    bytes  age
          at exit  mesh0         2         2  2.0 MiB  997 µs to 1 ms
    "#]]
    .assert_eq(&table[begin..]);
}

#[test]
fn the_report_as_json() {
    let mut fold = ReportFold::default();
    let model = read(|entry| fold.entry(entry));
    let json: serde_json::Value = serde_json::from_str(&json("report", &fold.finish(10, &model))).expect("JSON");
    assert_eq!(json["schema"], "tt-buftrace/report/1");
    let totals = &json["totals"][1];
    assert_eq!((&totals["device"], &totals["buffer_type"]), (&"mesh0".into(), &"L1".into()));
    assert_eq!((&totals["bytes_live"], &totals["peak_test"]), (&2_097_152.into(), &"t.py::one".into()));
    assert_eq!(json["integrity"]["unaccounted"], 0);
}

/// Numbers that no recording would have must not bring a view down.
#[test]
fn forged_numbers_are_shown_or_left_out() {
    let digits = |c: char| c.is_ascii_digit();
    let places: Vec<usize> =
        TRACE.char_indices().filter(|&(at, c)| digits(c) && !TRACE[..at].ends_with(digits)).map(|(at, _)| at).collect();
    let gate = Gate {
        rules: ["excess/test", "held", "lost"].map(|rule| Rule::parse(rule).expect("a rule")).to_vec(),
        baseline: None,
        suppressions: Suppressions::default(),
        expectations: Expectations::parse("[[expect]]\nname = \"all\"\nallocations = 1\nfrees = 1").expect("parsed"),
        strict: false,
        today: time::Date::MIN,
    };
    for number in ["0", "1", "4294967295", "18446744073709551615"] {
        for &at in &places {
            let rest = TRACE[at..].trim_start_matches(digits);
            let forged = format!("{}{number}{rest}", &TRACE[..at]);
            if crate::trace::text::parse(&forged).is_err() {
                continue; // too large for its field: a file cannot hold it either
            }
            let (mut counts, mut sites) = (ReportFold::default(), ExcessFold::default());
            let mut steps = TimelineFold::new(Query::default());
            let (mut lives, mut summary, mut owners) =
                (HeldFold::default(), SummaryFold::default(), CountedFold::default());
            let model = read_text(&forged, &mut |entry| {
                lives.entry(entry);
                summary.entry(entry);
                owners.entry(entry);
                counts.entry(entry);
                sites.entry(entry);
                steps.entry(entry);
            });
            assert!(report(&counts.finish(10, &model)).contains("Verdicts"));
            assert!(excess(&sites.finish(None, ALL, &model), Frames::All).contains("events"));
            let stacks = StackChoice::Show(Frames::First(usize::MAX));
            assert!(timeline(&steps.finish(&model), stacks).contains("ALLOC #1"));
            assert!(held(&lives.finish(Grouping::Site, ALL, &model), Frames::All).contains("events"));
            let summary = summary.finish(&model);
            assert!(diff(&analysis::diff(&summary, &summary), 10).contains("Verdicts"));
            let all = Filter::default().select(&model.definitions);
            let _ = gate.check(&summary, &owners.finish(&model, &all));
        }
    }
}

/// A program that keeps a buffer and executes the next one, in the same process, which ends.
const EXEC: &str = r##"
process id=1 pid=7 start=9 command="first"
border process=1 time=100 next_unique_id=1
event 1 t=1000 p=1 tid=7 allocated uid=1 owns=1 size=64 address=0x100 class=mesh
event 2 t=2000 p=1 tid=7 exec
end process=1 time=3000 reason=executed
process id=2 pid=7 start=9 command="second"
border process=2 time=4000 next_unique_id=1
event 3 t=5000 p=2 tid=7 allocated uid=1 owns=1 size=64 address=0x100 class=mesh
end process=2 time=9000 reason=exited
"##;

#[test]
fn a_program_that_executes_another_one_is_gone_and_neither_is_recorded_twice() {
    let mut fold = HeldFold::default();
    let model = read_text(EXEC, &mut |entry| fold.entry(entry));
    let shown = held(&fold.finish(Grouping::Test, ALL, &model), Frames::All);
    expect![[r#"
        Start at an unknown time, times in seconds after it
        Process 1: pid 7, first, executed at 0.000003
        Process 2: pid 7, second, exited at 0.000009
        3 events, none lost

        Never freed until the process ended: 1 buffer, 64 B
        Never freed until the process executed another program: 1 buffer, 64 B

          until    test                buffers  bytes  age
          at exit  (outside of tests)        1   64 B  4 µs
          at exec  (outside of tests)        1   64 B  2 µs
    "#]]
    .assert_eq(&shown);
    for (one, other) in [("time=4000 next", "time=2999 next"), ("reason=executed", "reason=interrupted")] {
        let twice = analysis::Integrity::of(&read_text(&EXEC.replace(one, other), &mut |_| {}));
        let expected = "processes 1, 2 are recordings of one process: what several of them have counts as often";
        assert_eq!(twice.problems, [expected], "{other}");
    }
}

#[test]
fn what_a_forked_child_frees_of_its_parents_gives_nothing_back() {
    let trace = "process id=1 pid=7\ntext id=1 text=\"t.py::one (call)\"\nborder process=1 next_unique_id=1\n\
        event 1 t=1 p=1 tid=7 test-begin text=1\n\
        event 2 t=10 p=1 tid=7 allocated uid=1 owns=1 size=64 address=0x100 class=mesh\n\
        event 3 t=15 p=1 tid=7 fork child=2\n\
        event 4 t=20 p=2 tid=9 free uid=1 owns=1 size=64 address=0x100 status=1\n\
        event 5 t=21 p=2 tid=9 released uid=1 owns=1 size=64 address=0x100 status=1 class=mesh\n\
        event 6 t=30 p=1 tid=7 free uid=1 owns=1 size=64 address=0x100 status=1\n\
        event 7 t=31 p=1 tid=7 released uid=1 owns=1 size=64 address=0x100 status=1 class=mesh\n\
        end process=2 time=40 reason=exited\nend process=1 time=50 reason=exited";
    let mut fold = ReportFold::default();
    let model = read_text(trace, &mut |entry| fold.entry(entry));
    let row = fold.finish(9, &model).tests.remove(0);
    assert_eq!((row.allocations, row.frees, row.bytes_left), (1, 1, 0));
    let told: Vec<_> = row.verdicts.iter().map(|it| (it.verdict.name(), it.count)).collect();
    assert_eq!(told, [("released", 1), ("inherited", 1)]);
}

/// The first free has its verdict when its thread goes on, after the others.
#[test]
fn a_timeline_is_in_the_order_of_time_whenever_its_steps_were_decided() {
    let trace = "process id=1 pid=7\nborder process=1 next_unique_id=1\n\
        event 1 t=10 p=1 tid=7 allocated uid=1 owns=1 size=64 address=0x100 class=mesh\n\
        event 2 t=20 p=1 tid=7 free uid=1 size=64 address=0x100 status=1\n\
        event 3 t=30 p=1 tid=8 allocated uid=2 owns=1 size=64 address=0x200 class=mesh\n\
        event 4 t=40 p=1 tid=8 free uid=2 size=64 address=0x200 status=1\n\
        event 5 t=41 p=1 tid=8 released uid=2 size=64 address=0x200 status=1 class=mesh\n\
        event 6 t=50 p=1 tid=7 allocated uid=3 owns=1 size=64 address=0x300 class=mesh\n\
        end process=1 time=60 reason=exited";
    let mut fold = TimelineFold::new(Query::default());
    let model = read_text(trace, &mut |entry| fold.entry(entry));
    let steps = fold.finish(&model).steps;
    let told: Vec<_> = steps.iter().map(|it| (it.time, it.what.name(), it.number, it.buffer)).collect();
    let expected = [
        (10, "alloc", 1, Some(1)),
        (20, "free", 1, Some(1)),
        (30, "alloc", 2, Some(2)),
        (40, "free", 2, Some(2)),
        (50, "alloc", 3, Some(3)),
        (60, "end", 0, Some(1)),
        (60, "end", 0, Some(3)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn nothing_is_said_to_be_none_because_nothing_is_shown() {
    let none = Ranking { order: Order::Count, top: Some(0) };
    let (mut lives, mut frees) = (HeldFold::default(), ExcessFold::default());
    let model = read(|entry| {
        lives.entry(entry);
        frees.entry(entry);
    });
    let shown = held(&lives.finish(Grouping::Site, none, &model), Frames::All);
    assert!(!shown.contains("Nothing was held") && shown.ends_with("… and 1 more (--top)\n"), "{shown}");
    let shown = excess(&frees.finish(None, none, &model), Frames::All);
    assert!(!shown.contains("No excess frees") && shown.ends_with("… and 2 sites more (--top)\n"), "{shown}");
}

#[test]
fn a_selection_that_names_nothing_says_so() {
    let of = |filter: &Filter| {
        let mut fold = ReportFold::new(filter);
        let definitions = read(|_| {}).definitions;
        let mut selection = filter.clone().select(&definitions);
        let model = read(|entry| {
            if selection.takes(entry) {
                fold.entry(entry);
            }
        });
        let mut value = fold.finish(9, &model);
        value.integrity.selected = selection.told();
        let shown = report(&value);
        shown.split_once("Only ").map_or(String::new(), |(_, shown)| shown.to_owned())
    };
    let parse = |text| Filter::parse(text).expect("parsed");
    assert_eq!(of(&parse("test thre")), "test thre\n! no test matches thre\n\nNothing matches.\n");
    assert_eq!(of(&parse("site nowhere")), "site nowhere\n! no site matches nowhere\n\nNothing matches.\n");
    let mesh9 = of(&parse("device mesh9"));
    assert!(mesh9.starts_with("device mesh9\n! no entry is of device mesh9, but of mesh"), "{mesh9}");
    assert!(mesh9.ends_with("\n\nNothing matches.\n"), "{mesh9}");
    assert!(of(&parse("test one")).starts_with("test one\n\nMemory\n"));
}
