// SPDX-License-Identifier: Apache-2.0
//! What happened to owning buffers, in one form: by the target's own account, and by a trace.

use std::collections::HashMap;

use buftrace::trace::{Item, Kind, Record};
use serde_json::Value;

/// One thing that happened to an owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    /// Which buffer.
    pub(crate) unique_id: u64,
    /// What happened.
    pub(crate) kind: Kind,
    /// Its device address.
    pub(crate) address: u64,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its type of memory, as TT-Metal numbers them.
    pub(crate) buffer_type: u64,
    /// Its status before.
    pub(crate) status: u64,
    /// The test and the phase, as pytest says them; empty outside of any.
    pub(crate) test: String,
}

/// The steps that the target logged (`tests/lookalike/src/api.h` explains its actions).
pub(crate) fn by_truth(truth: &[Value]) -> Vec<Step> {
    let number = |line: &Value, key: &str| line[key].as_u64().unwrap_or_else(|| panic!("no {key} in {line}"));
    let owners = truth.iter().filter(|line| line["owns"] == true);
    let step = |line: &Value| {
        let status = number(line, "status");
        let kind = match (line["action"].as_str().unwrap_or_default(), status) {
            ("allocated", _) => Kind::Allocated,
            ("deallocate", _) => Kind::Free,
            ("reported", _) => Kind::Released,
            ("marked", _) => Kind::Marked,
            // What made it so is a step already.
            ("destroyed", 2) => return None,
            // An owner that nobody deallocated is freed by its destructor.
            ("destroyed", _) => Kind::Free,
            _ => return None,
        };
        let test = line["test"].as_str().unwrap_or_default().to_owned();
        let [unique_id, address, size, buffer_type] = ["uid", "address", "size", "type"].map(|key| number(line, key));
        Some(Step { unique_id, kind, address, size, buffer_type, status, test })
    };
    owners.filter_map(step).collect()
}

/// The steps that a trace holds.
pub(crate) fn by_trace(items: &[Item]) -> Vec<Step> {
    let mut texts = HashMap::new();
    let mut test = String::new();
    let mut steps = Vec::new();
    for item in items {
        match item {
            Item::Record(Record::Text(text)) => {
                texts.insert(text.id, text.text.clone());
            }
            Item::Record(_) => {}
            Item::Event(event) => match event.kind {
                Kind::TestBegin => test = texts.get(&event.text).cloned().expect("a text comes before its event"),
                Kind::TestEnd => test.clear(),
                // A request has no address yet; what became of it is a step of its own.
                Kind::Request => {}
                kind if kind.is_about_buffer() => steps.push(Step {
                    unique_id: event.unique_id,
                    kind,
                    address: event.address,
                    size: event.size,
                    buffer_type: event.buffer_type.into(),
                    status: event.status.into(),
                    test: test.clone(),
                }),
                _ => {}
            },
        }
    }
    steps
}
