// SPDX-License-Identifier: Apache-2.0
//! What reading all events of a trace comes to, to be kept at its end: who asks for no more need not read them again.
//!
//! It is what the folds and the model have when everything is read, without names, orders and cuts: those come from the
//! trace's definitions and from what a user asks for. It is valid for the rules that it was made by, so that it begins with a
//! digest of the sources that have them; whoever has others reads the events.

use serde::{Deserialize, Serialize};

use super::{ExcessFold, HeldFold, SummaryFold};
use crate::{
    model::{Entry, EventSums, Reading},
    trace::Item,
};

/// Stands for the sources of the rules; see `build.rs`.
const RULES: &str = env!("BUFTRACE_RULES");

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
    /// For the report, and for comparing runs.
    pub summary: SummaryFold,
    /// For excess frees.
    pub excess: ExcessFold,
    /// For what is held.
    pub held: HeldFold,
}

/// Collects a [`Epilogue`] item by item.
#[derive(Default)]
pub struct EpilogueFold {
    /// From the first item on.
    reading: Option<Reading>,
    folds: Folds,
}

impl Epilogue {
    /// Reads one. `None` if it was made by other rules, or is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes.strip_prefix(RULES.as_bytes())?).ok()
    }

    /// As it is kept; empty if that is not possible.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, RULES.as_bytes().to_vec()).unwrap_or_default()
    }
}

impl Folds {
    fn entry(&mut self, entry: &Entry) {
        self.summary.entry(entry);
        self.excess.entry(entry);
        self.held.entry(entry);
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
        analysis::{ExcessGrouping, Grouping, Order, Ranking},
        model::{self, Model, Source, recorded},
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
    fn shown(Folds { summary, excess, held }: Folds, model: &Model) -> Vec<String> {
        let again = |folds: &[u8]| postcard::from_bytes::<Folds>(folds).expect("read back");
        let kept = postcard::to_allocvec(&Folds { summary, excess, held }).expect("kept");
        let by_excess = [None, Some(ExcessGrouping::Test), Some(ExcessGrouping::Device), Some(ExcessGrouping::Verdict)];
        let by_held = [Grouping::Site, Grouping::Test, Grouping::Device, Grouping::Type];
        let mut shown = vec![
            serde_json::to_string(&again(&kept).summary.into_report().finish(3, model)).expect("JSON"),
            format!("{:?}", again(&kept).summary.finish(model)),
        ];
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
            let concluded = model::read_sums(Trace(Reader::with_epilogue(&path).expect("opened")), |trace| {
                let epilogue = Epilogue::from_bytes(trace.0.epilogue())?;
                folds = Some(epilogue.folds);
                Some(epilogue.sums)
            });
            let Some((concluded, folds)) = concluded.zip(folds) else { continue };
            for (part, (known, read)) in shown(folds, &concluded).into_iter().zip(shown(whole, &model)).enumerate() {
                assert_eq!(known, read, "part {part} of history {seed}");
            }
            assert_eq!(concluded.spans.spans, model.spans.spans, "history {seed}");
            // To those who read the events it is nothing.
            let again = model::read(vec![Trace(Reader::open(&path).expect("opened"))], &mut |_| {});
            assert_eq!((again.skipped, again.damages.len()), (0, 0), "history {seed}");
            taken += 1;
        }
        assert_eq!(taken, 200);
    }
}
