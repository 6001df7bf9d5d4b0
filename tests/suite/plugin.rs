// SPDX-License-Identifier: Apache-2.0
//! The plugin for pytest, from its wheel in an environment of its own: sessions on real ttnn that record themselves.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, ensure};
use buftrace::trace::{Item, Record};
use serde_json::Value;
use tempfile::TempDir;
use xtask::{
    command::run,
    package::{Profile, wheel},
    python::with_ttnn,
};

use crate::{
    target::{can_have_ttnn, python},
    tool::{can_probe, following, items, json, path, root},
};

const TTNN: &str = "0.81.1";

/// A Python whose environment has the wheel, pytest and pytest-xdist, and sees a ttnn that is installed elsewhere.
fn environment() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| install().expect("failed to install the wheel"))
}

fn install() -> Result<PathBuf> {
    let (ttnn, with_ttnn) = with_ttnn(TTNN)?;
    let folder = root().join("target/plugin");
    let python = folder.join("venv/bin/python");
    run(Command::new(with_ttnn).args(["-m", "venv", "--clear"]).arg(folder.join("venv")))?;
    let wheel = wheel(Profile::Dev, &folder)?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "pytest", "pytest-xdist"]).arg(&wheel))?;
    let lib = |venv: &Path| -> Result<PathBuf> {
        let version = fs::read_dir(venv.join("lib"))?.next().context("a venv has a lib")??;
        Ok(version.path().join("site-packages"))
    };
    fs::write(lib(&folder.join("venv"))?.join("ttnn.pth"), path(&lib(&ttnn.join("venv"))?))?;
    Ok(python)
}

/// A session that is over.
struct Session {
    folder: TempDir,
    output: Output,
}

impl Session {
    /// Runs pytest there, in the environment of ttnn.
    fn run(mut wrapped: Command, words: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let _children = following();
        let (ttnn, _) = with_ttnn(TTNN)?;
        wrapped
            .args(["bash", "-c", r#"source "$0/env" && exec "$@""#])
            .args([ttnn.as_path(), environment()])
            .args(["-m", "pytest", "-p", "no:cacheprovider"])
            .arg(format!("--buftrace={}", path(&folder.path().join("trace.ttb"))))
            .args(words)
            .current_dir(root().join("tests/ttnn"))
            .env("BUFTRACE_TRUTH", folder.path().join("truth"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("SUDO_UID")
            .env_remove("SUDO_GID");
        let output = wrapped.output().context("failed to start pytest")?;
        Ok(Self { folder, output })
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace.ttb")
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// What it found wrong with the recording. That stacks may have older lines of Python, as modules are still being
    /// imported, is of no matter here.
    fn problems(&self) -> Vec<String> {
        let said = self.said();
        let lines = said.lines().filter(|line| line.starts_with("! ") && !line.contains(" Python code objects "));
        lines.map(str::to_owned).collect()
    }

    /// Allocations by test, as the tests themselves count them.
    fn truth(&self) -> Result<BTreeMap<String, u64>> {
        let mut allocations = BTreeMap::new();
        for line in fs::read_to_string(self.folder.path().join("truth"))?.lines() {
            let action: Value = serde_json::from_str(line)?;
            let test = action["test"].as_str().and_then(|test| test.rsplit_once(" (")).map_or("", |(id, _)| id);
            if action["action"] == "allocated" {
                *allocations.entry(test.to_owned()).or_default() += 1;
            }
        }
        Ok(allocations)
    }

    /// The same, as the trace has them.
    fn traced(&self) -> Result<BTreeMap<String, u64>> {
        let report = json(&["report", path(&self.trace())])?;
        let rows = report["tests"].as_array().context("tests")?.iter();
        let rows = rows.map(|row| (row["test"].as_str().unwrap_or("").to_owned(), row["allocations"].as_u64()));
        Ok(rows.filter_map(|(test, count)| Some((test, count.filter(|&count| count > 0)?))).collect())
    }

    /// Each recorded process by whether it had made a buffer before it was recorded.
    fn beginnings(&self) -> Result<Vec<u64>> {
        let borders = items(&self.trace())?.into_iter().filter_map(|item| match item {
            Item::Record(Record::Border(border)) => Some(border.next_unique_id),
            _ => None,
        });
        Ok(borders.collect())
    }
}

/// As the tests' own user, with the rights that they have.
fn plain() -> Command {
    Command::new("env")
}

#[test]
fn the_plugins_own_tests_pass() -> Result<()> {
    let mut tests = Command::new(python());
    tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).current_dir(root().join("python"));
    let output = tests.env("PYTHONPATH", ".").env("PYTHONDONTWRITEBYTECODE", "1").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[test]
fn a_session_records_itself_from_the_first_buffer_on() -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let session = Session::run(plain(), &["plugin", "--buftrace-required", "--buftrace-fail-on=excess,held?/test"])?;
    let said = session.said();
    assert_eq!(session.traced()?, session.truth()?, "{said}");
    assert_eq!(session.beginnings()?, [0], "{said}");
    for line in [
        "::test_freed_after_close  (1 after-close, 1 bulk)\n",
        "   18.0 KiB  plugin/test_buffers.py::test_held  (1 held)\n",
        "\nnothing odd in 8 other tests: 36 allocations, 36 frees\n",
        "\nFAILED plugin/test_buffers.py::test_held - held?/test: 1\n",
    ] {
        assert!(said.contains(line), "no `{line}` in {said}");
    }
    assert_eq!(session.problems(), [""; 0], "{said}");
    // All tests passed; it is the rule that fails the session.
    assert!(said.contains(" 11 passed in ") && session.output.status.code() == Some(1), "{said}");
    Ok(())
}

#[test]
fn four_workers_are_recorded_in_one_trace_from_the_first_buffer_of_each() -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let session = Session::run(plain(), &["plugin", "-n4", "--buftrace-required", "--buftrace-fail-on=excess"])?;
    let said = session.said();
    assert_eq!(session.traced()?, session.truth()?, "{said}");
    assert_eq!(session.beginnings()?, [0; 4], "{said}");
    assert!(said.contains("(1 after-close, 1 bulk)\n"), "{said}");
    assert_eq!(session.problems(), [""; 0], "{said}");
    assert!(said.contains(" 11 passed in ") && session.output.status.success(), "{said}");
    Ok(())
}

/// Somebody who may read any file, as the tests may be anywhere, and no more.
#[test]
fn without_rights_a_session_goes_on_and_says_what_is_missing() -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let unprivileged = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "1000", "--regid", "1000", "--clear-groups"]);
        command.args(["--inh-caps", "-all,+dac_override", "--ambient-caps", "-all,+dac_override"]);
        command
    };
    let session = Session::run(unprivileged(), &["plugin/test_host.py"])?;
    let said = session.said();
    assert!(said.contains(" 1 passed in ") && session.output.status.success(), "{said}");
    let program = environment().with_file_name("tt-buftrace");
    for line in [
        "\n! this session is not recorded: tracing is not possible here:\n",
        "without CAP_BPF and CAP_PERFMON\n",
        &format!("\n  sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_sys_admin+ep {}\n", path(&program)),
    ] {
        assert!(said.contains(line), "no `{line}` in {said}");
    }
    assert!(!session.trace().exists());
    let required = Session::run(unprivileged(), &["plugin/test_host.py", "--buftrace-required"])?;
    assert_eq!(required.output.status.code(), Some(4), "misuse, as pytest has it: {}", required.said());
    Ok(())
}
