// SPDX-License-Identifier: Apache-2.0
//! Commands on small traces, as users run them.

use std::{fs, path::Path};

use clap::Parser as _;
use tempfile::TempDir;

use super::{Status, args::Args, dispatch};
use crate::trace::{Writer, text};

/// Two tests, a function that allocates and one that frees.
const NAMES: &str = "process id=1 pid=7\nborder process=1 next_unique_id=1\n\
    text id=1 text=\"t.py::one (call)\"\ntext id=2 text=\"t.py::two (call)\"\n\
    frame id=1 address=0x1\nsymbol frame=1 function=\"make()\"\nframe id=2 address=0x2\nsymbol frame=2 function=\"drop()\"\n\
    stack id=1 frames=1 end=complete\nstack id=2 frames=2 end=complete\n";
const END: &str = "end process=1 time=90 reason=exited\n";

/// Test one allocates a buffer.
fn allocated(id: u32) -> String {
    format!(
        "event {id} t={id} p=1 tid=7 request uid={id} size=64 stack=1 class=mesh\n\
         event {id} t={id} p=1 tid=7 allocated uid={id} owns=1 size=64 address={:#x} class=mesh allocator=9\n",
        id << 12
    )
}

/// Test two frees it, and so often again.
fn freed(id: u32, again: usize) -> String {
    let address = id << 12;
    let free = |status| {
        format!("event 60 t=60 p=1 tid=7 free uid={id} size=64 address={address:#x} owns=1 status={status} stack=2\n")
    };
    let released = format!("event 61 t=60 p=1 tid=7 released uid={id} size=64 address={address:#x} allocator=9\n");
    [free(1), released, free(2).repeat(again)].concat()
}

fn begin_test(text: u32) -> String {
    format!("event 50 t={} p=1 tid=7 test-begin text={text}\n", 10 * text)
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn trace(&self, name: &str, parts: &[&str]) {
        self.trace_until(name, parts, END);
    }

    fn trace_until(&self, name: &str, parts: &[&str], end: &str) {
        let mut writer = Writer::create(&self.0.path().join(name)).expect("created");
        let lines = [&[NAMES], parts, &[end]].concat().concat();
        text::parse(&lines).expect("parsed").into_iter().for_each(|item| writer.item(item));
        writer.flush().expect("written");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("written");
    }

    /// What a command says, whose words are files where there are some of that name.
    fn run(&self, command: &str) -> (Status, String) {
        self.dispatch(command).expect("done")
    }

    /// Why a command could not be done.
    fn fail(&self, command: &str) -> String {
        format!("{:#}", self.dispatch(command).map(|_| ()).expect_err("not done"))
    }

    fn dispatch(&self, command: &str) -> anyhow::Result<(Status, String)> {
        let path = |word: &str| Some(self.0.path().join(word)).filter(|path| word.contains('.') && Path::exists(path));
        let word = |word: &str| path(word).map_or(word.to_owned(), |path| path.display().to_string());
        let words = ["tt-buftrace".to_owned()].into_iter().chain(command.split(' ').map(word));
        let mut out = Vec::new();
        let status = dispatch(Args::try_parse_from(words).expect("parsed").command, &mut out)?;
        Ok((status, String::from_utf8(out).expect("UTF-8")))
    }
}

#[test]
fn what_was_held_until_its_device_closed_is_of_the_test_that_allocated_it() {
    let files = Files::new();
    let closed = "event 70 t=70 p=1 tid=7 bulk object=9\n";
    files.trace("a.ttb", &[&begin_test(1), &allocated(11), &allocated(12), &begin_test(2), closed]);
    for (filter, buffers) in [("--test one", 2), ("--test two", 0), ("--site make", 2), ("--until 0.00000005", 2)] {
        let (_, text) = files.run(&format!("held a.ttb {filter} --json"));
        let held: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let count: u64 = held["totals"].as_array().expect("rows").iter().filter_map(|row| row["count"].as_u64()).sum();
        assert_eq!(count, buffers, "{filter}: {text}");
    }
}

