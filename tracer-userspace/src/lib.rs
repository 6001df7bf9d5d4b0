// SPDX-License-Identifier: Apache-2.0
//! Traces the device buffers of a running TT-Metal process, and says what happened to each.
//!
//! The modules follow the pipeline. Left of the trace file is recording; right of it, everything is a pure function
//! from traces to values ([`model`], [`analysis`]) and from values to text ([`view`]).

pub mod analysis;
pub mod cli;
pub mod model;
pub mod trace;
pub mod view;
