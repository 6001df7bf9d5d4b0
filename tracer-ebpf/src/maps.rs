// SPDX-License-Identifier: Apache-2.0
//! The maps, and the few accesses to them.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    Global,
    bindings::BPF_F_INNER_MAP,
    btf_maps,
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_common::{
    Counter, Epoch, FIRST_FORKED, HAS_HIT, LinkerState, MAX_FOLLOWED, MAX_LIVE_TARGETS, MAX_SITES, MAX_TARGETS,
    NOT_WATCHED, PythonLayout, QUIET, StackHash, Target, TaskLayout,
};
use tracer_unwind::{
    rule::Rule,
    space::{MAX_TABLES, NO_EPOCH, NO_SPACE, Space},
    table::Block,
};

use crate::{
    native::{KNOWN_RULES, Known},
    scratch::LEVELS,
};

/// Hits on their way to user space; sized by it before loading.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 26, 0);

/// The traced processes, by thread group id.
#[map]
static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(MAX_LIVE_TARGETS, 0);

/// The processes whose children are followed, targets or not, by thread group id: [`QUIET`], or [`HAS_HIT`].
#[map]
static FOLLOWED: HashMap<u32, u32> = HashMap::with_max_entries(MAX_FOLLOWED, 0);

/// Where the traced processes' interpreters keep their frames, by thread group id.
#[map]
static PYTHONS: HashMap<u32, PythonLayout> = HashMap::with_max_entries(MAX_LIVE_TARGETS, 0);

/// The epoch of a target's modules, by its number.
#[map]
static EPOCHS: Array<u64> = Array::with_max_entries(MAX_TARGETS, 0);

/// A value of an inner map, which must not be a struct: up to Linux 6.1, a map with type information whose values are
/// structs equals none that is made without type information, and would not take one.
type Inner<T> = [T; 1];

/// Where a target's modules are, by its number: an array of one, because user space replaces it whole.
#[btf_map]
static SPACES: btf_maps::ArrayOfMaps<btf_maps::Array<Inner<Space>, 1>, { MAX_TARGETS as usize }> =
    btf_maps::ArrayOfMaps::new();

/// The unwind tables, by their number. What a number stands for never changes.
#[btf_map]
static TABLES: btf_maps::ArrayOfMaps<
    btf_maps::Array<Inner<Block>, 1, { BPF_F_INNER_MAP as usize }>,
    { MAX_TABLES as usize },
> = btf_maps::ArrayOfMaps::new();

/// The rules that tables refer to, by their number.
#[map]
static RULES: Array<Rule> = Array::with_max_entries(1 << 16, 0);

/// Rows found before: table, program counter and rule number in one word, so that it is read and written whole.
#[map]
static REMEMBERED: Array<u64> = Array::with_max_entries(1 << 16, 0);

/// The rules of the addresses that were met last, for each level of [`crate::scratch`]: one look instead of three, for range,
/// row and rule.
#[map]
static KNOWN: PerCpuArray<[Known; KNOWN_RULES]> = PerCpuArray::with_max_entries(LEVELS, 0);

/// How often a target has freed a code object of Python, by its number.
#[map]
static CODES_FREED: Array<u64> = Array::with_max_entries(MAX_TARGETS, 0);

/// Python code objects seen before, by any hash of their address: see `python::identify`.
#[map]
static CODES: Array<[u64; 2]> = Array::with_max_entries(1 << 16, 0);

/// The numbers of stacks that user space has, each below half of the stack's hash, in one word that is read and written
/// whole. What is forgotten gets a new number, and is sent once more.
#[map]
static STACK_IDS: LruHashMap<StackHash, u64> = LruHashMap::with_max_entries(1 << 16, 0);

/// The next sequence number, the last stack number, and how many children were numbered.
#[map]
static NUMBERS: Array<u64> = Array::with_max_entries(3, 0);

/// By [`Counter`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// Hits of each site, before any filter.
#[map]
static SITE_HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_SITES, 0);

/// Where a thread's stack ends, written by user space once it has walked one; what is forgotten is copied larger.
#[map]
pub(crate) static STACK_ENDS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(16_384, 0);

/// Bytes waiting in the ring from which on user space is woken; below, it looks by itself some twenty times a second.
#[unsafe(no_mangle)]
pub(crate) static WAKEUP_BYTES: Global<u64> = Global::new(1 << 22);

/// Whether rows are remembered at all: not, where it is measured what that is worth.
#[unsafe(no_mangle)]
static REMEMBER: Global<u8> = Global::new(1);

/// What stack hashes begin with: random for each recording, so that nobody can make two stacks with the same one.
#[unsafe(no_mangle)]
static HASH_KEY: Global<[u64; 2]> = Global::new([0, 0]);

/// Where the kernel keeps what tells of processes.
#[unsafe(no_mangle)]
static TASK: Global<TaskLayout> = Global::new(TaskLayout::UNKNOWN);

