// SPDX-License-Identifier: Apache-2.0
//! What goes wrong while recording: the target never suffers, and what is lost is known.

use std::{fs, os::unix::process::ExitStatusExt as _, time::Duration};

use anyhow::{Context as _, Result};
use buftrace::trace::{Event, Item, Kind, Record};
use serde_json::Value;

use crate::{
    account::{by_trace, by_truth},
    left::{Held, assert_unprobed, probed_byte, wait_until},
    target::{Finished, Target, lookalike, lookalike_pytest},
    tool::{Recorder, can_probe, confirmed, items, json, path, patience, run},
};

/// Seconds that something may take that takes milliseconds on an idle machine.
pub(crate) const PATIENCE: u32 = 30;

/// Allocates and frees until its ready file is taken away, and prints how often.
pub(crate) const STEADY: &str = "
import os, time, attach, lookalike
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
pairs = 0
while os.path.exists(os.environ['BUFTRACE_READY_FILE']):
    mesh.empty(4096).drop()
    pairs += 1
    time.sleep(0.0005)
mesh.close()
print(pairs)
";

/// Buffers from before and from after the attach; a child frees its copies, and allocates when the recording is over.
const FORK: &str = "
import os, time, attach, lookalike
folder = os.path.dirname(os.environ['BUFTRACE_GO_FILE'])
def tell(name):
    open(f'{folder}/{name}', 'w').close()
mesh = lookalike.MeshDevice(1)
tensors = [mesh.empty(4096) for _ in range(3)]
attach.wait_for_tracer()
tensors += [mesh.empty(4096) for _ in range(3)]
child = os.fork()
if child == 0:
    for tensor in tensors:
        tensor.drop()
    mesh.empty(4096).drop()
    tell('child')
    while not os.path.exists(f'{folder}/on'):
        time.sleep(0.01)
    mesh.empty(4096).drop()
    os._exit(5)
for tensor in tensors:
    tensor.drop()
tell('parent')
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

/// A buffer from before the attach and one from after it; then the process is another program, which prints its PID.
const EXECUTES: &str = "
import os, sys, attach, lookalike
mesh = lookalike.MeshDevice(1)
before = mesh.empty(4096)
attach.wait_for_tracer()
after = mesh.empty(8192)
lookalike.write_truth()
os.execv(sys.executable, [sys.executable, '-c', 'import os; print(os.getpid())'])
";

/// Does something, and then ends in the way that is to come.
const END: &str = "
import ctypes, os, sys, attach, lookalike
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
tensor = mesh.empty(4096)
print('ending', flush=True)
";

pub(crate) fn events(items: &[Item]) -> impl Iterator<Item = &Event> {
    items.iter().filter_map(|item| match item {
        Item::Event(event) => Some(event),
        Item::Record(_) => None,
    })
}

/// Why the recording ended, as its trace says.
pub(crate) fn end_reason(items: &[Item]) -> Option<&str> {
    items.iter().find_map(|item| match item {
        Item::Record(Record::End(end)) => Some(end.reason.as_str()),
        _ => None,
    })
}

/// Lets a steady target end, which must have gone on all the time.
pub(crate) fn stop_steady(target: Target) -> Result<Finished> {
    let before = fs::metadata(target.path("truth"))?.len();
    wait_until(PATIENCE, || fs::metadata(target.path("truth")).is_ok_and(|truth| truth.len() > before));
    fs::remove_file(target.path("ready"))?;
    let finished = target.finish()?;
    finished.succeeded()?;
    let released = finished.truth()?.iter().filter(|line| line["action"] == "released").count();
    assert_eq!(String::from_utf8_lossy(&finished.output.stdout).trim(), released.to_string());
    Ok(finished)
}

/// Asserts that the trace begins as the truth does, with every step up to a point; returns how many those are.
#[track_caller]
fn assert_begins_as(items: &[Item], truth: &[Value]) -> usize {
    let (steps, truth) = (by_trace(items), by_truth(truth));
    assert!(steps.len() <= truth.len());
    let differs = steps.iter().zip(&truth).position(|(one, other)| one != other);
    assert_eq!(differs, None, "{:?} is {:?}", differs.map(|at| &steps[at]), differs.map(|at| &truth[at]));
    steps.len()
}

#[test]
fn running_out_of_memory_is_the_same_traced_or_not() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for variant in ["buffer", "pimpl"] {
        let untraced = lookalike(variant, &["oom.py"]).output()?;
        let target = Target::start(lookalike(variant, &["oom.py"]))?;
        let trace = target.path("trace.ttb");
        let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
        target.go()?;
        let traced = target.finish()?;
        assert!(recorder.finish()?.0.success());
        assert_eq!((untraced.status.code(), traced.output.status.code()), (Some(7), Some(7)));
        let said = String::from_utf8(untraced.stdout)?;
        assert!(said.contains("Out of Memory: Not enough space to allocate 1073741824 B DRAM buffer"), "{said}");
        assert_eq!(String::from_utf8_lossy(&traced.output.stdout), said);

        let failed = by_truth(&traced.truth()?).iter().filter(|it| it.kind == Kind::Free && it.status == 0).count();
        assert_eq!((failed, confirmed(&trace, "failed")?), (1, 1));
        let held = by_truth(&traced.truth()?).iter().filter(|it| it.kind == Kind::Allocated).count() as u64;
        let failure = &json(&["report", path(&trace)])?["failures"][0];
        assert_eq!((&failure["bytes"], &failure["buffer_type"]), (&(1_u64 << 30).into(), &"DRAM".into()));
        let holder = &failure["held"]["holders"][0];
        assert_eq!((&holder["buffers"], &holder["bytes"]), (&held.into(), &(held << 30).into()));
        let frames = holder["site"]["frames"].as_array().and_then(|frames| frames.last());
        assert_eq!(frames.and_then(|frame| frame.as_str()), Some("<module> (oom.py)"), "{failure}");
    }
    Ok(())
}

