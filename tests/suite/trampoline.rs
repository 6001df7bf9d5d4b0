// SPDX-License-Identifier: Apache-2.0
//! Stacks of a target in which another tool has return probes: those put an address of their own on the stack.

use std::{
    ffi::CString,
    fs,
    io::{Error, Read as _},
    os::fd::{FromRawFd as _, OwnedFd},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};

use crate::{
    frames::{self, functions},
    seen::{Seen, seen},
    target::{Target, lookalike, lookalikes},
    tool::{Recorder, can_probe, path},
};

/// Bytes of the first published form of the kernel's `perf_event_attr` that has room for a probe.
const ATTRIBUTES: u64 = 72;
/// The kernel's `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: u64 = 8;

/// A return probe of another tool, as perf attaches it, that counts.
struct ReturnProbe(fs::File);

impl ReturnProbe {
    fn attach(pid: u32, program: &Path, function: &str) -> Result<Self> {
        let kind = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type").context("the kernel has uprobes")?;
        let file = CString::new(path(program))?;
        // In 64-bit words: type and size; config, whose lowest bit asks for a return probe; at last path and offset.
        let attributes: [u64; 9] = [
            kind.trim().parse::<u64>()? | ATTRIBUTES << 32,
            1,
            0,
            0,
            0,
            0,
            0,
            file.as_ptr() as u64,
            offset(program, function)?,
        ];
        let (any_cpu, no_group) = (-1, -1);
        // SAFETY: the attributes have the size that they say, and they and the path live through the call.
        let number = unsafe {
            libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), pid, any_cpu, no_group, CLOSE_ON_EXEC)
        };
        if number < 0 {
            return Err(Error::last_os_error()).context("failed to attach a return probe");
        }
        // SAFETY: the kernel has just opened it for us.
        let descriptor = unsafe { OwnedFd::from_raw_fd(i32::try_from(number)?) };
        Ok(Self(descriptor.into()))
    }

    /// How often it was hit.
    fn hits(&mut self) -> Result<u64> {
        let mut count = [0; 8];
        self.0.read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

/// Where a function begins in its file.
fn offset(program: &Path, function: &str) -> Result<u64> {
    let data = fs::read(program)?;
    let file = object::File::parse(&*data)?;
    let mut symbols = file.symbols().chain(file.dynamic_symbols());
    let symbol = symbols.find(|symbol| symbol.name() == Ok(function)).context("the module has the function")?;
    let segment = file.segments().find(|it| (it.address()..it.address() + it.size()).contains(&symbol.address()));
    let segment = segment.context("the function is in a segment")?;
    Ok(symbol.address() - segment.address() + segment.file_range().0)
}

/// Records a command while a function of a module has a return probe.
fn record(command: Command, module: &Path, function: &str) -> Result<Vec<Seen>> {
    let target = Target::start(command)?;
    let mut probe = ReturnProbe::attach(target.pid, module, function)?;
    let trace = target.path("trace.ttb");
    let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(&trace)])?;
    target.go()?;
    let finished = target.finish()?;
    finished.succeeded()?;
    assert!(recorder.finish()?.0.success());
    assert!(probe.hits()? > 0, "nothing returned from {function}");
    seen(&trace)
}

/// Either what the tool hid is found, or the stack ends at what it put there, and says that it does.
fn check(scenario: &str, function: &str, told: &[&str]) -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let Some(program) = frames::program("frames") else { return Ok(()) };
    let all = record(frames::run(&program, &[scenario]), &program, function)?;
    assert_eq!(all.len(), 2);
    for seen in all {
        let found = functions(&seen);
        let outermost = told.iter().rposition(|name| *name == function).context("the function is on the stack")?;
        match seen.end.as_str() {
            "complete" => assert_eq!(found, told),
            _ => assert!(found.len() > 1 && told.starts_with(&found) && found.len() <= outermost + 1, "{found:?}"),
        }
    }
    Ok(())
}

#[test]
fn a_return_probe_in_the_middle_of_a_stack_hides_nothing_silently() -> Result<()> {
    let told = ["touch", "rbp_is_data", "rbp_is_data", "rbp_is_data", "general_register", "main", "_start"];
    check("general-register", "general_register", &told)
}

#[test]
fn return_probes_all_along_a_recursion_hide_nothing_silently() -> Result<()> {
    let told = [&["touch"], ["descend"; 400].as_slice(), &["recursion", "main", "_start"]].concat();
    check("recursion", "descend", &told)
}

#[test]
fn python_frames_behind_a_return_probe_are_kept() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let library = lookalikes().join("pimpl/libtt_metal.so");
    // One that calls the probed function, and that function itself.
    for function in ["la_tensor_drop", "_ZN2tt8tt_metal10BufferImpl15deallocate_implERNS0_6BufferE"] {
        let all = record(lookalike("pimpl", &["burst.py", "5"]), &library, function)?;
        assert_eq!(all.len(), 10);
        for seen in all {
            let outermost = seen.native().last().map(|frame| frame.function.as_str());
            let whole = seen.end == "complete" && outermost == Some("_start");
            assert_eq!(seen.python, if whole { "complete" } else { "uncertain" }, "{function}: {}", seen.end);
            let python: Vec<String> = seen.python_frames().into_iter().map(|(.., function)| function).collect();
            assert_eq!(python, ["<module>"], "{function}");
        }
    }
    Ok(())
}
