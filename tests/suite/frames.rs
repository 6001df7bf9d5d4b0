// SPDX-License-Identifier: Apache-2.0
//! Stacks that are hard to walk, from a program that says of each which of its functions are on it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    seen::{NativeFrame, Seen, seen},
    target::{Finished, Target, lookalikes},
    tool::{Recorder, can_probe, path},
};

/// Walked to their end whatever the compiler or a person made of the frames.
pub(crate) const SHAPES: [&str; 16] = [
    "recursion",
    "variable-frames",
    "aligned-frames",
    "general-register",
    "large-frame",
    "tail-call",
    "last-call",
    "cfa-in-rbx",
    "cfa-in-r13",
    "cfa-by-expression",
    "saved-by-expression",
    "saved-in-register",
    "saved-by-value",
    "restored-state",
    "two-ranges",
    "nested-shapes",
];
/// Where an exception, a signal or the loader made the call.
pub(crate) const CALLERS: [&str; 11] = [
    "in-flight",
    "caught",
    "two-in-flight",
    "terminate",
    "destructor",
    "handler",
    "handler-in-handler",
    "first-instruction",
    "other-stack",
    "first-call",
    "resolver",
];
const THREADS: [&str; 4] = ["threads", "thread-exit", "forks", "coroutine"];

/// What the program says of a scenario.
struct Told {
    scenario: String,
    size: u64,
    touches: u64,
    /// Functions of the program, innermost first.
    frames: Vec<String>,
    /// Where each touch interrupted the program, as `module+0xaddress`.
    interrupted: Vec<String>,
}

fn told(finished: &Finished) -> Result<Vec<Told>> {
    let line = |line: &Value| {
        let words = line["frames"].as_str()?.split(' ').flat_map(|word| {
            let (function, times) = word.split_once('*').unwrap_or((word, "1"));
            vec![function.to_owned(); times.parse().unwrap_or(0)]
        });
        let interrupted = line["interrupted"].as_array()?.iter().filter_map(|it| it.as_str().map(str::to_owned));
        Some(Told {
            scenario: line["scenario"].as_str()?.to_owned(),
            size: line["size"].as_u64()?,
            touches: line["touches"].as_u64()?,
            frames: words.collect(),
            interrupted: interrupted.collect(),
        })
    };
    finished.truth()?.iter().map(|it| line(it).context("failed to read the truth")).collect()
}

/// The program as a compiler made it, to run scenarios; `None` if that compiler is not there.
pub(crate) fn program(folder: &str, scenarios: &[&str]) -> Option<Command> {
    let program = lookalikes().join(folder).join("frames");
    if !program.exists() {
        eprintln!("skipped: {} is not built", program.display());
        return None;
    }
    let mut command = Command::new(program);
    command.args(scenarios);
    Some(command)
}

/// Records scenarios; each comes with its requests and frees.
fn record(folder: &str, scenarios: &[&str]) -> Result<Vec<(Told, Vec<Seen>)>> {
    let Some(command) = program(folder, scenarios) else { return Ok(Vec::new()) };
    let (finished, trace) = record_command(command)?;
    let (told, mut seen) = (told(&finished)?, seen(&trace)?);
    assert_eq!(told.iter().map(|told| told.scenario.as_str()).collect::<Vec<_>>(), scenarios);
    let mut all = Vec::new();
    for told in told {
        let (own, others) = seen.into_iter().partition(|seen| seen.event.size == told.size);
        seen = others;
        all.push((told, own));
    }
    assert!(seen.is_empty(), "{} events of no scenario", seen.len());
    Ok(all)
}

fn record_command(command: Command) -> Result<(Finished, PathBuf)> {
    let target = Target::start(command)?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    let finished = target.finish()?;
    finished.succeeded()?;
    assert!(recorder.finish()?.0.success());
    Ok((finished, trace))
}

/// The program's functions on a stack. A part that the compiler split off a function counts as that function.
fn functions(seen: &Seen) -> Vec<&str> {
    let own = seen.native().filter(|frame| is_own(frame));
    own.map(|frame| frame.function.strip_suffix(".cold").unwrap_or(&frame.function)).collect()
}

fn is_own(frame: &NativeFrame) -> bool {
    let folder = Path::new(&frame.module).parent().and_then(Path::file_name);
    folder.is_some_and(|folder| folder.to_string_lossy().starts_with("frames"))
}

fn check(scenarios: &[&str]) -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for folder in ["frames", "frames-clang"] {
        for (told, seen) in record(folder, scenarios)? {
            let place = format!("{} of {folder}", told.scenario);
            assert_eq!(seen.len() as u64, 2 * told.touches, "{place}: a request and a free each");
            for seen in &seen {
                assert_eq!(functions(seen), told.frames, "{place}");
                assert_eq!(seen.end, "complete", "{place}");
            }
        }
    }
    Ok(())
}

#[test]
fn frames_of_every_shape_are_walked() -> Result<()> {
    check(&SHAPES)
}

#[test]
fn frames_are_walked_whoever_called() -> Result<()> {
    check(&CALLERS)
}

#[test]
fn frames_of_threads_forks_and_coroutines_are_walked() -> Result<()> {
    check(&THREADS)
}

#[test]
fn modules_that_come_and_go_are_walked() -> Result<()> {
    check(&["loaded-late", "reloaded"])
}

/// A signal comes behind each instruction on the way through a stub and the loader's binding.
#[test]
fn each_instruction_of_a_binding_can_be_interrupted() -> Result<()> {
    check(&["each-instruction"])
}

#[test]
fn a_function_without_a_table_ends_the_stack_and_says_so() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for folder in ["frames", "frames-clang"] {
        for (told, seen) in record(folder, &["no-table"])? {
            assert_eq!(seen.len(), 2);
            for seen in &seen {
                assert_eq!(
                    (functions(seen), seen.end.as_str()),
                    (told.frames.iter().map(String::as_str).collect(), "no-table")
                );
            }
        }
    }
    Ok(())
}
