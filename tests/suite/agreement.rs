// SPDX-License-Identifier: Apache-2.0
//! The kernel side's walk against that of a copy of the same stack, by the whole `.eh_frame`: every event of some thousands.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    frames,
    python::{interpreters, script},
    target::{record_with, ttnn},
    tool::{can_probe, text},
};
use xtask::python::can_have_ttnn;

/// Records with copies; all stacks, at least so many, must come out the same in both ways.
fn agree(command: Command, at_least: u64) -> Result<()> {
    let (_finished, trace) = record_with(command, &["--stack-copy"])?;
    let dump = text(&["dump", &trace.to_string_lossy()])?;
    let counter = |name: &str| {
        let line = dump.lines().find(|line| line.starts_with(&format!("counter name={name}"))).context("a counter")?;
        Ok::<u64, anyhow::Error>(line.split_once("value=").map_or(Ok(0), |(_, value)| value.parse())?)
    };
    let (compared, different) = (counter("compared")?, counter("different")?);
    assert!(compared >= at_least, "{compared} stacks were walked in both ways");
    assert_eq!(different, 0, "of {compared}");
    Ok(())
}

#[test]
fn stacks_of_many_python_callers_agree() -> Result<()> {
    for python in ["3.11", "3.13"].into_iter().filter(|_| can_probe()).flat_map(interpreters) {
        agree(script(&python, "callers.py"), 600)?;
    }
    Ok(())
}

#[test]
fn stacks_of_many_paths_through_native_code_agree() -> Result<()> {
    for program in frames::COMPILED.into_iter().filter(|_| can_probe()).filter_map(frames::program) {
        agree(frames::run(&program, &["many-places"]), 2000)?;
    }
    Ok(())
}

#[test]
fn stacks_of_real_ttnn_agree() -> Result<()> {
    for version in ["0.66.0", "0.81.1"].into_iter().filter(|_| can_probe() && can_have_ttnn()) {
        agree(ttnn(version, &["../lookalike/callers.py"])?, 600)?;
    }
    Ok(())
}
