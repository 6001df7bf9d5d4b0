// SPDX-License-Identifier: Apache-2.0
//! Traces the device buffers of a running TT-Metal process, and says what happened to each.

pub mod unwind;
