// SPDX-License-Identifier: Apache-2.0
//! Walks the Python frames of the thread that hit a probe.
//!
//! The thread state is the one that the thread itself keeps, never that of whoever holds the interpreter's lock: a
//! thread without one, such as a C++ worker, has no Python frames.

use aya_ebpf::helpers::{
    bpf_probe_read_kernel, bpf_probe_read_user,
    generated::{self, bpf_get_current_task},
};
use tracer_common::{
    CodeSum, CodeText, Counter, GENERATIONS, MAX_PYTHON_FRAMES, MAX_PYTHON_READ, NO_OFFSET, NOT_WATCHED, PythonEnd,
    PythonFrame, PythonLayout, PythonScratch, StackHash, TEXT_LENGTH, TEXT_TAIL, Target,
};

use crate::{
    maps, scratch,
    window::{PAGE, Window},
};

/// The lowest byte of what is remembered, so that what is mixed with another mask shows.
const CHECK: u64 = 0xa5;
/// So many may be freed while a stack is walked: others can be ahead by that.
const AT_ONCE: u32 = 256;
/// What [`python_step`] gives if there may be one more frame; else it is a [`PythonEnd`].
const GOES_ON: u32 = 0;
/// Steps for which the scratch memory is looked up once.
const STEPS: usize = 8;

/// The state of a walk of Python frames.
#[repr(C)]
pub(crate) struct Walker {
    /// The next frame.
    frame: u64,
    /// The one before it.
    last: u64,
    /// The last one that was in the piece of memory beside the stack.
    lowest: u64,
    /// How many code objects the target has freed.
    freed: u64,
    /// The target's number.
    target: u32,
    /// Frames that are captured.
    count: u32,
    /// So many frames of the last walk have code objects that are still what they were.
    certain: u32,
    /// Whether all code objects could be read: 0 or 1.
    readable: u32,
    layout: PythonLayout,
}

/// Fills the scratch's Python stack, and its hash. The thread must be of process `tgid`, which is target `number`.
#[inline(always)]
pub(crate) fn walk(level: u32, number: u32, tgid: u32) {
    let end = python_begin(level, number, tgid);
    python_walk(level, end);
}

/// Finds the innermost frame: [`GOES_ON`], or why there is none.
///
/// A function of its own, with numbers as its arguments, is verified once, and not for each way that leads to it; so are
/// the others. None has much on the program's stack, which all that call each other share.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn python_begin(level: u32, number: u32, tgid: u32) -> u32 {
    let Some(scratch::Python { hash, window, walker, read, .. }) = scratch::python(level) else {
        return PythonEnd::UnreadableState as u32;
    };
    *hash = maps::hash_key();
    hash.add(u64::from(number) << 32 | 1);
    let Some(layout) = maps::python(tgid) else {
        walker.count = 0;
        return PythonEnd::UnreadableState as u32;
    };
    let freed = maps::codes_freed(number);
    let mut end = GOES_ON;
    let frame = match innermost(layout, &mut read.frame) {
        Ok(frame) => frame,
        Err(error) => {
            end = error as u32;
            0
        }
    };
    // Frames of callers are below those of whom they call, and the last walk here came down to where this one will, if it
    // was of the same thread.
    window.expect(walker.lowest, frame.wrapping_add(u64::from(layout.frame_size)));
    if frame != 0 {
        // So that it is at hand for the first step, too.
        window.find(frame, layout.frame_size);
    }
    let certain = walker.certain(number, freed, layout);
    let (last, lowest) = (frame, frame);
    *walker = Walker { frame, last, lowest, freed, target: number, count: 0, certain, readable: 1, layout: *layout };
    end
}

