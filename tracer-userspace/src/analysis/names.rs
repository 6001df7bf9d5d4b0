// SPDX-License-Identifier: Apache-2.0
//! The words for the numbers of an entry.

use crate::model::{Definitions, Device, Moment};

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
