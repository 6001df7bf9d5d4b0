// SPDX-License-Identifier: Apache-2.0
//! A recording that sudo started for somebody.

use std::os::unix::fs::MetadataExt as _;

use anyhow::Result;

use crate::{
    target::{Target, lookalike},
    tool::{Recorder, can_probe, path, tool},
};

#[test]
fn the_trace_belongs_to_who_called_sudo_and_to_nobody_else() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("buffer", &["burst.py", "10"]))?;
    let trace = target.path("trace.ttb");
    let mut command = tool(&["record", "-p", &target.pid(), "-o", path(&trace)]);
    command.env("SUDO_UID", "12345").env("SUDO_GID", "23456");
    let mut recorder = Recorder::launch(command)?;
    recorder.wait_for("recording ")?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    assert!(recorder.finish()?.0.success());
    let trace = target.path("trace.ttb").metadata()?;
    assert_eq!((trace.uid(), trace.gid(), trace.mode() & 0o777), (12345, 23456, 0o600));
    Ok(())
}
