// SPDX-License-Identifier: Apache-2.0
//! The Python part of stacks: gets its names while they are there.

use std::collections::HashMap;

use tracer_common::{PythonEnd, PythonFrame};

use super::{
    code::{CodeObject, Missing},
    decode::PythonStack,
    intern::{Interned, PythonPlace},
    merge::pieces,
};
use crate::{
    discover::python::{Frames, LineFormat},
    trace,
};

/// What tells a code object from others: its address and, as one address has many in the course of time, what the kernel
/// side found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CodeKey {
    address: u64,
    checksum: u32,
    generation: u32,
}

/// Most bytes of line tables that are kept; code beyond that has no lines but its first.
const MOST_TABLES: usize = 256 << 20;

/// The interpreter of a process.
#[derive(Clone)]
pub struct Interpreter {
    /// Where code objects are read: in the process, and where that is gone, in the one that it was forked from, which
    /// has the same ones at the same addresses. What is read is checked in either case.
    pids: Vec<u32>,
    frames: Frames,
    /// With their numbers.
    codes: HashMap<CodeKey, (u32, Result<CodeObject, Missing>)>,
    /// How many bytes of line tables may still be kept.
    left: usize,
}

/// The Python part of one stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PythonPart {
    /// Frame numbers, a piece for each call of the evaluator.
    pub pieces: Vec<Vec<u32>>,
    /// Whether one's code could not be read.
    pub nameless: bool,
    /// Why there are no more.
    pub end: PythonEnd,
}

impl PythonPart {
    /// One without frames.
    #[must_use]
    pub fn without(end: PythonEnd) -> Self {
        Self { pieces: Vec::new(), nameless: false, end }
    }
}

impl Interpreter {
    /// The interpreter of process `pid`. What it runs already is read at once: a script's own module may be gone before
    /// its first hit is looked at.
    #[must_use]
    pub fn new(pid: u32, frames: Frames, interned: &mut Interned) -> Self {
        let mut codes = HashMap::new();
        for &address in &frames.running {
            if let Ok((checksums, code)) = CodeObject::read_now(pid, &frames.code, address) {
                let code = Ok(code);
                let number = interned.code(|number| record(number, &code));
                codes.insert(CodeKey { address, checksum: checksums.whole, generation: 0 }, (number, code));
            }
        }
        Self { pids: vec![pid], frames, codes, left: MOST_TABLES }
    }

    /// The interpreter of a process that was forked from this one's.
    #[must_use]
    pub fn forked(&self, pid: u32) -> Self {
        let mut forked = self.clone();
        forked.pids.insert(0, pid);
        forked.pids.truncate(2);
        forked
    }

    /// Whether an address is in the code that runs Python code.
    #[must_use]
    pub fn is_evaluator(&self, address: u64) -> bool {
        self.frames.is_evaluator(address)
    }

    /// The frames of a stack, by their numbers in the file.
    pub fn part(&mut self, stack: &PythonStack, interned: &mut Interned) -> PythonPart {
        let pieces = pieces(&stack.frames, self.frames.entry);
        let mut nameless = false;
        let mut number = |frame: &PythonFrame| {
            let (number, has_name) = self.frame(frame, interned);
            nameless |= !has_name;
            number
        };
        let pieces = pieces.iter().map(|piece| piece.iter().map(&mut number).collect()).collect();
        PythonPart { pieces, nameless, end: stack.end }
    }

    /// The number of a frame, and whether it has a name.
    fn frame(&mut self, frame: &PythonFrame, interned: &mut Interned) -> (u32, bool) {
        let (layout, left) = (&self.frames.code, &mut self.left);
        let key = CodeKey { address: frame.code, checksum: frame.checksum, generation: frame.generation() };
        let (number, code) = self.codes.entry(key).or_insert_with(|| {
            let mut code = Err(Missing::Gone);
            for &pid in &self.pids {
                code = CodeObject::read(pid, layout, frame.code, frame.checksum).map(|code| code.within(left));
                if code.is_ok() {
                    break;
                }
            }
            (interned.code(|number| record(number, &code)), code)
        });
        let offset = match layout.format {
            // A number of instructions of two bytes each.
            LineFormat::Pairs => i64::from(frame.instruction as i32) * 2,
            LineFormat::Locations => {
                frame.instruction.wrapping_sub(frame.code.wrapping_add(layout.start.into())).cast_signed()
            }
        };
        let line = code.as_ref().ok().and_then(|code| code.line(offset)).unwrap_or(0);
        (interned.python(PythonPlace { code: *number, line }), code.is_ok())
    }
}

fn record(id: u32, code: &Result<CodeObject, Missing>) -> trace::Code {
    match code {
        Ok(CodeObject { function, file, first_line, .. }) => {
            let (function, file) = (function.clone(), file.clone());
            trace::Code { id, function, file, first_line: *first_line, ..trace::Code::default() }
        }
        Err(missing) => trace::Code { id, missing: missing.name().into(), ..trace::Code::default() },
    }
}
