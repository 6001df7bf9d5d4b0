// SPDX-License-Identifier: Apache-2.0
//! The checks of `tt-buftrace doctor`: what tracing needs of the machine and of a process, each as a value.

mod unwinding;

use std::{fmt, fs, num::NonZeroU32, path::Path};

use anyhow::{Context as _, Result};
use object::Object as _;
use serde::Serialize;
use tracer_common::{Cookie, Kind};

use crate::{
    capture::kernel::{self, Kernel},
    discover::{
        Discovery, Obstacle, maps, module::Module, process::Process, python::Python, symbols::ProbeSet, symbols::Site,
    },
    trace::{escape, kind_word},
};

/// The oldest kernel: attach cookies for uprobes came with it.
const OLDEST_KERNEL: (u32, u32) = (5, 15);
/// The initial user name space (`PROC_USER_INIT_INO`), in which alone these capabilities count for BPF.
const FIRST_USER_NAME_SPACE: &str = "user:[4026531837]";
/// The initial PID name space (`PROC_PID_INIT_INO`), whose process ids are those that BPF sees.
const FIRST_PID_NAME_SPACE: &str = "pid:[4026531836]";
/// CAP_SYS_ADMIN is for the uprobes themselves: since July 2025 perf wants it where CAP_PERFMON was enough, in new kernels and
/// in the stable ones that the change went to (`perf_uprobe_event_init` in kernel/events/core.c).
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
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let [users, pids] = ["user", "pid"].map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default());
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    vec![
        check_processor(&uname.machine().to_string_lossy()),
        check_kernel(&uname.release().to_string_lossy()),
        check_btf(Path::new("/sys/kernel/btf/vmlinux").exists()),
        check_capabilities(effective_capabilities(&status)),
        check_name_spaces(&users.to_string_lossy(), &pids.to_string_lossy()),
        check_lockdown(&lockdown),
        Check::ok("perf", format!("perf_event_paranoid {}: does not matter with CAP_PERFMON", paranoid.trim())),
        Check::ok("memlock", "RLIMIT_MEMLOCK does not matter: since Linux 5.11 BPF memory is counted by cgroup"),
    ]
}