#[test]
fn the_way_a_target_ends_is_its_own() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let ways = ["sys.exit(3)", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)", "os.abort()", "raise ValueError"];
    for (way, (code, signal)) in
        ways.into_iter().zip([(Some(3), None), (None, Some(9)), (None, Some(11)), (None, Some(6)), (Some(1), None)])
    {
        let target = Target::start(lookalike("pimpl", &["-c", &format!("{END}{way}")]))?;
        let trace = target.path("trace.ttb");
        let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
        target.go()?;
        let target = target.finish()?;
        let status = target.output.status;
        assert_eq!((status.code(), status.signal()), (code, signal), "{way}");
        assert_eq!(String::from_utf8_lossy(&target.output.stdout), "ending\n");
        let (status, said) = recorder.finish()?;
        assert!(status.success() && said.contains("the process ended"), "{status}: {said}");
        let recorded = items(&trace)?;
        assert_eq!(end_reason(&recorded), Some("exited"), "{way}");
        assert!(events(&recorded).any(|event| event.kind == Kind::Allocated), "{way}");
    }
    Ok(())
}

#[test]
fn two_recordings_see_the_same() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike_pytest("pimpl", &["scenarios/test_excess.py"]))?;
    let traces = ["one.ttb", "two.ttb"].map(|name| target.path(name));
    let mut recorders = Vec::new();
    for trace in &traces {
        recorders.push(Recorder::attach(&["-p", &target.pid(), "-o", path(trace)])?);
    }
    let mut held = Held::default();
    for recorder in &recorders {
        held.add(recorder.pid())?;
    }
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    for recorder in recorders {
        assert!(recorder.finish()?.0.success());
    }
    held.assert_gone();
    // What each recording numbers for itself, and when it was at the probe, is not the same.
    let own = |event: &Event| Event { sequence: 0, time: 0, stack: 0, text: 0, ..*event };
    let [one, two] = [items(&traces[0])?, items(&traces[1])?];
    assert_eq!(events(&one).map(own).collect::<Vec<_>>(), events(&two).map(own).collect::<Vec<_>>());
    assert_eq!(by_trace(&one), by_trace(&two));
    assert!(assert_begins_as(&one, &after_attach(&target, &one)?) > 0);
    Ok(())
}

/// The truth without what was allocated before the attach and nothing happened to since.
pub(crate) fn after_attach(target: &Finished, items: &[Item]) -> Result<Vec<Value>> {
    let border = items.iter().find_map(|item| match item {
        Item::Record(Record::Border(border)) => Some(border.next_unique_id),
        _ => None,
    });
    let border = border.context("the trace has a border")?;
    let mut truth = target.truth()?;
    truth.retain(|line| line["action"] != "allocated" || line["uid"].as_u64() >= Some(border));
    Ok(truth)
}

#[test]
fn a_killed_recorder_leaves_its_trace_and_nothing_else() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    let held = Held::of(recorder.pid())?;
    let (file, memory) = probed_byte(&trace, target.pid)?;
    assert_ne!(file, memory, "no probe is to be seen");
    target.go()?;
    // The second time that it grows, there is a whole interval behind it.
    for _ in 0..2 {
        let size = fs::metadata(&trace)?.len();
        wait_until(PATIENCE, || fs::metadata(&trace).is_ok_and(|trace| trace.len() > size));
    }
    recorder.signal("-KILL")?;
    let uptime = fs::read_to_string("/proc/uptime")?;
    assert_eq!(recorder.finish()?.0.signal(), Some(9));
    held.assert_gone();
    assert_unprobed(&trace, target.pid)?;
    let target = stop_steady(target)?;

    let report = run(&["report", path(&trace)])?;
    assert!([Some(0), Some(1)].contains(&report.status.code()), "{report:?}");
    assert!(String::from_utf8_lossy(&report.stdout).contains("it is still being made, or was cut"), "{report:?}");
    let recorded = items(&trace)?;
    assert_eq!(end_reason(&recorded), None);
    assert!(events(&recorded).map(|event| event.sequence).eq(0..events(&recorded).count() as u64));
    assert!(assert_begins_as(&recorded, &target.truth()?) > 0);
    let boot = recorded.iter().find_map(|item| match item {
        Item::Record(Record::Session(session)) => Some(Duration::from_nanos(session.boot_ns)),
        _ => None,
    });
    let last = events(&recorded).last().context("events were recorded")?.time;
    let killed: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
    let missing = Duration::from_secs_f64(killed).saturating_sub(boot.context("a begin")? + Duration::from_nanos(last));
    // A second between two flushes, and what a busy machine adds to it.
    assert!(missing < patience(2), "the last {missing:?} are missing");
    Ok(())
}

