// SPDX-License-Identifier: Apache-2.0
//! What this process may do: what tracing needs of it, whose files it writes, and giving up the rest.

use std::{
    env,
    ffi::{CStr, CString, OsStr},
    fs,
    io::{self, ErrorKind},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::PathBuf,
    ptr,
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    process::{Gid, Uid, geteuid, getgroups},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
        set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

/// What a recording makes use of until its end, because modules and children may come at any time: BPF and PERFMON for
/// maps and probes, `SYS_PTRACE` for another user's process, `DAC_READ_SEARCH` for its files, and `CHECKPOINT_RESTORE`
/// for those that are deleted or replaced.
const RECORDING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::CHECKPOINT_RESTORE);

/// What is done with the privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Processes are traced.
    Recording,
    /// Traces are read, perhaps another user's.
    Reading,
}

/// What this process may do at this moment; nothing if that can't be told.
#[must_use]
pub fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// Whether this kernel asks for `CAP_SYS_ADMIN` at each uprobe; `None` if that can't be told, for want of `CAP_PERFMON`.
///
/// It is what CVE-2025-38466 was fixed by: in Linux 6.16, and in 6.15.7, 6.12.39, 6.6.99, 6.1.146 and 5.15.189. As
/// distributions have the fix under other versions, the kernel is asked: it looks at the rights before it looks at the file,
/// and this one is not there.
#[must_use]
pub fn uprobes_ask_for_admin() -> Option<bool> {
    let held = effective();
    if !held.contains(CapabilitySet::PERFMON) {
        return None;
    }
    if !held.contains(CapabilitySet::SYS_ADMIN) {
        return open_no_uprobe();
    }
    // With the right in hand it would not be asked for.
    let sets = capabilities(None).ok()?;
    set_capabilities(None, CapabilitySets { effective: held - CapabilitySet::SYS_ADMIN, ..sets }).ok()?;
    let asks = open_no_uprobe();
    // What was given up as effective is still permitted, so that this can't fail.
    set_capabilities(None, sets).ok()?;
    asks
}

/// Asks for a uprobe in a file that is not there. `perf_event_open`'s attributes, in their first published size and one
/// word more: type and size, five words that are zero here, flags and wakeup, path, offset.
fn open_no_uprobe() -> Option<bool> {
    const WORDS: usize = 9;
    let kind: u32 = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type").ok()?.trim().parse().ok()?;
    let mut attributes = [0_u64; WORDS];
    let path = c"/proc/self/fd/-1";
    attributes[0] = u64::from(kind) | (size_of_val(&attributes) as u64) << 32;
    attributes[7] = path.as_ptr() as u64;
    // SAFETY: the attributes have the size that they say, and the path outlives the call.
    let opened = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) };
    match (opened, io::Error::last_os_error().kind()) {
        (-1, ErrorKind::PermissionDenied) => Some(true),
        (-1, ErrorKind::NotFound) => Some(false),
        _ => None,
    }
}

/// Gives up all that the purpose does not need, for good. Under sudo this process becomes its caller: files that it makes
/// are theirs, and are made only where they may make some.
///
/// # Errors
/// If there are other threads, which would keep what is given up here, or if the kernel refuses.
pub fn reduce(purpose: Purpose) -> Result<()> {
    let caller = caller_of_sudo();
    if purpose == Purpose::Reading && caller.is_none() {
        return Ok(());
    }
    let threads = fs::read_dir("/proc/self/task").context("failed to count the threads")?.count();
    ensure!(threads == 1, "privileges can't be given up: there are {threads} threads already");
    let mut kept = match purpose {
        Purpose::Recording if uprobes_ask_for_admin() == Some(false) => RECORDING,
        Purpose::Recording => RECORDING | CapabilitySet::SYS_ADMIN,
        Purpose::Reading => CapabilitySet::DAC_READ_SEARCH,
    };
    match caller {
        Some((user, group)) => become_user(user, group)?,
        // root in its own right writes the trace where root may.
        None if geteuid().is_root() => kept |= CapabilitySet::DAC_OVERRIDE,
        None => {}
    }
    let kept = kept & capabilities(None).context("failed to read the capabilities")?.permitted;
    clear_ambient_capability_set().context("failed to give up ambient capabilities")?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("failed to give up capabilities")?;
    set_no_new_privs(true).context("failed to give up gaining privileges")
}

