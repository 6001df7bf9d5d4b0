// SPDX-License-Identifier: Apache-2.0
//! What changes about the machine while it is recorded on: its clocks, and its processors. Where that would be felt by
//! others it is done in a virtual machine alone (`cargo xtask vm`).

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use buftrace::trace::{Event, Item, Record, Session};

use crate::{
    account::{by_trace, by_truth},
    left::wait_until,
    survival::{PATIENCE, STEADY, events, stop_steady},
    target::{Target, lookalike},
    tool::{Recorder, can_probe, items, path, patience, program},
};

/// How far clocks are set, in seconds: further than any of these recordings takes.
const FAR: u64 = 1_000_000;

/// Whether the machine is the tests' own; says so and wants the test to return where it is not.
fn is_our_own() -> bool {
    let own = std::env::var_os("BUFTRACE_OWN_MACHINE").is_some();
    if !own {
        eprintln!("skipped: others would feel it; `cargo xtask vm` has a machine of its own");
    }
    own
}

fn session(items: &[Item]) -> Result<&Session> {
    let session = |item| match item {
        &Item::Record(Record::Session(ref session)) => Some(session),
        _ => None,
    };
    items.iter().find_map(session).context("a trace has a session")
}

/// Waits until a steady target has done something more.
fn go_on(target: &Target) -> Result<()> {
    let before = fs::metadata(target.path("truth")).map_or(0, |truth| truth.len());
    wait_until(PATIENCE, || fs::metadata(target.path("truth")).is_ok_and(|truth| truth.len() > before + 10_000));
    Ok(())
}

/// Asserts that the events are in order, and that none is further away than the recording took.
#[track_caller]
fn assert_in_time(items: &[Item]) {
    let times: Vec<Duration> = events(items).map(|event: &Event| Duration::from_nanos(event.time)).collect();
    assert!(times.is_sorted(), "events are not in the order of their times");
    let (first, last) = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
    // From the beginning of the recording on, and not all at one moment.
    assert!(Duration::ZERO < first && first < last && last < patience(120), "from {first:?} to {last:?}");
}

/// A command in a time name space whose clocks are far ahead of the machine's.
fn ahead(command: &Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--time", "--fork", "--kill-child"]).arg(format!("--boottime={FAR}"));
    unshare.arg(format!("--monotonic={FAR}")).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        unshare.current_dir(folder);
    }
    unshare
}

/// Says so where there are no time name spaces.
fn can_be_ahead() -> bool {
    let can = ahead(&Command::new("true")).status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: there are no time name spaces here");
    }
    can
}

#[test]
fn a_target_with_clocks_of_its_own_is_recorded_by_the_machines() -> Result<()> {
    if !can_probe() || !can_be_ahead() {
        return Ok(());
    }
    let target = Target::start(ahead(&lookalike("pimpl", &["-c", STEADY])))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    go_on(&target)?;
    let target = stop_steady(target)?;
    assert!(recorder.finish()?.0.success());
    let items = items(&trace)?;
    assert_in_time(&items);
    assert_eq!(by_trace(&items), by_truth(&target.truth()?));
    Ok(())
}

#[test]
fn a_recorder_with_clocks_of_its_own_records_by_the_machines() -> Result<()> {
    if !can_probe() || !can_be_ahead() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    let trace = target.path("trace.ttb");
    let mut command = Command::new(program());
    command.args(["record", "-p", &target.pid(), "-o", path(&trace)]);
    let mut recorder = Recorder::launch(ahead(&command))?;
    recorder.wait_for("recording ")?;
    target.go()?;
    go_on(&target)?;
    let _target = stop_steady(target)?;
    assert!(recorder.finish()?.0.success());
    assert_in_time(&items(&trace)?);
    Ok(())
}

/// Sets the machine's clock so many seconds ahead.
fn set_clock(seconds: i64) -> Result<()> {
    let status = Command::new("date").args(["--set", &format!("{seconds} seconds")]).status()?;
    ensure!(status.success(), "failed to set the clock");
    Ok(())
}

#[test]
fn a_clock_that_is_set_moves_no_event() -> Result<()> {
    if !can_probe() || !is_our_own() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    let trace = target.path("trace.ttb");
    let before = std::time::UNIX_EPOCH.elapsed()?;
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    let after = std::time::UNIX_EPOCH.elapsed()?;
    target.go()?;
    go_on(&target)?;
    set_clock(FAR.cast_signed())?;
    go_on(&target)?;
    set_clock(-2 * FAR.cast_signed())?;
    go_on(&target)?;
    set_clock(FAR.cast_signed())?;
    let target = stop_steady(target)?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains(" 0 lost"), "{status}: {said}");
    let items = items(&trace)?;
    assert_in_time(&items);
    assert_eq!(by_trace(&items), by_truth(&target.truth()?));
    let begin = Duration::from_nanos(session(&items)?.wall_ns);
    assert!(before <= begin && begin <= after, "{begin:?} is not from {before:?} to {after:?}");
    Ok(())
}

#[test]
fn a_processor_that_is_taken_away_takes_no_event_along() -> Result<()> {
    if !can_probe() || !is_our_own() {
        return Ok(());
    }
    const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    go_on(&target)?;
    fs::write(ONLINE, "0").context("failed to take a processor away")?;
    go_on(&target)?;
    fs::write(ONLINE, "1").context("failed to give a processor back")?;
    go_on(&target)?;
    // What was counted on it is still there.
    fs::write(ONLINE, "0").context("failed to take a processor away")?;
    let target = stop_steady(target)?;
    let (status, said) = recorder.finish()?;
    fs::write(ONLINE, "1").context("failed to give a processor back")?;
    assert!(status.success() && said.contains(" 0 lost") && !said.contains("please report"), "{status}: {said}");
    let items = items(&trace)?;
    assert_in_time(&items);
    assert_eq!(by_trace(&items), by_truth(&target.truth()?));
    Ok(())
}
