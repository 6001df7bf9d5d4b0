// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask package`: what is installed elsewhere, a Python wheel and a Debian package, in `target/package`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    command::{exists, install, output, run},
    python, root,
};

const NAME: &str = "tt-buftrace";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const MAINTAINER: &str = "tt-buftrace <tt-buftrace@users.noreply.github.com>";
/// What a Debian package is made with: program → Debian package.
const PROGRAMS: [(&str, &str); 2] = [("dpkg-shlibdeps", "dpkg-dev"), ("strip", "binutils")];

/// How the program in a package is built: a profile of cargo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// As the tests are.
    Dev,
    /// For users.
    Release,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// Builds all packages as users have them.
pub fn package() -> Result<()> {
    let folder = root().join("target/package");
    let program = build(Profile::Release)?;
    for package in [wheel(Profile::Release, &folder)?, deb(&program, &folder)?] {
        println!("{}", package.display());
    }
    Ok(())
}

/// Builds the wheel with the program and the plugin for pytest; returns its file.
pub fn wheel(profile: Profile, folder: &Path) -> Result<PathBuf> {
    let wheels = folder.join("wheel");
    make_empty(&wheels)?;
    let mut maturin = Command::new(python::with_maturin()?);
    maturin.args(["-m", "maturin", "build", "--profile", profile.name(), "--out"]).arg(&wheels);
    run(maturin.current_dir(root().join("python")))?;
    let built = fs::read_dir(&wheels)?.next().context("maturin built no wheel")??.path();
    let wheel = folder.join(built.file_name().unwrap_or_default());
    fs::rename(&built, &wheel)?;
    fs::remove_dir(&wheels)?;
    Ok(wheel)
}

/// Builds the Debian package of a program, with its man pages and completions; returns its file.
pub fn deb(program: &Path, folder: &Path) -> Result<PathBuf> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let tree = folder.join("deb");
    make_empty(&tree)?;
    let binary = tree.join("usr/bin").join(NAME);
    write(&binary, "")?;
    run(Command::new("strip").arg("--strip-unneeded").arg("-o").arg(&binary).arg(program))?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    run(Command::new(program).arg("generate").arg(tree.join("usr")))?;
    let documents = tree.join("usr/share/doc").join(NAME);
    write(&documents.join("copyright"), &copyright())?;
    write(&documents.join("changelog"), &changelog()?)?;
    let pages = fs::read_dir(tree.join("usr/share/man/man1"))?.map(|page| Ok(page?.path()));
    let pages = pages.collect::<Result<Vec<_>>>()?;
    run(Command::new("gzip").args(["-9n"]).args(&pages).arg(documents.join("changelog")))?;
    write(&tree.join("DEBIAN/control"), &control(folder, &tree)?)?;
    run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&tree))?;
    let package = folder.join(format!("{NAME}_{VERSION}_amd64.deb"));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&package))?;
    fs::remove_dir_all(&tree)?;
    Ok(package)
}

fn build(profile: Profile) -> Result<PathBuf> {
    run(Command::new("cargo")
        .args(["build", "--locked", "--package", NAME, "--profile", profile.name()])
        .current_dir(root()))?;
    Ok(root().join("target").join(profile.name()).join(NAME))
}

fn control(folder: &Path, tree: &Path) -> Result<String> {
    // dpkg-shlibdeps wants to be in a source package.
    let source = folder.join("source");
    write(&source.join("debian/control"), &format!("Source: {NAME}\n\nPackage: {NAME}\nArchitecture: amd64\n"))?;
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    shlibdeps.arg("-O").arg(tree.join("usr/bin").join(NAME)).current_dir(&source);
    let depends = output(&mut shlibdeps).context("dpkg-shlibdeps failed")?;
    fs::remove_dir_all(&source)?;
    let depends = depends.strip_prefix("shlibs:Depends=").context("dpkg-shlibdeps found nothing")?;
    let kibibytes = output(Command::new("du").args(["-sk"]).arg(tree)).context("du failed")?;
    let kibibytes = kibibytes.split_whitespace().next().unwrap_or("0").to_owned();
    Ok(format!(
        "Package: {NAME}\n\
         Version: {VERSION}\n\
         Architecture: amd64\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {kibibytes}\n\
         Depends: {depends}\n\
         Section: devel\n\
         Priority: optional\n\
         Homepage: https://github.com/tt-buftrace/tt-buftrace\n\
         Description: tracer of device buffers for TT-Metal processes\n \
         Follows the device buffers of a running TT-Metal (Tenstorrent) process by eBPF\n \
         uprobes, and says what happened to each: allocated where, freed where, freed\n \
         again by whom, released with its device, or held to the end.\n"
    ))
}

fn copyright() -> String {
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: {NAME}\n\
         \n\
         Files: *\n\
         Copyright: 2026 the {NAME} authors\n\
         License: Apache-2.0\n \
         On Debian systems, the text of this license is in\n \
         /usr/share/common-licenses/Apache-2.0.\n"
    )
}

/// As Debian wants it: the release, and when it was made, which is the time of the commit.
fn changelog() -> Result<String> {
    let date = output(Command::new("git").args(["log", "-1", "--format=%aD"]).current_dir(root()));
    let date = date.or_else(|| output(Command::new("date").arg("-R"))).context("failed to tell the date")?;
    Ok(format!("{NAME} ({VERSION}) unstable; urgency=medium\n\n  * Release {VERSION}.\n\n -- {MAINTAINER}  {date}\n"))
}

fn make_empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
