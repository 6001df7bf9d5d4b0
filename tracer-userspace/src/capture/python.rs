// SPDX-License-Identifier: Apache-2.0
//! The Python part of stacks: gets its names while they are there.

use std::collections::{HashMap, hash_map::Entry};

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
}

/// What is known of a code object.
#[derive(Clone)]
struct Code {
    /// When it was read last, by [`PythonFrame::generation`].
    generation: u32,
    /// Its number in the file.
    number: u32,
    found: Result<CodeObject, Missing>,
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
    codes: HashMap<CodeKey, Code>,
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
                let found = Ok(code);
                let number = interned.code(|number| record(number, &found));
                codes.insert(CodeKey { address, checksum: checksums.whole }, Code { generation: 0, number, found });
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
        let key = CodeKey { address: frame.code, checksum: frame.checksum };
        let (format, start) = (self.frames.code.format, self.frames.code.start);
        let &Code { number, ref found, .. } = self.code(key, frame.generation(), interned);
        let offset = match format {
            // A number of instructions of two bytes each.
            LineFormat::Pairs => i64::from(frame.instruction as i32) * 2,
            LineFormat::Locations => {
                frame.instruction.wrapping_sub(frame.code.wrapping_add(start.into())).cast_signed()
            }
        };
        let line = found.as_ref().ok().and_then(|code| code.line(offset)).unwrap_or(0);
        (interned.python(PythonPlace { code: number, line }), found.is_ok())
    }

    /// The code object of a frame. One that is known is read again where another one may be there by now.
    fn code(&mut self, key: CodeKey, generation: u32, interned: &mut Interned) -> &Code {
        let Self { pids, frames, codes, left } = self;
        let read = |left: &mut usize| {
            let mut found = Err(Missing::Gone);
            for &pid in &*pids {
                found = CodeObject::read(pid, &frames.code, key.address, key.checksum).map(|code| code.within(left));
                if found.is_ok() {
                    break;
                }
            }
            found
        };
        match codes.entry(key) {
            Entry::Vacant(new) => {
                let found = read(left);
                let number = interned.code(|number| record(number, &found));
                new.insert(Code { generation, number, found })
            }
            Entry::Occupied(known) => {
                let known = known.into_mut();
                if known.generation != generation {
                    *left += known.found.as_ref().map_or(0, CodeObject::kept);
                    let found = read(left);
                    if found != known.found {
                        known.number = interned.code(|number| record(number, &found));
                        known.found = found;
                    }
                    known.generation = generation;
                }
                known
            }
        }
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
