// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask vm KERNEL`: the tests that probe processes, on another kernel, in a virtual machine.
//!
//! The machine's processors are emulated, so any host will do. Its root is the host's, and what it writes stays in its own
//! memory, so that nothing has to be installed or built for it, and nothing on the host changes.

mod image;
mod kernel;
mod machine;

use std::{
    env,
    ffi::{OsStr, OsString},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{exists, install, run},
    root, test,
};
use kernel::KNOWN;

/// What the machine and its making call: program → Debian package.
const PROGRAMS: [(&str, &str); 3] =
    [("qemu-system-x86_64", "qemu-system-x86"), ("dpkg-deb", "dpkg"), ("apt-get", "apt")];
/// What cargo has to find as it is here, to see that everything is built.
const INHERITED: [&str; 7] =
    ["PATH", "HOME", "CARGO_HOME", "CARGO_INCREMENTAL", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"];
/// How many times slower the emulated processors may be, on a host that has other things to do as well.
const SLOWNESS: &str = "30";
/// The tests of recordings of the look-alike: what others need is real ttnn, a debugger that takes too long on an emulated
/// processor, or no kernel.
const TESTS: [&str; 10] = [
    "containers::",
    "faults::",
    "forks::",
    "lookalike::",
    "loss::",
    "machine::",
    "privileges::",
    "processes::",
    "survival::",
    "workers::",
];
/// What of these is on real ttnn all the same.
const OTHERS: &str = "--skip=of_ttnn";

/// How to run the tests.
pub struct Options {
    /// Version of the kernel, as [`kernel::Known::version`]; `None` to say which there are.
    pub kernel: Option<String>,
    /// Whether to install what the host lacks.
    pub install: bool,
    /// When to give up.
    pub limit: Duration,
    /// For the test program; none for all tests of recordings of the look-alike.
    pub arguments: Vec<OsString>,
}

/// Runs the tests on a kernel.
///
/// # Errors
/// If a test fails, or the machine ends before they do.
pub fn vm(options: &Options) -> Result<()> {
    let Some(version) = &options.kernel else {
        KNOWN.iter().for_each(|known| println!("{:<6} {}", known.version, known.from));
        return Ok(());
    };
    let known = KNOWN.iter().find(|known| known.version == *version);
    let known =
        known.with_context(|| format!("no kernel {version} is known; `cargo xtask vm` lists those that are"))?;
    require_programs(options.install)?;
    let kernel = known.fetch(options.install)?;
    test::prepare_lookalike()?;
    run(Command::new("cargo").args(["test", "--package", "buftrace-tests", "--no-run"]).current_dir(root()))?;
    let image = image::build(&kernel, &guest_command(&options.arguments))?;

    let release = &kernel.release;
    eprintln!("Linux {release} boots under emulation; the tests begin in some minutes");
    let begin = Instant::now();
    let status = machine::run(&kernel, &image, options.limit)?;
    let minutes = begin.elapsed().as_secs().div_ceil(60);
    match status {
        Some(0) => eprintln!("Linux {release}: the tests passed, in {minutes} min"),
        Some(status) => bail!("Linux {release}: the tests failed with exit status {status}, after {minutes} min"),
        None => bail!("Linux {release}: the machine ended before the tests did, after {minutes} min"),
    }
    Ok(())
}

fn require_programs(install_them: bool) -> Result<()> {
    let missing = PROGRAMS.iter().filter(|(program, _)| !exists(program));
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    match (packages.is_empty(), install_them) {
        (true, _) => Ok(()),
        (false, true) => install(&packages),
        (false, false) => bail!("missing: {}; `cargo xtask vm --install` installs it", packages.join(" ")),
    }
}

/// What the machine's shell runs once it is up.
fn guest_command(arguments: &[OsString]) -> String {
    let mut lines = vec!["export BUFTRACE_NO_SKIP=1 BUFTRACE_OWN_MACHINE=1 CARGO_TERM_COLOR=never".to_string()];
    lines.push(format!("export BUFTRACE_SLOWNESS={SLOWNESS}"));
    let inherited = INHERITED.iter().filter_map(|&name| Some((name, env::var_os(name)?)));
    lines.extend(inherited.map(|(name, value)| format!("export {name}={}", quoted(&value))));
    lines.push(format!("cd {} || exit", quoted(root().as_os_str())));
    let all = || TESTS.into_iter().chain([OTHERS]).map(OsString::from).collect();
    let arguments: Vec<_> = if arguments.is_empty() { all() } else { arguments.to_vec() };
    let words = arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    lines.push(format!("exec cargo test --offline --package buftrace-tests --test suite -- {words}\n"));
    lines.join("\n")
}

/// A word for the shell.
fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_reads_words_as_they_are() {
        for word in ["", "it's $HOME", "--skip", "a\\'b \"c\" `d`\n*"] {
            let output = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word.as_ref()))).output();
            let said = output.expect("there is a shell").stdout;
            assert_eq!(String::from_utf8_lossy(&said), word);
        }
    }
}
