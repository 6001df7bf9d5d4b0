// SPDX-License-Identifier: Apache-2.0
//! The view by a trace that is written as text: frames as golden text, and what keys do.

use std::time::Duration;

use expect_test::{Expect, expect};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{Ask, Live, Phase, draw, update};
use crate::trace::text::parse;

/// One test makes three buffers by `load`, frees the first twice, robs the second of its memory, and keeps the third;
/// two events are lost. The next test runs.
const TRACE: &str = r##"
session wall_ns=1735689599000000000
process id=1 pid=4711 command="/opt/venv/bin/python -m pytest -q"
module id=1 path="/opt/libtt_metal.so"
border process=1 next_unique_id=1
text id=1 text="tests/test_model.py::test_one (call)"
text id=2 text="tests/test_model.py::test_\u{1b}[2Jtwo (setup)"
frame id=1 module=1 address=0x10
frame id=2 module=1 address=0x20
symbol frame=2 function="model::Cache::clear()"
code id=1 function="Model.load" file="/src/model.py" first_line=3
python-frame id=3 code=1 line=4
stack id=1 frames=1,3 end=complete python=complete
stack id=2 frames=2 end=complete
event 1 t=1000000000 p=1 tid=7 test-begin text=1
event 2 t=1100000000 p=1 tid=7 request uid=1 size=4096 class=mesh stack=1
event 3 t=1100000000 p=1 tid=7 allocated uid=1 owns=1 size=4096 address=0x1000 class=mesh
event 4 t=1200000000 p=1 tid=7 request uid=2 size=65536 class=mesh type=1 stack=1
event 5 t=1200000000 p=1 tid=7 allocated uid=2 owns=1 size=65536 address=0x20 class=mesh type=1
event 6 t=1500000000 p=1 tid=7 free uid=1 size=4096 address=0x1000 status=1 stack=2
event 7 t=1500000000 p=1 tid=7 released uid=1 size=4096 status=1 class=mesh
event 8 t=1600000000 p=1 tid=7 free uid=1 size=4096 address=0x1000 status=2 stack=2
event 9 t=2000000000 p=1 tid=7 request uid=3 size=8192 class=mesh stack=1
event 10 t=2000000000 p=1 tid=7 allocated uid=3 owns=1 size=8192 address=0x1000 class=mesh
event 11 t=2100000000 p=1 tid=7 request uid=4 size=8192 class=mesh stack=1
event 12 t=2100000000 p=1 tid=7 allocated uid=4 owns=1 size=8192 address=0x2000 class=mesh
event 13 t=2200000000 p=1 tid=7 request uid=5 size=4096 class=mesh stack=2
event 14 t=2200000000 p=1 tid=7 allocated uid=5 owns=1 size=4096 address=0x1000 class=mesh
loss process=1 after=2300000000 before=2400000000 count=2 cause=ring-full
problem text="something odd"
event 17 t=4000000000 p=1 tid=7 test-begin text=2
"##;

fn live_of(text: &str) -> Live {
    let mut live = Live::new(Phase::Following, false);
    for item in parse(text).expect("every line is an item") {
        live.watched.item(item);
    }
    live.refresh(Duration::ZERO);
    live
}

fn screen(live: &Live, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(live, frame)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| format!("{}\n", line(y).trim_end())).collect()
}

/// Presses keys: `<Enter>` and the like, and characters.
fn press(live: &mut Live, keys: &str) -> Vec<Ask> {
    let named = [
        ("<Enter>", KeyCode::Enter),
        ("<Esc>", KeyCode::Esc),
        ("<Tab>", KeyCode::Tab),
        ("<Down>", KeyCode::Down),
        ("<Up>", KeyCode::Up),
        ("<End>", KeyCode::End),
        ("<Back>", KeyCode::Backspace),
    ];
    let (mut rest, mut asked) = (keys, Vec::new());
    while let Some(c) = rest.chars().next() {
        let found = named.iter().find(|(name, _)| rest.starts_with(name));
        let (length, code) = found.map_or((c.len_utf8(), KeyCode::Char(c)), |(name, code)| (name.len(), *code));
        asked.extend(update(live, KeyEvent::new(code, KeyModifiers::NONE)));
        rest = &rest[length..];
    }
    asked
}

