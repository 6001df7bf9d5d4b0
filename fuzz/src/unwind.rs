// SPDX-License-Identifier: Apache-2.0
//! `.eh_frame`: compiled to tables, and walked by; and tables that were kept in a file.

use buftrace::unwind::{Compiled, End, Key, Machine, Modules, Stack, Table, compile, walk};
use object::read::elf::ElfFile64;
use tracer_common::Registers;

use crate::image::{Image, Section};

/// Where the stack is.
const STACK: u64 = 0x7fff_0000;

/// A stack of 64 bytes that is also where the registers point to, and the section. Half the inputs have an index.
pub(crate) fn eh_frame(bytes: &[u8]) {
    let Some((stack, bytes)) = bytes.split_first_chunk::<64>() else { return };
    let cut = usize::from(stack[0]).min(bytes.len());
    let (index, section) = if stack[1] % 2 == 0 { bytes.split_at(0) } else { bytes.split_at(cut) };
    let mut sections = vec![Section { name: ".eh_frame", bytes: section }];
    if !index.is_empty() {
        sections.push(Section { name: ".eh_frame_hdr", bytes: index });
    }
    let image = Image::new(&sections).finish(&[]);
    let Ok(file) = ElfFile64::<object::LittleEndian>::parse(&image[..]) else { panic!("a sound image is refused") };
    if let Some(compiled) = compile(&file) {
        kept(&compiled);
        looked_up(&compiled, stack);
    }
    if let Some(table) = Table::of(&file) {
        walked(&table, stack);
    }
}

/// A file of tables, which gets the checksum that it should have.
pub(crate) fn tables(bytes: &[u8]) {
    let key = Key { build_id: "c0ffee".into(), size: 99 };
    let mut bytes = bytes.to_vec();
    if let Some((head, rest)) = bytes.split_at_mut_checked(16) {
        head[12..].copy_from_slice(&crc32fast::hash(rest).to_le_bytes());
    }
    if let Some(compiled) = Compiled::from_bytes(&bytes, &key) {
        looked_up(&compiled, &bytes);
        assert_eq!(compiled.to_bytes(&key), bytes);
    }
}

fn kept(compiled: &Compiled) {
    let key = Key { build_id: "c0ffee".into(), size: 99 };
    assert_eq!(Compiled::from_bytes(&compiled.to_bytes(&key), &key).as_ref(), Some(compiled));
}

fn looked_up(compiled: &Compiled, addresses: &[u8]) {
    for address in addresses.chunks(4).take(16) {
        let address = address.iter().fold(0, |address, byte| address << 8 | u64::from(*byte));
        let _ = compiled.rule(address);
    }
    for part in &compiled.parts {
        let _ = (compiled.rule(part.start.into()), compiled.rule(u64::from(part.end).wrapping_sub(1)));
    }
}

/// One module, everywhere.
struct One<'a>(&'a Table);

impl Modules for One<'_> {
    fn module(&self, _: u64) -> Result<(Option<&Table>, u64), End> {
        Ok((Some(self.0), 0))
    }
}

fn walked(table: &Table, stack: &[u8; 64]) {
    let word = |at: usize| u64::from_le_bytes(stack[at..at + 8].try_into().unwrap_or_default());
    let registers = Registers {
        rip: word(0) & 0xffff,
        rsp: STACK,
        rbp: STACK + 16,
        rbx: word(16),
        r12: word(24),
        ..Registers::default()
    };
    let found = walk(Machine::at(&registers), Stack { start: STACK, bytes: stack, full: false }, &One(table));
    assert!(found.frames.len() <= 4096, "{} frames", found.frames.len());
    for frame in &found.frames {
        if let Some((range, _)) = table.code(frame.address) {
            assert!(range.start <= frame.address, "an entry for what is before it");
        }
    }
}
