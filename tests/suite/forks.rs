// SPDX-License-Identifier: Apache-2.0
//! A target that forks without a pause: children that are gone before anybody could look at them.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use buftrace::trace::{Item, Kind, Record};

use crate::{
    survival::events,
    target::{Finished, Target, lookalike},
    tool::{Recorder, can_probe, confirmed, items, json, path},
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
