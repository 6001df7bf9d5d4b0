// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask ebpf`: builds the kernel side and checks its object in, with the digest of its source.
//!
//! Two toolchains can do it: rustup's nightly with rust-src, or Debian's `rustc-web` (stable, but with its library's
//! source) with RUSTC_BOOTSTRAP. Both need bpf-linker on an LLVM that is at least as new as rustc's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{exists, install, output, run},
    object::{DIGEST, OBJECT, source_digest},
    root, stack,
};

const TARGET: &str = "bpfel-unknown-none";
/// Debian's packages: a rustc with its library's source, and the LLVM that bpf-linker is built with.
const PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev", "libpolly-22-dev"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core";
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

/// A compiler that can build `core` for the kernel.
enum Toolchain {
    /// rustup's nightly.
    Nightly,
    /// Debian's `rustc-web`.
    Debian,
}

/// Builds the object and writes it with its digest; with `install`, installs what is missing first.
pub fn build(install: bool) -> Result<()> {
    if install {
        install_tools()?;
    }
    let toolchain = find_toolchain().context(
        "no toolchain that can build for the kernel: `cargo xtask ebpf --install` installs Debian's (rustc-web), \
         or install one with `rustup toolchain install nightly --component rust-src`",
    )?;
    if !exists("bpf-linker") {
        bail!("bpf-linker is missing: `cargo xtask ebpf --install` builds it");
    }
    let compiled = compile(&toolchain)?;
    let object = root().join(OBJECT);
    stack::check(&fs::read(&compiled)?)?;
    fs::create_dir_all(object.parent().context("the object has no folder")?)?;
    strip(&compiled, &object)?;
    fs::write(root().join(DIGEST), source_digest()? + "\n")?;
    eprintln!("wrote {OBJECT} ({} bytes) and {DIGEST}", fs::metadata(&object)?.len());
    Ok(())
}

fn compile(toolchain: &Toolchain) -> Result<PathBuf> {
    let folder = root().join("target/ebpf");
    let mut cargo = match toolchain {
        Toolchain::Nightly => {
            let mut cargo = Command::new("rustup");
            cargo.args(["run", "nightly", "cargo"]).env_remove("RUSTC");
            cargo
        }
        Toolchain::Debian => {
            let mut cargo = Command::new("cargo");
            cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            cargo
        }
    };
    // The kernel's atomic additions that return a value came with the third version of its instruction set (5.12).
    let flags =
        ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Ctarget-cpu=v3", "-Clink-arg=--btf", "-Dwarnings"];
    let flags: Vec<String> = flags.map(str::to_string).into_iter().chain(path_prefixes()).collect();
    cargo
        .args(["build", "--package", "tracer-ebpf", "--release", "--locked", "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .current_dir(root());
    run(&mut cargo)?;
    Ok(folder.join(TARGET).join("release/tt-buftrace-bpf"))
}

/// Flags that keep the names of this machine's folders out of the object: BTF has the source file of each line.
fn path_prefixes() -> Vec<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let registries = fs::read_dir(cargo.join("registry/src")).into_iter().flatten().flatten().map(|entry| entry.path());
    let sources = DEBIAN_SOURCE.trim_end_matches("/library/core");
    let prefix = |folder: &Path, name: &str| format!("--remap-path-prefix={}={name}", folder.display());
    let mut flags: Vec<String> = registries.map(|folder| prefix(&folder, "crates")).collect();
    flags.push(prefix(&root(), "."));
    flags.push(prefix(Path::new(sources), "rust"));
    flags
}

/// Takes DWARF out: the kernel reads BTF only.
fn strip(compiled: &Path, object: &Path) -> Result<()> {
    let candidates = [format!("{DEBIAN_LLVM}/bin/llvm-objcopy"), "llvm-objcopy".to_string()];
    let objcopy = candidates
        .iter()
        .find(|program| exists(program))
        .context("llvm-objcopy is missing: `cargo xtask ebpf --install` installs it")?;
    run(Command::new(objcopy).arg("--strip-debug").arg(compiled).arg(object))
}

fn find_toolchain() -> Option<Toolchain> {
    if let Some(sysroot) = output(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))
        && PathBuf::from(sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
    {
        return Some(Toolchain::Nightly);
    }
    let there = PathBuf::from(DEBIAN_RUSTC).exists() && PathBuf::from(DEBIAN_SOURCE).is_dir();
    there.then_some(Toolchain::Debian)
}

fn install_tools() -> Result<()> {
    if find_toolchain().is_none() || !PathBuf::from(DEBIAN_LLVM).is_dir() {
        install(&PACKAGES)?;
    }
    if !exists("bpf-linker") {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "bpf-linker", "--no-default-features", "--features", "llvm-22"]);
        run(cargo.env("LLVM_PREFIX", DEBIAN_LLVM))?;
    }
    Ok(())
}
