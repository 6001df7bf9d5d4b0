// SPDX-License-Identifier: Apache-2.0
//! The commands of this repository that cargo has no word for; a file each.

pub mod bench;
pub mod ci;
pub mod command;
pub mod demo;
pub mod ebpf;
pub mod fuzz;
pub mod object;
pub mod package;
pub mod process;
pub mod python;
pub mod recorder;
pub mod soak;
pub mod stack;
pub mod test;
pub mod vm;

use std::path::{Path, PathBuf};

/// The folder that holds the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}
