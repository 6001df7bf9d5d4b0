// SPDX-License-Identifier: Apache-2.0
//! Targets in name spaces of their own, on a root of layers, traced from outside by either process id; targets whose
//! library is gone; and what is said to those who are inside.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use buftrace::trace::{Item, Process, Record};
use tempfile::TempDir;

use crate::{
    group::Group,
    target::{Finished, Target, copied_lookalike, lookalike},
    tool::{Recorder, can_probe, confirmed, items, path, program, root, run, stderr, text},
};

/// Allocations, each freed by its owner.
const PAIRS: u64 = 25;

/// The look-alike in a folder without any other, and the target that runs it in a host of its own, entered this way.
fn start_host(way: &str) -> Result<(TempDir, Target)> {
    let folder = copied_lookalike("pimpl")?;
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--net", "--uts", "--ipc", "--mount", "--fork"])
        .arg(root().join("tests/lookalike/host.sh"))
        .args([way, path(folder.path()), "/usr/bin/python3", "/opt/target/burst.py", &PAIRS.to_string()])
        .env("LOOKALIKE_LIBRARY", "/opt/target/libtt_metal.so");
    Ok((folder, Target::start(command)?))
}

/// The process of this machine that a target is, told by its environment; and the PID name space that it is in.
fn on_this_machine(target: &Target) -> Result<(u32, u64)> {
    let ready = format!("BUFTRACE_READY_FILE={}\0", path(&target.path("ready")));
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        let command = fs::read(folder.join("cmdline")).unwrap_or_default();
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        let ours = environment.windows(ready.len()).any(|part| part == ready.as_bytes());
        if ours && command.starts_with(b"/usr/bin/python3\0") {
            let link = fs::read_link(folder.join("ns/pid"))?;
            let number = path(&link).trim_start_matches("pid:[").trim_end_matches(']').parse()?;
            return Ok((folder.file_name().context("a folder has a name")?.to_string_lossy().parse()?, number));
        }
    }
    anyhow::bail!("the target is no process of this machine")
}

/// Records a target, told so, to its end.
fn record(target: Target, arguments: &[&str]) -> Result<Finished> {
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&[arguments, &["-o", path(&trace)]].concat())?;
    target.go()?;
    let target = target.finish()?;
    target.succeeded()?;
    let (status, said) = recorder.finish()?;
    assert!(status.success(), "{said}");
    Ok(target)
}

/// Asserts that a trace is whole: each buffer was released, and functions of the library have names.
#[track_caller]
fn assert_whole(trace: &Path) {
    assert_eq!(confirmed(trace, "released").expect("a report"), PAIRS);
    let dump = text(&["dump", path(trace)]).expect("a trace");
    assert!(dump.contains(r#"function="tt::tt_metal::BufferImpl::deallocate_impl(tt::tt_metal::Buffer&)""#), "{dump}");
    assert!(!dump.contains("\nproblem "), "{dump}");
}

fn process_of(trace: &Path) -> Result<Process> {
    let process = items(trace)?.into_iter().find_map(|item| match item {
        Item::Record(Record::Process(process)) => Some(process),
        _ => None,
    });
    process.context("a trace has a process")
}

/// A layered file system makes a copy of a file that is written to. Who has the file mapped keeps the one below, but path,
/// device and inode lead to the copy.
#[test]
fn a_library_that_was_written_to_is_refused() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    const LAYERS: &str = "
set -e
folder=$(dirname \"$BUFTRACE_READY_FILE\")
mkdir \"$folder/layers\"
mount -t tmpfs tmpfs \"$folder/layers\"
cd \"$folder/layers\"
mkdir upper work root
mount -t overlay overlay -o \"lowerdir=$1,upperdir=upper,workdir=work\" root
shift
LOOKALIKE_LIBRARY=$PWD/root/libtt_metal.so
export LOOKALIKE_LIBRARY
\"$@\" &
while [ ! -e \"$BUFTRACE_READY_FILE\" ]; do sleep 0.05; done
chmod u+w root/libtt_metal.so
printf . >> root/libtt_metal.so
: > \"$folder/written\"
wait $!
";
    let folder = copied_lookalike("pimpl")?;
    let mut command = Command::new("unshare");
    let burst = folder.path().join("burst.py");
    command.args(["--mount", "sh", "-c", LAYERS, "sh", path(folder.path()), "/usr/bin/python3", path(&burst), "1"]);
    let target = Target::start(command)?;
    while !target.path("written").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let output = run(&["record", "-p", &target.pid(), "-o", path(&target.path("trace.ttb"))])?;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("was written to since it was loaded; start the process anew"), "{said}");
    target.go()?;
    target.finish()?.succeeded()
}

#[test]
fn two_hosts_are_traced_from_outside_by_either_process_id() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let [(_one, one), (_two, two)] = [start_host("pivot")?, start_host("chroot")?];
    let inner = one.pid();
    assert_eq!(inner, two.pid(), "both hosts give the same process id");
    let [(pid_one, space_one), (pid_two, space_two)] = [on_this_machine(&one)?, on_this_machine(&two)?];
    let [outer_one, number_two] = [pid_one.to_string(), space_two.to_string()];

    // Without its container, the inner id means nothing here.
    let refused = run(&["record", "-p", &inner, "-o", path(&one.path("none.ttb"))])?;
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(said.contains(&format!("there is no process {inner}")), "{said}");
    for (pid, space) in [(pid_one, space_one), (pid_two, space_two)] {
        let hint =
            format!("; -p {pid} (/usr/bin/python3 /opt/target/burst.py {PAIRS}) is process {inner} of a container");
        assert!(said.contains(&format!("{hint} (PID name space {space})")), "{said}");
    }
    let elsewhere = run(&["record", "-p", "77", "--in", &number_two])?;
    assert!(stderr(&elsewhere).contains(&format!("PID name space {number_two} has no process 77")));
    // Any of its processes stands for a container.
    let doctor = text(&["doctor", "-p", &inner, "--in", &outer_one])?;
    let line = format!(
        "ok   process      {pid_one} (/usr/bin/python3 /opt/target/burst.py {PAIRS}), user 0, process {inner} of"
    );
    assert!(doctor.contains(&line), "{doctor}");

    let one = record(one, &["-p", &outer_one])?;
    let two = record(two, &["-p", &inner, "--in", &number_two])?;
    for (host, pid, space) in [(one, pid_one, space_one), (two, pid_two, space_two)] {
        let trace = host.path("trace.ttb");
        assert_whole(&trace);
        let process = process_of(&trace)?;
        assert_eq!((process.pid, process.inner_pid.to_string(), process.pid_name_space), (pid, inner.clone(), space));
        let report = text(&["report", path(&trace)])?;
        assert!(report.contains(&format!("pid {pid} ({inner} in its container)")), "{report}");
        assert!(text(&["dump", path(&trace)])?.contains(r#"path="/opt/target/libtt_metal.so""#));
    }
    Ok(())
}

#[test]
fn a_container_that_a_user_made_without_rights_is_traced_as_well() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let folder = copied_lookalike("pimpl")?;
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["unshare", "--user", "--map-root-user", "--pid", "--fork", "/usr/bin/python3"])
        .arg(folder.path().join("burst.py"))
        .arg(PAIRS.to_string())
        .env("LOOKALIKE_LIBRARY", folder.path().join("libtt_metal.so"));
    let target = Target::start(command)?;
    assert_eq!(target.pid, 1, "it is the first process in there");
    let (pid, space) = on_this_machine(&target)?;
    let target = record(target, &["-p", "1", "--in", &space.to_string()])?;
    let trace = target.path("trace.ttb");
    assert_whole(&trace);
    assert_eq!(process_of(&trace)?.pid, pid);
    Ok(())
}

#[test]
fn a_library_that_was_deleted_or_replaced_is_traced_as_it_is_mapped() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for replaced in [false, true] {
        let folder = copied_lookalike("pimpl")?;
        let library = folder.path().join("libtt_metal.so");
        let mut command = lookalike("pimpl", &["burst.py", &PAIRS.to_string()]);
        command.env("LOOKALIKE_LIBRARY", &library);
        let target = Target::start(command)?;
        fs::remove_file(&library)?;
        if replaced {
            fs::write(&library, "another file")?;
        }
        let pid = target.pid();
        assert_whole(&record(target, &["-p", &pid])?.path("trace.ttb"));
    }
    Ok(())
}