#[test]
fn an_interrupted_recorder_lets_go() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    let held = Held::of(recorder.pid())?;
    target.go()?;
    wait_until(PATIENCE, || fs::metadata(target.path("truth")).is_ok_and(|truth| truth.len() > 10_000));
    recorder.signal("-INT")?;
    let (status, said) = recorder.finish()?;
    let meanwhile = by_truth(&read_truth(&target)?).len();
    assert!(status.success() && said.contains("stopped after ") && said.contains(" 0 lost"), "{status}: {said}");
    assert!(said.contains("next: tt-buftrace report "), "{said}");
    held.assert_gone();
    assert_unprobed(&trace, target.pid)?;
    let target = stop_steady(target)?;

    let recorded = items(&trace)?;
    assert_eq!(end_reason(&recorded), Some("interrupted"));
    let steps = assert_begins_as(&recorded, &target.truth()?);
    assert!(0 < steps && steps <= meanwhile, "{steps} of {meanwhile}");
    assert_eq!(json(&["report", path(&trace)])?["integrity"]["unaccounted"], 0);
    Ok(())
}

#[test]
fn an_attach_in_full_flight_misses_nothing_from_then_on() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    let trace = target.path("trace.ttb");
    target.go()?;
    wait_until(PATIENCE, || fs::metadata(target.path("truth")).is_ok_and(|truth| truth.len() > 10_000));
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    let target = stop_steady(target)?;
    assert!(recorder.finish()?.0.success());
    let (steps, truth) = (by_trace(&items(&trace)?), by_truth(&target.truth()?));
    assert!(!steps.is_empty() && steps.len() < truth.len());
    assert_eq!(steps, truth[truth.len() - steps.len()..]);
    let report = json(&["report", path(&trace)])?;
    for row in report["verdicts"].as_array().context("the report has verdicts")? {
        assert!(row["verdict"] == "released" || row["verdict"] == "pre-attach", "{row}");
    }
    Ok(())
}

fn read_truth(target: &Target) -> Result<Vec<Value>> {
    let text = fs::read_to_string(target.path("truth"))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn a_killed_target_ends_the_recording() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let mut target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    let held = Held::of(recorder.pid())?;
    target.go()?;
    wait_until(PATIENCE, || fs::metadata(target.path("truth")).is_ok_and(|truth| truth.len() > 10_000));
    target.kill()?;
    let target = target.finish()?;
    assert_eq!(target.output.status.signal(), Some(9));
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains("the process ended after "), "{status}: {said}");
    held.assert_gone();
    let recorded = items(&trace)?;
    assert_eq!(end_reason(&recorded), Some("exited"));
    // The target writes down what it did after it did it: the trace has all of that, and perhaps a last step more.
    let (steps, truth) = (by_trace(&recorded), by_truth(&target.truth()?));
    assert!(truth.len() <= steps.len() && steps.len() <= truth.len() + 3, "{} and {}", steps.len(), truth.len());
    assert_eq!(steps[..truth.len()], truth);
    Ok(())
}

#[test]
fn a_process_that_executes_another_program_is_recorded_up_to_that() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", EXECUTES]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains("executes another program"), "{said}");
    let pid = target.pid;
    let target = target.finish()?;
    target.succeeded()?;
    assert_eq!(String::from_utf8_lossy(&target.output.stdout), format!("{pid}\n"), "it goes on");

    let recorded = items(&trace)?;
    let allocated: Vec<u64> =
        events(&recorded).filter(|event| event.kind == Kind::Allocated).map(|event| event.size).collect();
    assert_eq!(allocated, [8192]);
    let ends = recorded.iter().filter_map(|item| match item {
        Item::Record(Record::End(end)) => Some(end.reason.as_str()),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), ["executed"]);
    Ok(())
}

#[test]
fn a_fork_is_another_process() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", FORK]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    wait_until(PATIENCE, || ["child", "parent"].iter().all(|name| target.path(name).exists()));
    recorder.signal("-INT")?;
    assert!(recorder.finish()?.0.success());
    fs::write(target.path("on"), "")?;
    let pid = target.pid;
    let target = target.finish()?;
    target.succeeded()?;
    assert_eq!(String::from_utf8_lossy(&target.output.stdout), "5\n");

    let recorded = items(&trace)?;
    assert!(events(&recorded).all(|event| event.thread == pid));
    let mut truth = after_attach(&target, &recorded)?;
    let children = truth.extract_if(.., |line| line["pid"] != pid).collect::<Vec<_>>();
    assert_eq!(by_trace(&recorded), by_truth(&truth));
    assert_eq!(children.iter().filter(|line| line["action"] == "released").count(), 8);
    Ok(())
}