#[test]
fn a_rule_finds_what_a_test_leaves_to_a_close_that_comes_later() {
    let files = Files::new();
    let close = "event 80 t=80 p=1 tid=7 bulk object=9 stack=2\n";
    files.trace("t.ttb", &[&begin_test(1), &allocated(11), &begin_test(2), close]);
    let (status, said) = files.run("check t.ttb --fail-on bulk/test");
    assert!(status == Status::Problems && said.contains("t.py::one") && !said.contains("t.py::two"), "{said}");
    assert_eq!(files.run("check t.ttb --fail-on bulk/test --baseline t.ttb").0, Status::Done);
    let (_, rows) = files.run("report t.ttb");
    let row = rows.lines().find(|line| line.contains("t.py::one ")).unwrap_or_default();
    assert!(row.contains("64 B") && row.contains("1 bulk"), "{rows}");
    assert!(!rows.contains("t.py::two"), "{rows}");
    let (_, other) = files.run("report t.ttb --test two");
    assert!(!other.contains("bulk"), "{other}");
    // That the device took it back is no free; one that comes late is.
    files.write("e.toml", "[[expect]]\nname = \"each is freed\"\nallocations = 1\nfrees = 1\n");
    assert_eq!(files.run("check t.ttb --expect e.toml").0, Status::Problems);
    let late = "event 81 t=81 p=1 tid=7 free uid=11 size=64 address=0xb000 owns=1 status=1 stack=2\n";
    files.trace("late.ttb", &[&begin_test(1), &allocated(11), &begin_test(2), close, late]);
    assert_eq!(files.run("check late.ttb --expect e.toml").0, Status::Done);
}

#[test]
fn a_test_whose_id_was_cut_is_one() {
    let files = Files::new();
    let cut = "text id=3 text=\"t.py::long…\"\n";
    files.trace("a.ttb", &[cut, &begin_test(3), &allocated(31), &freed(31, 1)]);
    assert_eq!(files.run("check a.ttb --fail-on excess/test").0, Status::Problems);
    assert_eq!(files.run("check a.ttb --fail-on excess/test>1").0, Status::Done);
}

#[test]
fn an_expectation_is_of_whole_lives_whatever_is_selected() {
    let files = Files::new();
    files.trace("a.ttb", &[&begin_test(1), &allocated(11), &begin_test(2), &freed(11, 0)]);
    files.write("e.toml", "[[expect]]\nname = \"each is freed\"\nallocations = 1\nfrees = 1\n");
    for filter in ["", " --site make", " --test one", " --device 0"] {
        assert_eq!(files.run(&format!("check a.ttb --expect e.toml{filter}")).0, Status::Done, "{filter}");
    }
    // Nothing is about a buffer that another test or function allocates.
    for filter in [" --site drop", " --test two"] {
        assert_eq!(files.run(&format!("check a.ttb --expect e.toml{filter}")).0, Status::Problems, "{filter}");
    }
}

#[test]
fn what_is_left_is_told_apart_from_what_is_gone() {
    let files = Files::new();
    files.trace("a.ttb", &[&begin_test(1), &allocated(11), &begin_test(2), &freed(11, 9)]);
    files.trace("b.ttb", &[&begin_test(1), &allocated(11), &begin_test(2), &freed(11, 1)]);
    let (_, text) = files.run("diff a.ttb b.ttb");
    assert!(text.contains("8 repeat at 1 site gone, 1 repeat at 1 site left"), "{text}");
}

