// SPDX-License-Identifier: Apache-2.0
//! Reads two functions of the interpreter: where the one that runs Python code lies, and where its thread key is.

use std::{collections::BTreeSet, ops::Range};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use crate::{
    discover::elf::{Elf, Symbol},
    unwind::Table,
};

/// The function that runs Python code: one call for each entry frame.
const EVALUATOR: &str = "_PyEval_EvalFrameDefault";
/// A small function that looks the thread's state up.
const STATE_GETTER: &str = "PyGILState_GetThisThreadState";

/// The module's own addresses of the code of [`EVALUATOR`]: the function, and the parts that the compiler has split off.
///
/// The symbol is exported by every build. A split part has no symbol in a stripped file, so that it is found by the jumps
/// that lead there: code for which the unwind table begins with a frame that is set up already.
///
/// # Errors
/// With the reason, if it is not there or has no unwind table.
pub(super) fn ranges(elf: &Elf) -> Result<Vec<Range<u64>>, String> {
    let symbol = elf.symbol(EVALUATOR).ok_or_else(|| format!("the interpreter does not export {EVALUATOR}"))?;
    let table = Table::of(elf.object()).ok_or("the interpreter has no unwind table")?;
    let (whole, _) = table.code(symbol.address).ok_or_else(|| format!("{EVALUATOR} has no unwind table"))?;
    let mut ranges = vec![whole.clone()];
    for target in jumps_out(elf, &whole) {
        if ranges.iter().any(|range| range.contains(&target)) {
            continue;
        }
        if let Some((part, false)) = table.code(target) {
            ranges.push(part);
        }
    }
    Ok(ranges)
}

/// Where jumps lead that leave a piece of code.
fn jumps_out(elf: &Elf, code: &Range<u64>) -> BTreeSet<u64> {
    let symbol = Symbol { address: code.start, size: code.end - code.start, indirect: false };
    let jumps = instructions(elf, symbol).filter(|instruction| {
        matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
    });
    let targets = jumps.filter(|jump| jump.op0_kind() == OpKind::NearBranch64).map(|jump| jump.near_branch_target());
    targets.filter(|target| !code.contains(target)).collect()
}

/// The module's own addresses in `_PyRuntime` that [`STATE_GETTER`] mentions: one of them is its thread key's.
pub(super) fn mentioned(elf: &Elf, runtime: Symbol) -> Vec<u64> {
    let Some(getter) = elf.symbol(STATE_GETTER) else { return Vec::new() };
    let inside = runtime.address..runtime.address.saturating_add(runtime.size);
    let mut found = BTreeSet::new();
    for instruction in instructions(elf, getter) {
        found.extend(constants(&instruction).filter(|address| inside.contains(address)));
        // Through a register that was loaded with the address of `_PyRuntime`.
        let displacement = runtime.address.checked_add(instruction.memory_displacement64());
        let by_register =
            has_memory(&instruction) && !matches!(instruction.memory_base(), Register::None | Register::RIP);
        found.extend(displacement.filter(|address| by_register && inside.contains(address)));
    }
    found.into_iter().collect()
}

/// Absolute addresses: of memory, or as a number.
fn constants(instruction: &Instruction) -> impl Iterator<Item = u64> {
    let memory = has_memory(instruction) && matches!(instruction.memory_base(), Register::None | Register::RIP);
    let memory = memory.then(|| instruction.memory_displacement64());
    let number = (0..instruction.op_count())
        .find(|&operand| matches!(instruction.op_kind(operand), OpKind::Immediate32 | OpKind::Immediate64))
        .map(|operand| instruction.immediate(operand));
    memory.into_iter().chain(number)
}

fn has_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
}

fn instructions<'d>(elf: &Elf<'d>, symbol: Symbol) -> impl Iterator<Item = Instruction> + use<'d> {
    let code = elf.code(symbol).unwrap_or_default();
    let mut decoder = Decoder::with_ip(64, code, symbol.address, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}
