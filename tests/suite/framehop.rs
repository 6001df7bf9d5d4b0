// SPDX-License-Identifier: Apache-2.0
//! The unwinder against framehop's, an independent one, on stacks of this very process.

use std::{arch::asm, fs};

use anyhow::{Context as _, Result};
use buftrace::{
    capture::space::Space,
    discover::maps,
    unwind::{self, End, Machine, walk},
};
use framehop::{
    CacheNative, ExplicitModuleSectionInfo, Module, UnwindRegsNative, Unwinder as _, UnwinderNative,
    x86_64::UnwindRegsX86_64,
};
use object::{Object as _, ObjectSection as _};
use tracer_common::Registers;

/// The registers here, and a copy of the stack from here to its end.
#[inline(never)]
fn here() -> Result<(Registers, Vec<u8>)> {
    let mut registers = Registers::default();
    // SAFETY: registers are read and nothing is changed.
    unsafe {
        asm!(
            "lea {ip}, [rip]", "mov {sp}, rsp", "mov {bp}, rbp", "mov {bx}, rbx",
            ip = out(reg) registers.rip, sp = out(reg) registers.rsp, bp = out(reg) registers.rbp,
            bx = out(reg) registers.rbx, options(nomem, nostack, preserves_flags),
        );
        asm!(
            "mov {a}, r12", "mov {b}, r13", "mov {c}, r14", "mov {d}, r15",
            a = out(reg) registers.r12, b = out(reg) registers.r13, c = out(reg) registers.r14,
            d = out(reg) registers.r15, options(nomem, nostack, preserves_flags),
        );
    }
    let end = stack_end(registers.rsp).context("the stack is mapped")?;
    let length = usize::try_from(end - registers.rsp)?;
    // SAFETY: the stack is mapped from here to its end, and this thread alone writes it.
    let stack = unsafe { std::slice::from_raw_parts(registers.rsp as *const u8, length) };
    Ok((registers, stack.to_vec()))
}

fn stack_end(inside: u64) -> Option<u64> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap_or(0));
        (start <= inside && inside < end).then_some(end)
    })
}

fn framehops(registers: &Registers, stack: &[u8]) -> Result<Vec<u64>> {
    let mut unwinder = UnwinderNative::new();
    for mapping in maps::read(std::process::id())?.iter().filter(|mapping| mapping.executable) {
        let data = fs::read(&mapping.path)?;
        let file = object::File::parse(&*data)?;
        let code = file.sections().find(|section| section.name() == Ok(".text")).context("a module has no .text")?;
        let (offset, _) = code.file_range().context("it is in the file")?;
        let bias = mapping.start - mapping.offset + offset - code.address();
        let section = |name| file.section_by_name(name).and_then(|section| section.data().ok()).map(<[u8]>::to_vec);
        let range = |name| file.section_by_name(name).map(|it| it.address()..it.address() + it.size());
        let info = ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: range(".text"),
            got_svma: range(".got"),
            eh_frame_svma: range(".eh_frame"),
            eh_frame: section(".eh_frame"),
            eh_frame_hdr_svma: range(".eh_frame_hdr"),
            eh_frame_hdr: section(".eh_frame_hdr"),
            ..ExplicitModuleSectionInfo::default()
        };
        let name = mapping.path.to_string_lossy().into_owned();
        unwinder.add_module(Module::new(name, mapping.start..mapping.end, bias, info));
    }
    let mut read = |address: u64| {
        let offset = address.checked_sub(registers.rsp).ok_or(())? as usize;
        let bytes = stack.get(offset..offset + 8).ok_or(())?;
        bytes.try_into().map(u64::from_le_bytes).map_err(|_| ())
    };
    let start: UnwindRegsNative = UnwindRegsX86_64::new(registers.rip, registers.rsp, registers.rbp);
    let mut cache = CacheNative::<_>::new();
    let mut frames = unwinder.iter_frames(registers.rip, start, &mut cache, &mut read);
    let mut found = Vec::new();
    while let Some(frame) = frames.next().map_err(|error| anyhow::anyhow!("framehop: {error:?}"))? {
        found.push(frame.address());
    }
    Ok(found)
}

fn compare() -> Result<usize> {
    let (registers, bytes) = here()?;
    let mut space = Space::new(std::process::id());
    assert_eq!(space.refresh(&|| 0).problems, Vec::<String>::new());
    let stack = unwind::Stack { start: registers.rsp, bytes: &bytes, full: false };
    let ours = walk(Machine::at(&registers), stack, &space.at(0));
    assert_eq!(ours.end, End::Complete);
    let ours: Vec<u64> = ours.frames.iter().map(|frame| frame.address).collect();
    assert_eq!(ours, framehops(&registers, &bytes)?);
    Ok(ours.len())
}

/// Grows the stack by a frame of changing size for each level, as compilers don't do but `alloca` does.
#[inline(never)]
fn deeper(level: usize) -> Result<usize> {
    let ballast = std::hint::black_box(vec![level; level + 1]);
    let depth = if level == 0 { compare()? } else { deeper(level - 1)? };
    Ok(depth + ballast.len() - ballast.len())
}

#[test]
fn the_walk_equals_framehops() -> Result<()> {
    let shallow = deeper(0)?;
    assert_eq!(deeper(300)?, shallow + 300);
    let mut numbers = [3, 1, 2];
    let mut in_callback = 0;
    numbers.sort_by(|a, b| {
        in_callback = compare().expect("a stack through a library's callback");
        a.cmp(b)
    });
    assert!(in_callback > 5);
    Ok(())
}
