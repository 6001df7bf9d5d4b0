// SPDX-License-Identifier: Apache-2.0
//! Walks the Python frames of the thread that hit a probe.
//!
//! The thread state is the one that the thread itself keeps, never that of whoever holds the interpreter's lock: a
//! thread without one, such as a C++ worker, has no Python frames.

use aya_ebpf::helpers::{
    bpf_probe_read_kernel, bpf_probe_read_user,
    generated::{self, bpf_get_current_task},
};
use tracer_common::{Counter, MAX_PYTHON_READ, NO_OFFSET, PythonEnd, PythonLayout, StackHash, checksum};

use crate::{
    maps,
    scratch::{self, Scratch},
    window::Window,
};

/// Fills the scratch's Python stack, and its hash. The thread must be of process `tgid`, which is target `number`.
///
/// A function of its own, with numbers as its arguments, is verified once, and not for each way that leads to it.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn python_walk(level: u32, number: u32, tgid: u32) -> u32 {
    let Some(scratch) = scratch::at(level) else { return 0 };
    let Some(layout) = maps::python(tgid) else { return 0 };
    let mut hash = maps::hash_key();
    hash.add(u64::from(number) << 32 | 1);
    let (count, end) = match innermost(layout) {
        Ok(frame) => walk_from(layout, frame, scratch, &mut hash),
        Err(end) => (0, end),
    };
    scratch.python.count = count;
    scratch.python.end = end as u8;
    hash.add(end as u64);
    scratch.hash = hash;
    maps::add(Counter::PythonFrames, u64::from(count));
    if end.is_cut() {
        maps::count(Counter::PythonCut);
    }
    0
}

/// The address of the innermost frame of this thread, 0 if it runs no Python code.
#[inline(always)]
fn innermost(layout: &PythonLayout) -> Result<u64, PythonEnd> {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: the helper copes with any kernel address.
    let fsbase = unsafe { bpf_probe_read_kernel((task + u64::from(layout.fsbase)) as *const u64) };
    let fsbase = fsbase.map_err(|_| PythonEnd::UnreadableState)?;
    let state = pointer(fsbase, layout.slot)?;
    if state == 0 {
        return Err(PythonEnd::NoThreadState);
    }
    if pointer(state, layout.thread_id)? != fsbase {
        return Err(PythonEnd::OtherThread);
    }
    let holder = match layout.cframe {
        NO_OFFSET => state,
        offset => pointer(state, offset)?,
    };
    pointer(holder, layout.current_frame)
}

#[inline(always)]
fn walk_from(layout: &PythonLayout, innermost: u64, scratch: &mut Scratch, hash: &mut StackHash) -> (u16, PythonEnd) {
    let Scratch { python, read, window, .. } = scratch;
    window.forget();
    let mut frame = innermost;
    let mut count = 0;
    for captured in &mut python.frames {
        if frame == 0 {
            return (count, PythonEnd::Complete);
        }
        let Some([code, instruction, mark, previous]) = read_frame(layout, frame, window, &mut read.frame) else {
            return (count, PythonEnd::UnreadableFrame);
        };
        // What can't be read becomes zeros: user space then finds that the checksum is not right.
        read_part(&mut read.code, layout.code_size, code.wrapping_add(u64::from(layout.counts)));
        let part = |start: u32| [0, 8, 16, 24].map(|offset| word(&read.code, start + offset));
        captured.code = code;
        captured.instruction = instruction;
        captured.checksum = checksum(&part(0), &part(layout.names));
        captured.mark = (mark >> (layout.mark % 8 * 8)) as u32 & 0xff;
        hash.add(code);
        hash.add(instruction);
        hash.add(u64::from(captured.checksum) << 8 | u64::from(captured.mark));
        count += 1;
        frame = previous;
    }
    let end = if frame == 0 { PythonEnd::Complete } else { PythonEnd::TooManyFrames };
    (count, end)
}

/// The words of a frame that are of interest: code, instruction, mark, and the caller's frame.
///
/// Frames of functions that call each other are next to each other, from 3.11 on.
#[inline(always)]
fn read_frame(
    layout: &PythonLayout,
    frame: u64,
    window: &mut Window,
    alone: &mut [u64; MAX_PYTHON_READ / 8],
) -> Option<[u64; 4]> {
    let offsets = [layout.code, layout.instruction, layout.mark, layout.previous];
    if let Some(first) = window.find(frame, layout.frame_size) {
        return Some(offsets.map(|offset| window.word(first + offset as usize / 8)));
    }
    let unreadable = read_part(alone, layout.frame_size, frame) != 0;
    (!unreadable).then(|| offsets.map(|offset| word(alone, offset)))
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
