// SPDX-License-Identifier: Apache-2.0
//! What the frees of a site have in common that no stack shows: counted while the entries are read.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Buffer, Device, Moment, Outcome, Previous, Verdict},
    trace::DeviceClass,
};

/// Something about a free that speaks for a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(super) enum Sign {
    /// A chip's buffer that owns nothing, at the address of a mesh's.
    ChipOfMesh,
    /// Another buffer that owns nothing, at the address of an owner.
    View,
    /// There is no memory behind the buffer.
    Phantom,
    /// It is a forked child's copy.
    Copy,
    /// Its allocator had released everything.
    Closed,
    /// Its device object was gone, and nothing told of a close.
    Gone,
    /// It leaked, and the process had closed a device.
    LeakedSinceClose,
}

/// What frees with a sign have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
struct Close {
    /// The device of the buffers.
    device: Option<Device>,
    /// The stack and the test in which a device was closed before.
    by: Option<(u32, u32)>,
}

/// The frees that have a sign.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Signed {
    pub(super) count: u64,
    /// Of the first of them.
    pub(super) buffer: Buffer,
    /// The owner at an alias's address.
    pub(super) owner: Option<Buffer>,
    /// The free.
    pub(super) moment: Moment,
    /// The free before, or the close.
    pub(super) before: Option<Moment>,
}

/// The signs of a site's frees: those of late ones by what was closed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(in crate::analysis) struct Signs(BTreeMap<(Sign, Close), Signed>);

impl Signs {
    /// Adds those of the next free.
    pub(in crate::analysis) fn add(&mut self, outcome: &Outcome) {
        let before = match outcome.previous {
            Previous::Free(moment, _) | Previous::Close(moment) => Some(moment),
            _ => None,
        };
        for sign in signs(outcome) {
            let (buffer, owner, moment) = (outcome.buffer, outcome.other, outcome.moment);
            let first = Signed { count: 0, buffer, owner, moment, before };
            let by = before.map(|moment| (moment.stack, moment.test));
            let close = if sign.is_late() { Close { device: buffer.device, by } } else { Close::default() };
            self.0.entry((sign, close)).or_insert(first).count += 1;
        }
    }

    /// Adds those of later frees.
    pub(in crate::analysis) fn merge(&mut self, later: Self) {
        for (sign, signed) in later.0 {
            let add = |sum: &mut Signed| sum.count = sum.count.saturating_add(signed.count);
            self.0.entry(sign).and_modify(add).or_insert(signed);
        }
    }

    /// Those of a sign, which is not about a close.
    pub(super) fn get(&self, sign: Sign) -> Option<&Signed> {
        self.0.get(&(sign, Close::default()))
    }

    /// Those of a sign by what was closed, the most first.
    pub(super) fn closes(&self, sign: Sign) -> Vec<&Signed> {
        let mut closes: Vec<&Signed> =
            self.0.iter().filter(|((it, _), _)| *it == sign).map(|(_, signed)| signed).collect();
        closes.sort_by_key(|signed| Reverse(signed.count));
        closes
    }
}

impl Sign {
    /// Whether it is of frees that come after a close.
    fn is_late(self) -> bool {
        matches!(self, Self::Closed | Self::Gone | Self::LeakedSinceClose)
    }
}

fn signs(outcome: &Outcome) -> impl Iterator<Item = Sign> {
    let before = |verdict| matches!(outcome.previous, Previous::Free(_, it) if it == verdict);
    let phantom = outcome.buffer.phantom.then_some(Sign::Phantom);
    let copy = outcome.verdict == Verdict::Inherited || before(Verdict::Inherited);
    let late = match outcome.verdict {
        Verdict::AfterClose | Verdict::Marked if before(Verdict::Bulk) => Some(Sign::Closed),
        Verdict::Marked => Some(Sign::Gone),
        Verdict::Leaked if matches!(outcome.previous, Previous::Close(_)) => Some(Sign::LeakedSinceClose),
        _ => None,
    };
    [alias(outcome), phantom, copy.then_some(Sign::Copy), late].into_iter().flatten()
}

/// What kind of alias it is that was freed, if it was one.
fn alias(outcome: &Outcome) -> Option<Sign> {
    let freed = matches!(outcome.verdict, Verdict::AliasFree | Verdict::StolenFree | Verdict::StaleFree);
    let owner = outcome.other.filter(|_| freed && outcome.buffer.alias)?.device?;
    let alias = outcome.buffer.device?;
    match (alias.class, owner.class) {
        (DeviceClass::Chip, DeviceClass::Mesh) => Some(Sign::ChipOfMesh),
        // At the address of an owner on another device, its own is not known.
        _ => (alias == owner).then_some(Sign::View),
    }
}
