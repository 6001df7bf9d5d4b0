// SPDX-License-Identifier: Apache-2.0
//! Whether a fix is real, and whether a run may pass: `diff`, `check` and `held` on recordings.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::{
    target::{Finished, Target, lookalike_pytest, python},
    tool::{Recorder, can_probe, json, path, root, run, text},
};

/// Records a target from attach to its end, into `trace.ttb` in its folder.
fn recorded(command: Command) -> Result<Finished> {
    let target = Target::start(command)?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    let (status, said) = recorder.finish()?;
    if !status.success() {
        bail!("{status}: {said}");
    }
    Ok(target)
}

/// The demonstration with its bug repaired, in a folder of its own, where its lines have moved.
fn repaired(folder: &Path) -> Result<()> {
    let source = root().join("tests/lookalike");
    fs::create_dir_all(folder.join("scenarios"))?;
    for file in ["attach.py", "lookalike.py", "scenarios/conftest.py"] {
        fs::copy(source.join(file), folder.join(file))?;
    }
    let scenario = fs::read_to_string(source.join("scenarios/test_excess.py"))?;
    let fixed =
        scenario.replace("self.layers[index].deallocate()", "pass").replace("import lookalike", "import lookalike\n\n");
    assert_ne!(scenario, fixed);
    fs::write(folder.join("scenarios/test_excess.py"), fixed)?;
    Ok(())
}

fn exit_code(arguments: &[&str]) -> Result<Option<i32>> {
    Ok(run(arguments)?.status.code())
}

#[test]
fn a_fix_is_told_from_the_same_bug_in_another_build() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    repaired(folder.path())?;
    let scenario = ["scenarios/test_excess.py"];
    let bug = recorded(lookalike_pytest("buffer", &scenario))?;
    let rebuilt = recorded(lookalike_pytest("pimpl", &scenario))?;
    let mut command = lookalike_pytest("pimpl", &scenario);
    command.current_dir(folder.path());
    let fix = recorded(command)?;
    let [bug, rebuilt, fix] = [&bug, &rebuilt, &fix].map(|target| target.path("trace.ttb"));

    let conclusion = |before: &Path, after: &Path| -> Result<Value> {
        let value = json(&["diff", path(before), path(after)])?;
        Ok(json!([value["conclusion"], value["certainty"]]))
    };
    assert_eq!(conclusion(&bug, &rebuilt)?, json!(["unchanged", "confirmed"]));
    assert_eq!(conclusion(&bug, &fix)?, json!(["fixed", "confirmed"]));
    assert_eq!(conclusion(&fix, &rebuilt)?, json!(["worse", "confirmed"]));
    assert_eq!(conclusion(&fix, &fix)?, json!(["clean", "confirmed"]));
    let first = text(&["diff", path(&bug), path(&fix)])?;
    assert!(first.starts_with("Fixed: 2 repeat at 1 site gone, nothing left, nothing new.\n"), "{first}");

    // The same with two processes a side.
    let joined = |traces: [&Path; 2]| traces.map(path).join(",");
    let of_two = |before: [&Path; 2], after: [&Path; 2]| {
        anyhow::Ok(json(&["diff", &joined(before), &joined(after)])?["conclusion"].clone())
    };
    assert_eq!(of_two([&bug, &fix], [&fix, &rebuilt])?, "unchanged");
    let again = recorded(lookalike_pytest("buffer", &scenario))?;
    let again = again.path("trace.ttb");
    assert_eq!(of_two([&bug, &again], [&fix, &rebuilt])?, "better");
    assert_eq!(of_two([&fix, &rebuilt], [&bug, &again])?, "worse");

    passes_and_fails(&bug, &rebuilt, &fix, folder.path())
}

/// Only the run without the bug passes, unless the bug is known.
fn passes_and_fails(bug: &Path, rebuilt: &Path, fix: &Path, folder: &Path) -> Result<()> {
    let check = |trace: &Path, options: &[&str]| exit_code(&[&["check", path(trace)], options].concat());
    let report = folder.join("junit.xml");
    assert_eq!(check(fix, &["--fail-on", "excess,held,lost", "--strict"])?, Some(0));
    assert_eq!(check(bug, &["--fail-on", "excess,red", "--junit", path(&report)])?, Some(1));
    assert_eq!(check(bug, &["--fail-on", "red,excess>2"])?, Some(0));
    assert_eq!(check(bug, &["--fail-on", "excess", "--test", "without_offloading"])?, Some(0));
    assert_eq!(check(bug, &["--fail-on", "leak"])?, Some(2));

    let counts = "import sys, xml.dom.minidom as x; d = x.parse(sys.argv[1]).documentElement; \
        print(d.getAttribute('tests'), d.getAttribute('failures'), len(d.getElementsByTagName('failure')))";
    let output = Command::new(python()).args(["-c", counts, path(&report)]).output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2 1 1");

    let known = folder.join("known.toml");
    assert_eq!(check(bug, &["--write-baseline", path(&known)])?, Some(0));
    for baseline in [&known, bug] {
        assert_eq!(check(rebuilt, &["--fail-on", "excess", "--baseline", path(baseline)])?, Some(0));
    }
    let expected = folder.join("expected.toml");
    fs::write(&expected, "[[expect]]\nname = \"weights\"\nsite = \"Model.load_layer\"\nallocations = 1\nfrees = 1\n")?;
    assert_eq!(check(fix, &["--expect", path(&expected)])?, Some(0));
    assert_eq!(check(bug, &["--expect", path(&expected)])?, Some(1));
    Ok(())
}

