// SPDX-License-Identifier: Apache-2.0
//! The end of a trace tells what its events come to. For each report of the suite `tool::text` compares the two; here are
//! the other views, and recordings that end otherwise.

use std::{fs, path::Path, sync::Arc};

use anyhow::Result;
use buftrace::{
    analysis::Epilogue,
    trace::{Reader, open},
};

use crate::{
    target::{Target, lookalike, lookalike_pytest, record},
    tool::{Recorder, can_probe, copy_events, json, path, run, text},
};

const SCENARIOS: [&str; 2] = ["scenarios/test_lifecycle.py", "scenarios/test_excess.py"];

fn has_epilogue(trace: &Path) -> Result<bool> {
    let mut reader = Reader::with_epilogue(&Arc::new(open(trace)?))?;
    reader.by_ref().for_each(drop);
    Ok(Epilogue::from_bytes(reader.epilogue()).is_some())
}

#[test]
fn every_view_is_the_same_without_the_events() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (_target, trace) = record(lookalike_pytest("pimpl", &SCENARIOS))?;
    assert!(has_epilogue(&trace)?);
    let copy = trace.with_file_name("events.ttb");
    assert!(copy_events(&trace, &copy)? && !has_epilogue(&copy)?);
    for view in [
        "report",
        "report --top 1",
        "excess",
        "excess --by test",
        "excess --by device",
        "excess --by type",
        "excess --by verdict --json",
        "excess --sort time --top 2 --frames all",
        "held",
        "held --by test",
        "held --by device --json",
        "held --by type",
    ] {
        let told = |trace| text(&[&view.split(' ').collect::<Vec<_>>()[..], &[path(trace)]].concat());
        assert_eq!(told(&trace)?, told(&copy)?, "{view}");
    }
    // So is what a filter selects, which the end of the trace may tell or not.
    let both = |words: &[&str]| -> Result<[Vec<u8>; 2]> {
        let told = |trace| run(&[&words[..1], &[path(trace)], &words[1..]].concat());
        Ok([told(&trace)?.stdout, told(&copy)?.stdout])
    };
    for words in [
        ["report", "--type=L1"],
        ["report", "--type=DRAM"],
        ["report", "--device=mesh0"],
        ["report", "--device=0"],
        ["report", "--device=chip1"],
        ["report", "--until=1"],
        ["report", "--test=*excess*"],
        ["report", "--site=*free*"],
        ["report", "--since=0.01"],
        ["timeline", "--test=*lifecycle*"],
        ["excess", "--test=*excess*"],
        ["excess", "--verdict=repeat"],
        ["excess", "--device=0"],
        ["excess", "--since=0.01"],
        ["held", "--device=mesh0"],
        ["held", "--type=L1"],
        ["held", "--site=*"],
    ] {
        for words in [&words[..], &[words[0], words[1], "--json"]] {
            let [told, by_events] = both(words)?;
            assert_eq!(told, by_events, "{words:?}");
        }
    }
    for filter in [&[][..], &["--test", "*excess*"]] {
        let diff = |one, other| text(&[&["diff", path(one), path(other)], filter].concat());
        assert_eq!(diff(&copy, &trace)?, diff(&trace, &copy)?, "{filter:?}");
    }
    Ok(())
}

/// Makes five buffers of so many bytes.
const FIVE: &str = "
import os, sys, attach, lookalike
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
for _ in range(5):
    mesh.empty(int(sys.argv[1])).deallocate()
os._exit(0)
";

#[test]
fn a_trace_that_is_given_another_name_has_not_the_end_of_another() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let start = |size| Target::start(lookalike("pimpl", &["-c", FIVE, size]));
    let (first, second) = (start("4096")?, start("8192")?);
    let (trace, moved) = (first.path("trace.ttb"), first.path("moved.ttb"));
    let pids = [first.pid(), second.pid()];
    let recorder = Recorder::attach(&["-p", &pids[0], "-o", path(&trace)])?;
    fs::rename(&trace, &moved)?;
    let other = Recorder::attach(&["-p", &pids[1], "-o", path(&trace)])?;
    first.go()?;
    second.go()?;
    let _files = (first.finish()?, second.finish()?);
    for recorder in [recorder, other] {
        let (status, said) = recorder.finish()?;
        assert!(status.success(), "{status}: {said}");
    }
    for (trace, pid, bytes) in [(&moved, &pids[0], 5 * 4096), (&trace, &pids[1], 5 * 8192)] {
        let report = json(&["report", path(trace)])?;
        assert_eq!(report["integrity"]["processes"][0]["pid"].to_string(), *pid);
        assert_eq!(report["totals"][0]["bytes_allocated"], bytes);
    }
    Ok(())
}

#[test]
fn a_recording_that_was_killed_has_no_epilogue_and_is_read_by_its_events() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike_pytest("pimpl", &SCENARIOS))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    recorder.signal("-KILL")?;
    recorder.finish()?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    assert!(!has_epilogue(&trace)?);
    // It may end within a chunk, which is damage.
    let report = run(&["report", path(&trace)])?;
    assert!([Some(0), Some(1)].contains(&report.status.code()), "{report:?}");
    Ok(())
}
