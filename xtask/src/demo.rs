// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask demo`: a pytest run with excess frees in it, recorded by PID and explained.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{as_root, run},
    python,
    recorder::build_tool,
    root,
};

/// How long the target may take to get ready: a first import of ttnn compiles its Python files.
const READY: Duration = Duration::from_secs(120);

/// Runs the demo on the look-alike target, or on a release of ttnn with eight mock chips.
pub fn demo(ttnn: Option<&str>) -> Result<()> {
    let tool = build_tool()?;
    let folder = root().join("target/demo");
    fs::create_dir_all(&folder)?;
    let (ready, go, trace) = (folder.join("ready"), folder.join("go"), folder.join("demo.ttb"));
    for file in [&ready, &go] {
        let _ = fs::remove_file(file);
    }
    let mut pytest = match ttnn {
        Some(version) => on_ttnn(version)?,
        None => on_lookalike(&folder)?,
    };
    pytest.env("BUFTRACE_READY_FILE", &ready).env("BUFTRACE_GO_FILE", &go);
    pytest.arg("-p").arg("no:cacheprovider").arg("-q").env("PYTHONDONTWRITEBYTECODE", "1");
    let mut target = pytest.spawn().context("failed to start pytest")?;
    let pid = wait_until_ready(&ready, &mut target)?;
    let result = record(&tool, &pid, &trace, &go);
    let status = target.wait()?;
    result?;
    eprintln!("pytest ended: {status}");
    for command in ["report", "excess"] {
        println!();
        run(Command::new(&tool).arg(command).arg(&trace))?;
    }
    Ok(())
}

fn on_lookalike(folder: &Path) -> Result<Command> {
    let lookalike = root().join("tests/lookalike");
    let libraries = folder.join("lookalike");
    run(Command::new("python3").arg(lookalike.join("build.py")).args(["--only", "buffer"]).arg(&libraries))?;
    let mut pytest = Command::new(python::with_pytest()?);
    pytest
        .args(["-m", "pytest"])
        .arg(lookalike.join("scenarios/test_excess.py"))
        .env("LOOKALIKE_LIBRARY", libraries.join("buffer/libtt_metal.so"));
    Ok(pytest)
}

fn on_ttnn(version: &str) -> Result<Command> {
    let (folder, _) = python::with_ttnn(version)?;
    let mut pytest = Command::new("bash");
    pytest
        .args(["-c", r#"source "$0/env" && exec python -m pytest "$@""#])
        .arg(&folder)
        .arg(root().join("tests/ttnn/scenarios"));
    Ok(pytest)
}

fn wait_until_ready(ready: &Path, target: &mut Child) -> Result<String> {
    let deadline = Instant::now() + READY;
    while Instant::now() < deadline {
        if let Ok(pid) = fs::read_to_string(ready) {
            return Ok(pid.trim().to_string());
        }
        if let Some(status) = target.try_wait()? {
            bail!("the target ended before it was ready: {status}");
        }
        sleep(Duration::from_millis(10));
    }
    target.kill()?;
    bail!("the target was not ready within {} s", READY.as_secs())
}

/// Attaches by PID, lets the target go on, and returns when it has ended.
fn record(tool: &Path, pid: &str, trace: &Path, go: &Path) -> Result<()> {
    eprintln!("$ tt-buftrace record -p {pid} -o {}", trace.display());
    let mut recorder = as_root(&tool.to_string_lossy())
        .args(["record", "-p", pid, "-o"])
        .arg(trace)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start the recorder")?;
    let said = BufReader::new(recorder.stderr.take().context("the recorder has no stderr")?);
    for line in said.lines() {
        let line = line?;
        eprintln!("{line}");
        if line.starts_with("recording ") {
            fs::write(go, "")?;
        }
    }
    // The target must not wait for a tracer that is gone.
    fs::write(go, "")?;
    let status = recorder.wait()?;
    if !status.success() {
        bail!("the recorder failed: {status}");
    }
    Ok(())
}