/// What tracing needs of a process.
#[must_use]
pub fn target(pid: u32) -> Vec<Check> {
    match Discovery::of(pid, ProbeSet::Owners) {
        Ok(discovery) => target_checks(&discovery),
        Err(Obstacle::NotLoaded { process, problems }) => {
            let mut checks = vec![check_process(&process)];
            let found = "no mapped file defines GraphTracker::track_allocate";
            checks.push(Check::warn("library", found, "it may not have imported ttnn yet; record waits for that"));
            checks.extend(problems.into_iter().map(|problem| Check::warn("module", problem, unreadable())));
            checks
        }
        Err(Obstacle::Failed(error)) => {
            vec![Check::fail(
                "process",
                format!("{error:#}"),
                format!("look at `ps -p {pid}`, or give the rights: {SETCAP}"),
            )]
        }
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

fn check_kernel(release: &str) -> Check {
    let (major, minor) = OLDEST_KERNEL;
    match kernel_version(release) {
        Some(version) if version >= OLDEST_KERNEL => Check::ok("kernel", format!("Linux {release}")),
        Some(_) => {
            Check::fail("kernel", format!("Linux {release}"), format!("Linux {major}.{minor} or later is needed"))
        }
        None => {
            Check::warn("kernel", format!("release `{release}`"), format!("see that it is {major}.{minor} or later"))
        }
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn check_btf(there: bool) -> Check {
    match there {
        true => Check::ok("btf", "/sys/kernel/btf/vmlinux"),
        false => Check::fail("btf", "no /sys/kernel/btf/vmlinux", "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"),
    }
}

/// Bit numbers, from linux/capability.h.
#[derive(Clone, Copy)]
enum Capability {
    DacReadSearch = 2,
    SysPtrace = 19,
    SysAdmin = 21,
    Perfmon = 38,
    Bpf = 39,
}

fn has(capabilities: u64, capability: Capability) -> bool {
    capabilities >> (capability as u32) & 1 == 1
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
}

fn check_capabilities(capabilities: u64) -> Check {
    let all = has(capabilities, Capability::SysAdmin);
    let needed = [("CAP_BPF", Capability::Bpf), ("CAP_PERFMON", Capability::Perfmon)];
    let missing: Vec<_> =
        needed.into_iter().filter(|(_, one)| !all && !has(capabilities, *one)).map(|(name, _)| name).collect();
    if !missing.is_empty() {
        return Check::fail("rights", format!("without {}", missing.join(" and ")), SETCAP);
    }
    match has(capabilities, Capability::SysPtrace) {
        true => Check::ok("rights", "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE"),
        false => Check::warn(
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
    let mut kernel = Kernel::load(kernel::Options { ring_bytes: SMALLEST_RING, verbose: false, remember: true })?;
    kernel.start()?;
    let cookie = Cookie { kind: Kind::Free, argument: 0, stack: false, site: 0 };
    kernel.attach(pid, &module.file.path(), entry, cookie).context("failed to attach a uprobe")?;
    Ok(())
}

fn check_name_spaces(users: &str, pids: &str) -> Check {
    let next = "run tt-buftrace on the host: it finds processes in containers from there";
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
    let found = format!("{} ({}), user {}", process.pid, process.command, process.uid);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = effective_capabilities(&status);
    let own = process.uid == rustix::process::geteuid().as_raw();
    let may = has(capabilities, Capability::SysPtrace) || own;
    match may || has(capabilities, Capability::DacReadSearch) {
        true => Check::ok("process", found),
        false => Check::warn("process", format!("{found}: another user's"), SETCAP),
    }
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
    fn kernels_are_told_by_their_numbers() {
        let outcomes =
            ["6.18.5", "5.15.0-130-generic", "5.14.21", "4.18", "next"].map(|release| check_kernel(release).outcome);
        assert_eq!(outcomes, [Outcome::Ok, Outcome::Ok, Outcome::Fail, Outcome::Fail, Outcome::Warn]);
    }

    #[test]
    fn rights_are_read_from_the_mask() {
        let outcome = |status: &str| check_capabilities(effective_capabilities(status)).outcome;
        assert_eq!(outcome("Name:\tx\nCapEff:\t000001ffffffffff\n"), Outcome::Ok);
        assert_eq!(outcome("CapEff:\t000000c000080000\n"), Outcome::Ok);
        assert_eq!(outcome("CapEff:\t000000c000000000\n"), Outcome::Warn);
        assert_eq!(outcome("CapEff:\t0000004000080000\n"), Outcome::Fail);
        assert_eq!(outcome(""), Outcome::Fail);
    }

    #[test]
    fn only_the_first_name_spaces_will_do() {
        let outcomes = [(FIRST_USER_NAME_SPACE, FIRST_PID_NAME_SPACE), (FIRST_USER_NAME_SPACE, "pid:[1]"), ("", "")];
        let outcomes = outcomes.map(|(users, pids)| check_name_spaces(users, pids).outcome);
        assert_eq!(outcomes, [Outcome::Ok, Outcome::Fail, Outcome::Fail]);
    }

    #[test]
    fn a_line_says_what_to_do() {
        expect![[r#"
            fail rights       without CAP_BPF and CAP_PERFMON
                              → sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_sys_admin+ep $(command -v tt-buftrace)   # or run as root"#]]
        .assert_eq(&check_capabilities(0).to_string());
        expect!["ok   btf          /sys/kernel/btf/vmlinux"].assert_eq(&check_btf(true).to_string());
    }

    #[test]
    fn a_process_that_is_not_there_is_one_failed_check() {
        // Above the largest process id that Linux gives.
        let checks = target(1 << 23);
        assert_eq!(checks.iter().map(|check| check.outcome).collect::<Vec<_>>(), [Outcome::Fail]);
    }
}
