// SPDX-License-Identifier: Apache-2.0
//! lib

pub mod discover;
pub mod doctor;
