// SPDX-License-Identifier: Apache-2.0
//! What tracing needs of an ELF file: segments, build id, symbols by exact name, relocations, code bytes.
//!
//! Addresses here are the file's own ("svma"): as in its symbol table, before the loader adds the bias.
//! Nothing in a file is believed: each answer is `None` where the file has none, or has it damaged.

use std::{cell::OnceCell, collections::HashMap};

use anyhow::{Context as _, Result};
use object::{
    LittleEndian, Object as _,
    elf::{self, FileHeader64},
    read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _, Rela as _, SectionHeader as _, Sym as _},
};

use super::maps::Mapping;

const LE: LittleEndian = LittleEndian;

/// Bytes of names, and of relocations, that are read for each byte of the file. Names may share their ends, and so be read
/// more than once, but not by much.
const MOST_READ: usize = 8;
/// Most names that are kept of one address.
const MOST_NAMES: usize = 64;
/// Most bytes of code that one function is believed to have.
const MOST_CODE: u64 = 1 << 20;

/// A parsed 64-bit little-endian x86-64 ELF file. Its tables are read when first asked for.
#[derive(Debug)]
pub struct Elf<'d> {
    data: &'d [u8],
    file: ElfFile64<'d, LittleEndian>,
    segments: Vec<Segment>,
    symbols: OnceCell<Symbols<'d>>,
    relocations: OnceCell<HashMap<u64, Relocation<'d>>>,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address of the first byte.
    pub address: u64,
    /// Where in the file it is.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Whether it is code.
    pub executable: bool,
}

/// A defined symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its address.
    pub address: u64,
    /// Bytes, 0 if the file does not say.
    pub size: u64,
    /// Whether the address is of a resolver that picks the function at load time (`STT_GNU_IFUNC`).
    pub indirect: bool,
}

/// What the loader writes into a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relocation<'d> {
    /// An address in this file.
    Address(u64),
    /// The address of a symbol, which may be another file's.
    Symbol(&'d str),
}

#[derive(Debug, Default)]
struct Symbols<'d> {
    by_name: HashMap<&'d str, Symbol>,
    by_address: HashMap<u64, Vec<&'d str>>,
}

impl<'d> Elf<'d> {
    /// Parses the headers.
    ///
    /// # Errors
    /// If this is no ELF file, or none for x86-64.
    pub fn parse(data: &'d [u8]) -> Result<Self> {
        let file = ElfFile64::<LittleEndian>::parse(data).context("failed to parse the ELF headers")?;
        let header: &FileHeader64<LittleEndian> = file.elf_header();
        anyhow::ensure!(header.e_machine(LE) == elf::EM_X86_64, "not an x86-64 file");
        let segments = file.elf_program_headers().iter().filter(|header| header.p_type(LE) == elf::PT_LOAD);
        let segments = segments
            .map(|header| Segment {
                address: header.p_vaddr(LE),
                offset: header.p_offset(LE),
                size: header.p_filesz(LE),
                executable: header.p_flags(LE) & elf::PF_X == elf::PF_X,
            })
            .collect();
        Ok(Self { data, file, segments, symbols: OnceCell::new(), relocations: OnceCell::new() })
    }

