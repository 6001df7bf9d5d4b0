// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask ci`: the whole gate, on a clean Debian or Ubuntu.

use std::process::Command;

use anyhow::Result;

use crate::{
    command::{exists, install, run},
    ebpf, object, root, test,
};

/// What the tests call: program → Debian package.
const PROGRAMS: [(&str, &str); 10] = [
    ("g++", "g++"),
    ("gdb", "gdb"),
    ("python3", "python3"),
    ("readelf", "binutils"),
    ("bpftool", "bpftool"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("lintian", "lintian"),
    ("go", "golang-go"),
    ("npm", "npm"),
    ("chromium", "chromium"),
];

/// Installs what is missing, checks digest, format and lints, builds the kernel side anew, and runs the tests on that.
pub fn ci() -> Result<()> {
    install_programs()?;
    object::check()?;
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--all-targets", "--locked", "--", "--deny", "warnings"])?;
    ebpf::build(true)?;
    test::test(&["--locked".into()])
}

fn install_programs() -> Result<()> {
    let mut packages: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect();
    let has_venv = Command::new("python3").args(["-c", "import ensurepip, venv"]).status();
    if !has_venv.is_ok_and(|status| status.success()) {
        packages.push("python3-venv");
    }
    if packages.is_empty() { Ok(()) } else { install(&packages) }
}

fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new("cargo").args(arguments).current_dir(root()))
}
