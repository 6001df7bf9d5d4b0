// SPDX-License-Identifier: Apache-2.0
//! Puts hits into the ring buffer, with what belongs to them.

use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str, bpf_ringbuf_query};
use tracer_common::{Counter, Hit, PAGE, PythonLayout, PythonStack, STACK_CLASSES, TEXT, TEXT_CUT, UNREADABLE_TEXT};

use crate::{
    maps::{EVENTS, STACK_ENDS, WAKEUP_BYTES, count, next_sequence},
    python,
};

/// `BPF_RB_AVAIL_DATA`: how many bytes wait in the ring.
const AVAILABLE: u64 = 0;
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;

/// A hit and what follows it in the same ring-buffer record.
#[repr(C)]
struct Record<const BYTES: usize> {
    hit: Hit,
    bytes: [u8; BYTES],
}

/// The part of a user stack that is worth copying.
#[derive(Clone, Copy)]
pub(crate) struct Stack {
    /// Start of the page that holds the stack pointer.
    start: u64,
    /// Pages up to the stack's end, or `None` if that is not known.
    pages: Option<u64>,
}

impl Stack {
    /// The stack of thread `tid` from `rsp` on.
    pub(crate) fn of(tid: u32, rsp: u64) -> Self {
        let start = rsp & !(PAGE as u64 - 1);
        // SAFETY: a value that changes while it is read is an address all the same.
        let end = unsafe { STACK_ENDS.get(tid) }.copied();
        let pages = match end {
            Some(end) if start < end => Some((end - start).div_ceil(PAGE as u64)),
            // The thread has switched to another stack, or its id was used again.
            _ => None,
        };
        Self { start, pages }
    }
}

/// Sends a hit alone.
pub(crate) fn plain(hit: &mut Hit) {
    hit.sequence = next_sequence();
    send_plain(hit);
}

/// Sends a hit with the C string at `text`.
pub(crate) fn text(hit: &mut Hit, text: u64) {
    hit.sequence = next_sequence();
    let Some(mut entry) = EVENTS.reserve::<Record<TEXT>>(0) else { return count(Counter::RingFull) };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` is ring memory of this very size, and ours until it is submitted.
    let length = unsafe { bpf_probe_read_user_str((&raw mut (*record).bytes).cast(), TEXT as u32, text as *const _) };
    match usize::try_from(length) {
        Ok(length) if (1..=TEXT).contains(&length) => {
            hit.text = length as u16 - 1;
            if length == TEXT {
                hit.flags |= TEXT_CUT;
            }
        }
        _ => hit.flags |= UNREADABLE_TEXT,
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*record).hit).write(*hit) };
    entry.submit(wakeup());
}

/// Sends a hit with its Python frames, and with a copy of the user stack, of the smallest class that holds it.
pub(crate) fn with_stack(hit: &mut Hit, stack: Stack, python: Option<&PythonLayout>) {
    const LARGEST: usize = STACK_CLASSES[STACK_CLASSES.len() - 1];
    hit.sequence = next_sequence();
    if let Some(layout) = python {
        send_python(hit.sequence, layout);
    }
    let pages = stack.pages.unwrap_or(LARGEST as u64);
    let sent = if pages <= STACK_CLASSES[0] as u64 {
        send_stack::<{ STACK_CLASSES[0] * PAGE }>(hit, stack.start)
    } else if pages <= STACK_CLASSES[1] as u64 {
        send_stack::<{ STACK_CLASSES[1] * PAGE }>(hit, stack.start)
    } else if pages <= STACK_CLASSES[2] as u64 {
        send_stack::<{ STACK_CLASSES[2] * PAGE }>(hit, stack.start)
    } else {
        send_stack::<{ LARGEST * PAGE }>(hit, stack.start)
    };
    if !sent {
        // The event matters more than its stack.
        hit.pages = 0;
        if send_plain(hit) {
            count(Counter::StackLost);
        }
    }
}

fn send_python(sequence: u64, layout: &PythonLayout) {
    let Some(mut entry) = EVENTS.reserve::<PythonStack>(0) else { return count(Counter::PythonCut) };
    // SAFETY: this is ring memory of this very size, ours until it is submitted, and any bytes are a `PythonStack`.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.sequence = sequence;
    python::walk(layout, record);
    // The hit itself comes next, and wakes if it must.
    entry.submit(NO_WAKEUP);
}

fn send_plain(hit: &Hit) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Hit>(0) else {
        count(Counter::RingFull);
        return false;
    };
    entry.write(*hit);
    entry.submit(wakeup());
    true
}

/// Reserves the record first and copies page by page into it, up to the first page that can't be read: the stack's end.
#[inline(always)]
fn send_stack<const BYTES: usize>(hit: &mut Hit, start: u64) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Record<BYTES>>(0) else { return false };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` is ring memory of this very size, and ours until it is submitted.
    let bytes: *mut u8 = unsafe { &raw mut (*record).bytes }.cast();
    let mut pages = 0;
    for page in 0..BYTES / PAGE {
        let offset = page * PAGE;
        // SAFETY: `offset + PAGE` is within the record; the helper copes with any user address.
        let result =
            unsafe { bpf_probe_read_user(bytes.add(offset).cast(), PAGE as u32, (start + offset as u64) as *const _) };
        if result != 0 {
            break;
        }
        pages += 1;
    }
    hit.pages = pages;
    // SAFETY: as above.
    unsafe { (&raw mut (*record).hit).write(*hit) };
    entry.submit(wakeup());
    true
}

/// Waking user space costs the target: only when enough waits.
fn wakeup() -> u64 {
    // SAFETY: the map is a ring buffer.
    let waiting = unsafe { bpf_ringbuf_query((&raw const EVENTS).cast_mut().cast(), AVAILABLE) };
    if waiting < WAKEUP_BYTES.load() { NO_WAKEUP } else { FORCE_WAKEUP }
}
