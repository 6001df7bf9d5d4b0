// SPDX-License-Identifier: Apache-2.0
//! What reading all events of a trace comes to, to be kept at its end: who asks for no more need not read them again.
//!
//! It is what the folds and the model have when everything is read, without names, orders and cuts: those come from the
//! trace's definitions and from what a user asks for. It is valid for the rules that it was made by, so that it begins with a
//! digest of the sources that have them; whoever has others reads the events.

use std::mem;

use serde::{Deserialize, Serialize};

use super::{
    ExcessFold, HeldFold, ReportFold, Selection,
    segments::{Run, Segments, SegmentsFold},
};
use crate::{
    model::{Entry, EventSums, Reading},
    trace::Follower,
};

/// Most bytes of one analysis's findings, some hundred thousand of them. With more, who asks for some of them has to read the
/// events.
const FINDINGS: usize = 8 << 20;

/// What reading a trace came to.
#[derive(Debug, Deserialize, Serialize)]
pub struct Epilogue {
    /// For the model.
    pub sums: EventSums,
    /// For the analyses.
    pub folds: Folds,
    segments: Segments,
}

/// The folds that an epilogue has, after the last entry. Each is given for what a selection takes, or `None` if only the
/// events tell.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Folds {
    report: ReportFold,
    excess: ExcessFold,
    held: HeldFold,
    excess_findings: Findings,
    held_findings: Findings,
}

/// The entries that an analysis is made of, and those whose device is not known, which filters count: in bytes, as they are few to
/// those who ask, but memory of a recorder.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Findings {
    bytes: Vec<u8>,
    too_many: bool,
}

/// Collects an [`Epilogue`] item by item.
#[derive(Default)]
pub struct EpilogueFold {
    /// From the first item on.
    reading: Option<Reading>,
    folds: Folds,
    segments: SegmentsFold,
}

impl Epilogue {
    /// What its bytes begin with: stands for the sources of the rules, see `build.rs`.
    pub const RULES: &str = env!("BUFTRACE_RULES");

    /// Reads one. `None` if it was made by other rules, or is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes.strip_prefix(Self::RULES.as_bytes())?).ok()
    }

    /// What to read of the trace's events for the tests, sites and times that are selected, and entries that come behind what
    /// these parts have. `None` if that is not known, or all of them are to be read.
    pub fn parts(&mut self, selection: &mut Selection) -> Option<(Vec<Run>, Vec<Entry>)> {
        let filter = selection.filter();
        if !filter.needs_definitions() || self.segments.is_empty() {
            return None;
        }
        let held = self.folds.held_findings.all()?.into_iter().filter(Entry::is_at_end).collect();
        self.folds.report.show_memories(selection);
        Some((mem::take(&mut self.segments).runs(|origins| selection.may_take(origins)), held))
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
        if entry.memory().0.is_none() || ExcessFold::takes(entry) {
            self.excess_findings.add(entry);
        }
        if entry.memory().0.is_none() || HeldFold::takes(entry) {
            self.held_findings.add(entry);
        }
    }

    /// The report's, if whole memories are selected.
    pub fn report(&mut self, selection: &mut Selection) -> Option<ReportFold> {
        (!selection.filter().parts_lives()).then(|| mem::take(&mut self.report).select(selection))
    }

    /// That of excess frees.
    pub fn excess(&mut self, selection: &mut Selection) -> Option<ExcessFold> {
        self.report.show_memories(selection);
        self.excess_findings.fold(mem::take(&mut self.excess), selection, ExcessFold::entry)
    }

    /// That of what is held.
    pub fn held(&mut self, selection: &mut Selection) -> Option<HeldFold> {
        self.report.show_memories(selection);
        self.held_findings.fold(mem::take(&mut self.held), selection, HeldFold::entry)
    }
}

impl Findings {
    /// The fold of those that are selected, where `whole` is that of all; `None` if not all of them are here.
    fn fold<F: Default>(&self, whole: F, selection: &mut Selection, entry: impl Fn(&mut F, &Entry)) -> Option<F> {
        if selection.filter().takes_all() {
            return Some(whole);
        }
        let mut fold = F::default();
        self.all()?.iter().filter(|it| selection.takes(it)).for_each(|it| entry(&mut fold, it));
        Some(fold)
    }

    /// `None` if not all of them are here.
    fn all(&self) -> Option<Vec<Entry>> {
        if self.too_many {
            return None;
        }
        let (mut entries, mut rest) = (Vec::new(), &self.bytes[..]);
        while !rest.is_empty() {
            let (entry, behind) = postcard::take_from_bytes(rest).ok()?;
            entries.push(entry);
            rest = behind;
        }
        Some(entries)
    }

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
    /// Takes the items that a file has more by now.
    pub fn read(&mut self, file: &mut Follower) {
        let Self { reading, folds, segments } = self;
        while let Some(item) = file.next() {
            let reading = reading.get_or_insert_with(|| Reading::new([&item].into_iter()));
            segments.seam(file.before_chunk(), reading);
            reading.item(item, &mut |entry| {
                folds.entry(entry);
                segments.entry(entry);
            });
        }
    }

    /// Begins one with segments of at least so many events, and so many bytes at most.
    #[cfg(test)]
    pub(crate) fn with_segments(length: u64, most_bytes: usize) -> Self {
        Self { segments: SegmentsFold::new(length, most_bytes), ..Self::default() }
    }

    /// Ends with the trace; `None` if nothing came.
    #[must_use]
    pub fn finish(self) -> Option<Epilogue> {
        let Self { reading, mut folds, mut segments } = self;
        let reading = reading?;
        let is_recorded = reading.is_recorded();
        let sums = reading.into_sums(&mut |entry| {
            folds.entry(entry);
            segments.entry(entry);
        });
        let segments = if is_recorded { segments.finish() } else { Segments::default() };
        Some(Epilogue { sums, folds, segments })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        analysis::{DeviceQuery, ExcessGrouping, Filter, Grouping, Order, Ranking},
        model::{self, Model, Trace, Verdict, recorded},
        trace::{self, Reader, Writer},
    };

