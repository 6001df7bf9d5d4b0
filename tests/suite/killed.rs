// SPDX-License-Identifier: Apache-2.0
//! Recorders and targets that are killed at random moments, while probes are attached, too: the trace that is left reads,
//! and confirms nothing untrue. `cargo xtask soak --kills N` kills N of each.

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result};
use buftrace::trace::{Item, Record};
use serde_json::Value;

use crate::{
    account::{Step, by_trace, by_truth},
    left::{Held, assert_unprobed, wait_until},
    survival::{PATIENCE, STEADY, end_reason, events, stop_steady},
    target::{Target, lookalike},
    tool::{Recorder, can_probe, items, number, path, run},
};

/// The latest moment, in milliseconds after the recorder was started, or after its file is there.
const LATEST: u64 = 2500;
/// Every so many are killed from the start on, while probes are attached; the others from when there is a file.
const EARLY: u32 = 4;
/// How many recorders are killed at one target.
const AT_ONE_TARGET: u32 = 10;
/// A second between two flushes, and what a busy machine adds to it.
const UNWRITTEN: Duration = Duration::from_secs(2);

#[test]
fn a_recorder_killed_at_any_moment_leaves_a_trace_that_reads() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (mut left, mut kills) = (0, number("BUFTRACE_KILLS", 20));
    while kills > 0 {
        let some = kills.min(AT_ONE_TARGET);
        kills -= some;
        left += recorders_killed_at_one_target(some)?;
    }
    eprintln!("{left} recorders left a trace");
    Ok(())
}

/// Returns how many traces there are.
fn recorders_killed_at_one_target(kills: u32) -> Result<u32> {
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    target.go()?;
    let (mut held, mut left) = (Held::default(), Vec::new());
    for kill in 0..kills {
        let trace = target.path(&format!("{kill}.ttb"));
        let recorder = Recorder::start(&["-p", &target.pid(), "-o", path(&trace)])?;
        let moment = sleep_until_some_moment(kill % EARLY == 0, &trace);
        held.add(recorder.pid())?;
        recorder.signal("-KILL")?;
        let killed = since_boot()?;
        assert_eq!(recorder.finish()?.0.signal(), Some(9));
        if has_begun(&trace) {
            assert_nearly_whole(&trace, killed).with_context(|| format!("killed after {moment:?}"))?;
            left.push(trace);
        }
    }
    held.assert_gone();
    for trace in &left {
        if items(trace)?.iter().any(|item| matches!(item, Item::Record(Record::Probe(_)))) {
            assert_unprobed(trace, target.pid)?;
        }
    }
    // It has gone on all the time, and knows what it did.
    let traces: Vec<Vec<Step>> = left.iter().map(|trace| Ok(by_trace(&items(trace)?))).collect::<Result<_>>()?;
    let truth = by_truth(&stop_steady(target)?.truth()?);
    for steps in &traces {
        assert_is_part(steps, &truth);
    }
    Ok(traces.len() as u32)
}

#[test]
fn a_target_killed_at_any_moment_leaves_a_trace_that_reads() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let kills = number("BUFTRACE_KILLS", 20);
    let mut recorded = 0;
    for kill in 0..kills {
        let mut target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
        target.go()?;
        let trace = target.path("trace.ttb");
        let recorder = Recorder::start(&["-p", &target.pid(), "-o", path(&trace)])?;
        let mut held = Held::default();
        let moment = sleep_until_some_moment(kill % EARLY == 0, &trace);
        held.add(recorder.pid())?;
        target.kill()?;
        let target = target.finish()?;
        let (status, said) = recorder.finish()?;
        held.assert_gone();
        if !has_begun(&trace) {
            let early = said.contains("ended") || said.contains("no process");
            assert!(early, "killed after {moment:?}, and the recorder: {status}: {said}");
            continue;
        }
        assert!(status.success(), "killed after {moment:?}: {said}");
        let recorded_items = items(&trace)?;
        assert_eq!(end_reason(&recorded_items), Some("exited"), "killed after {moment:?}");
        // What it had when it was killed, it held.
        assert_confirms_nothing_untrue(&trace, &["released", "pre-attach", "held"])?;
        let (steps, truth) = (by_trace(&recorded_items), by_truth(&target.truth()?));
        if let Some(behind) = assert_is_part(&steps, &truth) {
            // The target writes down what it did after it did it: the trace has all of that.
            assert_eq!(behind, truth.len(), "killed after {moment:?}: the last steps are missing");
        }
        recorded += 1;
    }
    eprintln!("{recorded} of {kills} targets were recorded when they were killed");
    Ok(())
}

