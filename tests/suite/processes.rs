// SPDX-License-Identifier: Apache-2.0
//! Recordings of several processes: forked children, programs that these execute, processes that are named or selected.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use buftrace::trace::{Item, Kind, Record};
use serde_json::Value;

use crate::{
    account::{Step, by_trace, by_truth},
    target::{Target, can_have_ttnn, lookalike, lookalike_pytest, ttnn},
    tool::{Recorder, can_probe, confirmed, items, json, path, root, run},
};

/// A child frees what it was born with, makes a buffer of its own, and a child in turn, which frees that. In the end the
/// parent's buffers are alive.
const FAMILY: &str = "
import os, time, attach, lookalike
mesh = lookalike.MeshDevice(2)
early = mesh.empty(4096)
attach.wait_for_tracer()
tensors = [mesh.empty(8192) for _ in range(5)]
child = os.fork()
if child == 0:
    for tensor in [early, *tensors]:
        tensor.deallocate()
    own = mesh.empty(2048)
    grandchild = os.fork()
    if grandchild == 0:
        own.deallocate()
        os._exit(0)
    os.waitpid(grandchild, 0)
    own.deallocate()
    # Names of Python code are read from whoever is there still.
    time.sleep(0.5)
    os._exit(0)
os.waitpid(child, 0)
for tensor in tensors:
    assert tensor.status == lookalike.ALLOCATED
    tensor.deallocate()
print(child, flush=True)
lookalike.write_truth()
os._exit(0)
";

/// Makes a buffer and goes.
const ONE: &str = "
import attach, lookalike
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
mesh.empty(4096).drop()
mesh.close()
";

/// Between two buffers, reports as freshly allocated what can't be that.
const NONSENSE: &str = "
import ctypes, attach, lookalike
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
mesh.empty(4096).drop()
tracker, buffer = ctypes.create_string_buffer(4096), ctypes.create_string_buffer(4096)
lookalike.library._ZN2tt8tt_metal12GraphTracker14track_allocateEPKNS0_6BufferE(tracker, buffer)
mesh.empty(4096).drop()
mesh.close()
";

/// The trace numbers of the processes, by their ids.
pub(crate) fn processes(items: &[Item]) -> BTreeMap<u32, (u32, u32)> {
    let process = |item: &Item| match item {
        Item::Record(Record::Process(it)) => Some((it.pid, (it.id, it.parent))),
        _ => None,
    };
    items.iter().filter_map(process).collect()
}

/// The steps of one process, without its tests.
fn steps_of(items: &[Item], process: u32) -> Vec<Step> {
    let own: Vec<Item> =
        items.iter().filter(|item| matches!(item, Item::Event(event) if event.process == process)).cloned().collect();
    by_trace(&own)
}

/// How often each verdict was given, by process.
fn verdicts(trace: &Path) -> Result<BTreeMap<(u64, String), u64>> {
    let timeline = json(&["timeline", "--type", "dram", "--frames", "0", path(trace)])?;
    let mut counts = BTreeMap::new();
    for step in timeline["steps"].as_array().context("no steps")? {
        if let (Some(process), Some(verdict)) = (step["process"].as_u64(), step["verdict"].as_str()) {
            // What the parent had before is there at its end, unless a bulk release before the recording took it.
            assert!(step["certainty"] == "confirmed" || verdict == "held", "{step}");
            *counts.entry((process, verdict.to_owned())).or_default() += 1;
        }
    }
    Ok(counts)
}

