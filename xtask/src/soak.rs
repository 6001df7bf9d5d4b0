// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask soak`: recordings that last, and faults by the hundred.
//!
//! The first records real ttnn, which makes tensors at a steady rate: the recorder's memory must not grow, and nothing may
//! be lost. The others are the tests of the same name, with larger numbers.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    process::{cpu, own_memory},
    python,
    recorder::{Recorder, build_tool, counters},
    root, test,
};

/// The release of ttnn that is recorded.
const VERSION: &str = "0.81.1";
/// Tensors a second, on eight chips.
const RATE: u32 = 200;
/// Rows of the table.
const ROWS: u32 = 10;
/// What the memory may grow by between the first row and the last, in parts of a hundred: the process's own heap is never
/// quite the same.
const GROWTH: u64 = 5;

/// Records ttnn for so many minutes, and prints a table in Markdown.
pub fn steady(minutes: u32) -> Result<()> {
    build_tool()?;
    let folder = root().join("target/soak");
    fs::create_dir_all(&folder)?;
    let trace = folder.join("soak.ttb");
    let seconds = u64::from(minutes.max(1)) * 60;
    let mut target = Target::start(&folder, seconds)?;
    let recorder = Recorder::attach(target.pid, &trace, &[])?;
    target.go()?;
    let begin = Instant::now();
    let before = cpu(recorder.pid())?;
    let mut rows = Vec::new();
    for row in 1..=ROWS {
        let due = Duration::from_secs(seconds) * row / (ROWS + 1);
        sleep(due.saturating_sub(begin.elapsed()));
        rows.push(Row::now(&recorder, &target, &trace, begin, before)?);
        eprintln!("{}", rows[rows.len() - 1]);
    }
    let tensors = target.finish()?;
    recorder.finish()?;
    let counters = counters(&trace)?;
    let count = |name: &str| counters.get(name).copied().unwrap_or(0);
    let (sent, kept) = (count("sent"), count("kept"));
    println!("| minute | recorder's memory | its share of a core | ttnn's | trace |\n|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    println!(
        "\nIn {minutes} minutes {tensors} tensors were made and {sent} events sent, {:.0} a second; {} were lost, and \
         {} stacks. The trace has {:.1} MiB, {:.2} bytes an event.",
        sent as f64 / seconds as f64,
        sent - kept,
        count("stack-lost"),
        mebibytes(size(&trace)?),
        size(&trace)? as f64 / kept as f64,
    );
    ensure!(sent == kept && count("stack-lost") == 0, "something was lost");
    let (first, last) = (rows[0].memory, rows[rows.len() - 1].memory);
    ensure!(last <= first + first * GROWTH / 100, "the recorder's memory grew from {first} to {last} bytes");
    Ok(())
}

/// Attaches and detaches so often.
pub fn cycles(count: u32) -> Result<()> {
    repeated("BUFTRACE_CYCLES", count, "attach_and_detach")
}

/// Kills so many recorders, and as many targets.
pub fn kills(count: u32) -> Result<()> {
    repeated("BUFTRACE_KILLS", count, "killed_at_any_moment")
}

/// Runs tests whose names have a word in them, with a number that a variable gives them.
fn repeated(variable: &'static str, count: u32, word: &str) -> Result<()> {
    let begin = Instant::now();
    test::test_with(
        &[(variable, count.to_string())],
        &["--package", "buftrace-tests", word, "--", "--nocapture"].map(Into::into),
    )?;
    println!("{count} in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// What is measured at one moment.
struct Row {
    minute: f64,
    /// The recorder's own memory in bytes, without the ring and the files that it has mapped.
    memory: u64,
    /// Share of a core that it has had so far.
    recorder: f64,
    /// Likewise, of the target, since it was started.
    target: f64,
    trace: u64,
}

impl Row {
    fn now(recorder: &Recorder, target: &Target, trace: &Path, begin: Instant, before: f64) -> Result<Self> {
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Self {
            minute: seconds / 60.0,
            memory: own_memory(recorder.pid())?,
            recorder: (cpu(recorder.pid())? - before) / seconds,
            target: (cpu(target.pid)? - target.before) / seconds,
            trace: size(trace)?,
        })
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { minute, memory, recorder, target, trace } = self;
        let (memory, trace) = (mebibytes(*memory), mebibytes(*trace));
        let (recorder, target) = (recorder * 100.0, target * 100.0);
        write!(f, "| {minute:.1} | {memory:.1} MiB | {recorder:.1} % | {target:.0} % | {trace:.1} MiB |")
    }
}

/// ttnn, which makes tensors.
struct Target {
    child: Child,
    /// Process id of the interpreter.
    pid: u32,
    go: PathBuf,
    /// Seconds of processor time that it had when it was ready.
    before: f64,
}

impl Target {
    /// Starts it and waits until it is ready.
    fn start(folder: &Path, seconds: u64) -> Result<Self> {
        let (ttnn, _) = python::with_ttnn(VERSION)?;
        let go = folder.join("go");
        let _ = fs::remove_file(&go);
        let mut child = Command::new("bash")
            .args(["-c", r#"source "$0/env" && exec python "$@""#])
            .arg(ttnn)
            .arg(root().join("tests/ttnn/steady.py"))
            .args([seconds.to_string(), RATE.to_string()])
            .env("BUFTRACE_GO_FILE", &go)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start ttnn")?;
        let mut said = BufReader::new(child.stderr.take().context("ttnn has no stderr")?).lines();
        let ready = said.find_map(|line| line.ok()?.strip_prefix("ready ")?.parse().ok());
        std::thread::spawn(move || said.for_each(drop));
        let pid = ready.context("ttnn ended before it was ready")?;
        Ok(Self { child, pid, go, before: cpu(pid)? })
    }

    fn go(&self) -> Result<()> {
        fs::write(&self.go, "").context("failed to let ttnn go on")
    }

    /// Waits for its end: how many tensors it made.
    fn finish(&mut self) -> Result<u64> {
        let said = BufReader::new(self.child.stdout.take().context("ttnn has no stdout")?).lines();
        // ttnn's own log is among it.
        let tensors = said.filter_map(|line| line.ok()?.trim().parse().ok()).last();
        let status = self.child.wait()?;
        ensure!(status.success(), "ttnn ended with {status}");
        tensors.context("ttnn did not say how many tensors it made")
    }
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("failed to look at {}", path.display()))?.len())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
