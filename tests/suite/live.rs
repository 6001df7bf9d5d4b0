// SPDX-License-Identifier: Apache-2.0
//! The live view on a terminal of its own: what it shows is what `report` says of the same trace, and it leaves the terminal
//! as it was.

use std::{
    fs,
    io::{Read as _, Write as _},
    num::NonZeroU16,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use buftrace::view::bytes;
use serde_json::Value;
use vt100::Parser;

use crate::{
    survival::{STEADY, stop_steady},
    target::{Target, lookalike, lookalike_pytest},
    tool::{Recorder, can_probe, json, path, patience, program},
};

const LINES: NonZeroU16 = NonZeroU16::new(100).expect("it is not zero");
const COLUMNS: NonZeroU16 = NonZeroU16::new(200).expect("it is not zero");

/// The view on a terminal that `script` makes.
struct Screen {
    child: Child,
    keyboard: ChildStdin,
    terminal: Arc<Mutex<Parser>>,
    reader: JoinHandle<()>,
    /// Process id of the tool.
    pid: u32,
}

impl Screen {
    fn start(target: &Target, arguments: &[&str]) -> Result<Self> {
        let (pid_file, temporary) = (target.path("live.pid"), target.path("temporary"));
        fs::create_dir_all(&temporary)?;
        // A terminal that comes from a pipe has no size.
        let command = format!(
            "echo $$ > {}; stty rows {LINES} cols {COLUMNS}; exec {} live {}",
            path(&pid_file),
            path(program()),
            arguments.join(" ")
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .env("TMPDIR", &temporary)
            // The tests may run by sudo, but what they make is not its caller's.
            .env_remove("SUDO_UID")
            .env_remove("SUDO_GID")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start script, of the package bsdutils")?;
        let keyboard = child.stdin.take().context("stdin is piped")?;
        let mut output = child.stdout.take().context("stdout is piped")?;
        let terminal = Arc::new(Mutex::new(Parser::new(LINES, COLUMNS, 0)));
        let shown = Arc::clone(&terminal);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                shown.lock().expect("nobody panics with it").process(&bytes[..length]);
            }
        });
        let deadline = Instant::now() + patience(30);
        let pid = loop {
            match fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok()) {
                Some(pid) => break pid,
                None if Instant::now() > deadline => bail!("the view was not started in time"),
                None => sleep(Duration::from_millis(10)),
            }
        };
        Ok(Self { child, keyboard, terminal, reader, pid })
    }

    fn text(&self) -> String {
        self.terminal.lock().expect("nobody panics with it").screen().contents()
    }

    /// Waits until the screen has a text; returns the whole of it.
    fn wait_for(&self, text: &str) -> Result<String> {
        let deadline = Instant::now() + patience(60);
        loop {
            let shown = self.text();
            if shown.contains(text) {
                return Ok(shown);
            }
            if Instant::now() > deadline {
                bail!("`{text}` does not come:\n{shown}");
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn press(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes())?;
        self.keyboard.flush().context("failed to press keys")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args([signal, &self.pid.to_string()]).status()?;
        if !status.success() {
            bail!("failed to send {signal}");
        }
        Ok(())
    }

    /// Waits for its end; returns its status, and what is left on the terminal, which must be as it was.
    fn finish(mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        self.reader.join().map_err(|_| anyhow::anyhow!("reading the terminal failed"))?;
        let terminal = self.terminal.lock().expect("nobody panics with it");
        assert!(!terminal.screen().alternate_screen(), "the terminal is not as it was");
        assert!(!terminal.screen().hide_cursor(), "the cursor is hidden");
        Ok((status, terminal.screen().contents()))
    }
}

/// Asserts that the screen has the verdicts and the memories of the report.
fn assert_as_reported(screen: &mut Screen, report: &Value) -> Result<()> {
    // Memory alone, so that all of it has room.
    screen.press("1z")?;
    let shown = screen.wait_for("1 memory by bytes")?;
    let rows = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    assert!(!rows("verdicts").is_empty() && !rows("totals").is_empty());
    let counts = format!("{} ", shown.lines().nth(2).unwrap_or_default());
    for row in rows("verdicts") {
        let count = format!("{} {} ", row["verdict"].as_str().unwrap_or_default(), row["confirmed"]);
        let possible = format!("(+{} possible)", row["possible"]);
        assert!(counts.contains(&count), "{count}:\n{shown}");
        assert!(row["possible"] == 0 || counts.contains(&(count + &possible)), "{possible}:\n{shown}");
    }
    let several = report["integrity"]["processes"].as_array().is_some_and(|processes| processes.len() > 1);
    assert!(!several);
    for row in rows("totals").iter().filter(|row| row["peak_bytes"] != 0) {
        let device = row["device"].as_str().unwrap_or("unknown");
        let size = |name: &str| bytes(row[name].as_u64().unwrap_or_default());
        let expected = [
            format!("{device} {}", row["buffer_type"].as_str().unwrap_or_default()),
            size("bytes_live"),
            row["live"].to_string(),
            size("peak_bytes"),
        ];
        let words = expected.join(" ");
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.lines().any(|line| squeezed(line).contains(&words)), "{words}:\n{shown}");
    }
    Ok(())
}

#[test]
fn what_is_shown_live_is_what_the_report_says() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike_pytest("pimpl", &["scenarios/test_lifecycle.py", "scenarios/test_clean.py"]))?;
    let trace = target.path("trace.ttb");
    let mut screen = Screen::start(&target, &["-p", &target.pid(), "-o", path(&trace)])?;
    screen.wait_for("recording")?;
    target.go()?;
    let finished = target.finish()?;
    finished.succeeded()?;
    screen.wait_for("the process ended")?;
    let report = json(&["report", path(&trace)])?;
    assert_as_reported(&mut screen, &report)?;
    screen.press("q")?;
    let (status, left) = screen.finish()?;
    assert!(status.success(), "{left}");
    assert!(left.contains("next: tt-buftrace report"), "{left}");
    Ok(())
}

#[test]
fn a_trace_is_followed_while_another_records_it() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike_pytest("pimpl", &["scenarios/test_excess.py"]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    let mut screen = Screen::start(&target, &[path(&trace)])?;
    screen.wait_for("following")?;
    target.go()?;
    let _finished = target.finish()?;
    assert!(recorder.finish()?.0.success());
    screen.wait_for("exited at")?;
    assert_as_reported(&mut screen, &json(&["report", path(&trace)])?)?;
    // A site's three stacks, and the timeline of its address.
    screen.press("z2\r")?;
    let shown = screen.wait_for("this free:")?;
    assert!(shown.contains("the free before") && shown.contains("deallocate_impl"), "{shown}");
    screen.press("qt")?;
    screen.wait_for("ALLOC #1")?;
    screen.press("qq")?;
    assert!(screen.finish()?.0.success());
    Ok(())
}

#[test]
fn a_view_that_is_ended_leaves_target_terminal_and_disk_alone() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["-c", STEADY]))?;
    target.go()?;
    for end in ["-TERM", "q"] {
        let mut screen = Screen::start(&target, &["-p", &target.pid()])?;
        screen.wait_for("frees/s")?;
        match end {
            "q" => screen.press("q")?,
            signal => screen.signal(signal)?,
        }
        let (status, left) = screen.finish()?;
        assert!(status.success(), "{end}: {left}");
        assert!(left.contains("stopped after"), "{end}: {left}");
        let files: Vec<_> = fs::read_dir(target.path("temporary"))?.collect();
        assert!(files.is_empty(), "{end}: {files:?}");
    }
    stop_steady(target)?;
    Ok(())
}