#[test]
fn what_forked_children_do_is_theirs_and_never_their_parents() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for variant in ["buffer", "pimpl"] {
        let target = Target::start(lookalike(variant, &["-c", FAMILY]))?;
        let trace = target.path("trace.ttb");
        let recorder = Recorder::attach(&["-p", &target.pid(), "--follow-forks", "-o", path(&trace)])?;
        let before = fs::read_to_string(target.path("truth"))?.lines().count();
        target.go()?;
        let parent = target.pid;
        let target = target.finish()?;
        target.succeeded()?;
        let (status, said) = recorder.finish()?;
        assert!(status.success() && said.contains("the processes ended"), "{said}");
        let child: u32 = String::from_utf8_lossy(&target.output.stdout).trim().parse()?;
        let items = items(&trace)?;
        let processes = processes(&items);
        let (parent_number, _) = processes[&parent];
        let (child_number, of) = processes[&child];
        assert_eq!((processes.len(), of), (3, parent_number), "{processes:?}");
        assert!(processes.values().any(|&(_, parent)| parent == child_number), "{processes:?}");
        // By the truth of each: what it did itself.
        let truth = target.truth()?.split_off(before);
        for (pid, (number, _)) in processes {
            let own: Vec<Value> = truth.iter().filter(|line| line["pid"] == pid).cloned().collect();
            let expected = by_truth(&own);
            assert!(!expected.is_empty());
            assert_eq!(steps_of(&items, number), expected, "process {pid}");
        }
        let (parent, child) = (u64::from(parent_number), u64::from(child_number));
        let grandchild = 6 - parent - child;
        let expected = [
            ((parent, "released"), 5),
            ((parent, "held"), 1),
            ((child, "inherited"), 6),
            ((child, "released"), 1),
            ((grandchild, "inherited"), 1),
        ];
        let verdicts = verdicts(&trace)?;
        for ((process, verdict), count) in expected {
            let found = verdicts.get(&(process, verdict.to_owned())).copied().unwrap_or(0);
            assert_eq!(found, count, "{process} {verdict}: {verdicts:?}");
        }
        let report = json(&["report", path(&trace)])?;
        assert_eq!(report["balance"]["allocator_offenders"], serde_json::json!([]), "a fork makes no excess");
    }
    Ok(())
}

#[test]
fn children_have_whole_stacks_with_names() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", FAMILY]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "--follow-forks", "-o", path(&trace)])?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    assert!(recorder.finish()?.0.success());
    let report = json(&["report", path(&trace)])?;
    let incomplete = report["integrity"]["stacks"].as_array().into_iter().flatten();
    let incomplete: Vec<&Value> = incomplete.filter(|row| row["name"] != "complete").collect();
    assert!(incomplete.is_empty(), "{incomplete:?}");
    let text = run(&["timeline", "--verdict", "inherited", "--stacks", path(&trace)])?;
    let text = String::from_utf8(text.stdout)?;
    assert!(text.contains("<module> (<string>:10)") && !text.contains("gone"), "{text}");
    Ok(())
}

#[test]
fn without_following_a_fork_is_an_event_and_no_more() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("buffer", &["-c", FAMILY]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    assert!(recorder.finish()?.0.success());
    let child: u64 = String::from_utf8_lossy(&target.output.stdout).trim().parse()?;
    let items = items(&trace)?;
    assert_eq!(processes(&items).len(), 1);
    let forks = items.iter().filter_map(|item| match item {
        Item::Event(event) if event.kind == Kind::Fork => Some((event.object, event.child)),
        _ => None,
    });
    assert_eq!(forks.collect::<Vec<_>>(), [(child, 0)]);
    Ok(())
}

#[test]
fn a_scenario_in_a_forked_child_is_inherited_in_both_layouts() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for variant in ["buffer", "pimpl"] {
        let target =
            Target::start(lookalike_pytest(variant, &["scenarios/test_lifecycle.py", "-k", "test_inherited"]))?;
        let trace = target.path("trace.ttb");
        let recorder = Recorder::attach(&["-p", &target.pid(), "--follow-forks", "-o", path(&trace)])?;
        target.go()?;
        let target = target.finish()?;
        target.succeeded()?;
        assert!(recorder.finish()?.0.success());
        let report = json(&["report", path(&trace)])?;
        let tests = report["tests"].as_array().context("no tests")?;
        let of_test: Vec<&Value> =
            tests.iter().filter(|it| it["test"].as_str().is_some_and(|test| test.contains("inherited"))).collect();
        let shown = format!("{of_test:?}");
        assert!(shown.contains("inherited") && shown.contains("released"), "{shown}");
        let excess = json(&["excess", path(&trace)])?;
        assert_eq!(excess["sites"], serde_json::json!([]));
    }
    Ok(())
}

