// SPDX-License-Identifier: Apache-2.0
//! The checks of `tt-buftrace doctor`: what tracing needs of the machine and of a process, each as a value.

mod linux;
mod unwinding;

use std::{fmt, fs, num::NonZeroU32, path::Path};

use anyhow::{Context as _, Result};
use object::Object as _;
use rustix::thread::CapabilitySet;
use serde::Serialize;
use tracer_common::{Cookie, Kind, TaskLayout};

use crate::{
    capture::kernel::{self, Kernel, Scope},
    discover::{
        Discovery, Known, Obstacle, maps, module::Module, process::Process, python::Python, symbols::ProbeSet,
        symbols::Site,
    },
    privileges,
    trace::{escape, kind_word},
};

/// The initial user name space (`PROC_USER_INIT_INO`), in which alone these capabilities count for BPF.
const FIRST_USER_NAME_SPACE: &str = "user:[4026531837]";
/// The initial PID name space (`PROC_PID_INIT_INO`), whose process ids are those that BPF sees.
const FIRST_PID_NAME_SPACE: &str = "pid:[4026531836]";
/// CAP_SYS_ADMIN is for kernels that ask for it at each uprobe: see [`privileges::uprobes_ask_for_admin`].
const SETCAP: &str =
    "sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_sys_admin+ep $(command -v tt-buftrace)   # or run as root";

/// A page, which is the least that the kernel takes.
const SMALLEST_RING: u32 = 4096;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Tracing works, but something will be missing.
    Warn,
    /// Tracing does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How it ended.
    pub outcome: Outcome,
    /// What was looked at, in a word.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub next: Option<String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Warn => "warn",
            Outcome::Fail => "fail",
        };
        write!(f, "{outcome:<4} {:<12} {}", self.name, escape(&self.found))?;
        self.next.iter().try_for_each(|next| write!(f, "\n{:>18}→ {}", "", escape(next)))
    }
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, name, found: found.into(), next: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warn, name, found: found.into(), next: Some(next.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, name, found: found.into(), next: Some(next.into()) }
    }
}

/// What tracing needs of the machine and of this program's privileges, as far as it can be told without trying.
#[must_use]
pub fn machine() -> Vec<Check> {
    let uname = rustix::system::uname();
    let [users, pids] = ["user", "pid"].map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default());
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    let container = check_name_spaces(&users.to_string_lossy(), &pids.to_string_lossy());
    let mut rights = check_rights(privileges::effective(), privileges::uprobes_ask_for_admin());
    if container.outcome == Outcome::Fail {
        // Rights that are given in here would not help.
        rights.next = None;
    }
    let mut checks = vec![check_processor(&uname.machine().to_string_lossy())];
    checks.extend(linux::checks(&uname.release().to_string_lossy()));
    checks.extend([
        rights,
        container,
        check_lockdown(&lockdown),
        Check::ok("perf", format!("perf_event_paranoid {}: does not matter with CAP_PERFMON", paranoid.trim())),
        Check::ok("memlock", "RLIMIT_MEMLOCK does not matter: since Linux 5.11 BPF memory is counted by cgroup"),
    ]);
    checks
}

/// What tracing needs of a process.
#[must_use]
pub fn target(pid: u32) -> Vec<Check> {
    match Discovery::of(pid, ProbeSet::Owners, &mut Known::default()) {
        Ok(discovery) => target_checks(&discovery),
        Err(Obstacle::NotLoaded { process, problems }) => {
            let mut checks = vec![check_process(&process)];
            let found = "no mapped file defines GraphTracker::track_allocate";
            checks.push(Check::warn("library", found, "it may not have imported ttnn yet; record waits for that"));
            checks.extend(problems.into_iter().map(|problem| Check::warn("module", problem, unreadable())));
            checks
        }
        Err(Obstacle::Failed(error)) => {
            vec![Check::fail("process", format!("{error:#}"), way_to(pid, privileges::effective()))]
        }
    }
}

/// What to do about a process that can't be looked at, with these rights.
fn way_to(pid: u32, held: CapabilitySet) -> String {
    let all = CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::CHECKPOINT_RESTORE;
    if !Path::new("/proc").join(pid.to_string()).exists() {
        return "it has ended, or this is its id inside a container, which --in takes; `ps -e` shows the host's"
            .to_owned();
    }
    match held.contains(all) {
        true => "no right is missing here: the process has ended by now, or a security module or sandbox protects it"
            .to_owned(),
        false => format!("give the rights: {SETCAP}"),
    }
}

