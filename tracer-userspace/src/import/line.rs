// SPDX-License-Identifier: Apache-2.0
//! What an allocation server prints: from text to what it says.
//!
//! The server's threads share one output, so that a line may hold two messages, or parts of them. Messages are therefore
//! found by their own words wherever they stand, and the symbols before them, which many an editor has mangled, are not
//! needed. Buffers are numbered in decimal by older servers, in hexadecimal (`0x…`) by newer ones.

use crate::trace::parse_buffer_type;

/// What a piece of a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A buffer was allocated or freed.
    Message(Message),
    /// A message that is cut, or that another one runs through: allocations or frees that are lost.
    Broken(&'a str),
    /// The process with this id is gone, and its buffers are forgotten.
    Dead(u32),
    /// Statistics, circular buffers, kernels and other things that the server prints.
    Other,
    /// Nothing that a server prints.
    Foreign(&'a str),
}

/// A message about one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// What the server says about it.
    pub(super) what: What,
    /// Process id; of a free, that of the owner, or who sent it if there is none. Early servers do not say.
    pub(super) pid: Option<u32>,
    /// Number of the device; early servers do not always say.
    pub(super) device: Option<u32>,
    /// Device address.
    pub(super) address: u64,
}

/// What the server says about a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It was allocated; this many references now, if the server says so.
    Allocated { size: u64, buffer_type: Option<u32>, references: Option<u64> },
    /// It was freed; this many references are left, if the server says so.
    Freed { size: u64, references: Option<u64> },
    /// It was freed, and the server did not have it.
    Unknown,
    /// It was allocated with a type that the server does not take.
    Refused,
}

/// Words that begin what a message says.
const MESSAGES: [&str; 5] =
    ["Allocated ", "Freed buffer ", "Deallocation for ", "Double-free #", "Invalid buffer_type "];

/// Words that a piece of a broken message may have left.
const REMAINS: [&str; 6] = ["[PID ", "buffer_id=", "ref_count=", " bytes of ", ", FINAL)", " on device "];

/// What else a server prints begins so, symbols and blanks aside.
const OTHERS: [&str; 29] = [
    "Current Statistics",
    "Device ",
    "Buffers: ",
    "DRAM: ",
    "L1: ",
    "L1_SMALL: ",
    "SYSTEM_MEMORY: ",
    "TRACE: ",
    "Total: ",
    "Active allocations: ",
    "Received DUMP_REMAINING",
    "REMAINING ALLOCATED BUFFERS",
    "Total tracked allocations: ",
    "Buffer 0x",
    "Total remaining buffers: ",
    "No buffers remaining",
    "DUMP_REMAINING complete",
    "Detected dead processes",
    "Removed ",
    "CB_ALLOC]",
    "CB_FREE]",
    "KERNEL_LOAD]",
    "KERNEL_UNLOAD]",
    "Last 5 events",
    "ALLOC size=",
    "FREE size=",
    "REUSE size=",
    "TT-Metal] Warning: Allocation tracking",
    "Buffer reused with DIFFERENT size",
];

/// Takes a line apart, and gives each piece to `sink`.
pub(super) fn read<'a>(line: &'a str, sink: &mut impl FnMut(Piece<'a>)) {
    let mut rest = line;
    let mut found = false;
    while let Some(at) = begin_of_message(rest, 0) {
        let (before, message) = rest.split_at(at);
        let (before, pid) = take_pid(before);
        match message_at(message) {
            Some((message, after)) => {
                read_rest(before, true, sink);
                sink(Piece::Message(Message { pid, ..message }));
                rest = after;
            }
            None => {
                // Up to the next message, which may be whole; the process id before it is its own.
                let next = begin_of_message(message, 1).unwrap_or(message.len());
                let end = message[..next].rfind("[PID ").unwrap_or(next);
                read_rest(before, true, sink);
                let broken = &message[..end];
                // Other programs may speak of what they allocated.
                let ours = pid.is_some() || !broken.starts_with("Allocated ") || is_remains(broken);
                sink(if ours { Piece::Broken(broken) } else { Piece::Foreign(broken) });
                rest = &message[end..];
            }
        }
        found = true;
    }
    read_rest(rest, found, sink);
}

fn begin_of_message(text: &str, from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    MESSAGES.iter().filter_map(|words| rest.find(words)).min().map(|at| at + from)
}

/// Takes `[PID n] ` off the end, or what early servers had there.
fn take_pid(text: &str) -> (&str, Option<u32>) {
    let text = text.strip_suffix("Warning: ").unwrap_or(text);
    let pid = || {
        let (before, pid) = text.rsplit_once("[PID ")?;
        Some((before, pid.trim_end().strip_suffix(']')?.parse().ok()?))
    };
    pid().map_or((text, None), |(before, pid)| (before, Some(pid)))
}

