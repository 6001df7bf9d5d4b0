// SPDX-License-Identifier: Apache-2.0
//! What is read goes through the model, every analysis and every view, which must all keep their promises.

use buftrace::{
    analysis::{
        self, Baseline, CountedFold, Counts, Epilogue, Excess, ExcessFold, Expectations, Filter, Gate, Grouping,
        HeldFold, Order, Pattern, Query, Ranking, ReportFold, Rule, SitePattern, Summary, SummaryFold, Suppressions,
        TimelineFold,
    },
    model::{self, EventSums, Model, Source, State},
    trace::{Damage, Item, text},
    view::{self, Frames, StackChoice},
};
use time::{Date, Month};

use crate::exports;

/// Everything that can be asked of a trace with these items.
pub(crate) fn show(items: &[Item]) {
    let read = read(items);
    let gate = Gate {
        rules: rules("excess,red,yellow,lost,damaged,held>1,held/test>1,repeat/test"),
        baseline: Some(Baseline::of(&read.summary)),
        suppressions: Suppressions::default(),
        expectations: Expectations::default(),
        strict: true,
        today: today(),
    };
    check(&gate, &read.summary, &read.counts);
    check(&Gate { baseline: None, ..gate }, &read.summary, &read.counts);
    let diff = analysis::diff(&read.summary, &Summary::clone(&read.summary));
    printable(&view::diff(&diff, 10));
    json("diff", &diff);
    exports::write(items);
}

/// What a gate says of what was read.
pub(crate) fn check(gate: &Gate, summary: &Summary, counts: &Counts) {
    let check = gate.check(summary, counts);
    printable(&view::check(&check));
    json("check", &check);
    let junit = view::junit(&check);
    printable(&junit);
    assert!(junit.chars().all(is_xml), "not of XML: {junit:?}");
}

/// Some rules.
pub(crate) fn rules(text: &str) -> Vec<Rule> {
    text.split(',').filter_map(|rule| Rule::parse(rule).ok()).collect()
}

/// A day.
pub(crate) fn today() -> Date {
    Date::from_calendar_date(2027, Month::January, 31).unwrap_or(Date::MIN)
}

/// What a gate looks at.
pub(crate) struct Read {
    pub(crate) summary: Summary,
    pub(crate) counts: Counts,
}

/// Reads items as one trace, and shows what `check` and `diff` do not.
pub(crate) fn read(items: &[Item]) -> Read {
    let all = Filter::default();
    let mut folds = Folds::new(&all);
    let model = model::read(vec![Items::new(items)], &mut |entry| folds.entry(entry));
    let selection = all.select(&model.definitions);
    let read = Read { summary: folds.summary.finish(&model), counts: folds.counts.finish(&model, &selection) };
    let report = folds.report.finish(10, &model);
    printable(&view::report(&report));
    json("report", &report);
    let timeline = folds.timeline.finish(&model);
    printable(&view::timeline(&timeline, StackChoice::Show(Frames::First(3))));
    json("timeline", &timeline);
    let excess = folds.excess.finish(None, Ranking { order: Order::Count, top: Some(5) }, &model);
    show_excess(&excess);
    for (fold, by) in folds.held.into_iter().zip(GROUPINGS) {
        let held = fold.finish(by, Ranking { order: Order::Bytes, top: None }, &model);
        printable(&view::held(&held, Frames::All));
        json("held", &held);
    }
    select(items, &model);
    read
}

/// What the end of a trace without records says, of everything and of a part.
pub(crate) fn show_epilogue(read: &dyn Fn() -> Option<Epilogue>) {
    let Some(Epilogue { sums, .. }) = read() else { return };
    let model = model::read_sums(Items::new(&[]), |_| Some(sums)).map(|(model, _)| model).unwrap_or_default();
    let l1 = Filter { buffer_type: Some(1), ..Filter::default() };
    let late = Filter { since: Some(1), ..Filter::default() };
    for filter in [Filter::default(), l1, late] {
        let mut selection = filter.select(&model.definitions);
        let parts = read().and_then(|mut epilogue| epilogue.parts(&mut selection));
        let states = parts.into_iter().flat_map(|(runs, _)| runs).filter_map(|run| run.state());
        states.for_each(|state| show_behind(state, &[]));
        let folds = || read().map(|epilogue| epilogue.folds);
        if let Some(fold) = folds().and_then(|mut folds| folds.report(&mut selection)) {
            let report = fold.finish(10, &model);
            printable(&view::report(&report));
            json("report", &report);
        }
        if let Some(fold) = folds().and_then(|mut folds| folds.excess(&mut selection)) {
            show_excess(&fold.finish(None, Ranking { order: Order::Count, top: Some(5) }, &model));
        }
        if let Some(fold) = folds().and_then(|mut folds| folds.held(&mut selection)) {
            let held = fold.finish(Grouping::Site, Ranking { order: Order::Bytes, top: None }, &model);
            printable(&view::held(&held, Frames::All));
            json("held", &held);
        }
    }
}

