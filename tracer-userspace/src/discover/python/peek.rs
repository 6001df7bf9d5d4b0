// SPDX-License-Identifier: Apache-2.0
//! Small reads of the interpreter's memory, each refused with the address.

use crate::discover::memory;

/// Longest C string that is read.
const LONGEST_NAME: usize = 64;

/// A process to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peek {
    pub(super) pid: u32,
}

impl Peek {
    /// Fills `bytes` from an address on.
    pub(super) fn fill(self, address: u64, bytes: &mut [u8]) -> Result<(), String> {
        memory::read(self.pid, address, bytes)
            .map_err(|error| format!("failed to read memory at {address:#x}: {error}"))
    }

    pub(super) fn word(self, address: u64) -> Result<u64, String> {
        let mut bytes = [0; 8];
        self.fill(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn half(self, address: u64) -> Result<u32, String> {
        let mut bytes = [0; 4];
        self.fill(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(super) fn byte(self, address: u64) -> Result<u8, String> {
        let mut bytes = [0; 1];
        self.fill(address, &mut bytes)?;
        Ok(bytes[0])
    }

    /// A C string, cut at [`LONGEST_NAME`].
    pub(super) fn name(self, address: u64) -> Result<String, String> {
        let mut bytes = [0; LONGEST_NAME];
        let read = memory::read_some(self.pid, address, &mut bytes);
        let read = read.map_err(|error| format!("failed to read a name at {address:#x}: {error}"))?;
        let name = bytes[..read].split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }
}