/// What stands beside the messages of a line, or on a line without any.
fn read_rest<'a>(text: &'a str, beside: bool, sink: &mut impl FnMut(Piece<'a>)) {
    let plain = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if !text.contains(|c: char| c.is_ascii_alphanumeric()) {
        // A rule, the side of a box, or what is left of a symbol.
        if !beside {
            sink(Piece::Other);
        }
    } else if let Some(pid) = dead(plain) {
        sink(Piece::Dead(pid));
    } else if OTHERS.iter().any(|words| plain.starts_with(words)) || plain.contains("Buffer reused with DIFFERENT") {
        sink(Piece::Other);
    } else if is_remains(text) {
        sink(Piece::Broken(text));
    } else {
        sink(Piece::Foreign(text));
    }
}

fn is_remains(text: &str) -> bool {
    REMAINS.iter().any(|words| text.contains(words))
}

fn dead(plain: &str) -> Option<u32> {
    let (pid, rest) = take_number(plain.strip_prefix("PID ")?)?;
    rest.starts_with(" is dead").then_some(u32::try_from(pid).ok()?)
}

/// Reads a message, and gives what comes after it.
fn message_at(text: &str) -> Option<(Message, &str)> {
    let message = |what, device, address| Message { what, pid: None, device: Some(device), address };
    if let Some(rest) = text.strip_prefix("Allocated ") {
        let (size, rest) = take_number(rest)?;
        let (name, rest) = rest.strip_prefix(" bytes of ")?.split_once(' ')?;
        let (device, rest) = take_device(rest.strip_prefix("on device ")?)?;
        let (address, rest) = take_number(rest.strip_prefix(" (buffer_id=")?)?;
        let (references, rest) = match rest.strip_prefix(", ref_count=") {
            Some(rest) => take_number(rest).map(|(count, rest)| (Some(count), rest))?,
            None => (None, rest),
        };
        let what = What::Allocated { size, buffer_type: parse_buffer_type(name), references };
        return Some((message(what, device, address), rest.strip_prefix(')')?));
    }
    if let Some(rest) = text.strip_prefix("Freed buffer ") {
        let (address, rest) = take_number(rest)?;
        let (device, rest) = take_device(rest.strip_prefix(" on device ")?)?;
        let (size, rest) = take_number(rest.strip_prefix(" (")?)?;
        let rest = rest.strip_prefix(" bytes")?;
        let (references, rest) = if let Some(rest) = rest.strip_prefix(", ref_count=") {
            let (count, rest) = take_number(rest)?;
            (Some(count), rest.strip_prefix(" remaining")?)
        } else if let Some(rest) = rest.strip_prefix(", FINAL") {
            (Some(0), rest)
        } else {
            (None, rest)
        };
        let what = What::Freed { size, references };
        return Some((message(what, device, address), rest.strip_prefix(')')?));
    }
    without_size(text)
}

/// A message about a buffer that the server does not have, or does not take.
fn without_size(text: &str) -> Option<(Message, &str)> {
    let (what, rest) = if let Some(rest) = text.strip_prefix("Deallocation for ") {
        let words = ["unknown buffer ", "ALREADY FREED buffer "];
        (What::Unknown, words.iter().find_map(|words| rest.strip_prefix(words))?)
    } else if let Some(rest) = text.strip_prefix("Double-free #") {
        (What::Unknown, take_number(rest)?.1.strip_prefix(" for buffer ")?)
    } else {
        let rest = text.strip_prefix("Invalid buffer_type ")?;
        (What::Refused, take_number(rest)?.1.strip_prefix(" for buffer ")?)
    };
    let (address, rest) = take_number(rest)?;
    let (device, rest) = match rest.strip_prefix(" on device ") {
        Some(rest) => take_device(rest).map(|(device, rest)| (Some(device), rest))?,
        None => (None, rest),
    };
    // What the server adds in parentheses says nothing more.
    let remark = rest.strip_prefix(" (").and_then(|remark| remark.split_once(')'));
    let remark = remark.filter(|(remark, _)| !MESSAGES.iter().any(|words| remark.contains(words)));
    let rest = remark.map_or(rest, |(_, rest)| rest);
    Some((Message { what, pid: None, device, address }, rest))
}

fn take_device(text: &str) -> Option<(u32, &str)> {
    let (number, rest) = take_number(text)?;
    Some((u32::try_from(number).ok()?, rest))
}

