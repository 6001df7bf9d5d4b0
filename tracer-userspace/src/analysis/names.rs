// SPDX-License-Identifier: Apache-2.0
//! The words for the numbers of an entry.

use crate::model::{Definitions, Device, Line, LineKind, Moment, StackLines};

/// `BufferType` of the target.
pub(super) fn buffer_type(number: u32) -> String {
    match ["DRAM", "L1", "SYSTEM_MEMORY", "L1_SMALL", "TRACE"].get(number as usize) {
        Some(name) => (*name).to_owned(),
        None if number == u32::MAX => "unknown".to_owned(),
        None => format!("type {number}"),
    }
}

pub(super) fn device(device: Option<Device>) -> Option<String> {
    device.map(|device| device.to_string())
}

pub(super) fn test(definitions: &Definitions, moment: &Moment) -> Option<String> {
    definitions.test(moment).map(str::to_owned)
}

/// Most functions, or Python functions, that name a site: the innermost one is often a wrapper.
const NAMES: usize = 3;

/// The functions that name a site in a line: the innermost Python functions and what they called, or the innermost of all.
pub(super) fn site(definitions: &Definitions, stack: u32) -> Vec<Line> {
    let Some(StackLines { lines, .. }) = definitions.stack(stack) else { return Vec::new() };
    let named = |line: &&Line| line.function.is_some() && line.kind != LineKind::Interpreter;
    let is_python = |line: &&Line| line.kind == LineKind::Python && line.file.is_some();
    match lines.iter().position(|line| is_python(&line)) {
        Some(python) => {
            let called = lines[..python].iter().rev().find(named);
            called.into_iter().chain(lines[python..].iter().filter(is_python).take(NAMES)).cloned().collect()
        }
        None => lines.iter().filter(named).take(NAMES).cloned().collect(),
    }
}
