// SPDX-License-Identifier: Apache-2.0
//! Walks the native stack of the thread that hit a probe, by the unwind tables that user space has loaded.

use core::hint::black_box;

use tracer_common::{Counter, MAX_FRAMES, NativeFrame, Registers, Target};
use tracer_unwind::{
    rule::Rule,
    space::{MAX_RANGES, NO_SPACE, NO_TABLE, NOT_LOADED, Range, URETPROBE},
    walk::{self, Machine, Stop},
};

use crate::{
    maps,
    scratch::{self, Walker},
    window::Here,
};

/// What [`find_rule`] gives if there is no row.
const NO_ROW: u32 = u32::MAX;
/// What [`native_step`] gives if there is one more frame.
const GOES_ON: u32 = 0;

/// How many rules are remembered on each processor and level: a power of two.
pub(crate) const KNOWN_RULES: usize = 512;
/// Steps for which the scratch memory is looked up once.
const STEPS: usize = 8;

/// The rule of an address, remembered. It is written by one hit at a time, and has no other reader.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Known {
    address: u64,
    /// The number of the space that it is an address of: what a number stands for never changes.
    space: u32,
    /// Always zero.
    padding: u32,
    rule: Rule,
}

/// Fills the scratch's native stack, and its hash.
#[inline(always)]
pub(crate) fn walk(level: u32, target: &Target, registers: &Registers) {
    let Some(scratch) = scratch::at(level) else { return };
    let modules = maps::modules(target);
    let mut hash = maps::hash_key();
    hash.add(u64::from(target.number) << 32);
    hash.add(modules.epoch.0);
    scratch.hash = hash;
    scratch.native.epoch = modules.epoch.number();
    let walker = &mut scratch.walker;
    let (ip, sp, bp) = (registers.rip, registers.rsp, registers.rbp);
    // The last walk here ended where this one will, if it was of the same thread.
    scratch.window.expect(sp, walker.machine.sp);
    walker.machine = Machine { ip, sp, bp, bp_lost: 0, returns: 0 };
    walker.space = modules.space;
    walker.space_number = if maps::remembers() { modules.space_number } else { NO_SPACE };
    walker.range = Range::UNUSED;
    walker.epoch = modules.space_epoch.0;
    walker.remembered = 0;
    walker.count = 0;
    native_walk(level);
    maps::count(Counter::Walked);
    maps::add(Counter::NativeFrames, u64::from(scratch.native.count));
    maps::add(Counter::Remembered, scratch.walker.remembered);
}

/// Walks in the scratch memory of this level.
///
/// A function of its own, with numbers as its arguments, is verified once, and not for each way that leads to it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn native_walk(level: u32) -> u32 {
    if let Some(scratch) = scratch::at(level) {
        // So that it is at hand for the first step, too.
        scratch.window.find(scratch.walker.machine.sp, 8);
    }
    let mut stop = GOES_ON;
    for _ in 0..MAX_FRAMES / STEPS {
        stop = native_steps(level);
        if stop != GOES_ON {
            break;
        }
    }
    if stop == GOES_ON {
        stop = Stop::TooManyFrames as u32;
    }
    let Some(scratch) = scratch::at(level) else { return 0 };
    scratch.native.count = scratch.walker.count as u16;
    scratch.native.stop = stop as u8;
    scratch.hash.add(u64::from(stop));
    0
}

/// Some steps of the walk: [`GOES_ON`], or the number of a [`Stop`].
///
/// Most need nothing but what is at hand: any other is left to [`native_step`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn native_steps(level: u32) -> u32 {
    let Some(scratch) = scratch::at(level) else { return Stop::Unreadable as u32 };
    let Some(known) = maps::known(level) else { return Stop::Unreadable as u32 };
    for _ in 0..STEPS {
        let Walker { machine, count, space_number, remembered, .. } = &mut scratch.walker;
        let frame = NativeFrame::new(machine.ip, machine.returns);
        scratch.native.frames[*count as usize % MAX_FRAMES] = frame;
        *count += 1;
        scratch.hash.add(frame.0);
        let mut tables = Recent { known, space: *space_number };
        match walk::step(machine, &mut tables, &mut Here(&scratch.window)) {
            Ok(()) => *remembered += 1,
            Err(Stop::Complete) => return Stop::Complete as u32,
            Err(_) => {
                let stop = native_step(level);
                if stop != GOES_ON {
                    return stop;
                }
            }
        }
    }
    GOES_ON
}