/// What the graph tracker is told of one tensor on eight chips, and what its allocator has to do with it.
const ONE_TENSOR: &str = r#"
[[expect]]
name = "reported"
test = "test_released"
ledger = "server"
allocations = 1
frees = 1

[[expect]]
name = "allocated"
test = "test_released"
allocations = 1
frees = 1
"#;

#[test]
fn chips_that_report_what_they_do_not_own_break_the_expectations() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let expected = folder.path().join("expected.toml");
    fs::write(&expected, ONE_TENSOR)?;
    let scenario = ["scenarios/test_lifecycle.py", "-k", "test_released"];
    for (variant, code, frees) in [("buffer", 0, None), ("excess-reporting", 1, Some(9))] {
        let target = recorded(lookalike_pytest(variant, &scenario))?;
        let trace = target.path("trace.ttb");
        let output = run(&["check", path(&trace), "--expect", path(&expected), "--json"])?;
        assert_eq!(output.status.code(), Some(code), "{variant}");
        let value: Value = serde_json::from_slice(&output.stdout)?;
        for expectation in value["expectations"].as_array().into_iter().flatten() {
            assert_eq!(expectation["addresses"], 1, "{expectation}");
            assert_eq!(expectation["unmet"][0]["frees"].as_u64(), frees, "{expectation}");
        }
        // Without a buffer owned twice or freed twice: whatever is in excess was reported by an alias.
        assert_eq!(exit_code(&["check", path(&trace), "--fail-on", "red,repeat,lost"])?, Some(0), "{variant}");
        let report = json(&["report", path(&trace)])?;
        let excess: u64 = report["balance"]["server"][0]["excess"].as_u64().unwrap_or(0);
        let rows = report["balance"]["server"].as_array().map(Vec::as_slice).unwrap_or_default();
        let verdicts: Vec<&Value> =
            rows.iter().flat_map(|row| row["explained"]["verdicts"].as_array()).flatten().collect();
        assert_eq!(excess > 0, frees.is_some(), "{report}");
        assert!(verdicts.iter().all(|row| row["verdict"] == "alias-free"), "{report}");
    }
    Ok(())
}

/// What each kind of buffer does where the chips of a mesh, and views, report nothing.
const TABLE: &str = r#"
[[expect]]
name = "regular buffer"
test = "test_regular_buffer"
allocations = 1
frees = 1

[[expect]]
name = "mesh buffer"
test = "test_mesh_buffer"
allocations = 1
frees = 1

[[expect]]
name = "program pool"
test = "test_program_pool"
allocations = 1
frees = 1

[[expect]]
name = "view"
test = "test_view"
ledger = "server"
allocations = 1
frees = 1
"#;

#[test]
fn the_expectations_hold_for_a_fixed_target_and_not_for_a_broken_one() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let table = folder.path().join("table.toml");
    fs::write(&table, TABLE)?;
    for variant in ["buffer", "pimpl"] {
        for (broken, code, passed) in [(false, 0, [true; 4]), (true, 1, [true, false, false, true])] {
            let mut command = lookalike_pytest(variant, &["scenarios/test_expectations.py"]);
            if broken {
                command.env("LOOKALIKE_BROKEN", "1");
            }
            let target = recorded(command)?;
            let output = run(&["check", path(&target.path("trace.ttb")), "--expect", path(&table), "--json"])?;
            assert_eq!(output.status.code(), Some(code), "{variant}");
            let value: Value = serde_json::from_slice(&output.stdout)?;
            let outcomes = value["expectations"].as_array().into_iter().flatten();
            assert_eq!(outcomes.map(|it| it["passed"] == true).collect::<Vec<_>>(), passed, "{variant}: {value}");
        }
    }
    Ok(())
}

#[test]
fn what_is_held_says_until_when() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = recorded(lookalike_pytest(
        "pimpl",
        &["scenarios/test_lifecycle.py", "-k", "test_held or test_bulk and not open_mesh"],
    ))?;
    let trace = target.path("trace.ttb");
    let held = json(&["held", path(&trace), "--by", "test"])?;
    let groups = held["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told: Vec<Value> =
        groups.iter().map(|group| json!([group["until"], group["name"], group["possible"]])).collect();
    let test = |name: &str| format!("scenarios/test_lifecycle.py::{name}");
    assert_eq!(told, [json!(["exit", test("test_held"), 0]), json!(["close", test("test_bulk"), 0])]);
    let only = json(&["held", path(&trace), "--test", "test_held"])?;
    assert_eq!(only["groups"].as_array().map(Vec::len), Some(1));
    let frames = &only["groups"][0]["site"]["frames"];
    assert!(frames.as_array().is_some_and(|it| it.contains(&json!("test_held (test_lifecycle.py)"))), "{frames}");
    Ok(())
}
