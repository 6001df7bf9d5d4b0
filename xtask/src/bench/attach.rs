// SPDX-License-Identifier: Apache-2.0
//! How long it takes to attach to a process with much in it, and what its unwind tables take.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};

use super::{
    driven::{Library, Order, Pairs, TTNN, file},
    figure::{Bound, Figure, Section, Unit, median},
    sites::field,
};
use crate::{
    process::{own_memory, resident_memory},
    python,
    recorder::{Recorder, each_line},
};

const ROUNDS: usize = 3;
/// Pairs a second that the target makes while the recorder attaches: there is always an event to come.
const RATE: u64 = 1_000;
/// How long it does so.
const SECONDS: u64 = 6;
/// `BPF_MAP_TYPE_RINGBUF` of the kernel's `uapi/linux/bpf.h`: the one map that is no table.
const BPF_MAP_TYPE_RINGBUF: u64 = 27;

/// What was measured of one recording.
struct Sample {
    /// Seconds until the recorder says that it records.
    attached: f64,
    /// Until the first allocation or free that the trace has.
    first: f64,
    /// Until the first with a complete stack.
    complete: f64,
    /// Bytes that the kernel holds for maps, without the ring.
    tables: f64,
    /// The recorder's own memory in bytes, and with what it has mapped.
    memory: (f64, f64),
    /// Bytes of the tables that were kept on disk.
    kept: f64,
}

/// Measures; without torch where that can't be done with it.
pub(super) fn measure() -> Result<Vec<Section>> {
    let (_, python) = python::with_ttnn(TTNN)?;
    let with_torch = python::torch_libraries(&python).and_then(|libraries| attach("ttnn and torch", &libraries));
    let figures = with_torch.or_else(|error| {
        let why = format!("{error:#}");
        let missing = Figure::missing("ttnn and torch", "first event", Unit::Seconds, &why);
        let mut figures = vec![missing.with_aim(aim("ttnn and torch"), Bound::AtMost(1.0), "")];
        figures.extend(attach("ttnn alone", &[])?);
        anyhow::Ok(figures)
    })?;
    let method = format!(
        "ttnn in pytest on eight chips, with torch's largest library and those that it needs loaded as well, allocates and \
         frees {RATE} times a second while it is attached to: {ROUNDS} times without the tables that are kept on disk \
         (cold), and as often with them (warm); medians. Times are from the start of `tt-buftrace record`; the first event \
         is the first allocation or free in the trace, to a hundredth of a second."
    );
    Ok(vec![Section { title: "Attaching to a process with much in it".into(), method, figures, charts: Vec::new() }])
}

fn aim(subject: &str) -> String {
    format!("attach to a process with {subject}, first event included")
}

/// Attaches to ttnn with more libraries loaded.
fn attach(what: &str, libraries: &[PathBuf]) -> Result<Vec<Figure>> {
    let mut target = Pairs::start(Library::Ttnn, 8, libraries)?;
    let (files, bytes) = mapped(target.pid())?;
    let cache = file("cache");
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let _ = fs::remove_dir_all(&cache);
        fs::create_dir_all(&cache)?;
        cold.push(one(&mut target, &cache)?);
        warm.push(one(&mut target, &cache)?);
    }
    target.end()?;
    let reason = format!("{files} files with {} of code are mapped", Unit::Memory.text(bytes));
    let mut figures = Vec::new();
    for (name, samples) in [("cold", &cold), ("warm", &warm)] {
        figures.extend(rows(&format!("{what}, {name}"), samples, &reason)?);
    }
    Ok(figures)
}

