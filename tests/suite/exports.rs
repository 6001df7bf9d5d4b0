// SPDX-License-Identifier: Apache-2.0
//! What is written for other tools, read by those tools or by their own schemas: it says what the tables say.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail};
use buftrace::trace::{Item, Writer, text::parse};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    hostile::assert_harmless,
    target::{lookalike_pytest, record},
    tool::{can_probe, json, path, root, run, stderr, text},
};

/// What `hostile.py` has in its names, and what the formats themselves have a meaning for.
const HOSTILE: &str = "\x1b[2J\x07\r\nFORGED;x\"'\\</text></script><script>alert(1)</script>&amp;\u{202e} 12";

/// Two processes of one host, of which one has hostile names, lost events, and a stack that is not whole.
fn written() -> String {
    // As Rust writes it, but for one escape that the text of a trace does not have.
    let name = format!("{HOSTILE:?}").replace("\\r", "\\u{d}");
    let mut text = format!(
        r##"
session tool="0.1.0" host="h" kernel="6.1" wall_ns=1735689599000000000 boot_ns=5000
process id=1 pid=4711 start=9 command={name}
process id=2 pid=4712 start=9 command="python other.py"
module id=1 path={name} build_id="8f22"
module id=2 path="/usr/lib/libpython3.12.so.1.0"
python process=1 module=2 version="3.12.1"
border process=1 time=0 next_unique_id=10
border process=2 time=0 next_unique_id=10
text id=1 text={name}
text id=2 text="t.py::two (call)"
frame id=1 module=1 address=0x10
symbol frame=1 function={name} file={name} line=7
frame id=2 module=2 address=0x20 returns=1
symbol frame=2 function="_PyEval_EvalFrameDefault" offset=0x9
frame id=3 module=1 address=0x40
code id=1 function={name} file={name} first_line=3
python-frame id=4 code=1 line=37
stack id=1 frames=1,4,2 end=complete python=complete
stack id=2 frames=3,1,4,2 end=copy-too-small python=uncertain
live process=1 time=100 unique_id=3 address=0x800 size=64 device_class=mesh allocator=0xa
loss process=1 after=2000 before=2500 count=7 cause=ring-full
"##
    );
    let mut number = 0;
    let mut event = |text: &mut String, what: String| {
        number += 1;
        *text += &format!("event {number} {what}\n");
    };
    for process in 1..=2_u64 {
        let at = |time: u64| format!("t={} p={process} tid=7", 10_000 * process + time);
        event(&mut text, format!("{} test-begin text={process}", at(0)));
        for uid in 10..20_u64 {
            let buffer = format!("uid={uid} size={} address={:#x} class=mesh allocator=0xa", 1024 * uid, uid << 16);
            event(&mut text, format!("{} request {buffer} stack=1", at(10 * uid)));
            event(&mut text, format!("{} bank uid=0 size={}", at(10 * uid + 1), 128 * uid));
            event(&mut text, format!("{} allocated {buffer} owns=1", at(10 * uid + 2)));
        }
        for uid in 10..16_u64 {
            let buffer = format!("uid={uid} size={} address={:#x} class=mesh allocator=0xa", 1024 * uid, uid << 16);
            event(&mut text, format!("{} free {buffer} status=1 stack=2", at(10 * uid + 500)));
            event(&mut text, format!("{} released {buffer} status=1", at(10 * uid + 501)));
            for again in 0..uid - 10 {
                event(&mut text, format!("{} free {buffer} status=2 stack=2", at(10 * uid + 502 + again)));
            }
        }
        event(&mut text, format!("{} test-end", at(900)));
    }
    text + "end process=1 time=30000 reason=exited\nend process=2 time=30000 reason=interrupted\n"
}

fn write(text: &str, folder: &TempDir) -> Result<PathBuf> {
    let file = folder.path().join("written.ttb");
    let mut writer = Writer::create(&file)?;
    for item in parse(text).context("the lines are items")? {
        match item {
            Item::Record(record) => writer.record(record),
            Item::Event(event) => writer.event(event),
        }
    }
    writer.flush()?;
    Ok(file)
}

