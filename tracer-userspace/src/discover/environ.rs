// SPDX-License-Identifier: Apache-2.0
//! The environment of a process as it is now: `/proc/PID/environ` only has what it was started with.

use std::{io, path::Path};

use super::{memory, module::Module};

/// Most variables that are looked at.
const MOST_VARIABLES: u64 = 8192;
/// Most bytes of a variable, its name included, that are read.
const LONGEST: usize = 4096;

/// Where in the process libc's `environ` is: the program's own copy where it has one (a copy relocation), else libc's.
#[must_use]
pub fn address(modules: &[Module], program: &Path, libc: Option<usize>) -> Option<u64> {
    let program = modules.iter().find(|module| module.mapping.path == program);
    let libc = libc.and_then(|libc| modules.get(libc));
    [program, libc].into_iter().flatten().find_map(|module| {
        let elf = module.elf().ok()?;
        let symbol = elf.symbol("environ").or_else(|| elf.symbol("__environ"))?;
        Some(module.address(symbol))
    })
}

/// The value of a variable; `None` if it is not set. It is cut at 4 KiB.
///
/// The process goes on meanwhile: while it sets another variable, the answer may be `None` or an error.
///
/// # Errors
/// If the memory of the process cannot be read.
pub fn variable(pid: u32, environ: u64, name: &str) -> io::Result<Option<String>> {
    let array = memory::read_u64(pid, environ)?;
    if array == 0 {
        return Ok(None);
    }
    for index in 0..MOST_VARIABLES {
        let text = memory::read_u64(pid, array.wrapping_add(index * 8))?;
        if text == 0 {
            break;
        }
        let mut bytes = [0; LONGEST];
        let count = memory::read_some(pid, text, &mut bytes)?;
        let text = bytes.get(..count).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
        let value = text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        if let Some(value) = value {
            return Ok(Some(String::from_utf8_lossy(value).into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let texts = [&b"PYTEST_CURRENT_TEST_X=no\0"[..], b"PYTEST_CURRENT_TEST=a.py::b (call)\0", b"Z=\0"];
        let array = [texts[0].as_ptr() as u64, texts[1].as_ptr() as u64, texts[2].as_ptr() as u64, 0];
        let environ = array.as_ptr() as u64;
        let read = |name| variable(std::process::id(), &raw const environ as u64, name).expect("own memory");
        assert_eq!(read("PYTEST_CURRENT_TEST").as_deref(), Some("a.py::b (call)"));
        assert_eq!(read("Z").as_deref(), Some(""));
        assert_eq!(read("PYTEST"), None);
    }
}
