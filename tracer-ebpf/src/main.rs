// SPDX-License-Identifier: Apache-2.0
//! The kernel side: capture only, no meaning.
//!
//! One uprobe program serves every site; what a site means travels in its attach cookie. Stacks are walked here, native
//! and Python, and a stack that user space has travels as a number. Nothing is paired, filtered or decided here, but for
//! two things that save the target time: `~Buffer` is forwarded only for owners that were deallocated before, marks set in
//! line only for owners, and `setenv` only for pytest's variable.

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the kernel's atomic addition has no stable name; see maps::next_sequence")]
#![allow(missing_docs, unreachable_pub, reason = "the macros' generated wrappers have no docs and must be public")]

mod emit;
mod maps;
mod native;
mod object;
mod python;
mod scratch;
mod task;
mod window;

use core::hint::black_box;

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_user_buf,
        generated::{bpf_get_attach_cookie, bpf_ktime_get_boot_ns},
    },
    macros::{raw_tracepoint, uprobe},
    programs::{ProbeContext, RawTracePointContext},
};
use aya_log_ebpf::debug;
use tracer_common::{Cookie, Counter, Hit, Kind, NATIVE_LOST, PYTHON_LOST, Registers, TEST_VARIABLE, Target};

use crate::{maps::count, scratch::Claim};

/// Entry of a probed function.
#[uprobe]
pub fn probe(ctx: ProbeContext) -> u32 {
    try_probe(&ctx);
    0
}

/// Does nothing: what a hit costs by itself, for `cargo xtask bench`.
#[uprobe]
pub fn empty(_: ProbeContext) -> u32 {
    0
}

/// A thread ends: `sched_process_exit`, with its task.
#[raw_tracepoint]
pub fn thread_exit(ctx: RawTracePointContext) -> i32 {
    let (tgid, tid) = current();
    let target = maps::target(tgid).is_some();
    if target {
        let mut hit = begin(Kind::ThreadExit, tgid, tid);
        emit::plain(&mut hit);
        debug!(&ctx, "thread {} ends", tid);
    }
    if (target || maps::is_followed(tgid)) && task::is_last_thread(ctx.arg(0)) {
        maps::forget(tgid, target);
    }
    0
}

/// A process or a thread is made: `sched_process_fork`, with the tasks of the parent and of the child, which does not
/// run yet.
#[raw_tracepoint]
pub fn fork(ctx: RawTracePointContext) -> i32 {
    let (tgid, tid) = current();
    let (target, followed) = (maps::target(tgid), maps::is_followed(tgid));
    if target.is_none() && !followed {
        return 0;
    }
    let Some(child) = task::tgid(ctx.arg(1)).filter(|&child| child != tgid) else { return 0 };
    let mut hit = begin(Kind::Fork, tgid, tid);
    hit.object = u64::from(child);
    if followed {
        maps::follow(child);
        if let Some(parent) = target {
            let modules = maps::modules(parent);
            hit.address = modules.epoch.0;
            hit.size = u64::from(maps::add_child(parent, &modules, tgid, child));
        }
    }
    emit::urgent(&mut hit);
    0
}

/// A process executes another program: `sched_process_exec`.
#[raw_tracepoint]
pub fn exec(ctx: RawTracePointContext) -> i32 {
    let (tgid, tid) = current();
    if maps::target(tgid).is_some() || maps::is_followed(tgid) {
        maps::remove_target(tgid);
        maps::quiet(tgid);
        let mut hit = begin(Kind::Exec, tgid, tid);
        emit::urgent(&mut hit);
        debug!(&ctx, "process {} is another program now", tgid);
    }
    0
}

fn try_probe(ctx: &ProbeContext) {
    // SAFETY: the context is the one that the kernel gave to this program.
    let bits = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let Some(cookie) = Cookie::unpack(bits) else { return };
    let (tgid, tid) = current();
    // perf filters by address space, which a child made by vfork or clone(CLONE_VM) shares, or not at all, so that
    // children are followed from their first instruction on.
    let Some(target) = maps::target(tgid) else {
        // It may be one later, or should have been.
        if !maps::note_hit(tgid) {
            count(Counter::OtherProcess);
        }
        return;
    };
    maps::count_site(cookie.site);

    let mut hit = begin(cookie.kind, tgid, tid);
    hit.site = cookie.site as u8;
    let [first, second] = arguments(ctx);
    let argument = if cookie.argument == 0 { first } else { second };
    hit.object = argument;
    match cookie.kind {
        Kind::TestBegin => {
            if names_test(argument) {
                emit::text(&mut hit, second);
            }
            return;
        }
        Kind::TestEnd => {
            if names_test(argument) {
                emit::plain(&mut hit);
            }
            return;
        }
        Kind::Modules => {
            maps::next_epoch(target, object::linker_state(target.linker));
            return emit::urgent(&mut hit);
        }
        Kind::CodeFreed => return python::forget_code(target, argument),
        Kind::Bank => hit.size = second,
        _ => return try_object(ctx, &mut hit, cookie, target),
    }
    emit::plain(&mut hit);
}

