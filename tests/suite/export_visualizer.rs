// SPDX-License-Identifier: Apache-2.0
//! Reports for ttnn-visualizer, opened by the published one, and compared with the trace.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use buftrace::trace::{BUFFER_TYPES, Item, Kind};
use serde_json::Value;

use crate::{
    export_tables::read_with,
    target::{can_have_ttnn, lookalike_pytest, record, table_readers},
    tool::{can_probe, items, json, path, text},
};

#[test]
fn the_visualizer_shows_what_the_trace_has() -> Result<()> {
    let Some(python) = table_readers().filter(|_| can_probe()) else { return Ok(()) };
    let scenarios = ["scenarios/test_lifecycle.py", "scenarios/test_excess.py"];
    let (target, trace) = record(lookalike_pytest("buffer", &scenarios))?;
    let (report, lines) = (target.path("report"), target.path("steps.jsonl"));
    text(&["export", path(&trace), "--to", "visualizer", "-o", path(&report)])?;
    text(&["export", path(&trace), "--to", "jsonl", "-o", path(&lines)])?;
    let lines = fs::read_to_string(&lines)?;
    let steps: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let shown: Value = serde_json::from_str(&read_with(python, "visualizer.py", &[path(&report), "0"])?)?;
    let operations = shown["operations"].as_array().context("operations")?;
    let sizes = bank_sizes(&trace)?;
    each_operation_has_the_buffers_that_were_live(operations, &shown["buffers"], &steps, &sizes)?;
    operations_add_up_to_the_report(operations, &json(&["report", path(&trace)])?)?;
    excess_frees_are_errors(&shown, &json(&["excess", path(&trace)])?)?;
    for (operation, detail) in operations.iter().zip(shown["details"].as_array().context("details")?) {
        assert_eq!((&operation["name"], &operation["id"]), (&detail["name"], &detail["id"]));
        // Without a stack one answer has nothing, the other an empty text.
        let [listed, alone] = [operation, detail].map(|it| it["stack_trace"].as_str().unwrap_or_default());
        assert_eq!(listed, alone);
    }
    let unload = "in Model.unload\n";
    assert!(operations.iter().any(|it| it["stack_trace"].as_str().is_some_and(|trace| trace.contains(unload))));
    assert_eq!(shown["facts"]["schema_version"], "3.5");
    let without = |step: &&Value| {
        let asked = step["buffer"].as_u64().is_some_and(|buffer| sizes.contains_key(&buffer));
        step["what"] == "found" || step["what"] == "alloc" && step["phantom"] == false && !asked
    };
    let found = steps.iter().filter(without).count();
    assert_eq!(shown["facts"]["tt_buftrace_buffers_without_bank_size"], found.to_string());
    Ok(())
}

/// What an allocator was asked for, by the unique ids of those whom it was for: bytes in each bank. A second owner of
/// another's memory asks for nothing.
fn bank_sizes(trace: &Path) -> Result<BTreeMap<u64, u64>> {
    let (mut asked, mut sizes) = (HashMap::new(), BTreeMap::new());
    for item in items(trace)? {
        let Item::Event(event) = item else { continue };
        match event.kind {
            Kind::Bank => drop(asked.insert(event.thread, event.size)),
            Kind::Request => drop(asked.remove(&event.thread)),
            Kind::Allocated => sizes.extend(asked.remove(&event.thread).map(|size| (event.unique_id, size))),
            _ => {}
        }
    }
    Ok(sizes)
}

/// An argument of an operation.
fn argument<'a>(operation: &'a Value, name: &str) -> Result<&'a str> {
    let arguments = operation["arguments"].as_array().context("arguments")?;
    let found = arguments.iter().find(|it| it["name"] == name).with_context(|| format!("an argument {name}"))?;
    found["value"].as_str().context("a text")
}

fn nanoseconds(seconds: &str) -> Result<u64> {
    let (whole, rest) = seconds.split_once('.').context("a point")?;
    Ok(whole.parse::<u64>()? * 1_000_000_000 + rest.parse::<u64>()?)
}

