// SPDX-License-Identifier: Apache-2.0
//! Commands that `record` starts: who gets which signal, how they ended, and files that are taken before they begin.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{
    left::wait_until,
    survival::{PATIENCE, STEADY, end_reason},
    target::lookalike,
    tool::{Recorder, can_probe, confirmed, following, items, json, path, program, run, stderr},
};

/// Frees its buffer a while after it is interrupted, and ends with 3.
const INTERRUPTED: &str = "
import sys, time, attach, lookalike
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
tensor = mesh.empty(4096)
try:
    print('busy', flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    tensor.drop()
    sys.exit(3)
";

/// A folder with the trace, and the files by which a script on the look-alike is led.
struct Led(TempDir);

impl Led {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn trace(&self) -> PathBuf {
        self.path("trace.ttb")
    }

    /// Has a command run where the script finds the look-alike.
    fn lead(&self, command: &mut Command) -> Result<()> {
        let target = lookalike("pimpl", &[]);
        command.envs(target.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("BUFTRACE_GO_FILE", self.path("go")).env("BUFTRACE_READY_FILE", self.path("ready"));
        command.env("BUFTRACE_TRUTH", self.path("truth")).env("PYTHONDONTWRITEBYTECODE", "1");
        command.current_dir(target.get_current_dir().context("the look-alike has a folder")?);
        Ok(())
    }

    fn python() -> String {
        lookalike("pimpl", &[]).get_program().to_string_lossy().into_owned()
    }

    /// Begins to record a script that goes on until its ready file is taken away.
    fn start_steady(&self, trace: &Path) -> Result<Recorder> {
        // What the command says would go on where the recorder's own words end.
        let quietly = "exec \"$0\" \"$@\" >/dev/null 2>&1";
        let mut command = Command::new("env");
        // The tests may have been started by `nohup`, or by `sudo`.
        command.args(["--default-signal=HUP", "-u", "SUDO_UID", "-u", "SUDO_GID", path(program()), "record", "-o"]);
        command.args([path(trace), "--"]).stdin(Stdio::null());
        command.args(["sh", "-c", quietly, &Self::python(), "-c", STEADY]);
        self.lead(&mut command)?;
        Recorder::launch(command)
    }

    /// Records it, and returns when it is busy.
    fn record_steady(&self) -> Result<Recorder> {
        let mut recorder = self.start_steady(&self.trace())?;
        recorder.wait_for("recording ")?;
        fs::write(self.path("go"), "")?;
        wait_until(PATIENCE, || fs::metadata(self.path("truth")).is_ok_and(|truth| truth.len() > 10_000));
        Ok(recorder)
    }
}

/// Whether a process runs, as a child of nobody here.
fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_signal_for_the_recorder_alone_stops_the_recording_and_not_the_command() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for signal in ["-TERM", "-INT", "-HUP"] {
        let led = Led::new()?;
        let recorder = led.record_steady()?;
        let pid = fs::read_to_string(led.path("ready"))?.trim().to_owned();
        recorder.signal(signal)?;
        let (status, said) = recorder.finish()?;
        assert!(status.success() && said.contains("stopped after "), "{signal}: {status}: {said}");
        assert!(said.contains(&format!("the command goes on, unrecorded, as process {pid}\n")), "{signal}: {said}");
        assert!(runs(&pid), "{signal}");
        let before = fs::metadata(led.path("truth"))?.len();
        wait_until(PATIENCE, || fs::metadata(led.path("truth")).is_ok_and(|truth| truth.len() > before));
        fs::remove_file(led.path("ready"))?;
        wait_until(PATIENCE, || !runs(&pid));
        assert_eq!(end_reason(&items(&led.trace())?), Some("interrupted"), "{signal}");
    }
    Ok(())
}

#[test]
fn who_outlives_the_terminal_goes_on_recording() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let led = Led::new()?;
    let mut command = Command::new("nohup");
    command.arg(program()).args(["record", "-o", path(&led.trace()), "--", &Led::python(), "-c", STEADY]);
    led.lead(&mut command)?;
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut recorder = Recorder::launch(command)?;
    recorder.wait_for("recording ")?;
    recorder.signal("-HUP")?;
    fs::write(led.path("go"), "")?;
    wait_until(PATIENCE, || fs::metadata(led.path("truth")).is_ok_and(|truth| truth.len() > 10_000));
    fs::remove_file(led.path("ready"))?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains("the process ended after "), "{said}");
    assert_eq!(end_reason(&items(&led.trace())?), Some("exited"));
    Ok(())
}

