// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: every test, with the rights that they need.

use std::{ffi::OsString, process::Command};

use anyhow::Result;

use crate::{
    command::{is_root, run},
    package, python, root,
};

/// Runs all tests; `arguments` go to cargo. Where we are not root, the test programs run by sudo.
pub fn test(arguments: &[OsString]) -> Result<()> {
    test_with(&[], arguments)
}

/// The same, with variables for the tests.
pub fn test_with(variables: &[(&str, String)], arguments: &[OsString]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root()).envs(variables.iter().map(|(name, value)| (name, value)));
    cargo.arg("test").args(arguments);
    // A test that skips what it has no rights for must not count as passed here.
    cargo.env("BUFTRACE_NO_SKIP", "1");
    if !is_root() {
        eprintln!("probing other processes needs root: the tests run by sudo");
        prepare()?;
        cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo --preserve-env");
    }
    run(&mut cargo)
}

/// Makes beforehand what the tests would make on first use, so that none of it belongs to root.
fn prepare() -> Result<()> {
    prepare_lookalike()?;
    if python::can_have_ttnn() {
        for version in python::TESTED_TTNN {
            python::with_ttnn(version)?;
        }
        package::wheel(package::Profile::Dev, &root().join("target/package"))?;
    }
    Ok(())
}

/// The same, for the tests on the look-alike alone.
pub(crate) fn prepare_lookalike() -> Result<()> {
    run(Command::new("cargo").args(["build", "--package", "tt-buftrace"]).current_dir(root()))?;
    python::with_pytest()?;
    let lookalikes = root().join("target/lookalike");
    run(Command::new("python3").arg(root().join("tests/lookalike/build.py")).arg(lookalikes))
}
