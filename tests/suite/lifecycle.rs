// SPDX-License-Identifier: Apache-2.0
//! The life of buffers on real ttnn, one release of each class generation: every event has the verdict that ttnn's own
//! account of its memory asks for, and an ordinary run has no findings.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    target::{Target, can_have_ttnn, record, ttnn_pytest},
    tool::{can_probe, json, path, run},
};

/// A release, and what a free is there whose device's object the script gave up before.
type Release = (&'static str, &'static str);

/// ~MeshDevice runs only at exit in this one: the device is closed, not gone.
const BUFFER: Release = ("0.66.0", "after-close");
const BUFFER_IMPL: Release = ("0.81.1", "marked");

/// What happened to one buffer: the test and its phase, `given` or the verdict, the address, the type of memory.
type Fate = (String, String, u64, String);

#[test]
fn every_event_has_its_verdict_with_buffer() -> Result<()> {
    every_event_has_its_verdict(BUFFER)
}

#[test]
fn every_event_has_its_verdict_with_buffer_impl() -> Result<()> {
    every_event_has_its_verdict(BUFFER_IMPL)
}

fn every_event_has_its_verdict((version, device_gone): Release) -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    // A forked child may crash, which is no news.
    let (finished, trace) = record(ttnn_pytest(version, &["-p", "no:faulthandler", "lifecycle"])?)?;
    let trace = path(&trace);
    let truth = finished.truth()?;
    assert_eq!(found(trace)?, expected(&truth, device_gone)?);

    let report = json(&["report", trace])?;
    assert_eq!((&report["integrity"]["losses"], &report["integrity"]["unaccounted"]), (&json!([]), &json!(0)));
    let verdicts = rows(&report["verdicts"]);
    let unsure: Vec<&Value> = verdicts.iter().filter(|row| row["possible"] != 0).collect();
    assert!(unsure.is_empty(), "{unsure:?}");
    let code = run(&["check", trace, "--fail-on", "excess,red,held,lost", "--strict"])?.status.code();
    assert_eq!(code, Some(0));
    // The first failures are told with what was held; there are fewer of each type of memory.
    let by_memory = [json(&["report", trace, "--type", "DRAM"])?, json(&["report", trace, "--type", "L1"])?];
    holders_are_those_of_the_script(&by_memory, &truth);
    Ok(())
}

/// All that the trace says of the process that ran the tests. What its children did is theirs.
fn found(trace: &str) -> Result<BTreeMap<Fate, u64>> {
    let mut found = BTreeMap::new();
    for memory in ["DRAM", "L1", "L1_SMALL", "TRACE", "SYSTEM_MEMORY"] {
        let timeline = json(&["timeline", trace, "--type", memory])?;
        let parent = timeline["integrity"]["processes"][0]["process"].clone();
        for step in rows(&timeline["steps"]).iter().filter(|step| step["process"] == parent && step["what"] != "alias")
        {
            let what = if step["what"] == "alloc" { "given" } else { step["verdict"].as_str().context("a verdict")? };
            let address = step["address"].as_u64().context("an address")?;
            let test = step["test"].as_str().unwrap_or_default();
            *found.entry((test.to_owned(), what.to_owned(), address, memory.to_owned())).or_default() += 1;
        }
    }
    Ok(found)
}

/// What ttnn said of it.
fn expected(truth: &[Value], device_gone: &str) -> Result<BTreeMap<Fate, u64>> {
    let mut expected = BTreeMap::new();
    for line in truth.iter().filter(|line| line["action"] != "held") {
        let what = match line["verdict"].as_str() {
            None => "given",
            Some("device-gone") => device_gone,
            Some(verdict) => verdict,
        };
        let test = if line["later"] == true { "" } else { line["test"].as_str().context("a test")? };
        let memory = if line["type"] == 0 { "DRAM" } else { "L1" };
        let address = line["address"].as_u64().context("an address")?;
        *expected.entry((test.to_owned(), what.to_owned(), address, memory.to_owned())).or_default() += 1;
    }
    assert!(expected.len() > 300, "{}", expected.len());
    Ok(expected)
}

