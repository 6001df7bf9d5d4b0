// SPDX-License-Identifier: Apache-2.0
//! The same frees by something other than their site.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::ExcessKind;
use crate::{
    analysis::{Ranking, filter::origin_of, names},
    model::{Certainty, Definitions, Device, Outcome, Verdict},
};

/// By what excess frees are grouped, if not by site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExcessGrouping {
    /// The test that made them.
    Test,
    /// The device of the memory.
    Device,
    /// The type of the memory.
    Type,
    /// What they were.
    Verdict,
}

/// Frees of one kind that belong together.
#[derive(Clone, Debug, Serialize)]
pub struct ExcessGroup {
    /// What kind of finding they are.
    pub kind: ExcessKind,
    /// Test, device, type or verdict.
    pub name: String,
    /// Frees.
    pub count: u64,
    /// Of these, how many a loss could change.
    pub possible: u64,
    /// Bytes of the buffers, each time that one was freed.
    pub bytes: u64,
    /// When the first was made.
    pub first: u64,
}

/// Frees, by all that they can be grouped by.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Sums(HashMap<Key, Sum>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
struct Key {
    kind: ExcessKind,
    test: u32,
    device: Option<Device>,
    buffer_type: u32,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Sum {
    count: u64,
    possible: u64,
    bytes: u64,
    first: u64,
}

impl Sums {
    pub(super) fn add(&mut self, kind: ExcessKind, outcome: &Outcome) {
        let owner = outcome.owner();
        let (device, buffer_type) = (owner.device, owner.buffer_type);
        let key = Key { kind, test: origin_of(outcome).test, device, buffer_type, verdict: outcome.verdict };
        self.0.entry(key).or_default().merge(Sum {
            count: 1,
            possible: u64::from(outcome.certainty == Certainty::Possible),
            bytes: outcome.buffer.size,
            first: outcome.moment.time,
        });
    }

    /// The groups, and how many of them are hidden.
    pub(super) fn finish(
        self,
        by: ExcessGrouping,
        ranking: Ranking,
        definitions: &Definitions,
    ) -> (Vec<ExcessGroup>, usize) {
        let mut groups: BTreeMap<(ExcessKind, String), Sum> = BTreeMap::new();
        for (key, sum) in self.0 {
            groups.entry((key.kind, key.name(by, definitions))).or_default().merge(sum);
        }
        let group = |((kind, name), Sum { count, possible, bytes, first })| ExcessGroup {
            kind,
            name,
            count,
            possible,
            bytes,
            first,
        };
        let mut groups: Vec<_> = groups.into_iter().map(group).collect();
        groups.sort_by_key(|group| (group.kind, ranking.key(group.count, group.bytes, group.first)));
        let hidden = ranking.cut(&mut groups);
        (groups, hidden)
    }
}

impl Sum {
    fn merge(&mut self, other: Self) {
        self.first = if self.count == 0 { other.first } else { self.first.min(other.first) };
        self.count = self.count.saturating_add(other.count);
        self.possible = self.possible.saturating_add(other.possible);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl Key {
    fn name(&self, by: ExcessGrouping, definitions: &Definitions) -> String {
        match by {
            ExcessGrouping::Test => names::test_of(definitions, self.test).unwrap_or_else(|| names::NO_TEST.to_owned()),
            ExcessGrouping::Device => names::device(self.device).unwrap_or_else(|| "unknown".to_owned()),
            ExcessGrouping::Type => names::buffer_type(self.buffer_type),
            ExcessGrouping::Verdict => self.verdict.name().to_owned(),
        }
    }
}
