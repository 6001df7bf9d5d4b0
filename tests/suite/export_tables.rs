// SPDX-License-Identifier: Apache-2.0
//! Exports as tables, read by the tools that they are for, and compared with what the views say.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    target::{lookalike_pytest, record, record_with, table_readers},
    tool::{can_probe, json, path, root, run, stderr, text},
};

/// What a script of the tests says that reads an export with other tools.
pub(crate) fn read_with(python: &Path, script: &str, arguments: &[&str]) -> Result<String> {
    let script = root().join("tests/exports").join(script);
    let mut command = Command::new(python);
    let output = command.arg(script).args(arguments).stdin(Stdio::null()).output().context("failed to start Python")?;
    if !output.status.success() {
        bail!("{arguments:?}: {}", stderr(&output));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The rows of a table by the names of some columns, in no order.
fn rows(table: &Value, columns: &[(&str, &str)]) -> Result<Vec<String>> {
    let table = table.as_array().context("a table")?;
    let pick = |row: &Value| columns.iter().map(|(_, pointer)| row.pointer(pointer).cloned()).collect::<Vec<_>>();
    let mut rows: Vec<String> = table.iter().map(|row| format!("{:?}", pick(row))).collect();
    rows.sort();
    Ok(rows)
}

/// Asserts that a query finds what a view shows: columns of the query, and where the view has the same.
fn same(query: &Value, view: &Value, columns: &[(&str, &str)]) -> Result<()> {
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("/{name}")).collect();
    let own: Vec<(&str, &str)> = columns.iter().zip(&names).map(|((name, _), own)| (*name, own.as_str())).collect();
    let found = rows(query, &own)?;
    assert!(!found.is_empty());
    assert_eq!(found, rows(view, columns)?);
    Ok(())
}

/// A table of a view without the rows that a query can't have.
fn only(table: &Value, keep: impl Fn(&Value) -> bool) -> Value {
    table.as_array().into_iter().flatten().filter(|row| keep(row)).cloned().collect()
}

/// A recording with most verdicts, one with forked children, and a server's log, as arguments.
struct Traces {
    _targets: Vec<crate::target::Finished>,
    folder: TempDir,
    paths: Vec<String>,
}

impl Traces {
    fn record() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let scenarios = ["scenarios/test_lifecycle.py", "scenarios/test_excess.py"];
        let (one, first) = record(lookalike_pytest("buffer", &scenarios))?;
        let forking = lookalike_pytest("pimpl", &["scenarios/test_causes.py"]);
        let (two, second) = record_with(forking, &["--follow-forks"])?;
        let log = "✓ [PID 5] Allocated 2048 bytes of L1 on device 3 (buffer_id=4096)\n\
            ✗ [PID 5] Freed buffer 4096 on device 3 (2048 bytes, FINAL)\n\
            ⚠ [PID 5] Deallocation for unknown buffer 4096 on device 3 (allocated before tracking started)\n\
            ✓ [PID 5] Allocated 1024 bytes of DRAM on device 2 (buffer_id=8192)\n";
        let (source, third) = (folder.path().join("server.log"), folder.path().join("log.ttb"));
        fs::write(&source, log)?;
        text(&["import", path(&source), "-o", path(&third)])?;
        let paths = [&first, &second, &third].map(|trace| path(trace).to_owned()).into();
        Ok(Self { _targets: vec![one, two], folder, paths })
    }

    /// A command on all of them.
    fn command<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        words.iter().copied().chain(self.paths.iter().map(String::as_str)).collect()
    }

    fn export(&self, format: &str, name: &str, more: &[&str]) -> Result<String> {
        let output = self.folder.path().join(name);
        text(&[&self.command(&["export", "--to", format, "-o", path(&output)])[..], more].concat())?;
        Ok(path(&output).to_owned())
    }
}

