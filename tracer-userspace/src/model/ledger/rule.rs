// SPDX-License-Identifier: Apache-2.0
//! The rules by which a free gets its verdict: what was freed, and what that did to memory.

use serde::{Deserialize, Serialize};

use crate::model::{Buffer, Verdict};

/// What is freed, by what is known when the free begins. It says "allocated" of itself then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) enum Origin {
    /// An owner whose allocation was seen.
    Owner,
    /// An owner whose memory is gone: its allocator released everything.
    Ended,
    /// An owner from before the recording, or from before the fork: the verdict says which.
    Older(Verdict),
    /// An owner whose allocation was lost.
    Unseen,
    /// A buffer that owns nothing.
    Alias,
}

/// What a free did to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// No allocator was called.
    Silent,
    /// No allocator was called, and the buffer's own has not taken the block back.
    Kept,
    /// The allocator took back the block that it had given to this buffer.
    Own,
    /// The allocator took back a block that it had given to another buffer.
    Theirs(Buffer),
    /// The allocator has nothing at this address, as far as was seen.
    Nothing,
    /// The buffer has no address that could be compared.
    Untraceable,
}

impl Origin {
    /// The verdict.
    ///
    /// | freed | silent | silent, block kept | its own block | another's block | nothing there |
    /// |---|---|---|---|---|---|
    /// | owner | after-close | leaked | released | stolen-free | stale-free |
    /// | ended owner | after-close | – | – | stolen-free | stale-free |
    /// | older owner | pre-attach, inherited | – | – | stolen-free | pre-attach, inherited |
    /// | unseen owner | after-close | – | – | stolen-free | released |
    /// | alias | after-close | – | – | stolen-free | as an alias that only reports |
    ///
    /// `None` stands for the last: what is at the address of an alias is no matter of one allocator.
    pub(super) fn verdict(self, effect: &Effect) -> Option<Verdict> {
        Some(match (self, effect) {
            (Self::Owner, Effect::Kept) => Verdict::Leaked,
            (Self::Older(verdict), Effect::Silent | Effect::Kept) => verdict,
            (_, Effect::Silent | Effect::Kept) => Verdict::AfterClose,
            (_, Effect::Theirs(_)) => Verdict::StolenFree,
            (Self::Owner, Effect::Own | Effect::Untraceable) => Verdict::Released,
            (Self::Owner, Effect::Nothing) => Verdict::StaleFree,
            (Self::Ended, _) => Verdict::StaleFree,
            (Self::Older(verdict), _) => verdict,
            (Self::Unseen, _) => Verdict::Released,
            (Self::Alias, _) => return None,
        })
    }
}
