// SPDX-License-Identifier: Apache-2.0
//! What a recorder has in the kernel and in its target, and that nothing of it is left behind.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use buftrace::trace::{Item, Record};
use serde_json::Value;

use crate::{
    target::lookalikes,
    tool::{items, path, patience},
};

/// Seconds that the kernel may take to take away what nobody holds any more.
const CLEANUP: u32 = 20;

/// Waits for something, for so many seconds at most.
#[track_caller]
pub(crate) fn wait_until(seconds: u32, mut done: impl FnMut() -> bool) {
    let limit = patience(seconds);
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "waited for {limit:?}");
        sleep(Duration::from_millis(5));
    }
}

/// BPF programs and maps, by the kernel's ids, which it gives to nothing else for a long time.
#[derive(Default)]
pub(crate) struct Held {
    programs: BTreeSet<u64>,
    maps: BTreeSet<u64>,
}

impl Held {
    /// Adds those that a process has by now.
    pub(crate) fn add(&mut self, pid: u32) -> Result<()> {
        for descriptor in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            let text = fs::read_to_string(descriptor?.path()).unwrap_or_default();
            let id = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            self.programs.extend(id("prog_id:"));
            self.maps.extend(id("map_id:"));
        }
        Ok(())
    }

    /// Adds those that others had.
    pub(crate) fn extend(&mut self, other: Self) {
        self.programs.extend(other.programs);
        self.maps.extend(other.maps);
    }

    /// What a recorder has that has attached.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut held = Self::default();
        held.add(pid)?;
        ensure!(!held.programs.is_empty() && !held.maps.is_empty(), "the recorder holds no BPF programs or maps");
        Ok(held)
    }

    /// How many these are.
    pub(crate) fn count(&self) -> usize {
        self.programs.len() + self.maps.len()
    }

    /// Waits until the kernel has none of these any more.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        wait_until(CLEANUP, || self.programs.is_disjoint(&loaded("prog")) && self.maps.is_disjoint(&loaded("map")));
    }
}

/// The ids of all programs, or maps, that the kernel has.
fn loaded(what: &str) -> BTreeSet<u64> {
    let output = Command::new("bpftool").args(["--json", what, "show"]).output();
    let output = output.expect("bpftool is needed (apt-get install bpftool)");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("bpftool shows a list");
    rows.iter().filter_map(|row| row["id"].as_u64()).collect()
}

/// The first instruction byte of a function that every allocation enters, in the library's file and in a process.
pub(crate) fn probed_byte(trace: &Path, pid: u32) -> Result<(u8, u8)> {
    let offset = items(trace)?.iter().find_map(|item| match item {
        Item::Record(Record::Probe(probe)) if probe.kind.as_str() == "allocated" => Some(probe.offset.0),
        _ => None,
    });
    let offset = offset.context("the trace names its probes")?;
    let file = lookalikes().join("pimpl/libtt_metal.so");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let code = maps.lines().find(|line| line.contains("r-xp") && line.ends_with(path(&file)));
    let mut words = code.context("the library is mapped")?.split_whitespace();
    let hex = |text: Option<&str>| Ok::<_, anyhow::Error>(u64::from_str_radix(text.context("a number")?, 16)?);
    let start = hex(words.next().and_then(|range| range.split('-').next()))?;
    let begin = hex(words.nth(1))?;
    let read = |file: &str, at: u64| -> Result<u8> {
        let mut byte = [0];
        fs::File::open(file)?.read_exact_at(&mut byte, at)?;
        Ok(byte[0])
    };
    Ok((read(path(&file), offset)?, read(&format!("/proc/{pid}/mem"), start + offset - begin)?))
}

/// Waits until no probe is left in a process.
pub(crate) fn assert_unprobed(trace: &Path, pid: u32) -> Result<()> {
    let deadline = Instant::now() + patience(CLEANUP);
    loop {
        let (file, memory) = probed_byte(trace, pid)?;
        if file == memory {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("a probe is left behind: {memory:#x} instead of {file:#x}");
        }
        sleep(Duration::from_millis(5));
    }
}
