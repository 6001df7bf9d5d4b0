// SPDX-License-Identifier: Apache-2.0
//! Python frames are those that the interpreter itself has, on each version and for each kind of caller.

use std::{
    env, fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow};
use buftrace::{
    discover::{self, maps, open_modules},
    trace::Kind,
};
use serde_json::Value;

use crate::{
    seen::{Seen, seen},
    target::{Finished, can_have_ttnn, lookalikes, record, ttnn, ttnn_pytest},
    tool::{can_probe, root, text},
};

/// File, line and function, the innermost first.
type Frames = Vec<(String, u64, String)>;

/// What a target says of a request or a free.
struct Told {
    action: String,
    size: u64,
    frames: Frames,
}

/// What the target says of its requests and frees, in order.
fn told(finished: &Finished) -> Result<Vec<Told>> {
    let event = |line: &Value| {
        let frames = line["frames"].as_array()?.iter().map(|frame| {
            let text = |at: usize| frame[at].as_str().map(str::to_string);
            Some((text(0)?, frame[1].as_u64()?, text(2)?))
        });
        let action = line["action"].as_str()?.to_string();
        Some(Told { action, size: line["size"].as_u64()?, frames: frames.collect::<Option<Frames>>()? })
    };
    let mut told: Vec<Told> = finished.truth()?.iter().filter_map(event).collect();
    // Each of the threads that run at once has a size of its own; their common order is a matter of chance.
    told.sort_by_key(|told| told.size);
    Ok(told)
}

/// The word that a target has for an event.
fn action(seen: &Seen) -> &'static str {
    if seen.event.kind == Kind::Request { "request" } else { "free" }
}

/// A script of the look-alike, by a Python of choice.
pub(crate) fn script(python: &Path, script: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg(script)
        .current_dir(root().join("tests/lookalike"))
        .env("LOOKALIKE_LIBRARY", lookalikes().join("buffer/libtt_metal.so"));
    command
}

/// The interpreters of a minor version: the one on the path, and pyenv's.
pub(crate) fn interpreters(version: &str) -> Vec<PathBuf> {
    let name = format!("python{version}");
    let on_path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&on_path).collect();
    let versions = env::home_dir().unwrap_or_default().join(".pyenv/versions");
    let pyenv = fs::read_dir(versions).into_iter().flatten().flatten();
    folders.extend(pyenv.map(|entry| entry.path().join("bin")));
    let mut found: Vec<PathBuf> =
        folders.iter().filter_map(|folder| fs::canonicalize(folder.join(&name)).ok()).collect();
    found.sort();
    found.dedup();
    // A shell script that chooses another interpreter is none.
    found.retain(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")));
    if found.is_empty() {
        eprintln!("skipped: no {name} on the path or in pyenv");
    }
    found
}

fn compare(version: &str) -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for python in interpreters(version) {
        assert_own(script(&python, "callers.py"), &python.display().to_string())?;
    }
    Ok(())
}

/// Every request and free of `callers.py` has the Python frames that the interpreter has.
fn assert_own(command: Command, name: &str) -> Result<()> {
    let (finished, trace) = record(command)?;
    let (mut seen, told) = (seen(&trace)?, told(&finished)?);
    seen.sort_by_key(|seen| seen.event.size);
    assert!(told.len() > 500, "{} events are too few", told.len());
    assert_eq!(seen.len(), told.len(), "{name}");
    for (number, (seen, told)) in seen.iter().zip(&told).enumerate() {
        let place = format!("event {number} of {}, {} by {name}", told.action, finished.path("truth").display());
        let mut frames = seen.python_frames();
        // Functions of ttnn that are Python's stand between the one that tells and the library.
        let inner = frames.iter().take_while(|(file, ..)| file.contains("/site-packages/ttnn/")).count();
        assert_eq!((action(seen), &frames.split_off(inner)), (told.action.as_str(), &told.frames), "{place}");
        assert_eq!(seen.end, "complete", "{place}");
        let expected = if told.frames.is_empty() { "" } else { "complete" };
        assert_eq!(seen.python, expected, "{place}");
    }
    Ok(())
}

#[test]
fn python_3_10_frames_are_its_own() -> Result<()> {
    compare("3.10")
}

#[test]
fn python_3_11_frames_are_its_own() -> Result<()> {
    compare("3.11")
}

#[test]
fn python_3_12_frames_are_its_own() -> Result<()> {
    compare("3.12")
}

#[test]
fn python_3_13_frames_are_its_own() -> Result<()> {
    compare("3.13")
}

