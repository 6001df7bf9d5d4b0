// SPDX-License-Identifier: Apache-2.0
//! What the tool refuses: each with a sentence that says why, exit code 2, and nothing written; and what doctor says.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    target::{Target, lookalike},
    tool::{Recorder, can_probe, path, program, run, stderr},
};

/// Above the largest process id that Linux gives.
const NO_PROCESS: &str = "4194305";
/// User and group of `nobody`.
const NOBODY: &str = "65534";

/// Asserts that it was refused in these words, with nothing on stdout.
#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: "), "{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A target that waits, and a small trace of one like it.
fn recorded() -> Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace.ttb");
    let target = Target::start(lookalike("pimpl", &["burst.py", "100"]))?;
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    target.finish()?.succeeded()?;
    assert!(recorder.finish()?.0.success());
    Ok((folder, trace))
}

/// A command as a user without any rights runs it; the tool is a copy, as the user can't enter each build folder.
fn as_nobody(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let copy = folder.join("tt-buftrace");
    fs::copy(program(), &copy)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    let user = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
    let output = Command::new("setpriv").args(user).arg(&copy).args(arguments).output();
    output.context("setpriv is needed (apt-get install util-linux)")
}

#[test]
fn a_process_that_is_not_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace.ttb");
    let output = run(&["record", "-p", NO_PROCESS, "-o", path(&trace)])?;
    assert_refused(&output, &["there is no process 4194305"]);
    assert!(!stderr(&output).contains("doctor"), "which knows no more");
    assert!(!trace.exists());
    Ok(())
}

#[test]
fn a_command_that_is_not_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace.ttb");
    let output = run(&["record", "-o", path(&trace), "--", "/nowhere/python"])?;
    assert_refused(&output, &["failed to start /nowhere/python", "No such file or directory"]);
    assert!(!stderr(&output).contains("doctor"), "which knows no more");
    assert!(!trace.exists());
    Ok(())
}

#[test]
fn a_library_whose_sources_disagree() -> Result<()> {
    assert_build_refused(
        "unverifiable",
        &["size_", "allocation_status_"],
        &["the sources disagree", "num_pages() says", "deallocate_impl says", "not known for this build"],
    )
}

#[test]
fn a_library_that_hides_its_fields() -> Result<()> {
    assert_build_refused(
        "obscured",
        &["size_", "page_size_", "address_", "unique_id_", "allocation_status_"],
        &["no source says where it is", "unique_id() says nothing", "not known for this build"],
    )
}

/// Each field that is not known is named, with what the sources say; the target does not notice.
fn assert_build_refused(variant: &str, fields: &[&str], words: &[&str]) -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike(variant, &["burst.py", "10"]))?;
    let (trace, pid) = (target.path("trace.ttb"), target.pid());
    let refused = run(&["record", "-p", &pid, "-o", path(&trace)])?;
    let doctor = run(&["doctor", "-p", &target.pid()])?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;

    assert_refused(&refused, words);
    assert_refused(&refused, &[&format!("`tt-buftrace doctor -p {pid}` says more")]);
    assert!(!trace.exists() && !target.path("trace.ttb").exists());
    assert_eq!(doctor.status.code(), Some(1));
    let checks = String::from_utf8(doctor.stdout)?;
    let failed: Vec<_> = checks.lines().filter_map(|line| line.strip_prefix("fail layout       ")).collect();
    for field in fields {
        let begin = format!("{field}: ");
        assert!(stderr(&refused).contains(&begin), "{}", stderr(&refused));
        assert!(failed.iter().any(|line| line.starts_with(&begin)), "{checks}");
    }
    Ok(())
}

#[test]
fn a_user_without_rights() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace.ttb");
    let target = Target::start(lookalike("pimpl", &["burst.py", "10"]))?;
    let refused = as_nobody(folder.path(), &["record", "-p", &target.pid(), "-o", path(&trace)])?;
    let doctor = as_nobody(folder.path(), &["doctor", "-p", &target.pid()])?;
    target.go()?;
    target.finish()?.succeeded()?;

    let setcap = "sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_sys_admin+ep ";
    assert_refused(&refused, &["without CAP_BPF and CAP_PERFMON", setcap]);
    assert!(!trace.exists());
    assert_eq!(doctor.status.code(), Some(1));
    let checks = String::from_utf8(doctor.stdout)?;
    assert!(checks.contains("fail rights       without CAP_BPF and CAP_PERFMON"), "{checks}");
    assert!(checks.contains(setcap), "{checks}");
    assert!(checks.lines().any(|line| line.starts_with("fail process ")), "{checks}");
    Ok(())
}

#[test]
fn a_file_that_is_there_and_no_trace_is_not_overwritten() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let target = Target::start(lookalike("pimpl", &["burst.py", "10"]))?;
    let notes = target.path("notes.txt");
    fs::write(&notes, "dear diary")?;
    let existing = run(&["record", "-p", &target.pid(), "-o", path(&notes)])?;
    let nowhere = run(&["record", "-p", &target.pid(), "-o", "/nowhere/trace.ttb"])?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;

    assert_refused(&existing, &["failed to create ", "notes.txt", "it is no trace"]);
    assert_eq!(fs::read_to_string(target.path("notes.txt"))?, "dear diary");
    assert_refused(&nowhere, &["failed to create /nowhere/trace.ttb", "No such file or directory"]);
    Ok(())
}

