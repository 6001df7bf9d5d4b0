// SPDX-License-Identifier: Apache-2.0
//! Where each version of CPython keeps its threads and frames: what is to be verified in the process.
//!
//! From 3.13 on the interpreter says so itself, in `_Py_DebugOffsets` at the start of `_PyRuntime`; for the versions
//! before, the offsets are those of the headers of its releases (`Include/internal/pycore_*.h`, `Include/cpython/`), which
//! are the same in all releases of a minor version.

/// How many bytes of `_PyRuntime` [`Offsets::of`] looks at.
pub const DEBUG_OFFSETS: usize = 272;

/// How an interpreter tells the frames whose caller is C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// C code runs each frame (3.10).
    Every,
    /// By this value of the frame's mark (3.11).
    Flag(u8),
    /// By a frame between it and its caller that has this mark and is no function (3.12 on).
    Shim(u8),
}

/// Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// In `_PyRuntime`: pointer to the first interpreter.
    pub(super) interpreters: u32,
    /// In an interpreter: pointer to the first thread state.
    pub(super) threads: u32,
    /// In a thread state: pointer to the next.
    pub(super) next: u32,
    /// In a thread state: `pthread_t`.
    pub(super) thread_id: u32,
    /// In a thread state: pointer to a `_PyCFrame`, if the version has that.
    pub(super) cframe: Option<u32>,
    /// In the `_PyCFrame` or the thread state: pointer to the innermost frame.
    pub(super) current_frame: u32,
    /// In a frame: pointer to the caller's.
    pub(super) previous: u32,
    /// In a frame: pointer to the code object.
    pub(super) code: u32,
    /// In a frame: the instruction.
    pub(super) instruction: u32,
    /// Whether the instruction is an i32 that counts instructions, not a pointer.
    pub(super) counts_instructions: bool,
    /// How entry frames are marked.
    pub(super) entry: Entry,
    /// In a frame: the byte that marks them.
    pub(super) mark: u32,
    /// In a `str`: where the characters of a compact ASCII string begin, and those of another compact one.
    pub(super) characters: (u32, u32),
}

/// `FRAME_OWNED_BY_CSTACK`
const OWNED_BY_C_STACK: u8 = 3;

const V3_10: Offsets = Offsets {
    interpreters: 32,
    threads: 8,
    next: 8,
    thread_id: 176,
    cframe: None,
    current_frame: 24,
    previous: 24,
    code: 32,
    instruction: 96,
    counts_instructions: true,
    entry: Entry::Every,
    mark: 0,
    characters: (48, 72),
};

const V3_11: Offsets = Offsets {
    interpreters: 40,
    threads: 16,
    next: 8,
    thread_id: 152,
    cframe: Some(56),
    current_frame: 8,
    previous: 48,
    code: 32,
    instruction: 56,
    counts_instructions: false,
    entry: Entry::Flag(1),
    mark: 68,
    characters: (48, 72),
};

const V3_12: Offsets = Offsets {
    interpreters: 40,
    threads: 72,
    next: 8,
    thread_id: 136,
    cframe: Some(56),
    current_frame: 0,
    previous: 8,
    code: 0,
    instruction: 56,
    counts_instructions: false,
    entry: Entry::Shim(OWNED_BY_C_STACK),
    mark: 70,
    characters: (40, 56),
};

impl Offsets {
    /// Bytes of a thread state that hold all that is read of it.
    #[must_use]
    pub fn state_size(&self) -> u32 {
        self.thread_id.max(self.cframe.unwrap_or(self.current_frame)).saturating_add(8)
    }

    /// Bytes of a frame that hold all that is read of it.
    #[must_use]
    pub fn frame_size(&self) -> u32 {
        let width = if self.counts_instructions { 4 } else { 8 };
        [self.previous + 8, self.code + 8, self.instruction + width, self.mark + 1].into_iter().max().unwrap_or(0)
    }

