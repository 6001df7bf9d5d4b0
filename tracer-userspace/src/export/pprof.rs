// SPDX-License-Identifier: Apache-2.0
//! pprof's format: a gzipped message of `profile.proto`, with a sample type for each measure in numbers and in bytes, and the
//! test, device, type of memory and process of each sample as labels.
//!
//! Addresses are the modules' own, as files have them, so that each module is mapped at 0: no two processes of a trace
//! need have it at the same place.

mod schema;

use std::{collections::HashMap, io::Write};

use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use prost::Message as _;

use super::{
    Stacks, Unit,
    frames::{BEFORE, Frame, NO_STACK, remark},
};
use crate::{
    analysis::{At, Measure, Profile, names},
    model::{Definitions, Line, LineKind, Model},
    trace::escape,
};
use schema::{Function, Label, Location, Mapping, ValueType};

/// Writes all measures of a profile, with remarks on what it is and what is missing.
///
/// # Errors
///
/// The output can't be written.
pub fn write_pprof(profile: &Profile, model: &Model, all: bool, remarks: &[String], out: &mut dyn Write) -> Result<()> {
    let definitions = &model.definitions;
    let measures = Measure::ALL.into_iter().filter(|&measure| measure != Measure::Peak || profile.has_peaks);
    let kinds: Vec<(Measure, Unit)> =
        measures.flat_map(|measure| [(measure, Unit::Count), (measure, Unit::Bytes)]).collect();
    let mut builder = Builder::new(Stacks { definitions, all });
    for &(measure, unit) in &kinds {
        let kind = builder.value_type(measure, unit);
        builder.profile.sample_type.push(kind);
    }
    for sample in &profile.samples {
        let values = kinds.iter().map(|&(measure, unit)| signed(unit.of(sample.amount(measure))));
        builder.sample(&sample.at, values.collect());
    }
    let starts = definitions.sessions.iter().map(|session| session.wall_ns);
    builder.profile.time_nanos = signed(starts.filter(|&ns| ns != 0).min().unwrap_or(0));
    builder.profile.duration_nanos = signed(definitions.ends.values().map(|end| end.time).max().unwrap_or(0));
    builder.profile.default_sample_type = builder.text("allocated");
    for remark in remarks {
        let text = builder.text(remark);
        builder.profile.comment.push(text);
    }
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&builder.finish().encode_to_vec()).context("failed to write")?;
    gzip.finish().context("failed to write").map(drop)
}

/// A profile in the making: everything in it is named by its number.
struct Builder<'a> {
    stacks: Stacks<'a>,
    profile: schema::Profile,
    texts: HashMap<String, i64>,
    functions: HashMap<Function, u64>,
    locations: HashMap<Place, u64>,
    mappings: HashMap<String, u64>,
    /// Build ids by path; empty if there are several.
    build_ids: HashMap<&'a str, &'a str>,
    known: HashMap<Option<u32>, Vec<u64>>,
}

/// What tells locations apart.
#[derive(PartialEq, Eq, Hash)]
enum Place {
    /// Mapping, address and innermost function: what was inlined there is always the same, unless two builds have one path.
    Native(u64, u64, u64),
    /// Function and line.
    Other(u64, i64),
}

impl<'a> Builder<'a> {
    fn new(stacks: Stacks<'a>) -> Self {
        let mut builder = Self {
            stacks,
            profile: schema::Profile::default(),
            texts: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            mappings: HashMap::new(),
            build_ids: build_ids(stacks.definitions),
            known: HashMap::new(),
        };
        // The format wants the empty text first.
        builder.text("");
        builder
    }

    fn finish(mut self) -> schema::Profile {
        let functions = self.functions.into_iter().map(|(function, id)| Function { id, ..function });
        let mut functions: Vec<Function> = functions.collect();
        functions.sort_by_key(|function| function.id);
        self.profile.function = functions;
        self.profile
    }

    fn sample(&mut self, at: &At, value: Vec<i64>) {
        let location_id = self.stack(at.stack);
        let label = self.labels(at);
        self.profile.sample.push(schema::Sample { location_id, value, label });
    }