/// Where the kernel keeps what tells of processes.
pub(crate) fn task_layout() -> TaskLayout {
    TASK.load()
}

/// A traced process.
pub(crate) fn target(tgid: u32) -> Option<&'static Target> {
    // SAFETY: user space writes an entry once and never changes it. A program that has found one which is then removed
    // may read it to its own end: the kernel gives the memory to nobody else before.
    unsafe { TARGETS.get(tgid) }
}

/// Whether the children of a process are followed.
pub(crate) fn is_followed(tgid: u32) -> bool {
    // The value is looked at: of two pointers alone LLVM would make one, which the verifier prohibits.
    // Nor is it compared as an `Option`: where there is none, that would read what nobody wrote.
    // SAFETY: of no value anything is assumed; one that goes away while it is read was there.
    unsafe { FOLLOWED.get(tgid) }.copied().unwrap_or(0) != 0
}

/// Notes that a process hits a probe that is no target: whether it is followed, and may be one later.
pub(crate) fn note_hit(tgid: u32) -> bool {
    let Some(state) = FOLLOWED.get_ptr_mut(tgid) else { return false };
    // SAFETY: the pointer is to an aligned map value, a word that is written whole.
    unsafe { state.write_volatile(HAS_HIT) };
    true
}

/// Notes that a process executes another program, which has hit no probe.
pub(crate) fn quiet(tgid: u32) {
    if let Some(state) = FOLLOWED.get_ptr_mut(tgid) {
        // SAFETY: as in `note_hit`.
        unsafe { state.write_volatile(QUIET) };
    }
}

/// Follows a process that was forked from a followed one.
pub(crate) fn follow(tgid: u32) {
    if FOLLOWED.insert(tgid, QUIET, 0).is_err() {
        count(Counter::NotFollowed);
    }
}

/// Makes the forked child of a target a target of its own, with the same layouts, and the modules that its parent has now:
/// its number, or 0 if there is no room.
#[inline(always)]
pub(crate) fn add_child(parent: &Target, modules: &Modules, parent_tgid: u32, tgid: u32) -> u32 {
    let number = FIRST_FORKED + next_number(2) as u32;
    let (inherits, inherited_epoch) = (modules.space, modules.space_epoch);
    let child = Target { number, inherits, inherited_epoch, ..*parent };
    if number >= MAX_TARGETS || TARGETS.insert(tgid, child, 0).is_err() {
        count(Counter::NotFollowed);
        return 0;
    }
    // Now it is at `Epoch::FIRST_OWN`.
    next_epoch(&child, LinkerState::Other);
    if let Some(layout) = python(parent_tgid) {
        // No probe in the child tells yet when its code objects are freed. Without an entry there are no Python frames.
        let _ = PYTHONS.insert(tgid, PythonLayout { watched_from: NOT_WATCHED, ..*layout }, 0);
    }
    number
}

/// Follows a process no more that has ended: its id may be given to another.
pub(crate) fn forget(tgid: u32, was_target: bool) {
    // SAFETY: as in `is_followed`.
    let state = unsafe { FOLLOWED.get(tgid) }.copied().unwrap_or(0);
    if state == HAS_HIT && !was_target {
        count(Counter::Unrecorded);
    }
    let _ = FOLLOWED.remove(tgid);
    remove_target(tgid);
}

/// Forgets a process that is another program now.
pub(crate) fn remove_target(tgid: u32) {
    // It fails only if user space was faster.
    let _ = TARGETS.remove(tgid);
    let _ = PYTHONS.remove(tgid);
}

/// Where the interpreter of a traced process keeps its frames, if it has one whose frames can be read.
pub(crate) fn python(tgid: u32) -> Option<&'static PythonLayout> {
    // SAFETY: who reads it copies it at once, and of what changes in it, one word, either value will do.
    unsafe { PYTHONS.get(tgid) }
}

/// The modules of a target at a moment.
pub(crate) struct Modules {
    /// The number of the target of which is known where they are: not this one, if it was born with them.
    pub(crate) space: u32,
    /// The epoch that is theirs there.
    pub(crate) space_epoch: Epoch,
    /// The number of the space that tells where they are; [`NO_SPACE`] if none does.
    pub(crate) space_number: u32,
    /// The epoch that is theirs here.
    pub(crate) epoch: Epoch,
}

/// The modules that a target has now. Those of a forked child are its parent's, as they were at the fork, until its own
/// are known.
#[inline(always)]
pub(crate) fn modules(target: &Target) -> Modules {
    let epoch = Epoch(EPOCHS.get(target.number).copied().unwrap_or(0));
    // An epoch is compared, not whether there is one: see `is_followed`.
    let known = space(target.number).map_or(NO_EPOCH, |space| space.epoch);
    if target.inherits != 0 && epoch == Epoch::FIRST_OWN && known == NO_EPOCH {
        let (space, space_epoch) = (target.inherits, target.inherited_epoch);
        return Modules { space, space_epoch, space_number: space_number(space, space_epoch), epoch: Epoch::INHERITED };
    }
    let space_number = space_number(target.number, epoch);
    Modules { space: target.number, space_epoch: epoch, space_number, epoch }
}