/// What comes behind a place in a trace, by what is said to be known there.
pub(crate) fn show_behind(state: State, items: &[Item]) {
    let Some((_, mut replay)) = model::read_sums(Items::new(&[]), |_| Some(EventSums::default())) else { return };
    let mut fold = ReportFold::new(&Filter::default());
    replay.read(state, &mut Items::new(items), true, |entry| fold.entry(entry));
    printable(&view::report(&fold.finish(10, &Model::default())));
}

const GROUPINGS: [Grouping; 4] = [Grouping::Site, Grouping::Test, Grouping::Device, Grouping::Type];

struct Folds {
    report: ReportFold,
    timeline: TimelineFold,
    excess: ExcessFold,
    held: [HeldFold; 4],
    summary: SummaryFold,
    counts: CountedFold,
}

impl Folds {
    fn new(filter: &Filter) -> Self {
        Self {
            report: ReportFold::new(filter),
            timeline: TimelineFold::new(Query { address: None, buffer: None }),
            excess: ExcessFold::default(),
            held: Default::default(),
            summary: SummaryFold::default(),
            counts: CountedFold::default(),
        }
    }

    fn entry(&mut self, entry: &model::Entry) {
        self.report.entry(entry);
        self.timeline.entry(entry);
        self.excess.entry(entry);
        self.held.iter_mut().for_each(|fold| fold.entry(entry));
        self.summary.entry(entry);
        self.counts.entry(entry);
    }
}

fn show_excess(excess: &Excess) {
    printable(&view::excess(excess, Frames::First(3)));
    json("excess", excess);
}

/// A part of the same, together with the whole as another host's.
fn select(items: &[Item], model: &Model) {
    let filter = Filter {
        test: Some(Pattern::new("t*")),
        site: SitePattern::parse("a < *b*").ok(),
        since: Some(1),
        ..Filter::default()
    };
    let mut report = ReportFold::new(&filter);
    let mut selection = filter.select(&model.definitions);
    let model = model::read(vec![Items::new(items), Items::new(items)], &mut |entry| {
        if selection.takes(entry) {
            report.entry(entry);
        }
    });
    let mut report = report.finish(3, &model);
    report.integrity.selected = selection.told();
    printable(&view::report(&report));
}

/// That an item is shown as a line that can be read back as the same.
pub(crate) fn line(item: &Item) {
    let line = text::show(item);
    printable(&line);
    assert!(!line.contains('\n'), "more than a line: {line:?}");
    assert_eq!(text::parse(&line).as_deref(), Ok(std::slice::from_ref(item)), "{line}");
}

/// That nothing in a text can move a terminal's cursor, or make it look like another.
pub(crate) fn printable(text: &str) {
    let bad = |c: char| {
        let moves = c.is_control() && c != '\n';
        let reorders =
            matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        moves || reorders || matches!(c, '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
    };
    assert!(!text.contains(bad), "not printable: {text:?}");
}

fn json<V: serde::Serialize>(name: &str, value: &V) {
    let text = view::json(name, value);
    printable(&text);
    let read: Result<serde_json::Value, _> = serde_json::from_str(&text);
    assert!(read.is_ok_and(|value| value["schema"].is_string()), "no JSON: {text}");
}

/// The characters of XML 1.0, section 2.2.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Items as a trace that ends where they do.
pub(crate) struct Items<'a>(std::iter::Cloned<std::slice::Iter<'a, Item>>);

impl<'a> Items<'a> {
    pub(crate) fn new(items: &'a [Item]) -> Self {
        Self(items.iter().cloned())
    }
}

impl Iterator for Items<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.0.next()
    }
}

impl Source for Items<'_> {
    fn name(&self) -> &str {
        "a\u{1b}[2J.ttb"
    }

    fn damage(&self) -> Option<Damage> {
        Some(Damage { at: 12, what: "the file ends in a chunk".to_owned() })
    }

    fn skipped(&self) -> u64 {
        1
    }

    fn passed(&self) -> u64 {
        0
    }
}