#[test]
fn what_is_no_trace() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let file = folder.path().join(name);
        fs::write(&file, bytes)?;
        Ok(file)
    };
    let no_traces = [file("empty", b"")?, file("text", b"hello\n")?, file("begin", b"BUFT")?];
    let absent = folder.path().join("absent.ttb");
    let commands: [&[&str]; 6] = [
        &["report"],
        &["excess"],
        &["held"],
        &["dump"],
        &["timeline", "--buffer", "1"],
        &["check", "--fail-on", "red"],
    ];
    for command in commands {
        let read = |file: &Path| run(&[command, &[path(file)]].concat());
        for file in &no_traces {
            assert_refused(&read(file)?, &[path(file), "this is no trace of tt-buftrace", "hint: "]);
        }
        assert_refused(&read(&absent)?, &["absent.ttb", "No such file or directory", "hint: "]);
        assert_refused(&read(folder.path())?, &[path(folder.path()), "Is a directory", "hint: "]);
    }
    Ok(())
}

#[test]
fn a_trace_of_another_version_is_refused_by_name() -> Result<()> {
    // The first bytes as the format's documentation has them: magic, version, and the oldest version that may read it.
    let header =
        |version: u16, minimum: u16| [b"BUFTRACE", &version.to_le_bytes()[..], &minimum.to_le_bytes()].concat();
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace.ttb");
    fs::write(&trace, header(7, 7))?;
    assert_refused(&run(&["report", path(&trace)])?, &["trace.ttb", "version 7", "hint: "]);
    // A newer version that says that older tools can read it.
    fs::write(&trace, header(7, 1))?;
    let output = run(&["report", path(&trace)])?;
    assert_ne!(output.status.code(), Some(2), "{}", stderr(&output));
    Ok(())
}

#[test]
fn a_cut_or_damaged_trace_shows_what_it_holds() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (folder, trace) = recorded()?;
    let bytes = fs::read(&trace)?;
    let cut = folder.path().join("cut.ttb");
    for end in (12..bytes.len()).step_by(bytes.len() / 20) {
        fs::write(&cut, &bytes[..end])?;
        let output = run(&["report", path(&cut)])?;
        let shown = String::from_utf8(output.stdout.clone())?;
        // Between two chunks nothing is damaged, but the end of the recording is not there.
        assert!([Some(0), Some(1)].contains(&output.status.code()), "{end}: {}", stderr(&output));
        assert_eq!(output.status.code() == Some(1), shown.contains("is damaged at byte "), "{end}: {shown}");
    }
    let mut damaged = bytes;
    *damaged.last_mut().context("a trace has bytes")? ^= 1;
    fs::write(&cut, damaged)?;
    let [report, dump] = [run(&["report", path(&cut)])?, run(&["dump", path(&cut)])?];
    assert_eq!((report.status.code(), dump.status.code()), (Some(1), Some(1)));
    assert!(String::from_utf8_lossy(&report.stdout).contains("is damaged at byte "), "{report:?}");
    let shown = String::from_utf8(dump.stdout)?;
    assert!(shown.starts_with("session ") && shown.contains("\nborder ") && shown.contains("\n# damaged at byte "));
    Ok(())
}

#[test]
fn a_command_line_that_makes_no_sense() -> Result<()> {
    let lines: [(&[&str], &str); 8] = [
        (&["record"], "--pid <PID>"),
        (&["record", "-p", "abc"], "a process is told by its number"),
        (&["record", "-p", "1", "--ring", "3"], "a power of two from 1 to 1024"),
        (&["record", "-p", "1", "--", "true"], "cannot be used with"),
        (&["timeline", "a.ttb"], "--buffer <BUFFER>"),
        (&["timeline", "--device", "gpu0", "a.ttb"], "a device is mesh0, chip3 or 0"),
        (&["report"], "<TRACE>"),
        (&["remember"], "'remember'"),
    ];
    for (arguments, word) in lines {
        assert_refused(&run(arguments)?, &[word]);
    }
    Ok(())
}

#[test]
fn doctor_looks_at_the_machine_and_the_process() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let machine = run(&["doctor"])?;
    let names = [
        "processor",
        "kernel",
        "btf",
        "uprobes",
        "bpf",
        "rights",
        "container",
        "lockdown",
        "perf",
        "memlock",
        "probing",
    ];
    let text = String::from_utf8(machine.stdout)?;
    for name in names {
        assert!(text.lines().any(|line| line.starts_with(&format!("ok   {name} "))), "no `{name}` in: {text}");
    }
    assert_eq!(machine.status.code(), Some(0));

    let target = Target::start(lookalike("pimpl", &["burst.py", "10"]))?;
    let output = run(&["doctor", "-p", &target.pid()])?;
    let pid = target.pid();
    target.go()?;
    target.finish()?.succeeded()?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        &format!("ok   process      {pid} ("),
        "ok   library ",
        "ok   generation   the fields are in BufferImpl",
        "ok   probe        allocated    _ZN2tt8tt_metal12GraphTracker14track_allocateEPKNS0_6BufferE at file offset 0x",
        "ok   layout       unique_id_ 0x218 (",
        "ok   counter ",
        "ok   python ",
        "ok   unwinding ",
        "ok   tables       libtt_metal.so: ",
        "ok   test         pytest runs none at this moment",
    ] {
        assert!(text.lines().any(|it| it.starts_with(line)), "no `{line}` in: {text}");
    }
    assert!(!text.contains("fail ") && !text.contains("warn "), "{text}");

    let absent = run(&["doctor", "-p", NO_PROCESS])?;
    assert_eq!(absent.status.code(), Some(1));
    assert!(String::from_utf8(absent.stdout)?.contains("fail process      there is no process 4194305"));
    Ok(())
}
