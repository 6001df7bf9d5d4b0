// SPDX-License-Identifier: Apache-2.0
//! Recordings of commands that start others: the workers of pytest-xdist, the ranks of mpirun.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::Result;
use buftrace::trace::{Item, Kind};

use crate::{
    processes::processes,
    survival::events,
    target::{lookalikes, python},
    tool::{Recorder, can_probe, items, json, path, root, tool},
};

/// Starts workers as pytest-xdist does: programs of their own, which load the library by themselves, and go on when they
/// are recorded.
const WORKERS: &str = "
import os, subprocess, sys
worker = '''
import os, sys, time, lookalike
folder = sys.argv[1]
open(f'{folder}/worker-{os.getpid()}', 'w').close()
while not os.path.exists(f'{folder}/go'):
    time.sleep(0.01)
mesh = lookalike.MeshDevice(1)
tensor = mesh.empty(4096 * int(sys.argv[2]))
tensor.deallocate()
tensor.deallocate()
os._exit(0)
'''
running = [subprocess.Popen([sys.executable, '-c', worker, sys.argv[1], str(number)]) for number in (1, 2, 3)]
subprocess.run(['true'], check=True)
sys.exit(max(one.wait() for one in running))
";

/// What each rank runs; it tells its process by its rank.
const RANK: &str = "
import os, sys, time, lookalike
folder, rank = sys.argv[1], int(os.environ['OMPI_COMM_WORLD_RANK'])
with open(f'{folder}/rank-{rank}.new', 'w') as file:
    file.write(str(os.getpid()))
os.rename(f'{folder}/rank-{rank}.new', f'{folder}/rank-{rank}')
while not os.path.exists(f'{folder}/go'):
    time.sleep(0.01)
mesh = lookalike.MeshDevice(1)
mesh.empty(4096 * (rank + 1)).drop()
os._exit(0)
";
const RANKS: u64 = 4;

/// Records a command on the look-alike, and lets it go on once so many processes of it are recorded: what it recorded.
fn record(folder: &Path, command: &[&str], count: usize) -> Result<Vec<Item>> {
    let trace = folder.join("trace.ttb");
    let mut command = tool(&[&["record", "-o", path(&trace), "--"], command].concat());
    let library = lookalikes().join("pimpl/libtt_metal.so");
    command.env("LOOKALIKE_LIBRARY", library).env("PYTHONPATH", root().join("tests/lookalike"));
    let mut recorder = Recorder::launch(command)?;
    for _ in 0..count {
        recorder.wait_for("recording ")?;
    }
    fs::write(folder.join("go"), "")?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains("the processes ended"), "{said}");
    items(&trace)
}

/// The sizes of what each process allocated, by its number in the trace.
fn allocated(items: &[Item]) -> BTreeSet<(u32, u64)> {
    let allocated = events(items).filter(|event| event.kind == Kind::Allocated);
    allocated.map(|event| (event.process, event.size)).collect()
}

#[test]
fn a_command_is_recorded_with_the_workers_that_it_starts() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let items = record(folder.path(), &[path(python()), "-c", WORKERS, path(folder.path())], 3)?;
    let started = fs::read_dir(folder.path())?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("worker-")?.parse::<u32>().ok());
    assert_eq!(processes(&items).into_keys().collect::<BTreeSet<_>>(), started.collect());
    let sizes: BTreeSet<u64> = allocated(&items).into_iter().map(|(_, size)| size).collect();
    assert_eq!(sizes, BTreeSet::from([4096, 8192, 12288]));
    let excess = json(&["excess", path(&folder.path().join("trace.ttb"))])?;
    assert_eq!((excess["sites"].as_array().map(Vec::len), &excess["sites"][0]["count"]), (Some(1), &3.into()));
    Ok(())
}

#[test]
fn the_ranks_of_mpirun_are_recorded_each_by_itself() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    if !Command::new("mpirun").arg("--version").output().is_ok_and(|it| it.stdout.starts_with(b"mpirun (Open MPI)")) {
        eprintln!("skipped: Open MPI's mpirun is not installed");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let count = RANKS.to_string();
    let mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", &count];
    let rank = [path(python()), "-c", RANK, path(folder.path())];
    let items = record(folder.path(), &[&mpirun[..], &rank].concat(), RANKS as usize)?;
    let mut ranks = BTreeMap::new();
    for rank in 0..RANKS {
        ranks.insert(fs::read_to_string(folder.path().join(format!("rank-{rank}")))?.parse::<u32>()?, rank);
    }
    let recorded = processes(&items);
    assert_eq!(recorded.keys().collect::<Vec<_>>(), ranks.keys().collect::<Vec<_>>());
    let expected = ranks.iter().map(|(pid, rank)| (recorded[pid].0, 4096 * (rank + 1)));
    assert_eq!(allocated(&items), expected.collect());
    Ok(())
}