/// Does something as sudo's caller, if there is one, and may do everything again then.
///
/// # Errors
/// If it fails, or if the kernel refuses.
pub fn as_caller<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some((user, group)) = caller_of_sudo() else { return act() };
    let groups = getgroups().context("failed to read root's groups")?;
    take_groups(group)?;
    // Root's real and saved ids stay, so that there is a way back.
    set_thread_res_gid(Gid::ROOT, group, Gid::ROOT)
        .and_then(|()| set_thread_res_uid(Uid::ROOT, user, Uid::ROOT))
        .with_context(|| format!("failed to act as user {user}, who called sudo"))?;
    let result = act();
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        .and_then(|()| set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT))
        .and_then(|()| set_thread_groups(&groups))
        .context("failed to become root again")?;
    result
}

/// Who gave this command: sudo's caller, else the user that this process is.
#[must_use]
pub fn caller() -> Uid {
    caller_of_sudo().map_or_else(geteuid, |(user, _)| user)
}

/// The caller's folder. `HOME` may still be another one's: `su` and `sudo` may leave it as it was.
#[must_use]
pub fn home() -> Option<PathBuf> {
    let user = caller();
    let is_ours = |home: &PathBuf| fs::metadata(home).is_ok_and(|folder| folder.uid() == user.as_raw());
    env::var_os("HOME").map(PathBuf::from).filter(is_ours).or_else(|| home_of(user))
}

/// sudo's caller, if this is sudo's doing and they are not root.
fn caller_of_sudo() -> Option<(Uid, Gid)> {
    let id = |name| env::var(name).ok()?.parse().ok().filter(|&id: &u32| id != u32::MAX);
    let caller = (Uid::from_raw(id("SUDO_UID")?), Gid::from_raw(id("SUDO_GID")?));
    (geteuid().is_root() && !caller.0.is_root()).then_some(caller)
}

/// Permitted capabilities stay.
fn become_user(user: Uid, group: Gid) -> Result<()> {
    set_keep_capabilities(true).context("failed to keep capabilities")?;
    take_groups(group)?;
    set_thread_res_gid(group, group, group)
        .and_then(|()| set_thread_res_uid(user, user, user))
        .with_context(|| format!("failed to become user {user}, who called sudo"))
}

/// Has the groups of sudo's caller, or that one alone.
fn take_groups(group: Gid) -> Result<()> {
    let name = env::var_os("SUDO_USER").and_then(|name| CString::new(name.as_bytes()).ok());
    // SAFETY: the name is a C string that outlives the call.
    let has_groups = name.is_some_and(|name| unsafe { libc::initgroups(name.as_ptr(), group.as_raw()) } == 0);
    if !has_groups {
        set_thread_groups(&[group]).context("failed to give up root's groups")?;
    }
    Ok(())
}

fn home_of(user: Uid) -> Option<PathBuf> {
    const LONGEST: usize = 16 << 10;
    let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
    let mut text = vec![0; LONGEST];
    let mut found = ptr::null_mut();
    // SAFETY: all pointers are to memory of ours, of the size that is said.
    unsafe { libc::getpwuid_r(user.as_raw(), entry.as_mut_ptr(), text.as_mut_ptr(), text.len(), &raw mut found) };
    if found.is_null() {
        return None;
    }
    // SAFETY: it was found, so the entry is filled, and its strings are in `text`.
    let folder = unsafe { CStr::from_ptr(entry.assume_init().pw_dir) };
    Some(PathBuf::from(OsStr::from_bytes(folder.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_keep_what_they_have_so_there_must_be_none() {
        // The test runner's own.
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        let error = reduce(Purpose::Recording).expect_err("there is another thread");
        assert!(error.to_string().contains("threads already"), "{error}");
        drop(stop);
        let _ = other.join();
    }

    #[test]
    fn a_home_is_what_the_user_data_base_says() {
        let passwd = fs::read_to_string("/etc/passwd").expect("users");
        let root = passwd.lines().find_map(|line| line.strip_prefix("root:")).expect("root");
        assert_eq!(home_of(Uid::ROOT), root.split(':').nth(4).map(PathBuf::from));
        assert_eq!(home_of(Uid::from_raw(u32::MAX - 1)), None);
    }
}
