// SPDX-License-Identifier: Apache-2.0
//! The smallest ELF files that have what is looked for: sections and symbols, of any content.

/// A section to be.
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) bytes: &'a [u8],
}

/// A symbol to be: a global function of a size at an address.
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: u64,
    pub(crate) size: u64,
}

const FILE_HEAD: usize = 64;
const PROGRAM_HEAD: usize = 56;
const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
/// A global function.
const GLOBAL_FUNCTION: u8 = 1 << 4 | 2;

/// A shared library whose bytes are all loaded, as code, at the addresses that are their offsets in the file.
pub(crate) struct Image {
    bytes: Vec<u8>,
    /// Name, type, offset, size, linked section and size of an entry of each section.
    heads: Vec<(u32, u32, usize, usize, u32, u64)>,
    names: Vec<u8>,
}

impl Image {
    /// Lays out the sections; the first begins at [`Image::START`].
    pub(crate) fn new(sections: &[Section]) -> Self {
        let mut image = Self { bytes: vec![0; Self::START], heads: vec![(0, 0, 0, 0, 0, 0)], names: vec![0] };
        for section in sections {
            image.section(section.name, PROGBITS, section.bytes, 0, 0);
        }
        image
    }

    /// Where the first section is.
    pub(crate) const START: usize = FILE_HEAD + PROGRAM_HEAD;

    /// The file, with symbols.
    pub(crate) fn finish(mut self, symbols: &[Symbol]) -> Vec<u8> {
        let mut strings = vec![0];
        let mut table = vec![0; 24];
        for symbol in symbols {
            table.extend((strings.len() as u32).to_le_bytes());
            // Neither hidden nor undefined.
            table.extend([GLOBAL_FUNCTION, 0, 1, 0]);
            table.extend(symbol.address.to_le_bytes());
            table.extend(symbol.size.to_le_bytes());
            strings.extend(symbol.name.as_bytes());
            strings.push(0);
        }
        let strtab = self.heads.len() as u32 + 1;
        self.section(".symtab", SYMTAB, &table, strtab, 24);
        self.section(".strtab", STRTAB, &strings, 0, 0);
        self.heads()
    }

    fn section(&mut self, name: &str, kind: u32, bytes: &[u8], link: u32, entry: u64) {
        self.heads.push((self.names.len() as u32, kind, self.bytes.len(), bytes.len(), link, entry));
        self.names.extend(name.as_bytes());
        self.names.push(0);
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// Appends the section heads, and fills in the file's and the program's.
    fn heads(mut self) -> Vec<u8> {
        let names = std::mem::take(&mut self.names);
        let name = names.len() as u32;
        self.heads.push((name, STRTAB, self.bytes.len(), names.len() + 10, 0, 0));
        self.bytes.extend(names);
        self.bytes.extend(b".shstrtab\0");
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len() as u64;
        for &(name, kind, offset, size, link, entry) in &self.heads {
            for word in [name, kind] {
                self.bytes.extend(word.to_le_bytes());
            }
            for word in [2, offset as u64, offset as u64, size as u64, u64::from(link), 8, entry] {
                self.bytes.extend(word.to_le_bytes());
            }
        }
        // ELF, 64 bits, little endian, version 1; a shared library for x86-64.
        let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 62, 0, 1, 0, 0, 0];
        for word in [0, FILE_HEAD as u64, at] {
            head.extend(word.to_le_bytes());
        }
        let count = self.heads.len() as u16;
        head.extend([0; 4]);
        for half in [FILE_HEAD as u16, PROGRAM_HEAD as u16, 1, 64, count, count - 1] {
            head.extend(half.to_le_bytes());
        }
        // Loaded, readable and executable, from the first byte on.
        head.extend([1, 0, 0, 0, 5, 0, 0, 0]);
        let size = self.bytes.len() as u64;
        for word in [0, 0, 0, size, size, 4096] {
            head.extend(word.to_le_bytes());
        }
        self.bytes[..head.len()].copy_from_slice(&head);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use buftrace::discover::elf::Elf;

    use super::*;

    #[test]
    fn an_image_is_a_library_with_what_was_put_in() {
        let sections = [Section { name: ".text", bytes: &[0xc3; 5] }, Section { name: ".eh_frame", bytes: b"abc" }];
        let symbol = Symbol { name: "f", address: Image::START as u64, size: 5 };
        let bytes = Image::new(&sections).finish(&[symbol]);
        let elf = Elf::parse(&bytes).expect("an ELF file");
        let function = elf.symbol("f").expect("defined");
        assert_eq!(elf.code(function), Some(&[0xc3; 5][..]));
        assert_eq!(elf.section(b".eh_frame"), Some(&b"abc"[..]));
    }
}