/// The same on real ttnn: the child deallocates a tensor of its parent, which the parent deallocates later.
const TTNN: &str = "
import os, sys
sys.path[:0] = ['tests/lookalike', 'tests/ttnn']
import attach, tensors, ttnn
mesh = tensors.Mesh()
early = mesh.empty((1, 1, 32, 64))
attach.wait_for_tracer()
tensor = mesh.empty((1, 1, 64, 64))
child = os.fork()
if child == 0:
    for inherited in (early, tensor):
        ttnn.deallocate(inherited.tensor)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert early.tensor.is_allocated() and tensor.tensor.is_allocated()
tensor.deallocate()
os._exit(0)
";

fn a_child_of_ttnn(version: &str) -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let mut command = ttnn(version, &["-c", TTNN])?;
    command.current_dir(root());
    let target = Target::start(command)?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "--follow-forks", "-o", path(&trace)])?;
    target.go()?;
    let parent = target.pid;
    let target = target.finish()?;
    target.succeeded()?;
    assert!(recorder.finish()?.0.success());
    let truth = target.truth()?;
    let allocated: Vec<u64> = truth.iter().filter_map(|line| line["address"].as_u64()).take(2).collect();
    let items = items(&trace)?;
    let processes = processes(&items);
    let (parent_number, _) = processes[&parent];
    let [(child, _)] = processes.values().filter(|it| it.1 == parent_number).collect::<Vec<_>>()[..] else {
        bail!("no child: {processes:?}");
    };
    let freed: Vec<u64> =
        steps_of(&items, *child).iter().filter(|it| it.kind == Kind::Free).map(|it| it.address).collect();
    assert_eq!(freed, allocated, "what the script says that it has");
    let verdicts = verdicts(&trace)?;
    let of = |process: u32, verdict: &str| verdicts.get(&(process.into(), verdict.to_owned())).copied().unwrap_or(0);
    assert_eq!(
        (of(*child, "inherited"), of(parent_number, "released"), of(*child, "released")),
        (2, 1, 0),
        "{verdicts:?}"
    );
    let excess = json(&["excess", path(&trace)])?;
    assert_eq!(excess["sites"], serde_json::json!([]));
    Ok(())
}

#[test]
fn a_child_of_ttnn_with_buffer_frees_copies() -> Result<()> {
    a_child_of_ttnn("0.66.0")
}

#[test]
fn a_child_of_ttnn_with_buffer_impl_frees_copies() -> Result<()> {
    a_child_of_ttnn("0.81.1")
}

#[test]
fn several_processes_are_given_by_their_ids() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    // One of each layout: what is probed and where fields are is each process's own.
    let targets = [Target::start(lookalike("buffer", &["-c", ONE]))?, Target::start(lookalike("pimpl", &["-c", ONE]))?];
    let trace = targets[0].path("trace.ttb");
    let mut recorder = Recorder::attach(&["-p", &targets[0].pid(), "-p", &targets[1].pid(), "-o", path(&trace)])?;
    recorder.wait_for("recording ")?;
    let pids = [targets[0].pid, targets[1].pid];
    targets.iter().try_for_each(Target::go)?;
    let finished = targets.into_iter().map(Target::finish).collect::<Result<Vec<_>>>()?;
    finished.iter().try_for_each(|target| target.succeeded())?;
    assert!(recorder.finish()?.0.success());
    let items = items(&trace)?;
    let processes = processes(&items);
    for (pid, target) in pids.into_iter().zip(&finished) {
        let truth: Vec<Value> = target.truth()?;
        let steps = steps_of(&items, processes[&pid].0);
        assert_eq!(steps.iter().filter(|step| step.kind == Kind::Free).count(), 1, "{steps:?}");
        assert_eq!(steps[0].unique_id, by_truth(&truth)[0].unique_id);
    }
    Ok(())
}