/// The traces that are looked at: a written one, and where processes can be probed, what pytest did to the look-alike.
struct Traces {
    _folder: TempDir,
    files: Vec<PathBuf>,
}

fn traces() -> Result<Traces> {
    let folder = tempfile::tempdir()?;
    let mut files = vec![write(&written(), &folder)?];
    if can_probe() {
        let scenarios = ["scenarios/test_lifecycle.py", "scenarios/test_clean.py", "scenarios/test_excess.py"];
        let (_target, trace) = record(lookalike_pytest("pimpl", &scenarios))?;
        let kept = folder.path().join("recorded.ttb");
        std::fs::copy(&trace, &kept)?;
        files.push(kept);
    }
    Ok(Traces { _folder: folder, files })
}

/// What the tables say: how often and how many bytes were allocated, held, live at the peak, and freed in excess.
fn expected(trace: &Path) -> Result<BTreeMap<&'static str, [u64; 2]>> {
    let of = |command: &[&str]| json(&[command, &[path(trace)]].concat());
    let (report, held, excess) = (of(&["report", "--top", "1000"])?, of(&["held", "--top", "1000"])?, of(&["excess"])?);
    let sum = |rows: &Value, fields: [&str; 2]| -> Result<[u64; 2]> {
        let rows = rows.as_array().context("a table")?;
        let of = |field: &str| rows.iter().map(|row| row.pointer(field).and_then(Value::as_u64).unwrap_or(0)).sum();
        Ok(fields.map(of))
    };
    Ok(BTreeMap::from([
        ("allocated", sum(&report["totals"], ["/allocations", "/bytes_allocated"])?),
        ("held", sum(&held["totals"], ["/count", "/bytes"])?),
        ("peak", sum(&report["peaks"], ["/held/buffers", "/held/bytes"])?),
        ("excess", sum(&excess["sites"], ["/count", "/bytes"])?),
    ]))
}

fn export(trace: &Path, format: &str, options: &[&str]) -> Result<Output> {
    let output = run(&[&["export", "--to", format, path(trace)], options].concat())?;
    if !output.status.success() {
        bail!("{format} {options:?}: {}: {}", output.status, stderr(&output));
    }
    Ok(output)
}

fn export_to(trace: &Path, format: &str, folder: &TempDir) -> Result<PathBuf> {
    let file = folder.path().join(format);
    export(trace, format, &["-o", path(&file)])?;
    Ok(file)
}

/// A Python with the readers; says so and wants the test to return where there is none.
fn readers() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let python = PYTHON.get_or_init(|| available("the readers' packages", xtask::python::with_readers()));
    python.as_deref()
}

fn available<T>(what: &str, got: Result<T>) -> Option<T> {
    got.inspect_err(|error| {
        assert!(std::env::var_os("CI").is_none(), "CI must have {what}: {error:#}");
        eprintln!("skipped: {what} are not to be had: {error:#}");
    })
    .ok()
}

/// What a program prints; it must succeed.
fn printed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", stderr(&output));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn folded_stacks_add_up_to_what_the_tables_say() -> Result<()> {
    let traces = traces()?;
    for trace in &traces.files {
        for (measure, [count, bytes]) in expected(trace)? {
            for (unit, wanted) in [("count", count), ("bytes", bytes)] {
                let folded = text(&["export", "--to", "folded", "--measure", measure, "--unit", unit, path(trace)])?;
                assert_harmless("folded", &folded);
                let values = folded.lines().map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
                let sum = values.sum::<Option<u64>>().context("each line ends in a number")?;
                assert_eq!(sum, wanted, "{measure} {unit}: {folded}");
                assert!(wanted > 0, "{measure}: the trace has something to show");
            }
        }
    }
    Ok(())
}

/// The Python functions of a stack in JSON, outermost first.
fn python_functions(stack: &Value) -> Vec<&str> {
    let lines = stack["lines"].as_array().into_iter().flatten();
    lines.rev().filter(|line| line["kind"] == "python").filter_map(|line| line["function"].as_str()).collect()
}

