// SPDX-License-Identifier: Apache-2.0
//! The words for the numbers of an entry.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    model::{Buffer, Definitions, Device, Moment},
    trace::{self, BUFFER_TYPES},
};

/// Stands for a test where none ran.
pub(super) const NO_TEST: &str = "(outside of tests)";

/// The type of memory of a number, e.g. `L1`.
#[must_use]
pub fn buffer_type(number: u32) -> String {
    match BUFFER_TYPES.get(number as usize) {
        Some(name) => (*name).to_owned(),
        None if number == u32::MAX => "unknown".to_owned(),
        None => format!("type {number}"),
    }
}

/// The number of a type of memory, as a user wrote it.
///
/// # Errors
///
/// There is no such type.
pub fn parse_buffer_type(text: &str) -> Result<u32, String> {
    trace::parse_buffer_type(text).ok_or_else(|| "a type is DRAM, L1, L1_SMALL, TRACE or SYSTEM_MEMORY".to_owned())
}

pub(crate) fn device(device: Option<Device>) -> Option<String> {
    device.map(|device| device.to_string())
}

pub(super) fn test(definitions: &Definitions, moment: &Moment) -> Option<String> {
    definitions.test(moment).map(str::to_owned)
}

/// The test of a text number.
pub(crate) fn test_of(definitions: &Definitions, text: u32) -> Option<String> {
    test(definitions, &Moment { test: text, ..Moment::default() })
}

/// What a process was imported from, empty if it was recorded.
pub(crate) fn origin(process: u32, definitions: &Definitions) -> &str {
    definitions.processes.get(&process).map_or("", |it| it.origin.as_str())
}

/// A process in a few words.
pub(crate) fn process(number: u32, definitions: &Definitions) -> String {
    let Some(process) = definitions.processes.get(&number) else { return format!("process {number}") };
    let host = definitions.hosts.get(&number).map(|host| format!(" on {host}")).unwrap_or_default();
    match (process.origin.as_str(), process.pid) {
        ("", pid) => format!("process {number}, pid {pid}{host}"),
        (origin, _) => format!("process {number}, {origin} {}", process.command),
    }
}

/// What a buffer is called by, as an example of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Named {
    pub(super) unique_id: u64,
    process: u32,
    device: Option<Device>,
    buffer_type: u32,
    address: u64,
}

impl Named {
    pub(super) fn of(buffer: &Buffer) -> Self {
        let &Buffer { unique_id, process, device, buffer_type, address, .. } = buffer;
        Self { unique_id, process, device, buffer_type, address }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = device(self.device).unwrap_or_else(|| "unknown device".to_owned());
        let kind = buffer_type(self.buffer_type);
        write!(f, "buffer {} ({device}, {kind} {:#x}, process {})", self.unique_id, self.address, self.process)
    }
}
