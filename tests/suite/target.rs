// SPDX-License-Identifier: Apache-2.0
//! Starts targets, lets a tracer attach to them late, and reads the truth that they log.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::tool::{Recorder, path, patience, program, root};

/// Seconds that a target may take to get ready: a first import of ttnn compiles its Python files.
const READY: u32 = 180;

/// A target that waits to be traced, in a folder of its own.
pub(crate) struct Target {
    child: Child,
    folder: TempDir,
    /// Process id of the interpreter.
    pub(crate) pid: u32,
}

impl Target {
    /// Starts a command and waits until it is ready to be traced.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        // A target does not wait for the tool to be built.
        program();
        let folder = tempfile::tempdir()?;
        // Targets of other users write there too.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        command
            .env("BUFTRACE_READY_FILE", folder.path().join("ready"))
            .env("BUFTRACE_GO_FILE", folder.path().join("go"))
            .env("BUFTRACE_TRUTH", folder.path().join("truth"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("failed to start the target")?;
        let ready = folder.path().join("ready");
        let deadline = Instant::now() + patience(READY);
        while !ready.exists() {
            if child.try_wait()?.is_some() {
                let output = child.wait_with_output()?;
                bail!("the target ended before it was ready: {}", both(&output));
            }
            if Instant::now() > deadline {
                child.kill()?;
                bail!("the target was not ready in time");
            }
            sleep(Duration::from_millis(5));
        }
        let pid = fs::read_to_string(&ready)?.trim().parse()?;
        Ok(Self { child, folder, pid })
    }

    /// Process id, as an argument.
    pub(crate) fn pid(&self) -> String {
        self.pid.to_string()
    }

    /// A file in the target's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lets it go on.
    pub(crate) fn go(&self) -> Result<()> {
        fs::write(self.path("go"), "").context("failed to let the target go on")
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("failed to kill the target")
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Result<Finished> {
        let output = self.child.wait_with_output()?;
        Ok(Finished { output, folder: self.folder })
    }
}

/// A target that has ended.
pub(crate) struct Finished {
    /// What it printed, and its status.
    pub(crate) output: Output,
    folder: TempDir,
}

impl Finished {
    /// Its own account of what it did, a JSON object each.
    pub(crate) fn truth(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.folder.path().join("truth"))?;
        text.lines().map(|line| serde_json::from_str(line).context("failed to read the truth")).collect()
    }

    /// A file in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Asserts that it succeeded.
    pub(crate) fn succeeded(&self) -> Result<()> {
        if !self.output.status.success() {
            bail!("the target failed: {}", both(&self.output));
        }
        Ok(())
    }
}

fn both(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Records a command from the moment at which it is ready to its end; returns it and the trace.
pub(crate) fn record(command: Command) -> Result<(Finished, PathBuf)> {
    record_with(command, &[])
}

/// The same, with more options of `record`.
pub(crate) fn record_with(command: Command, options: &[&str]) -> Result<(Finished, PathBuf)> {
    let target = Target::start(command)?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&[&["-p", &target.pid(), "-o", path(&trace)], options].concat())?;
    target.go()?;
    let finished = target.finish()?;
    finished.succeeded()?;
    assert!(recorder.finish()?.0.success());
    Ok((finished, trace))
}

/// The folder of the built look-alike libraries, a variant each.
pub(crate) fn lookalikes() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = root().join("target/lookalike");
        let script = root().join("tests/lookalike/build.py");
        let status = Command::new("python3").arg(script).arg("--check").arg(&folder).status();
        assert!(status.is_ok_and(|status| status.success()), "failed to build the look-alike libraries");
        folder
    })
}

/// A Python with pytest.
pub(crate) fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| xtask::python::with_pytest().expect("failed to set up a Python with pytest"))
}

/// A Python with what reads the tables that are exported; says why and wants the test to return where there is none.
pub(crate) fn table_readers() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let python = PYTHON.get_or_init(|| match xtask::python::with_table_readers() {
        Ok(python) => Some(python),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI must read what is exported: {error:#}");
            eprintln!("skipped: {error:#}");
            None
        }
    });
    python.as_deref()
}

/// A script of the look-alike, with a variant of its library.
pub(crate) fn lookalike(variant: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command
        .args(arguments)
        .current_dir(root().join("tests/lookalike"))
        .env("LOOKALIKE_LIBRARY", lookalikes().join(variant).join("libtt_metal.so"));
    command
}

/// The look-alike's scripts with a variant of its library in a folder of their own, which every user can read.
pub(crate) fn copied_lookalike(variant: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    for file in ["attach.py", "burst.py", "lookalike.py"] {
        fs::copy(root().join("tests/lookalike").join(file), folder.path().join(file))?;
    }
    fs::copy(lookalikes().join(variant).join("libtt_metal.so"), folder.path().join("libtt_metal.so"))?;
    Ok(folder)
}

/// pytest on scenarios of the look-alike.
pub(crate) fn lookalike_pytest(variant: &str, arguments: &[&str]) -> Command {
    lookalike(variant, &[&["-m", "pytest", "-q", "-p", "no:cacheprovider"], arguments].concat())
}

/// Whether there is an interpreter that ttnn has wheels for; says so and wants the test to return where there is none.
pub(crate) fn can_have_ttnn() -> bool {
    let script = root().join("tests/ttnn/install.py");
    let output = Command::new("python3").arg(script).arg("--find").output();
    let found = output.as_ref().is_ok_and(|output| output.status.success());
    if !found {
        let said = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
        assert!(std::env::var_os("CI").is_none(), "CI must run the tests on real ttnn: {said}");
        eprintln!("skipped: {said}");
    }
    found
}

/// pytest on scenarios of a real ttnn release with eight mock chips.
pub(crate) fn ttnn_pytest(version: &str, arguments: &[&str]) -> Result<Command> {
    ttnn(version, &[&["-m", "pytest", "-q", "-p", "no:cacheprovider"], arguments].concat())
}

/// The Python of a real ttnn release with eight mock chips.
pub(crate) fn ttnn(version: &str, arguments: &[&str]) -> Result<Command> {
    let (folder, _) = xtask::python::with_ttnn(version)?;
    let mut command = Command::new("bash");
    command
        .args(["-c", r#"source "$0/env" && exec python "$@""#])
        .arg(folder)
        .args(arguments)
        .current_dir(root().join("tests/ttnn"));
    Ok(command)
}
