// SPDX-License-Identifier: Apache-2.0
//! What reading all events of a trace comes to, to be kept at its end: who asks for no more need not read them again.
//!
//! It is what the folds and the model have when everything is read, without names, orders and cuts: those come from the
//! trace's definitions and from what a user asks for. It is valid for the rules that it was made by, so that it begins with a
//! digest of the sources that have them; whoever has others reads the events.

use std::mem;

use serde::{Deserialize, Serialize};

use super::{ExcessFold, HeldFold, ReportFold};
use crate::{
    model::{Entry, EventSums, Reading},
    trace::Item,
};

/// Most bytes of findings, some hundred thousand of them. With more, a filter has to read the events.
const FINDINGS: usize = 8 << 20;

/// What reading a trace came to.
#[derive(Debug, Deserialize, Serialize)]
pub struct Epilogue {
    /// For the model.
    pub sums: EventSums,
    /// For the analyses.
    pub folds: Folds,
}

/// The folds that an epilogue has, after the last entry.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Folds {
    /// For the report.
    pub report: ReportFold,
    /// For excess frees.
    pub excess: ExcessFold,
    /// For what is held.
    pub held: HeldFold,
    findings: Findings,
}

/// The entries that excess frees and what is held are made of, and those whose device is not known, which filters count:
/// in bytes, as they are few to those who ask, but memory of a recorder.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Findings {
    bytes: Vec<u8>,
    too_many: bool,
}

/// Collects a [`Epilogue`] item by item.
#[derive(Default)]
pub struct EpilogueFold {
    /// From the first item on.
    reading: Option<Reading>,
    folds: Folds,
}

impl Epilogue {
    /// What its bytes begin with: stands for the sources of the rules, see `build.rs`.
    pub const RULES: &str = env!("BUFTRACE_RULES");

    /// Reads one. `None` if it was made by other rules, or is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes.strip_prefix(Self::RULES.as_bytes())?).ok()
    }

    /// As it is kept; empty if that is not possible.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, Self::RULES.as_bytes().to_vec()).unwrap_or_default()
    }
}

impl Folds {
    fn entry(&mut self, entry: &Entry) {
        self.report.entry(entry);
        self.excess.entry(entry);
        self.held.entry(entry);
        if entry.device().is_none() || ExcessFold::takes(entry) || HeldFold::takes(entry) {
            self.findings.add(entry);
        }
    }

    /// The entries that excess frees and what is held are made of, and those whose device is not known; `None` if they are
    /// too many.
    #[must_use]
    pub fn findings(&self) -> Option<Vec<Entry>> {
        if self.findings.too_many {
            return None;
        }
        let (mut entries, mut rest) = (Vec::new(), &self.findings.bytes[..]);
        while !rest.is_empty() {
            let (entry, behind) = postcard::take_from_bytes(rest).ok()?;
            entries.push(entry);
            rest = behind;
        }
        Some(entries)
    }
}

impl Findings {
    fn add(&mut self, entry: &Entry) {
        if self.too_many {
            return;
        }
        match postcard::to_extend(entry, mem::take(&mut self.bytes)) {
            Ok(bytes) if bytes.len() <= FINDINGS => self.bytes = bytes,
            _ => self.too_many = true,
        }
    }
}

impl EpilogueFold {
    /// Takes the next item.
    pub fn item(&mut self, item: Item) {
        let Self { reading, folds } = self;
        reading.get_or_insert_with(|| Reading::new([&item].into_iter())).item(item, &mut |entry| folds.entry(entry));
    }

