// SPDX-License-Identifier: Apache-2.0
//! Builds `tt-buftrace` as users have it, and runs `tt-buftrace record`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{is_root, run},
    root,
};

/// Builds the tool: its program.
pub fn build_tool() -> Result<PathBuf> {
    run(Command::new("cargo").args(["build", "--release", "--package", "tt-buftrace"]).current_dir(root()))?;
    Ok(tool())
}

/// A recording that has attached to its target.
pub struct Recorder {
    child: Child,
}

impl Recorder {
    /// Records a process.
    pub fn attach(pid: u32, trace: &Path, options: &[&str]) -> Result<Self> {
        Self::begin(Command::new(tool()).args(["record", "-p", &pid.to_string(), "-o"]).arg(trace).args(options))
    }

    /// Records a process with the unwind tables that a folder keeps, instead of the user's own.
    pub fn attach_with_cache(pid: u32, trace: &Path, cache: &Path) -> Result<Self> {
        let mut command = Command::new(tool());
        command.args(["record", "-p", &pid.to_string(), "-o"]).arg(trace).env("XDG_CACHE_HOME", cache);
        Self::begin(&mut command)
    }

    fn begin(command: &mut Command) -> Result<Self> {
        ensure!(is_root(), "this needs root: it looks at the recorder as it runs");
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("failed to start the recorder")?;
        let mut lines = BufReader::new(child.stderr.take().context("the recorder has no output")?).lines();
        let passing = |line: &String| line.is_empty() || line.starts_with("warning:");
        let said = lines.by_ref().map_while(Result::ok).find(|line| !passing(line)).unwrap_or_default();
        if !said.starts_with("recording process") {
            child.kill()?;
            child.wait()?;
            bail!("the recorder did not attach: {said}");
        }
        // What else it says is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the recording.
    pub fn stop(self) -> Result<()> {
        run(Command::new("kill").args(["-INT", &self.pid().to_string()]))?;
        self.finish()
    }

    /// Waits until the recording has ended by itself.
    pub fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the recorder ended with {status}");
        Ok(())
    }
}

/// The counters of a trace, by name.
pub fn counters(trace: &Path) -> Result<BTreeMap<String, u64>> {
    let mut counters = BTreeMap::new();
    each_line(trace, |line| {
        let Some(line) = line.strip_prefix("counter name=") else { return };
        let (name, value) = line.split_once(" value=").unwrap_or((line, "0"));
        if let Ok(value) = value.parse() {
            counters.insert(name.to_string(), value);
        }
    })?;
    Ok(counters)
}

/// Reads a trace as text, a line at a time: it may be long.
pub fn each_line(trace: &Path, mut read: impl FnMut(&str)) -> Result<()> {
    let mut dump = Command::new(tool())
        .arg("dump")
        .arg(trace)
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start `tt-buftrace dump`")?;
    for line in BufReader::new(dump.stdout.take().context("the dump has no output")?).lines() {
        read(&line?);
    }
    ensure!(dump.wait()?.success(), "failed to read {}", trace.display());
    Ok(())
}

/// The tool, which [`build_tool`] builds.
#[must_use]
pub fn tool() -> PathBuf {
    root().join("target/release/tt-buftrace")
}
