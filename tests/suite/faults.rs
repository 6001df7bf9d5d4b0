// SPDX-License-Identifier: Apache-2.0
//! Faults of the machine around a recording: no room in the file, a file that is slow, a target that is stopped or killed for
//! its memory, more threads, processes and stacks than there is room for.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::Command,
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use buftrace::trace::{Item, Record};

use crate::{
    account::{by_trace, by_truth},
    group::Group,
    left::{Held, wait_until},
    survival::{PATIENCE, STEADY, end_reason, events, stop_steady},
    target::{Target, lookalike, record},
    tool::{Recorder, can_probe, confirmed, items, json, path},
};

/// Allocates and frees from a hundred thousand places, which no table of stacks has room for, twice over.
const PLACES: &str = "
import attach, lookalike
from lookalike import library
mesh = lookalike.MeshDevice(1)
create, drop = library.la_tensor_create, library.la_tensor_drop
code = compile('drop(create(mesh._handle, 0, 4096, 2048))\\n' * 50_000, 'places', 'exec')
attach.wait_for_tracer()
exec(code)
exec(code)
lookalike.write_truth()
mesh.close()
";

/// Keeps some tensors for good, and allocates and frees others in no order.
const CHURN: &str = "
import random, attach, lookalike
from lookalike import library
mesh = lookalike.MeshDevice(1)
create, drop = library.la_tensor_create, library.la_tensor_drop
attach.wait_for_tracer()
weights = [mesh.empty(4096) for _ in range(10)]
slots = [None] * 200
for _ in range(60_000):
    slot = random.randrange(len(slots))
    if slots[slot]:
        drop(slots[slot])
    slots[slot] = create(mesh._handle, random.randrange(2), 2048 * random.randrange(1, 9), 2048)
for tensor in slots:
    if tensor:
        drop(tensor)
for weight in [*weights, mesh]:
    weight.leak()
lookalike.write_truth()
";

/// Takes host memory, without an end, once it has allocated a tensor.
const GREEDY: &str = "
import attach, lookalike
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
tensor = mesh.empty(4096)
taken = []
while True:
    taken.append(bytearray(1 << 20))
";

#[test]
fn a_full_disk_ends_the_recording_and_not_the_target() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let Some(disk) = Disk::small()? else { return Ok(()) };
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    let trace = disk.0.path().join("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    let held = Held::of(recorder.pid())?;
    // Most of it is taken.
    fs::write(disk.0.path().join("other"), vec![1; 160 << 10])?;
    target.go()?;
    let (status, said) = recorder.finish()?;
    assert!(!status.success() && said.contains("No space left on device"), "{status}: {said}");
    held.assert_gone();
    let target = stop_steady(target)?;

    let (steps, truth) = (by_trace(&items(&trace)?), by_truth(&target.truth()?));
    assert!(!steps.is_empty() && steps.len() < truth.len() && steps == truth[..steps.len()]);
    assert_releases_alone_are_confirmed(&trace)
}

/// Asserts that a trace reads to its end, and confirms nothing but what these targets do: to release every buffer.
fn assert_releases_alone_are_confirmed(trace: &Path) -> Result<()> {
    let report = json(&["report", path(trace)])?;
    for row in report["verdicts"].as_array().context("the report has verdicts")? {
        assert!(row["verdict"] == "released" || row["confirmed"] == 0, "{row}");
    }
    Ok(())
}

/// A file system with little room, unmounted when it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// Says so where it may not be mounted.
    fn small() -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let mut mount = Command::new("mount");
        if !mount.args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(folder.path()).status()?.success() {
            eprintln!("skipped: no file system can be mounted here");
            return Ok(None);
        }
        Ok(Some(Self(folder)))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_slow_file_loses_events_and_counts_them() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["burst.py", "60000"]))?;
    let (pipe, copy) = (target.path("pipe"), target.path("copy.ttb"));
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "failed to make a pipe");
    let reader = thread::spawn({
        let (pipe, copy) = (pipe.clone(), copy.clone());
        move || slowly(&pipe, &copy)
    });
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&pipe), "--ring", "1"])?;
    target.go()?;
    // It ends at its own pace.
    let target = target.finish()?;
    target.succeeded()?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && !said.contains("please report"), "{status}: {said}");
    reader.join().expect("the reader does not panic")?;
    let integrity = &json(&["report", path(&copy)])?["integrity"];
    assert_eq!(integrity["unaccounted"], 0, "{integrity}");
    assert!(integrity["losses"][0]["events"].as_u64() > Some(0), "the file was not slow: {integrity}");
    let recorded = items(&copy)?;
    let truth: BTreeSet<_> = by_truth(&target.truth()?).into_iter().collect();
    assert!(by_trace(&recorded).iter().all(|step| truth.contains(step)));
    assert_eq!(end_reason(&recorded), Some("exited"));
    assert_releases_alone_are_confirmed(&copy)
}

