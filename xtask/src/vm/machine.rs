// SPDX-License-Identifier: Apache-2.0
//! The virtual machine: qemu, with emulated processors.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;

/// No network, and nothing of the host can be written to. The first serial port is our output.
const OPTIONS: &str = "-machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 3G -net none -display none -monitor none \
    -no-reboot -device virtio-rng-pci -serial stdio";
/// The host's root, for the machine to mount.
const ROOT: &str = "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap";
/// A busy host gives an emulated timer no chance to prove that it works.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check";

/// Runs the machine to its end: the exit status of what it ran, or `None` if it ended before that.
///
/// # Errors
/// If it does not end within `limit`; then it is killed.
pub(super) fn run(kernel: &Kernel, image: &Path, limit: Duration) -> Result<Option<i32>> {
    let status = kernel.folder.join("status");
    fs::write(&status, "").with_context(|| format!("failed to write {}", status.display()))?;
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(OPTIONS.split_whitespace())
        .args(["-virtfs", ROOT, "-append", KERNEL_COMMAND_LINE, "-serial"])
        .arg(format!("file:{}", status.display()))
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(image)
        .stdin(Stdio::null())
        .spawn()
        .context("failed to start qemu-system-x86_64")?;
    let deadline = Instant::now() + limit;
    while qemu.try_wait()?.is_none() {
        if Instant::now() > deadline {
            qemu.kill()?;
            qemu.wait()?;
            bail!("Linux {}: gave up after {} min (`--minutes`)", kernel.release, limit.as_secs() / 60);
        }
        sleep(Duration::from_millis(200));
    }
    Ok(fs::read_to_string(&status)?.trim().parse().ok())
}
