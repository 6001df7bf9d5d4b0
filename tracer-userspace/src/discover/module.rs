// SPDX-License-Identifier: Apache-2.0
//! A mapped file of the target: open, readable, and with its place in the target's memory.

use std::{fs::File, os::unix::fs::MetadataExt as _};

use anyhow::{Context as _, Result, ensure};
use memmap2::{Mmap, UncheckedAdvice};

use super::{
    elf::{Elf, Symbol},
    maps::Mapping,
    memory,
    process::MappedFile,
    truncated,
};

/// An ELF file that a process runs code from.
#[derive(Debug)]
pub struct Module {
    /// Its first executable mapping.
    pub mapping: Mapping,
    /// The open file; it stays readable after the process has ended.
    pub file: MappedFile,
    /// GNU build id in hex, empty if there is none.
    pub build_id: String,
    /// What to subtract from an address in the process to get the module's own.
    pub bias: u64,
    data: Mmap,
    /// Size and time of the last change when it was opened.
    version: Option<(u64, i64, i64)>,
}

fn version(file: &File) -> Option<(u64, i64, i64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

impl Module {
    /// Opens the file of an executable mapping, and checks that it is what the process has in memory.
    ///
    /// # Errors
    /// If it cannot be opened as the process has it, if it is no ELF file, or if it is another build.
    pub fn open(pid: u32, mapping: &Mapping) -> Result<Self> {
        let file = MappedFile::open(pid, mapping)?;
        let version = version(&file.file);
        truncated::guard()?;
        // SAFETY: the mapping is private and read-only. What is read from it is checked like any input; what is gone of the
        // file by then reads as zeros.
        let data =
            unsafe { Mmap::map(&file.file) }.with_context(|| format!("failed to map {}", mapping.path.display()))?;
        let mut module = Self { mapping: mapping.clone(), file, build_id: String::new(), bias: 0, data, version };
        let (bias, build_id) = module.identify(pid)?;
        module.bias = bias;
        module.build_id = build_id;
        Ok(module)
    }

    /// Whether nobody has written to the file since it was opened: another build may have been copied into its place.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        version(&self.file.file) == self.version
    }

    /// The parsed file.
    ///
    /// # Errors
    /// None that [`Self::open`] has not found before.
    pub fn elf(&self) -> Result<Elf<'_>> {
        Elf::parse(&self.data).with_context(|| format!("failed to read {}", self.mapping.path.display()))
    }

    /// The file's bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// How many bytes of call frame information it has.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.elf().ok().and_then(|elf| elf.section(b".eh_frame")).map_or(0, <[u8]>::len)
    }

    /// Gives the memory back that reading it took: what is read again is there again.
    pub fn rest(&self) {
        // SAFETY: nobody can write to the mapping, so it is the file's, and what is dropped of it is read from there anew.
        // If that fails, only memory is lost.
        let _ = unsafe { self.data.unchecked_advise(UncheckedAdvice::DontNeed) };
    }

    /// The address in the process of a symbol of this module.
    #[must_use]
    pub fn address(&self, symbol: Symbol) -> u64 {
        symbol.address.wrapping_add(self.bias)
    }

    /// The file's name without its folder.
    #[must_use]
    pub fn name(&self) -> String {
        self.mapping.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn identify(&self, pid: u32) -> Result<(u64, String)> {
        let elf = self.elf()?;
        let path = self.mapping.path.display();
        let bias = elf.bias(&self.mapping).with_context(|| format!("{path} has no segment for its mapping"))?;
        let Some(build_id) = elf.build_id() else {
            return Ok((bias, String::new()));
        };
        if let Some(address) = elf.address_of(build_id) {
            let mut loaded = vec![0; build_id.len()];
            // A note that the process has unmapped, or memory that is not ours to read, proves nothing.
            let readable = memory::read(pid, address.wrapping_add(bias), &mut loaded).is_ok();
            ensure!(!readable || loaded == build_id, "{path} is another build than the one that process {pid} runs");
        }
        Ok((bias, build_id.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}