/// Copies at some kilobytes a second at first, and later as fast as can be.
fn slowly(from: &Path, to: &Path) -> Result<()> {
    let (mut from, mut to) = (fs::File::open(from)?, fs::File::create(to)?);
    let mut some = [0; 256];
    for piece in 0_u32.. {
        let length = from.read(&mut some)?;
        if length == 0 {
            break;
        }
        to.write_all(&some[..length])?;
        if piece < 400 {
            sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

#[test]
fn a_stopped_target_loses_nothing() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    let trace = target.path("trace.ttb");
    let send = |signal: &str| Command::new("kill").args([signal, &target.pid()]).status();
    // It can be attached to while it stands still, too.
    send("-STOP")?;
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    send("-CONT")?;
    let grown = |least: u64| fs::metadata(target.path("truth")).is_ok_and(|truth| truth.len() > least);
    wait_until(PATIENCE, || grown(10_000));
    send("-STOP")?;
    sleep(Duration::from_secs(3));
    send("-CONT")?;
    let before = fs::metadata(target.path("truth"))?.len();
    wait_until(PATIENCE, || grown(before + 10_000));
    let target = stop_steady(target)?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains(" 0 lost"), "{status}: {said}");
    let recorded = items(&trace)?;
    assert_eq!(by_trace(&recorded), by_truth(&target.truth()?));
    let times: Vec<u64> = events(&recorded).map(|event| event.time).collect();
    let longest = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max();
    assert!(longest >= Some(2_900_000_000), "the pause is to be seen: {longest:?}");
    Ok(())
}

#[test]
fn a_target_killed_for_its_memory_ends_the_recording() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", GREEDY]))?;
    // Little more than it has.
    let name = format!("buftrace-{}", target.pid);
    let Some(_group) = Group::with(&name, target.pid, Some(128 << 20))? else { return Ok(()) };
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    let target = target.finish()?;
    assert_eq!(target.output.status.signal(), Some(9));
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains("the process ended after "), "{status}: {said}");
    let recorded = items(&trace)?;
    assert_eq!(end_reason(&recorded), Some("exited"));
    assert_eq!(confirmed(&trace, "held")?, 1);
    Ok(())
}

#[test]
fn hundreds_of_threads_lose_nothing() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (target, trace) = record(lookalike("pimpl", &["threads.py", "300", "20"]))?;
    let sorted = |mut steps: Vec<_>| {
        steps.sort();
        steps
    };
    let recorded = items(&trace)?;
    assert_eq!(sorted(by_trace(&recorded)), sorted(by_truth(&target.truth()?)));
    let threads: BTreeSet<u32> = events(&recorded).map(|event| event.thread).collect();
    assert!(threads.len() > 300, "{}", threads.len());
    assert_eq!(json(&["report", path(&trace)])?["integrity"]["unaccounted"], 0);
    Ok(())
}

#[test]
fn more_stacks_than_the_kernel_side_remembers_are_the_same_when_they_come_again() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (target, trace) = record(lookalike("pimpl", &["-c", PLACES]))?;
    let recorded = items(&trace)?;
    assert_eq!(by_trace(&recorded), by_truth(&target.truth()?));
    let counter = |name: &str| {
        let value = recorded.iter().rev().find_map(|item| match item {
            Item::Record(Record::CounterValue(it)) if it.name.as_str() == name => Some(it.value),
            _ => None,
        });
        value.with_context(|| format!("no counter {name}"))
    };
    let stacks = recorded.iter().filter(|item| matches!(item, Item::Record(Record::Stack(_)))).count() as u64;
    assert_eq!((counter("ring-full")?, counter("stack-lost")?), (0, 0));
    assert!(counter("new-stacks")? > 80_000, "they did not come again: {}", counter("new-stacks")?);
    assert!(stacks < 60_000 * 3, "{stacks}");
    Ok(())
}

#[test]
fn a_trace_that_is_kept_small_confirms_nothing_untrue() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    const LIMIT: u64 = 1 << 20;
    let target = Target::start(lookalike("pimpl", &["-c", CHURN]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace), "--max-size", "1M"])?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains("taken out of the trace again"), "{status}: {said}");
    assert!(fs::metadata(&trace)?.len() < LIMIT && !target.path("trace.ttb.new").exists());

    let report = json(&["report", path(&trace)])?;
    let integrity = &report["integrity"];
    assert_eq!((&integrity["unaccounted"], &integrity["damaged"]), (&0.into(), &false.into()));
    let loss = &integrity["losses"][0];
    assert!(loss["cause"] == "max-size" && loss["events"].as_u64() > Some(50_000), "{integrity}");
    // Each was released once, but for ten that nobody freed; their lives reach back into what is not there any more.
    let rows = report["verdicts"].as_array().context("the report has verdicts")?;
    let count = |verdict: &str, certainty: &str| {
        rows.iter().find(|row| row["verdict"] == verdict).and_then(|row| row[certainty].as_u64()).unwrap_or(0)
    };
    assert_eq!((count("held", "confirmed"), count("held", "possible")), (0, 10));
    assert!(count("released", "confirmed") > 1000, "{rows:?}");
    assert!(rows.iter().all(|row| row["verdict"] == "released" || row["confirmed"] == 0), "{rows:?}");

    let (steps, truth) = (by_trace(&items(&trace)?), by_truth(&target.truth()?));
    let both = steps.iter().rev().zip(truth.iter().rev()).take_while(|(step, truth)| step == truth).count();
    assert!(both > 10_000, "its end is whole: {both} of {}", steps.len());
    let held = json(&["held", path(&trace)])?.to_string();
    assert!(held.contains("MeshDevice.empty"), "what they were allocated by is still known: {held}");
    Ok(())
}
