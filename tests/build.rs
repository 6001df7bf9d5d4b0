// SPDX-License-Identifier: Apache-2.0
//! Refuses to build the tests on a compiled eBPF object that is older than its source.

use xtask::object;

fn main() {
    for folder in object::SOURCES {
        println!("cargo::rerun-if-changed=../{folder}");
    }
    println!("cargo::rerun-if-changed=../{}", object::DIGEST);
    if let Err(error) = object::check() {
        println!("cargo::error={error:#}");
    }
}