/// One step of the walk in the scratch memory of this level: [`GOES_ON`], or the number of a [`Stop`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn native_step(level: u32) -> u32 {
    let Some(scratch) = scratch::at(level) else { return Stop::Unreadable as u32 };
    let Some(known) = maps::known(level) else { return Stop::Unreadable as u32 };
    let Walker { machine, space, space_number, range, epoch, remembered, .. } = &mut scratch.walker;
    let mut tables = Tables { space: *space, range, epoch: *epoch, remembered, space_number, known };
    match walk::step(machine, &mut tables, &mut &mut scratch.window) {
        Ok(()) => GOES_ON,
        Err(stop) => stop as u32,
    }
}

/// The number of the rule that a table has at a program counter.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn find_rule(table: u32, pc: u32) -> u32 {
    let Some(index) = maps::block(table, 0) else { return NO_ROW };
    let number = index.block(pc);
    if number == 0 {
        return NO_ROW;
    }
    match maps::block(table, number) {
        Some(block) => u32::from(block.rule(pc)),
        None => NO_ROW,
    }
}

/// The number of the range that an address of a target is in, if it is in one.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn find_range(target: u32, address: u64) -> u32 {
    match maps::space(target) {
        Some(space) => space.last(address) as u32,
        None => 0,
    }
}

/// The tables of the modules that a target has, with what was found last.
struct Tables<'a> {
    space: u32,
    range: &'a mut Range,
    epoch: u64,
    remembered: &'a mut u64,
    space_number: &'a mut u32,
    known: &'a mut [Known; KNOWN_RULES],
}

/// The rules of the addresses that were met last, and nothing else.
struct Recent<'a> {
    known: &'a [Known; KNOWN_RULES],
    space: u32,
}

impl walk::Tables for Recent<'_> {
    #[inline(always)]
    fn rule(&mut self, address: u64) -> Result<Rule, Stop> {
        for place in places(address) {
            let known = &self.known[place];
            if known.address == address && known.space == self.space && self.space != NO_SPACE {
                return Ok(known.rule);
            }
        }
        Err(Stop::NoTable)
    }
}

/// Where the rule of an address is remembered: at the first of these, or at the second, if another one has come since.
#[inline(always)]
fn places(address: u64) -> [usize; 2] {
    let place = address ^ address >> 12;
    [place, place ^ 1].map(|place| place as usize % KNOWN_RULES)
}

impl walk::Tables for Tables<'_> {
    #[inline(always)]
    fn rule(&mut self, address: u64) -> Result<Rule, Stop> {
        let (table, pc) = self.table(address)?;
        let key = u64::from(table) << 48 | u64::from(pc) << 16;
        let slot = maps::remembered(pc ^ pc >> 16 ^ table.wrapping_mul(0x9e37)).ok_or(Stop::NoTable)?;
        // SAFETY: the pointer is to an aligned map value. Other CPUs write to it, but whole words only, and each word is
        // right by itself.
        let known = unsafe { slot.read_volatile() };
        let number = if known & !0xffff == key && maps::remembers() {
            *self.remembered += 1;
            known as u32 & 0xffff
        } else {
            let number = find_rule(table, pc);
            if number == NO_ROW {
                return Err(Stop::NoTable);
            }
            // SAFETY: as above.
            unsafe { slot.write_volatile(key | u64::from(number & 0xffff)) };
            number
        };
        let rule = *maps::rule(number).ok_or(Stop::NoTable)?;
        let [first, second] = places(address);
        if self.known[first].address != address {
            self.known[second] = self.known[first];
        }
        self.known[first] = Known { address, space: *self.space_number, padding: 0, rule };
        Ok(rule)
    }
}

impl Tables<'_> {
    /// The number of the table for an address, and the program counter that it has there.
    #[inline(always)]
    fn table(&mut self, address: u64) -> Result<(u32, u32), Stop> {
        // Callers are often in the same module, and the modules are those of one epoch for the whole of a walk.
        if !self.range.contains(address) {
            *self.range = self.find(address)?;
        }
        match self.range.table {
            NOT_LOADED => Err(Stop::NotLoaded),
            NO_TABLE => Err(Stop::NoTable),
            URETPROBE => Err(Stop::Uretprobe),
            table => Ok((table, address.wrapping_sub(self.range.bias) as u32)),
        }
    }

    /// The range that an address is in.
    #[inline(always)]
    fn find(&mut self, address: u64) -> Result<Range, Stop> {
        let space = maps::space(self.space).ok_or(Stop::ModulesChanged)?;
        // What is known of another epoch is of no use.
        if space.epoch != self.epoch {
            return Err(Stop::ModulesChanged);
        }
        // The same modules, but more of their tables: what comes from both is neither's.
        if space.number != *self.space_number {
            *self.space_number = NO_SPACE;
        }
        // The verifier does not know what the compiler knows of the answer: the mask below must stay.
        let index = black_box(find_range(self.space, address));
        let range = space.ranges[index as usize % MAX_RANGES];
        if range.contains(address) { Ok(range) } else { Err(Stop::NoModule) }
    }
}
