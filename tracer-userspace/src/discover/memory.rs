// SPDX-License-Identifier: Apache-2.0
//! Reads the memory of a running process, without stopping it.

use std::io;

/// Fills `buffer` with the target's memory at `address`.
///
/// # Errors
/// If the process is gone or not ours to read, or if any of the range is not mapped.
pub fn read(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<()> {
    let count = read_some(pid, address, buffer)?;
    if count < buffer.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// As [`read`], but what comes before an unmapped page is enough; returns how many bytes that is.
///
/// # Errors
/// If the process is gone or not ours to read, or if nothing is mapped at `address`.
pub fn read_some(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let pid = libc::pid_t::try_from(pid).map_err(invalid)?;
    let base = usize::try_from(address).map_err(invalid)? as *mut libc::c_void;
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: base, iov_len: buffer.len() };
    // SAFETY: `local` describes `buffer`, which is ours alone for the call; `remote` is checked by the kernel.
    let count = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// A 64-bit word of the target's memory.
///
/// # Errors
/// As [`read`].
pub fn read_u64(pid: u32, address: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    read(pid, address, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_reads_as_it_is_and_the_null_page_does_not() {
        let word = 0x0123_4567_89ab_cdef_u64;
        let pid = std::process::id();
        assert_eq!(read_u64(pid, &raw const word as u64).expect("own memory"), word);
        assert!(read_u64(pid, 8).is_err());
    }
}