fn target_checks(discovery: &Discovery) -> Vec<Check> {
    let library = discovery.library();
    let path = library.mapping.path.display();
    let mut checks = vec![
        check_process(&discovery.process),
        Check::ok("library", format!("{path}, build id {}", library.build_id)),
        Check::ok("generation", format!("the fields are in {}", discovery.derivation.generation)),
    ];
    checks.extend(discovery.sites.iter().map(check_site));
    checks.extend(discovery.derivation.findings.iter().map(|finding| match &finding.offset {
        Ok(_) => Check::ok("layout", finding.to_string()),
        Err(reason) => Check::fail("layout", reason, "record refuses this build: it guesses nothing"),
    }));
    checks.push(check_counter(discovery));
    checks.push(match discovery.owners() {
        Ok(_) => Check::ok("layout", discovery.derivation.owners.to_string()),
        Err(reason) => Check::warn(
            "layout",
            format!("{reason:#}"),
            "buffers from before the recording will be known by their ids alone",
        ),
    });
    checks.push(match &discovery.python {
        Some(python) => check_python(python, &name_of(discovery, python.module)),
        None => Check::warn("python", "no interpreter whose version can be told", "stacks will be native only"),
    });
    checks.extend(unwinding::checks(&discovery.modules));
    checks.push(check_test(discovery));
    checks.extend(discovery.problems.iter().map(|problem| Check::warn("module", problem, unreadable())));
    checks
}

fn check_processor(machine: &str) -> Check {
    match machine {
        "x86_64" => Check::ok("processor", machine),
        _ => Check::fail("processor", machine, "only x86_64 is supported"),
    }
}

/// `admin` is whether this kernel asks for `CAP_SYS_ADMIN` at each uprobe, if that is known.
fn check_rights(held: CapabilitySet, admin: Option<bool>) -> Check {
    let without = |one| !held.contains(one);
    // It stands for the other two.
    let all = !without(CapabilitySet::SYS_ADMIN);
    let needed = [
        ("CAP_BPF", !all && without(CapabilitySet::BPF)),
        ("CAP_PERFMON", !all && without(CapabilitySet::PERFMON)),
        ("CAP_SYS_ADMIN, which this kernel asks for at each uprobe", !all && admin == Some(true)),
    ];
    let missing: Vec<_> = needed.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect();
    if !missing.is_empty() {
        return Check::fail("rights", format!("without {}", missing.join(" and ")), SETCAP);
    }
    let names = if admin == Some(true) { "CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN" } else { "CAP_BPF, CAP_PERFMON" };
    match without(CapabilitySet::SYS_PTRACE) {
        false => Check::ok("rights", format!("{names}, CAP_SYS_PTRACE")),
        true => Check::warn(
            "rights",
            "without CAP_SYS_PTRACE only some processes can be looked at: other users' cannot, nor protected ones",
            SETCAP,
        ),
    }
}

/// Tries it out, which takes some tenths of a second: what a kernel wants cannot be told from its version.
#[must_use]
pub fn probing() -> Check {
    match probe_ourselves() {
        Ok(()) => Check::ok("probing", "the kernel side loads, and attaches to a process"),
        Err(error) => Check::fail("probing", format!("{error:#}"), SETCAP),
    }
}

/// Attaches to the entry point of our own program, which has run already: no probe fires.
fn probe_ourselves() -> Result<()> {
    let pid = NonZeroU32::new(std::process::id()).context("we have no process id")?;
    let program = fs::read_link("/proc/self/exe").context("failed to find our own program")?;
    let mapping = maps::read(pid.get())?
        .into_iter()
        .find(|mapping| mapping.executable && mapping.path == program)
        .context("our own program is not mapped")?;
    let module = Module::open(pid.get(), &mapping)?;
    let elf = module.elf()?;
    let entry = elf.file_offset(elf.object().entry()).context("our own program has no entry point")?;
    let mut kernel = Kernel::load(
        kernel::Options { ring_bytes: SMALLEST_RING, verbose: false, remember: true },
        TaskLayout::UNKNOWN,
    )?;
    kernel.start()?;
    let cookie = Cookie { kind: Kind::Free, argument: 0, stack: false, owners: false, site: 0 };
    kernel.attach(Scope::Process(pid), &module.file.path(), entry, cookie).context("failed to attach a uprobe")?;
    Ok(())
}

/// Who is in a container knows neither the host's process ids nor its names: the number of the PID name space tells the
/// host which container it is.
fn check_name_spaces(users: &str, pids: &str) -> Check {
    let number = pids.strip_prefix("pid:[").and_then(|rest| rest.strip_suffix(']')).unwrap_or("NUMBER");
    let next = match pids {
        FIRST_PID_NAME_SPACE => "run on the host: sudo tt-buftrace record -p PID".to_owned(),
        _ => format!("run on the host: sudo tt-buftrace record --in {number} -p PID, with the PID as it is in here"),
    };
    match (users, pids) {
        (FIRST_USER_NAME_SPACE, FIRST_PID_NAME_SPACE) => {
            Check::ok("container", "in the host's user and PID name spaces")
        }
        (FIRST_USER_NAME_SPACE, _) => {
            let found = format!("in a container ({pids}): process ids are not the host's, which BPF sees");
            Check::fail("container", found, next)
        }
        _ => Check::fail("container", format!("in a container ({users}), where BPF is not to be had"), next),
    }
}

fn check_lockdown(lockdown: &str) -> Check {
    match lockdown.contains("[confidentiality]") {
        true => Check::fail(
            "lockdown",
            "confidentiality: BPF cannot read the target's memory",
            "boot without lockdown=confidentiality",
        ),
        false => Check::ok("lockdown", "does not keep BPF from reading"),
    }
}

