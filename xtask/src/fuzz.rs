// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask fuzz`: runs what reads untrusted input on inputs that libFuzzer makes up, guided by coverage.
//!
//! Stable Rust is enough: the compiler's own passes instrument the code. What the fuzzer learns stays in `target/fuzz`,
//! and `--keep` adds the least of it that covers as much to `fuzz/corpus`, which the tests replay.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{command::run, root};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Counts the edges that are passed, and tells the fuzzer what is compared with what. Optimizing the crates together, which
/// would come last, only makes the build slower.
const INSTRUMENTED: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clto=off",
];
/// What counts as a hang, in seconds, and as growth, in MiB.
const LIMITS: [&str; 2] = ["-timeout=5", "-rss_limit_mb=1024"];
/// How the fuzzer says how many inputs it tried.
const TRIED: &str = "stat::number_of_executed_units:";

/// Fuzzes one target, or all in turn, so often each.
pub fn fuzz(target: Option<&str>, runs: u64, keep: bool) -> Result<()> {
    let known = targets()?;
    let chosen = match target {
        Some(name) => {
            vec![known.iter().find(|it| *it == name).with_context(|| format!("the targets are {}", known.join(", ")))?]
        }
        None => known.iter().collect(),
    };
    let program = build()?;
    let mut total = 0;
    for target in chosen {
        let tried = campaign(&program, target, runs)?;
        total += tried;
        println!("{target:<10} {tried} inputs without a fault");
        if keep {
            merge(&program, target)?;
        }
    }
    println!("{total} inputs in all");
    Ok(())
}

/// Each has a folder in the corpus.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in fs::read_dir(root().join("fuzz/corpus")).context("failed to read fuzz/corpus")? {
        names.push(folder?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn build() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--package", "buftrace-fuzz", "--features", "fuzzer", "--profile", "fuzz"]);
    // With a target of its own, what only runs while building is not instrumented.
    cargo.args(["--target", TRIPLE]).env("RUSTFLAGS", INSTRUMENTED.join(" ")).current_dir(root());
    run(&mut cargo)?;
    Ok(root().join("target").join(TRIPLE).join("fuzz/buftrace-fuzz"))
}

/// Runs the fuzzer on the inputs that are known and on new ones; returns how many it tried.
fn campaign(program: &Path, target: &str, runs: u64) -> Result<u64> {
    let learnt = folder("learnt", target)?;
    let faults = folder("faults", target)?;
    let mut fuzzer = fuzzer(program, target);
    fuzzer.arg(format!("-runs={runs}")).arg("-print_final_stats=1").args(LIMITS);
    fuzzer.arg(format!("-artifact_prefix={}/", faults.display()));
    let words = root().join("fuzz/words").join(target);
    if words.exists() {
        fuzzer.arg(format!("-dict={}", words.display()));
    }
    fuzzer.arg(learnt).arg(kept(target));
    let output = fuzzer.output().with_context(|| format!("failed to start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let end = said.lines().count().saturating_sub(30);
        let end: Vec<&str> = said.lines().skip(end).collect();
        bail!("{target} failed, the input is in {}:\n{}", faults.display(), end.join("\n"));
    }
    let tried = said.lines().find_map(|line| line.strip_prefix(TRIED));
    tried.and_then(|count| count.trim().parse().ok()).context("the fuzzer did not say how many inputs it tried")
}

/// Adds the fewest of the inputs learnt that cover what all of them cover.
fn merge(program: &Path, target: &str) -> Result<()> {
    let mut fuzzer = fuzzer(program, target);
    let output =
        fuzzer.arg("-set_cover_merge=1").args(LIMITS).arg(kept(target)).arg(folder("learnt", target)?).output()?;
    ensure!(output.status.success(), "failed to merge the corpus of {target}");
    Ok(())
}

fn fuzzer(program: &Path, target: &str) -> Command {
    let mut fuzzer = Command::new(program);
    fuzzer.env("BUFTRACE_FUZZ_TARGET", target);
    fuzzer
}

fn kept(target: &str) -> PathBuf {
    root().join("fuzz/corpus").join(target)
}

/// A folder for what is no part of the repository.
fn folder(what: &str, target: &str) -> Result<PathBuf> {
    let folder = root().join("target/fuzz").join(what).join(target);
    fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}