/// Entry of a function that is about a buffer, an allocator or a device.
#[inline(always)]
fn try_object(ctx: &ProbeContext, hit: &mut Hit, cookie: Cookie, target: &Target) {
    let layout = &target.layout;
    match cookie.kind {
        Kind::Destroyed => {
            if !object::is_deallocated_owner(hit.object, layout) {
                return count(Counter::Filtered);
            }
            object::read_buffer(hit, layout);
        }
        // Here the device is alive: the target has just called it.
        Kind::Request | Kind::Allocated | Kind::Released => {
            object::read_buffer(hit, layout);
            object::read_device(hit, hit.device, layout);
        }
        // Here it may be gone: its id is known from the allocation.
        Kind::Free => object::read_buffer(hit, layout),
        // Here, too; but an alias has no allocation on record. What is gone has no device's table of functions any more.
        Kind::Marked => {
            object::read_buffer(hit, layout);
            if cookie.owners && hit.flags == 0 && hit.owns != 1 {
                return count(Counter::Filtered);
            }
            let flags = hit.flags;
            object::read_device(hit, hit.device, layout);
            hit.flags = flags;
        }
        Kind::DeviceOpen | Kind::DeviceClose => object::read_device(hit, hit.object, layout),
        // There is no object yet: what it will be is in the arguments.
        Kind::Alias => {
            let [device, address, size, page_size, buffer_type] = creation(ctx);
            (hit.device, hit.address, hit.size, hit.object) = (device, address, size, 0);
            hit.page_size = page_size.min(u32::MAX.into()) as u32;
            hit.buffer_type = (buffer_type & 0xffff_ffff).min(u8::MAX.into()) as u8;
            object::read_device(hit, device, layout);
        }
        // Arguments alone, again: cores, address, size, whether it is in the memory of a buffer, and device.
        Kind::Circular => {
            let [cores, address, size, in_buffer, device] = creation(ctx);
            (hit.device, hit.address, hit.size, hit.object) = (device, address, size, cores);
            hit.owns = u8::from(in_buffer & 0xff == 0);
            object::read_device(hit, device, layout);
        }
        Kind::CircularFreed => object::read_device(hit, hit.object, layout),
        _ => {}
    }
    if hit.flags != 0 {
        count(Counter::Unreadable);
        debug!(ctx, "kind {} object {:x} could not be read whole", hit.kind, hit.object);
    }
    if !cookie.stack {
        return emit::plain(hit);
    }
    let claim = Claim::new();
    match &claim {
        Some(claim) => emit::with_stack(hit, claim.level(), &registers(ctx), target),
        None => {
            hit.flags |= NATIVE_LOST | PYTHON_LOST;
            count(Counter::Busy);
            emit::plain(hit);
        }
    }
}

/// Process and thread id, as the kernel's first PID name space has them.
fn current() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

fn begin(kind: Kind, tgid: u32, tid: u32) -> Hit {
    // SAFETY: the helper takes no argument.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    // Of many zeros that the compiler knows it makes a call that writes byte by byte.
    let zero = black_box(0);
    let hit = Hit { time, tgid, tid, kind: kind as u8, sequence: zero, object: zero, ..Hit::default() };
    Hit { device: zero, allocator: zero, size: zero, address: zero, unique_id: zero, ..hit }
}

/// The first two integer arguments of the probed function, by the System V calling convention.
///
/// Read at once and as volatile: the verifier refuses a context access at a computed offset, which is what the compiler
/// would make of a choice between them.
fn arguments(ctx: &ProbeContext) -> [u64; 2] {
    // SAFETY: the kernel hands a uprobe program a valid `pt_regs`; the verifier checks the reads.
    unsafe { [(&raw const (*ctx.regs).rdi).read_volatile(), (&raw const (*ctx.regs).rsi).read_volatile()] }
}

/// The second argument to the sixth. Of `Buffer(Impl)::create` with an address, behind the hidden one for its result: device,
/// address, size, page size and type.
fn creation(ctx: &ProbeContext) -> [u64; 5] {
    // SAFETY: as in `arguments`.
    unsafe {
        [
            (&raw const (*ctx.regs).rsi).read_volatile(),
            (&raw const (*ctx.regs).rdx).read_volatile(),
            (&raw const (*ctx.regs).rcx).read_volatile(),
            (&raw const (*ctx.regs).r8).read_volatile(),
            (&raw const (*ctx.regs).r9).read_volatile(),
        ]
    }
}

fn registers(ctx: &ProbeContext) -> Registers {
    // SAFETY: the kernel hands a uprobe program a valid `pt_regs`; the verifier checks the reads.
    let regs = unsafe { &*ctx.regs };
    Registers {
        rip: regs.rip,
        rsp: regs.rsp,
        rbp: regs.rbp,
        rbx: regs.rbx,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
    }
}

/// Whether the C string at `name` is pytest's variable.
fn names_test(name: u64) -> bool {
    let mut read = [0u8; TEST_VARIABLE.len()];
    // SAFETY: the helper copes with any user address and writes at most the buffer's length.
    let result = unsafe { bpf_probe_read_user_buf(name as *const u8, &mut read) };
    result.is_ok() && read == *TEST_VARIABLE
}

/// The kernel's helpers ask for a licence that it knows.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
