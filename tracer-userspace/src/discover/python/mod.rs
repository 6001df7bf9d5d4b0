// SPDX-License-Identifier: Apache-2.0
//! Whether a process has a Python interpreter in it, which, and where it keeps its frames.
//!
//! - [`offsets`]: what each version says of itself. [`code`]: the same of code objects, by the type's own member table.
//! - [`evaluator`]: what is read of the interpreter's machine code.
//! - [`threads`]: verifies all of it in the running process. What can't be verified is refused with the reason.

mod code;
mod evaluator;
mod offsets;
mod peek;
mod threads;

use std::{collections::BTreeSet, ops::Range};

use tracer_common::{CODE_PART, MAX_PYTHON_READ, NO_OFFSET, NOT_WATCHED, PythonLayout};

pub use self::{
    code::{BYTES_START, CodeLayout, LineFormat},
    offsets::{DEBUG_OFFSETS, Entry, Offsets},
};

use self::{peek::Peek, threads::Threads};
use super::{btf, elf::Elf, module::Module};

const RUNTIME: &str = "_PyRuntime";
/// Offset of `tp_dealloc` in a `PyTypeObject`: the same in every CPython 3 (`Include/cpython/object.h`).
const TP_DEALLOC: u64 = 48;
/// The instruction that marks where indirect calls may go to (Intel's control-flow enforcement).
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// A CPython interpreter in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// `3.12.1`, or `3.10` where only the file's name tells.
    pub version: String,
    /// The module that defines it, by its place among the modules.
    pub module: usize,
    /// Address of `_PyRuntime` in the process.
    pub runtime: u64,
    /// How its frames are read, or why they can't be.
    pub frames: Result<Frames, String>,
}

/// How the frames of an interpreter are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    /// What the kernel side is given.
    pub layout: PythonLayout,
    /// How entry frames are told.
    pub entry: Entry,
    /// Where code objects keep what.
    pub code: CodeLayout,
    /// Where in the process the code is that runs Python code.
    pub evaluator: Vec<Range<u64>>,
    /// Addresses of the code objects that threads were running when they were looked at.
    pub running: BTreeSet<u64>,
    /// Where in the interpreter's file the destructor of code objects begins, or why that is not known.
    pub destructor: Result<u64, String>,
}

/// Finds the interpreter among the modules. `None` if there is none, or if nothing there says its version.
#[must_use]
pub fn find(pid: u32, modules: &[Module]) -> Option<Python> {
    modules.iter().enumerate().find_map(|(number, module)| {
        let elf = module.elf().ok().filter(|elf| elf.mentions(RUNTIME))?;
        let runtime = module.address(elf.symbol(RUNTIME)?);
        let version = version_symbol(&elf).or_else(|| version_in_name(&module.name()))?;
        let frames = Frames::verified(Peek { pid }, module, &elf, &version);
        Some(Python { version, module: number, runtime, frames })
    })
}

impl Frames {
    fn verified(peek: Peek, module: &Module, elf: &Elf, version: &str) -> Result<Self, String> {
        let symbol = |name: &str| elf.symbol(name).ok_or_else(|| format!("the interpreter does not export {name}"));
        let runtime = symbol(RUNTIME)?;
        let address = module.address(runtime);
        let mut description = [0; DEBUG_OFFSETS];
        peek.fill(address, &mut description)?;
        let offsets = Offsets::of(minor(version)?, &description)?;
        let types = ["PyCode_Type", "PyUnicode_Type", "PyBytes_Type"].map(symbol);
        let [code, text, bytes] = types;
        let types = [module.address(code?), module.address(text?), module.address(bytes?)];
        let code = CodeLayout::read(peek, types, &offsets)?;
        // The key is behind a flag, and the code may mention either.
        let mentioned = evaluator::mentioned(elf, runtime).into_iter().flat_map(|own| [own, own.saturating_sub(4)]);
        let keys: Vec<u64> = mentioned.map(|own| own.wrapping_add(module.bias)).collect();
        let found = Threads { peek, runtime: address, offsets: &offsets, code: &code, keys: &keys }.verify()?;
        let evaluator = evaluator::ranges(elf)?.into_iter();
        Ok(Self {
            layout: layout(&offsets, &code, found.slot)?,
            entry: offsets.entry,
            code,
            evaluator: evaluator
                .map(|own| own.start.wrapping_add(module.bias)..own.end.wrapping_add(module.bias))
                .collect(),
            running: found.running,
            destructor: destructor(peek, types[0], module, elf),
        })
    }