/// A function whose code is gone before anyone reads it has no name; none has another one's, neither while the function that
/// frees code is probed, nor while it is freed so often that it is not, nor after that.
#[test]
fn python_code_that_is_dropped_is_not_taken_for_other_code() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for python in ["3.10", "3.12"].into_iter().flat_map(interpreters) {
        let mut command = script(&python, "dropped.py");
        command.arg("3000");
        let (finished, trace) = record(command)?;
        let (mut seen, told) = (seen(&trace)?, told(&finished)?);
        seen.sort_by_key(|seen| seen.event.size);
        assert!(told.len() >= 6400, "{} events are too few", told.len());
        assert_eq!(seen.len(), told.len(), "{}", python.display());
        let lines = finished.truth()?;
        let probed: Vec<_> =
            lines.iter().filter(|line| line["action"] == "probed").map(|line| &line["value"]).collect();
        assert_eq!(probed, [true, false, true], "{}", python.display());
        for (seen, told) in seen.iter().zip(&told) {
            let frames = seen.python_frames();
            let has_name = |(file, ..): &&(String, u64, String)| !file.is_empty();
            let place = format!("{} bytes by {}", told.size, python.display());
            assert_eq!(frames.len(), told.frames.len(), "{place}");
            for (frame, told) in frames.iter().zip(&told.frames).filter(|(frame, _)| has_name(frame)) {
                assert_eq!(frame, told, "{place}");
            }
            let expected = if frames.iter().all(|frame| has_name(&frame)) { "complete" } else { "nameless" };
            assert_eq!((seen.python.as_str(), seen.end.as_str()), (expected, "complete"), "{place}");
        }
    }
    Ok(())
}

/// What the kernel side remembers of the last walk on a processor is mostly another thread's.
#[test]
fn python_frames_of_threads_that_share_a_processor_are_their_own() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for python in ["3.10", "3.12"].into_iter().flat_map(interpreters) {
        let mut command = script(Path::new("taskset"), "--cpu-list");
        command.arg("0").arg(&python).args(["callers.py", "24"]);
        assert_own(command, &format!("{} on one processor", python.display()))?;
    }
    Ok(())
}

#[test]
fn python_frames_of_real_ttnn_are_its_own() -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    for version in ["0.66.0", "0.81.1"] {
        assert_own(ttnn(version, &["../lookalike/callers.py"])?, version)?;
    }
    Ok(())
}

/// The evaluator's parts, as readelf has them; none where the file has no symbols but the exported ones. A part of a few
/// bytes is what the compiler makes of code that is never reached: nothing jumps there, and it calls nothing.
fn parts_by_readelf(module: &Path) -> Result<Vec<(u64, u64)>> {
    let output = Command::new("readelf").args(["-sW"]).arg(module).output().context("failed to start readelf")?;
    let text = String::from_utf8(output.stdout)?;
    let part = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let name = words.get(7).filter(|name| name.split('.').next() == Some("_PyEval_EvalFrameDefault"));
        let part = name.and_then(|_| Some((u64::from_str_radix(words[1], 16).ok()?, words[2].parse().ok()?)));
        part.filter(|(_, size)| *size >= 16)
    };
    let symbols = text.split_once("'.symtab'").map(|(_, symbols)| symbols).unwrap_or_default();
    let mut parts: Vec<(u64, u64)> = symbols.lines().filter_map(part).collect();
    parts.sort_unstable();
    Ok(parts)
}

#[test]
fn the_evaluator_is_found_in_all_its_parts() -> Result<()> {
    let mut compared = 0;
    for python in ["3.10", "3.11", "3.12", "3.13"].into_iter().flat_map(interpreters) {
        let mut child = Command::new(&python)
            .args(["-c", "import sys; print(flush=True); sys.stdin.read()"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // It runs Python code once it prints.
        child.stdout.as_mut().context("a pipe")?.read_exact(&mut [0])?;
        let (modules, _) = open_modules(child.id(), &maps::read(child.id())?);
        let found = discover::python::find(child.id(), &modules);
        drop(child.stdin.take());
        child.wait()?;
        let found = found.with_context(|| format!("no interpreter in {}", python.display()))?;
        let frames = found.frames.map_err(|reason| anyhow!("{}: {reason}", python.display()))?;
        let module = &modules[found.module];
        let own = |address: u64| address.wrapping_sub(module.bias);
        let mut parts: Vec<_> = frames.evaluator.iter().map(|part| (own(part.start), part.end - part.start)).collect();
        parts.sort_unstable();
        let expected = parts_by_readelf(&module.mapping.path)?;
        if !expected.is_empty() {
            assert_eq!(parts, expected, "{}", module.mapping.path.display());
            compared += 1;
        }
    }
    if compared == 0 {
        eprintln!("skipped: no interpreter with symbols");
    }
    Ok(())
}

#[test]
fn python_frames_of_real_ttnn_lead_to_the_test() -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    for version in ["0.66.0", "0.81.1"] {
        let (_target, trace) = record(ttnn_pytest(version, &["scenarios/test_own_mesh.py"])?)?;
        let seen = seen(&trace)?;
        let in_test = |seen: &&Seen| seen.python_frames().iter().any(|(file, ..)| file.ends_with("test_own_mesh.py"));
        let count = seen.iter().filter(in_test).count();
        assert!(count > 10, "{version}: {count} of {} stacks lead to a test", seen.len());
        for seen in seen.iter().filter(in_test) {
            assert_eq!((seen.python.as_str(), seen.end.as_str()), ("complete", "complete"), "{version}");
        }
        let buffer =
            seen.iter().find(in_test).map(|seen| seen.event.unique_id.to_string()).context("counted before")?;
        let shown = text(&["timeline", "--buffer", &buffer, "--stacks", "--frames", "200", &trace.to_string_lossy()])?;
        let test = |line: &str| line.trim_start().starts_with('#') && line.contains("test_own_mesh.py:");
        assert!(shown.lines().any(test), "{version}: {shown}");
    }
    Ok(())
}
