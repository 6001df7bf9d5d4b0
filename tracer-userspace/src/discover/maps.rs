// SPDX-License-Identifier: Apache-2.0
//! `/proc/PID/maps`: which files a process has mapped, and where.

use std::{
    ffi::OsString,
    fs, io,
    ops::Range,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// A mapped file, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Where in the file the first byte is from.
    pub offset: u64,
    /// Whether code can run here.
    pub executable: bool,
    /// Device that the file is on, (major, minor), as the kernel has it for the mapping.
    pub device: (u32, u32),
    /// Inode number of the file.
    pub inode: u64,
    /// Path, in the process's own file system.
    pub path: PathBuf,
    /// Whether the file at that path is gone, or is another one by now.
    pub deleted: bool,
}

/// The files that a process has mapped, in the order of their addresses.
///
/// # Errors
/// If the file cannot be read: no such process, or not ours to look at.
pub fn read(pid: u32) -> io::Result<Vec<Mapping>> {
    let mut mappings = parse(&fs::read(format!("/proc/{pid}/maps"))?);
    if let Some(root) = changed_root(pid) {
        mappings.iter_mut().for_each(|mapping| mapping.path = below(&root, &mapping.path));
    }
    Ok(mappings)
}

/// The root of a process that lives in a `chroot`: the kernel's paths show the folders above, which the process does not
/// see. (A container's root is the root of its mounts, where its paths begin in any case.)
pub(super) fn changed_root(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/root")).ok().filter(|root| root != Path::new("/"))
}

/// A path as a process with this root sees it.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).map_or_else(|_| path.to_owned(), |below| Path::new("/").join(below))
}

/// The page to which functions return that somebody watches with a uretprobe, if the process has one yet.
#[must_use]
pub fn uretprobes(pid: u32) -> Option<Range<u64>> {
    parse_uretprobes(&fs::read(format!("/proc/{pid}/maps")).ok()?)
}

/// The same, of the text of `/proc/PID/maps`. The kernel's name for that page is `[uprobes]` (its `kernel/events/uprobes.c`).
#[must_use]
pub fn parse_uretprobes(text: &[u8]) -> Option<Range<u64>> {
    let mut line = text.split(|byte| *byte == b'\n').find(|line| line.ends_with(b" [uprobes]"))?;
    let (start, end) = word(&mut line)?.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

/// Parses the text of `/proc/PID/maps`. Memory without a file, and lines that are not as proc(5) has them, are left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mapping> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let (start, end) = word(&mut rest)?.split_once('-')?;
    let permissions = word(&mut rest)?;
    let offset = word(&mut rest)?;
    let (major, minor) = word(&mut rest)?.split_once(':')?;
    let inode = word(&mut rest)?.parse().ok()?;
    let path = rest.trim_ascii_start();
    if inode == 0 || !path.starts_with(b"/") {
        return None;
    }
    let (path, deleted) = match path.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        executable: permissions.contains('x'),
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path: PathBuf::from(OsString::from_vec(unescape(path))),
        deleted,
    })
}

/// Takes the next word off the front of a line.
fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let line = rest.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (word, after) = line.split_at(end);
    *rest = after;
    std::str::from_utf8(word).ok().filter(|word| !word.is_empty())
}

/// The kernel writes a newline in a path as `\012`, and nothing else so: a backslash stays a backslash.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(br"\012") {
            plain.push(b'\n');
            rest = after;
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<(String, bool)> {
        parse(text.as_bytes()).into_iter().map(|m| (m.path.to_string_lossy().into_owned(), m.deleted)).collect()
    }

    #[test]
    fn a_line_is_taken_apart() {
        let maps = parse(
            b"7f0e2f000000-7f0e2f022000 r-xp 00466700 103:02 1835091                    /opt/lib/libtt_metal.so\n",
        );
        assert_eq!(
            maps,
            [Mapping {
                start: 0x7f0e_2f00_0000,
                end: 0x7f0e_2f02_2000,
                offset: 0x46_6700,
                executable: true,
                device: (0x103, 2),
                inode: 1_835_091,
                path: "/opt/lib/libtt_metal.so".into(),
                deleted: false,
            }]
        );
    }

    #[test]
    fn a_changed_root_is_taken_off() {
        let seen = |path| below(Path::new("/srv/jail"), Path::new(path));
        assert_eq!(
            ["/srv/jail/lib/x.so", "/srv/jailer/x.so", "/lib/x.so"].map(seen),
            [Path::new("/lib/x.so"), Path::new("/srv/jailer/x.so"), Path::new("/lib/x.so")]
        );
    }

    #[test]
    fn odd_paths_survive() {
        let text = "1000-2000 r--p 00000000 fe:00 5 /a b/c  d.so\n\
                    2000-3000 r--p 00000000 fe:00 6 /x.so (deleted)\n\
                    3000-4000 r--p 00000000 fe:00 7 /new\\012line\\x.so\n";
        assert_eq!(
            paths(text),
            [("/a b/c  d.so".into(), false), ("/x.so".into(), true), ("/new\nline\\x.so".into(), false)]
        );
    }

    #[test]
    fn what_is_no_file_is_left_out() {
        let text = "1000-2000 rw-p 00000000 00:00 0 [heap]\n2000-3000 rw-p 00000000 00:00 0 \n\
                    3000-4000 rw-s 00000000 00:01 9 anon_inode:[perf_event]\nnonsense\n-\n5000-6000\n";
        assert_eq!(parse(text.as_bytes()), []);
    }

    #[test]
    fn the_page_of_the_uretprobes_is_found_by_its_name() {
        let text =
            b"7fff0000-7fff1000 r-xp 00000000 00:00 0 [vdso]\n7fffe000-7ffff000 --xp 00000000 00:00 0      [uprobes]\n";
        assert_eq!(parse_uretprobes(text), Some(0x7fff_e000..0x7fff_f000));
        assert_eq!(parse_uretprobes(&text[..47]), None);
    }
}
