// SPDX-License-Identifier: Apache-2.0
//! Recordings of the look-alike library, compared with what it says itself that it did.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use buftrace::trace::{Item, Kind, Record};
use serde_json::Value;

use crate::{
    account::{Step, by_trace, by_truth},
    target::{Finished, Target, lookalike, lookalike_pytest, lookalikes},
    tool::{Recorder, can_probe, items, json, path, root, text, tool},
};

const SCENARIOS: [&str; 3] = ["scenarios/test_lifecycle.py", "scenarios/test_clean.py", "scenarios/test_excess.py"];

/// What each scenario of `test_lifecycle.py` is there to show. Where a block has a second owner, the two share its bytes,
/// and the first free robs the other; what the mesh still has at its close is released in bulk.
const VERDICTS: [(&str, &[(&str, u64)]); 15] = [
    ("test_released", &[("released", 1)]),
    ("test_repeat", &[("released", 1), ("repeat", 1)]),
    ("test_alias_free", &[("released", 1)]),
    ("test_stale_free", &[("overlap", 1), ("stolen-free", 1), ("stale-free", 1)]),
    ("test_stolen_free", &[("overlap", 2), ("stolen-free", 2), ("bulk", 1)]),
    ("test_overlap", &[("overlap", 1), ("released", 1), ("bulk", 1)]),
    ("test_after_close", &[("after-close", 1), ("bulk", 1)]),
    ("test_marked", &[("bulk", 1), ("marked", 1)]),
    ("test_bulk", &[("bulk", 1)]),
    ("test_bulk_in_an_open_mesh", &[("bulk", 1)]),
    ("test_failed", &[("failed", 1), ("released", 4)]),
    ("test_phantom", &[("phantom", 2)]),
    ("test_pre_attach", &[("pre-attach", 1)]),
    ("test_inherited", &[("released", 1)]),
    ("test_held", &[("held", 1)]),
];

/// The library becomes part of the process long after the recorder, and waits until that is attached.
const LATE_LIBRARY: &str = "
import os, time, attach
attach.wait_for_tracer()
import lookalike
folder = os.path.dirname(os.environ['BUFTRACE_GO_FILE'])
while not os.path.exists(folder + '/attached'):
    time.sleep(0.01)
mesh = lookalike.MeshDevice()
for _ in range(10):
    mesh.empty(4096).drop()
mesh.close()
";

/// Prints the thread id of each size.
const THREADS: &str = "
import json, threading, attach, lookalike
mesh = lookalike.MeshDevice()
attach.wait_for_tracer()
threads = {}
def allocate(size):
    threads[size] = threading.get_native_id()
    for _ in range(100):
        mesh.empty(size).drop()
running = [threading.Thread(target=allocate, args=(2048 * (number + 1),)) for number in range(4)]
for thread in running: thread.start()
for thread in running: thread.join()
print(json.dumps(threads))
";

/// A target that was recorded from attach to its end.
struct Recorded {
    target: Finished,
    trace: PathBuf,
    items: Vec<Item>,
    /// What the target did while it was recorded.
    truth: Vec<Value>,
}

impl Recorded {
    fn run(command: Command) -> Result<Self> {
        let target = Target::start(command)?;
        let trace = target.path("trace.ttb");
        let before = fs::read_to_string(target.path("truth")).unwrap_or_default().lines().count();
        let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
        assert!(!recorder.said.contains("warning"), "{}", recorder.said);
        target.go()?;
        let pid = target.pid;
        let target = target.finish()?;
        target.succeeded()?;
        let (status, said) = recorder.finish()?;
        assert!(status.success() && said.contains("the process ended"), "{status}: {said}");
        let mut truth = target.truth()?.split_off(before);
        truth.retain(|line| line["pid"] == pid);
        Ok(Self { target, items: items(&trace)?, trace, truth })
    }

    fn json(&self, command: &[&str]) -> Result<Value> {
        json(&[command, &[path(&self.trace)]].concat())
    }
}

fn variants() -> impl Iterator<Item = &'static str> {
    let variants = ["buffer", "pimpl", "buffer-shuffled", "pimpl-shuffled", "buffer-dwarf", "clang"];
    variants.into_iter().filter(|variant| lookalikes().join(variant).join("libtt_metal.so").exists())
}