#[test]
fn each_site_of_excess_frees_has_its_stack() -> Result<()> {
    let traces = traces()?;
    // Only what was recorded has stacks that nobody made up.
    let Some(trace) = traces.files.get(1) else { return Ok(()) };
    let folded = text(&["export", "--to", "folded", "--measure", "excess", "--unit", "count", path(trace)])?;
    let excess = json(&["excess", path(trace)])?;
    let sites = excess["sites"].as_array().context("sites")?;
    assert!(!sites.is_empty());
    for site in sites {
        let functions = python_functions(&site["free"]);
        assert!(functions.len() > 5, "pytest is below: {functions:?}");
        let of_line = |line: &str| -> Vec<String> {
            let names = line.rsplit_once(' ').map_or("", |(names, _)| names).split(';');
            names
                .filter(|name| name.ends_with(".py)") || name.contains(" (<frozen "))
                .map(|name| name.split(" (").next().unwrap_or("").to_owned())
                .collect()
        };
        let found = folded.lines().filter(|line| of_line(line) == functions);
        let counts: u64 = found.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
        // The same Python functions may call several native ones, which are sites of their own.
        let same = sites.iter().filter(|site| python_functions(&site["free"]) == functions);
        let expected: u64 = same.filter_map(|site| site["count"].as_u64()).sum();
        assert_eq!(counts, expected, "{functions:?} in {folded}");
    }
    assert!(!folded.contains("_PyEval_EvalFrameDefault"), "{folded}");
    let all = text(&["export", "--to", "folded", "--frames", "all", path(trace)])?;
    assert!(all.contains("_PyEval_EvalFrameDefault") || all.contains("_start;"), "{all}");
    Ok(())
}

#[test]
fn a_flame_graph_is_xml_with_the_bytes_of_the_table() -> Result<()> {
    let traces = traces()?;
    let folder = tempfile::tempdir()?;
    let script = "import sys, xml.etree.ElementTree as tree\n\
        root = tree.parse(sys.argv[1]).getroot()\n\
        names = [it.tag.split('}')[1] for it in root.iter()]\n\
        print(names.count('script'))\n\
        print('\\n'.join(it.text for it in root.iter() if it.tag.endswith('title')))";
    for trace in &traces.files {
        for (measure, [_, bytes]) in expected(trace)? {
            let file = folder.path().join("graph.svg");
            export(trace, "svg", &["--measure", measure, "-o", path(&file)])?;
            assert_harmless("svg", &std::fs::read_to_string(&file)?);
            let told = printed(Command::new("python3").args(["-c", script]).arg(&file))?;
            let (scripts, titles) = told.split_once('\n').context("lines")?;
            assert_eq!(scripts, "1", "no name adds one");
            let all = titles.lines().find_map(|line| line.strip_prefix("all (")).context("the root")?;
            let shown: String = all.split(' ').next().unwrap_or("").replace(',', "");
            assert_eq!(shown, bytes.to_string(), "{measure}");
        }
        let file = folder.path().join("same.svg");
        export(trace, "svg", &["--against", path(trace), "-o", path(&file)])?;
        assert!(std::fs::read_to_string(&file)?.contains("0.00%)</title>"), "a run differs in nothing from itself");
    }
    Ok(())
}

#[test]
fn speedscope_files_are_valid_by_their_schema() -> Result<()> {
    let (traces, folder) = (traces()?, tempfile::tempdir()?);
    let schema =
        readers().and_then(|python| Some((python, available("speedscope's package", speedscope_schema(&folder))?)));
    for trace in &traces.files {
        let file = export_to(trace, "speedscope", &folder)?;
        let text = std::fs::read_to_string(&file)?;
        assert_harmless("speedscope", &text);
        let value: Value = serde_json::from_str(&text)?;
        let profiles = value["profiles"].as_array().context("profiles")?;
        let ends: Vec<_> = profiles.iter().map(|profile| profile["endValue"].as_u64()).collect();
        let expected = expected(trace)?;
        let wanted = ["allocated", "held", "peak", "excess"].map(|measure| expected[measure]);
        let wanted: Vec<_> = wanted.iter().flat_map(|[count, bytes]| [Some(*bytes), Some(*count)]).collect();
        assert_eq!(ends, wanted);
        for profile in profiles {
            let sum: u64 = profile["weights"].as_array().into_iter().flatten().filter_map(Value::as_u64).sum();
            assert_eq!(Some(sum), profile["endValue"].as_u64());
        }
        if let Some((python, schema)) = &schema {
            let script = root().join("tests/exports/speedscope_schema.py");
            printed(Command::new(python).arg(script).arg(&file).arg(schema))?;
        }
    }
    Ok(())
}