/// Captures the frames from there on, unless there is an end already.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn python_walk(level: u32, begin: u32) -> u32 {
    let mut end = begin;
    for _ in 0..=MAX_PYTHON_FRAMES / STEPS {
        if end != GOES_ON {
            break;
        }
        end = python_steps(level);
    }
    let Some(scratch::Python { hash, walker, stack, .. }) = scratch::python(level) else { return 0 };
    stack.count = walker.count as u16;
    stack.end = end as u8;
    hash.add(u64::from(end));
    maps::add(Counter::PythonFrames, u64::from(walker.count));
    if PythonEnd::from_u8(end as u8).is_cut() {
        maps::count(Counter::PythonCut);
    }
    0
}

impl Walker {
    /// How many frames of this walk have code objects that are still what they were, as none was freed since: where the next
    /// walk meets the same ones in the same places, what tells them from others is there already.
    #[inline(always)]
    fn certain(&self, target: u32, freed: u64, layout: &PythonLayout) -> u32 {
        let watched = self.layout.watched_from != NOT_WATCHED && layout.watched_from != NOT_WATCHED;
        let same = self.target == target && self.freed == freed && self.readable != 0;
        if watched && same { self.count } else { 0 }
    }
}

/// Captures some frames, innermost first.
///
/// Most need nothing but what is at hand: any other is left to [`python_step`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn python_steps(level: u32) -> u32 {
    let (Some(scratch), Some(native)) = (scratch::python(level), scratch::at(level)) else {
        return PythonEnd::UnreadableFrame as u32;
    };
    let scratch::Python { hash, window, walker, stack, .. } = scratch;
    for _ in 0..STEPS {
        let Walker { frame, last, lowest, count, certain, layout, .. } = walker;
        if *frame == 0 {
            return PythonEnd::Complete as u32;
        }
        let slot = &mut stack.frames[*count as usize % MAX_PYTHON_FRAMES];
        if *count < *certain
            && let Some([code, instruction, mark, previous]) =
                frame_here(layout, *frame, window, &native.window, lowest)
            && code == slot.code
        {
            slot.instruction = instruction;
            slot.mark = slot.mark & !0xff | entry_mark(layout, mark);
            add(hash, slot);
            *count += 1;
            (*last, *frame) = (*frame, previous);
            continue;
        }
        let end = python_step(level);
        if end != GOES_ON {
            return end;
        }
    }
    GOES_ON
}

#[inline(always)]
fn add(hash: &mut StackHash, frame: &PythonFrame) {
    hash.add(frame.code);
    hash.add(frame.instruction);
    hash.add(u64::from(frame.checksum) << 32 | u64::from(frame.mark));
}

/// Captures the next frame.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn python_step(level: u32) -> u32 {
    let (Some(scratch), Some(native)) = (scratch::python(level), scratch::at(level)) else {
        return PythonEnd::UnreadableFrame as u32;
    };
    let scratch::Python { hash, window, walker, stack, read } = scratch;
    let Walker { frame, last, lowest, freed, target, count, readable, layout, .. } = walker;
    if *count as usize >= MAX_PYTHON_FRAMES {
        return PythonEnd::TooManyFrames as u32;
    }
    // A frame that is not near the one before it is not near others either: its caller's is where that one was.
    if frame.wrapping_sub(*last).wrapping_add(PAGE) < 2 * PAGE {
        window.find(*frame, layout.frame_size);
    }
    let words = match frame_here(layout, *frame, window, &native.window, lowest) {
        Some(words) => words,
        None if read_part(&mut read.frame, layout.frame_size, *frame) == 0 => {
            words(layout).map(|offset| word(&read.frame, offset))
        }
        None => return PythonEnd::UnreadableFrame as u32,
    };
    let [code, instruction, mark, previous] = words;
    let Code { checksum, generation } = identify(level, layout, *target, *freed, code, readable);
    let mark = entry_mark(layout, mark) | generation << 8;
    let slot = &mut stack.frames[*count as usize % MAX_PYTHON_FRAMES];
    *slot = PythonFrame { code, instruction, checksum, mark };
    add(hash, slot);
    *count += 1;
    (*last, *frame) = (*frame, previous);
    GOES_ON
}

/// The byte that tells entry frames, of the word that holds it.
#[inline(always)]
fn entry_mark(layout: &PythonLayout, mark: u64) -> u32 {
    (mark >> (layout.mark % 8 * 8)) as u32 & 0xff
}