#[test]
fn a_recorder_whose_words_nobody_reads_goes_on() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let led = Led::new()?;
    // What reads its words leaves after the first one, as `grep -m1` does.
    let record = "exec 3>&1; { \"$0\" \"$@\" 2>&1 >&3; echo \"code $?\" >&3; } | head -c 1 >/dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", record, path(program()), "record", "-o", path(&led.trace()), "--"]);
    command.args(["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/null", &Led::python(), "-c", STEADY]);
    led.lead(&mut command)?;
    let _children = following();
    let child = command.stdout(Stdio::piped()).spawn()?;
    wait_until(PATIENCE, || led.path("ready").exists() && led.trace().metadata().is_ok_and(|trace| trace.len() > 0));
    fs::write(led.path("go"), "")?;
    wait_until(PATIENCE, || fs::metadata(led.path("truth")).is_ok_and(|truth| truth.len() > 10_000));
    fs::remove_file(led.path("ready"))?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8(output.stdout)?;
    assert!(said.ends_with("code 0\n"), "{said}");
    assert_eq!(end_reason(&items(&led.trace())?), Some("exited"));
    Ok(())
}

/// A terminal on which a shell command runs.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    output: BufReader<ChildStdout>,
    said: String,
}

impl Terminal {
    /// Runs a shell command that finds a script in `$SCRIPT`.
    fn start(led: &Led, shell: &str, script: &str) -> Result<Self> {
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", shell, "/dev/null"]).env("SCRIPT", script);
        led.lead(&mut command)?;
        command.env("SHELL", "/bin/sh").env_remove("SUDO_UID").env_remove("SUDO_GID");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let keyboard = child.stdin.take().context("stdin is piped")?;
        let output = BufReader::new(child.stdout.take().context("stdout is piped")?);
        Ok(Self { child, keyboard, output, said: String::new() })
    }

    fn wait_for(&mut self, text: &str) -> Result<()> {
        while !self.said.contains(text) {
            if self.output.read_line(&mut self.said)? == 0 {
                bail!("`{text}` does not come: {}", self.said);
            }
        }
        Ok(())
    }

    /// Presses Ctrl-C.
    fn interrupt(&mut self) -> Result<()> {
        self.keyboard.write_all(b"\x03")?;
        Ok(self.keyboard.flush()?)
    }

    /// What it showed, when the command has succeeded.
    fn finish(mut self) -> Result<String> {
        self.output.read_to_string(&mut self.said)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("{status}: {}", self.said);
        }
        Ok(self.said)
    }
}

#[test]
fn ctrl_c_is_for_the_command_whose_end_is_recorded() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let _children = following();
    let led = Led::new()?;
    let record =
        format!("exec {} record -o {} -- {} -c \"$SCRIPT\"", path(program()), path(&led.trace()), Led::python());
    let mut terminal = Terminal::start(&led, &record, INTERRUPTED)?;
    terminal.wait_for("; Ctrl-C is for the command, a second one stops the recording\r\n")?;
    terminal.wait_for("recording process ")?;
    fs::write(led.path("go"), "")?;
    terminal.wait_for("busy\r\n")?;
    terminal.interrupt()?;
    let said = terminal.finish()?;
    for words in
        ["the command has got Ctrl-C, too, and is recorded until it ends", "\nthe command exited with 3 after "]
    {
        assert!(said.contains(words), "no `{words}` in: {said}");
    }
    assert!(!said.contains("\x1b[K"), "the command's own lines are wiped: {said:?}");
    assert_eq!(confirmed(&led.trace(), "released")?, 1);
    assert_eq!(end_reason(&items(&led.trace())?), Some("exited"));
    Ok(())
}

#[test]
fn ctrl_c_stops_the_recording_of_what_a_command_left_behind() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let _children = following();
    let led = Led::new()?;
    // The shell ends when that is recorded which it started, which goes on, and does not get the terminal's Ctrl-C.
    let script = "echo $$ >\"$SHELL_FILE\"; setsid \"$0\" \"$@\" >/dev/null 2>&1 & \
        until [ -e \"$BUFTRACE_GO_FILE\" ]; do sleep 0.05; done";
    let record = format!(
        "export SHELL_FILE={}; exec {} record -o {} -- sh -c '{script}' {} -c \"$SCRIPT\"",
        path(&led.path("shell")),
        path(program()),
        path(&led.trace()),
        Led::python()
    );
    let mut terminal = Terminal::start(&led, &record, STEADY)?;
    terminal.wait_for("recording process ")?;
    fs::write(led.path("go"), "")?;
    let shell = fs::read_to_string(led.path("shell"))?.trim().to_owned();
    wait_until(PATIENCE, || !runs(&shell) && fs::metadata(led.path("truth")).is_ok_and(|truth| truth.len() > 10_000));
    terminal.interrupt()?;
    terminal.wait_for("stopped after ")?;
    fs::remove_file(led.path("ready"))?;
    terminal.finish()?;
    assert_eq!(end_reason(&items(&led.trace())?), Some("interrupted"));
    Ok(())
}

/// Records a shell command that has nothing to do with TT-Metal: the exit code, and what was said.
fn record_shell(trace: &Path, command: &str) -> Result<(Option<i32>, String)> {
    let _children = following();
    let output = run(&["record", "-o", path(trace), "--", "sh", "-c", command])?;
    Ok((output.status.code(), stderr(&output)))
}

