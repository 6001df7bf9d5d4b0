// SPDX-License-Identifier: Apache-2.0
//! What a verdict means for whoever has to act on it.

use serde::Serialize;

use super::{Colour, Verdict};

/// A verdict in plain words.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// How much attention it asks for.
    pub colour: Colour,
    /// What it means, in one sentence.
    pub meaning: &'static str,
    /// What is at stake.
    pub effect: &'static str,
    /// What usually makes it happen.
    pub causes: &'static [&'static str],
    /// What to look at next.
    pub look: &'static [&'static str],
    /// What makes it only possible instead of confirmed.
    pub certainty: &'static str,
}

/// For verdicts about what followed an event.
const GAP: &str = "Possible if events were lost in between, or if the recording ended before the buffer's next event.";
/// For verdicts about what came before an event.
const PAST: &str = "Possible if events were lost after the buffer's allocation, or if that was before the recording.";
/// For verdicts about the whole life of a buffer.
const LIFE: &str = "Possible if the process went on after the recording, or if events were lost after the allocation: \
    its free may have been among them.";

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 16] = [
        Self::Released,
        Self::Repeat,
        Self::AliasFree,
        Self::StaleFree,
        Self::StolenFree,
        Self::Overlap,
        Self::Leaked,
        Self::AfterClose,
        Self::Marked,
        Self::Bulk,
        Self::Failed,
        Self::Phantom,
        Self::PreAttach,
        Self::Inherited,
        Self::Held,
        Self::Unmatched,
    ];

    /// The verdict of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == name)
    }

    /// What it means, usually comes from, and asks for.
    #[must_use]
    pub const fn explain(self) -> Explanation {
        let (effect, causes, look, certainty) = self.words();
        Explanation { verdict: self, colour: self.colour(), meaning: self.meaning(), effect, causes, look, certainty }
    }

    const fn words(self) -> (&'static str, &'static [&'static str], &'static [&'static str], &'static str) {
        match self {
            Self::Released => ("None: this is how a buffer should end.", &["Every ordinary free."], &[], GAP),
            Self::Repeat => (
                "No memory is touched. But two places believe that they own the buffer, and one of them is wrong.",
                &[
                    "A container or cache of shared pointers is cleared after its buffers were deallocated by hand.",
                    "A tensor was deallocated twice by C++, or it and a view of it; `ttnn.deallocate` ignores a second call.",
                    "Teardown cleans up on two levels what was allocated once.",
                ],
                &[
                    "`excess`: this free, and the free before it. One of the two should not be there.",
                    "`timeline --buffer ID --stacks`: the whole life of one of the examples.",
                ],
                PAST,
            ),
            Self::AliasFree => (
                "None: it owns nothing, and no allocator was told. Counting by address takes it for an excess free.",
                &[
                    "The chip buffers of a mesh are cleaned up one by one, besides the buffer that owns their memory.",
                    "A view or reshape is deallocated while its base is in use, or when that is gone.",
                ],
                &[
                    "`excess`: whether the owner is freed later, once.",
                    "`timeline --address`: owner and views together.",
                ],
                PAST,
            ),
            Self::StaleFree => (
                "The allocator was told to free what it had free already. It may refuse, or damage its free list.",
                &[
                    "An object that outlived a free by another path, e.g. by address, or by a view that reached the allocator.",
                ],
                &["`timeline --address`: who freed the block first.", "`excess`: the stack of the late free."],
                PAST,
            ),
            Self::StolenFree => (
                "Memory of a living buffer was given away. Its contents will be overwritten: wrong results or a hang.",
                &[
                    "A stale object frees by an address that the allocator has given to another buffer since.",
                    "An operation moved its output to the address of its input.",
                ],
                &[
                    "`excess`: the stack of this free is the place to repair.",
                    "`timeline --address`: the buffer that was robbed, and the test that it belonged to.",
                ],
                PAST,
            ),
            Self::Overlap => (
                "Two buffers write to the same bytes: wrong results.",
                &[
                    "The allocators of a mesh and of its submesh were used at once.",
                    "A block was freed too early and given away again.",
                ],
                &["`timeline --address`: both buffers, and what happened to the block before."],
                PAST,
            ),
            Self::Leaked => (
                "The device runs out of memory sooner, though the program freed what it should. The buffer counts as live until its allocator releases everything.",
                &["Another device of the process was closed: ttnn then takes those that are open for closed, too."],
                &["`excess`, below the leaks: who closed a device before.", "`live` and `held`: how much it comes to."],
                "Always confirmed: where events were lost, such a free is only possibly after-close.",
            ),
            Self::AfterClose => (
                "Usually none, the memory was gone already. In some releases the destructor calls a dangling allocator.",
                &[
                    "Tensors outlive the fixture that closes the device: locals of a failed test are kept by pytest.",
                    "A cache at module level is destroyed when the interpreter exits.",
                ],
                &["`excess`, below the late sites: what kept the buffer.", "Whether the test failed: its locals stay."],
                GAP,
            ),
            Self::Marked => (
                "None: the device was gone, so there was nothing to give back.",
                &["A mesh device was destroyed before the tensors on it."],
                &["The order of teardown: tensors first, then the device."],
                GAP,
            ),
            Self::Bulk => (
                "None for the memory. Each such buffer was still held when its device closed.",
                &["The device was closed, or its buffers were deallocated all at once."],
                &["`held`: the sites whose buffers live until the device closes."],
                GAP,
            ),
            Self::Failed => (
                "The caller gets an exception, usually out of memory.",
                &[
                    "Too much is held: leaks of earlier tests in the same process, or a cache.",
                    "The memory is there, but in pieces.",
                ],
                &[
                    "`timeline --verdict failed --stacks`: who asked, for how much, in which test.",
                    "`held`: what should have been gone by then.",
                ],
                "Possible if the thread went on without a word of the request's end.",
            ),
            Self::Phantom => {
                ("None: no memory was taken.", &["A graph capture without dispatch.", "A buffer of size 0."], &[], GAP)
            }
            Self::PreAttach => (
                "None that is known: its allocation was before the recording.",
                &["The recording began while the process was at work."],
                &["Record from the start (`record -- COMMAND`) to see where it was allocated."],
                "Confirmed by the target's own count of buffers when the recording began.",
            ),
            Self::Inherited => (
                "None: the child's copy is not the parent's memory. Counting by address takes it for an excess free.",
                &["A forked child runs destructors at its exit, e.g. a timeout process or a data loader."],
                &["Let the child leave by `os._exit`."],
                PAST,
            ),
            Self::Held => (
                "The memory stays taken: a leak if the process goes on, nothing if it was about to end.",
                &[
                    "A tensor is kept by a cache, a module global, or the locals of a failed test.",
                    "The program cache keeps the binaries of programs.",
                    "The recording was stopped while the process went on.",
                ],
                &["`held`: by site and age. The oldest and those that grow from test to test come first."],
                LIFE,
            ),
            Self::Unmatched => (
                "Not known. The source knows addresses alone, so that any verdict about a free may be behind it.",
                &[
                    "Aliases report frees and no allocations: the chip buffers of a mesh, views.",
                    "Meshes and chips of one number, types of memory, or processes share an address.",
                    "The buffer was freed twice, or messages were lost.",
                ],
                &[
                    "`timeline --address`: the line of the log for each allocation and free.",
                    "Record such a run (`record`): each of these frees gets the verdict that it is.",
                ],
                "Never more than possible: what would confirm it is not in the source.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_verdict_has_one_name_and_is_explained() {
        let names: BTreeSet<_> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
        assert_eq!(names.len(), Verdict::ALL.len());
        for verdict in Verdict::ALL {
            let told = verdict.explain();
            assert_eq!(Verdict::from_name(verdict.name()), Some(verdict));
            assert!(!told.effect.is_empty() && !told.causes.is_empty() && !told.certainty.is_empty());
            // What asks for attention says where to look.
            assert!(verdict.colour() == Colour::Normal || !told.look.is_empty(), "{}", verdict.name());
        }
        assert_eq!(Verdict::from_name("leak"), None);
    }
}
