// SPDX-License-Identifier: Apache-2.0
//! Native stacks against gdb's: the same run, once under gdb and once traced, frame by frame.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use buftrace::trace::Kind;

use crate::{
    frames,
    seen::{NativeFrame, Seen, seen},
    target::{can_have_ttnn, lookalike_pytest, record, ttnn, ttnn_pytest},
    tool::{can_probe, debugging, root},
};

/// What happened, and the frames from innermost to outermost, as `module+0xaddress`.
type Stack = (Kind, Vec<String>);

/// The native stacks of a trace; each must be whole.
fn traced(trace: &Path) -> Result<Vec<Stack>> {
    let stack = |seen: Seen| {
        assert_eq!(seen.end, "complete", "event {}", seen.event.sequence);
        (seen.event.kind, seen.native().map(NativeFrame::place).collect())
    };
    Ok(seen(trace)?.into_iter().map(stack).collect())
}

/// The stacks that gdb finds at the entries of the two functions: the first, and from there on one of `every`.
fn by_gdb(target: &Command, functions: [&str; 2], every: usize) -> Result<Vec<Stack>> {
    let folder = tempfile::tempdir()?;
    let frames = folder.path().join("frames");
    let mut gdb = Command::new("gdb");
    gdb.args(["-q", "-nx", "-batch", "-x"]).arg(root().join("tests/gdb/frames.py")).arg("--args");
    gdb.arg(target.get_program()).args(target.get_args());
    for (name, value) in target.get_envs() {
        gdb.env(name, value.unwrap_or_default());
    }
    if let Some(folder) = target.get_current_dir() {
        gdb.current_dir(folder);
    }
    gdb.env("FRAMES_LIBRARY", "libtt_metal.so")
        .env("FRAMES_FUNCTIONS", functions.join(" "))
        .env("FRAMES_OUT", &frames)
        .env("FRAMES_EVERY", every.to_string())
        .env("BUFTRACE_READY_FILE", folder.path().join("ready"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    let alone = debugging();
    let output = gdb.output().context("failed to start gdb")?;
    drop(alone);
    let lines = fs::read_to_string(&frames)
        .with_context(|| format!("gdb wrote no frames: {}", String::from_utf8_lossy(&output.stderr)))?;
    let stack = |line: &str| {
        let mut words = line.split(' ').map(str::to_string);
        let kind = match words.next() {
            Some(function) if function == functions[0] => Kind::Request,
            Some(function) if function == functions[1] => Kind::Free,
            other => bail!("gdb stopped at {other:?}"),
        };
        Ok((kind, words.collect()))
    };
    lines.lines().map(stack).collect()
}

fn compare(make: impl Fn() -> Result<Command>, functions: [&str; 2], at_least: usize, every: usize) -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let expected = by_gdb(&make()?, functions, every)?;
    let (_target, trace) = record(make()?)?;
    let found: Vec<Stack> = traced(&trace)?.into_iter().step_by(every).collect();
    assert!(expected.len() >= at_least, "gdb saw {} stacks only", expected.len());
    let kinds = |stacks: &[Stack]| stacks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
    assert_eq!(kinds(&found), kinds(&expected), "not the same events");
    for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.1, expected.1, "stack {number}, {:?}", found.0);
    }
    Ok(())
}

const BUFFER: [&str; 2] = ["_ZN2tt8tt_metal6Buffer13allocate_implEv", "_ZN2tt8tt_metal6Buffer15deallocate_implEv"];
const BUFFER_IMPL: [&str; 2] = [
    "_ZN2tt8tt_metal10BufferImpl13allocate_implERNS0_6BufferE",
    "_ZN2tt8tt_metal10BufferImpl15deallocate_implERNS0_6BufferE",
];

#[test]
fn lookalike_stacks_equal_gdbs() -> Result<()> {
    for (variant, functions) in [("buffer", BUFFER), ("pimpl", BUFFER_IMPL)] {
        compare(
            || Ok(lookalike_pytest(variant, &["scenarios/test_lifecycle.py", "scenarios/test_excess.py"])),
            functions,
            35,
            1,
        )?;
    }
    Ok(())
}

#[test]
fn ttnn_0_66_stacks_equal_gdbs() -> Result<()> {
    if !can_have_ttnn() {
        return Ok(());
    }
    compare(|| ttnn_pytest("0.66.0", &["scenarios"]), BUFFER, 70, 1)
}

#[test]
fn ttnn_0_81_stacks_equal_gdbs() -> Result<()> {
    if !can_have_ttnn() {
        return Ok(());
    }
    compare(|| ttnn_pytest("0.81.1", &["scenarios"]), BUFFER_IMPL, 70, 1)
}

/// Of every kind of Python caller, but for threads at once: gdb and the tracer must see the same order.
#[test]
fn ttnn_0_81_stacks_of_many_callers_equal_gdbs() -> Result<()> {
    if !can_have_ttnn() {
        return Ok(());
    }
    compare(|| ttnn("0.81.1", &["../lookalike/callers.py", "0"]), BUFFER_IMPL, 35, 3)
}

#[test]
fn stacks_that_are_hard_to_walk_equal_gdbs() -> Result<()> {
    for folder in frames::COMPILED {
        if let Some(program) = frames::program(folder) {
            compare(|| Ok(frames::run(&program, &frames::steady())), BUFFER_IMPL, 40, 1)?;
        }
    }
    Ok(())
}

/// A sample: what all of these stacks must be is tested beside this.
#[test]
fn some_of_thousands_of_stacks_equal_gdbs() -> Result<()> {
    // Odd, so that both requests and frees are among them.
    const EVERY: usize = 31;
    let Some(program) = frames::program("frames") else { return Ok(()) };
    compare(|| Ok(frames::run(&program, &["many-places"])), BUFFER_IMPL, 2048 / EVERY, EVERY)
}