/// The address of the innermost frame of this thread, 0 if it runs no Python code.
#[inline(always)]
fn innermost(layout: &PythonLayout, read: &mut [u64; MAX_PYTHON_READ / 8]) -> Result<u64, PythonEnd> {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: the helper copes with any kernel address.
    let fsbase = unsafe { bpf_probe_read_kernel((task + u64::from(layout.fsbase)) as *const u64) };
    let fsbase = fsbase.map_err(|_| PythonEnd::UnreadableState)?;
    let state = pointer(fsbase, layout.slot)?;
    if state == 0 {
        return Err(PythonEnd::NoThreadState);
    }
    if read_part(read, layout.state_size, state) != 0 {
        return Err(PythonEnd::UnreadableState);
    }
    if word(read, layout.thread_id) != fsbase {
        return Err(PythonEnd::OtherThread);
    }
    match layout.cframe {
        NO_OFFSET => Ok(word(read, layout.current_frame)),
        offset => pointer(word(read, offset), layout.current_frame),
    }
}

/// What tells a code object from all others that are, or were, at its address.
struct Code {
    checksum: u32,
    generation: u32,
}

/// What tells a code object from others.
///
/// One that was seen before, and was not freed since, is the same one, and need not be read again. What is remembered has
/// two words: address and target, and the answer. Other CPUs write them one by one, so the second is of use only with the
/// first that it was made with.
#[inline(always)]
fn identify(level: u32, layout: &PythonLayout, target: u32, freed: u64, code: u64, readable: &mut u32) -> Code {
    let key = key(target, code);
    let slot = maps::code(hash(target, code)).filter(|_| layout.watched_from != NOT_WATCHED);
    if let Some(slot) = slot {
        // SAFETY: the pointer is to an aligned map value of two words.
        let [first, second] =
            unsafe { [slot.cast::<u64>().read_volatile(), slot.cast::<u64>().add(1).read_volatile()] };
        let known = second ^ mask(key);
        let generation = known as u32 >> 8;
        let since = |generation: u32| generation.wrapping_sub(layout.watched_from) & GENERATIONS;
        if first == key && known & 0xff == CHECK && since(generation) <= since(freed as u32) + AT_ONCE {
            return Code { checksum: (known >> 32) as u32, generation };
        }
    }
    let Some(scratch::Python { read, .. }) = scratch::python(level) else { return Code { checksum: 0, generation: 0 } };
    // What can't be read becomes zeros: user space then finds that the checksum is not right.
    let unreadable = read_part(&mut read.code, layout.code_size, code.wrapping_add(u64::from(layout.counts))) != 0;
    let words = |start: u32| [0, 8, 16, 24].map(|offset| word(&read.code, start + offset));
    let without_texts = CodeSum::of(words(0), words(layout.names)).0;
    let mut sum = without_texts;
    for &CodeText { pointer, start } in &layout.texts {
        sum = python_text(level, sum, pointer, start);
        if sum == 0 {
            sum = without_texts;
            break;
        }
    }
    let checksum = CodeSum(sum).get();
    let generation = if layout.watched_from == NOT_WATCHED { 0 } else { freed as u32 & GENERATIONS };
    if unreadable {
        *readable = 0;
    }
    if let (Some(slot), false) = (slot, unreadable) {
        let answer = u64::from(checksum) << 32 | u64::from(generation) << 8 | CHECK;
        // SAFETY: as above.
        unsafe {
            slot.cast::<u64>().write_volatile(key);
            slot.cast::<u64>().add(1).write_volatile(answer ^ mask(key));
        }
    }
    Code { checksum, generation }
}

