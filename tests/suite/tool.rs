// SPDX-License-Identifier: Apache-2.0
//! Runs tt-buftrace as a user does.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use buftrace::trace::{Item, Reader, Writer, open, text::parse};
use serde_json::Value;

/// Whether the test can probe processes; says so and wants the test to return where it can't.
pub(crate) fn can_probe() -> bool {
    let root =
        std::fs::read_to_string("/proc/self/status").unwrap_or_default().lines().any(|line| line == "Uid:\t0\t0\t0\t0");
    if !root {
        assert!(std::env::var_os("BUFTRACE_NO_SKIP").is_none(), "the tests must be run as root");
        eprintln!("skipped: probing a process needs root; `cargo xtask test` brings it along");
    }
    root
}

/// How long something may take that takes no longer than that on a machine that has other things to do as well: so many
/// times as long where BUFTRACE_SLOWNESS says that the machine is so many times slower.
pub(crate) fn patience(seconds: u32) -> Duration {
    let slowness = std::env::var("BUFTRACE_SLOWNESS").map(|text| text.parse().expect("BUFTRACE_SLOWNESS is a number"));
    Duration::from_secs(seconds.into()) * slowness.unwrap_or(1)
}

/// A number that a variable of the environment can raise above what is enough for every day.
pub(crate) fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("the variable is a number"))
}

/// The folder that holds the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The tool's program, built as the tests are.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "tt-buftrace"])
            .current_dir(root())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "failed to build tt-buftrace");
        let tests = std::env::current_exe().expect("the test program has a path");
        let folder = tests.ancestors().nth(2).expect("the test program is in target/PROFILE/deps");
        folder.join("tt-buftrace")
    })
}

/// A command of the tool.
pub(crate) fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    // The tests may run by sudo, but what they make is not its caller's.
    command.args(arguments).stdin(Stdio::null()).env_remove("SUDO_UID").env_remove("SUDO_GID");
    command
}

/// Runs a command of the tool to its end.
pub(crate) fn run(arguments: &[&str]) -> Result<Output> {
    tool(arguments).output().context("failed to start tt-buftrace")
}

/// What a command said beside its view.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command prints; it must succeed.
pub(crate) fn text(arguments: &[&str]) -> Result<String> {
    let output = run(arguments)?;
    if !output.status.success() {
        bail!("{arguments:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let told = String::from_utf8(output.stdout)?;
    if let &[command @ ("report" | "excess" | "held"), trace, ref options @ .., "--json"] = arguments
        && options.first().is_none_or(|option| option.starts_with("--"))
    {
        let by_events = told_by_events(command, trace, options)?;
        assert_eq!(told, by_events.unwrap_or(told.clone()), "{arguments:?}, by the epilogue and by events");
    }
    Ok(told)
}

/// What a command prints of a trace that has an epilogue, if it has to read the events.
fn told_by_events(command: &str, trace: &str, options: &[&str]) -> Result<Option<String>> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("events.ttb");
    if !copy_events(Path::new(trace), &copy)? {
        return Ok(None);
    }
    let arguments = [&[command, path(&copy)], options, &["--json"]].concat();
    Ok(Some(String::from_utf8(run(&arguments)?.stdout)?))
}

/// Copies a trace without its epilogue, if it has one and is whole.
pub(crate) fn copy_events(trace: &Path, copy: &Path) -> Result<bool> {
    let mut reader = Reader::with_epilogue(&Arc::new(open(trace)?))?;
    reader.by_ref().for_each(drop);
    if reader.epilogue().is_empty() || reader.damage().is_some() {
        return Ok(false);
    }
    let mut writer = Writer::create(copy)?;
    Reader::open(trace)?.for_each(|item| writer.item(item));
    writer.flush()?;
    Ok(true)
}

/// What a command prints with `--json`.
pub(crate) fn json(arguments: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&text(&[arguments, &["--json"]].concat())?)?)
}

/// What a trace holds, as `dump` shows it.
pub(crate) fn items(trace: &Path) -> Result<Vec<Item>> {
    let shown = run(&["dump", path(trace)])?;
    parse(&String::from_utf8(shown.stdout)?).context("failed to read what dump shows")
}

/// A path, as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("the tests' own paths are UTF-8")
}

/// How often a verdict stands in the report.
pub(crate) fn confirmed(trace: &Path, verdict: &str) -> Result<u64> {
    let report = json(&["report", path(trace)])?;
    let row = report["verdicts"].as_array().into_iter().flatten().find(|row| row["verdict"] == verdict);
    Ok(row.and_then(|row| row["confirmed"].as_u64()).unwrap_or(0))
}

/// Held while libraries are probed in whoever has them, as a recording with children does, and alone while a debugger has
/// breakpoints in them: both change the same instructions.
static LIBRARIES: RwLock<()> = RwLock::new(());

/// Nobody else changes the code of libraries meanwhile.
pub(crate) fn debugging() -> RwLockWriteGuard<'static, ()> {
    LIBRARIES.write().unwrap_or_else(PoisonError::into_inner)
}

/// Libraries are probed in whoever has them meanwhile.
pub(crate) fn following() -> RwLockReadGuard<'static, ()> {
    LIBRARIES.read().unwrap_or_else(PoisonError::into_inner)
}

/// A recording that runs.
pub(crate) struct Recorder {
    _everywhere: Option<RwLockReadGuard<'static, ()>>,
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it said so far.
    pub(crate) said: String,
}

impl Recorder {
    /// Starts `record` and returns when all probes are attached.
    pub(crate) fn attach(arguments: &[&str]) -> Result<Self> {
        let mut recorder = Self::start(arguments)?;
        recorder.wait_for("recording ")?;
        Ok(recorder)
    }

    /// Starts `record`.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = tool(&["record"]);
        command.args(arguments);
        Self::launch(command)
    }

    /// Starts a command that is, or becomes, `record`.
    pub(crate) fn launch(mut command: Command) -> Result<Self> {
        let follows = command.get_args().any(|it| it == "--follow-forks" || it == "--");
        let _everywhere = follows.then(following);
        let mut child = command.stderr(Stdio::piped()).spawn().context("failed to start tt-buftrace")?;
        let stderr = BufReader::new(child.stderr.take().context("stderr is piped")?);
        Ok(Self { _everywhere, child, stderr, said: String::new() })
    }

    /// Waits until it prints a line that begins so.
    pub(crate) fn wait_for(&mut self, begin: &str) -> Result<()> {
        loop {
            let mut line = String::new();
            if self.stderr.read_line(&mut line)? == 0 {
                bail!("the recorder ended early: {}", self.said);
            }
            self.said += &line;
            if line.starts_with(begin) {
                return Ok(());
            }
        }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status()?;
        if !status.success() {
            bail!("failed to send {signal}");
        }
        Ok(())
    }

    /// Waits for its end; returns its status and what it said that nobody waited for.
    pub(crate) fn finish(mut self) -> Result<(ExitStatus, String)> {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest)?;
        Ok((self.child.wait()?, rest))
    }
}