    /// The offsets of a minor version of Python 3; `runtime` is the start of `_PyRuntime` in the process.
    ///
    /// # Errors
    /// With the reason, if the version is not supported or does not describe itself as it should.
    pub fn of(minor: u32, runtime: &[u8; DEBUG_OFFSETS]) -> Result<Self, String> {
        match minor {
            10 => Ok(V3_10),
            11 => Ok(V3_11),
            12 => Ok(V3_12),
            13 => described(runtime),
            _ => Err(format!("frames of Python 3.{minor} can't be read: 3.10 to 3.13 are supported")),
        }
    }
}

/// What `struct _Py_DebugOffsets` of 3.13 says.
fn described(runtime: &[u8; DEBUG_OFFSETS]) -> Result<Offsets, String> {
    const COOKIE: &[u8; 8] = b"xdebugpy";
    let word = |at: usize| runtime[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    if !runtime.starts_with(COOKIE) {
        return Err("the interpreter's description of itself does not begin with `xdebugpy`".into());
    }
    let version = word(8);
    if version >> 16 != 0x030d {
        return Err(format!("the interpreter's description of itself is of version {version:#x}, not of 3.13"));
    }
    if word(16) != 0 {
        return Err("the interpreter is free-threaded, which is not supported".into());
    }
    let offset = |at: usize| {
        let offset = u32::try_from(word(at)).ok().filter(|offset| *offset < 1 << 20);
        offset.ok_or_else(|| format!("the interpreter's description of itself has {:#x} as an offset", word(at)))
    };
    Ok(Offsets {
        interpreters: offset(40)?,
        threads: offset(72)?,
        next: offset(168)?,
        thread_id: offset(192)?,
        cframe: None,
        current_frame: offset(184)?,
        previous: offset(232)?,
        code: offset(240)?,
        instruction: offset(248)?,
        counts_instructions: false,
        entry: Entry::Shim(OWNED_BY_C_STACK),
        mark: offset(264)?,
        characters: V3_12.characters,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of CPython 3.13.0, as gdb prints them of its `_PyRuntime`.
    fn v3_13() -> [u8; DEBUG_OFFSETS] {
        let words: [(usize, u64); 11] = [
            (8, 0x030d_00f0),
            (40, 632),
            (72, 7344),
            (168, 8),
            (184, 72),
            (192, 152),
            (232, 8),
            (240, 0),
            (248, 56),
            (264, 70),
            (16, 0),
        ];
        let mut bytes = [0; DEBUG_OFFSETS];
        bytes[..8].copy_from_slice(b"xdebugpy");
        for (at, word) in words {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn frames_are_read_as_far_as_needed() {
        // The sizes of the structures without the locals, by gdb: 100 of PyFrameObject, and 72.
        assert_eq!([V3_10, V3_11, V3_12].map(|offsets| offsets.frame_size()), [100, 69, 71]);
    }

    #[test]
    fn a_description_is_taken_as_it_is() {
        let offsets = Offsets::of(13, &v3_13()).expect("described");
        assert_eq!((offsets.interpreters, offsets.threads, offsets.thread_id), (632, 7344, 152));
        assert_eq!((offsets.current_frame, offsets.cframe, offsets.mark), (72, None, 70));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut [u8; DEBUG_OFFSETS])| {
            let mut bytes = v3_13();
            change(&mut bytes);
            Offsets::of(13, &bytes).expect_err("refused")
        };
        assert!(refused(&|bytes| bytes[16] = 1).contains("free-threaded"));
        assert!(refused(&|bytes| bytes[10] = 0x0e).contains("0x30e00f0"));
        assert!(refused(&|bytes| bytes[0] = 0).contains("xdebugpy"));
        assert!(refused(&|bytes| bytes[199] = 1).contains("as an offset"));
        assert!(Offsets::of(14, &v3_13()).expect_err("refused").contains("3.14"));
    }
}