    fn of(reader: Reader) -> Trace {
        Trace { name: "a.trace".to_owned(), reader }
    }

    const RANKING: Ranking = Ranking { order: Order::Count, top: None };
    const BY_EXCESS: [Option<ExcessGrouping>; 4] =
        [None, Some(ExcessGrouping::Test), Some(ExcessGrouping::Device), Some(ExcessGrouping::Verdict)];
    const BY_HELD: [Grouping; 4] = [Grouping::Site, Grouping::Test, Grouping::Device, Grouping::Type];

    fn filters() -> impl Iterator<Item = Filter> {
        let device = |text| DeviceQuery::parse(text).ok();
        let all = Filter::default();
        let parts = [
            all.clone(),
            Filter { device: device("chip0"), ..all.clone() },
            Filter { device: device("1"), ..all.clone() },
            Filter { buffer_type: Some(1), ..all.clone() },
            Filter { device: device("mesh0"), buffer_type: Some(0), ..all.clone() },
            Filter { since: Some(40), until: Some(90), ..all.clone() },
            Filter { verdicts: vec![Verdict::Repeat, Verdict::Held], device: device("0"), ..all },
        ];
        parts.into_iter()
    }

    /// What to make of a selection; `None` if that is not known.
    type Make<'a, F> = &'a dyn Fn(&mut Selection) -> Option<F>;

    /// All that the folds of a selection end in.
    fn views(
        (filter, model): (&Filter, &Model),
        report: Make<ReportFold>,
        excess: Make<ExcessFold>,
        held: Make<HeldFold>,
    ) -> Vec<Option<String>> {
        fn view<F, V: Serialize>(
            (filter, model): (&Filter, &Model),
            make: Make<F>,
            finish: impl Fn(F) -> V,
        ) -> Option<String> {
            let mut selection = filter.clone().select(&model.definitions);
            let value = serde_json::to_string(&finish(make(&mut selection)?)).expect("JSON");
            Some(format!("{value} {:?}", selection.told()))
        }
        let of = (filter, model);
        let mut views = vec![view(of, report, |fold| fold.finish(3, model))];
        views.extend(BY_EXCESS.map(|by| view(of, excess, |fold| fold.finish(by, RANKING, model))));
        views.extend(BY_HELD.map(|by| view(of, held, |fold| fold.finish(by, RANKING, model))));
        views
    }

    fn by_epilogue(filter: &Filter, model: &Model, folds: &Folds) -> Vec<Option<String>> {
        let kept = postcard::to_allocvec(folds).expect("kept");
        let again = || postcard::from_bytes::<Folds>(&kept).expect("read back");
        views((filter, model), &|it| again().report(it), &|it| again().excess(it), &|it| again().held(it))
    }

    fn by_events(filter: &Filter, model: &Model, entries: &[Entry]) -> Vec<Option<String>> {
        fn fold<F>(
            entries: &[Entry],
            selection: &mut Selection,
            mut fold: F,
            entry: impl Fn(&mut F, &Entry),
        ) -> Option<F> {
            entries.iter().filter(|it| selection.takes(it)).for_each(|it| entry(&mut fold, it));
            Some(fold)
        }
        views(
            (filter, model),
            &|it| fold(entries, it, ReportFold::new(filter), ReportFold::entry),
            &|it| fold(entries, it, ExcessFold::default(), ExcessFold::entry),
            &|it| fold(entries, it, HeldFold::default(), HeldFold::entry),
        )
    }

    #[test]
    fn an_epilogue_tells_what_all_events_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut taken = 0;
        for seed in 0..200 {
            // A process that another test begins has the last one's lock until it executes its program.
            let path = folder.path().join(format!("{seed}.trace"));
            let mut writer = Writer::create(&path).expect("created");
            recorded(seed).into_iter().for_each(|item| writer.item(item));
            writer.flush().expect("written");
            let (mut entries, mut fold) = (Vec::new(), EpilogueFold::default());
            let model = model::read(vec![of(Reader::open(&path).expect("opened"))], &mut |entry| entries.push(*entry));
            fold.read(&mut Follower::open(&path).expect("opened"));
            writer.epilogue(&fold.finish().expect("items").to_bytes()).expect("written");
            let mut folds = None;
            let file = Arc::new(trace::open(&path).expect("opened"));
            let known = model::read_sums(of(Reader::with_epilogue(&file).expect("opened")), |trace| {
                let epilogue = Epilogue::from_bytes(trace.reader.epilogue())?;
                folds = Some(epilogue.folds);
                Some(epilogue.sums)
            });
            let Some(((known_model, _), folds)) = known.zip(folds) else { continue };
            for filter in filters() {
                let known = by_epilogue(&filter, &known_model, &folds);
                let read = by_events(&filter, &model, &entries);
                for (view, (known, read)) in known.into_iter().zip(read).enumerate() {
                    let is_known = view > 0 || !filter.parts_lives();
                    assert_eq!(known, read.filter(|_| is_known), "view {view} of {}, history {seed}", filter.told());
                }
            }
            assert_eq!(known_model.spans.spans, model.spans.spans, "history {seed}");
            // To those who read the events it is nothing.
            let again = model::read(vec![of(Reader::open(&path).expect("opened"))], &mut |_| {});
            assert_eq!((again.skipped, again.damages.len()), (0, 0), "history {seed}");
            taken += 1;
        }
        assert_eq!(taken, 200);
    }
}