#[track_caller]
fn assert_same(recorded: &[Step], expected: &[Step]) {
    assert!(!expected.is_empty(), "the truth is empty");
    let differs = recorded.iter().zip(expected).position(|(one, other)| one != other);
    let at = differs.unwrap_or(recorded.len().min(expected.len()));
    assert_eq!(recorded.get(at), expected.get(at), "step {at}");
}

/// In the order of each buffer's own life, where threads make their common order a matter of chance.
fn by_buffer(mut steps: Vec<Step>) -> Vec<Step> {
    steps.sort_by_key(|step| step.unique_id);
    steps
}

fn in_one_thread(mut steps: Vec<Step>) -> Vec<Step> {
    steps.retain(|step| !step.test.contains("test_threads"));
    steps
}

#[test]
fn every_allocation_and_free_is_recorded_once_and_in_order() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for variant in variants() {
        let recorded = Recorded::run(lookalike_pytest(variant, &SCENARIOS))?;
        let (steps, truth) = (by_trace(&recorded.items), by_truth(&recorded.truth));
        assert_same(&in_one_thread(steps.clone()), &in_one_thread(truth.clone()));
        assert_same(&by_buffer(steps), &by_buffer(truth));
        assert_requests(&recorded);
        assert_stacks(&recorded.items)?;
        assert_verdicts(&recorded)?;
        assert_layout(variant, &recorded.items)?;
    }
    Ok(())
}

