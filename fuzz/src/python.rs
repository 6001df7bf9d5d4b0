// SPDX-License-Identifier: Apache-2.0
//! What the memory of a Python interpreter says: line tables, code objects, the description of itself.

use buftrace::{
    capture::{code::CodeObject, lines::line},
    discover::python::{CodeLayout, DEBUG_OFFSETS, LineFormat, Offsets},
};

/// The layout of a code object, about that of 3.12, in an image of this program's own memory.
const SIZE: usize = 1024;

/// A byte that says what, and the memory.
pub(crate) fn python(bytes: &[u8]) {
    let Some((&what, bytes)) = bytes.split_first() else { return };
    match what % 4 {
        0 => lines(LineFormat::Pairs, bytes),
        1 => lines(LineFormat::Locations, bytes),
        2 => code(bytes),
        _ => {
            let mut description = [0; DEBUG_OFFSETS];
            description.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            if let Ok(offsets) = Offsets::of(13, &description) {
                // Every offset is small, so that what is read of a frame is.
                assert!(offsets.frame_size() < 2 << 20, "a frame of {} bytes", offsets.frame_size());
            }
        }
    }
}

/// An offset, a first line and a table.
fn lines(format: LineFormat, bytes: &[u8]) {
    let Some((head, table)) = bytes.split_first_chunk::<12>() else { return };
    let (offset, first) = head.split_at(8);
    let offset = i64::from_le_bytes(offset.try_into().unwrap_or_default());
    let first = u32::from_le_bytes(first.try_into().unwrap_or_default());
    for offset in [offset, i64::from(offset as u16), -1] {
        let _ = line(format, table, first, offset);
    }
}

/// An image of memory, at which the object begins, and its pointers lead into the same image, or anywhere.
fn code(bytes: &[u8]) {
    let mut image = vec![0_u64; SIZE / 8];
    for (word, bytes) in image.iter_mut().zip(bytes.chunks(8)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    let base = image.as_ptr() as u64;
    let layout = CodeLayout {
        code_type: 1,
        str_type: 2,
        bytes_type: 3,
        counts: 24,
        names: 96,
        file: 104,
        function: 112,
        lines: 120,
        first_line: 40,
        start: 192,
        format: if bytes.len().is_multiple_of(2) { LineFormat::Pairs } else { LineFormat::Locations },
        characters: (40, 56),
    };
    for pointer in [layout.file, layout.function, layout.lines] {
        let word = &mut image[pointer as usize / 8];
        // Small numbers are places in the image.
        if *word < SIZE as u64 {
            *word += base;
        }
    }
    if let Ok((_, code)) = CodeObject::read_now(std::process::id(), &layout, base) {
        assert!(code.function.len() <= 4 * 4096 && code.file.len() <= 4 * 4096, "a text that is too long");
        let _ = code.line(4);
    }
}
