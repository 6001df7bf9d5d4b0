// SPDX-License-Identifier: Apache-2.0
//! Traces of which not all events are read, as their epilogue has what these come to, or where in the trace they are.

use std::{
    fs::File,
    mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};

use super::read::{failed_to_read, open_trace};
use crate::{
    analysis::{Epilogue, Selection},
    model::{self, Entry, Model, Replay, Source as _, Trace},
    trace::{self, Damage, Reader},
};

/// A trace that has its epilogue, and was read for its records.
pub(super) struct Summed<'a> {
    path: &'a Path,
    file: Arc<File>,
    pub(super) model: Model,
    replay: Replay,
    pub(super) epilogue: Epilogue,
}

impl<'a> Summed<'a> {
    /// `None` if these are not one trace, or its events have to be read.
    pub(super) fn of(paths: &'a [PathBuf]) -> Result<Option<Self>> {
        match paths {
            [path] => Self::read(path),
            _ => Ok(None),
        }
    }

    fn read(path: &'a Path) -> Result<Option<Self>> {
        let file = Arc::new(trace::open(path).with_context(|| failed_to_read(path))?);
        let mut epilogue = None;
        let sums = |trace: &Trace| {
            let Epilogue { sums, .. } = epilogue.insert(Epilogue::from_bytes(trace.reader.epilogue())?);
            Some(mem::take(sums))
        };
        let known = model::read_sums(open_trace(path, |_| Reader::with_epilogue(&file))?, sums);
        Ok(known.zip(epilogue).map(|((model, replay), epilogue)| Self { path, file, model, replay, epilogue }))
    }