/// Each owner asks once, but for the second owner of a block, which asks for nothing.
fn assert_requests(recorded: &Recorded) {
    let uid = |line: &Value| line["uid"].as_u64();
    let adopts = |line: &&Value| ["stale_free", "stolen_free"].iter().any(|it| test_of(line).contains(it));
    let owners = recorded.truth.iter().filter(|line| line["owns"] == true && !adopts(line));
    let allocated = owners.filter(|line| line["action"] == "allocated" || line["status"] == 0).filter_map(uid);
    let mut requests = Vec::new();
    let mut test = String::new();
    for item in &recorded.items {
        match item {
            Item::Record(Record::Text(it)) => test.clone_from(&it.text),
            Item::Event(event)
                if event.kind == Kind::Request && !test.contains("stale") && !test.contains("stolen") =>
            {
                requests.push(event.unique_id);
            }
            _ => {}
        }
    }
    requests.sort_unstable();
    assert_eq!(requests, allocated.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
}

fn test_of(line: &Value) -> &str {
    line["test"].as_str().unwrap_or_default()
}

/// Every stack was walked to the function that its thread began in: `_start`, or one of libc that has no public name.
fn assert_stacks(items: &[Item]) -> Result<()> {
    let outlines = Outlines::of(items);
    let mut walked = 0;
    for item in items {
        let Item::Event(event) = item else { continue };
        if !has_stack(event.kind) {
            continue;
        }
        let (end, function, module) =
            outlines.outermost(event.stack).with_context(|| format!("no stack: {event:?}"))?;
        assert_eq!(end, "complete", "{event:?}");
        if event.thread == outlines.pid {
            assert_eq!(function, "_start", "{event:?}");
        } else {
            assert!(module.ends_with("/libc.so.6"), "{function} in {module}: {event:?}");
        }
        walked += 1;
    }
    assert!(walked > 0);
    Ok(())
}

fn has_stack(kind: Kind) -> bool {
    matches!(kind, Kind::Request | Kind::Free | Kind::Marked | Kind::Destroyed | Kind::Bulk | Kind::DeviceClose)
}

/// Where the stacks of a trace end.
#[derive(Default)]
struct Outlines<'a> {
    pid: u32,
    stacks: HashMap<u32, (&'a str, u32)>,
    modules_of_frames: HashMap<u32, u32>,
    functions: HashMap<u32, &'a str>,
    modules: HashMap<u32, &'a str>,
}

impl<'a> Outlines<'a> {
    fn of(items: &'a [Item]) -> Self {
        let mut all = Self::default();
        for item in items {
            let Item::Record(record) = item else { continue };
            match record {
                Record::Process(it) => all.pid = it.pid,
                Record::Module(it) => drop(all.modules.insert(it.id, &it.path)),
                Record::Frame(it) => drop(all.modules_of_frames.insert(it.id, it.module)),
                Record::Stack(it) => {
                    all.stacks.insert(it.id, (it.end.as_str(), it.frames.last().copied().unwrap_or_default()));
                }
                // The outermost of the functions that are inlined into one frame comes first.
                Record::Symbol(it) => drop(all.functions.entry(it.frame).or_insert(&it.function)),
                _ => {}
            }
        }
        all
    }

    /// How a stack ends, and the function and the module of its outermost frame.
    fn outermost(&self, stack: u32) -> Option<(&'a str, &'a str, &'a str)> {
        let &(end, frame) = self.stacks.get(&stack)?;
        let module = self.modules.get(self.modules_of_frames.get(&frame)?).copied().unwrap_or_default();
        Some((end, self.functions.get(&frame).copied().unwrap_or_default(), module))
    }
}

fn assert_verdicts(recorded: &Recorded) -> Result<()> {
    let report = recorded.json(&["report"])?;
    assert_eq!((&report["integrity"]["unaccounted"], &report["integrity"]["damaged"]), (&0.into(), &false.into()));
    assert_eq!(report["integrity"]["losses"], Value::Array(Vec::new()));
    let tests = report["tests"].as_array().context("the report has a table of tests")?;
    let of_test = |name: &str| -> BTreeMap<&str, u64> {
        let row = tests.iter().find(|row| row["test"].as_str().is_some_and(|it| it.ends_with(name)));
        let verdicts = row.and_then(|row| row["verdicts"].as_array()).into_iter().flatten();
        verdicts.filter_map(|it| Some((it["verdict"].as_str()?, it["count"].as_u64()?))).collect()
    };
    for (test, verdicts) in VERDICTS {
        assert_eq!(of_test(&format!("::{test}")), verdicts.iter().copied().collect(), "{test}");
    }
    for row in report["verdicts"].as_array().context("the report has a table of verdicts")? {
        // One tensor from before the recording lives to the end.
        assert_eq!(row["possible"], u64::from(row["verdict"] == "held"), "{row}");
    }
    Ok(())
}

/// The offsets are those that the compiler tells in DWARF, and readelf reads.
fn assert_layout(variant: &str, items: &[Item]) -> Result<()> {
    let pimpl = !variant.starts_with("buffer");
    let holder = if pimpl { "BufferImpl" } else { "Buffer" };
    let fields = ["device_", "size_", "page_size_", "buffer_type_", "allocator_", "address_", "unique_id_"];
    let flags = ["allocation_status_", "owns_data_", "hooked_allocation_"];
    let mut places: Vec<_> = fields.into_iter().chain(flags).map(|field| (field, holder, field)).collect();
    places.push(("Device::id", "Device", "id_"));
    places.push(("MeshDevice::pimpl", "MeshDevice", "pimpl_"));
    places.push(("MeshDevice::id", "MeshDeviceImpl", "mesh_id_"));
    places.push(("Allocator::allocated_buffers_", "AllocatorImpl", "allocated_buffers_"));
    places.extend(pimpl.then_some(("pimpl", "Buffer", "pimpl_")));
    let folder = tempfile::tempdir()?;
    let described = match variant {
        "buffer-dwarf" => lookalikes().join(variant).join("libtt_metal.so"),
        _ => compile_with_dwarf(folder.path(), pimpl, variant.ends_with("-shuffled"))?,
    };
    let told = members(&described)?;
    let offset = |(name, class, member): (&str, &str, &str)| {
        let offset = told.get(&(class.to_owned(), member.to_owned()));
        Ok((name.to_owned(), *offset.with_context(|| format!("readelf shows no {class}::{member}"))?))
    };
    let wanted = places.into_iter().map(offset).collect::<Result<BTreeMap<_, _>>>()?;
    let found = items.iter().filter_map(|item| match item {
        Item::Record(Record::LayoutField(field)) => Some((field.name.to_string(), field.offset.0)),
        _ => None,
    });
    assert_eq!(found.collect::<BTreeMap<_, _>>(), wanted, "{variant}");
    Ok(())
}

/// The offsets of the members of each class, from `readelf`.
fn members(file: &Path) -> Result<HashMap<(String, String), u64>> {
    let output = Command::new("readelf").args(["--wide", "--debug-dump=info"]).arg(file).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The names of the entries from the root of the tree to the one that is read.
    let mut names: Vec<String> = Vec::new();
    let mut members = HashMap::new();
    for line in text.lines().map(str::trim_start) {
        let value = line.split_whitespace().next_back().unwrap_or_default();
        if let Some((depth, _)) = line.split_once("><") {
            names.resize(depth.trim_start_matches('<').parse()?, String::new());
            names.push(String::new());
        } else if line.contains("DW_AT_name ") {
            value.clone_into(names.last_mut().context("a name belongs to an entry")?);
        } else if line.contains("DW_AT_data_member_location")
            && let ([.., class, member], Ok(offset)) = (names.as_slice(), value.parse())
        {
            members.insert((class.clone(), member.clone()), offset);
        }
    }
    Ok(members)
}

/// The classes of a variant that is built without DWARF, in an object file with it.
fn compile_with_dwarf(folder: &Path, pimpl: bool, shuffled: bool) -> Result<PathBuf> {
    let (source, object) = (folder.join("layout.cpp"), folder.join("layout.o"));
    fs::write(&source, "#include \"allocator.hpp\"\n#include \"buffer.hpp\"\n#include \"mesh_device.hpp\"\n")?;
    let mut command = Command::new("g++");
    command.args(["-std=c++20", "-g", "-fno-eliminate-unused-debug-types", "-femit-class-debug-always", "-c", "-I"]);
    command.arg(root().join("tests/lookalike/src")).arg(&source).arg("-o").arg(&object);
    command.args(pimpl.then_some("-DLOOKALIKE_PIMPL")).args(shuffled.then_some("-DLOOKALIKE_SHUFFLED"));
    assert!(command.status().context("g++ is needed")?.success());
    Ok(object)
}

#[test]
fn dwarf_is_read_where_there_is_some() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for (variant, there) in [("buffer-dwarf", true), ("buffer-shuffled", false)] {
        let recorded = Recorded::run(lookalike(variant, &["burst.py", "1"]))?;
        let sources = recorded.items.iter().filter_map(|item| match item {
            Item::Record(Record::LayoutField(field)) => Some(field.sources.as_str()),
            _ => None,
        });
        assert_eq!(sources.filter(|sources| sources.contains("DWARF")).count() > 0, there, "{variant}");
    }
    Ok(())
}

