// SPDX-License-Identifier: Apache-2.0
//! An ELF file as what its code is read against: pointers that the loader fills in, and names for what is called.

use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind};

use super::{fact::Target, machine::Image};
use crate::discover::elf::{Elf, Relocation};

/// Most bytes of one entry of a procedure linkage table.
const PLT_ENTRY: u64 = 16;

impl Image for Elf<'_> {
    fn pointer(&self, address: u64) -> Option<u64> {
        self.relocation(address)?;
        Elf::pointer(self, address)
    }

    fn target(&self, address: u64) -> Target {
        let names = self.names(address);
        if !names.is_empty() {
            return Target::Function(names.iter().map(ToString::to_string).collect());
        }
        plt_pointer(self, address).map_or(Target::Unknown, |pointer| self.target_of_pointer(pointer))
    }

    fn target_of_pointer(&self, address: u64) -> Target {
        match self.relocation(address) {
            Some(Relocation::Symbol(name)) => Target::Function(vec![name.into()]),
            Some(Relocation::Address(target)) => match self.names(target) {
                [] => Target::Unknown,
                names => Target::Function(names.iter().map(ToString::to_string).collect()),
            },
            None => Target::Unknown,
        }
    }
}

/// The pointer that an entry of the procedure linkage table jumps through, if this is one:
/// `[endbr64] [mov r11d, number] [bnd] jmp [rip + pointer]`.
fn plt_pointer(elf: &Elf, address: u64) -> Option<u64> {
    let code = elf.bytes(address, PLT_ENTRY)?;
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE).iter().take(3) {
        match instruction.mnemonic() {
            Mnemonic::Endbr64 | Mnemonic::Mov if instruction.op0_kind() == OpKind::Register => {}
            Mnemonic::Jmp if instruction.is_ip_rel_memory_operand() => {
                return Some(instruction.ip_rel_memory_address());
            }
            _ => return None,
        }
    }
    None
}
