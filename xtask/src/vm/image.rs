// SPDX-License-Identifier: Apache-2.0
//! The file system that the machine's kernel starts from: what it takes to get at the host's.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::kernel::Kernel;
use crate::command::run;

/// What the machine's kernel does first.
const INIT: &str = include_str!("init.sh");
/// The modules of its devices and file systems; a kernel may have some of them built in.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/// Where file systems are mounted.
const FOLDERS: [&str; 7] = ["bin", "dev", "proc", "sys", "host", "changes", "new"];

/// Makes the image of a machine that runs a shell script on the host's file system.
pub(super) fn build(kernel: &Kernel, command: &str) -> Result<PathBuf> {
    let folder = kernel.folder.join("image");
    let _ = fs::remove_dir_all(&folder);
    for name in FOLDERS {
        fs::create_dir_all(folder.join(name)).context("failed to make a folder of the image")?;
    }
    fs::copy(kernel.busybox(), folder.join("bin/busybox")).context("failed to copy busybox")?;
    fs::write(folder.join("command"), command)?;
    fs::write(folder.join("init"), INIT)?;
    fs::set_permissions(folder.join("init"), fs::Permissions::from_mode(0o755))?;
    let modules = modules(kernel)?;
    let mut names = String::new();
    for (number, module) in modules.iter().enumerate() {
        // In the order in which they are to be loaded.
        names += &format!("/module{number}\n");
        fs::copy(module, folder.join(format!("module{number}")))
            .with_context(|| format!("failed to copy {}", module.display()))?;
    }
    fs::write(folder.join("modules"), names)?;
    pack(kernel, &folder)
}

/// The files of the modules, each behind those that it needs.
fn modules(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    run(Command::new(kernel.busybox()).args(["depmod", "-b"]).arg(kernel.files()).arg(&kernel.release))?;
    let text = fs::read_to_string(kernel.modules().join("modules.dep")).context("failed to read modules.dep")?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let needed: Vec<(&str, &str)> = lines.collect();
    let mut files = Vec::new();
    for module in MODULES {
        let name = format!("/{module}.ko");
        if let Some((file, _)) = needed.iter().find(|(file, _)| file.ends_with(&name)) {
            add(file, &needed, &mut files);
        }
    }
    Ok(files.into_iter().map(|file| kernel.modules().join(file)).collect())
}

/// Adds a module behind all that it needs, which are never in a circle.
fn add<'a>(module: &'a str, needed: &[(&'a str, &'a str)], files: &mut Vec<&'a str>) {
    let others = needed.iter().find(|(file, _)| *file == module).map_or("", |(_, others)| others);
    others.split_whitespace().for_each(|other| add(other, needed, files));
    if !files.contains(&module) {
        files.push(module);
    }
}

/// Packs a folder as the kernel wants it.
fn pack(kernel: &Kernel, folder: &Path) -> Result<PathBuf> {
    let listed = Command::new(kernel.busybox()).arg("find").current_dir(folder).output()?;
    ensure!(listed.status.success(), "failed to list the image's files");
    let path = folder.with_extension("cpio");
    let file = fs::File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
    let mut cpio = Command::new(kernel.busybox())
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .context("failed to start busybox")?;
    cpio.stdin.take().context("cpio has no stdin")?.write_all(&listed.stdout)?;
    if !cpio.wait()?.success() {
        bail!("failed to pack the image");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_behind_all_that_it_needs_and_once() {
        let needed = [("9p", "netfs 9pnet fscache"), ("fscache", "netfs"), ("virtio", "9pnet")];
        let mut files = Vec::new();
        for module in ["9p", "virtio", "overlay"] {
            add(module, &needed, &mut files);
        }
        assert_eq!(files, ["netfs", "9pnet", "fscache", "9p", "virtio", "overlay"]);
    }
}