#[test]
fn who_is_inside_a_container_is_told_what_to_run_on_the_host() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let script = r#"readlink /proc/self/ns/pid; "$0" doctor; "$0" record -p 1 -o /nowhere/trace.ttb"#;
    for unprivileged in [&[][..], &["--user", "--map-root-user"]] {
        let output = Command::new("unshare")
            .args(unprivileged)
            .args(["--pid", "--fork", "--mount-proc", "sh", "-c", script, path(program())])
            .env_remove("SUDO_UID")
            .output()?;
        let said = String::from_utf8(output.stdout.clone())?;
        let number = said.lines().next().and_then(|line| line.strip_prefix("pid:[")?.strip_suffix(']'));
        let remedy = format!("→ run on the host: sudo tt-buftrace record --in {} -p PID", number.context("a number")?);
        assert!(said.contains("fail container    in a container ("), "{said}");
        for text in [said, stderr(&output)] {
            assert!(text.contains(&remedy), "no `{remedy}` in: {text}");
        }
        assert_eq!(output.status.code(), Some(2));
    }
    Ok(())
}

/// Makes a buffer and goes.
const ONE: &str = "
import attach, lookalike
mesh = lookalike.MeshDevice(1)
attach.wait_for_tracer()
mesh.empty(4096).drop()
";

#[test]
fn a_container_is_recorded_by_the_beginning_of_its_id() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let start = || Target::start(lookalike("pimpl", &["-c", ONE]));
    let [first, later, other] = [start()?, start()?, start()?];
    let id = format!("{:08x}", first.pid).repeat(8);
    let Some(group) = Group::with(&format!("docker-{id}.scope"), first.pid, None)? else { return Ok(()) };
    let trace = first.path("trace.ttb");
    let mut recorder = Recorder::attach(&["--container", &id[..12], "-o", path(&trace)])?;
    group.add(later.pid)?;
    recorder.wait_for("recording ")?;
    let inside = [first.pid, later.pid];
    let targets = [first, later, other];
    targets.iter().try_for_each(Target::go)?;
    let finished = targets.into_iter().map(Target::finish).collect::<Result<Vec<_>>>()?;
    finished.iter().try_for_each(Finished::succeeded)?;
    recorder.signal("-INT")?;
    let (status, said) = recorder.finish()?;
    assert!(status.success(), "{said}");
    let recorded = items(&trace)?.into_iter().filter_map(|item| match item {
        Item::Record(Record::Process(process)) => Some(process.pid),
        _ => None,
    });
    assert_eq!(recorded.collect::<Vec<_>>(), inside);
    assert_eq!(confirmed(&trace, "released")?, 2);
    Ok(())
}