#[test]
fn queries_find_what_the_views_show() -> Result<()> {
    let Some(python) = table_readers().filter(|_| can_probe()) else { return Ok(()) };
    let traces = Traces::record()?;
    let folder = traces.export("parquet", "tables", &[])?;
    let found: Value = serde_json::from_str(&read_with(python, "tables.py", &[&folder, path(&root().join("sql"))])?)?;
    let report = json(&traces.command(&["report", "--top", "1000000"]))?;
    let excess = json(&traces.command(&["excess"]))?;
    let held = json(&traces.command(&["held", "--top", "1000000"]))?;
    balances_are_those_of_the_report(&found, &report)?;
    let excess_columns = [
        ("site", "/site/id"),
        ("site_name", "/site/name"),
        ("frees", "/count"),
        ("possible", "/possible"),
        ("bytes", "/bytes"),
        ("first", "/first"),
    ];
    same(&found["excess"], &excess["sites"], &excess_columns)?;
    let held_columns = [
        ("held_until", "/until"),
        ("site", "/site/id"),
        ("buffers", "/count"),
        ("possible", "/possible"),
        ("bytes", "/bytes"),
        ("oldest", "/oldest"),
        ("youngest", "/youngest"),
    ];
    let groups = held["groups"].as_array().context("groups")?.iter().map(|group| {
        // What has no site, and no age, has nothing there.
        let site = json!({ "id": group["site"]["id"] });
        json!({ "until": group["until"], "site": site, "count": group["count"], "possible": group["possible"],
            "bytes": group["bytes"], "oldest": group["oldest"], "youngest": group["youngest"] })
    });
    same(&found["held"], &groups.collect(), &held_columns)?;
    tests_are_those_of_the_report(&found["per_test"], &report)?;
    // The tables are whole: by another reader, and by the other format of the same rows.
    let lines = fs::read_to_string(traces.export("jsonl", "steps.jsonl", &[])?)?;
    let steps: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(found["counts"]["steps"], steps.len());
    assert_eq!(found["pyarrow"]["steps"], steps.len());
    assert_eq!(found["pyarrow"]["bytes"], steps.iter().filter_map(|step| step["bytes"].as_u64()).sum::<u64>());
    let processes: Vec<&Value> =
        report["integrity"]["processes"].as_array().context("processes")?.iter().map(|it| &it["process"]).collect();
    assert!(processes.len() > 3, "{processes:?}");
    assert_eq!(found["counts"]["processes"], processes.len());
    assert!(found["pyarrow"]["functions"].as_array().context("names")?.contains(&json!("test_model_is_unloaded")));
    // Again into the same folder, which then has nothing of the first.
    let one = [&["export", "--to", "parquet", "-o", &folder, "--type", "L1"], &[traces.paths[0].as_str()][..]].concat();
    text(&one)?;
    let parts = fs::read_dir(Path::new(&folder).join("steps").join(format!("host={}", hostname()?)))?.count();
    assert_eq!(parts, 1, "one process");
    Ok(())
}

fn hostname() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
}

fn balances_are_those_of_the_report(found: &Value, report: &Value) -> Result<()> {
    let memory = [("process", "/process"), ("device", "/device"), ("buffer_type", "/buffer_type")];
    let counts =
        [("addresses", "/addresses"), ("even", "/even"), ("not_freed", "/not_freed"), ("freed_more", "/freed_more")];
    same(&found["balance"], &report["balance"]["allocator"], &[&memory[..], &counts].concat())?;
    let server = only(&report["balance"]["server"], |row| !row["source"].is_null());
    let source = [("source", "/source"), ("device", "/device"), ("unknown", "/unknown"), ("excess", "/excess")];
    same(&found["server"], &server, &[&source[..], &counts].concat())?;
    let peaks = only(&report["totals"], |row| row["peak_bytes"].as_u64() > Some(0));
    let peak = [("peak_bytes", "/peak_bytes"), ("peak_time", "/peak_time"), ("peak_test", "/peak_test")];
    same(&found["peak"], &peaks, &[&memory[..], &peak].concat())
}

