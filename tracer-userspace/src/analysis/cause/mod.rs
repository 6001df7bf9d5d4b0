// SPDX-License-Identifier: Apache-2.0
//! Why a site frees what it should not: known patterns, each with the evidence for it.
//!
//! A pattern is a row of [`RULES`]. It matches by what the trace says of the frees (devices, verdicts, who owns the block)
//! or by functions on the stacks, whose names are taken apart, never searched for words. Several may match, the more
//! telling first; where none does, nothing is guessed.

mod evidence;
mod frames;
mod functions;
mod signs;
#[cfg(test)]
mod tests;

use serde::Serialize;

use functions::Known;

pub(super) use evidence::Facts;
pub(super) use functions::Functions;
pub(super) use signs::Signs;

/// A pattern that is known to make frees too many, or too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A device's program cache is cleared.
    ProgramCache,
    /// Another cache is cleared.
    Cache,
    /// A program gives up its pool of buffers.
    ProgramPool,
    /// A container of the standard library gives up shared pointers to buffers, or tensors.
    Container,
    /// The chips' parts of a mesh buffer are freed besides the mesh's own buffer.
    MeshAndChip,
    /// A view or alias frees the memory of its base.
    View,
    /// Buffers of a graph capture.
    GraphCapture,
    /// A forked child frees its copies.
    ForkedChild,
    /// A tensor outlived its device.
    OutlivedDevice,
    /// Another device of the process was closed.
    OtherDeviceClosed,
}

/// A cause that the evidence speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suspect {
    /// The pattern.
    pub cause: Cause,
    /// What makes it so, as a sentence about frames and buffers of the trace.
    pub evidence: String,
}

/// What a cause means for whoever has to act on it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CauseWords {
    /// The cause.
    pub cause: Cause,
    /// What happens, in a few words.
    pub meaning: &'static str,
    /// What the evidence is.
    pub evidence: &'static str,
    /// What to look at next.
    pub look: &'static str,
}

type Rule = fn(&Facts<'_>) -> Option<String>;

/// The patterns with their rules, the more telling first.
const RULES: [(Cause, Rule); Cause::ALL.len()] = [
    (Cause::ProgramCache, |facts| {
        facts.made_by(Known::ProgramCache).or_else(|| facts.made_by(Known::ProgramCacheEntry))
    }),
    (Cause::Cache, |facts| facts.made_by(Known::Cache)),
    (Cause::ProgramPool, |facts| facts.made_by(Known::ProgramPool)),
    (Cause::Container, |facts| facts.made_by(Known::Container)),
    (Cause::MeshAndChip, |facts| facts.mesh_and_chip()),
    (Cause::View, |facts| facts.view()),
    (Cause::GraphCapture, |facts| facts.graph_capture()),
    (Cause::ForkedChild, |facts| facts.forked_child()),
    (Cause::OutlivedDevice, |facts| facts.outlived_device()),
    (Cause::OtherDeviceClosed, |facts| facts.other_device_closed()),
];

/// The causes that the facts of a site speak for.
pub(super) fn suspects(facts: &Facts<'_>) -> Vec<Suspect> {
    RULES.iter().filter_map(|(cause, rule)| Some(Suspect { cause: *cause, evidence: rule(facts)? })).collect()
}

impl Cause {
    /// All causes, in the order in which they are told.
    pub const ALL: [Self; 10] = [
        Self::ProgramCache,
        Self::Cache,
        Self::ProgramPool,
        Self::Container,
        Self::MeshAndChip,
        Self::View,
        Self::GraphCapture,
        Self::ForkedChild,
        Self::OutlivedDevice,
        Self::OtherDeviceClosed,
    ];

    /// The name in output, the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProgramCache => "program-cache",
            Self::Cache => "cache",
            Self::ProgramPool => "program-pool",
            Self::Container => "container",
            Self::MeshAndChip => "mesh-and-chip",
            Self::View => "view",
            Self::GraphCapture => "graph-capture",
            Self::ForkedChild => "forked-child",
            Self::OutlivedDevice => "outlived-device",
            Self::OtherDeviceClosed => "other-device-closed",
        }
    }

    /// The cause of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// What it means, how it is told, and what to look at.
    #[must_use]
    pub const fn explain(self) -> CauseWords {
        let (meaning, evidence, look) = match self {
            Self::ProgramCache => (
                "the program cache of a device is cleared, with buffers that its programs hold",
                "This free, or the one before it, is made below a function that clears a program cache.",
                "whether the cache is cleared before the device closes, and what else frees these buffers",
            ),
            Self::Cache => (
                "a cache is cleared with buffers in it",
                "This free, or the one before it, is made below a function that clears a cache, or a cache's own clear or destructor.",
                "whether the cache is cleared before the device closes, and what else frees these buffers: take one out where it is \
                 deallocated by hand",
            ),
            Self::ProgramPool => (
                "a program gives up its pool of buffers",
                "This free, or the one before it, is made below the destructor of Program or ProgramImpl, or its release_buffers.",
                "who assigned the buffer to the program, and deallocates it besides",
            ),
            Self::Container => (
                "a container of shared pointers, or of tensors, is destroyed or emptied with buffers in it",
                "This free, or the one before it, is made below a container's destructor, clear or erase; its elements are named.",
                "what the container holds by then: buffers whose device is closed, or that are deallocated by hand besides",
            ),
            Self::MeshAndChip => (
                "a mesh buffer is cleaned up on the mesh's level and on the chips' for one allocation",
                "A buffer of a chip that owns nothing reports a free at the address of a buffer of a mesh.",
                "the cleanup of the chips' buffers: only the mesh's buffer has memory to free",
            ),
            Self::View => (
                "a view or alias frees the memory of its base",
                "A buffer that owns nothing is freed at the address of an owner on the same level.",
                "where the view is deallocated: force frees the base, whoever still uses it",
            ),
            Self::GraphCapture => (
                "a buffer is freed twice that a graph capture only pretended to allocate",
                "There is no memory behind the buffer, though its size is not 0.",
                "what is freed within the capture, and what is kept from it and freed later",
            ),
            Self::ForkedChild => (
                "a forked child frees its copies of its parent's buffers",
                "The process is a fork, and the buffer is older than it.",
                "how the child ends: os._exit runs no destructors",
            ),
            Self::OutlivedDevice => (
                "a tensor outlived its device",
                "The free comes after the bulk release by which its device closed, or when the device object was gone.",
                "who holds the tensor: a cache, a module global, or pytest, which keeps the locals of a failed test",
            ),
            Self::OtherDeviceClosed => (
                "another device of the process was closed",
                "The free reached no allocator, though the buffer's own has not released everything, and a device was closed before.",
                "who closes one of several devices while others are in use: ttnn (0.66 to 0.81) then calls no allocator for the \
                 others any more, and what is freed on them stays taken until they are closed, too",
            ),
        };
        CauseWords { cause: self, meaning, evidence, look }
    }
}
