// SPDX-License-Identifier: Apache-2.0
//! speedscope's file format: JSON by the schema that it names, a profile for each measure, in bytes and in numbers.
//!
//! <https://www.speedscope.app/file-format-schema.json>

use std::{collections::HashMap, io::Write};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{Stacks, Unit, frames::Frame};
use crate::{
    analysis::{Measure, Profile},
    trace::escape,
};

#[derive(Serialize)]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'a str,
    name: &'a str,
    exporter: String,
    #[serde(rename = "activeProfileIndex")]
    active: usize,
    shared: Shared<'a>,
    profiles: Vec<Sampled>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<SharedFrame<'a>>,
}

#[derive(Serialize)]
struct SharedFrame<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

/// A stack for each sample, as numbers of frames, outermost first.
#[derive(Serialize)]
struct Sampled {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    unit: &'static str,
    #[serde(rename = "startValue")]
    start: u64,
    #[serde(rename = "endValue")]
    end: u64,
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

/// Writes all measures of a profile.
///
/// # Errors
///
/// The output can't be written.
pub fn write_speedscope(profile: &Profile, stacks: Stacks, name: &str, out: &mut dyn Write) -> Result<()> {
    let mut frames = Frames { stacks, numbers: HashMap::new(), frames: Vec::new(), known: HashMap::new() };
    let measures = Measure::ALL.into_iter().filter(|&measure| measure != Measure::Peak || profile.has_peaks);
    let mut profiles = Vec::new();
    for measure in measures {
        for unit in [Unit::Bytes, Unit::Count] {
            profiles.push(sampled(profile, measure, unit, &mut frames));
        }
    }
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        name: &escape(name),
        exporter: concat!("tt-buftrace ", env!("CARGO_PKG_VERSION")).to_owned(),
        active: 0,
        shared: Shared { frames: frames.frames.iter().map(SharedFrame::of).collect() },
        profiles,
    };
    serde_json::to_writer(out, &file).context("failed to write")
}

fn sampled(profile: &Profile, measure: Measure, unit: Unit, frames: &mut Frames) -> Sampled {
    let name = unit.name(measure).to_owned();
    let kind = match unit {
        Unit::Bytes => "bytes",
        Unit::Count => "none",
    };
    let mut sampled =
        Sampled { kind: "sampled", name, unit: kind, start: 0, end: 0, samples: Vec::new(), weights: Vec::new() };
    for (stack, amount) in profile.by_stack(measure) {
        let weight = unit.of(amount);
        sampled.end = sampled.end.saturating_add(weight);
        sampled.samples.push(frames.numbers(stack));
        sampled.weights.push(weight);
    }
    sampled
}

impl<'a> SharedFrame<'a> {
    fn of(frame: &'a Frame) -> Self {
        Self { name: &frame.name, file: frame.file.as_deref(), line: frame.line }
    }
}

/// The different frames, numbered.
struct Frames<'a> {
    stacks: Stacks<'a>,
    numbers: HashMap<Frame, usize>,
    frames: Vec<Frame>,
    /// Stacks that were asked for.
    known: HashMap<Option<u32>, Vec<usize>>,
}

impl Frames<'_> {
    fn numbers(&mut self, stack: Option<u32>) -> Vec<usize> {
        if let Some(known) = self.known.get(&stack) {
            return known.clone();
        }
        let numbers: Vec<usize> = self.stacks.frames(stack).into_iter().map(|frame| self.number(frame)).collect();
        self.known.insert(stack, numbers.clone());
        numbers
    }

    fn number(&mut self, frame: Frame) -> usize {
        let next = self.frames.len();
        *self.numbers.entry(frame).or_insert_with_key(|frame| {
            self.frames.push(frame.clone());
            next
        })
    }
}