fn check_process(process: &Process) -> Check {
    let Process { pid, command, uid, .. } = process;
    let inside = process.inside.map(|inside| format!(", {inside}")).unwrap_or_default();
    // What could be read of it shows that it is ours to look at.
    Check::ok("process", format!("{pid} ({command}), user {uid}{inside}"))
}

fn check_site(site: &Site) -> Check {
    let kind = kind_word(site.kind);
    match &site.offset {
        Ok(offset) => Check::ok("probe", format!("{kind:<12} {} at file offset {offset:#x}", site.symbol)),
        Err(reason) => {
            let found = format!("{kind:<12} {}: {reason}", site.symbol);
            match site.required {
                true => Check::fail("probe", found, "record refuses this build; please report it with its build id"),
                false => Check::warn("probe", found, "record goes on without it, and says so in the trace"),
            }
        }
    }
}

fn check_counter(discovery: &Discovery) -> Check {
    match discovery.read_next_unique_id() {
        Ok(next) => Check::ok("counter", format!("{next} buffers were made so far")),
        Err(error) => {
            Check::warn("counter", format!("{error:#}"), "buffers from before the attach cannot be told apart")
        }
    }
}

fn check_python(python: &Python, module: &str) -> Check {
    let found = format!("{} in {module}", python.version);
    match &python.frames {
        Ok(_) => Check::ok("python", format!("{found}; its frames can be read")),
        Err(reason) => Check::warn("python", format!("{found}: {reason}"), "stacks will be native only"),
    }
}

fn check_test(discovery: &Discovery) -> Check {
    match discovery.read_current_test() {
        Ok(Some(test)) => Check::ok("test", format!("pytest is at {test}")),
        Ok(None) => Check::ok("test", "pytest runs none at this moment"),
        Err(error) => {
            Check::warn("test", format!("the environment cannot be read: {error}"), "the first test will have no name")
        }
    }
}

fn name_of(discovery: &Discovery, module: usize) -> String {
    discovery.modules.get(module).map(Module::name).unwrap_or_default()
}

fn unreadable() -> String {
    format!("frames in it have no names, and stacks may end there; if it is a matter of rights: {SETCAP}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        use CapabilitySet as Set;
        let check = |held: Set, admin| check_rights(held, admin).to_string().lines().next().map(str::to_owned);
        let all = Set::BPF | Set::PERFMON | Set::SYS_PTRACE;
        let shown = [
            check(all, Some(false)),
            check(all | Set::SYS_ADMIN, Some(true)),
            check(all - Set::SYS_PTRACE, Some(false)),
            check(all, Some(true)),
            check(all - Set::BPF, Some(false)),
            check(all - Set::PERFMON, None),
            check(Set::empty(), None),
            check(Set::SYS_ADMIN | Set::SYS_PTRACE, None),
        ];
        expect![[r#"
            ok   rights       CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE
            ok   rights       CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE
            warn rights       without CAP_SYS_PTRACE only some processes can be looked at: other users' cannot, nor protected ones
            fail rights       without CAP_SYS_ADMIN, which this kernel asks for at each uprobe
            fail rights       without CAP_BPF
            fail rights       without CAP_PERFMON
            fail rights       without CAP_BPF and CAP_PERFMON
            ok   rights       CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE"#]]
        .assert_eq(&shown.into_iter().flatten().collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn only_the_first_name_spaces_will_do() {
        let outcomes = [(FIRST_USER_NAME_SPACE, FIRST_PID_NAME_SPACE), (FIRST_USER_NAME_SPACE, "pid:[1]"), ("", "")];
        let outcomes = outcomes.map(|(users, pids)| check_name_spaces(users, pids).outcome);
        assert_eq!(outcomes, [Outcome::Ok, Outcome::Fail, Outcome::Fail]);
        let inside = check_name_spaces(FIRST_USER_NAME_SPACE, "pid:[4026532178]").next.expect("a way out");
        assert!(inside.contains("record --in 4026532178 -p PID"), "{inside}");
    }

    #[test]
    fn a_line_says_what_to_do() {
        expect![[r#"
            fail rights       without CAP_BPF and CAP_PERFMON
                              → sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_sys_admin+ep $(command -v tt-buftrace)   # or run as root"#]]
        .assert_eq(&check_rights(CapabilitySet::empty(), None).to_string());
        expect!["ok   processor    x86_64"].assert_eq(&check_processor("x86_64").to_string());
    }

    #[test]
    fn a_process_that_is_not_there_is_one_failed_check() {
        // Above the largest process id that Linux gives.
        let checks = target(1 << 23);
        let [Check { outcome: Outcome::Fail, next: Some(next), .. }] = &checks[..] else { panic!("{checks:?}") };
        assert!(next.starts_with("it has ended"), "rights would not help: {next}");
    }

    #[test]
    fn rights_that_are_there_are_not_asked_for() {
        let pid = std::process::id();
        assert!(way_to(pid, CapabilitySet::empty()).contains(SETCAP));
        assert!(!way_to(pid, CapabilitySet::all()).contains(SETCAP));
    }
}