#[test]
fn that_nothing_was_recorded_is_a_problem_and_leaves_an_earlier_trace_as_it_is() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let led = Led::new()?;
    for (command, why) in [
        ("true", "the process ended"),
        ("exit 7", "the command exited with 7"),
        ("kill -SEGV $$", "the command was killed by SIGSEGV"),
    ] {
        let (code, said) = record_shell(&led.trace(), command)?;
        // On a busy machine, the process may be looked at before it ends.
        let said: String = said.split_inclusive('\n').filter(|line| !line.starts_with("waiting: ")).collect();
        assert_eq!(
            (code, said),
            (
                Some(1),
                format!(
                    "nothing was recorded: {why} before TT-Metal was loaded, or too soon after that for its probes\n"
                )
            )
        );
        assert!(!led.trace().exists());
    }
    fs::write(led.path("server.log"), "[PID 7] Allocated 512 bytes of DRAM on device 4 (buffer_id=256)\n")?;
    assert!(run(&["import", path(&led.path("server.log")), "-o", path(&led.trace())])?.status.success());
    let earlier = fs::read(led.trace())?;
    let (code, said) = record_shell(&led.trace(), "true")?;
    assert!(
        said.contains("trace.ttb is an earlier trace, which is replaced once there is something to record"),
        "{said}"
    );
    assert_eq!((code, fs::read(led.trace())?), (Some(1), earlier));
    Ok(())
}

#[test]
fn a_file_that_cannot_be_written_is_said_before_a_command_begins() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let led = Led::new()?;
    let begun = led.path("begun");
    fs::write(led.path("notes.txt"), "dear diary")?;
    for (output, why) in [
        (PathBuf::from("/nowhere/trace.ttb"), "failed to create /nowhere/trace.ttb: No such file or directory"),
        (led.path("notes.txt"), "notes.txt: it is there already, and it is no trace"),
    ] {
        let (code, said) = record_shell(&output, &format!("touch {}", path(&begun)))?;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(why) && !said.contains("doctor"), "{said}");
        assert!(!begun.exists());
    }
    Ok(())
}

#[test]
fn a_command_that_goes_on_when_its_recording_fails_is_named() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let led = Led::new()?;
    let recorder = led.start_steady(Path::new("/dev/full"))?;
    let (status, said) = recorder.finish()?;
    wait_until(PATIENCE, || led.path("ready").exists());
    let pid = fs::read_to_string(led.path("ready"))?.trim().to_owned();
    assert_eq!(status.code(), Some(2), "{said}");
    for words in [
        format!("warning: the command goes on, unrecorded, as process {pid}\n"),
        "error: failed to write /dev/full: No space left on device (os error 28)\n".to_owned(),
    ] {
        assert!(said.contains(&words), "no `{words}` in: {said}");
    }
    fs::write(led.path("go"), "")?;
    wait_until(PATIENCE, || led.path("truth").exists() && runs(&pid));
    fs::remove_file(led.path("ready"))?;
    wait_until(PATIENCE, || !runs(&pid));
    Ok(())
}

#[test]
fn two_recorders_do_not_write_one_file() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let led = Led::new()?;
    let mut other = Command::new("sleep").arg("600").spawn()?;
    let waits = |name: &str| Recorder::start(&["-p", name, "-o", path(&led.trace())]);
    // One that waits has its file, too.
    let mut waiting = waits(&other.id().to_string())?;
    waiting.wait_for("waiting: process ")?;
    let refused = run(&["record", "-p", &other.id().to_string(), "-o", path(&led.trace())])?;
    waiting.signal("-INT")?;
    let (status, said) = waiting.finish()?;
    other.kill()?;
    other.wait()?;
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("trace.ttb: a recording is writing it; -o names another file"));
    assert_eq!(
        (status.code(), &*said),
        (Some(1), "nothing was recorded: stopped before TT-Metal was loaded, or too soon after that for its probes\n")
    );

    let recorder = led.record_steady()?;
    let (code, said) = record_shell(&led.trace(), "true")?;
    assert!(code == Some(2) && said.contains("a recording is writing it"), "{said}");
    fs::remove_file(led.path("ready"))?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && said.contains("the process ended after "), "{said}");
    assert_eq!(json(&["report", path(&led.trace())])?["integrity"]["unaccounted"], 0);
    Ok(())
}

#[test]
fn who_waits_for_a_name_is_told_so() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let led = Led::new()?;
    let mut recorder = Recorder::start(&["--wait", "no-such-name", "-o", path(&led.trace())])?;
    recorder.wait_for("waiting: for processes named no-such-name that load TT-Metal")?;
    recorder.signal("-TERM")?;
    let (status, said) = recorder.finish()?;
    assert_eq!(
        (status.code(), &*said),
        (Some(1), "nothing was recorded: stopped before TT-Metal was loaded, or too soon after that for its probes\n")
    );
    assert!(!led.trace().exists());
    Ok(())
}