    /// Reads the parts of the trace that have the selected entries, and gives these, those about [ends](Entry::is_at_end) last;
    /// `None` if all of it has to be read.
    ///
    /// # Errors
    ///
    /// A part can't be read, though it could be when the trace was opened.
    pub(super) fn read_parts(&mut self, selection: &mut Selection, mut sink: impl FnMut(&Entry)) -> Result<Option<()>> {
        let Some((runs, at_end)) = self.epilogue.parts(selection) else { return Ok(None) };
        let mut take = |entry: &Entry| {
            if selection.takes(entry) {
                sink(entry);
            }
        };
        for run in runs {
            let state = run.state().with_context(|| {
                let failed = failed_to_read(self.path);
                format!("{failed}: its end is malformed; leave out --test, --site, --since and --until")
            })?;
            let mut part = open_trace(self.path, |_| Reader::part(&self.file, &run.from, run.to.as_ref()))?;
            self.replay.read(state, &mut part, run.to.is_none(), &mut take);
            let known = |damage: &Damage| self.model.damages.iter().any(|(_, known)| known == damage);
            if let Some(Damage { at, what }) = part.damage().filter(|damage| !known(damage)) {
                bail!("{}: at byte {at}, {what}; it was changed while it was read", failed_to_read(self.path));
            }
        }
        at_end.iter().for_each(take);
        Ok(Some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::{DeviceQuery, EpilogueFold, Filter, Pattern, Selected, SitePattern},
        model::recorded,
        trace::{Event, Follower, Item, Kind, Writer, text},
    };

    const HISTORIES: u64 = 150;
    const NAMES: &str = "text id=1 text=\"t.py::a (setup)\"\ntext id=2 text=\"t.py::a (call)\"\ntext id=3 text=\"t.py::b (call)\"\n\
        frame id=1 address=0x1\nsymbol frame=1 function=\"make()\"\nframe id=2 address=0x2\nsymbol frame=2 function=\"drop()\"\n\
        stack id=1 frames=1 end=complete\nstack id=2 frames=2 end=complete\n";

    /// A history in which tests run, and events have stacks: most of those at its beginning have one, and those at its end another.
    fn told(seed: u64) -> Vec<Item> {
        let mut items = text::parse(NAMES).expect("parsed");
        let recorded = recorded(seed);
        let count = recorded.len() as u64;
        for (at, mut item) in (0..).zip(recorded) {
            if let Item::Event(event) = &mut item {
                if (at + seed).is_multiple_of(11) {
                    let kind = if at % 3 == 0 { Kind::TestEnd } else { Kind::TestBegin };
                    let text = (1 + at * 3 / count) as u32;
                    let Event { sequence, time, process, thread, .. } = *event;
                    items.push(Item::Event(Event { sequence, time, process, thread, text, ..Event::of(kind) }));
                }
                event.stack = (at * 3 / count + u64::from(at % 7 == 0)) as u32;
            }
            items.push(item);
        }
        items
    }

    /// Cut into chunks of a few items each, and with an epilogue.
    fn write(path: &Path, seed: u64) {
        let mut writer = Writer::create(path).expect("created");
        for (at, item) in (1..).zip(told(seed)) {
            writer.item(item);
            if at % (1 + seed % 7) == 0 {
                writer.flush().expect("written");
            }
        }
        writer.flush().expect("written");
        let mut fold =
            EpilogueFold::with_segments(5 + seed % 9, if seed.is_multiple_of(2) { usize::MAX } else { 2000 });
        fold.read(&mut Follower::open(path).expect("opened"));
        writer.epilogue(&fold.finish().expect("items").to_bytes()).expect("written");
    }

    fn filters() -> [Filter; 7] {
        let all = Filter::default();
        let test = |text| Filter { test: Some(Pattern::new(text)), ..all.clone() };
        let site = |text| Filter { site: Some(SitePattern::parse(text).expect("a site")), ..all.clone() };
        [
            test("t.py::a"),
            Filter { buffer_type: Some(1), ..test("t.py::b") },
            test("nothing"),
            site("make"),
            Filter { device: DeviceQuery::parse("0").ok(), ..site("drop") },
            Filter { since: Some(40), until: Some(90), ..all.clone() },
            Filter { since: Some(60), ..test("t.py::*") },
        ]
    }

    /// What was selected: those at ends apart, which a part of a trace has last of all.
    type Told = (Vec<Entry>, Vec<Entry>, Option<Selected>);

    fn by_events(path: &Path, filter: &Filter) -> Told {
        let open = || vec![open_trace(path, Reader::open).expect("opened")];
        let mut selection = filter.clone().select(&model::read(open(), &mut |_| {}).definitions);
        let mut all = Vec::new();
        model::read(open(), &mut |entry| all.extend(selection.takes(entry).then_some(*entry)));
        let (at_end, others) = all.into_iter().partition(Entry::is_at_end);
        (others, at_end, selection.told())
    }

    /// The same by parts, and whether they are less than the whole.
    fn by_parts(path: &Path, filter: &Filter) -> (Told, bool) {
        let summed = || Summed::read(path).expect("read").expect("an epilogue");
        let mut known = summed();
        let mut selection = filter.clone().select(&known.model.definitions);
        let mut all = Vec::new();
        let read = known.read_parts(&mut selection, |entry| all.push(*entry)).expect("read");
        assert!(read.is_some());
        let (at_end, others) = all.into_iter().partition(Entry::is_at_end);
        let told = (others, at_end, selection.told());
        let (runs, _) = summed().epilogue.parts(&mut selection).expect("parts");
        let whole = summed()
            .epilogue
            .parts(&mut Filter { since: Some(0), ..Filter::default() }.select(&known.model.definitions));
        let is_whole = whole.is_some_and(|(whole, _)| {
            matches!((&whole[..], &runs[..]), ([whole], [run]) if (&whole.from, &whole.to) == (&run.from, &run.to))
        });
        (told, !is_whole)
    }

    #[test]
    fn parts_of_a_trace_tell_what_the_whole_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut queries, mut parts, mut entries) = (0, 0, 0);
        for seed in 0..HISTORIES {
            let path = folder.path().join(format!("{seed}.trace"));
            write(&path, seed);
            for filter in filters() {
                let expected = by_events(&path, &filter);
                let (told, is_part) = by_parts(&path, &filter);
                assert_eq!(told.0, expected.0, "{}, history {seed}", filter.told());
                assert_eq!(told.1, expected.1, "{}, history {seed}", filter.told());
                assert_eq!(format!("{:?}", told.2), format!("{:?}", expected.2), "history {seed}");
                queries += 1;
                parts += u32::from(is_part);
                entries += told.0.len();
            }
        }
        assert!(parts * 2 > queries && entries > 10_000, "{parts} parts of {queries}, {entries} entries");
    }
}