#[test]
fn the_demonstration_finds_its_bug() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let recorded = Recorded::run(lookalike_pytest("pimpl", &["scenarios/test_excess.py"]))?;
    let excess = recorded.json(&["excess"])?;
    let [site] = excess["sites"].as_array().map(Vec::as_slice).unwrap_or_default() else { panic!("{excess}") };
    // The test offloads two layers, on a line each.
    assert_eq!((&site["count"], &site["possible"], &site["other_places"]), (&2.into(), &0.into(), &1.into()));
    assert_eq!(site["verdicts"], serde_json::json!([{"verdict": "repeat", "count": 2}]));
    assert_eq!(site["tests"], serde_json::json!({"scenarios/test_excess.py::test_model_is_unloaded": 2}));
    for function in ["model::WeightCache::clear", "Model.unload", "test_model_is_unloaded"] {
        assert!(calls(&site["free"], function), "{site}");
    }

    // The layer was offloaded by itself before: not by the cache.
    assert_eq!(site["previous"]["what"], "released");
    assert!(calls(&site["previous"]["stack"], "Model.offload_layer"), "{site}");
    assert!(!calls(&site["previous"]["stack"], "model::WeightCache"), "{site}");
    assert_eq!(site["allocation"]["what"], "allocated");
    for function in ["la_tensor_create", "Model.load_layer"] {
        assert!(calls(&site["allocation"]["stack"], function), "{site}");
    }

    let freed_again = recorded.truth.iter().filter(|line| line["action"] == "deallocate" && line["status"] == 2);
    let freed_again: Vec<_> = freed_again.map(|line| format!("buffer {} (", line["uid"])).collect();
    let examples = site["examples"].as_array().context("a site has examples")?.iter().filter_map(Value::as_str);
    let mut pairs = 0;
    for (example, buffer) in examples.zip(&freed_again) {
        assert!(example.starts_with(buffer), "{example} is not {buffer}");
        pairs += 1;
    }
    assert_eq!((pairs, freed_again.len()), (2, 2));
    assert!(text(&["excess", path(&recorded.trace)])?.contains("model::WeightCache::clear"));
    assert_totals(&recorded)?;
    assert_timelines(&recorded)
}

