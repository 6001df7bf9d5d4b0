// SPDX-License-Identifier: Apache-2.0
//! Real ttnn releases of both class generations, on eight mock chips, attached late under pytest.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use buftrace::trace::{DeviceClass, Event, Item, Kind, Reader, Record};
use serde_json::{Value, json};

use crate::{
    target::{Finished, Target, can_have_ttnn, ttnn_pytest},
    tool::{Recorder, can_probe, json, text},
};

/// A run of the scenarios that was recorded from the moment at which it was ready.
struct Run {
    finished: Finished,
    trace: PathBuf,
    events: Vec<Event>,
    texts: HashMap<u32, String>,
    /// What the target did, from then on, in its own words.
    truth: Vec<Value>,
    /// What it had done before.
    before: Vec<Value>,
}

impl Run {
    fn of(version: &str) -> Result<Self> {
        let target = Target::start(ttnn_pytest(version, &["scenarios"])?)?;
        let trace = target.path("trace.ttb");
        let recorder = Recorder::attach(&["-p", &target.pid(), "-o", &trace.to_string_lossy()])?;
        assert!(!recorder.said.contains("warning"), "{}", recorder.said);
        target.go()?;
        let finished = target.finish()?;
        finished.succeeded()?;
        assert!(recorder.finish()?.0.success());
        let (before, truth) = finished.truth()?.into_iter().partition(|action| action["test"] == "");
        let (events, texts) = read(&trace)?;
        Ok(Self { finished, trace, events, texts, truth, before })
    }

    fn trace(&self) -> &str {
        self.trace.to_str().unwrap_or_default()
    }

    fn actions(&self, names: &[&str]) -> Vec<&Value> {
        self.truth.iter().filter(|action| names.iter().any(|name| action["action"] == *name)).collect()
    }

    /// Each event with the test and phase that ran, by the events before it.
    fn with_test(&self) -> Vec<(&Event, &str)> {
        let mut test = "";
        let mut with_test = Vec::new();
        for event in &self.events {
            match event.kind {
                Kind::TestBegin => test = self.texts.get(&event.text).map_or("", String::as_str),
                Kind::TestEnd => test = "",
                _ => {}
            }
            with_test.push((event, test));
        }
        with_test
    }
}

fn read(trace: &Path) -> Result<(Vec<Event>, HashMap<u32, String>)> {
    let (mut events, mut texts) = (Vec::new(), HashMap::new());
    for item in Reader::open(trace)? {
        match item {
            Item::Event(event) => events.push(event),
            Item::Record(Record::Text(it)) => drop(texts.insert(it.id, it.text)),
            Item::Record(Record::Loss(loss)) => panic!("{} events were lost", loss.count),
            Item::Record(_) => {}
        }
    }
    Ok((events, texts))
}

/// Every allocation is there once, in order, with the values that ttnn's own getters returned, on a mesh, in its test.
fn allocations_are_those_that_ttnn_tells(run: &Run) -> Vec<u64> {
    let expected = run.actions(&["allocated", "phantom"]);
    let found: Vec<_> = run.with_test().into_iter().filter(|(event, _)| event.kind == Kind::Allocated).collect();
    assert_eq!(found.len(), expected.len());
    for ((event, test), truth) in found.iter().zip(&expected) {
        let found = json!({
            "action": if event.hooked { "phantom" } else { "allocated" },
            "address": event.address,
            "size": event.size,
            "type": event.buffer_type,
            "test": test,
            "pid": run.finished_pid(),
            // 0.66.0 does not tell.
            "uid": if truth["uid"].is_null() { Value::Null } else { json!(event.unique_id) },
        });
        assert_eq!(found, **truth);
        assert!(event.owns && event.device_class == DeviceClass::Mesh);
    }
    found.iter().map(|(event, _)| event.unique_id).collect()
}

