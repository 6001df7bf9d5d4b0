// SPDX-License-Identifier: Apache-2.0
//! The unwinders against framehop's, an independent one, on stacks of this very process: that of user space by the whole
//! `.eh_frame`, and that of the kernel side by compact tables, which is the same code here and there.

use std::{arch::asm, collections::HashMap, fs};

use anyhow::{Context as _, Result};
use buftrace::{
    capture::space::{Files, Space},
    discover::maps,
    unwind::{self, Compiled, End, Machine, compile, walk},
};
use framehop::{
    CacheNative, ExplicitModuleSectionInfo, Module, UnwindRegsNative, Unwinder as _, UnwinderNative,
    x86_64::UnwindRegsX86_64,
};
use object::{Object as _, ObjectSection as _};
use tracer_common::{MAX_FRAMES, Registers};
use tracer_unwind::{
    rule::Rule,
    walk::{self as kernel, Stop},
};

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

/// A copy of a stack, as memory.
struct Copy<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl kernel::Memory for Copy<'_> {
    fn read(&mut self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        Some(u64::from_le_bytes(*self.bytes.get(offset..)?.first_chunk()?))
    }
}

/// Compact tables, made when they are needed.
struct Tables<'a> {
    space: &'a Space,
    files: &'a Files,
    compiled: HashMap<usize, Compiled>,
}

impl kernel::Tables for Tables<'_> {
    fn rule(&mut self, address: u64) -> Result<Rule, Stop> {
        let range = self.space.range(address, 0).map_err(|_| Stop::NoModule)?;
        let compiled = self.compiled.entry(range.module).or_insert_with(|| {
            let elf = self.files.modules()[range.module].module.elf().expect("an ELF file");
            compile(elf.object()).expect("it has an .eh_frame")
        });
        Ok(compiled.rule(address - range.bias))
    }
}

/// Walks as the kernel side does.
fn compact(registers: &Registers, bytes: &[u8], space: &Space, files: &Files) -> (Vec<u64>, Stop) {
    let mut tables = Tables { space, files, compiled: HashMap::new() };
    let mut memory = Copy { start: registers.rsp, bytes };
    let Registers { rip: ip, rsp: sp, rbp: bp, .. } = *registers;
    let mut machine = kernel::Machine { ip, sp, bp, bp_lost: 0, returns: 0 };
    let mut frames = vec![ip];
    loop {
        match kernel::step(&mut machine, &mut tables, &mut memory) {
            Ok(()) if frames.len() < MAX_FRAMES => frames.push(machine.ip),
            Ok(()) => return (frames, Stop::TooManyFrames),
            Err(stop) => return (frames, stop),
        }
    }
}

fn compare() -> Result<usize> {
    let (registers, bytes) = here()?;
    let (mut space, mut files) = (Space::new(std::process::id()), Files::default());
    assert_eq!(space.refresh(&mut files, &Default::default).problems, Vec::<String>::new());
    let stack = unwind::Stack { start: registers.rsp, bytes: &bytes, full: false };
    let ours = walk(Machine::at(&registers), stack, &space.at(&files, 0));
    assert_eq!(ours.end, End::Complete);
    let (compact, stop) = compact(&registers, &bytes, &space, &files);
    let ours: Vec<u64> = ours.frames.iter().map(|frame| frame.address).collect();
    assert_eq!(ours, framehops(&registers, &bytes)?);
    assert_eq!((compact, stop), (ours.clone(), Stop::Complete));
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
