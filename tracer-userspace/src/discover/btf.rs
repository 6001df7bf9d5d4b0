// SPDX-License-Identifier: Apache-2.0
//! Where the running kernel keeps a field of one of its structs, by its own type information (BTF).
//!
//! The format is that of the kernel's `Documentation/bpf/btf.rst`.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use tracer_common::TaskLayout;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;

/// Where the running kernel keeps what tells of processes.
///
/// # Errors
/// If the kernel has no type information, or if it has no such fields.
pub fn tasks() -> Result<TaskLayout> {
    let bytes = fs::read(VMLINUX).with_context(|| format!("failed to read {VMLINUX}"))?;
    let btf = Btf::parse(&bytes).with_context(|| format!("failed to understand {VMLINUX}"))?;
    let field = |structure, member| {
        btf.field(structure, member).with_context(|| format!("the kernel's {structure} has no {member}"))
    };
    Ok(TaskLayout {
        tgid: field("task_struct", "tgid")?,
        signal: field("task_struct", "signal")?,
        live: field("signal_struct", "live")?,
    })
}

/// Offset in bytes, in the kernel's `task_struct`, of the fs base of a thread that does not run.
///
/// # Errors
/// If the kernel has no type information, or if it has no such field.
pub fn fsbase() -> Result<u32> {
    let bytes = fs::read(VMLINUX).with_context(|| format!("failed to read {VMLINUX}"))?;
    let btf = Btf::parse(&bytes).with_context(|| format!("failed to understand {VMLINUX}"))?;
    btf.nested("task_struct", "thread", "fsbase").context("the kernel's task_struct has no thread.fsbase")
}

struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

/// One type: its head, and what follows it.
struct Type<'a> {
    name: u32,
    info: u32,
    rest: &'a [u8],
}

struct Member {
    /// In bits.
    offset: u32,
    /// Number of its type.
    of: u32,
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let word = |at| word(bytes, at).context("the header is cut");
        let magic = bytes.first_chunk().map(|magic| u16::from_le_bytes(*magic));
        ensure!(magic == Some(MAGIC), "no BTF");
        let body = bytes.get(word(4)? as usize..).context("the header is cut")?;
        let part = |offset: u32, length: u32| {
            let part = body.get(offset as usize..).and_then(|rest| rest.get(..length as usize));
            part.context("a section is cut")
        };
        Ok(Self { types: part(word(8)?, word(12)?)?, strings: part(word(16)?, word(20)?)? })
    }

    /// The offset in bytes of `structure.member`.
    fn field(&self, structure: &str, member: &str) -> Option<u32> {
        Some(self.types().find_map(|it| self.member(&it, Some(structure), member))?.offset / 8)
    }

    /// The offset in bytes of `structure.member.inner`.
    fn nested(&self, structure: &str, member: &str, inner: &str) -> Option<u32> {
        let outer = self.types().find_map(|it| self.member(&it, Some(structure), member))?;
        // Number 0 is `void`, which has no entry.
        let of = self.types().nth(usize::try_from(outer.of).ok()?.checked_sub(1)?)?;
        let inner = self.member(&of, None, inner)?;
        Some((outer.offset.checked_add(inner.offset)?) / 8)
    }

    fn member(&self, it: &Type, structure: Option<&str>, member: &str) -> Option<Member> {
        const ENTRY: usize = 12;
        if it.kind() != STRUCT || structure.is_some_and(|name| !self.is_called(it.name, name)) {
            return None;
        }
        let entries = it.rest.get(..it.count() * ENTRY)?;
        let entry =
            entries.chunks_exact(ENTRY).find(|entry| word(entry, 0).is_some_and(|n| self.is_called(n, member)))?;
        let offset = word(entry, 8)?;
        // Where the struct has bit fields, the upper byte is a width.
        let offset = if it.info >> 31 == 1 { offset & 0x00ff_ffff } else { offset };
        Some(Member { offset, of: word(entry, 4)? })
    }

    fn is_called(&self, at: u32, name: &str) -> bool {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        rest.strip_prefix(name.as_bytes()).is_some_and(|after| after.first() == Some(&0))
    }

    /// The types from number 1 on, up to the first that is not understood.
    fn types(&self) -> impl Iterator<Item = Type<'a>> {
        let mut rest = self.types;
        std::iter::from_fn(move || {
            let found = Type { name: word(rest, 0)?, info: word(rest, 4)?, rest: rest.get(12..)? };
            rest = found.rest.get(found.length()?..)?;
            Some(found)
        })
    }
}

impl Type<'_> {
    fn kind(&self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn count(&self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Bytes that follow the head, `None` for a kind that is not known.
    fn length(&self) -> Option<usize> {
        match self.kind() {
            // Pointer, forward declaration, typedef, qualifiers, function, float, type tag.
            2 | 7..=12 | 16 | 18 => Some(0),
            // Integer, variable, declaration tag.
            1 | 14 | 17 => Some(4),
            // Array.
            3 => Some(12),
            // Struct, union, section, 64-bit enumeration.
            4 | 5 | 15 | 19 => Some(self.count() * 12),
            // Enumeration, prototype.
            6 | 13 => Some(self.count() * 8),
            _ => None,
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An integer, `thread_struct` with `sp` and `fsbase`, and `task_struct` with `thread` at bit 128.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0thread_struct\0sp\0fsbase\0task_struct\0thread\0";
        let at = |name: &str| strings.windows(name.len() + 1).position(|w| w == format!("{name}\0").as_bytes());
        let at = |name: &str| at(name).expect("a name of the sample") as u32;
        let types = [
            vec![at("int"), 1 << 24, 8, 64],
            vec![at("thread_struct"), STRUCT << 24 | 2, 16, at("sp"), 1, 0, at("fsbase"), 1, 64],
            vec![at("task_struct"), STRUCT << 24 | 1, 32, at("\0thread") + 1, 2, 128],
        ]
        .concat();
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_le_bytes).collect();
        let head = [u32::from(MAGIC) | 1 << 16, 24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
        let head = head.into_iter().flat_map(u32::to_le_bytes);
        head.chain(types).chain(strings.iter().copied()).collect()
    }

    #[test]
    fn offsets_of_nested_members_add_up() {
        let sample = sample();
        let btf = Btf::parse(&sample).expect("sound");
        assert_eq!(btf.nested("task_struct", "thread", "fsbase"), Some(24));
        assert_eq!(btf.nested("task_struct", "thread", "gsbase"), None);
        assert_eq!(btf.nested("task", "thread", "fsbase"), None);
    }

    #[test]
    fn damage_is_survived() {
        let sample = sample();
        for length in 0..sample.len() {
            let _ = Btf::parse(&sample[..length]).map(|btf| btf.nested("task_struct", "thread", "fsbase"));
        }
        for at in 0..sample.len() {
            let mut damaged = sample.clone();
            damaged[at] ^= 0xff;
            let _ = Btf::parse(&damaged).map(|btf| btf.nested("task_struct", "thread", "fsbase"));
        }
    }
}