/// The number of the space that tells where a target's modules are at an epoch, or [`NO_SPACE`].
#[inline(always)]
fn space_number(target: u32, epoch: Epoch) -> u32 {
    space(target).map_or(NO_SPACE, |space| if space.epoch == epoch.0 { space.number } else { NO_SPACE })
}

/// The rules of the addresses that were met last on this level.
#[inline(always)]
pub(crate) fn known(level: u32) -> Option<&'static mut [Known; KNOWN_RULES]> {
    // SAFETY: as in `scratch::at`.
    KNOWN.get_ptr_mut(level).map(|known| unsafe { &mut *known })
}

/// Notes that the modules of a target change. The dynamic linker changes them under a lock, so that nobody else does meanwhile.
pub(crate) fn next_epoch(target: &Target, state: LinkerState) {
    if let Some(epoch) = EPOCHS.get_ptr_mut(target.number) {
        // SAFETY: as in `add_to`.
        unsafe { *epoch = Epoch(*epoch).next(state).0 };
    }
}

/// How often a target has freed a code object of Python, by its number.
pub(crate) fn codes_freed(target: u32) -> u64 {
    CODES_FREED.get(target).copied().unwrap_or(0)
}

/// Notes that a target frees a code object of Python.
pub(crate) fn count_freed_code(target: &Target) {
    increment(CODES_FREED.get_ptr_mut(target.number));
}

/// Where a code object is remembered, by any hash of its address.
#[inline(always)]
pub(crate) fn code(hash: u32) -> Option<*mut [u64; 2]> {
    CODES.get_ptr_mut(hash & 0xffff)
}

/// Where the modules of a target are, by its number.
#[inline(always)]
pub(crate) fn space(target: u32) -> Option<&'static Space> {
    SPACES.get_value(target, &0).map(|[space]| space)
}

/// A block of an unwind table.
#[inline(always)]
pub(crate) fn block(table: u32, number: u32) -> Option<&'static Block> {
    TABLES.get_value(table, &number).map(|[block]| block)
}

/// A rule, by its number.
#[inline(always)]
pub(crate) fn rule(number: u32) -> Option<&'static Rule> {
    RULES.get(number)
}

/// Whether rows are remembered.
#[inline(always)]
pub(crate) fn remembers() -> bool {
    REMEMBER.load() != 0
}

/// Where a row is remembered, by any hash of it.
#[inline(always)]
pub(crate) fn remembered(hash: u32) -> Option<*mut u64> {
    REMEMBERED.get_ptr_mut(hash & 0xffff)
}

/// The number of a stack that user space has.
pub(crate) fn stack_id(hash: &StackHash) -> Option<u32> {
    // SAFETY: the kernel may give what was found to another stack while it is read; then the check is not right.
    let known = unsafe { STACK_IDS.get(hash) }.copied()?;
    (known >> 32 == check(hash)).then_some(known as u32)
}

/// Notes that user space has a stack. If that fails, it is sent again next time.
pub(crate) fn remember_stack(hash: &StackHash, id: u32) {
    let _ = STACK_IDS.insert(hash, check(hash) << 32 | u64::from(id), 0);
}

fn check(hash: &StackHash) -> u64 {
    hash.0[0] >> 32
}

/// What the hash of a stack begins with.
pub(crate) fn hash_key() -> StackHash {
    StackHash(HASH_KEY.load())
}

/// Counts one: atomic, because a probe can be preempted by another one on the same CPU.
pub(crate) fn count(counter: Counter) {
    add(counter, 1);
}

/// Counts several.
pub(crate) fn add(counter: Counter, count: u64) {
    add_to(COUNTERS.get_ptr_mut(counter as u32), count);
}

/// Counts a hit of a site.
pub(crate) fn count_site(site: u16) {
    increment(SITE_HITS.get_ptr_mut(u32::from(site)));
}

fn increment(slot: Option<*mut u64>) {
    add_to(slot, 1);
}

fn add_to(slot: Option<*mut u64>, count: u64) {
    if let Some(slot) = slot {
        // SAFETY: the pointer is to an aligned map value, which lives as long as the program.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(slot, count) };
    }
}

/// Takes the next sequence number.
pub(crate) fn next_sequence() -> u64 {
    count(Counter::Sent);
    next_number(0)
}

/// Takes the next stack number, from 1.
pub(crate) fn next_stack() -> u32 {
    next_number(1) as u32 + 1
}

/// An intrinsic, because the kernel's instruction set has this addition but no compare-and-swap, and `AtomicU64` has its
/// methods only where both exist. Not relaxed: for that LLVM chooses the instruction that returns nothing.
fn next_number(slot: u32) -> u64 {
    match NUMBERS.get_ptr_mut(slot) {
        // SAFETY: as in `add_to`.
        Some(next) => unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(next, 1) },
        None => 0,
    }
}
