// SPDX-License-Identifier: Apache-2.0
//! What privileges a recording needs, by name; what it gives up; and whose files it makes.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::{Command, Output},
};

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    target::{Target, copied_lookalike, lookalike},
    tool::{Recorder, can_probe, confirmed, path, program, run, stderr, tool},
};

/// Allocations, each freed by its owner.
const PAIRS: u64 = 20;
/// User and group of the target, and of a recorder who is somebody else.
const TARGET: u32 = 65534;
const RECORDER: u32 = 65533;

/// The numbers of capabilities, as in linux/capability.h.
fn mask(capabilities: &[&str]) -> u64 {
    let numbers = [
        ("dac_override", 1),
        ("dac_read_search", 2),
        ("sys_ptrace", 19),
        ("sys_admin", 21),
        ("perfmon", 38),
        ("bpf", 39),
        ("checkpoint_restore", 40),
    ];
    let number = |name| numbers.iter().find(|(known, _)| *known == name).map(|(_, number)| number);
    capabilities.iter().fold(0, |mask, name| mask | 1 << number(*name).expect("a name of the list"))
}

/// A folder that every user can enter and write to, with the tool.
fn open_folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    fs::copy(program(), folder.path().join("tt-buftrace"))?;
    Ok(folder)
}

/// The tool as another user with these capabilities and no others.
fn with(folder: &Path, capabilities: &[&str], arguments: &[&str]) -> Command {
    let list = capabilities.iter().fold("-all".to_owned(), |list, name| format!("{list},+{name}"));
    let user = RECORDER.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .args(["--inh-caps", &list, "--ambient-caps", &list])
        .arg(folder.join("tt-buftrace"))
        .args(arguments)
        .env("XDG_CACHE_HOME", folder.join("cache"));
    command
}

/// A target of its own user, with its library.
fn other_users_target() -> Result<(TempDir, Target)> {
    let copy = copied_lookalike("pimpl")?;
    let user = TARGET.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "/usr/bin/python3"])
        .arg(copy.path().join("burst.py"))
        .arg(PAIRS.to_string())
        .env("LOOKALIKE_LIBRARY", copy.path().join("libtt_metal.so"));
    Ok((copy, Target::start(command)?))
}

/// Whether this kernel asks for CAP_SYS_ADMIN at each uprobe, as `doctor` finds.
fn asks_for_admin(folder: &Path) -> Result<bool> {
    let doctor = with(folder, &["bpf", "perfmon", "sys_ptrace"], &["doctor"]).output()?;
    Ok(!String::from_utf8(doctor.stdout)?.contains("\nok   rights "))
}

fn assert_refused(output: &Output, words: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(words), "no `{words}` in: {said}");
}

#[test]
fn another_users_process_is_traced_with_the_named_capabilities_and_no_others() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = open_folder()?;
    let mut needed = vec!["bpf", "perfmon", "sys_ptrace"];
    if asks_for_admin(folder.path())? {
        needed.push("sys_admin");
    }
    let (_copy, target) = other_users_target()?;
    let trace = folder.path().join("trace.ttb");
    let arguments = ["record", "-p", &target.pid(), "-o", path(&trace)];
    let mut recorder = Recorder::launch(with(folder.path(), &needed, &arguments))?;
    recorder.wait_for("recording ")?;
    assert_holds(recorder.pid(), RECORDER, &needed)?;
    target.go()?;
    target.finish()?.succeeded()?;
    let (status, said) = recorder.finish()?;
    assert!(status.success() && !said.contains("warning"), "{said}");
    assert_eq!(confirmed(&trace, "released")?, PAIRS);
    assert_eq!((trace.metadata()?.uid(), trace.metadata()?.mode() & 0o777), (RECORDER, 0o600));
    Ok(())
}

#[test]
fn each_missing_capability_is_named() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = open_folder()?;
    let admin = asks_for_admin(folder.path())?;
    let (copy, target) = other_users_target()?;
    let pid = target.pid();
    let trace = folder.path().join("trace.ttb");
    let record =
        |capabilities: &[&str]| with(folder.path(), capabilities, &["record", "-p", &pid, "-o", path(&trace)]).output();
    assert_refused(&record(&["perfmon", "sys_ptrace"])?, "without CAP_BPF");
    assert_refused(&record(&["bpf", "sys_ptrace"])?, "without CAP_PERFMON");
    assert_refused(&record(&[])?, "without CAP_BPF and CAP_PERFMON");
    let mut probing = vec!["bpf", "perfmon"];
    if admin {
        let words = "without CAP_SYS_ADMIN, which this kernel asks for at each uprobe";
        assert_refused(&record(&["bpf", "perfmon", "sys_ptrace"])?, words);
        probing.push("sys_admin");
    }
    let words = format!("failed to look at process {pid} of user {TARGET}: another user's, or a protected one, takes");
    assert_refused(&record(&probing)?, &format!("{words} CAP_SYS_PTRACE"));
    assert!(!trace.exists());

    // A file that the recorder may not read, and one that is not at its place any more.
    let library = copy.path().join("libtt_metal.so");
    let doctor = |capabilities: &[&str]| -> Result<String> {
        let output = with(folder.path(), capabilities, &["doctor", "-p", &pid]).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    fs::set_permissions(&library, fs::Permissions::from_mode(0o600))?;
    let shown = doctor(&["bpf", "perfmon", "sys_ptrace"])?;
    assert!(shown.contains("Permission denied (os error 13), which takes CAP_DAC_READ_SEARCH"), "{shown}");
    let shown = doctor(&["bpf", "perfmon", "sys_ptrace", "dac_read_search"])?;
    assert!(shown.contains("\nok   library "), "{shown}");
    fs::remove_file(&library)?;
    let shown = doctor(&["bpf", "perfmon", "sys_ptrace", "dac_read_search"])?;
    assert!(shown.contains("Operation not permitted (os error 1), which takes CAP_CHECKPOINT_RESTORE"), "{shown}");
    let shown = doctor(&["bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore"])?;
    assert!(shown.contains("\nok   library "), "{shown}");
    target.go()?;
    target.finish()?.succeeded()
}