/// The schema that speedscope's own package has.
fn speedscope_schema(folder: &TempDir) -> Result<PathBuf> {
    printed(Command::new("npm").args(["pack", "--silent", "speedscope@1.25.0"]).current_dir(folder.path()))?;
    let schema = "package/dist/release/file-format-schema.json";
    printed(Command::new("tar").args(["xf", "speedscope-1.25.0.tgz", schema]).current_dir(folder.path()))?;
    Ok(folder.path().join(schema))
}

#[test]
fn pprof_reads_its_profiles() -> Result<()> {
    let (traces, folder) = (traces()?, tempfile::tempdir()?);
    if available("Go's tools", printed(Command::new("go").arg("version"))).is_none() {
        return Ok(());
    }
    for trace in &traces.files {
        let file = export_to(trace, "pprof", &folder)?;
        let raw = printed(Command::new("go").args(["tool", "pprof", "-raw"]).arg(&file).env("HOME", folder.path()))?;
        let samples = raw.split_once("Samples:\n").and_then(|(_, rest)| rest.split_once("Locations\n"));
        let (samples, locations) = samples.context("samples and locations")?;
        let mut lines = samples.lines();
        let kinds: Vec<&str> = lines.next().context("kinds")?.split_whitespace().collect();
        let mut sums = vec![0_u64; kinds.len()];
        let is_sample = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
        for line in lines.clone().filter(is_sample) {
            let values = line.split(':').next().unwrap_or("").split_whitespace();
            values.zip(&mut sums).for_each(|(value, sum)| *sum += value.parse::<u64>().unwrap_or(0));
        }
        let expected = expected(trace)?;
        let wanted: Vec<u64> = ["allocated", "held", "peak", "excess"].iter().flat_map(|it| expected[it]).collect();
        assert_eq!(sums, wanted, "{kinds:?}");
        assert_harmless("pprof", &raw.replace('\t', " "));
        for label in ["device:[mesh", "type:[DRAM]", "process:[process 1, pid "] {
            assert!(samples.contains(label), "{label} in {samples}");
        }
        assert!(locations.contains("M=1 "), "locations are in modules: {locations}");
        let top = printed(
            Command::new("go")
                .args(["tool", "pprof", "-top", "-sample_index=excess_frees"])
                .arg(&file)
                .env("HOME", folder.path()),
        )?;
        assert!(top.contains("Type: excess_frees"), "{top}");
    }
    Ok(())
}

/// What Perfetto's own schema makes of a file.
fn perfetto(python: &Path, trace: &Path, folder: &TempDir) -> Result<Value> {
    let file = export_to(trace, "perfetto", folder)?;
    let script = root().join("tests/exports/perfetto_trace.py");
    Ok(serde_json::from_str(&printed(Command::new(python).arg(script).arg(&file))?)?)
}

#[test]
fn perfetto_traces_have_every_life_byte_and_excess_free() -> Result<()> {
    let Some(python) = readers() else { return Ok(()) };
    let (traces, folder) = (traces()?, tempfile::tempdir()?);
    for trace in &traces.files {
        let read = perfetto(python, trace, &folder)?;
        assert_eq!(read["problems"], Value::Array(Vec::new()));
        let report = json(&["report", path(trace)])?;
        let slices: Vec<&Value> = read["slices"].as_array().into_iter().flatten().collect();
        assert_counters(&read, &report)?;
        assert_verdicts(&slices, &report)?;
        assert_links(&read, expected(trace)?["excess"][0])?;
        let tests: BTreeSet<_> =
            slices.iter().filter(|it| it["category"][0] == "test").filter_map(|it| it["name"].as_str()).collect();
        assert!(tests.len() > 1, "tests have slices: {tests:?}");
        let texts = |slice: &&Value| format!("{}{}", slice["name"], slice["arguments"]);
        let unsafe_text = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!slices.iter().map(texts).any(|text| text.contains(unsafe_text)));
    }
    Ok(())
}