/// Who held what when a memory was full, by the function that allocated and the test: buffers and bytes.
fn holders_are_those_of_the_script(reports: &[Value], truth: &[Value]) {
    let mut expected = BTreeMap::new();
    for line in truth.iter().filter(|line| line["action"] == "held") {
        let test = line["test"].as_str().and_then(|test| test.split(" (").next()).unwrap_or_default();
        let by = line["by"].as_str().unwrap_or_default();
        expected.insert((test, by), (&line["buffers"], &line["bytes"]));
    }
    assert_eq!(expected.len(), 8);
    let mut found = BTreeMap::new();
    for failure in reports.iter().flat_map(|report| rows(&report["failures"])) {
        for holder in rows(&failure["held"]["holders"]) {
            let frames: Vec<&str> = rows(&holder["site"]["frames"]).iter().filter_map(Value::as_str).collect();
            let by = ["first_layer", "second_layer"]
                .into_iter()
                .find(|name| frames.contains(&&*format!("{name} (test_requests.py)")));
            if let (Some(by), Some(test)) = (by, holder["test"].as_str()) {
                found.insert((test, by), (&holder["buffers"], &holder["bytes"]));
            }
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn ordinary_work_has_no_findings_with_buffer() -> Result<()> {
    ordinary_work_has_no_findings(BUFFER)
}

#[test]
fn ordinary_work_has_no_findings_with_buffer_impl() -> Result<()> {
    ordinary_work_has_no_findings(BUFFER_IMPL)
}

/// pytest on models' work, with one chip in the machine (`single`) or eight (`mesh8`).
fn ordinary(version: &str, machine: &str) -> Result<Command> {
    let (folder, _) = xtask::python::with_ttnn(version)?;
    let mut command = ttnn_pytest(version, &["ordinary"])?;
    command.env("TT_METAL_MOCK_CLUSTER_DESC_PATH", folder.join(format!("{machine}.yaml")));
    Ok(command)
}

/// What each buffer does on a release, whatever the number of chips: views and the chips of a mesh report nothing.
const EXPECTED: &str = r#"
[[expect]]
name = "buffer"
allocations = 1
frees = 1

[[expect]]
name = "buffer, as reported to the graph tracker"
ledger = "server"
allocations = 1
frees = 1

[[expect]]
name = "tensor of which there is a view"
test = "*::test_shapes[mesh_device]"
site = "weights"
ledger = "server"
allocations = 1
frees = 1
"#;

fn ordinary_work_has_no_findings((version, _): Release) -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let counted = counted_by_ttnn(version)?;
    let runs = [record(ordinary(version, "single")?)?, record(ordinary(version, "mesh8")?)?];
    let [(finished, one_chip), (_, eight_chips)] = &runs;
    let expectations = finished.path("expected.toml");
    fs::write(&expectations, EXPECTED)?;
    for trace in [one_chip, eight_chips] {
        let trace = path(trace);
        assert_eq!(released_by_test(&json(&["report", trace])?)?, counted);
        let rules = "excess,red,yellow,unmatched,pre-attach,lost,damaged";
        let output = run(&["check", trace, "--fail-on", rules, "--strict", "--expect", path(&expectations)])?;
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let folder = tempfile::tempdir()?;
    two_processes_are_one_model([path(one_chip), path(eight_chips)], folder.path(), &counted)
}

/// How many buffers each test allocates, all of which it frees: by ttnn's own graph capture, without a tracer.
fn counted_by_ttnn(version: &str) -> Result<BTreeMap<String, u64>> {
    let mut command = ordinary(version, "mesh8")?;
    command.env("BUFTRACE_CAPTURE", "1");
    let target = Target::start(command)?;
    target.go()?;
    let finished = target.finish()?;
    finished.succeeded()?;
    let mut counted = BTreeMap::new();
    for line in finished.truth()? {
        let test = line["test"].as_str().and_then(|test| test.split(" (").next()).context("a test")?;
        assert_eq!(line["allocate"], line["deallocate"], "{test}");
        counted.insert(test.to_owned(), line["allocate"].as_u64().context("a number")?);
    }
    assert_eq!(counted.len(), 14);
    Ok(counted)
}

/// The tests of a report with what they released; there is no other verdict.
fn released_by_test(report: &Value) -> Result<BTreeMap<String, u64>> {
    let mut released = BTreeMap::new();
    for row in rows(&report["tests"]) {
        let (test, count) = (row["test"].as_str().context("a test")?, row["frees"].as_u64().context("a number")?);
        assert_eq!(
            (&row["allocations"], &row["verdicts"]),
            (&json!(count), &json!([{"verdict": "released", "count": count}]))
        );
        released.insert(test.to_owned(), count);
    }
    Ok(released)
}

/// Two recordings of processes with the same ids, devices and addresses, given to each command as one run.
fn two_processes_are_one_model(traces: [&str; 2], folder: &Path, counted: &BTreeMap<String, u64>) -> Result<()> {
    let alone = [json(&["report", traces[0]])?, json(&["report", traces[1]])?];
    let both = json(&["report", traces[0], traces[1]])?;
    let sum: u64 = 2 * counted.values().sum::<u64>();
    assert_eq!(released_by_test(&both)?, counted.iter().map(|(test, count)| (test.clone(), 2 * count)).collect());
    assert_eq!(both["verdicts"][0]["confirmed"], sum);
    let totals = |report: &Value| -> Vec<Value> {
        rows(&report["totals"])
            .iter()
            .map(|row| json!([row["device"], row["buffer_type"], row["allocations"], row["peak_bytes"]]))
            .collect()
    };
    assert_eq!(totals(&both), [totals(&alone[0]), totals(&alone[1])].concat());
    let pids = |report: &Value| -> Vec<Value> {
        rows(&report["integrity"]["processes"]).iter().map(|row| row["pid"].clone()).collect()
    };
    assert_eq!(pids(&both), [pids(&alone[0]), pids(&alone[1])].concat());
    assert_ne!(pids(&alone[0]), pids(&alone[1]));

    let steps = |timeline: &Value, process: u64| -> Vec<Value> {
        let its = rows(&timeline["steps"]).iter().filter(|step| step["process"] == process);
        its.map(|step| {
            json!([step["what"], step["number"], step["buffer"], step["device"], step["address"], step["test"]])
        })
        .collect()
    };
    let timeline = json(&["timeline", "--type", "DRAM", traces[0], traces[1]])?;
    for (number, trace) in (1..).zip(traces) {
        let alone = steps(&json(&["timeline", "--type", "DRAM", trace])?, 1);
        assert!(alone.len() > 100);
        assert_eq!(steps(&timeline, number), alone);
    }
    assert_eq!(json(&["excess", traces[0], traces[1]])?["sites"], json!([]));
    assert_eq!(json(&["held", traces[0], traces[1]])?["groups"], json!([]));

    let code = |rule: &str| anyhow::Ok(run(&["check", traces[0], traces[1], "--fail-on", rule])?.status.code());
    assert_eq!((code(&format!("released>{sum}"))?, code(&format!("released>{}", sum - 1))?), (Some(0), Some(1)));

    let side = [traces[0], traces[1]].join(",");
    let swapped = [traces[1], traces[0]].join(",");
    let diff = json(&["diff", &side, &swapped])?;
    assert_eq!((&diff["conclusion"], &diff["certainty"]), (&json!("clean"), &json!("confirmed")));

    // One trace given twice is no second process.
    let twice = folder.join("copy.ttb");
    fs::copy(traces[0], &twice)?;
    let problems = json(&["report", traces[0], path(&twice)])?["integrity"]["problems"].to_string();
    assert!(problems.contains("processes 1, 2 are recordings of one process"), "{problems}");
    assert!(!both["integrity"]["problems"].to_string().contains("recordings of one process"));
    Ok(())
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
