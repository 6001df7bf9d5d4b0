// SPDX-License-Identifier: Apache-2.0
//! Verifies in the running interpreter what its version says of its threads and frames.
//!
//! The process runs on meanwhile: one thread that is seen whole, at one look, is enough. What is not as it should be
//! cannot pass by chance: each code object must be one by its type, and a chain of frames must end where C called Python.

use std::{
    collections::BTreeSet,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    code::CodeLayout,
    offsets::{Entry, Offsets},
    peek::Peek,
};

/// Offset in glibc's `struct pthread` of the first block of thread-specific values, of 16 bytes each: a sequence number
/// and the value. The same in all x86-64 releases; verified by what is found there.
const SPECIFIC: u32 = 0x310;
/// Keys of the first block.
const SPECIFIC_KEYS: u32 = 32;
/// Most threads that are looked at.
const MOST_THREADS: usize = 4096;
/// Most frames of a thread that are looked at: Python's own recursion limit is 1000.
const MOST_FRAMES: usize = 100_000;
/// Most frames of all threads together, at one look.
const MOST_LOOKED_AT: usize = 200_000;
/// When no further look is taken.
const LATEST: Duration = Duration::from_secs(5);
/// How often and how long apart the running process is looked at before it is given up.
const LOOKS: usize = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What was found of the threads.
#[derive(Debug)]
pub(super) struct Found {
    /// Offset from a thread's fs base of the pointer to its state.
    pub(super) slot: u32,
    /// The code objects of the threads' frames.
    pub(super) running: BTreeSet<u64>,
}

/// What is verified.
pub(super) struct Threads<'a> {
    pub(super) peek: Peek,
    /// Address of `_PyRuntime`.
    pub(super) runtime: u64,
    pub(super) offsets: &'a Offsets,
    pub(super) code: &'a CodeLayout,
    /// Addresses where the interpreter's own code looks for its thread key.
    pub(super) keys: &'a [u64],
}