/// What is live at the end and at the peak is what the report says.
fn assert_counters(read: &Value, report: &Value) -> Result<()> {
    let processes = report["integrity"]["processes"].as_array().context("processes")?;
    for total in report["totals"].as_array().context("totals")? {
        let process = processes.iter().find(|row| row["process"] == total["process"]).context("a process")?;
        let device = total["device"].as_str().unwrap_or("unknown device");
        let kind = total["buffer_type"].as_str().context("a type")?;
        let track = format!("{}/{device} {kind}/bytes live", process["pid"]);
        let counter = &read["counters"][&track];
        assert_eq!((&counter["last"], &counter["most"]), (&total["bytes_live"], &total["peak_bytes"]), "{track}");
        // Of what was found live it is not known.
        let bank = read["counters"][track + " in each bank"]["most"].as_u64();
        assert!(total["allocations"] == 0 || bank.is_some_and(|bank| 0 < bank), "{total}");
    }
    Ok(())
}

/// Each verdict stands as often as in the report, as the end of a life or as an instant.
fn assert_verdicts(slices: &[&Value], report: &Value) -> Result<()> {
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    for slice in slices {
        let is_before = slice["category"][0] == "free before";
        // A free that is excess, and ends a life all the same, is told as both.
        let is_end_by_excess = slice["type"] == "TYPE_SLICE_BEGIN" && is_excess(&slice["arguments"]["verdict"]);
        if let Some(verdict) = slice["arguments"]["verdict"].as_str().filter(|_| !is_before && !is_end_by_excess) {
            *told.entry(verdict).or_default() += 1;
        }
    }
    let rows = report["verdicts"].as_array().context("verdicts")?;
    let count = |row: &Value, field: &str| row[field].as_u64().unwrap_or(0);
    let sums = rows
        .iter()
        .filter_map(|row| Some((row["verdict"].as_str()?, count(row, "confirmed") + count(row, "possible"))));
    assert_eq!(told, sums.collect());
    Ok(())
}

fn is_excess(verdict: &Value) -> bool {
    ["repeat", "alias-free", "stale-free", "stolen-free"].iter().any(|it| verdict == it)
}

/// Each excess free leads to the allocation of its buffer, and to the free before it.
fn assert_links(read: &Value, excess: u64) -> Result<()> {
    let links = read["links"].as_array().context("links")?;
    let (mut allocations, mut frees) = (0, 0);
    for link in links {
        let (from, to) = (&link[0], &link[1]);
        assert!(is_excess(&to["category"][0]), "{to}");
        assert!(from["time"].as_u64() <= to["time"].as_u64(), "{link}");
        if from["category"][0] == "free before" {
            frees += 1;
            assert_eq!(from["arguments"]["unique_id"], to["arguments"]["unique_id"], "{link}");
        } else {
            allocations += 1;
            assert_eq!(from["type"], "TYPE_SLICE_BEGIN", "{link}");
            let own = from["arguments"]["unique_id"] == to["arguments"]["unique_id"];
            assert!(own || to["category"][0] == "alias-free", "{link}");
        }
    }
    assert!(0 < allocations && allocations <= excess && 0 < frees && frees <= excess, "{allocations}, {frees}");
    Ok(())
}

#[test]
fn what_cannot_be_shown_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let trace = write(&written(), &folder)?;
    let refused = |arguments: &[&str]| -> Result<String> {
        let output = run(&[&["export", path(&trace)], arguments].concat())?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        Ok(stderr(&output))
    };
    assert!(refused(&["--to", "pprof", "--against", path(&trace)])?.contains("--against is for"));
    assert!(refused(&["--to", "svg", "--measure", "peak", "--test", "two"])?.contains("there is no peak"));
    let lost = export(&trace, "folded", &[])?;
    assert!(stderr(&lost).contains("7 events were lost"), "{}", stderr(&lost));
    Ok(())
}
