// SPDX-License-Identifier: Apache-2.0
//! Whether a process has a Python interpreter in it, and which.

use super::{elf::Elf, module::Module};

/// A CPython interpreter in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// `3.12.1`, or `3.10` where only the file's name tells.
    pub version: String,
    /// The module that defines it, by its place among the modules.
    pub module: usize,
    /// Address of `_PyRuntime` in the process.
    pub runtime: u64,
}

/// Finds the interpreter among the modules. `None` if there is none, or if nothing there says its version.
#[must_use]
pub fn find(modules: &[Module]) -> Option<Python> {
    const RUNTIME: &str = "_PyRuntime";
    modules.iter().enumerate().find_map(|(number, module)| {
        let elf = module.elf().ok().filter(|elf| elf.mentions(RUNTIME))?;
        let runtime = module.address(elf.symbol(RUNTIME)?);
        let version = version_symbol(&elf).or_else(|| version_in_name(&module.name()))?;
        Some(Python { version, module: number, runtime })
    })
}

/// From 3.11 on, the constant `Py_Version` has the version as `PY_VERSION_HEX`.
fn version_symbol(elf: &Elf) -> Option<String> {
    let number = elf.word(elf.symbol("Py_Version")?.address)?;
    let byte = |shift: u32| (number >> shift) & 0xff;
    (byte(24) == 3).then(|| format!("{}.{}.{}", byte(24), byte(16), byte(8)))
}

/// `libpython3.10.so.1.0`, `python3.10`
fn version_in_name(name: &str) -> Option<String> {
    let rest = name.strip_prefix("lib").unwrap_or(name).strip_prefix("python3.")?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!minor.is_empty()).then(|| format!("3.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_minor_version_or_nothing() {
        assert_eq!(version_in_name("libpython3.10.so.1.0").as_deref(), Some("3.10"));
        assert_eq!(version_in_name("python3.9").as_deref(), Some("3.9"));
        for name in ["python", "python3", "libpython3.so", "pytest3.10", ""] {
            assert_eq!(version_in_name(name), None, "{name}");
        }
    }
}
