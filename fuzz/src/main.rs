// SPDX-License-Identifier: Apache-2.0
//! The fuzzer: libFuzzer, on the target that the environment names.
#![no_main]

use std::sync::LazyLock;

use buftrace_fuzz::{Target, target};

/// The environment variable that names the target.
const VARIABLE: &str = "BUFTRACE_FUZZ_TARGET";

static CHOSEN: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var(VARIABLE).unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("{VARIABLE} names no target: `{name}`"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (CHOSEN.run)(data));