/// Every free that takes effect is there once, in the test that makes it.
fn frees_are_those_that_the_script_makes(run: &Run, allocated: &[u64]) -> Result<()> {
    // Where ttnn does not tell the id, the trace's own stands in for the order in which buffers were allocated.
    let mut uids: HashMap<u64, u64> = HashMap::new();
    let mut made = allocated.iter();
    let mut expected = BTreeMap::new();
    let mut freed = BTreeMap::new();
    for action in &run.truth {
        let address = action["address"].as_u64();
        match (action["action"].as_str(), address) {
            (Some("allocated" | "phantom"), Some(address)) => {
                uids.insert(address, *made.next().context("an allocation for each")?);
            }
            (Some("deallocate" | "drop"), Some(address)) => {
                if let Some(uid) = uids.remove(&address) {
                    expected.insert(uid, action["test"].as_str().unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    for (event, test) in run.with_test() {
        let frees = match event.kind {
            Kind::Free | Kind::Marked => event.status == 1,
            Kind::Destroyed => !freed.contains_key(&event.unique_id),
            _ => false,
        };
        if frees && expected.contains_key(&event.unique_id) {
            assert_eq!(freed.insert(event.unique_id, test), None, "buffer {} is freed twice", event.unique_id);
        }
    }
    assert_eq!(freed, expected);
    Ok(())
}

/// A mesh's allocations carry the id that the mesh itself told when it was closed.
fn devices_are_the_meshes_that_ttnn_tells(run: &Run) {
    let closed: BTreeMap<&str, u64> = run
        .actions(&["close"])
        .into_iter()
        .filter_map(|action| Some((action["test"].as_str()?.split(' ').next()?, action["mesh"].as_u64()?)))
        .collect();
    let mut compared = 0;
    for (event, test) in run.with_test().into_iter().filter(|(event, _)| event.kind == Kind::Allocated) {
        let test = test.split(' ').next().unwrap_or_default();
        // The submesh's test has two meshes open.
        if let Some(mesh) = closed.get(test).filter(|_| !test.contains("submesh")) {
            assert_eq!(u64::from(event.device_id), *mesh, "{test}");
            compared += 1;
        }
    }
    assert!(compared >= 4, "{compared}");
}

/// The verdicts of each test, which the scenarios are named and scripted for.
fn verdicts_are_those_of_the_script(run: &Run, mark: &str) -> Result<()> {
    let report = json(&["report", run.trace()])?;
    let mut found = BTreeMap::new();
    for row in report["tests"].as_array().context("tests")? {
        let Some(test) = row["test"].as_str() else { continue };
        let name = test.rsplit("::").next().unwrap_or_default().to_string();
        let verdicts: BTreeMap<&str, u64> = row["verdicts"]
            .as_array()
            .context("verdicts")?
            .iter()
            .filter_map(|it| Some((it["verdict"].as_str()?, it["count"].as_u64()?)))
            .collect();
        found.insert(name, format!("{verdicts:?}"));
    }
    let mut expected = BTreeMap::new();
    for (test, verdicts) in [
        ("test_free_what_was_before", json!({"pre-attach": 2})),
        ("test_dram", json!({"released": 1})),
        ("test_l1", json!({"released": 1})),
        ("test_sharded", json!({"released": 1})),
        ("test_deallocate_twice", json!({"released": 1})),
        ("test_view_shares_memory", json!({"released": 1})),
        ("test_operation", json!({"released": 3})),
        ("test_address_is_reused", json!({"released": 20})),
        ("test_out_of_memory", json!({"failed": 1})),
        ("test_out_of_l1", json!({"failed": 1})),
        // Which test left the tensor is not known: it is from before the recording.
        ("test_close_with_live_tensor", json!({"after-close": 1})),
        ("test_released_before_close", json!({"released": 1})),
        ("test_first_address_again", json!({"released": 1})),
        ("test_free_after_close", json!({"after-close": 2, "bulk": 2})),
        ("test_mesh_object_dropped_first", json!({mark: 1, "bulk": 1})),
        ("test_submesh", json!({"released": 2})),
        ("test_phantom", json!({"phantom": 1})),
    ] {
        let verdicts: BTreeMap<String, u64> = serde_json::from_value(verdicts)?;
        expected.insert(test.to_string(), format!("{verdicts:?}"));
    }
    // What is alive when the interpreter ends differs by release: some close the device first, some do not.
    found.remove("test_exit_with_live_tensors");
    assert_eq!(found, expected);
    assert_eq!(report["integrity"]["unaccounted"], 0);
    assert_eq!(json(&["excess", run.trace()])?["sites"], json!([]));
    Ok(())
}

/// What was alive at attach is released under its own address, on a device that is known, and is no excess.
fn buffers_from_before_are_told_apart(run: &Run) -> Result<()> {
    let address = run.before[0]["address"].as_u64().context("an address")?.to_string();
    let timeline = text(&["timeline", run.trace(), "--device", "mesh0", "--address", &address])?;
    assert!(timeline.contains("pre-attach"), "{timeline}");
    let report = json(&["report", run.trace()])?;
    assert_eq!(report["balance"]["allocator_offenders"], json!([]));
    // The scenarios free the first two at once, which may be before they can be read; the third is there to the end.
    let mut found = Vec::new();
    for item in Reader::open(&run.trace)? {
        match item {
            Item::Record(Record::LiveOwner(it)) => found.push((it.address.0, it.size, it.buffer_type, it.unique_id)),
            Item::Record(Record::Snapshot(it)) => assert_eq!((it.settled, it.missing.as_str()), (true, "")),
            _ => {}
        }
    }
    for (address, size, buffer_type, unique_id) in &found {
        let same = |it: &&Value| it["address"] == *address && it["size"] == *size && it["type"] == *buffer_type;
        let truth =
            run.before.iter().find(same).with_context(|| format!("{address:#x} is none of the early tensors"))?;
        assert!(truth["uid"].is_null() || truth["uid"] == *unique_id, "{truth}");
    }
    let last = run.before.iter().rfind(|it| it["action"] == "allocated").context("an early tensor")?;
    assert!(found.iter().any(|(address, ..)| last["address"] == *address), "{found:x?}");
    Ok(())
}

/// The trace has the names of all that was on the stacks, so it needs nothing of the machine that it comes from.
fn stacks_have_names(run: &Run) -> Result<()> {
    let address = run.actions(&["allocated"])[0]["address"].as_u64().context("an address")?.to_string();
    let shown = text(&["timeline", run.trace(), "--address", &address, "--stacks", "--frames", "all"])?;
    for name in ["deallocate_impl", "allocate_impl", "ttnn", "Py_RunMain", "_start"] {
        assert!(shown.contains(name), "no {name} in {shown}");
    }
    Ok(())
}

/// What Python was told when an allocation failed is the same as without a tracer.
fn failures_are_told_as_without_a_tracer(run: &Run, version: &str) -> Result<()> {
    let untraced = Target::start(ttnn_pytest(version, &["scenarios/test_early_mesh.py"])?)?;
    untraced.go()?;
    let untraced = untraced.finish()?;
    untraced.succeeded()?;
    let errors = |truth: &[Value]| -> Vec<String> {
        let failed = truth.iter().filter(|action| action["action"] == "failed");
        // The message ends in a C++ backtrace of return addresses, which differ by load address.
        failed
            .map(|action| {
                action["error"].as_str().unwrap_or_default().lines().take_while(|line| *line != "backtrace:").collect()
            })
            .collect()
    };
    let (with, without) = (errors(&run.truth), errors(&untraced.truth()?));
    assert_eq!(with, without);
    assert_eq!(with.len(), 2);
    Ok(())
}

impl Run {
    fn finished_pid(&self) -> u64 {
        self.truth[0]["pid"].as_u64().unwrap_or(0)
    }
}

fn check(version: &str, mark: &str) -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let run = Run::of(version)?;
    let allocated = allocations_are_those_that_ttnn_tells(&run);
    frees_are_those_that_the_script_makes(&run, &allocated)?;
    devices_are_the_meshes_that_ttnn_tells(&run);
    verdicts_are_those_of_the_script(&run, mark)?;
    buffers_from_before_are_told_apart(&run)?;
    stacks_have_names(&run)?;
    failures_are_told_as_without_a_tracer(&run, version)?;
    run.finished.succeeded()
}

#[test]
fn ttnn_0_66_with_buffer() -> Result<()> {
    // ~MeshDevice ran only at exit in this release: the device was closed, not gone.
    check("0.66.0", "after-close")
}

#[test]
fn ttnn_0_81_with_buffer_impl() -> Result<()> {
    check("0.81.1", "marked")
}
