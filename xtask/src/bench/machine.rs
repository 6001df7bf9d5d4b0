// SPDX-License-Identifier: Apache-2.0
//! What was measured on: machine, kernel, and versions of all that took part.

use std::{fs, process::Command};

use super::{driven::TTNN, peers::Peer};
use crate::{command::output, python, recorder::tool};

/// A name and a value each.
#[must_use]
pub(super) fn describe(peers: &[Peer]) -> Vec<(String, String)> {
    let said = |command: &mut Command| output(command).unwrap_or_else(|| "not known".into());
    let mut lines = vec![
        ("processor".to_string(), format!("{}, {} cores", processor(), cores())),
        ("memory".to_string(), memory()),
        ("kernel".to_string(), said(Command::new("uname").arg("-sr"))),
        ("tt-buftrace".to_string(), said(Command::new(tool()).arg("--version"))),
        ("ttnn".to_string(), format!("{TTNN}, on mock chips")),
    ];
    if let Ok(python) = python::with_pytest() {
        lines.push(("the look-alike's Python".to_string(), said(Command::new(python).arg("--version"))));
    }
    for peer in peers {
        let version = peer.version().unwrap_or_else(|error| format!("missing: {error:#}"));
        lines.push((peer.name().to_string(), version));
    }
    lines
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or("not known".to_string(), |(_, name)| name.trim().to_string())
}

fn cores() -> String {
    std::thread::available_parallelism().map_or("?".into(), |cores| cores.to_string())
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB")?.trim().parse().ok());
    total.map_or("not known".into(), |kibibytes: f64| format!("{:.1} GiB", kibibytes / f64::from(1 << 20)))
}