    /// Ends with the trace; `None` if nothing came.
    #[must_use]
    pub fn finish(self) -> Option<Epilogue> {
        let Self { reading, mut folds } = self;
        let sums = reading?.into_sums(&mut |entry| folds.entry(entry));
        Some(Epilogue { sums, folds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::{DeviceQuery, ExcessGrouping, Filter, Grouping, Order, Ranking},
        model::{self, Model, Source, Verdict, recorded},
        trace::{Damage, Reader, Writer},
    };

    struct Trace(Reader);

    impl Iterator for Trace {
        type Item = Item;
        fn next(&mut self) -> Option<Item> {
            self.0.next()
        }
    }

    impl Source for Trace {
        fn name(&self) -> &'static str {
            "a.trace"
        }
        fn damage(&self) -> Option<Damage> {
            self.0.damage().cloned()
        }
        fn skipped(&self) -> u64 {
            self.0.skipped()
        }
        fn passed(&self) -> u64 {
            self.0.passed()
        }
    }

    const RANKING: Ranking = Ranking { order: Order::Count, top: None };

    /// All that the folds end in.
    fn shown(folds: &Folds, model: &Model) -> Vec<String> {
        let again = |folds: &[u8]| postcard::from_bytes::<Folds>(folds).expect("read back");
        let kept = postcard::to_allocvec(folds).expect("kept");
        let by_excess = [None, Some(ExcessGrouping::Test), Some(ExcessGrouping::Device), Some(ExcessGrouping::Verdict)];
        let by_held = [Grouping::Site, Grouping::Test, Grouping::Device, Grouping::Type];
        let mut shown = vec![serde_json::to_string(&again(&kept).report.finish(3, model)).expect("JSON")];
        for by in by_excess {
            let value = again(&kept).excess.finish(by, RANKING, model);
            shown.push(serde_json::to_string(&value).expect("JSON"));
        }
        for by in by_held {
            let value = again(&kept).held.finish(by, RANKING, model);
            shown.push(serde_json::to_string(&value).expect("JSON"));
        }
        shown
    }

    /// What excess frees and held buffers of a part of the trace are, by the entries that are given.
    fn selected(filter: Filter, model: &Model, each: impl FnOnce(&mut dyn FnMut(&Entry))) -> String {
        let (mut excess, mut held, mut selection) =
            (ExcessFold::default(), HeldFold::default(), filter.select(&model.definitions));
        each(&mut |entry| {
            if selection.takes(entry) {
                excess.entry(entry);
                held.entry(entry);
            }
        });
        let excess = serde_json::to_string(&excess.finish(None, RANKING, model)).expect("JSON");
        let held = serde_json::to_string(&held.finish(Grouping::Site, RANKING, model)).expect("JSON");
        format!("{excess}\n{held}\n{:?}", selection.told())
    }

    fn filters() -> impl Iterator<Item = Filter> {
        let all = Filter::default();
        let parts = [
            Filter { device: DeviceQuery::parse("chip0").ok(), ..all.clone() },
            Filter { buffer_type: Some(1), ..all.clone() },
            Filter { since: Some(40), until: Some(90), ..all.clone() },
            Filter { verdicts: vec![Verdict::Repeat, Verdict::Held], device: DeviceQuery::parse("0").ok(), ..all },
        ];
        parts.into_iter()
    }

    #[test]
    fn an_epilogue_tells_what_all_events_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.trace");
        let mut taken = 0;
        for seed in 0..200 {
            let mut writer = Writer::create(&path).expect("created");
            recorded(seed).into_iter().for_each(|item| writer.item(item));
            writer.flush().expect("written");
            let (mut whole, mut fold) = (Folds::default(), EpilogueFold::default());
            let model = model::read(vec![Trace(Reader::open(&path).expect("opened"))], &mut |entry| whole.entry(entry));
            Reader::open(&path).expect("opened").for_each(|item| fold.item(item));
            writer.epilogue(&fold.finish().expect("items").to_bytes()).expect("written");
            let mut folds = None;
            let known = model::read_sums(Trace(Reader::with_epilogue(&path).expect("opened")), |trace| {
                let epilogue = Epilogue::from_bytes(trace.0.epilogue())?;
                folds = Some(epilogue.folds);
                Some(epilogue.sums)
            });
            let Some((known_model, folds)) = known.zip(folds) else { continue };
            for filter in filters() {
                let known = selected(filter.clone(), &known_model, |take| {
                    folds.findings().expect("few").iter().for_each(take);
                });
                let mut file = Some(Trace(Reader::open(&path).expect("opened")));
                let read = selected(filter.clone(), &model, |take| {
                    model::read(file.take().into_iter().collect(), &mut |entry| take(entry));
                });
                assert_eq!(known, read, "{} of history {seed}", filter.told());
            }
            for (part, (known, read)) in shown(&folds, &known_model).into_iter().zip(shown(&whole, &model)).enumerate()
            {
                assert_eq!(known, read, "part {part} of history {seed}");
            }
            assert_eq!(known_model.spans.spans, model.spans.spans, "history {seed}");
            // To those who read the events it is nothing.
            let again = model::read(vec![Trace(Reader::open(&path).expect("opened"))], &mut |_| {});
            assert_eq!((again.skipped, again.damages.len()), (0, 0), "history {seed}");
            taken += 1;
        }
        assert_eq!(taken, 200);
    }
}
