// SPDX-License-Identifier: Apache-2.0
//! More of everything than the kernel side has room for: what is missing is said, and the rest is as right as ever.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use buftrace::trace::{Item, Record};
use serde_json::Value;

use crate::{
    account::{by_trace, by_truth},
    forks::recorded_while_asleep,
    target::{lookalike, record},
    tool::{can_probe, confirmed, items, json, path},
};

/// Processes that can be recorded at the same time, and children that are more than that.
const MOST_PROCESSES: u64 = 1024;
const CHILDREN: u64 = 1100;

/// All children live at the same time. Then each frees what it was born with.
const CROWD: &str = "
import os, sys, attach, lookalike
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
tensor = mesh.empty(4096)
wait, go = os.pipe()
children = []
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(wait, 1)
        tensor.deallocate()
        os._exit(0)
    children.append(child)
os.close(go)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
tensor.deallocate()
os._exit(0)
";

/// Maps a page of the library's code to more places than the kernel side has a list for, below all libraries.
const PLACES_OF_CODE: &str = "
import mmap, attach, lookalike
mesh = lookalike.MeshDevice(1)
line = next(line.split() for line in open('/proc/self/maps') if 'r-xp' in line and 'libtt_metal' in line)
with open(line[5]) as library:
    places = [
        mmap.mmap(library.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC, offset=int(line[2], 16))
        for _ in range(1100)
    ]
attach.wait_for_tracer()
for _ in range(50):
    mesh.empty(4096).drop()
mesh.close()
";

fn counter(report: &Value, name: &str) -> Result<u64> {
    let mut rows = report["integrity"]["counters"].as_array().into_iter().flatten();
    let row = rows.find(|row| row["name"] == name);
    row.and_then(|row| row["value"].as_u64()).with_context(|| format!("no counter {name}"))
}

fn problems(items: &[Item]) -> Vec<&str> {
    let problem = |item| match item {
        &Item::Record(Record::Problem(ref it)) => Some(it.text.as_str()),
        _ => None,
    };
    items.iter().filter_map(problem).collect()
}

#[test]
fn processes_that_there_is_no_room_for_are_counted() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (_target, trace) = recorded_while_asleep(lookalike("pimpl", &["-c", CROWD, &CHILDREN.to_string()]))?;

    let recorded = MOST_PROCESSES - 1;
    let report = json(&["report", path(&trace)])?;
    assert_eq!(counter(&report, "not-followed")?, CHILDREN - recorded);
    let sentence = format!("{} child processes are not recorded: there were too many processes", CHILDREN - recorded);
    let items = items(&trace)?;
    assert!(problems(&items).contains(&sentence.as_str()), "{:?}", problems(&items));
    let processes = items.iter().filter(|item| matches!(item, Item::Record(Record::Process(_)))).count() as u64;
    assert_eq!((processes, confirmed(&trace, "inherited")?), (MOST_PROCESSES, recorded));
    assert_eq!(confirmed(&trace, "released")?, 1);
    assert_eq!(report["integrity"]["unaccounted"], 0);
    Ok(())
}

#[test]
fn stacks_through_code_in_too_many_places_are_copied_and_whole() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (target, trace) = record(lookalike("pimpl", &["-c", PLACES_OF_CODE]))?;
    let items = items(&trace)?;
    assert_eq!(by_trace(&items), by_truth(&target.truth()?));
    let sentence =
        "the process has code in more than 1024 places; stacks through the rest are copied, which costs more";
    assert!(problems(&items).contains(&sentence), "{:?}", problems(&items));
    let report = json(&["report", path(&trace)])?;
    assert!(counter(&report, "copied")? >= 50, "{}", report["integrity"]);
    let stacks = report["integrity"]["stacks"].as_array().into_iter().flatten();
    let ends: BTreeSet<&str> = stacks.filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(ends, BTreeSet::from(["complete"]));
    Ok(())
}
