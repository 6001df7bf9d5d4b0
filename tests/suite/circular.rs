// SPDX-License-Identifier: Apache-2.0
//! Circular buffers of real ttnn, against its own graph capture.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use buftrace::trace::{Item, Kind};
use serde_json::Value;

use crate::{
    target::{can_have_ttnn, record_with, ttnn},
    tool::{can_probe, items, json, path, root},
};

/// Adds two tensors, and prints address and size of each circular buffer that ttnn's graph capture has seen meanwhile.
const ADD: &str = "
import json, os, sys
# Not every release launches programs on mock devices otherwise.
os.environ.pop('TT_METAL_SLOW_DISPATCH_MODE', None)
sys.path[:0] = ['tests/lookalike', 'tests/ttnn']
import attach, tensors, ttnn
graph = ttnn._ttnn.graph
mesh = tensors.Mesh()
one, other = [mesh.empty((1, 1, 32, 64)) for _ in range(2)]
attach.wait_for_tracer()
graph.begin_graph_capture(graph.RunMode.NORMAL)
result = tensors.add(one, other)
captured = graph.end_graph_capture()
seen = [node['params'] for node in captured if node['node_type'] == 'circular_buffer_allocate']
print(json.dumps([[int(it['address']), int(it['size'])] for it in seen]), flush=True)
os._exit(0)
";

fn circular_buffers(version: &str) -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let mut command = ttnn(version, &["-c", ADD])?;
    command.current_dir(root());
    let (target, trace) = record_with(command, &["--probes", "full"])?;
    let printed = String::from_utf8_lossy(&target.output.stdout).into_owned();
    let line = printed.lines().rev().find(|line| line.starts_with('[')).with_context(|| printed.clone())?;
    let captured: Vec<(u64, u64)> = serde_json::from_str(line)?;
    assert!(!captured.is_empty(), "the operation had no circular buffer");
    let circular = |item: &Item| match item {
        Item::Event(event) if event.kind == Kind::Circular => Some((event.address, event.size)),
        _ => None,
    };
    let recorded: Vec<(u64, u64)> = items(&trace)?.iter().filter_map(circular).collect();
    assert_eq!(count(&recorded), count(&captured));
    let report = json(&["report", path(&trace)])?;
    let rows = report["circular"].as_array().context("a table")?;
    let sum = |field: &str| rows.iter().filter_map(|row| row[field].as_u64()).sum::<u64>();
    assert_eq!(sum("allocations") + sum("in_buffers"), captured.len() as u64, "{rows:?}");
    assert!(rows.iter().all(|row| row["device"] != Value::Null), "{rows:?}");
    // They are no buffers.
    assert!(report["totals"].as_array().is_some_and(|totals| totals.iter().all(|row| row["buffer_type"] == "DRAM")));
    Ok(())
}

fn count(buffers: &[(u64, u64)]) -> BTreeMap<(u64, u64), u32> {
    let mut counts = BTreeMap::new();
    for &buffer in buffers {
        *counts.entry(buffer).or_default() += 1;
    }
    counts
}

#[test]
fn ttnn_0_66_lays_out_circular_buffers() -> Result<()> {
    circular_buffers("0.66.0")
}

#[test]
fn ttnn_0_81_lays_out_circular_buffers() -> Result<()> {
    circular_buffers("0.81.1")
}
