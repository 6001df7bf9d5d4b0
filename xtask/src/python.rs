// SPDX-License-Identifier: Apache-2.0
//! The Python interpreters that the targets run in, in virtual environments below `.cache/`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command::{output, run},
    root,
};

/// A Python with pytest; made on first use.
pub fn with_pytest() -> Result<PathBuf> {
    with("python", &["pytest"], "import pytest")
}

/// A Python with maturin, which builds wheels; made on first use.
pub fn with_maturin() -> Result<PathBuf> {
    with("maturin", &["maturin>=1.8,<2"], "import maturin")
}

/// A Python with what reads the tables that are exported; made on first use.
pub fn with_table_readers() -> Result<PathBuf> {
    let packages = ["duckdb", "jsonschema", "pyarrow", "ttnn-visualizer==0.108.0"];
    with("table-readers", &packages, "import duckdb, jsonschema, pyarrow, ttnn_visualizer")
}

/// A Python with memray; made on first use.
pub fn with_memray() -> Result<PathBuf> {
    with("memray", &["memray"], "import memray")
}

/// What Python packages of torch and of what it links to are needed to load its largest library, without a GPU.
const TORCH: [&str; 3] = ["torch==2.6.0", "nvidia-cuda-runtime-cu12==12.4.127", "nvidia-cuda-cupti-cu12==12.4.127"];
/// Its library, and before it those that it links to.
const TORCH_LIBRARIES: [&str; 4] = [
    "nvidia/cuda_runtime/lib/libcudart.so.12",
    "nvidia/cuda_cupti/lib/libcupti.so.12",
    "torch/lib/libc10.so",
    "torch/lib/libtorch_cpu.so",
];

/// The libraries of torch in the order in which they load into a process, for an interpreter; installed on first use.
pub fn torch_libraries(python: &Path) -> Result<Vec<PathBuf>> {
    let folder = root().join(".cache/torch");
    let libraries: Vec<PathBuf> = TORCH_LIBRARIES.map(|name| folder.join(name)).into();
    if !libraries.iter().all(|path| path.exists()) {
        let mut install = Command::new(python);
        install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]).arg(&folder);
        run(install.args(TORCH))?;
    }
    ensure!(libraries.iter().all(|path| path.exists()), "torch's wheels have not the libraries that they had");
    Ok(libraries)
}

/// A Python of its own with packages that a line of code needs.
fn with(name: &str, packages: &[&str], needs: &str) -> Result<PathBuf> {
    let folder = root().join(".cache").join(name);
    let python = folder.join("bin/python");
    let has_all = || {
        let status = Command::new(&python).args(["-c", needs]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !python.exists() || !has_all() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
            .context("python3 with its venv module is needed: `apt-get install python3-venv`")?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    }
    Ok(python)
}

/// A Python with what reads the formats of other tools by their own definitions; made on first use.
pub fn with_readers() -> Result<PathBuf> {
    let folder = root().join(".cache/readers");
    let python = folder.join("bin/python");
    let has_readers = || {
        let status = Command::new(&python)
            .args(["-c", "import jsonschema, perfetto.protos.perfetto.trace.perfetto_trace_pb2"])
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !python.exists() || !has_readers() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
            .context("python3 with its venv module is needed: `apt-get install python3-venv`")?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "perfetto", "protobuf", "jsonschema"]))?;
    }
    Ok(python)
}

/// The releases of ttnn that the tests run on: one of each class generation.
pub const TESTED_TTNN: [&str; 2] = ["0.66.0", "0.81.1"];

/// Whether there is an interpreter that ttnn has wheels for.
#[must_use]
pub fn can_have_ttnn() -> bool {
    let script = root().join("tests/ttnn/install.py");
    output(Command::new("python3").arg(script).arg("--find")).is_some()
}

/// The folder of a ttnn release on mock devices, and its Python; installed on first use.
pub fn with_ttnn(version: &str) -> Result<(PathBuf, PathBuf)> {
    let folder = root().join(".cache/ttnn").join(version);
    let python = folder.join("venv/bin/python");
    let script = root().join("tests/ttnn/install.py");
    run(Command::new("python3").arg(script).arg(version).arg(&folder))?;
    Ok((folder, python))
}