/// Asserts that each thread of a recorder is this user's, has these capabilities, and can gain no others.
#[track_caller]
fn assert_holds(pid: u32, user: u32, capabilities: &[&str]) -> Result<()> {
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mask = format!("{:016x}", mask(capabilities));
        assert_eq!(line("Uid:"), Some([user; 4].map(|user| user.to_string()).join("\t").as_str()));
        assert_eq!((line("CapEff:"), line("CapPrm:")), (Some(mask.as_str()), Some(mask.as_str())));
        for set in ["CapInh:", "CapAmb:"] {
            assert_eq!(line(set), Some("0000000000000000"), "{set}");
        }
        assert_eq!(line("NoNewPrivs:"), Some("1"));
        threads += 1;
    }
    assert!(threads > 1, "the recorder has threads of its own, which are looked at too");
    Ok(())
}

/// What a recorder that began as root keeps.
fn kept(folder: &Path, more: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut kept = vec!["bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore"];
    if asks_for_admin(folder)? {
        kept.push("sys_admin");
    }
    kept.extend(more);
    Ok(kept)
}

#[test]
fn root_gives_up_what_a_recording_does_not_need() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = open_folder()?;
    let target = Target::start(lookalike("pimpl", &["burst.py", &PAIRS.to_string()]))?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    assert_holds(recorder.pid(), 0, &kept(folder.path(), &["dac_override"])?)?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    assert!(recorder.finish()?.0.success());
    assert_eq!(confirmed(&target.path("trace.ttb"), "released")?, PAIRS);
    Ok(())
}

#[test]
fn under_sudo_a_recorder_is_its_caller_and_so_are_its_files() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = open_folder()?;
    let sudo = |arguments: &[&str]| {
        let mut command = tool(arguments);
        command.env("SUDO_UID", "12345").env("SUDO_GID", "23456").env("XDG_CACHE_HOME", folder.path().join("cache"));
        command
    };
    let target = Target::start(lookalike("buffer", &["burst.py", &PAIRS.to_string()]))?;
    // Where the caller may not write, nor does root on their behalf.
    let private = tempfile::tempdir()?;
    let refused = sudo(&["record", "-p", &target.pid(), "-o", path(&private.path().join("trace.ttb"))]).output()?;
    assert_refused(&refused, "trace.ttb: Permission denied");

    let trace = folder.path().join("trace.ttb");
    let mut recorder = Recorder::launch(sudo(&["record", "-p", &target.pid(), "-o", path(&trace)]))?;
    recorder.wait_for("recording ")?;
    assert_holds(recorder.pid(), 12345, &kept(folder.path(), &[])?)?;
    target.go()?;
    target.finish()?.succeeded()?;
    assert!(recorder.finish()?.0.success());
    assert_eq!(confirmed(&trace, "released")?, PAIRS);

    let copy = folder.path().join("copy.ttb");
    // A trace of root's own can be read by sudo.
    chown(&trace, Some(0), Some(0))?;
    assert!(sudo(&["redact", path(&trace), "-o", path(&copy)]).status()?.success());
    chown(&trace, Some(12345), Some(23456))?;
    // Where the tool keeps unwind tables below a user's caches.
    let tables = fs::read_dir(folder.path().join("cache/tt-buftrace"))?.map(|entry| Ok(entry?.path()));
    let tables = tables.collect::<Result<Vec<_>>>()?;
    assert!(!tables.is_empty());
    for file in [trace, copy].into_iter().chain(tables) {
        let made = file.metadata()?;
        let found = (made.uid(), made.gid(), made.mode() & 0o777);
        assert_eq!(found, (12345, 23456, 0o600), "{}", file.display());
    }
    Ok(())
}

#[test]
fn without_sudo_nothing_is_read_on_somebody_elses_behalf() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = open_folder()?;
    let private = folder.path().join("private.ttb");
    fs::write(&private, "of root")?;
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600))?;
    let refused = with(folder.path(), &[], &["report", path(&private)]).output()?;
    assert_refused(&refused, "Permission denied");
    assert_eq!(run(&["report", path(&private)])?.status.code(), Some(2), "it is no trace");
    Ok(())
}
