// SPDX-License-Identifier: Apache-2.0
//! What allocators held when the recording began: the look-alike and real ttnn, against what they tell of it themselves.

use std::process::Command;

use anyhow::{Context as _, Result};
use buftrace::trace::{DeviceClass, Item, LiveOwner, Record, Snapshot};
use serde_json::{Value, json};

use crate::{
    target::{Finished, can_have_ttnn, lookalike, lookalikes, record, ttnn},
    tool::{can_probe, items, json as read_json, path, text},
};

/// Prints the tensors that are there before the tracer comes, and lives on until its memory is read. The one from before the bulk release has no memory any more,
/// and its address is the next one's, but its allocator lists it still.
const LOOKALIKE: &str = "
import json, os, time, attach, lookalike
mesh = lookalike.MeshDevice()
stale = mesh.empty(4096)
mesh.release_all()
mesh.empty(4096).leak()
tensors = [mesh.empty(size, buffer_type=kind) for size, kind in ((4096, 0), (8192, 1), (2048, 0), (6144, 1))]
mesh.empty(1 << 20).drop()
entries = [tensor.entry for tensor in tensors]
print(json.dumps([[it.unique_id, it.address, it.size, it.buffer_type] for it in entries]), flush=True)
attach.wait_for_tracer()
new = mesh.empty(4096)
tensors[0].drop()
again = mesh.empty(4096)
assert again.address == entries[0].address
time.sleep(1)
os._exit(0)
";

/// The same of ttnn, with the addresses that its own report lists. An interpreter that ends closes no device.
const TTNN: &str = "
import json, os, sys, time
sys.path.insert(0, '../lookalike')
import attach, tensors, ttnn
mesh = tensors.Mesh()
kept = [mesh.empty((1, 1, 64 * n, 64), l1=n % 2 == 1) for n in range(1, 20)]
for n in (3, 8, 12):
    kept[n].deallocate()
del kept[12], kept[8], kept[3]
listed = sorted({it.address for it in ttnn._ttnn.reports.get_buffers(mesh.device)})
details = [[it.details['uid'], it.details['address'], it.details['size'], it.details['type']] for it in kept]
print(json.dumps({'listed': listed, 'tensors': details}), flush=True)
attach.wait_for_tracer()
mesh.empty((1, 1, 32, 32))
time.sleep(1)
os._exit(0)
";

struct Found {
    owners: Vec<LiveOwner>,
    snapshots: Vec<Snapshot>,
    printed: Value,
    report: Value,
    held: String,
}

fn run(command: Command) -> Result<Found> {
    let (target, trace) = record(command)?;
    let (mut owners, mut snapshots) = (Vec::new(), Vec::new());
    for item in items(&trace)? {
        match item {
            Item::Record(Record::LiveOwner(it)) => owners.push(it),
            Item::Record(Record::Snapshot(it)) => snapshots.push(it),
            _ => {}
        }
    }
    let (report, held) = (read_json(&["report", path(&trace)])?, text(&["held", path(&trace)])?);
    Ok(Found { owners, snapshots, printed: printed(&target)?, report, held })
}

fn printed(target: &Finished) -> Result<Value> {
    let output = String::from_utf8_lossy(&target.output.stdout).into_owned();
    let line = output.lines().rfind(|line| line.starts_with(['[', '{'])).context("the target prints what it has")?;
    Ok(serde_json::from_str(line)?)
}

/// Unique id, address, size and type.
fn told(owner: &LiveOwner) -> Value {
    json!([owner.unique_id, owner.address.0, owner.size, owner.buffer_type])
}

#[test]
fn owners_from_before_are_found() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for variant in ["buffer", "pimpl", "buffer-shuffled", "pimpl-shuffled", "clang"] {
        if !lookalikes().join(variant).join("libtt_metal.so").exists() {
            continue;
        }
        let found = run(lookalike(variant, &["-c", LOOKALIKE]))?;
        let tensors = found.printed.as_array().context("a list")?;
        // The first may be freed before it can be read; the leaked one, which comes before, is not printed.
        let owners: Vec<Value> = found.owners.iter().map(told).collect();
        assert!(tensors[1..].iter().all(|tensor| owners.contains(tensor)), "{variant}: {owners:?}");
        assert!(owners[1..].iter().all(|owner| tensors.contains(owner)), "{variant}: {owners:?}");
        assert!(found.owners.iter().all(|it| it.device_class == DeviceClass::Mesh), "{variant}: {owners:?}");
        let [snapshot] = found.snapshots.as_slice() else { panic!("{variant}: {:?}", found.snapshots) };
        assert_eq!((snapshot.settled, snapshot.left_out, snapshot.missing.as_str()), (true, 1, ""), "{variant}");
        assert_eq!(snapshot.owners, owners.len() as u64);
        let totals = found.report["totals"].as_array().context("totals")?;
        let l1 = totals.iter().find(|row| row["buffer_type"] == "L1").context("a row for L1")?;
        assert_eq!((&l1["found"], &l1["bytes_found"], &l1["live"]), (&json!(2), &json!(14336), &json!(2)), "{variant}");
        assert!(found.held.contains("allocated before the recording"), "{}", found.held);
        let red = |row: &Value| row["colour"] == "red" || row["colour"] == "excess";
        assert!(!found.report["verdicts"].as_array().context("verdicts")?.iter().any(red), "{}", found.report);
    }
    Ok(())
}

fn check_ttnn(version: &str) -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let found = run(ttnn(version, &["-c", TTNN])?)?;
    let tensors = found.printed["tensors"].as_array().context("tensors")?;
    let mut owners: Vec<Value> = found.owners.iter().map(told).collect();
    if tensors[0][0].is_null() {
        owners.iter_mut().for_each(|owner| owner[0] = Value::Null);
    }
    assert_eq!((owners.len(), tensors.len()), (16, 16));
    assert!(tensors.iter().all(|tensor| owners.contains(tensor)), "{owners:?}\n{tensors:?}");
    let mut addresses: Vec<u64> = found.owners.iter().map(|owner| owner.address.0).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(json!(addresses), found.printed["listed"]);
    let [snapshot] = found.snapshots.as_slice() else { panic!("{:?}", found.snapshots) };
    assert_eq!((snapshot.settled, snapshot.left_out, snapshot.missing.as_str()), (true, 0, ""));
    Ok(())
}

#[test]
fn ttnn_0_66_tells_the_same() -> Result<()> {
    check_ttnn("0.66.0")
}

#[test]
fn ttnn_0_81_tells_the_same() -> Result<()> {
    check_ttnn("0.81.1")
}
