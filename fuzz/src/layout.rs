// SPDX-License-Identifier: Apache-2.0
//! The target's libraries and memory map: ELF files, machine code, `/proc/PID/maps`.

use buftrace::{
    discover::{
        elf::Elf,
        layout::derive,
        maps,
        symbols::{Home, ProbeSet, sites},
    },
    unwind::{Table, compile},
};

use crate::image::{Image, Section, Symbol};

/// The functions whose code shows fields, of both generations: what `derive` looks for.
const FUNCTIONS: &[&str] = &[
    "_ZNK2tt8tt_metal6Buffer7addressEv",
    "_ZNK2tt8tt_metal6Buffer9allocatorEv",
    "_ZNK2tt8tt_metal6Buffer11buffer_typeEv",
    "_ZNK2tt8tt_metal6Buffer6deviceEv",
    "_ZNK2tt8tt_metal6Buffer12is_allocatedEv",
    "_ZNK2tt8tt_metal6Buffer9num_pagesEv",
    "_ZNK2tt8tt_metal6Buffer4sizeEv",
    "_ZNK2tt8tt_metal6Buffer9unique_idEv",
    "_ZNK2tt8tt_metal6Buffer4implEv",
    "_ZN2tt8tt_metal6BufferD1Ev",
    "_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv",
    "_ZNK2tt8tt_metal6Device2idEv",
    "_ZNK2tt8tt_metal11distributed10MeshDevice2idEv",
    "_ZNK2tt8tt_metal11distributed14MeshDeviceImpl2idEv",
];
/// What only one of them has: the one with the fields in `Buffer`, and the one with a `BufferImpl`.
const GENERATIONS: [&[&str]; 2] = [
    &[
        "_ZN2tt8tt_metal6Buffer13allocate_implEv",
        "_ZN2tt8tt_metal6Buffer15deallocate_implEv",
        "_ZN2tt8tt_metal6Buffer10deallocateEv",
        "_ZN2tt8tt_metal6BufferC1EPNS0_7IDeviceEmmNS0_10BufferTypeERKNS0_18BufferShardingArgsESt8optionalIbES8_IN4ttsl10StrongTypeIhNS0_14SubDeviceIdTagEEEEb",
    ],
    &[
        "_ZN2tt8tt_metal10BufferImpl13allocate_implERNS0_6BufferE",
        "_ZN2tt8tt_metal10BufferImpl15deallocate_implERNS0_6BufferE",
        "_ZN2tt8tt_metal10BufferImplC1EPNS0_7IDeviceEmmNS0_10BufferTypeERKNS0_18BufferShardingArgsESt8optionalIbES8_IN4ttsl10StrongTypeIhNS0_14SubDeviceIdTagEEEEb",
    ],
];
/// What the code may call or read, 16 bytes each.
const CALLED: &[&str] = &[
    "_ZN2tt8tt_metal13AllocatorImpl15allocate_bufferEPNS0_6BufferE",
    "_ZN2tt8tt_metal13AllocatorImpl17deallocate_bufferEPNS0_6BufferE",
    "__cxa_throw",
    "_ZN2tt8tt_metal6Buffer14next_unique_idE",
    "_ZTVN2tt8tt_metal6DeviceE",
    "_ZTVN2tt8tt_metal11distributed10MeshDeviceE",
    "_ZTVN2tt8tt_metal11distributed14MeshDeviceImplE",
];

/// Functions that show fields are short, and longer ones only take longer.
const LONGEST: usize = 512;

/// A file.
pub(crate) fn elf(bytes: &[u8]) {
    let Ok(elf) = Elf::parse(bytes) else { return };
    let _ = (elf.build_id().and_then(|id| elf.address_of(id)), elf.mentions("environ"), elf.section(b".text"));
    for segment in elf.segments() {
        let _ = (elf.file_offset(segment.address), elf.word(segment.address), elf.pointer(segment.address));
    }
    for name in elf.symbols_beginning("").into_iter().take(64) {
        let symbol = elf.symbol(name);
        let _ = symbol.map(|symbol| (elf.code(symbol), elf.names(symbol.address)));
    }
    if let Ok(derivation) = derive(&elf) {
        let _ = derivation.layout(1 << 46).is_ok();
    }
    let _ = sites(&elf, Home::Library, ProbeSet::Full);
    let _ = (compile(elf.object()), Table::of(elf.object()).and_then(|table| table.code(0x1000)));
}

/// Code that is each of the functions, in a library of either generation.
pub(crate) fn code(bytes: &[u8]) {
    let Some((first, code)) = bytes.split_first() else { return };
    let code = &code[..code.len().min(LONGEST)];
    let called = [0x90; 16 * CALLED.len()];
    let image = Image::new(&[Section { name: ".data", bytes: &called }, Section { name: ".text", bytes: code }]);
    let start = Image::START as u64;
    let at = |address, size| move |&name| Symbol { name, address, size };
    let mut symbols: Vec<Symbol> =
        (0..).step_by(16).zip(CALLED).map(|(offset, name)| at(start + offset, 16)(name)).collect();
    let text = start + called.len() as u64;
    let functions = FUNCTIONS.iter().chain(GENERATIONS[usize::from(first % 2)]);
    symbols.extend(functions.map(at(text, code.len() as u64)));
    let file = image.finish(&symbols);
    let Ok(elf) = Elf::parse(&file) else { panic!("a sound image is refused") };
    if let Ok(derivation) = derive(&elf) {
        // One code can't be the evidence for all: what is told apart must be so by more than chance.
        let _ = derivation.layout(0).is_ok();
    }
}

/// A memory map.
pub(crate) fn maps(bytes: &[u8]) {
    for mapping in maps::parse(bytes) {
        assert!(mapping.path.as_os_str().len() <= bytes.len(), "a path out of nothing");
    }
    let _ = maps::parse_uretprobes(bytes);
}