fn tests_are_those_of_the_report(found: &Value, report: &Value) -> Result<()> {
    let colours: BTreeMap<&str, &Value> = report["verdicts"]
        .as_array()
        .context("verdicts")?
        .iter()
        .filter_map(|row| Some((row["verdict"].as_str()?, &row["colour"])))
        .collect();
    let count = |row: &Value, of: &dyn Fn(&str) -> bool| -> u64 {
        let verdicts = row["verdicts"].as_array().into_iter().flatten();
        let counted = verdicts.filter(|it| it["verdict"].as_str().is_some_and(of));
        counted.filter_map(|it| it["count"].as_u64()).sum()
    };
    let tests = report["tests"].as_array().context("tests")?.iter().map(|row| {
        let mut row = row.clone();
        row["excess"] = count(&row, &|verdict| colours[verdict] == "excess").into();
        row["red"] = count(&row, &|verdict| colours[verdict] == "red").into();
        row["held"] = count(&row, &|verdict| verdict == "held").into();
        row
    });
    let names = ["test", "allocations", "frees", "bytes_allocated", "bytes_left", "excess", "red", "held"];
    let pointers = names.map(|name| format!("/{name}"));
    let columns: Vec<(&str, &str)> = names.iter().zip(&pointers).map(|(name, it)| (*name, it.as_str())).collect();
    same(found, &tests.collect(), &columns)
}

#[test]
fn lines_are_the_steps_of_the_timeline() -> Result<()> {
    let Some(python) = table_readers().filter(|_| can_probe()) else { return Ok(()) };
    let (target, trace) = record(lookalike_pytest("buffer", &["scenarios/test_excess.py"]))?;
    let (lines, table) = (target.path("steps.jsonl"), target.path("steps.csv"));
    text(&["export", path(&trace), "--to", "jsonl", "--type", "DRAM", "--stacks", "-o", path(&lines)])?;
    text(&["export", path(&trace), "--to", "csv", "--type", "DRAM", "--stacks", "-o", path(&table)])?;
    let schema = root().join("schema/step-1.json");
    let counted = read_with(python, "lines.py", &[path(&schema), path(&lines), path(&table)])?;
    let timeline = json(&["timeline", path(&trace), "--type", "DRAM"])?;
    let steps = timeline["steps"].as_array().context("steps")?;
    assert_eq!(counted.trim(), steps.len().to_string());
    let found = fs::read_to_string(&lines)?;
    let mut stacks = 0;
    for (line, step) in found.lines().zip(steps) {
        let line: Value = serde_json::from_str(line)?;
        for (name, value) in step.as_object().context("a step")? {
            match (name.as_str(), line["phase"].as_str()) {
                ("test", Some(phase)) => {
                    let test = line["test"].as_str().context("a test")?;
                    assert_eq!(value, &json!(format!("{test} ({phase})")));
                }
                _ => assert_eq!(&line[name], value, "{name} of {line}"),
            }
        }
        stacks += usize::from(line["frames"].as_str().is_some_and(|it| it.contains(";Model.unload (")));
    }
    assert!(stacks >= 2, "{stacks}");
    Ok(())
}

#[test]
fn what_an_export_cannot_do_is_refused_before_anything_is_written() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (source, trace) = (folder.path().join("server.log"), folder.path().join("log.ttb"));
    fs::write(&source, "✓ [PID 5] Allocated 2048 bytes of L1 on device 3 (buffer_id=4096)\n")?;
    text(&["import", path(&source), "-o", path(&trace)])?;
    let full = path(folder.path());
    for (arguments, reason) in [
        (&["--to", "parquet"][..], "-o"),
        (&["--to", "folded", "--stacks"], "--stacks is for"),
        (&["--to", "visualizer", "-o", "out", "--test", "t"], "--device or --type"),
        (&["--to", "parquet", "-o", full], "not empty"),
    ] {
        let refused = run(&[&["export", path(&trace)], arguments].concat())?;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&refused).contains(reason), "{arguments:?}: {}", stderr(&refused));
    }
    let out = folder.path().join("report");
    let refused = run(&["export", path(&trace), "--to", "visualizer", "-o", path(&out)])?;
    assert!(stderr(&refused).contains("in each bank"), "{}", stderr(&refused));
    assert!(!out.join("db.sqlite").exists());
    assert_eq!(fs::read_dir(folder.path())?.count(), 3, "the log, the trace and a folder that is ours");
    Ok(())
}