/// Takes a number off the front, in decimal or as `0x…`.
fn take_number(text: &str) -> Option<(u64, &str)> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    Some((u64::from_str_radix(&digits[..end], radix).ok()?, &digits[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(line: &str) -> Vec<Piece<'_>> {
        let mut pieces = Vec::new();
        read(line, &mut |piece| pieces.push(piece));
        pieces
    }

    fn message(what: What, pid: u32, device: u32, address: u64) -> Piece<'static> {
        Piece::Message(Message { what, pid: Some(pid), device: Some(device), address })
    }

    fn allocated(size: u64, buffer_type: u32, references: Option<u64>) -> What {
        What::Allocated { size, buffer_type: Some(buffer_type), references }
    }

    #[test]
    fn every_form_of_a_message_is_read() {
        let freed = |references| What::Freed { size: 512, references };
        for (line, piece) in [
            (
                "✓ [PID 77] Allocated 512 bytes of DRAM on device 4 (buffer_id=694960736)",
                message(allocated(512, 0, None), 77, 4, 694_960_736),
            ),
            (
                "✓ [PID 77] Allocated 512 bytes of L1_SMALL on device 4 (buffer_id=0x296c4e60, ref_count=2)",
                message(allocated(512, 3, Some(2)), 77, 4, 0x296c_4e60),
            ),
            (
                "✗ [PID 77] Freed buffer 0x100 on device 4 (512 bytes, ref_count=1 remaining)",
                message(freed(Some(1)), 77, 4, 256),
            ),
            ("‚úó [PID 77] Freed buffer 256 on device 4 (512 bytes, FINAL)", message(freed(Some(0)), 77, 4, 256)),
            ("✗ [PID 77] Freed buffer 256 on device 4 (512 bytes)", message(freed(None), 77, 4, 256)),
            (
                "⚠ [PID 77] Deallocation for unknown buffer 256 on device 4 (allocated before tracking started)",
                message(What::Unknown, 77, 4, 256),
            ),
            (
                "⚠ [PID 77] Deallocation for ALREADY FREED buffer 0x100 on device 4 (allocs=3 frees=4)",
                message(What::Unknown, 77, 4, 256),
            ),
            ("⚠ [PID 77] Double-free #2 for buffer 256 on device 4", message(What::Unknown, 77, 4, 256)),
            ("⚠ [PID 77] Invalid buffer_type 9 for buffer 256 on device 4", message(What::Refused, 77, 4, 256)),
            (
                "⚠ Warning: Deallocation for unknown buffer 256",
                Piece::Message(Message { what: What::Unknown, pid: None, device: None, address: 256 }),
            ),
            ("   PID 77 is dead, removing its buffers...", Piece::Dead(77)),
        ] {
            assert_eq!(pieces(line).last(), Some(&piece), "{line}");
        }
    }

    #[test]
    fn what_else_a_server_prints_is_known() {
        for line in [
            "",
            "📊 Current Statistics:",
            "  Device 0:",
            "    DRAM: 4096 bytes (4 KB)",
            "  Active allocations: 12",
            "║  REMAINING ALLOCATED BUFFERS  ║",
            "  DRAM: 12 buffers, 1.5 MB total",
            "    - Buffer 0x100: 4 KB (PID 77, ref_count=2)",
            "✓ No buffers remaining - perfect cleanup!",
            "⚠️  Detected dead processes, cleaning up orphaned buffers...",
            "   ✓ Removed 12 buffers (3.5 MB) from PID 77",
            "✓ [CB_ALLOC] Device 0: +0.25 MB (Total: 0.25 MB)",
            "     REUSE size=512 pid=77 ref=1",
            "⚠ [PID 77] Buffer reused with DIFFERENT size: old=1 new=2 (buffer_id=0x100, device=4)",
            "[TT-Metal] Warning: Allocation tracking enabled but server not available at /tmp/x.sock",
        ] {
            assert_eq!(pieces(line), [Piece::Other], "{line}");
        }
        for line in ["PASSED tests/test_a.py", "Allocated three workers"] {
            assert_eq!(pieces(line), [Piece::Foreign(line)]);
        }
    }

    #[test]
    fn messages_that_run_into_each_other_are_told_apart() {
        let two = "✗ [PID 7] Freed buffer 256 on device 0 (64 bytes, FINAL)✓ [PID 8] Allocated 32 bytes of L1 on device 1 (buffer_id=512)";
        let freed = What::Freed { size: 64, references: Some(0) };
        assert_eq!(pieces(two), [message(freed, 7, 0, 256), message(allocated(32, 1, None), 8, 1, 512)]);
        let through = "✓ [PID 7] Allocated ✗ [PID 8] Freed buffer 256 on device 0 (64 bytes, FINAL)";
        assert_eq!(pieces(through), [Piece::Broken("Allocated ✗ "), message(freed, 8, 0, 256)]);
        let tail = "512 bytes of DRAM on device 4 (buffer_id=5)";
        assert_eq!(pieces(tail), [Piece::Broken(tail)]);
        let cut = "✓ [PID 7] Allocated 512 bytes of DR";
        assert_eq!(pieces(cut), [Piece::Broken("Allocated 512 bytes of DR")]);
        assert_eq!(pieces("✓ [PID 7"), [Piece::Broken("✓ [PID 7")]);
    }

    #[test]
    fn cut_anywhere_or_changed_anywhere_nothing_panics_or_is_silently_lost() {
        let line = "✓ [PID 77] Allocated 512 bytes of DRAM on device 4 (buffer_id=0x100, ref_count=2)";
        for (at, _) in line.char_indices() {
            // The symbol alone may be anything.
            assert!(at < 4 || !pieces(&line[..at]).is_empty(), "{at}");
            for other in ["0", "-", "99999999999999999999", "(", "[PID ", "Allocated "] {
                let changed = format!("{}{other}{}", &line[..at], &line[at..]);
                assert!(!pieces(&changed).is_empty(), "{changed}");
            }
        }
    }
}