    /// Whether an address is in the code that runs Python code.
    #[must_use]
    pub fn is_evaluator(&self, address: u64) -> bool {
        self.evaluator.iter().any(|range| range.contains(&address))
    }
}

/// `PyCode_Type.tp_dealloc`, behind the marker that the function may begin with: probing that costs more.
fn destructor(peek: Peek, code_type: u64, module: &Module, elf: &Elf) -> Result<u64, String> {
    let own = peek.word(code_type.wrapping_add(TP_DEALLOC))?.wrapping_sub(module.bias);
    let marked = elf.bytes(own, ENDBR64.len() as u64).is_some_and(|bytes| bytes == ENDBR64);
    let begin = if marked { own.wrapping_add(ENDBR64.len() as u64) } else { own };
    elf.file_offset(begin).ok_or_else(|| "the destructor of code objects is not in the interpreter's file".into())
}

fn layout(offsets: &Offsets, code: &CodeLayout, slot: u32) -> Result<PythonLayout, String> {
    let (state_size, frame_size) = (offsets.state_size(), offsets.frame_size());
    let names = code.names.checked_sub(code.counts).filter(|names| names % 8 == 0);
    let names = names.ok_or("the members of the type `code` are not in the order of any version that is known")?;
    let code_size = names + CODE_PART as u32;
    if state_size.max(frame_size).max(code_size) as usize >= MAX_PYTHON_READ {
        return Err(format!(
            "{state_size} bytes of a thread state, {frame_size} of a frame, or {code_size} of a code object, are too many to \
             read"
        ));
    }
    Ok(PythonLayout {
        fsbase: btf::fsbase().map_err(|error| format!("{error:#}"))?,
        slot,
        thread_id: offsets.thread_id,
        cframe: offsets.cframe.unwrap_or(NO_OFFSET),
        current_frame: offsets.current_frame,
        state_size,
        frame_size,
        previous: offsets.previous,
        code: offsets.code,
        instruction: offsets.instruction,
        mark: offsets.mark,
        counts: code.counts,
        names,
        code_size,
        texts: code.texts(),
        watched_from: NOT_WATCHED,
    })
}

/// The second number of `3.12.1`.
fn minor(version: &str) -> Result<u32, String> {
    let minor = version.strip_prefix("3.").and_then(|rest| rest.split('.').next()).and_then(|minor| minor.parse().ok());
    minor.ok_or_else(|| format!("version {version} is none of Python 3"))
}

/// From 3.11 on, the constant `Py_Version` has the version as `PY_VERSION_HEX`.
fn version_symbol(elf: &Elf) -> Option<String> {
    let number = elf.word(elf.symbol("Py_Version")?.address)?;
    let byte = |shift: u32| (number >> shift) & 0xff;
    (byte(24) == 3).then(|| format!("{}.{}.{}", byte(24), byte(16), byte(8)))
}

/// `libpython3.10.so.1.0`, `python3.10`
fn version_in_name(name: &str) -> Option<String> {
    let rest = name.strip_prefix("lib").unwrap_or(name).strip_prefix("python3.")?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!minor.is_empty()).then(|| format!("3.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_minor_version_or_nothing() {
        assert_eq!(version_in_name("libpython3.10.so.1.0").as_deref(), Some("3.10"));
        assert_eq!(version_in_name("python3.9").as_deref(), Some("3.9"));
        for name in ["python", "python3", "libpython3.so", "pytest3.10", ""] {
            assert_eq!(version_in_name(name), None, "{name}");
        }
    }
}