    fn labels(&mut self, at: &At) -> Vec<Label> {
        let definitions = self.stacks.definitions;
        let labels = [
            ("test", names::test_of(definitions, at.test)),
            ("device", names::device(at.device)),
            ("type", Some(names::buffer_type(at.buffer_type))),
            ("process", Some(names::process(at.process, definitions))),
        ];
        let told = labels.into_iter().filter_map(|(key, text)| Some((key, text?)));
        told.map(|(key, text)| Label { key: self.text(key), str: self.text(&text) }).collect()
    }

    /// The locations of a stack, innermost first.
    fn stack(&mut self, stack: Option<u32>) -> Vec<u64> {
        if let Some(known) = self.known.get(&stack) {
            return known.clone();
        }
        let lines = stack.and_then(|stack| self.stacks.definitions.stack(stack)).filter(|it| !it.lines.is_empty());
        let locations = match (stack, lines) {
            (None, _) => vec![self.remark(BEFORE)],
            (Some(_), None) => vec![self.remark(NO_STACK)],
            (Some(_), Some(lines)) => {
                let shown: Vec<&Line> = lines.shown(self.stacks.all).map(|(_, line)| line).collect();
                // What is inlined is one location with the function that it is inlined into.
                let frames = shown.split_inclusive(|line| !line.inlined);
                let mut locations: Vec<u64> = frames.map(|lines| self.frame(lines)).collect();
                locations.extend(remark(&lines).map(|text| self.remark(&text)));
                locations
            }
        };
        self.known.insert(stack, locations.clone());
        locations
    }

    fn frame(&mut self, lines: &[&Line]) -> u64 {
        let [first, ..] = lines else { return 0 };
        let mapping = first.module.as_deref().map_or(0, |path| self.mapping(path, first.address));
        let line: Vec<schema::Line> = lines.iter().map(|line| self.line(line)).collect();
        let place = match first.kind {
            LineKind::Python => Place::Other(line[0].function_id, line[0].line),
            LineKind::Native | LineKind::Interpreter => Place::Native(mapping, first.address, line[0].function_id),
        };
        self.describe(mapping, &line);
        self.location(place, mapping, first.address, line)
    }

    fn line(&mut self, line: &Line) -> schema::Line {
        let frame = Frame::of(line);
        let system_name = line.function.as_deref().map(escape).unwrap_or_default();
        let file = frame.file.unwrap_or_default();
        let function_id = self.function(&frame.name, &system_name, &file);
        schema::Line { function_id, line: line.line.map_or(0, i64::from) }
    }

    fn remark(&mut self, text: &str) -> u64 {
        let function_id = self.function(&Frame::remark(text).name, "", "");
        let line = schema::Line { function_id, line: 0 };
        self.location(Place::Other(function_id, 0), 0, 0, vec![line])
    }

    fn location(&mut self, place: Place, mapping_id: u64, address: u64, line: Vec<schema::Line>) -> u64 {
        let next = self.locations.len() as u64 + 1;
        *self.locations.entry(place).or_insert_with(|| {
            self.profile.location.push(Location { id: next, mapping_id, address, line });
            next
        })
    }

    fn function(&mut self, name: &str, system_name: &str, filename: &str) -> u64 {
        let [name, system_name, filename] = [name, system_name, filename].map(|text| self.text(text));
        let next = self.functions.len() as u64 + 1;
        // The number is no part of what tells functions apart.
        *self.functions.entry(Function { id: 0, name, system_name, filename }).or_insert(next)
    }

    fn mapping(&mut self, path: &str, address: u64) -> u64 {
        let known = self.mappings.get(path).copied();
        let id = known.unwrap_or_else(|| self.add_mapping(path));
        if let Some(mapping) = self.profile.mapping.get_mut(id as usize - 1) {
            mapping.memory_limit = mapping.memory_limit.max(address.saturating_add(1));
        }
        id
    }

    fn add_mapping(&mut self, path: &str) -> u64 {
        let id = self.mappings.len() as u64 + 1;
        let filename = self.text(&escape(path));
        let build_id = self.build_ids.get(path).copied().unwrap_or("");
        let build_id = self.text(&escape(build_id));
        self.mappings.insert(path.to_owned(), id);
        let has_inline_frames = true;
        self.profile.mapping.push(Mapping { id, filename, build_id, has_inline_frames, ..Mapping::default() });
        id
    }

