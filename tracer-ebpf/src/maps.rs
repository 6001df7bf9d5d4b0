// SPDX-License-Identifier: Apache-2.0
//! The maps, and the few accesses to them.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_common::{Counter, Layout, MAX_SITES, PythonLayout};

/// Hits on their way to user space; sized by it before loading.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 26, 0);

/// The traced processes, by thread group id.
#[map]
static TARGETS: HashMap<u32, Layout> = HashMap::with_max_entries(64, 0);

/// Where the traced processes' interpreters keep their frames, by thread group id.
#[map]
static PYTHONS: HashMap<u32, PythonLayout> = HashMap::with_max_entries(64, 0);

/// The next sequence number.
#[map]
static SEQUENCE: Array<u64> = Array::with_max_entries(1, 0);

/// By [`Counter`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// Hits of each site, before any filter.
#[map]
static SITE_HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_SITES, 0);

/// Where a thread's stack ends, written by user space once it has walked one; what is forgotten is copied larger.
#[map]
pub(crate) static STACK_ENDS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(16_384, 0);

/// Bytes waiting in the ring from which on user space is woken; below, it looks by itself every few milliseconds.
#[unsafe(no_mangle)]
pub(crate) static WAKEUP_BYTES: Global<u64> = Global::new(1 << 22);

/// The layout of a traced process.
pub(crate) fn layout(tgid: u32) -> Option<&'static Layout> {
    // SAFETY: user space writes an entry once and never changes it. A program that has found one which is then removed
    // may read it to its own end: the kernel gives the memory to nobody else before.
    unsafe { TARGETS.get(tgid) }
}

/// Where the interpreter of a traced process keeps its frames, if it has one whose frames can be read.
pub(crate) fn python(tgid: u32) -> Option<&'static PythonLayout> {
    // SAFETY: as in `layout`.
    unsafe { PYTHONS.get(tgid) }
}

/// Counts one: atomic, because a probe can be preempted by another one on the same CPU.
pub(crate) fn count(counter: Counter) {
    increment(COUNTERS.get_ptr_mut(counter as u32));
}

/// Counts a hit of a site.
pub(crate) fn count_site(site: u16) {
    increment(SITE_HITS.get_ptr_mut(u32::from(site)));
}

fn increment(slot: Option<*mut u64>) {
    if let Some(slot) = slot {
        // SAFETY: the pointer is to an aligned map value, which lives as long as the program.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(slot, 1) };
    }
}

/// Takes the next sequence number.
///
/// An intrinsic, because the kernel's instruction set has this addition but no compare-and-swap, and `AtomicU64` has its
/// methods only where both exist. Not relaxed: for that LLVM chooses the instruction that returns nothing.
pub(crate) fn next_sequence() -> u64 {
    count(Counter::Sent);
    match SEQUENCE.get_ptr_mut(0) {
        // SAFETY: as in `increment`.
        Some(next) => unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(next, 1) },
        None => 0,
    }
}