fn shows(live: &Live, expected: &str) -> bool {
    screen(live, 120, 30).contains(expected)
}

fn check(width: u16, height: u16, keys: &str, expected: &Expect) {
    let mut live = live_of(TRACE);
    press(&mut live, keys);
    expected.assert_eq(&screen(&live, width, height));
}

#[test]
fn the_screen_of_an_old_terminal_has_everything() {
    check(
        80,
        24,
        "",
        &expect![[r#"
         tt-buftrace live  pid 4711 python -m pytest -q
         following 2.2 s  2 LOST (ring-full)  1 problem: p  15 events  2.0 allocs/s  0.4
         !! overlap 1  ! repeat 1  released 1
          memory          live  buffers      peak  history            1 memory by bytes
          mesh0 L1    64.0 KiB        1  64.0 KiB              ██████████
          mesh0 DRAM  20.0 KiB        3  20.0 KiB             ▁▁▁▁    ▃▆█
          verdict     times  last at  site                 test  2 verdicts by severity
        > !! overlap      1    2.2 s  model::Cache::clear  …odel.py::test_one
          !  repeat       1    1.6 s  model::Cache::clear  …odel.py::test_one
             growth      held  buffers  allocated at                  3 sites by growth
          +80.0 KiB  80.0 KiB        3  ? (libtt_metal) < Model.load (model.py)
            +4096 B    4096 B        1  model::Cache::clear
                allocs  frees       left  verdicts             test     4 tests by time
          runs       0      0        0 B                       …l.py::test_\u{1b}[2Jtwo
                     5      1  +84.0 KiB  1 overlap, 1 repeat  …test_model.py::test_one








         q quit  space freeze  f filter  / search  s sort  Tab pane  Enter open  ? help
    "#]],
    );
}

#[test]
fn a_larger_screen_shows_more() {
    check(
        120,
        30,
        "",
        &expect![[r#"
         tt-buftrace live  pid 4711 python -m pytest -q
         following 2.2 s  2 LOST (ring-full)  1 problem: p  15 events  2.0 allocs/s  0.4 frees/s
         !! overlap 1  ! repeat 1  released 1
          memory          live  buffers      peak  history                                                    1 memory by bytes
          mesh0 L1    64.0 KiB        1  64.0 KiB                                   █████████████████████████████
          mesh0 DRAM  20.0 KiB        3  20.0 KiB                                 ▁▁▁▁▁▁▁▁▁▁▁▁             ▃▃▃▆▆█
          verdict     times  last at  site                 test                                          2 verdicts by severity
        > !! overlap      1    2.2 s  model::Cache::clear  tests/test_model.py::test_one
          !  repeat       1    1.6 s  model::Cache::clear  tests/test_model.py::test_one
             growth      held  buffers  allocated at                                                          3 sites by growth
          +80.0 KiB  80.0 KiB        3  ? (libtt_metal) < Model.load (model.py)
            +4096 B    4096 B        1  model::Cache::clear
                allocs  frees       left  verdicts             test                                             4 tests by time
          runs       0      0        0 B                       tests/test_model.py::test_\u{1b}[2Jtwo
                     5      1  +84.0 KiB  1 overlap, 1 repeat  tests/test_model.py::test_one














         q quit  space freeze  f filter  / search  s sort  Tab pane  Enter open  ? help
    "#]],
    );
}

#[test]
fn a_small_screen_shows_one_pane_and_a_tiny_one_a_sentence() {
    check(
        60,
        10,
        "",
        &expect![[r#"
         tt-buftrace live  pid 4711 python -m pytest -q
         following 2.2 s  2 LOST (ring-full)  1 problem: p  15 event
         !! overlap 1  ! repeat 1  released 1
          verdict     times  last at  site          test
        > !! overlap      1    2.2 s  Cache::clear  …:test_one
          !  repeat       1    1.6 s  Cache::clear  …:test_one



         q quit  space freeze  f filter  / search  s sort  Tab pane
    "#]],
    );
    check(
        30,
        3,
        "",
        &expect![[r#"
        too small: 40 columns and 8 li
        nes are needed

    "#]],
    );
    for (width, height) in [(1, 1), (0, 0), (40, 8), (39, 8), (41, 200), (500, 9)] {
        screen(&live_of(TRACE), width, height);
    }
}

#[test]
fn a_verdict_opens_with_its_stacks() {
    check(
        80,
        24,
        "<Enter>",
        &expect![[r#"
         tt-buftrace live  pid 4711 python -m pytest -q
         following 2.2 s  2 LOST (ring-full)  1 problem: p  15 events  2.0 allocs/s  0.4
         !! overlap 1  ! repeat 1  released 1
         verdict                                                            line 1 of 7
        overlap, 1 time: shares bytes with another live buffer of the same allocator

        this allocation:
          #0 model::Cache::clear() libtt_metal.so+0x20
        the other buffer's allocation:
          #0 ? libtt_metal.so+0x10
          #1 Model.load (/src/model.py:4)












         q close  ↑↓ scroll  / search  n next
    "#]],
    );
}

#[test]
fn a_frozen_screen_stays_and_growth_is_measured_from_it() {
    let mut live = live_of(TRACE);
    press(&mut live, " ");
    let allocation = "event 18 t=5000000000 p=1 tid=7 request uid=6 size=32768 class=mesh stack=1\n\
        event 19 t=5000000000 p=1 tid=7 allocated uid=6 owns=1 size=32768 address=0x3000 class=mesh\n";
    parse(allocation).expect("parsed").into_iter().for_each(|item| live.watched.item(item));
    live.refresh(Duration::ZERO);
    assert!(shows(&live, "FROZEN at 2.2 s") && shows(&live, "mesh0 DRAM  20.0 KiB"), "{}", screen(&live, 120, 30));
    assert!(shows(&live, "17 events"), "what is lost or read is always told");
    press(&mut live, " ");
    assert!(!shows(&live, "FROZEN") && shows(&live, "mesh0 DRAM  52.0 KiB"), "{}", screen(&live, 120, 30));
    assert!(shows(&live, "by growth since 2.2 s") && shows(&live, "+32.0 KiB"), "{}", screen(&live, 120, 30));
    press(&mut live, "b");
    assert!(shows(&live, "sites by growth") && !shows(&live, "since"));
}

#[test]
fn a_filter_is_typed_or_taken_from_a_row() {
    let mut live = live_of(TRACE);
    press(&mut live, "fdevice mesh0, type l2");
    assert!(shows(&live, "filter by device, type, test, site: device mesh0, type l2_"));
    press(&mut live, "<Enter>");
    assert!(shows(&live, "a type is DRAM, L1"), "what is wrong is said, and can be corrected");
    press(&mut live, "<Back>1<Enter>");
    assert!(shows(&live, "ONLY device mesh0, type L1") && !shows(&live, "mesh0 DRAM"), "{}", screen(&live, 120, 30));
    press(&mut live, "<Esc>");
    assert!(shows(&live, "mesh0 DRAM") && !shows(&live, "ONLY"));
    // The second row of memory, by bytes.
    press(&mut live, "1<Down><Enter>");
    assert!(shows(&live, "ONLY device mesh0, type DRAM"), "{}", screen(&live, 120, 30));
}

#[test]
fn panes_are_chosen_sorted_and_zoomed() {
    let mut live = live_of(TRACE);
    assert!(shows(&live, "1 memory by bytes"));
    press(&mut live, "1s");
    assert!(shows(&live, "1 memory by peak"));
    press(&mut live, "ssz");
    assert!(shows(&live, "1 memory by bytes") && !shows(&live, "2 verdicts"));
    press(&mut live, "<Tab>");
    assert!(shows(&live, "2 verdicts") && !shows(&live, "1 memory"));
}

#[test]
fn what_is_searched_is_selected() {
    let mut live = live_of(TRACE);
    press(&mut live, "4/TWO<Enter>");
    let selected = |live: &Live| screen(live, 120, 30).lines().find(|line| line.starts_with('>')).map(str::to_owned);
    assert!(selected(&live).is_some_and(|line| line.contains("two")), "{}", screen(&live, 120, 30));
    press(&mut live, "/one<Enter>");
    assert!(selected(&live).is_some_and(|line| line.contains("test_one")));
    press(&mut live, "/three<Enter>");
    assert!(shows(&live, "no row has `three`"));
    press(&mut live, "?/memory<Enter>");
    assert!(shows(&live, "used or released by another") && !shows(&live, "Keys"), "{}", screen(&live, 120, 30));
    press(&mut live, "q");
    assert!(shows(&live, "2 verdicts"));
}

#[test]
fn a_timeline_is_asked_for_and_shown_when_it_is_there() {
    let mut live = live_of(TRACE);
    let asked = press(&mut live, "a0x2g<Enter>");
    assert!(asked.is_empty() && shows(&live, "an address is a number"));
    let asked = press(&mut live, "<Back>0<Enter>");
    let [Ask::Timeline(query, filter)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((query.address, filter.told()), (Some(0x20), String::new()));
    assert!(shows(&live, "timeline of 0x20, all devices") && shows(&live, "reading the trace"));
    live.screen.answer("a step\nanother");
    assert!(shows(&live, "another"));
    press(&mut live, "q");
    live.screen.answer("too late");
    assert!(!shows(&live, "too late"));
    // Of the verdict that is selected, the memory is known.
    let asked = press(&mut live, "2t");
    let [Ask::Timeline(query, filter)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((query.address, filter.told()), (Some(0x1000), "device mesh0, type DRAM".to_owned()));
}

#[test]
fn q_closes_a_text_and_then_asks_to_quit() {
    let mut live = live_of(TRACE);
    assert!(press(&mut live, "pq").is_empty());
    assert!(matches!(press(&mut live, "q")[..], [Ask::Quit]));
    press(&mut live, "fq");
    assert!(shows(&live, "site: q_"), "what is typed is no command");
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(matches!(update(&mut live, interrupt), Some(Ask::Quit)));
}

#[test]
fn names_come_when_they_are_known() {
    let mut live = live_of(TRACE);
    assert!(!shows(&live, "Allocator::create"));
    let symbol = parse("symbol frame=1 function=\"model::Allocator::create(int)\"").expect("parsed");
    symbol.into_iter().for_each(|item| live.watched.item(item));
    live.refresh(Duration::ZERO);
    assert!(shows(&live, "model::Allocator::create < Model.load"), "{}", screen(&live, 120, 30));
}

#[test]
fn silence_and_the_end_are_said() {
    let mut live = live_of(TRACE);
    live.refresh(Duration::from_secs(12));
    assert!(shows(&live, "nothing new for 12 s: the recorder may be gone"));
    parse("end process=1 time=6000000000 reason=exited")
        .expect("parsed")
        .into_iter()
        .for_each(|it| live.watched.item(it));
    live.refresh(Duration::from_secs(12));
    assert!(shows(&live, "exited at 6.000000"), "{}", screen(&live, 120, 30));
    live.screen.phase = Phase::Waiting("process 7 has not loaded TT-Metal yet".to_owned());
    assert!(shows(&live, "waiting: process 7"));
}

#[test]
fn a_thousand_sites_and_a_hundred_thousand_buffers_take_a_moment() {
    use std::fmt::Write as _;
    let mut text = String::from("process id=1 pid=7\nborder process=1 next_unique_id=1\n");
    for site in 1..=1000 {
        let _ = write!(text, "frame id={site} address={site}\nstack id={site} frames={site} end=complete\n");
    }
    for id in 1..=100_000_u32 {
        let (stack, address) = (id % 1000 + 1, id * 64);
        let _ = write!(
            text,
            "event {0} t={id} p=1 tid=7 request uid={id} size=64 class=mesh stack={stack}\n\
            event {1} t={id} p=1 tid=7 allocated uid={id} owns=1 size=64 address={address} class=mesh\n",
            2 * id,
            2 * id + 1
        );
    }
    let mut live = live_of(&text);
    let begin = std::time::Instant::now();
    for _ in 0..10 {
        live.refresh(Duration::ZERO);
        screen(&live, 160, 50);
    }
    // Four times a second; far less in a release build, and on a machine that does nothing else.
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?} for ten pictures", begin.elapsed());
}