/// Replays the steps up to the end of each operation.
fn each_operation_has_the_buffers_that_were_live(
    operations: &[Value],
    buffers: &Value,
    steps: &[Value],
    sizes: &BTreeMap<u64, u64>,
) -> Result<()> {
    let snapshots = buffers.as_array().context("snapshots")?;
    let by_id: BTreeMap<Option<u64>, &Value> = snapshots.iter().map(|it| (it["id"].as_u64(), &it["buffers"])).collect();
    let mut most = 0;
    for operation in operations {
        let end = nanoseconds(argument(operation, "end_seconds")?)?;
        let mut live: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
        for step in steps.iter().filter(|step| step["time"].as_u64() <= Some(end) && step["verdict"] != "held") {
            let Some(buffer) = step["buffer"].as_u64() else { continue };
            if step["what"] == "alloc" && step["phantom"] == false && sizes.contains_key(&buffer) {
                let kind = BUFFER_TYPES.iter().position(|it| step["buffer_type"] == *it).context("a type")?;
                live.insert(buffer, (kind as u64, step["address"].as_u64().context("an address")?, sizes[&buffer]));
            } else if step["ends"] == true {
                live.remove(&buffer);
            }
        }
        let mut expected: Vec<_> = live.into_values().collect();
        expected.sort_unstable();
        let shown = by_id.get(&operation["id"].as_u64()).and_then(|it| it.as_array()).cloned().unwrap_or_default();
        let mut found = Vec::new();
        for buffer in &shown {
            let number = |name: &str| buffer[name].as_u64().with_context(|| format!("no {name} in {buffer}"));
            found.push((number("buffer_type")?, number("address")?, number("size")?));
        }
        found.sort_unstable();
        most = most.max(found.len());
        assert_eq!(found, expected, "after {operation}");
    }
    assert!(most > 2, "{most}");
    Ok(())
}

fn operations_add_up_to_the_report(operations: &[Value], report: &Value) -> Result<()> {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let mut allocations = 0;
    for operation in operations {
        allocations += argument(operation, "allocations")?.parse::<u64>()?;
        for part in argument(operation, "verdicts")?.split(", ").filter(|it| !it.is_empty()) {
            let (count, verdict) = part.split_once(' ').context("a count and a verdict")?;
            *found.entry(verdict.to_owned()).or_default() += count.parse::<u64>()?;
        }
    }
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for row in report["verdicts"].as_array().context("verdicts")?.iter().filter(|row| row["verdict"] != "held") {
        let both = row["confirmed"].as_u64().unwrap_or(0) + row["possible"].as_u64().unwrap_or(0);
        expected.insert(row["verdict"].as_str().context("a verdict")?.to_owned(), both);
    }
    assert_eq!(found, expected);
    let totals = report["totals"].as_array().context("totals")?.iter().filter_map(|row| row["allocations"].as_u64());
    assert_eq!(allocations, totals.sum::<u64>());
    Ok(())
}

fn excess_frees_are_errors(shown: &Value, excess: &Value) -> Result<()> {
    let sites: BTreeSet<&str> =
        excess["sites"].as_array().context("sites")?.iter().filter_map(|it| it["site"]["name"].as_str()).collect();
    let errors = shown["errors"].as_array().context("errors")?;
    assert!(errors.iter().all(|error| error["attached"] == true));
    let kinds = ["repeat", "alias-free", "stale-free", "stolen-free"];
    let excess = errors.iter().filter(|error| kinds.iter().any(|kind| error["error_type"] == *kind));
    let found: BTreeSet<&str> = excess.filter_map(|error| error["operation_name"].as_str()).collect();
    assert!(!found.is_empty());
    assert_eq!(found, sites);
    Ok(())
}

/// The tables, their columns and their types are those that ttnn makes itself.
#[test]
fn the_schema_is_ttnns_own() -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let (target, trace) = record(lookalike_pytest("buffer", &["scenarios/test_excess.py"]))?;
    let report = target.path("report");
    text(&["export", path(&trace), "--to", "visualizer", "-o", path(&report)])?;
    let (_, python) = xtask::python::with_ttnn("0.81.1")?;
    let found: Value = serde_json::from_str(&read_with(&python, "schema.py", &[path(&report.join("db.sqlite"))])?)?;
    assert_eq!(found["given"], found["own"]);
    assert_eq!(found["version"], "3.5");
    Ok(())
}