    /// Notes what is known in a mapping, so that no tool looks for it again.
    fn describe(&mut self, mapping: u64, lines: &[schema::Line]) {
        let Some(mapping) = (mapping as usize).checked_sub(1).and_then(|at| self.profile.mapping.get_mut(at)) else {
            return;
        };
        mapping.has_functions = true;
        let has_lines = lines.iter().any(|line| line.line != 0);
        mapping.has_filenames |= has_lines;
        mapping.has_line_numbers |= has_lines;
    }

    fn value_type(&mut self, measure: Measure, unit: Unit) -> ValueType {
        let (kind, unit) = match (measure, unit) {
            (Measure::Allocated, Unit::Bytes) => ("allocated", "bytes"),
            (Measure::Allocated, Unit::Count) => ("allocations", "count"),
            (Measure::Held, Unit::Bytes) => ("held", "bytes"),
            (Measure::Held, Unit::Count) => ("held_buffers", "count"),
            (Measure::Peak, Unit::Bytes) => ("peak", "bytes"),
            (Measure::Peak, Unit::Count) => ("peak_buffers", "count"),
            (Measure::Excess, Unit::Bytes) => ("excess", "bytes"),
            (Measure::Excess, Unit::Count) => ("excess_frees", "count"),
        };
        ValueType { kind: self.text(kind), unit: self.text(unit) }
    }

    /// The number of a text, which is made printable.
    fn text(&mut self, text: &str) -> i64 {
        let text = escape(text);
        let next = self.texts.len() as i64;
        *self.texts.entry(text).or_insert_with_key(|text| {
            self.profile.string_table.push(text.clone());
            next
        })
    }
}

/// Two modules may have had one path, one after the other; then it is not known which one a frame is of.
fn build_ids(definitions: &Definitions) -> HashMap<&str, &str> {
    let mut ids: HashMap<&str, &str> = HashMap::new();
    for module in definitions.modules() {
        let (path, id) = (module.path.as_str(), module.build_id.as_str());
        ids.entry(path).and_modify(|known| *known = if *known == id { id } else { "" }).or_insert(id);
    }
    ids
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::export::tests::{TRACE, model};

    fn decoded(trace: &str) -> schema::Profile {
        let (profile, model) = model(trace);
        let mut out = Vec::new();
        write_pprof(&profile, &model, false, &["a remark".to_owned()], &mut out).expect("written");
        let mut message = Vec::new();
        GzDecoder::new(&out[..]).read_to_end(&mut message).expect("gzipped");
        schema::Profile::decode(&message[..]).expect("decoded")
    }

    #[test]
    fn a_sample_has_each_measure_and_its_labels() {
        let profile = decoded(TRACE);
        let text = |number: i64| profile.string_table[number as usize].as_str();
        let types: Vec<_> = profile.sample_type.iter().map(|it| (text(it.kind), text(it.unit))).collect();
        assert_eq!(types[..2], [("allocations", "count"), ("allocated", "bytes")]);
        let sample = profile.sample.iter().find(|sample| sample.value[0] == 3).expect("three allocations");
        assert_eq!(sample.value, [3, 6144, 1, 2048, 3, 6144, 0, 0]);
        let labels: Vec<_> = sample.label.iter().map(|it| (text(it.key), text(it.str))).collect();
        let expected =
            [("test", "t.py::one"), ("device", "mesh0"), ("type", "DRAM"), ("process", "process 1, pid 4711 on h")];
        assert_eq!(labels, expected);
        assert_eq!(profile.comment.iter().map(|&it| text(it)).collect::<Vec<_>>(), ["a remark"]);
    }

    #[test]
    fn modules_have_build_ids_unless_there_are_several() {
        let build_id = |trace: &str| {
            let profile = decoded(trace);
            let mapping = profile.mapping.iter().find(|it| it.memory_limit == 0x51).cloned().expect("the library");
            profile.string_table[mapping.build_id as usize].clone()
        };
        assert_eq!(build_id(TRACE), "8f22");
        let replaced = "module id=9 path=\"/opt/lib; 7.so\" build_id=\"99\"\n";
        assert_eq!(build_id(&(TRACE.to_owned() + replaced)), "");
    }
}
