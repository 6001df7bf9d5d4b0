// SPDX-License-Identifier: Apache-2.0
//! The fuzzer: libFuzzer, on the target that the environment names.
#![no_main]

use std::sync::LazyLock;

use buftrace_fuzz::{TARGET_VARIABLE, Target, target};

static CHOSEN: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var(TARGET_VARIABLE).unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("{TARGET_VARIABLE} names no target: `{name}`"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (CHOSEN.run)(data));
