// SPDX-License-Identifier: Apache-2.0
//! How much stack the kernel side takes in its longest chain of calls: the verifiers of older kernels have less room for it than
//! that of the machine that builds.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind};

/// `MAX_BPF_STACK` of the kernel's `linux/filter.h`: bytes that a program and all that it calls may have.
const MOST: u32 = 512;
/// What `check_max_stack_depth` of its `kernel/bpf/verifier.c` rounds each function's up to, until 6.8.
const ROUNDED: u32 = 32;

/// Bytes of an instruction, and what they mean: `uapi/linux/bpf.h` and `uapi/linux/bpf_common.h`.
const INSTRUCTION: usize = 8;
/// Lowest bits of an operation.
const CLASS: u8 = 0x07;
/// Classes that read and write memory: `BPF_LDX`, `BPF_ST`, `BPF_STX`.
const LOAD: u8 = 0x01;
const STORE: [u8; 2] = [0x02, 0x03];
/// `BPF_ALU64 | BPF_ADD | BPF_K`.
const ADD: u8 = 0x07;
/// `BPF_ALU64 | BPF_MOV | BPF_X`.
const MOVE: u8 = 0xbf;
/// `BPF_JMP | BPF_CALL`, and its source register where a function of the object is called: `BPF_PSEUDO_CALL`.
const CALL: u8 = 0x85;
const OURS: u8 = 1;
/// The register with the end of a function's stack, `BPF_REG_FP`.
const FRAME: u8 = 10;

/// Where a function is: its section, and its address there.
type Place = (SectionIndex, u64);

struct Function {
    name: String,
    /// Bytes of its own.
    stack: u32,
    calls: Vec<Place>,
}

/// Fails with the names of the functions if a chain of calls takes more stack than there is.
pub fn check(object: &[u8]) -> Result<()> {
    let (bytes, chain) = deepest_chain(object)?;
    let chain = chain.join(", ");
    ensure!(bytes <= MOST, "a chain of calls takes {bytes} bytes of stack, and older kernels have {MOST}: {chain}");
    Ok(())
}

fn deepest_chain(object: &[u8]) -> Result<(u32, Vec<String>)> {
    let functions = functions(object)?;
    let chains = functions.keys().map(|&place| deepest(&functions, place, &mut Vec::new()));
    chains.collect::<Result<Vec<_>>>()?.into_iter().max().context("the compiled kernel side has no function")
}

/// The most stack that a function takes with all that it calls, and which functions those are.
fn deepest(functions: &HashMap<Place, Function>, place: Place, callers: &mut Vec<Place>) -> Result<(u32, Vec<String>)> {
    let function = functions.get(&place).context("what is called is no function of the object")?;
    ensure!(!callers.contains(&place), "{} calls itself", function.name);
    callers.push(place);
    let mut called = (0, Vec::new());
    for &call in &function.calls {
        called = called.max(deepest(functions, call, callers)?);
    }
    callers.pop();
    let own = function.stack.max(1).next_multiple_of(ROUNDED);
    called.0 += own;
    called.1.insert(0, format!("{} {own}", function.name));
    Ok(called)
}

fn functions(object: &[u8]) -> Result<HashMap<Place, Function>> {
    let file = object::File::parse(object).context("the compiled kernel side is no object file")?;
    let mut functions = HashMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let section = symbol.section_index().context("a function is in no section")?;
        let start = symbol.address();
        let code = file.section_by_index(section)?;
        let bytes = code.data_range(start, symbol.size())?.context("a function is longer than its section")?;
        let name = symbol.name()?.to_string();
        let mut function = Function { name, stack: own_stack(bytes), calls: Vec::new() };
        for (address, instruction) in (start..).step_by(INSTRUCTION).zip(bytes.chunks_exact(INSTRUCTION)) {
            let &[operation, registers, _, _, ref value @ ..] = instruction else { continue };
            if operation == CALL && registers >> 4 == OURS {
                let value = i32::from_le_bytes(value.try_into()?);
                let relocation = code.relocations().find(|&(at, _)| at == address);
                let relocation = relocation.map(|(_, relocation)| relocation.target());
                function.calls.push(called(&file, section, address, value, relocation)?);
            }
        }
        functions.insert((section, start), function);
    }
    Ok(functions)
}

/// How far from its end the furthest place is that the instructions of a function read, write or take the address of.
fn own_stack(code: &[u8]) -> u32 {
    // Registers with a copy of the frame's, to which the distance is added next.
    let mut copies = [false; 16];
    let mut lowest = 0;
    for instruction in code.chunks_exact(INSTRUCTION) {
        let &[operation, registers, low, high, ref value @ ..] = instruction else { continue };
        let (target, source) = (registers & 0xf, registers >> 4);
        let class = operation & CLASS;
        let place = if (class == LOAD && source == FRAME) || (STORE.contains(&class) && target == FRAME) {
            i16::from_le_bytes([low, high]).into()
        } else if operation == ADD && copies[usize::from(target)] {
            value.try_into().map_or(0, i32::from_le_bytes)
        } else {
            0
        };
        if operation == MOVE || operation == ADD {
            copies[usize::from(target)] = operation == MOVE && source == FRAME;
        }
        lowest = lowest.min(place);
    }
    lowest.unsigned_abs()
}

fn called(
    file: &object::File<'_>,
    section: SectionIndex,
    address: u64,
    value: i32,
    relocation: Option<RelocationTarget>,
) -> Result<Place> {
    // In instructions, from the next one on.
    let ahead = (i64::from(value) + 1) * INSTRUCTION as i64;
    match relocation {
        None => Ok((section, address.wrapping_add_signed(ahead))),
        Some(RelocationTarget::Symbol(index)) => {
            let symbol = file.symbol_by_index(index)?;
            let section = symbol.section_index().context("what is called is not in the object")?;
            let within = if symbol.kind() == SymbolKind::Section { ahead } else { 0 };
            Ok((section, symbol.address().wrapping_add_signed(within)))
        }
        Some(_) => bail!("a call is relocated in an unknown way"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{object::OBJECT, root};

    #[test]
    fn the_object_has_room_on_every_kernel() {
        let object = fs::read(root().join(OBJECT)).expect("the object is checked in");
        let (bytes, chain) = deepest_chain(&object).expect("added up");
        assert!(bytes <= MOST, "{bytes}: {chain:?}");
        // It begins with a program, and the walk of a stack is deepest.
        assert!(chain.len() > 2 && chain.first().is_some_and(|first| first.starts_with("probe ")), "{chain:?}");
    }

    #[test]
    fn stack_is_what_is_read_written_or_pointed_to() {
        // As `llvm-objdump` has them.
        let write = [0x7b, 0x1a, 0xf0, 0xff, 0, 0, 0, 0]; // *(u64 *)(r10 - 0x10) = r1
        let read = [0x79, 0xa3, 0xe0, 0xff, 0, 0, 0, 0]; // r3 = *(u64 *)(r10 - 0x20)
        let other = [0x7b, 0x12, 0x30, 0xff, 0, 0, 0, 0]; // *(u64 *)(r2 - 0xd0) = r1
        let copy = [0xbf, 0xa2, 0, 0, 0, 0, 0, 0]; // r2 = r10
        let add = [0x07, 0x02, 0, 0, 0xd8, 0xff, 0xff, 0xff]; // r2 += -0x28
        assert_eq!(own_stack(&write), 0x10);
        assert_eq!(own_stack(&[write, read, other].concat()), 0x20);
        assert_eq!(own_stack(&[add, copy, write].concat()), 0x10);
        assert_eq!(own_stack(&[copy, write, add].concat()), 0x28);
    }
}
