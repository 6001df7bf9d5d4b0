// SPDX-License-Identifier: Apache-2.0
//! The verdicts: what can become of a buffer, and what a free can be.

use serde::{Deserialize, Serialize};

/// What a free was, or what became of a buffer without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// An owner was freed and the free reached its allocator.
    Released,
    /// The same buffer was freed again.
    Repeat,
    /// A buffer that does not own its memory was reported as freed.
    AliasFree,
    /// Another buffer freed a block that was free already.
    StaleFree,
    /// A free by address released a block that by then belonged to another buffer.
    StolenFree,
    /// Two live owners in one allocator share bytes.
    Overlap,
    /// No allocator was called for a free, although the buffer's own has not taken the memory back.
    Leaked,
    /// The buffer was freed after its allocator or device was gone.
    AfterClose,
    /// The buffer was only marked, because its device was gone.
    Marked,
    /// The allocator released everything at once.
    Bulk,
    /// The request was not met.
    Failed,
    /// There was no memory behind the buffer.
    Phantom,
    /// The buffer is older than the recording.
    PreAttach,
    /// The buffer is a copy that a fork made.
    Inherited,
    /// The buffer was still live at the end.
    Held,
    /// A free was reported where no allocation was, by a source that does not tell buffers apart.
    Unmatched,
}

/// How much attention a verdict asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// As it should be.
    Normal,
    /// Worth a look: late, leaked, held or failed.
    Yellow,
    /// A free beyond the allocations, without effect on memory.
    Excess,
    /// Memory of one buffer was used or released by another.
    Red,
}

/// Whether a verdict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// The recording has everything that decides it.
    Confirmed,
    /// Events that could change it were lost, or lie beyond the recording's begin or end.
    Possible,
}

impl Certainty {
    /// The name in output, the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Possible => "possible",
        }
    }
}

impl Colour {
    /// The name in output, the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Yellow => "yellow",
            Self::Excess => "excess",
            Self::Red => "red",
        }
    }
}

impl Verdict {
    /// The name in output, the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Repeat => "repeat",
            Self::AliasFree => "alias-free",
            Self::StaleFree => "stale-free",
            Self::StolenFree => "stolen-free",
            Self::Overlap => "overlap",
            Self::Leaked => "leaked",
            Self::AfterClose => "after-close",
            Self::Marked => "marked",
            Self::Bulk => "bulk",
            Self::Failed => "failed",
            Self::Phantom => "phantom",
            Self::PreAttach => "pre-attach",
            Self::Inherited => "inherited",
            Self::Held => "held",
            Self::Unmatched => "unmatched",
        }
    }

    /// How much attention it asks for.
    #[must_use]
    pub const fn colour(self) -> Colour {
        match self {
            Self::Released | Self::Bulk | Self::Phantom | Self::PreAttach | Self::Inherited => Colour::Normal,
            Self::Leaked | Self::AfterClose | Self::Marked | Self::Failed | Self::Held => Colour::Yellow,
            Self::Repeat | Self::AliasFree | Self::Unmatched => Colour::Excess,
            Self::StaleFree | Self::StolenFree | Self::Overlap => Colour::Red,
        }
    }

    /// What it means, in one sentence for the user.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Released => "freed once by its owner, and the allocator got the memory back",
            Self::Repeat => "freed again although it was deallocated already; the call had no effect",
            Self::AliasFree => {
                "a view, or a chip's part of a mesh buffer, was freed, which owns no memory; nothing was released"
            }
            Self::StaleFree => {
                "freed a block that was free already, as another free or its device's close had released it"
            }
            Self::StolenFree => "released memory that by then belonged to another live buffer",
            Self::Overlap => "shares bytes with another live buffer of the same allocator",
            Self::Leaked => "freed, but its allocator was not called; the memory stays taken until the device closes",
            Self::AfterClose => "freed when its allocator or device was gone; no allocator was called",
            Self::Marked => "only marked as deallocated, because its device was gone",
            Self::Bulk => "released with everything else of its allocator, e.g. when the device closed",
            Self::Failed => "requested but never allocated, e.g. out of memory",
            Self::Phantom => "no memory behind it: a graph capture without dispatch, or size 0",
            Self::PreAttach => "freed here, allocated before the recording began",
            Self::Inherited => "a fork's copy of its parent's buffer; the parent's memory is not touched",
            Self::Held => "still live at the end",
            Self::Unmatched => "reported free where nothing was allocated; the source does not tell why",
        }
    }
}
