// SPDX-License-Identifier: Apache-2.0
//! What tracing needs of the kernel: its version, its type information, uprobes, and what the kernel side is made of.

use std::path::Path;

use anyhow::Result;

use super::Check;
use crate::capture::features;

/// The oldest kernel: attach cookies for uprobes came with it.
const OLDEST: (u32, u32) = (5, 15);
const NEWER: &str = "boot Linux 5.15 or later: Ubuntu 22.04, Debian 12, and what came after them, have it";

/// What is known of the running kernel, with this release string.
pub(super) fn checks(release: &str) -> Vec<Check> {
    vec![
        check_version(release),
        check_btf(Path::new("/sys/kernel/btf/vmlinux").exists()),
        check_uprobes(Path::new("/sys/bus/event_source/devices/uprobe/type").exists()),
        check_bpf(features::missing()),
    ]
}

fn check_version(release: &str) -> Check {
    let found = format!("Linux {release}");
    let (major, minor) = OLDEST;
    match version(release) {
        Some(version) if version >= OLDEST => Check::ok("kernel", found),
        Some(_) => Check::fail("kernel", format!("{found}: older than {major}.{minor}, the oldest supported"), NEWER),
        None => Check::warn("kernel", format!("{found}: a version that can't be told"), NEWER),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn check_btf(there: bool) -> Check {
    match there {
        true => Check::ok("btf", "/sys/kernel/btf/vmlinux"),
        false => Check::fail("btf", "no /sys/kernel/btf/vmlinux", "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"),
    }
}

fn check_uprobes(there: bool) -> Check {
    match there {
        true => Check::ok("uprobes", "perf has them"),
        false => Check::fail(
            "uprobes",
            "perf has none: no /sys/bus/event_source/devices/uprobe",
            "mount /sys, or use a kernel built with CONFIG_UPROBE_EVENTS=y",
        ),
    }
}

fn check_bpf(missing: Result<Vec<&str>>) -> Check {
    match missing {
        Ok(missing) if missing.is_empty() => Check::ok("bpf", "ring buffers, attach cookies, and the rest of it"),
        Ok(missing) => Check::fail(
            "bpf",
            format!("the kernel has no {}", missing.join(", no ")),
            "use a distribution's own kernel, or one built with CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y",
        ),
        Err(error) => Check::warn("bpf", format!("{error:#}"), "try again with the rights that it takes"),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use expect_test::expect;

    use super::{super::Outcome, *};

    #[test]
    fn kernels_are_told_by_their_numbers() {
        let outcome = |release| check_version(release).outcome;
        for new in ["6.18.5", "6.1.0-56-amd64", "5.15.0-203-generic", "5.15", "10.0-rc1"] {
            assert_eq!(outcome(new), Outcome::Ok, "{new}");
        }
        for old in ["5.14.21", "5.10.0-33-amd64", "5.4.0-1029-aws", "4.18.0-553.el8_10.x86_64", "4.20"] {
            assert_eq!(outcome(old), Outcome::Fail, "{old}");
        }
        for odd in ["next", "", "6", "5.x", "99999999999.1"] {
            assert_eq!(outcome(odd), Outcome::Warn, "{odd}");
        }
    }

    #[test]
    fn what_is_missing_is_said_with_the_next_step() {
        let checks = [
            check_version("5.10.0-33-amd64"),
            check_version("next"),
            check_btf(false),
            check_uprobes(false),
            check_bpf(Ok(vec!["ring buffers", "attach cookies"])),
            check_bpf(Err(anyhow!("failed to try out ring buffers"))),
        ];
        expect![[r#"
            fail kernel       Linux 5.10.0-33-amd64: older than 5.15, the oldest supported
                              → boot Linux 5.15 or later: Ubuntu 22.04, Debian 12, and what came after them, have it
            warn kernel       Linux next: a version that can't be told
                              → boot Linux 5.15 or later: Ubuntu 22.04, Debian 12, and what came after them, have it
            fail btf          no /sys/kernel/btf/vmlinux
                              → use a kernel built with CONFIG_DEBUG_INFO_BTF=y
            fail uprobes      perf has none: no /sys/bus/event_source/devices/uprobe
                              → mount /sys, or use a kernel built with CONFIG_UPROBE_EVENTS=y
            fail bpf          the kernel has no ring buffers, no attach cookies
                              → use a distribution's own kernel, or one built with CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y
            warn bpf          failed to try out ring buffers
                              → try again with the rights that it takes"#]].assert_eq(&checks.map(|check| check.to_string()).join("\n"));
    }

    #[test]
    fn what_is_there_is_said() {
        let checks = [check_version("6.1.0-56-amd64"), check_btf(true), check_uprobes(true), check_bpf(Ok(vec![]))];
        expect![[r#"
            ok   kernel       Linux 6.1.0-56-amd64
            ok   btf          /sys/kernel/btf/vmlinux
            ok   uprobes      perf has them
            ok   bpf          ring buffers, attach cookies, and the rest of it"#]]
        .assert_eq(&checks.map(|check| check.to_string()).join("\n"));
    }
}
