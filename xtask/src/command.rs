// SPDX-License-Identifier: Apache-2.0
//! Runs other programs; an error names the command that failed.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a command with its output on ours.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", text(command));
    let status = command.status().with_context(|| format!("failed to start `{}`", text(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", text(command));
    }
    Ok(())
}

/// Runs a command and returns what it prints, trimmed; `None` if it is not there or fails.
#[must_use]
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Whether a program of this name can be started.
#[must_use]
pub fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Installs Debian's or Ubuntu's packages.
pub fn install(packages: &[&str]) -> Result<()> {
    if !exists("apt-get") {
        bail!(
            "only Debian's and Ubuntu's packages are known here, and there is no apt-get; please install: {}",
            packages.join(" ")
        );
    }
    run(as_root("apt-get").args(["update", "-qq"]))?;
    run(as_root("apt-get").args(["install", "-y", "--no-install-recommends"]).args(packages))
}

/// Whether we are root.
#[must_use]
pub fn is_root() -> bool {
    output(Command::new("id").arg("-u")).as_deref() == Some("0")
}

/// A command that runs with root's rights: by sudo where we are not root.
#[must_use]
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["--preserve-env", program]);
    command
}

/// A command as one would type it.
#[must_use]
pub fn text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