impl Threads<'_> {
    /// Looks until all is as it should be.
    ///
    /// # Errors
    /// With what was wrong at the last look.
    pub(super) fn verify(&self) -> Result<Found, String> {
        let begin = Instant::now();
        let mut result = self.look();
        for _ in 1..LOOKS {
            if result.is_ok() || begin.elapsed() > LATEST {
                break;
            }
            sleep(BETWEEN_LOOKS);
            result = self.look();
        }
        result
    }

    fn look(&self) -> Result<Found, String> {
        let states = self.states()?;
        let slot = self.slot(&states)?;
        let mut wrong = "no thread runs Python code".to_string();
        let mut running = BTreeSet::new();
        let mut left = MOST_LOOKED_AT;
        for &(state, _) in &states {
            match self.frames(state, &mut left) {
                Ok(codes) => running.extend(codes),
                Err(reason) => wrong = reason,
            }
        }
        if running.is_empty() { Err(wrong) } else { Ok(Found { slot, running }) }
    }

    /// The thread states, each with its thread's fs base, which glibc keeps in the first and the third word there.
    fn states(&self) -> Result<Vec<(u64, u64)>, String> {
        let interpreter = self.peek.word(self.runtime.wrapping_add(self.offsets.interpreters.into()))?;
        let mut states = Vec::new();
        let mut state = self.peek.word(interpreter.wrapping_add(self.offsets.threads.into()))?;
        while state != 0 && states.len() < MOST_THREADS {
            let fsbase = self.peek.word(state.wrapping_add(self.offsets.thread_id.into()))?;
            let own = |offset| self.peek.word(fsbase.wrapping_add(offset)).is_ok_and(|word| word == fsbase);
            if own(0) && own(16) {
                states.push((state, fsbase));
            }
            state = self.peek.word(state.wrapping_add(self.offsets.next.into()))?;
        }
        match states.is_empty() {
            true => Err("none of the interpreter's thread states is of a thread".into()),
            false => Ok(states),
        }
    }

    /// The slot that a key of the interpreter's leads to, if each thread has the pointer to its own state there.
    fn slot(&self, states: &[(u64, u64)]) -> Result<u32, String> {
        let mut slots: Vec<u32> = self.keys.iter().filter_map(|&key| self.slot_of(key)).collect();
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|&slot| {
            let has_own = |&(state, fsbase): &(u64, u64)| {
                self.peek.word(fsbase.wrapping_add(slot.into())).is_ok_and(|word| word == state)
            };
            states.iter().all(has_own)
        });
        match slots.as_slice() {
            [slot] => Ok(*slot),
            [] => Err("threads do not keep their state where the interpreter's code looks for it".into()),
            _ => Err("threads keep their state in several places".into()),
        }
    }

    /// A `Py_tss_t` is a flag that is 1, and the key.
    fn slot_of(&self, address: u64) -> Option<u32> {
        let key = self.peek.half(address.wrapping_add(4)).ok()?;
        let is_created = self.peek.half(address).ok()? == 1;
        (is_created && key < SPECIFIC_KEYS).then(|| SPECIFIC + key * 16 + 8)
    }

    /// Follows the frames of a thread to the outermost, as long as there are some `left`; returns their code objects.
    fn frames(&self, state: u64, left: &mut usize) -> Result<BTreeSet<u64>, String> {
        let holder = match self.offsets.cframe {
            Some(offset) => self.peek.word(state.wrapping_add(offset.into()))?,
            None => state,
        };
        let mut frame = self.peek.word(holder.wrapping_add(self.offsets.current_frame.into()))?;
        let mut codes = BTreeSet::new();
        let most = MOST_FRAMES.min(*left);
        let mut count = 0;
        let mut outermost = true;
        while frame != 0 {
            if count == most {
                return Err("the frames of a thread do not end".into());
            }
            let (code, is_entry) = self.frame(frame)?;
            codes.extend(code);
            outermost = is_entry;
            count += 1;
            *left -= 1;
            frame = self.peek.word(frame.wrapping_add(self.offsets.previous.into()))?;
        }
        match outermost {
            true => Ok(codes),
            false => Err("the outermost frame of a thread is not marked as an entry".into()),
        }
    }

    /// Checks one frame; returns its code object, unless it stands for C code, and whether it is an entry.
    fn frame(&self, frame: u64) -> Result<(Option<u64>, bool), String> {
        let offsets = self.offsets;
        let mark = self.peek.byte(frame.wrapping_add(offsets.mark.into()))?;
        let is_entry = match offsets.entry {
            Entry::Shim(shim) if mark == shim => return Ok((None, true)),
            Entry::Flag(_) if mark > 1 => return Err(format!("a frame has {mark} as its entry flag")),
            Entry::Flag(flag) => mark == flag,
            Entry::Shim(_) => false,
            Entry::Every => true,
        };
        let code = self.peek.word(frame.wrapping_add(offsets.code.into()))?;
        self.code(code)?;
        let instruction = frame.wrapping_add(offsets.instruction.into());
        if offsets.counts_instructions {
            let index = self.peek.half(instruction)?.cast_signed();
            // No function has as many instructions.
            let plausible = (-1..1 << 24).contains(&index);
            return if plausible {
                Ok((Some(code), is_entry))
            } else {
                Err(format!("a frame is at instruction {index}"))
            };
        }
        // The pointer is to an instruction, or to just before the first one.
        let at = self.peek.word(instruction)?.wrapping_sub(code.wrapping_add(self.code.start.into())).wrapping_add(2);
        let units = self.peek.word(code.wrapping_add(16))?;
        match at % 2 == 0 && at / 2 <= units {
            true => Ok((Some(code), is_entry)),
            false => Err("a frame's instruction is not in its code object".into()),
        }
    }

    fn code(&self, code: u64) -> Result<(), String> {
        let layout = self.code;
        let at = |offset: u32| self.peek.word(code.wrapping_add(offset.into()));
        let points_to = |offset: u32, of: u64| at(offset).and_then(|object| self.is_a(object, of));
        let fits = self.is_a(code, layout.code_type)?
            && points_to(layout.file, layout.str_type)?
            && points_to(layout.function, layout.str_type)?
            && points_to(layout.lines, layout.bytes_type)?;
        if fits { Ok(()) } else { Err("a frame has no code object where it should be".into()) }
    }

    fn is_a(&self, object: u64, of: u64) -> Result<bool, String> {
        Ok(self.peek.word(object.wrapping_add(8))? == of)
    }
}