#[test]
fn a_finding_without_a_stack_is_not_known_by_another_one() {
    let files = Files::new();
    let unnamed = |id| freed(id, 1).replace(" stack=2", "");
    files.trace("a.ttb", &[&begin_test(1), &allocated(11), &unnamed(11)]);
    files.trace("b.ttb", &[&begin_test(2), &allocated(22), &unnamed(22)]);
    assert_eq!(files.run("check b.ttb --fail-on excess --baseline a.ttb").0, Status::Problems);
    // Nor does a file pretend to have it.
    files.write("known.toml", "");
    assert!(files.fail("check b.ttb --fail-on excess --baseline known.toml").ends_with("it is empty"));
    let (_, said) = files.run("check b.ttb --fail-on excess --write-baseline known.toml");
    assert!(said.contains("wrote 0 findings"), "{said}");
    let (status, said) = files.run("check b.ttb --fail-on excess --baseline known.toml");
    assert!(status == Status::Problems && said.contains("which no baseline can know: 1"), "{said}");
    assert!(!said.contains("not found"), "{said}");
    files.trace("a.ttb", &[&begin_test(1), &allocated(11), &freed(11, 1)]);
    files.trace("b.ttb", &[&begin_test(2), &allocated(22), &freed(22, 1)]);
    assert_eq!(files.run("check b.ttb --fail-on excess --baseline a.ttb").0, Status::Done);
}

#[test]
fn a_late_free_is_known_by_the_allocation_wherever_it_comes() {
    let files = Files::new();
    let late = |stack| {
        format!(
            "event 40 t=40 p=1 tid=7 bulk object=9\n{}event 60 t=60 p=1 tid=7 free uid=11 size=64 address=0xb000 owns=1 \
             status=1 stack={stack}\nevent 61 t=61 p=1 tid=7 thread-exit\n",
            begin_test(2)
        )
    };
    files.trace("a.ttb", &[&begin_test(1), &allocated(11), &late(1)]);
    files.trace("b.ttb", &[&begin_test(1), &allocated(11), &late(2)]);
    let (status, said) = files.run("check b.ttb --fail-on after-close/test");
    assert!(status == Status::Problems && said.contains("t.py::one") && !said.contains("t.py::two"), "{said}");
    assert_eq!(files.run("check b.ttb --fail-on after-close --baseline a.ttb").0, Status::Done);
    assert!(files.run("diff a.ttb b.ttb").1.starts_with("Not fixed"));
}

#[test]
fn a_part_that_is_not_there_is_not_checked() {
    let files = Files::new();
    files.trace("a.ttb", &[&begin_test(1), &allocated(11), &begin_test(2), &freed(11, 1)]);
    for (part, why) in [
        ("--test three", "no test matches three"),
        ("--site keep", "no site matches keep"),
        ("--device chip0", "no entry is of device chip0, but of mesh0"),
        ("--type L1", "no entry is of type L1"),
        ("--since 1", "nothing is since 1: all ends at 0.00000009"),
    ] {
        let said = files.fail(&format!("check a.ttb --fail-on excess {part}"));
        assert!(said.starts_with("nothing is checked") && said.ends_with(why), "{said}");
    }
}

#[test]
fn a_recording_that_was_stopped_has_all_of_the_tests_that_were_over() {
    let files = Files::new();
    let over = "event 70 t=70 p=1 tid=7 test-end\n";
    let run =
        |again, end: &str| [begin_test(1), allocated(11), begin_test(2), freed(11, again), end.to_owned()].concat();
    let diff = |before: &str, after: &str| {
        let stopped = "end process=1 time=90 reason=interrupted\n";
        files.trace_until("a.ttb", &[before], stopped);
        files.trace_until("b.ttb", &[after], stopped);
        files.run("diff a.ttb b.ttb").1
    };
    assert!(diff(&run(2, over), &run(0, over)).starts_with("Fixed"));
    assert!(diff(&run(2, over), &run(2, over)).starts_with("Not fixed"));
    // In a test that was still running, more may have come.
    assert!(diff(&run(2, over), &run(0, "")).starts_with("Possibly fixed"));
    // What is held when a recording is stopped may be freed when the interpreter ends.
    let held = begin_test(1) + &allocated(12) + &run(0, over);
    assert!(diff(&held, &run(0, over)).starts_with("Possibly fixed"));
}
