// SPDX-License-Identifier: Apache-2.0
//! The kernels that there are: distributions' own packages, brought by apt from their own archives.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{install, output, run},
    root,
};

/// A kernel that can be had.
pub(super) struct Known {
    /// What it is asked for by.
    pub(super) version: &'static str,
    /// Whose it is.
    pub(super) from: &'static str,
    /// The archive and its suites.
    archives: &'static [(&'static str, &'static str)],
    key: Key,
    /// The package that depends on the newest `linux-image-RELEASE`.
    newest: &'static str,
    /// What the packages that make it up are called before the release.
    packages: &'static [&'static str],
}

/// What an archive signs with.
enum Key {
    /// A file, and the package that has it.
    Installed(&'static str, &'static str),
    /// A file of this repository.
    Own(&'static str),
}

/// The kernels that the tests can be run on.
pub(super) const KNOWN: [Known; 2] = [
    Known {
        version: "5.15",
        from: "Ubuntu 22.04's, the oldest that is supported",
        archives: &[
            ("http://archive.ubuntu.com/ubuntu", "jammy"),
            ("http://archive.ubuntu.com/ubuntu", "jammy-updates"),
            ("http://archive.ubuntu.com/ubuntu", "jammy-security"),
        ],
        // Ubuntu Archive Automatic Signing Key (2018), F6ECB3762474EDA9D21B7022871920D1991BC93C, of its package
        // ubuntu-keyring, which Debian does not have.
        key: Key::Own("xtask/src/vm/ubuntu-archive.asc"),
        newest: "linux-image-virtual",
        packages: &["linux-image-", "linux-modules-"],
    },
    Known {
        version: "6.1",
        from: "Debian 12's",
        archives: &[
            ("http://deb.debian.org/debian", "bookworm"),
            ("http://deb.debian.org/debian-security", "bookworm-security"),
        ],
        key: Key::Installed("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
        newest: "linux-image-amd64",
        packages: &["linux-image-"],
    },
];

/// A kernel that is here.
pub(super) struct Kernel {
    /// What it calls itself.
    pub(super) release: String,
    /// The folder of what belongs to it.
    pub(super) folder: PathBuf,
}

impl Kernel {
    /// The kernel itself.
    pub(super) fn image(&self) -> PathBuf {
        self.files().join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The folder of its modules.
    pub(super) fn modules(&self) -> PathBuf {
        self.files().join("lib/modules").join(&self.release)
    }

    /// A program with the commands that its machine needs, without libraries.
    pub(super) fn busybox(&self) -> PathBuf {
        self.files().join("bin/busybox")
    }

    /// What its packages hold.
    pub(super) fn files(&self) -> PathBuf {
        self.folder.join("files")
    }
}

impl Known {
    /// Brings the newest release of it, unless one is here already; with `install`, installs what that needs.
    pub(super) fn fetch(&self, install_key: bool) -> Result<Kernel> {
        let folder = root().join(".cache/vm").join(self.version);
        let files = folder.join("files");
        if !files.is_dir() {
            let unpacked = folder.join("unpacked");
            self.download(&folder, install_key)?.iter().try_for_each(|package| {
                run(Command::new("dpkg-deb").arg("--extract").arg(folder.join("packages").join(package)).arg(&unpacked))
            })?;
            fs::rename(&unpacked, &files).context("failed to name the kernel's folder")?;
        }
        let release = only_entry(&files.join("lib/modules"))?;
        Ok(Kernel { release, folder })
    }

    /// The files of the packages, in the folder `packages`.
    fn download(&self, folder: &Path, install_key: bool) -> Result<Vec<String>> {
        let key = match self.key {
            Key::Own(path) => root().join(path),
            Key::Installed(path, package) => {
                match (Path::new(path).exists(), install_key) {
                    (true, _) => {}
                    (false, true) => install(&[package])?,
                    (false, false) => bail!("missing: {package}; `cargo xtask vm --install` installs it"),
                }
                PathBuf::from(path)
            }
        };
        let packages = folder.join("packages");
        for made in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join("apt").join(made)).context("failed to make a folder for apt")?;
        }
        fs::create_dir_all(&packages).context("failed to make a folder for packages")?;
        let sources = self
            .archives
            .iter()
            .map(|(archive, suite)| format!("deb [arch=amd64 signed-by={}] {archive} {suite} main\n", key.display()));
        fs::write(folder.join("apt/sources.list"), sources.collect::<String>()).context("failed to write for apt")?;

        run(apt("apt-get", folder).arg("update"))?;
        let depends = output(apt("apt-cache", folder).args(["depends", self.newest])).unwrap_or_default();
        let release = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
        let release = release.with_context(|| format!("{} depends on no kernel", self.newest))?;
        let names = self.packages.iter().map(|name| format!("{name}{release}")).chain(["busybox-static".to_string()]);
        run(apt("apt-get", folder).arg("download").args(names).current_dir(&packages))?;
        let entries = fs::read_dir(&packages).context("failed to look at the packages")?;
        Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }
}

/// apt, with archives, lists and packages of its own instead of the host's.
fn apt(program: &str, folder: &Path) -> Command {
    let folder = folder.join("apt");
    let mut apt = Command::new(program);
    for (option, value) in [
        ("Dir::Etc::SourceList", folder.join("sources.list")),
        ("Dir::Etc::SourceParts", "/dev/null".into()),
        ("Dir::Etc::Preferences", "/dev/null".into()),
        ("Dir::Etc::PreferencesParts", "/dev/null".into()),
        ("Dir::State", folder.join("state")),
        ("Dir::State::Status", "/dev/null".into()),
        ("Dir::Cache", folder.join("cache")),
        ("APT::Architecture", "amd64".into()),
        // Who may not write here can't download here.
        ("APT::Sandbox::User", "root".into()),
        ("Acquire::Languages", "none".into()),
    ] {
        apt.arg("-o").arg(format!("{option}={}", value.display()));
    }
    apt.arg("-qq");
    apt
}

fn only_entry(folder: &Path) -> Result<String> {
    let mut entries = fs::read_dir(folder).with_context(|| format!("failed to look into {}", folder.display()))?;
    let entry = entries.next().with_context(|| format!("{} is empty", folder.display()))??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}
