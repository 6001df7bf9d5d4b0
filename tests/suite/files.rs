// SPDX-License-Identifier: Apache-2.0
//! Files that are none, disks that are full, outputs that would replace what is read: each is said, and nothing is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::{
    target::{Target, lookalike},
    tool::{Recorder, can_probe, path, run},
};

const LOG: &str = "[PID 7] Allocated 512 bytes of DRAM on device 4 (buffer_id=256)\n\
    [PID 7] Freed buffer 256 on device 4 (512 bytes, FINAL)\n\
    [PID 7] Deallocation for unknown buffer 256 on device 4\n";

/// A folder with a small trace, which needs no rights.
fn imported() -> Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let (log, trace) = (folder.path().join("server.log"), folder.path().join("a.ttb"));
    fs::write(&log, LOG)?;
    let output = run(&["import", path(&log), "-o", path(&trace)])?;
    assert!(output.status.success(), "{output:?}");
    Ok((folder, trace))
}

/// Asserts that it failed with these words.
#[track_caller]
fn assert_failed(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
}

/// A file system of its own, of so many KiB.
struct Disk(TempDir);

impl Disk {
    fn new(options: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).status()?;
        if !status.success() {
            bail!("failed to mount a tmpfs");
        }
        Ok(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What stays mounted is found by whoever looks into /tmp; nothing else depends on it.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn what_is_no_file_is_not_waited_for() -> Result<()> {
    let (folder, trace) = imported()?;
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let commands: [&[&str]; 4] = [&["report"], &["dump"], &["held", "--test", "a"], &["diff", path(&trace)]];
    for command in commands {
        for device in [path(&pipe), "/dev/zero", "/dev/null"] {
            let output = run(&[command, &[device]].concat())?;
            assert_failed(&output, &[device, "this is a pipe or a device, not a file", "hint: write what comes out"]);
            assert!(output.stdout.is_empty());
        }
    }
    let missing = run(&["check", path(&trace), "--fail-on", "red", "--suppress", "nowhere.toml"])?;
    assert_failed(&missing, &["failed to read nowhere.toml: No such file or directory"]);
    assert!(!String::from_utf8_lossy(&missing.stderr).contains("hint: "), "that is about traces");
    for option in ["--suppress", "--expect", "--baseline"] {
        for device in [path(&pipe), "/dev/zero"] {
            let output = run(&["check", path(&trace), "--fail-on", "red", option, device])?;
            assert_failed(&output, &[device, "this is a pipe or a device, not a file"]);
        }
    }
    Ok(())
}

#[test]
fn what_is_read_is_never_written() -> Result<()> {
    let (folder, trace) = imported()?;
    let before = fs::read(&trace)?;
    let link = folder.path().join("link.ttb");
    std::os::unix::fs::symlink(&trace, &link)?;
    let known = folder.path().join("known.toml");
    fs::write(&known, "[[suppress]]\nsite = \"f\"\nreason = \"known\"\nexpires = 2999-01-31\n")?;
    let other = folder.path().join("other.ttb");
    fs::copy(&trace, &other)?;
    let log = folder.path().join("server.log");

    let check = |more: &[&str]| run(&[&["check", path(&trace), "--fail-on", "red"], more].concat());
    for output in [path(&trace), path(&link)] {
        assert_failed(&check(&["--junit", output])?, &["failed to write ", "it would replace ", "which is read"]);
        assert_failed(&check(&["--write-baseline", output])?, &["it would replace "]);
        assert_failed(&run(&["import", path(&trace), "-o", output])?, &["it would replace "]);
    }
    assert_failed(&check(&["--suppress", path(&known), "--junit", path(&known)])?, &["it would replace "]);
    assert_failed(&check(&["--junit", path(&other)])?, &["other.ttb: it is a trace"]);
    let export = run(&["export", path(&trace), "--to", "folded", "-o", path(&other)])?;
    assert_failed(&export, &["failed to write ", "other.ttb: it is a trace"]);
    assert_failed(&run(&["import", path(&log), "-o", path(&log)])?, &["it would replace "]);
    assert_eq!(fs::read(&trace)?, before);
    assert_eq!(fs::read(&other)?, before);
    assert_eq!(fs::read_to_string(&log)?, LOG);
    assert!(fs::read_to_string(&known)?.starts_with("[[suppress]]"));

    // A baseline is brought up to date.
    let baseline = folder.path().join("baseline.toml");
    for _ in 0..2 {
        let both = ["--write-baseline", path(&baseline)];
        assert!(check(&both)?.status.success());
        assert!(check(&["--baseline", path(&baseline), both[0], both[1]])?.status.success());
    }
    Ok(())
}

#[test]
fn an_import_that_fails_leaves_everything_as_it_was() -> Result<()> {
    let (folder, trace) = imported()?;
    let before = fs::read(&trace)?;
    let nothing = folder.path().join("nothing.log");
    fs::write(&nothing, "hello\n")?;
    let new = folder.path().join("new.ttb");
    for output in [&trace, &new] {
        assert_failed(
            &run(&["import", path(&nothing), "-o", path(output)])?,
            &["failed to import ", "it has no allocation"],
        );
    }
    assert_failed(&run(&["import", path(folder.path()), "-o", path(&new)])?, &["it is a folder"]);
    assert_eq!(fs::read(&trace)?, before);
    let mut names: Vec<_> =
        fs::read_dir(folder.path())?.map(|entry| entry.map(|it| it.file_name())).collect::<Result<_, _>>()?;
    names.sort();
    assert_eq!(names, ["a.ttb", "nothing.log", "server.log"]);
    Ok(())
}

#[test]
fn what_cannot_be_written_is_still_shown() -> Result<()> {
    let (_folder, trace) = imported()?;
    let output = run(&["check", path(&trace), "--fail-on", "red", "--junit", "/nowhere/junit.xml"])?;
    assert_failed(&output, &["failed to write /nowhere/junit.xml", "No such file or directory"]);
    assert!(String::from_utf8(output.stdout)?.starts_with("Passed"));
    Ok(())
}

#[test]
fn a_disk_that_is_full_or_read_only() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (folder, _) = imported()?;
    let log = folder.path().join("server.log");
    let import = |output: &Path| run(&["import", path(&log), "-o", path(output)]);
    let written = Disk::new("size=8k,ro")?;
    assert_failed(&import(&written.path("a.ttb"))?, &["failed to create ", "a.ttb", "Read-only file system"]);

    let disk = Disk::new("size=8k")?;
    assert!(import(&disk.path("a.ttb"))?.status.success());
    let before = fs::read(disk.path("a.ttb"))?;
    let many: String =
        (0_u64..20_000).map(|at| LOG.replace("256", &(at * at * 7919 % 1_000_003).to_string())).collect();
    fs::write(&log, many)?;
    assert_failed(&import(&disk.path("a.ttb"))?, &["failed to write ", "No space left on device"]);
    assert_eq!(fs::read(disk.path("a.ttb"))?, before, "the earlier trace is as it was");
    assert_eq!(fs::read_dir(disk.0.path())?.count(), 1, "and nothing is beside it");
    Ok(())
}

#[test]
fn a_recording_on_a_disk_that_becomes_full() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let disk = Disk::new("size=160k")?;
    let trace = disk.path("a.ttb");
    let target = Target::start(lookalike("pimpl", &["burst.py", "200000"]))?;
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    let (status, said) = recorder.finish()?;
    target.finish()?.succeeded()?;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("failed to write ") && said.contains("No space left on device"), "{said}");

    // All that was written before is there, in whole chunks.
    let report = run(&["report", "--json", path(&trace)])?;
    let report: serde_json::Value = serde_json::from_slice(&report.stdout)?;
    assert_eq!(report["integrity"]["damaged"], false);
    assert!(report["integrity"]["events"].as_u64().is_some_and(|events| 1000 < events), "{}", report["integrity"]);
    // That it ended so is said where there was room left for it.
    let reason = &report["integrity"]["processes"][0]["reason"];
    assert!(reason.is_null() || reason == "failed", "{reason}");
    Ok(())
}
