// SPDX-License-Identifier: Apache-2.0
//! A target with hostile names: whatever is printed, a terminal shows it as it is, and programs get the names as they were.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    target::{Target, lookalike, lookalikes},
    tool::{Recorder, can_probe, json, path, run},
};

/// What `hostile.py` has in its names.
const HOSTILE: &str = "\x1b[2J\x1b]0;owned\x07\r\nFORGED \u{202e}";

/// Asserts that nothing moves a terminal's cursor or reorders what it shows, and that no name looks like a line.
#[track_caller]
pub(crate) fn assert_harmless(what: &str, text: &str) {
    let harmful = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!text.contains(harmful), "{what}: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{what}: {text}");
}

#[test]
fn a_target_cannot_speak_to_the_terminal() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let module = folder.path().join(format!("lib{HOSTILE}"));
    fs::create_dir(&module)?;
    let library = module.join(format!("libtt{HOSTILE}.so"));
    fs::copy(lookalikes().join("pimpl/libtt_metal.so"), &library)?;
    let mut command = lookalike("pimpl", &["hostile.py", HOSTILE]);
    command.env("LOOKALIKE_LIBRARY", &library);

    let target = Target::start(command)?;
    let trace = folder.path().join("trace.ttb");
    let doctor = run(&["doctor", "-p", &target.pid()])?;
    let mut recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    target.finish()?.succeeded()?;
    let said = std::mem::take(&mut recorder.said);
    let (status, rest) = recorder.finish()?;
    assert!(status.success(), "{rest}");
    assert_harmless("record", &(said + &rest));
    let checks = String::from_utf8(doctor.stdout)?;
    assert!(checks.contains("FORGED"), "the names are there: {checks}");
    assert_harmless("doctor", &checks);

    let junit = folder.path().join("junit.xml");
    let commands: [&[&str]; 9] = [
        &["report"],
        &["excess", "--frames", "all"],
        &["timeline", "--device", "0", "--stacks", "--frames", "all"],
        &["held", "--frames", "all"],
        &["check", "--fail-on", "excess,held,excess/test", "--junit", path(&junit)],
        &["dump"],
        &["report", "--json"],
        &["excess", "--json"],
        &["diff", path(&trace)],
    ];
    for command in commands {
        let output = run(&[command, &[path(&trace)]].concat())?;
        let shown = String::from_utf8(output.stdout)?;
        assert!(shown.contains("FORGED"), "the names are there: {command:?} {shown}");
        assert_harmless(command[0], &shown);
        assert_harmless(command[0], &String::from_utf8(output.stderr)?);
    }
    // Another parser than ours reads what is for programs.
    let parse = "import sys, xml.etree.ElementTree as tree; tree.parse(sys.argv[1])";
    let parsed = Command::new("python3").args(["-c", parse]).arg(&junit).output()?;
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    let report = json(&["report", path(&trace)])?;
    let tests = report["tests"].as_array().context("there are tests")?;
    let whole = format!("test_a.py::test_{HOSTILE}");
    assert!(tests.iter().any(|row| row["test"] == whole.as_str()), "{tests:?}");
    let excess = json(&["excess", path(&trace)])?;
    let frames = excess["sites"][0]["site"]["frames"].as_array().context("the site has frames")?;
    let function = format!("Class.call{HOSTILE}");
    assert!(frames.iter().any(|frame| frame.as_str().is_some_and(|it| it.contains(&function))), "{frames:?}");
    Ok(())
}