/// Sleeps, but not for long: from now on if `early`, or from when there is a trace; returns for how long.
fn sleep_until_some_moment(early: bool, trace: &Path) -> Duration {
    if !early {
        wait_until(PATIENCE, || has_begun(trace));
    }
    // What hash maps get their keys from.
    let moment = Duration::from_millis(RandomState::new().hash_one(0) % LATEST);
    sleep(moment);
    moment
}

/// Whether there is a trace, not only the place for it.
fn has_begun(trace: &Path) -> bool {
    fs::metadata(trace).is_ok_and(|trace| trace.len() > 0)
}

fn since_boot() -> Result<Duration> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    Ok(Duration::from_secs_f64(uptime.split(' ').next().unwrap_or_default().parse()?))
}

/// Asserts that a trace of a killed recorder reads, and that nothing but the last second is missing.
fn assert_nearly_whole(trace: &Path, killed: Duration) -> Result<()> {
    let recorded = items(trace)?;
    assert_eq!(end_reason(&recorded), None);
    assert!(events(&recorded).map(|event| event.sequence).eq(0..events(&recorded).count() as u64));
    assert_confirms_nothing_untrue(trace, &["released", "pre-attach"])?;
    let session = recorded.iter().find_map(|item| match item {
        Item::Record(Record::Session(session)) => Some(Duration::from_nanos(session.boot_ns)),
        _ => None,
    });
    let border = recorded.iter().find_map(|item| match item {
        Item::Record(Record::Border(border)) => Some(border.time),
        _ => None,
    });
    if let (Some(session), Some(border)) = (session, border) {
        let last = events(&recorded).last().map_or(border, |event| event.time.max(border));
        let missing = killed.saturating_sub(session + Duration::from_nanos(last));
        assert!(missing < UNWRITTEN, "the last {missing:?} are missing");
    }
    Ok(())
}

/// Asserts that a trace reads, and that nothing is confirmed but what the target does: it releases every buffer, once.
fn assert_confirms_nothing_untrue(trace: &Path, what_it_does: &[&str]) -> Result<()> {
    let report = run(&["report", path(trace), "--json"])?;
    assert!([Some(0), Some(1)].contains(&report.status.code()), "{report:?}");
    let report: Value = serde_json::from_slice(&report.stdout)?;
    for row in report["verdicts"].as_array().context("the report has verdicts")? {
        assert!(what_it_does.iter().any(|it| row["verdict"] == *it) || row["confirmed"] == 0, "{row}");
    }
    Ok(())
}

/// Asserts that a trace's steps are a part of the truth, without a gap, perhaps with a last few that the target had no time
/// to write down; returns where in the truth they end, `None` if there are no steps.
#[track_caller]
fn assert_is_part(steps: &[Step], truth: &[Step]) -> Option<usize> {
    let first = steps.first()?;
    let begin = truth.iter().position(|step| step == first).unwrap_or(truth.len());
    let both = steps.len().min(truth.len() - begin);
    assert_eq!(steps[..both], truth[begin..begin + both]);
    assert!(steps.len() - both <= 3, "{} steps behind the truth", steps.len() - both);
    Some(begin + both)
}