fn calls(stack: &Value, begin: &str) -> bool {
    let lines = stack["lines"].as_array().into_iter().flatten();
    lines.filter_map(|line| line["function"].as_str()).any(|function| function.starts_with(begin))
}

/// The totals of each mesh are the sums over the truth; each test has a mesh of its own.
fn assert_totals(recorded: &Recorded) -> Result<()> {
    let name = |test: &str| test.split(' ').next().unwrap_or_default().to_owned();
    let mesh = |line: &Value| Some((name(test_of(line)), line["mesh"].as_u64()?));
    let meshes: HashMap<_, _> = recorded.truth.iter().filter_map(mesh).collect();
    let mut wanted: BTreeMap<String, [u64; 6]> = BTreeMap::new();
    for step in by_truth(&recorded.truth) {
        let mesh = meshes.get(&name(&step.test)).context("each test closes its mesh")?;
        let [allocations, frees, allocated, freed, live, peak] = wanted.entry(format!("mesh{mesh}")).or_default();
        match step.kind {
            Kind::Allocated => {
                (*allocations, *allocated, *live) = (*allocations + 1, *allocated + step.size, *live + step.size);
                *peak = *live.max(peak);
            }
            Kind::Released => (*frees, *freed, *live) = (*frees + 1, *freed + step.size, *live - step.size),
            _ => {}
        }
    }
    let report = recorded.json(&["report"])?;
    let mut found = BTreeMap::new();
    for row in report["totals"].as_array().context("the report has totals")? {
        let keys = ["allocations", "frees", "bytes_allocated", "bytes_freed", "bytes_live", "peak_bytes"];
        assert_eq!(row["buffer_type"], "DRAM");
        found.insert(row["device"].as_str().unwrap_or_default().to_owned(), keys.map(|key| row[key].as_u64()));
    }
    assert_eq!(found.len(), 2);
    assert_eq!(found, wanted.into_iter().map(|(mesh, sums)| (mesh, sums.map(Some))).collect());
    Ok(())
}

/// A buffer's timeline is its life, and that of an address all the lives there.
fn assert_timelines(recorded: &Recorded) -> Result<()> {
    let repeated = recorded.truth.iter().find(|line| line["action"] == "deallocate" && line["status"] == 2);
    let repeated = repeated.context("the demonstration frees again")?;
    let (uid, address) = (repeated["uid"].to_string(), repeated["address"].to_string());
    let timeline = recorded.json(&["timeline", "--buffer", &uid])?;
    let told = timeline["steps"].as_array().into_iter().flatten().map(|step| {
        assert_eq!((step["buffer"].to_string(), step["address"].to_string()), (uid.clone(), address.clone()));
        assert_eq!((&step["bytes"], &step["test"]), (&repeated["size"], &repeated["test"]));
        (step["what"].as_str(), step["number"].as_u64(), step["verdict"].as_str())
    });
    let told = told.collect::<Vec<_>>();
    let life = [(Some("alloc"), 1, None), (Some("free"), 1, Some("released")), (Some("free"), 2, Some("repeat"))];
    assert_eq!(told, life.map(|(what, number, verdict)| (what, Some(number), verdict)));

    let closed = recorded.truth.iter().filter(|line| line["action"] == "closed");
    let mut steps = Vec::new();
    for mesh in closed {
        let device = format!("mesh{}", mesh["mesh"]);
        let there = recorded.json(&["timeline", "--device", &device, "--address", &address])?;
        let there = there["steps"].as_array().cloned().unwrap_or_default();
        assert!(there.iter().all(|step| step["device"] == *device && step["address"] == repeated["address"]));
        steps.extend(there.iter().map(|step| step["buffer"].as_u64()));
    }
    let there = |step: &Step| step.address.to_string() == address && [Kind::Allocated, Kind::Free].contains(&step.kind);
    let wanted: Vec<_> = by_truth(&recorded.truth).iter().filter(|it| there(it)).map(|it| Some(it.unique_id)).collect();
    assert_eq!(steps, wanted);
    Ok(())
}

