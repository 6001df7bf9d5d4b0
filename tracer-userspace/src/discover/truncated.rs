// SPDX-License-Identifier: Apache-2.0
//! Files that become shorter while they are mapped here: whoever installs a library in place makes it empty first, and to read
//! a page that is gone is `SIGBUS`, which would end a recording. It reads as zeros instead, which are found to be no ELF.

use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use libc::{MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_PRIVATE, PROT_READ, SIG_DFL, SIGBUS, siginfo_t};
use signal_hook_registry::register_sigaction;
use tracer_common::PAGE;

/// `BUS_ADRERR` of the kernel's `asm-generic/siginfo.h`: behind the end of a file. All other reasons are the hardware's.
const BUS_ADRERR: i32 = 2;

static GUARD: LazyLock<Result<(), String>> = LazyLock::new(|| {
    // SAFETY: what the handler calls, `mmap` and `signal`, is a system call each, and it takes no lock and no memory.
    let registered = unsafe { register_sigaction(SIGBUS, put_zeros) };
    registered.map(drop).map_err(|error| error.to_string())
});

/// From now on, what a mapped file has lost reads as zeros, in all threads.
///
/// # Errors
/// If the signal can't be handled.
pub(super) fn guard() -> Result<()> {
    GUARD.as_ref().copied().map_err(anyhow::Error::msg).context("failed to prepare for files that become shorter")
}

fn put_zeros(info: &siginfo_t) {
    // SAFETY: of this signal, the field is the address that was read.
    let address = unsafe { info.si_addr() }.addr() & !(PAGE - 1);
    let (flags, there) = (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, std::ptr::without_provenance_mut(address));
    // SAFETY: the page is one of a mapping that can only be read, of a file that does not have it, so that nothing in it
    // is of use to anybody.
    let failed =
        info.si_code != BUS_ADRERR || unsafe { libc::mmap(there, PAGE, PROT_READ, flags, -1, 0) } == MAP_FAILED;
    if failed {
        // SAFETY: it has no argument that could be wrong. The instruction is tried again, and ends the process.
        unsafe { libc::signal(SIGBUS, SIG_DFL) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use memmap2::Mmap;

    use super::*;

    #[test]
    fn what_a_mapped_file_has_lost_reads_as_zeros() {
        guard().expect("prepared");
        let mut file = tempfile::tempfile().expect("made");
        file.write_all(&[7; 3 * 4096]).expect("written");
        // SAFETY: that it changes is what this is about.
        let data = unsafe { Mmap::map(&file) }.expect("mapped");
        file.set_len(5000).expect("cut");
        assert_eq!([0, 4096, 4999, 5000, 8191, 8192, 12287].map(|at| data[at]), [7, 7, 7, 0, 0, 0, 0]);
    }
}
