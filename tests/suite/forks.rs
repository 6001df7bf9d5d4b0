// SPDX-License-Identifier: Apache-2.0
//! A target that forks without a pause: children that are gone before anybody could look at them.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use buftrace::trace::{Item, Kind, Record};

use crate::{
    survival::events,
    target::{Finished, Target, lookalike},
    tool::{Recorder, can_probe, confirmed, items, json, path, patience, run},
};

/// Children, and how many buffers each of them frees.
const CHILDREN: u64 = 150;
const BUFFERS: u64 = 100;

/// Each child frees all that it was born with, at full speed, while its parent waits for it, to make the next one.
const WITHOUT_A_PAUSE: &str = "
import os, sys, attach, lookalike
children, buffers = map(int, sys.argv[1:])
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
tensors = [mesh.empty(4096) for _ in range(buffers)]
for _ in range(children):
    child = os.fork()
    if child == 0:
        for tensor in tensors:
            tensor.deallocate()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
for tensor in tensors:
    tensor.deallocate()
os._exit(0)
";

/// Records a target and its children by a recorder that sleeps from before the first to after the last of them.
pub(crate) fn recorded_while_asleep(command: Command) -> Result<(Finished, PathBuf)> {
    let target = Target::start(command)?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "--follow-forks", "-o", path(&trace)])?;
    recorder.signal("-STOP")?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    recorder.signal("-CONT")?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains(" 0 lost"), "{status}: {said}");
    Ok((target, trace))
}

#[test]
fn children_without_a_pause_lose_nothing() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let numbers = [CHILDREN, BUFFERS].map(|number| number.to_string());
    let command = lookalike("pimpl", &["-c", WITHOUT_A_PAUSE, &numbers[0], &numbers[1]]);
    let (_target, trace) = recorded_while_asleep(command)?;
    let items = items(&trace)?;
    let processes = items.iter().filter(|item| matches!(item, Item::Record(Record::Process(_)))).count() as u64;
    assert_eq!(processes, 1 + CHILDREN);
    assert_eq!(confirmed(&trace, "inherited")?, CHILDREN * BUFFERS);
    assert_eq!(confirmed(&trace, "released")?, BUFFERS);
    let integrity = &json(&["report", path(&trace)])?["integrity"];
    let counters = integrity["counters"].as_array().context("no counters")?;
    let counter = |name: &str| counters.iter().find(|row| row["name"] == name).and_then(|row| row["value"].as_u64());
    assert_eq!((counter("ring-full"), counter("stack-lost")), (Some(0), Some(0)));
    // Nobody has told the kernel side where the children's modules are: it has them from their parent.
    assert!(counter("copied") < Some(CHILDREN), "{counters:?}");
    let ends: BTreeSet<&str> =
        integrity["stacks"].as_array().into_iter().flatten().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(ends, BTreeSet::from(["complete"]));
    let stacks = events(&items).filter(|event| event.kind == Kind::Free).map(|event| event.stack);
    assert!(!stacks.collect::<BTreeSet<_>>().contains(&0), "a free without a stack");
    Ok(())
}

/// Fills the ring, and forks a child and starts a program when it is full. Both make buffers when they are told to, and keep them.
const IN_A_FULL_RING: &str = "
import os, subprocess, sys, time, attach, lookalike
mesh = lookalike.MeshDevice(1)
full, found = sys.argv[1:3]
def keep(count):
    open(f'{full}-{os.getpid()}', 'x').close()
    while not os.path.exists(found):
        mesh.empty(4096).deallocate()
        time.sleep(0.01)
    kept = [mesh.empty(4096) for _ in range(count)]
    os._exit(0)
if len(sys.argv) > 3:
    keep(11)
attach.wait_for_tracer()
for _ in range(30_000):
    mesh.empty(4096).deallocate()
child = os.fork()
if child == 0:
    keep(7)
program = subprocess.Popen([sys.executable, '-c', sys.orig_argv[2], full, found, 'program'])
assert os.waitpid(child, 0)[1] == 0 and program.wait() == 0
os._exit(0)
";

#[test]
fn children_whose_forks_were_lost_are_found() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let [full, found] = ["full", "found"].map(|name| folder.path().join(name));
    let target = Target::start(lookalike("pimpl", &["-c", IN_A_FULL_RING, path(&full), path(&found)]))?;
    let trace = target.path("trace.ttb");
    let options = ["-p", &target.pid(), "--follow-forks", "--ring", "1", "-o", path(&trace)];
    let mut recorder = Recorder::attach(&options)?;
    recorder.signal("-STOP")?;
    target.go()?;
    let deadline = Instant::now() + patience(60);
    while fs::read_dir(folder.path())?.count() < 2 {
        assert!(Instant::now() < deadline, "the children did not begin");
        sleep(Duration::from_millis(10));
    }
    recorder.signal("-CONT")?;
    recorder.wait_for("recording process ")?;
    recorder.wait_for("recording process ")?;
    fs::write(&found, "")?;
    let target = target.finish()?;
    target.succeeded()?;
    let (status, said) = recorder.finish()?;
    assert!(status.success(), "{status}: {said}");
    let report = json(&["report", path(&trace)])?;
    let integrity = &report["integrity"];
    assert_eq!((integrity["processes"].as_array().map(Vec::len), &integrity["unaccounted"]), (Some(3), &0.into()));
    assert!(integrity["losses"][0]["events"].as_u64() > Some(10_000), "{integrity}");
    assert!(
        integrity["problems"].to_string().contains("the ring was full when a child process was forked"),
        "{integrity}"
    );
    let mut kept: Vec<u64> =
        report["totals"].as_array().into_iter().flatten().filter_map(|it| it["live"].as_u64()).collect();
    kept.sort_unstable();
    assert!(kept.ends_with(&[7, 11]), "{kept:?}");
    Ok(())
}

/// A child that is a program of its own, makes a buffer, and has ended before anybody could attach to it.
const SHORT_PROGRAM: &str = "
import os, subprocess, sys, attach, lookalike
mesh = lookalike.MeshDevice(1)
if len(sys.argv) > 1:
    kept = mesh.empty(4096)
    os._exit(0)
attach.wait_for_tracer()
subprocess.run([sys.executable, '-c', sys.orig_argv[2], 'program'], check=True)
mesh.empty(4096).deallocate()
os._exit(0)
";

#[test]
fn a_program_that_ends_before_it_is_recorded_is_counted() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (_target, trace) = recorded_while_asleep(lookalike("pimpl", &["-c", SHORT_PROGRAM]))?;
    let integrity = &json(&["report", path(&trace)])?["integrity"];
    let counter = integrity["counters"].as_array().into_iter().flatten().find(|row| row["name"] == "unrecorded");
    assert_eq!(counter.and_then(|row| row["value"].as_u64()), Some(1));
    assert!(
        integrity["problems"].to_string().contains("of processes that used TT-Metal, 1 is not recorded"),
        "{integrity}"
    );
    let check = |words: &[&str]| run(&[&["check", path(&trace), "--fail-on", "excess"], words].concat());
    let (lax, strict) = (check(&[])?, check(&["--strict"])?);
    assert_eq!((lax.status.code(), strict.status.code()), (Some(0), Some(1)));
    assert!(String::from_utf8_lossy(&strict.stdout).contains("a process of the run is not recorded"));
    Ok(())
}
