// SPDX-License-Identifier: Apache-2.0
//! The Debian package: what is in it runs and reads well, and its rules are kept.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use xtask::{command, package};

use crate::tool::{path, program, text};

/// Has the package built of the program as the tests have it.
fn deb(folder: &Path) -> Result<PathBuf> {
    package::deb(program(), folder)
}

/// The names of the commands, as `--help` lists them.
fn commands() -> Result<BTreeSet<String>> {
    let help = text(&["--help"])?;
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).context("a list")?;
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn a_debian_package_has_the_program_and_a_page_for_each_command() -> Result<()> {
    if !command::exists("dpkg-deb") {
        assert!(std::env::var_os("CI").is_none(), "CI must build Debian packages");
        eprintln!("skipped: no dpkg-deb is here");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let package = deb(folder.path())?;
    let tree = folder.path().join("installed");
    assert!(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree).status()?.success());

    let installed = tree.join("usr/bin/tt-buftrace");
    let version = Command::new(&installed).arg("--version").output()?;
    assert_eq!(String::from_utf8(version.stdout)?, format!("tt-buftrace {}\n", env!("CARGO_PKG_VERSION")));
    let help = Command::new(&installed).arg("--help").output()?;
    assert_eq!(String::from_utf8(help.stdout)?, text(&["--help"])?);

    let pages = fs::read_dir(tree.join("usr/share/man/man1"))?.map(|page| Ok(page?.file_name().into_string().ok()));
    let pages: BTreeSet<String> = pages.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let expected = commands()?.into_iter().map(|name| format!("tt-buftrace-{name}.1.gz"));
    assert_eq!(pages, expected.chain(["tt-buftrace.1.gz".to_owned()]).collect());

    let field = |name: &str| -> Result<String> {
        Ok(String::from_utf8(Command::new("dpkg-deb").arg("-f").arg(&package).arg(name).output()?.stdout)?)
    };
    assert!(field("Depends")?.contains("libc6 (>= "), "{}", field("Depends")?);
    assert_eq!(field("Version")?.trim(), env!("CARGO_PKG_VERSION"));

    let typed = format!(
        "source {}; [[ $(complete -p tt-buftrace) =~ -F\\ ([^ ]+) ]]; COMP_WORDS=(tt-buftrace he); COMP_CWORD=1; \
         ${{BASH_REMATCH[1]}} tt-buftrace he tt-buftrace; echo ${{COMPREPLY[@]}}",
        path(&tree.join("usr/share/bash-completion/completions/tt-buftrace"))
    );
    let completed = Command::new("bash").args(["-c", &typed]).output()?;
    assert_eq!(String::from_utf8(completed.stdout)?, "held\n");

    if command::exists("lintian") {
        let found =
            Command::new("lintian").args(["--fail-on", "error,warning", "--allow-root"]).arg(&package).output()?;
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));
    }
    Ok(())
}