#[test]
fn ordinary_work_has_no_findings() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let recorded = Recorded::run(lookalike_pytest("buffer", &["scenarios/test_clean.py"]))?;
    let excess = recorded.json(&["excess"])?;
    assert_eq!((&excess["sites"], &excess["late"]), (&Value::Array(Vec::new()), &Value::Array(Vec::new())));
    let report = recorded.json(&["report"])?;
    let released = recorded.truth.iter().filter(|line| line["action"] == "released").count();
    let [row] = report["verdicts"].as_array().map(Vec::as_slice).unwrap_or_default() else { panic!("{report}") };
    assert_eq!((&row["verdict"], &row["colour"]), (&"released".into(), &"normal".into()));
    assert_eq!((&row["confirmed"], &row["possible"]), (&released.into(), &0.into()));
    assert_eq!(report["balance"]["allocator_offenders"], Value::Array(Vec::new()));
    Ok(())
}

#[test]
fn a_command_is_recorded_from_its_import_on() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let [trace, go, truth] = ["trace.ttb", "go", "truth"].map(|name| folder.path().join(name));
    let target = lookalike("pimpl", &["oom.py"]);
    let mut command = tool(&["record", "-o", path(&trace), "--"]);
    command.arg(target.get_program()).args(target.get_args()).stdout(Stdio::null());
    command.envs(target.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("BUFTRACE_GO_FILE", &go).env("BUFTRACE_TRUTH", &truth).env("PYTHONDONTWRITEBYTECODE", "1");
    command.current_dir(target.get_current_dir().context("the look-alike has a folder")?);
    let mut recorder = Recorder::launch(command)?;
    recorder.wait_for("recording ")?;
    fs::write(go, "")?;
    let (status, said) = recorder.finish()?;
    // That the command ends with 7 is its own matter.
    assert!(status.success() && said.contains("the command exited with 7 after "), "{status}: {said}");
    let truth: Vec<Value> = fs::read_to_string(truth)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_same(&by_trace(&items(&trace)?), &by_truth(&truth));
    Ok(())
}

#[test]
fn a_library_that_is_loaded_late_is_waited_for() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", LATE_LIBRARY]))?;
    let trace = target.path("trace.ttb");
    let mut recorder = Recorder::start(&["-p", &target.pid(), "-o", path(&trace)])?;
    recorder.wait_for("waiting: ")?;
    assert_eq!(fs::metadata(&trace)?.len(), 0);
    target.go()?;
    recorder.wait_for("recording ")?;
    fs::write(target.path("attached"), "")?;
    let target = target.finish()?;
    target.succeeded()?;
    assert!(recorder.finish()?.0.success());
    assert_same(&by_trace(&items(&trace)?), &by_truth(&target.truth()?));
    Ok(())
}

#[test]
fn each_event_has_the_thread_that_made_it() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let recorded = Recorded::run(lookalike("pimpl", &["-c", THREADS]))?;
    let threads: BTreeMap<String, u32> = serde_json::from_slice::<Value>(&recorded.target.output.stdout)?
        .as_object()
        .context("the target tells its threads")?
        .iter()
        .filter_map(|(size, thread)| Some((size.clone(), thread.as_u64()?.try_into().ok()?)))
        .collect();
    let mut found: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for item in &recorded.items {
        if let Item::Event(event) = item
            && event.kind.is_about_buffer()
        {
            found.entry(event.size.to_string()).or_default().insert(event.thread);
        }
    }
    assert_eq!(threads.len(), 4);
    assert_eq!(found, threads.into_iter().map(|(size, thread)| (size, BTreeSet::from([thread]))).collect());
    assert_same(&by_buffer(by_trace(&recorded.items)), &by_buffer(by_truth(&recorded.truth)));
    assert_stacks(&recorded.items)
}