fn rows(subject: &str, samples: &[Sample], reason: &str) -> Result<Vec<Figure>> {
    let value = |value: fn(&Sample) -> f64| median(samples.iter().map(value).collect());
    let time = |quantity, seconds: f64| match seconds.is_finite() {
        true => Figure::new(subject, quantity, Unit::Seconds, seconds),
        false => Figure::missing(subject, quantity, Unit::Seconds, format!("{quantity}: there is none in the trace")),
    };
    let memory = |quantity, bytes| Figure::new(subject, quantity, Unit::Memory, bytes);
    Ok(vec![
        time("attached", value(|it| it.attached)?),
        time("first event", value(|it| it.first)?).with_aim(aim(subject), Bound::AtMost(1.0), reason),
        time("first complete stack", value(|it| it.complete)?),
        memory("tables in the kernel", value(|it| it.tables)?),
        memory("tables on disk", value(|it| it.kept)?),
        memory("recorder's own memory", value(|it| it.memory.0)?),
        memory("with what it has mapped", value(|it| it.memory.1)?),
    ])
}

fn one(target: &mut Pairs, cache: &Path) -> Result<Sample> {
    let trace = file("attach.ttb");
    target.begin(Order { pairs: RATE * SECONDS, seconds: SECONDS, rate: RATE, ..Order::default() })?;
    let (begin, uptime) = (Instant::now(), since_boot()?);
    let recorder = Recorder::attach_with_cache(target.pid(), &trace, cache)?;
    let attached = begin.elapsed().as_secs_f64();
    target.finish()?;
    let memory = (own_memory(recorder.pid())? as f64, resident_memory(recorder.pid())? as f64);
    let tables = maps(recorder.pid())? as f64;
    recorder.stop()?;
    let (first, complete) = firsts(&trace)?;
    let after = |time: f64| time - uptime;
    Ok(Sample {
        attached,
        first: after(first),
        complete: after(complete),
        tables,
        memory,
        kept: bytes_below(cache)? as f64,
    })
}

/// When there was the first allocation or free, and the first with a complete stack, in seconds since boot.
fn firsts(trace: &Path) -> Result<(f64, f64)> {
    let mut boot = 0.0;
    let mut complete_stacks = BTreeSet::new();
    let (mut first, mut complete) = (f64::INFINITY, f64::INFINITY);
    each_line(trace, |line| {
        if line.starts_with("session ") {
            boot = field(line, "boot_ns").and_then(|text| text.parse().ok()).unwrap_or(0.0);
        } else if line.starts_with("stack ") && field(line, "end") == Some("complete") {
            complete_stacks.extend(field(line, "id").map(str::to_string));
        } else if let (true, Some(stack)) = (line.starts_with("event "), field(line, "stack")) {
            let time = field(line, "t").and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
            let seconds = (boot + time) / 1e9;
            first = first.min(seconds);
            if complete_stacks.contains(stack) {
                complete = complete.min(seconds);
            }
        }
    })?;
    Ok((first, complete))
}

/// Seconds since boot, those in which the machine slept included, as the times of a trace are.
fn since_boot() -> Result<f64> {
    let text = fs::read_to_string("/proc/uptime")?;
    text.split(' ').next().and_then(|text| text.parse().ok()).context("/proc/uptime is not a number")
}

/// Bytes that the kernel holds for the maps of a process, but for its ring.
fn maps(pid: u32) -> Result<u64> {
    let mut bytes = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("the recorder has ended")? {
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if let (Some(kind), Some(id), Some(memory)) = (value("map_type:"), value("map_id:"), value("memlock:"))
            && kind != BPF_MAP_TYPE_RINGBUF
        {
            bytes.insert(id, memory);
        }
    }
    Ok(bytes.into_values().sum())
}

/// How many files a process has code of, and how many bytes.
fn mapped(pid: u32) -> Result<(usize, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).context("the target has ended")?;
    let mut files = BTreeSet::new();
    let mut bytes = 0;
    for line in text.lines() {
        // START-END PERMISSIONS OFFSET DEVICE INODE PATH
        let mut words = line.split_whitespace();
        let (Some(range), Some(permissions), Some(path)) = (words.next(), words.next(), words.nth(3)) else { continue };
        if permissions.contains('x') && path.starts_with('/') {
            let parse = |text: &str| u64::from_str_radix(text, 16).ok();
            let range = range.split_once('-').and_then(|(start, end)| parse(end)?.checked_sub(parse(start)?));
            bytes += range.context("a mapping without a range")?;
            files.insert(path);
        }
    }
    Ok((files.len(), bytes as f64))
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
