// SPDX-License-Identifier: Apache-2.0
//! Puts hits into the ring buffer, each behind what belongs to it.

use aya_ebpf::helpers::generated::{
    bpf_probe_read_user, bpf_probe_read_user_str, bpf_ringbuf_output, bpf_ringbuf_query,
};
use tracer_common::{
    CopyHead, Counter, Hit, MAX_FRAMES, MAX_PYTHON_FRAMES, NATIVE_LOST, NativeFrame, PAGE, PYTHON_LOST, PythonFrame,
    Registers, STACK_CLASSES, StackHash, TEXT, TEXT_CUT, Tag, Target, TextHead, UNREADABLE_TEXT,
};
use tracer_unwind::walk::Stop;

use crate::{
    maps::{self, EVENTS, STACK_ENDS, WAKEUP_BYTES, count, next_sequence},
    native, python, scratch,
};

/// `BPF_RB_AVAIL_DATA`: how many bytes wait in the ring.
const AVAILABLE: u64 = 0;
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
/// Bytes of a [`tracer_common::NativeStack`] or [`tracer_common::PythonStack`] before its frames.
const STACK_HEAD: usize = 16;

/// A head and what follows it in the same ring-buffer record.
#[repr(C)]
struct Record<Head, const BYTES: usize> {
    head: Head,
    bytes: [u8; BYTES],
}

/// Sends a hit alone.
pub(crate) fn plain(hit: &mut Hit) {
    hit.sequence = next_sequence();
    send(hit, wakeup());
}

/// Sends a hit alone that user space should look at now: it reads from processes that may not last, or have changed.
pub(crate) fn urgent(hit: &mut Hit) {
    hit.sequence = next_sequence();
    send(hit, FORCE_WAKEUP);
}

/// Sends a hit with the C string at `text`.
pub(crate) fn text(hit: &mut Hit, text: u64) {
    hit.sequence = next_sequence();
    send_text(hit, text);
    send(hit, wakeup());
}

/// Sends a hit with its stack, walked in the scratch memory of this level.
#[inline(always)]
pub(crate) fn with_stack(hit: &mut Hit, level: u32, registers: &Registers, target: &Target) {
    hit.sequence = next_sequence();
    native_stack(hit, level, registers, target);
    let mut new = false;
    if maps::python(hit.tgid).is_some() {
        new = python_stack(hit, level, target);
    }
    // Names of Python code are read from the process, which may not have them, or not be there, for long.
    send(hit, if new { FORCE_WAKEUP } else { wakeup() });
}

#[inline(always)]
fn native_stack(hit: &mut Hit, level: u32, registers: &Registers, target: &Target) {
    native::walk(level, target, registers);
    let Some(scratch) = scratch::at(level) else { return };
    let stack = &mut scratch.native;
    if (target.copies != 0 || Stop::wants_copy(stack.stop)) && !send_copy(hit, stack.epoch, registers) {
        count(Counter::StackLost);
    }
    hit.native = match maps::stack_id(&scratch.hash) {
        Some(id) => id,
        None => {
            stack.tag = Tag::NativeStack as u8;
            stack.tgid = hit.tgid;
            stack.id = maps::next_stack();
            let frames = (stack.count as usize).min(MAX_FRAMES) * size_of::<NativeFrame>();
            // Until the table is loaded that is missing, stacks are copied.
            let wakeup = if stack.stop == Stop::NotLoaded as u8 { FORCE_WAKEUP } else { NO_WAKEUP };
            send_stack((&raw const *stack).cast(), frames, &scratch.hash, stack.id, wakeup)
        }
    };
    if hit.native == 0 {
        hit.flags |= NATIVE_LOST;
    }
}

/// Whether it is a stack that user space did not have.
#[inline(always)]
fn python_stack(hit: &mut Hit, level: u32, target: &Target) -> bool {
    python::walk(level, target.number, hit.tgid);
    let Some(scratch::Python { hash, stack, .. }) = scratch::python(level) else { return false };
    let known = maps::stack_id(hash);
    hit.python = match known {
        Some(id) => id,
        None => {
            stack.tag = Tag::PythonStack as u8;
            stack.tgid = hit.tgid;
            stack.id = maps::next_stack();
            let frames = (stack.count as usize).min(MAX_PYTHON_FRAMES) * size_of::<PythonFrame>();
            // The hit comes next, and calls.
            send_stack((&raw const *stack).cast(), frames, hash, stack.id, NO_WAKEUP)
        }
    };
    if hit.python == 0 {
        hit.flags |= PYTHON_LOST;
    }
    known.is_none()
}