    /// The parsed file, for readers of further sections.
    #[must_use]
    pub fn object(&self) -> &ElfFile64<'d, LittleEndian> {
        &self.file
    }

    /// The loaded parts, in the order of the program headers.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The GNU build id.
    #[must_use]
    pub fn build_id(&self) -> Option<&'d [u8]> {
        self.file.build_id().ok().flatten()
    }

    /// A section's bytes, `None` if it has none or is not there.
    #[must_use]
    pub fn section(&self, name: &[u8]) -> Option<&'d [u8]> {
        let (_, section) = self.file.elf_section_table().section_by_name(LE, name)?;
        section.data(LE, self.data).ok().filter(|data| !data.is_empty())
    }

    /// Whether the symbol tables' strings hold this name: a quick "no" before the tables are read.
    #[must_use]
    pub fn mentions(&self, name: &str) -> bool {
        [&b".dynstr"[..], b".strtab"]
            .into_iter()
            .filter_map(|section| self.section(section))
            .any(|strings| memchr::memmem::find_iter(strings, name).any(|at| strings.get(at + name.len()) == Some(&0)))
    }

    /// The symbol that is defined here under exactly this name; an exported one before a local one.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols().by_name.get(name).copied()
    }

    /// The defined symbols whose names begin so, in the order of their names.
    #[must_use]
    pub fn symbols_beginning(&self, prefix: &str) -> Vec<&'d str> {
        let mut names: Vec<_> =
            self.symbols().by_name.keys().copied().filter(|name| name.starts_with(prefix)).collect();
        names.sort_unstable();
        names
    }

    /// Every name of a function or object at this very address.
    #[must_use]
    pub fn names(&self, address: u64) -> &[&'d str] {
        self.symbols().by_address.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Where in the file the byte of this address is.
    #[must_use]
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let inside = |segment: &&Segment| address.checked_sub(segment.address).is_some_and(|at| at < segment.size);
        let segment = self.segments.iter().find(inside)?;
        segment.offset.checked_add(address - segment.address)
    }

    /// The address of a part of the file's bytes, if it is loaded.
    #[must_use]
    pub fn address_of(&self, part: &[u8]) -> Option<u64> {
        let offset = (part.as_ptr() as u64).checked_sub(self.data.as_ptr() as u64)?;
        let inside = |segment: &&Segment| offset.checked_sub(segment.offset).is_some_and(|at| at < segment.size);
        let segment = self.segments.iter().find(inside)?;
        segment.address.checked_add(offset - segment.offset)
    }

    /// `length` bytes of the file at an address.
    #[must_use]
    pub fn bytes(&self, address: u64, length: u64) -> Option<&'d [u8]> {
        let start = usize::try_from(self.file_offset(address)?).ok()?;
        self.data.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }

    /// The little-endian word at an address, as the file has it.
    #[must_use]
    pub fn word(&self, address: u64) -> Option<u64> {
        self.bytes(address, 8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// The code of a symbol; `None` also for one without a size.
    #[must_use]
    pub fn code(&self, symbol: Symbol) -> Option<&'d [u8]> {
        if symbol.size == 0 || symbol.size > MOST_CODE || symbol.indirect {
            return None;
        }
        self.bytes(symbol.address, symbol.size)
    }

    /// What the loader writes at an address, `None` if it leaves it alone.
    #[must_use]
    pub fn relocation(&self, address: u64) -> Option<Relocation<'d>> {
        self.relocations.get_or_init(|| self.read_relocations()).get(&address).copied()
    }

    /// The address in this file that the word at `address` holds once loaded.
    #[must_use]
    pub fn pointer(&self, address: u64) -> Option<u64> {
        match self.relocation(address) {
            Some(Relocation::Address(target)) => Some(target),
            Some(Relocation::Symbol(name)) => self.symbol(name).map(|symbol| symbol.address),
            // Packed relative relocations (RELR) keep the address in place.
            None => self.word(address).filter(|word| *word != 0),
        }
    }

    /// What to subtract from an address in a mapping to get this file's own, or `None` if the mapping is not of this file.
    #[must_use]
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        const PAGE: u64 = 4096;
        let fits = |segment: &&Segment| {
            segment.executable == mapping.executable
                && segment.offset / PAGE * PAGE <= mapping.offset
                && mapping.offset < segment.offset.saturating_add(segment.size)
        };
        let segment = self.segments.iter().find(fits)?;
        let first = segment.address.wrapping_sub(segment.offset).wrapping_add(mapping.offset);
        Some(mapping.start.wrapping_sub(first))
    }

    fn symbols(&self) -> &Symbols<'d> {
        self.symbols.get_or_init(|| {
            let mut symbols = Symbols::default();
            let mut budget = self.data.len().saturating_mul(MOST_READ);
            for table in [self.file.elf_dynamic_symbol_table(), self.file.elf_symbol_table()] {
                for symbol in table.iter().filter(|symbol| symbol.is_definition(LE, table.strings())) {
                    let Ok(name) = symbol.name(LE, table.strings()) else { continue };
                    let Some(rest) = budget.checked_sub(name.len()) else { return symbols };
                    budget = rest;
                    str::from_utf8(name).into_iter().for_each(|name| symbols.insert(name, symbol));
                }
            }
            symbols
        })
    }

    fn read_relocations(&self) -> HashMap<u64, Relocation<'d>> {
        let mut found = HashMap::new();
        let sections = self.file.elf_section_table();
        let dynamic = self.file.elf_dynamic_symbol_table();
        let mut budget = self.data.len().saturating_mul(MOST_READ);
        for section in sections.iter() {
            let Ok(Some((entries, _))) = section.rela(LE, self.data) else {
                continue;
            };
            // Sections may overlap, and names be as long as the file.
            let Some(rest) = budget.checked_sub(size_of_val(entries)) else { return found };
            budget = rest;
            for entry in entries {
                let addend = entry.r_addend(LE);
                let relocation = match entry.r_type(LE, false) {
                    elf::R_X86_64_RELATIVE => Some(Relocation::Address(addend.cast_unsigned())),
                    elf::R_X86_64_64 | elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT if addend == 0 => entry
                        .symbol(LE, false)
                        .and_then(|index| dynamic.symbol(index).ok())
                        .and_then(|symbol| symbol.name(LE, dynamic.strings()).ok())
                        .and_then(|name| str::from_utf8(name).ok())
                        .map(Relocation::Symbol),
                    _ => None,
                };
                if let Some(Relocation::Symbol(name)) = relocation {
                    let Some(rest) = budget.checked_sub(name.len()) else { return found };
                    budget = rest;
                }
                found.extend(relocation.map(|relocation| (entry.r_offset(LE), relocation)));
            }
        }
        found
    }
}

impl<'d> Symbols<'d> {
    fn insert(&mut self, name: &'d str, symbol: &elf::Sym64<LittleEndian>) {
        let kind = symbol.st_type();
        let indirect = kind == elf::STT_GNU_IFUNC;
        // mold's local names for PLT entries and the GOT (`name$plt`, `name$got`) are not the thing itself.
        let wanted = indirect || matches!(kind, elf::STT_FUNC | elf::STT_OBJECT | elf::STT_NOTYPE);
        if !wanted || name.is_empty() || name.contains('$') || name.contains(".cold") {
            return;
        }
        let symbol = Symbol { address: symbol.st_value(LE), size: symbol.st_size(LE), indirect };
        self.by_name.entry(name).or_insert(symbol);
        let names = self.by_address.entry(symbol.address).or_default();
        if names.len() < MOST_NAMES && !names.contains(&name) {
            names.push(name);
        }
    }
}
