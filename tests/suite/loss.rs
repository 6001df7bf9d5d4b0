// SPDX-License-Identifier: Apache-2.0
//! What has no room in the ring buffer: the target does not wait, and what is lost is counted and confirms nothing untrue.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use buftrace::trace::{Kind, kind_word};

use crate::{
    account::{by_trace, by_truth},
    target::{Finished, Target, lookalike},
    tool::{Recorder, can_probe, confirmed, items, json, path},
};

#[test]
fn what_a_small_ring_loses_is_counted() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (target, recorder, trace) = burst()?;
    target.go()?;
    let target = target.finish()?;
    let (status, said) = recorder.finish()?;
    assert!(status.success(), "{said}");
    assert_loss_is_counted(&target, &trace)?;
    Ok(())
}

#[test]
fn a_stopped_recorder_does_not_stop_the_target() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (target, recorder, trace) = burst()?;
    recorder.signal("-STOP")?;
    target.go()?;
    // It ends while nobody empties the ring.
    let target = target.finish()?;
    recorder.signal("-CONT")?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains("the process ended after "), "{status}: {said}");
    assert!(assert_loss_is_counted(&target, &trace)? > 0);
    Ok(())
}

/// A target that allocates and frees at full speed, and a recorder with as little room as can be had.
fn burst() -> Result<(Target, Recorder, PathBuf)> {
    let target = Target::start(lookalike("pimpl", &["burst.py", "20000"]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace), "--ring", "1"])?;
    Ok((target, recorder, trace))
}

/// Asserts that each event is there or counted as lost, and that nothing untrue is confirmed; returns the number lost.
fn assert_loss_is_counted(target: &Finished, trace: &Path) -> Result<u64> {
    target.succeeded()?;
    let report = json(&["report", path(trace)])?;
    let integrity = &report["integrity"];
    let counter = |name: &str| {
        let row = integrity["counters"].as_array().into_iter().flatten().find(|row| row["name"] == name);
        row.and_then(|row| row["value"].as_u64()).with_context(|| format!("no counter {name}"))
    };
    let losses = integrity["losses"].as_array().into_iter().flatten();
    let lost: u64 = losses.filter_map(|row| row["events"].as_u64()).sum();
    assert_eq!(counter("sent")?, counter("kept")? + lost);
    assert_eq!(counter("kept")?, integrity["events"].as_u64().context("a number of events")?);
    assert_eq!(integrity["unaccounted"], 0);

    // The probes themselves counted each hit, lost or not.
    let recorded = items(trace)?;
    let steps = by_truth(&target.truth()?);
    for kind in [Kind::Allocated, Kind::Free, Kind::Released] {
        let done = steps.iter().filter(|step| step.kind == kind).count() as u64;
        assert_eq!(counter(&format!("hits.{}", kind_word(kind)))?, done);
    }
    // Every buffer was released once.
    for row in report["verdicts"].as_array().context("the report has verdicts")? {
        assert!(row["verdict"] == "released" || row["confirmed"] == 0, "{row}");
    }
    let released = steps.iter().filter(|step| step.kind == Kind::Released).count() as u64;
    let found = confirmed(trace, "released")?;
    assert!(found <= released && (lost > 0 || found == released), "{found} of {released}");
    let truth: BTreeSet<_> = steps.into_iter().collect();
    assert!(by_trace(&recorded).iter().all(|step| truth.contains(step)), "a step that was none");
    Ok(lost)
}