/// Sends a stack that user space does not have, cut behind its frames: its number, or 0 if there is no room.
///
/// Only what was sent is remembered, so a stack without room is sent with the next hit that has it.
#[inline(always)]
fn send_stack(stack: *const u8, frames: usize, hash: &StackHash, id: u32, wakeup: u64) -> u32 {
    // SAFETY: the verifier checks that there are so many bytes.
    let result = unsafe {
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            stack.cast_mut().cast(),
            (STACK_HEAD + frames) as u64,
            wakeup,
        )
    };
    if result != 0 {
        count(Counter::StackLost);
        return 0;
    }
    count(Counter::NewStacks);
    maps::remember_stack(hash, id);
    id
}

/// Sends a copy of the stack, of the smallest class that holds it. Whether there was room.
#[inline(always)]
fn send_copy(hit: &Hit, epoch: u32, registers: &Registers) -> bool {
    const LARGEST: usize = STACK_CLASSES[STACK_CLASSES.len() - 1];
    let start = registers.rsp & !(PAGE as u64 - 1);
    // SAFETY: a value that changes while it is read is an address all the same.
    let pages = match unsafe { STACK_ENDS.get(hit.tid) }.copied() {
        Some(end) if start < end => (end - start).div_ceil(PAGE as u64),
        // Not known, or the thread has switched to another stack, or its id was used again.
        _ => LARGEST as u64,
    };
    let (tag, sequence, tgid, registers) = (Tag::Copy as u8, hit.sequence, hit.tgid, *registers);
    let head = CopyHead { tag, epoch, sequence, tgid, registers, ..CopyHead::default() };
    count(Counter::Copied);
    if pages <= STACK_CLASSES[0] as u64 {
        copy::<{ STACK_CLASSES[0] * PAGE }>(head, start)
    } else if pages <= STACK_CLASSES[1] as u64 {
        copy::<{ STACK_CLASSES[1] * PAGE }>(head, start)
    } else if pages <= STACK_CLASSES[2] as u64 {
        copy::<{ STACK_CLASSES[2] * PAGE }>(head, start)
    } else {
        copy::<{ LARGEST * PAGE }>(head, start)
    }
}

/// Reserves the record first and copies page by page into it, up to the first page that can't be read: the stack's end.
#[inline(always)]
fn copy<const BYTES: usize>(mut head: CopyHead, start: u64) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Record<CopyHead, BYTES>>(0) else { return false };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` is ring memory of this very size, and ours until it is submitted.
    let bytes: *mut u8 = unsafe { &raw mut (*record).bytes }.cast();
    for page in 0..BYTES / PAGE {
        let offset = page * PAGE;
        // SAFETY: `offset + PAGE` is within the record; the helper copes with any user address.
        let result =
            unsafe { bpf_probe_read_user(bytes.add(offset).cast(), PAGE as u32, (start + offset as u64) as *const _) };
        if result != 0 {
            break;
        }
        head.pages += 1;
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*record).head).write(head) };
    entry.submit(NO_WAKEUP);
    true
}

fn send_text(hit: &mut Hit, text: u64) {
    let Some(mut entry) = EVENTS.reserve::<Record<TextHead, TEXT>>(0) else {
        hit.flags |= UNREADABLE_TEXT;
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` is ring memory of this very size, and ours until it is submitted.
    let length = unsafe { bpf_probe_read_user_str((&raw mut (*record).bytes).cast(), TEXT as u32, text as *const _) };
    let length = match usize::try_from(length) {
        Ok(length) if (1..=TEXT).contains(&length) => {
            if length == TEXT {
                hit.flags |= TEXT_CUT;
            }
            length as u16 - 1
        }
        _ => {
            hit.flags |= UNREADABLE_TEXT;
            0
        }
    };
    let head = TextHead { tag: Tag::Text as u8, length, sequence: hit.sequence, ..TextHead::default() };
    // SAFETY: as above.
    unsafe { (&raw mut (*record).head).write(head) };
    entry.submit(NO_WAKEUP);
}

fn send(hit: &Hit, wakeup: u64) {
    let Some(mut entry) = EVENTS.reserve::<Hit>(0) else { return count(Counter::RingFull) };
    entry.write(*hit);
    entry.submit(wakeup);
}

/// Waking user space costs the target: only when enough waits.
fn wakeup() -> u64 {
    // SAFETY: the map is a ring buffer.
    let waiting = unsafe { bpf_ringbuf_query((&raw const EVENTS).cast_mut().cast(), AVAILABLE) };
    if waiting < WAKEUP_BYTES.load() { NO_WAKEUP } else { FORCE_WAKEUP }
}