#[test]
fn one_that_is_refused_does_not_keep_the_others_from_being_recorded() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    // In the order of their ids, whatever that is, and in the other one.
    for variants in [["unverifiable", "pimpl"], ["pimpl", "unverifiable"]] {
        let targets = [
            Target::start(lookalike(variants[0], &["-c", ONE]))?,
            Target::start(lookalike(variants[1], &["-c", ONE]))?,
        ];
        let recorded = usize::from(variants[1] == "pimpl");
        let trace = targets[0].path("trace.ttb");
        let recorder = Recorder::attach(&["-p", &targets[0].pid(), "-p", &targets[1].pid(), "-o", path(&trace)])?;
        let pids = [targets[0].pid, targets[1].pid];
        targets.iter().try_for_each(Target::go)?;
        let finished = targets.into_iter().map(Target::finish).collect::<Result<Vec<_>>>()?;
        finished.iter().try_for_each(|target| target.succeeded())?;
        let said = recorder.said.clone();
        let (status, rest) = recorder.finish()?;
        let refused = format!("process {} is not recorded: ", pids[1 - recorded]);
        assert!(status.success() && (said + &rest).contains(&format!("warning: {refused}")), "{variants:?}: {rest}");
        let items = items(&trace)?;
        let steps = steps_of(&items, processes(&items)[&pids[recorded]].0);
        assert_eq!(steps.iter().filter(|step| step.kind == Kind::Free).count(), 1, "{variants:?}: {steps:?}");
        let is_told = |item: &Item| matches!(item, Item::Record(Record::Problem(it)) if it.text.starts_with(&refused));
        assert!(items.iter().any(is_told), "{variants:?}");
    }
    Ok(())
}

#[test]
fn one_whose_fields_make_no_sense_is_given_up_alone() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let targets =
        [Target::start(lookalike("buffer", &["-c", NONSENSE]))?, Target::start(lookalike("buffer", &["-c", ONE]))?];
    let trace = targets[0].path("trace.ttb");
    let mut recorder = Recorder::attach(&["-p", &targets[0].pid(), "-p", &targets[1].pid(), "-o", path(&trace)])?;
    recorder.wait_for("recording ")?;
    let pids = [targets[0].pid, targets[1].pid];
    let mut finished = Vec::new();
    for target in targets {
        target.go()?;
        finished.push(target.finish()?);
    }
    finished.iter().try_for_each(|target| target.succeeded())?;
    let (status, said) = recorder.finish()?;
    let given_up = format!("process {} is not recorded: the derived field layout does not fit", pids[0]);
    assert!(status.success() && said.contains(&given_up), "{said}");
    let items = items(&trace)?;
    let processes = processes(&items);
    // What it did before that is there, and the other one whole.
    for pid in pids {
        let steps = steps_of(&items, processes[&pid].0);
        assert_eq!(steps.iter().filter(|step| step.kind == Kind::Free).count(), 1, "{steps:?}");
    }
    let report = json(&["report", path(&trace)])?;
    let reasons = report["integrity"]["processes"].as_array().context("no processes")?.iter().map(|it| &it["reason"]);
    assert_eq!(reasons.collect::<Vec<_>>(), ["failed", "exited"]);
    assert_eq!(
        run(&["check", "--strict", "--fail-on", "excess", path(&trace)])?.status.code(),
        Some(1),
        "some of it is lost"
    );
    Ok(())
}

#[test]
fn a_target_that_restarts_is_waited_for_by_its_name() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace.ttb");
    let script = folder.path().join("restarting-target.py");
    fs::write(&script, ONE)?;
    let mut recorder = Recorder::start(&["--wait", "restarting-target.py", "-o", path(&trace)])?;
    for _ in 0..2 {
        let mut command = lookalike("pimpl", &[path(&script)]);
        command.env("PYTHONPATH", root().join("tests/lookalike"));
        let target = Target::start(command)?;
        recorder.wait_for("recording ")?;
        target.go()?;
        target.finish()?.succeeded()?;
    }
    recorder.signal("-INT")?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains("stopped"), "{said}");
    let recorded = processes(&items(&trace)?);
    assert_eq!(recorded.len(), 2, "{recorded:?}");
    assert_eq!(confirmed(&trace, "released")?, 2);
    Ok(())
}

#[test]
fn a_process_that_is_not_there_is_refused_before_anything_is_done() -> Result<()> {
    let output = run(&["record", "-p", "4194303", "-p", "1"])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr)?.contains("there is no process 4194303"));
    Ok(())
}