/// What the code object that was read comes to with the text that the word at `pointer` leads to, whose bytes are from `start`
/// on; 0 if it is not in memory at the moment.
///
/// A function of its own, for one text each, has the stack that is left to it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn python_text(level: u32, sum: u64, pointer: u32, start: u32) -> u64 {
    let Some(scratch::Python { read: PythonScratch { code, text, .. }, .. }) = scratch::python(level) else { return 0 };
    let object = word(code, pointer);
    if read_text(text, 8, object.wrapping_add(TEXT_LENGTH)) != 0 {
        return 0;
    }
    let [length, _] = *text;
    let end = object.wrapping_add(u64::from(start)).wrapping_add(length);
    if read_text(text, TEXT_TAIL as u32, end.wrapping_sub(TEXT_TAIL)) != 0 {
        return 0;
    }
    CodeSum(sum).with_text(length, *text).0
}

#[inline(always)]
fn read_text(text: &mut [u64; 2], size: u32, address: u64) -> i64 {
    // SAFETY: the helper copes with any user address; both sizes that it is called with have room.
    unsafe { generated::bpf_probe_read_user(text.as_mut_ptr().cast(), size, address as *const _) }
}

/// A code object is freed: nobody runs it, so nobody looks at what is remembered of it meanwhile.
pub(crate) fn forget_code(target: &Target, code: u64) {
    maps::count_freed_code(target);
    if let Some(slot) = maps::code(hash(target.number, code)) {
        // SAFETY: as in `identify`.
        unsafe {
            if slot.cast::<u64>().read_volatile() == key(target.number, code) {
                slot.cast::<u64>().write_volatile(0);
            }
        }
    }
}

/// A target and an address in it: user space has the lower half of the addresses.
#[inline(always)]
fn key(target: u32, code: u64) -> u64 {
    u64::from(target) << 48 ^ code
}

/// Where in the map a code object is remembered.
#[inline(always)]
fn hash(target: u32, code: u64) -> u32 {
    // Forked processes have theirs at the same addresses.
    (code >> 4 ^ code >> 20) as u32 ^ target.wrapping_mul(0x9e37)
}

/// What the second word of an entry is mixed with, so that it means nothing with another first one.
#[inline(always)]
fn mask(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Where the words of a frame are that are of interest: code, instruction, mark, and the caller's frame.
#[inline(always)]
fn words(layout: &PythonLayout) -> [u32; 4] {
    [layout.code, layout.instruction, layout.mark, layout.previous]
}

/// These words of a frame that is in one of two pieces: from 3.11 on, frames of functions that call each other are next to
/// each other, but for those between C and Python (from 3.12 on), which are on the stack, and those of generators.
#[inline(always)]
fn frame_here(
    layout: &PythonLayout,
    frame: u64,
    window: &Window,
    stack: &Window,
    lowest: &mut u64,
) -> Option<[u64; 4]> {
    let size = layout.frame_size;
    let (piece, first) = match window.find_here(frame, size) {
        Some(first) => {
            *lowest = frame;
            (window, first)
        }
        None => (stack, stack.find_here(frame, size)?),
    };
    Some(words(layout).map(|offset| piece.word(first + offset as usize / 8)))
}

/// The word that holds the byte at `offset`.
#[inline(always)]
fn word(read: &[u64; MAX_PYTHON_READ / 8], offset: u32) -> u64 {
    read[offset as usize / 8 % read.len()]
}

/// Reads `size` bytes, fewer than there is room for; not zero if that fails.
#[inline(always)]
fn read_part(part: &mut [u64; MAX_PYTHON_READ / 8], size: u32, address: u64) -> i64 {
    // A mask is all that the verifier needs.
    let size = size & (MAX_PYTHON_READ as u32 - 1);
    // SAFETY: the helper copes with any user address; the verifier checks that there is room.
    unsafe { generated::bpf_probe_read_user(part.as_mut_ptr().cast(), size, address as *const _) }
}

#[inline(always)]
fn pointer(base: u64, offset: u32) -> Result<u64, PythonEnd> {
    let address = base.wrapping_add(u64::from(offset)) as *const u64;
    // SAFETY: the helper copes with any user address.
    unsafe { bpf_probe_read_user(address) }.map_err(|_| PythonEnd::UnreadableState)
}
