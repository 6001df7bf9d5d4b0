// SPDX-License-Identifier: Apache-2.0
//! The commands that read traces.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    Status,
    args::{Dump, Excess, Explain, Held, Report, Timeline, Topic},
    summed::Summed,
};
use crate::{
    analysis::{
        Cause, ExcessFold, Filter, Folds, HeldFold, Integrity, Query, Ranking, ReportFold, Selection, TimelineFold,
    },
    model::{self, Entry, Model, Source as _, Trace, Verdict},
    trace::{Damage, ReadError, Reader, Sought, Survey, escape, text},
    view,
};

pub(super) fn report(args: &Report, out: &mut impl Write) -> Result<Status> {
    let filter = args.scope.filter()?;
    let fold = ReportFold::new(&filter);
    let (fold, model, selection) = read_fold(&args.traces.paths, filter, fold, ReportFold::entry, Folds::report)?;
    let mut value = fold.finish(args.top, &model);
    value.integrity.selected = selection.told();
    let text = if args.json { view::json("report", &value) } else { view::report(&value) };
    write(out, &text, &value.integrity)
}

pub(super) fn timeline(args: &Timeline, out: &mut impl Write) -> Result<Status> {
    let query = args.query();
    let mut fold = TimelineFold::new(query);
    let filter = args.scope.with(&args.verdict)?;
    let (model, selection) = read_about(&args.traces.paths, query, filter, |entry| fold.entry(entry))?;
    let mut value = fold.finish(&model);
    value.integrity.selected = query.told(selection.told(), !value.steps.is_empty());
    let text = if args.json { view::json("timeline", &value) } else { view::timeline(&value, args.stack_choice()) };
    write(out, &text, &value.integrity)
}

pub(super) fn excess(args: &Excess, out: &mut impl Write) -> Result<Status> {
    let (filter, paths) = (args.scope.with(&args.verdict)?, &args.traces.paths);
    let (fold, model, selection) = read_fold(paths, filter, ExcessFold::default(), ExcessFold::entry, Folds::excess)?;
    let mut value = fold.finish(args.by.into(), Ranking { order: args.sort.into(), top: args.top }, &model);
    value.integrity.selected = selection.told();
    let text = if args.json { view::json("excess", &value) } else { view::excess(&value, args.frames.frames) };
    write(out, &text, &value.integrity)
}

pub(super) fn held(args: &Held, out: &mut impl Write) -> Result<Status> {
    let (filter, paths) = (args.scope.filter()?, &args.traces.paths);
    let (fold, model, selection) = read_fold(paths, filter, HeldFold::default(), HeldFold::entry, Folds::held)?;
    let ranking = Ranking { order: args.sort.into(), top: Some(args.top) };
    let mut value = fold.finish(args.by.into(), ranking, &model);
    value.integrity.selected = selection.told();
    let text = if args.json { view::json("held", &value) } else { view::held(&value, args.frames.frames) };
    write(out, &text, &value.integrity)
}

pub(super) fn explain(args: &Explain, out: &mut impl Write) -> Result<Status> {
    let text = match (args.topic, args.json) {
        (Some(Topic::Verdict(verdict)), true) => view::json("explain", &verdict.explain()),
        (Some(Topic::Verdict(verdict)), false) => view::explain(&verdict.explain()),
        (Some(Topic::Cause(cause)), true) => view::json("explain", &cause.explain()),
        (Some(Topic::Cause(cause)), false) => view::explain_cause(&cause.explain()),
        (None, true) => {
            let (verdicts, causes) = (Verdict::ALL.map(Verdict::explain), Cause::ALL.map(Cause::explain));
            view::json("verdicts", &json!({ "verdicts": verdicts, "causes": causes }))
        }
        (None, false) => view::verdicts(),
    };
    out.write_all(text.as_bytes())?;
    Ok(Status::Done)
}

/// Shows each file as it is, one after the other, so that the text can be read back.
pub(super) fn dump(args: &Dump, out: &mut impl Write) -> Result<Status> {
    let mut status = Status::Done;
    for mut trace in open(&args.traces.paths)? {
        for item in trace.by_ref() {
            writeln!(out, "{}", text::show(&item))?;
        }
        if let Some(Damage { at, what }) = trace.damage() {
            writeln!(out, "# damaged at byte {at}: {}", escape(&what))?;
            status = Status::Problems;
        }
        if trace.skipped() > 0 {
            writeln!(out, "# skipped {} items that only a newer tt-buftrace can read", trace.skipped())?;
        }
    }
    Ok(status)
}

fn write(out: &mut impl Write, text: &str, integrity: &Integrity) -> Result<Status> {
    out.write_all(text.as_bytes())?;
    Ok(if integrity.damaged { Status::Problems } else { Status::Done })
}

/// Folds the entries that a filter takes, from an empty fold on. A trace may have at its end what that comes to; then its events
/// are not read.
fn read_fold<F>(
    paths: &[PathBuf],
    filter: Filter,
    mut fold: F,
    entry: impl Fn(&mut F, &Entry),
    known: impl FnOnce(&mut Folds, &mut Selection) -> Option<F>,
) -> Result<(F, Model, Selection)> {
    if let Some(mut summed) = Summed::of(paths)? {
        let mut selection = filter.clone().select(&summed.model.definitions);
        if let Some(fold) = known(&mut summed.epilogue.folds, &mut selection) {
            return Ok((fold, summed.model, selection));
        }
        if summed.read_parts(&mut selection, |it| entry(&mut fold, it))?.is_some() {
            return Ok((fold, summed.model, selection));
        }
    }
    let (model, selection) = read_all(paths, filter, |it| entry(&mut fold, it))?;
    Ok((fold, model, selection))
}

/// Reads traces for the entries that a filter takes. One that goes by names has to know them before the first entry, so
/// that their records are read before; then a trace may say which parts of it have such entries. What is held at the end of
/// a process may come behind all others.
pub(super) fn read(paths: &[PathBuf], filter: Filter, mut sink: impl FnMut(&Entry)) -> Result<(Model, Selection)> {
    if filter.needs_definitions()
        && let Some(mut summed) = Summed::of(paths)?
    {
        let mut selection = filter.clone().select(&summed.model.definitions);
        if summed.read_parts(&mut selection, &mut sink)?.is_some() {
            return Ok((summed.model, selection));
        }
    }
    read_all(paths, filter, sink)
}

/// The same for all entries, with whether they are selected, and with what the server's ledger has by place of allocation.
pub(super) fn read_with_origins(
    paths: &[PathBuf],
    filter: Filter,
    mut sink: impl FnMut(&Entry, bool),
) -> Result<(Model, Selection)> {
    let mut selection = select(paths, filter)?;
    let model = model::read_with_origins(open(paths)?, &mut |entry| sink(entry, selection.takes(entry)));
    Ok((model, selection))
}

/// The same for the buffers of a query, and no more of the traces than that takes.
fn read_about(
    paths: &[PathBuf],
    query: Query,
    filter: Filter,
    mut sink: impl FnMut(&Entry),
) -> Result<(Model, Selection)> {
    let Some((sought, surveyed)) = survey(paths, query)? else {
        let matching = |entry: &Entry| {
            if query.matches(entry) {
                sink(entry);
            }
        };
        return read(paths, filter, matching);
    };
    let mut selection = select(paths, filter)?;
    let model = model::read_about(surveyed, sought, &mut |entry| {
        if query.matches(entry) && selection.takes(entry) {
            sink(entry);
        }
    });
    Ok((model, selection))
}

/// The buffers of a query, and traces that are opened for them alone; `None` if the traces have to be read whole.
fn survey(paths: &[PathBuf], query: Query) -> Result<Option<(Sought, Vec<Trace>)>> {
    let survey = |sought: &Sought| -> Result<Vec<Survey>> {
        paths.iter().map(|path| Survey::of(path, sought).with_context(|| failed_to_read(path))).collect()
    };
    let addresses = match query {
        Query { address: Some(address), .. } => BTreeSet::from([address]),
        Query { address: None, buffer: None } => return Ok(None),
        Query { buffer, .. } => {
            let sought = Sought { unique_id: buffer, ..Sought::default() };
            survey(&sought)?.into_iter().flat_map(|survey| survey.addresses).collect()
        }
    };
    let Some(sought) = model::sought(&addresses, query.buffer) else { return Ok(None) };
    let surveys = survey(&sought)?;
    if surveys.iter().any(|survey| survey.is_whole) {
        return Ok(None);
    }
    let open = |(path, survey): (&PathBuf, Survey)| open_trace(path, |_| Reader::surveyed(survey));
    let traces: Result<_> = paths.iter().zip(surveys).map(open).collect();
    Ok(Some((sought, traces?)))
}

fn select(paths: &[PathBuf], filter: Filter) -> Result<Selection> {
    let known = match filter.needs_definitions() {
        true => model::read(records(paths)?, &mut |_| {}),
        false => Model::default(),
    };
    Ok(filter.select(&known.definitions))
}

fn read_all(paths: &[PathBuf], filter: Filter, mut sink: impl FnMut(&Entry)) -> Result<(Model, Selection)> {
    let mut selection = select(paths, filter)?;
    let model = model::read(open(paths)?, &mut |entry| {
        if selection.takes(entry) {
            sink(entry);
        }
    });
    Ok((model, selection))
}

pub(super) fn open(paths: &[PathBuf]) -> Result<Vec<Trace>> {
    paths.iter().map(|path| open_trace(path, Reader::open)).collect()
}

/// The same without events.
pub(super) fn records(paths: &[PathBuf]) -> Result<Vec<Trace>> {
    paths.iter().map(|path| open_trace(path, Reader::records)).collect()
}

pub(super) fn open_trace(path: &Path, open: impl FnOnce(&Path) -> Result<Reader, ReadError>) -> Result<Trace> {
    let reader = open(path).with_context(|| failed_to_read(path))?;
    Ok(Trace { name: path.display().to_string(), reader })
}

pub(super) fn failed_to_read(path: &Path) -> String {
    format!("failed to read {}", path.display())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        analysis::EpilogueFold,
        cli::{args::Args, dispatch},
        trace::{Follower, Item, Writer},
    };

    const LINES: &str = "process id=1 pid=7\nevent 1 t=5 p=1 tid=7 allocated uid=1 address=0x100 size=64 owns=1 class=mesh\n\
        end process=1 time=9 reason=exited\n";

    fn run(command: &str, path: &Path) -> (Status, String) {
        run_all(command, &[path])
    }

    fn run_all(command: &str, paths: &[&Path]) -> (Status, String) {
        let paths = paths.iter().map(|path| path.to_str().expect("UTF-8"));
        let words = ["tt-buftrace"].into_iter().chain(command.split(' ')).chain(paths);
        let mut out = Vec::new();
        let status = dispatch(Args::try_parse_from(words).expect("parsed").command, &mut out).expect("read");
        (status, String::from_utf8(out).expect("UTF-8"))
    }

    fn write_trace(path: &Path, lines: &str) {
        let mut writer = Writer::create(path).expect("created");
        for item in text::parse(lines).expect("parsed") {
            match item {
                Item::Record(record) => writer.record(record),
                Item::Event(event) => writer.event(event),
            }
        }
        writer.flush().expect("written");
    }

    /// Two hosts whose processes have one number, one start and buffers of one id at one address; `b` began 2 s later.
    #[test]
    fn traces_of_several_hosts_are_one_model_in_which_nothing_is_confused() {
        let folder = tempfile::tempdir().expect("a folder");
        let trace = |host: &str, wall_ns: u64, sent: &str| {
            format!(
                "session host={host} wall_ns={wall_ns}\nprocess id=1 pid=7 start=9 command=pytest\n\
                border process=1 next_unique_id=1\n\
                event 1 t=5000 p=1 tid=7 allocated uid=1 owns=1 address=0x100 size=64 class=mesh\n\
                event 2 t=6000 p=1 tid=7 free uid=1 address=0x100 size=64 status=1\n\
                event 3 t=7000 p=1 tid=7 released uid=1 address=0x100 size=64 status=1 class=mesh\n\
                event 4 t=8000 p=1 tid=7 free uid=1 address=0x100 size=64 status=2\n\
                {sent}end process=1 time=9000 reason=exited\n"
            )
        };
        let [a, b] = ["b", "a"].map(|name| folder.path().join(name));
        // Given in the wrong order; one is damaged behind its end, and lacks its total.
        write_trace(&a, &trace("b", 1_735_689_601_000_000_000, ""));
        write_trace(&b, &trace("a", 1_735_689_599_000_000_000, "counter name=sent value=4\n"));
        let whole = std::fs::read(&a).expect("read");
        std::fs::write(&a, [&whole[..], b"junk"].concat()).expect("written");
        let run = |command: &str| run_all(command, &[&a, &b]);
        let head = "Start 2024-12-31 23:59:59 UTC, times in seconds after it\n\
            Process 1: pid 7 on b, pytest, exited at 2.000009\nProcess 2: pid 7 on a, pytest, exited at 0.000009\n\
            8 events, none lost\n";
        for command in ["report", "timeline --address 256", "excess"] {
            let (status, text) = run(command);
            assert_eq!(status, Status::Problems, "{command}");
            assert!(text.starts_with(head), "{text}");
            assert!(text.contains("traces of 2 hosts"), "{text}");
            assert!(!text.contains("were sent"), "one trace does not say what was sent: {text}");
            assert!(text.contains(&format!("{} is damaged at byte {}", a.display(), whole.len())), "{text}");
        }
        let (_, timeline) = run("timeline --address 256");
        let steps: Vec<&str> = timeline.lines().skip_while(|line| !line.is_empty()).skip(1).collect();
        assert_eq!(
            steps,
            [
                "    0.000005  ALLOC #1   process 2  buffer 1  mesh0 DRAM 0x100  64 B",
                "    0.000006  FREE #1    process 2  buffer 1  mesh0 DRAM 0x100  64 B  released",
                "    0.000008  FREE #2    process 2  buffer 1  mesh0 DRAM 0x100  64 B  repeat",
                "    2.000005  ALLOC #1   process 1  buffer 1  mesh0 DRAM 0x100  64 B",
                "    2.000006  FREE #1    process 1  buffer 1  mesh0 DRAM 0x100  64 B  released",
                "    2.000008  FREE #2    process 1  buffer 1  mesh0 DRAM 0x100  64 B  repeat",
            ]
        );
        let report: serde_json::Value = serde_json::from_str(&run("report --json").1).expect("JSON");
        for (row, process) in report["balance"]["allocator_offenders"].as_array().expect("rows").iter().zip(1..) {
            assert_eq!((&row["process"], &row["allocations"], &row["frees"]), (&process.into(), &1.into(), &2.into()));
        }
        let server: Vec<_> = report["balance"]["server"].as_array().expect("rows").iter().collect();
        assert_eq!(server.iter().map(|row| row["even"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(1), Some(2)]);
        // Both made the same mistake at one place: one site, two frees.
        let excess: serde_json::Value = serde_json::from_str(&run("excess --json").1).expect("JSON");
        assert_eq!(excess["sites"][0]["count"], 2);
        assert_eq!(run("dump").0, Status::Problems);
    }

    #[test]
    fn a_trace_is_read_by_each_command_and_damage_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.trace");
        write_trace(&path, LINES);
        assert_eq!(run("dump", &path), (Status::Done, LINES.to_owned()));
        let diff = format!("diff {}", path.display());
        let commands = [
            "report --site nothing --top 0",
            "report --json",
            "timeline --buffer 1",
            "excess --sort time --top 1",
            "excess --json --verdict repeat",
            "excess --by test",
            "excess --json --by verdict",
            "held --by test",
            "held --json --since 0.5",
            "check --fail-on excess,held>1",
            &diff,
        ];
        for command in commands {
            let (status, text) = run(command, &path);
            assert_eq!(status, Status::Done);
            assert!(!text.contains("damaged at"), "{text}");
        }
        let whole = std::fs::read(&path).expect("read");
        std::fs::write(&path, [&whole[..], b"junk"].concat()).expect("written");
        let (status, text) = run("dump", &path);
        let expected = format!("{LINES}# damaged at byte {}: the file ends in the head of a chunk\n", whole.len());
        assert_eq!((status, text), (Status::Problems, expected));
        for command in commands {
            let (status, text) = run(command, &path);
            assert_eq!(status, Status::Problems);
            assert!(text.contains(&format!("damaged at byte {}", whole.len())), "{text}");
        }
    }

    #[test]
    fn a_trace_with_an_epilogue_is_read_by_that_as_long_as_nothing_follows() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.trace");
        write_trace(&path, LINES);
        let (_, by_events) = run("report", &path);
        // Of another trace, so that it shows which was read.
        let other = LINES.replace("size=64", "size=4096");
        let epilogue = |lines: &str| {
            let mut fold = EpilogueFold::default();
            let path = folder.path().join("other.trace");
            write_trace(&path, lines);
            fold.read(&mut Follower::open(&path).expect("opened"));
            fold.finish().expect("items").to_bytes()
        };
        let append = |epilogue: &[u8], lines: &str| {
            let mut writer = Writer::create(&path).expect("created");
            text::parse(LINES).expect("parsed").into_iter().for_each(|item| writer.item(item));
            writer.flush().expect("written");
            writer.epilogue(epilogue).expect("written");
            text::parse(lines).expect("parsed").into_iter().for_each(|item| writer.item(item));
            writer.flush().expect("written");
        };
        append(&epilogue(&other), "");
        let (_, by_epilogue) = run("report", &path);
        assert!(by_events.contains("64 B") && by_epilogue.contains("4096 B"), "{by_epilogue}");
        for (command, by_epilogue) in
            [("held --device 0", true), ("report --type DRAM", true), ("report --since 0", true), ("dump", false)]
        {
            assert_eq!(run(command, &path).1.contains("4096"), by_epilogue, "{command}");
        }
        assert!(run_all("report", &[&path, &path]).1.contains("64 B"));
        // One of other rules, one that is cut, one of another number of events, and one that is not at the end.
        let whole = epilogue(&other);
        let other_rules = [b"tt-buftrace 0.0.1", &whole[17..]].concat();
        let more = format!("{other}event 2 t=6 p=1 tid=7 thread-exit\n");
        for (epilogue, lines) in [
            (&other_rules[..], ""),
            (&whole[..whole.len() - 1], ""),
            (&epilogue(&more), ""),
            (&whole, "text id=1 text=a\n"),
        ] {
            append(epilogue, lines);
            assert_eq!(run("report", &path), (Status::Done, by_events.clone()));
        }
    }

    #[test]
    fn a_timeline_is_of_an_address_a_buffer_or_whatever_else_is_selected() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.trace");
        write_trace(&path, LINES);
        for query in ["--address 0x100", "--buffer 1", "--address 0x100 --buffer 1", "--type DRAM", "--device mesh0"] {
            let (_, text) = run(&format!("timeline {query}"), &path);
            assert!(text.contains("ALLOC #1") && text.contains("1 event, none lost"), "{query}: {text}");
        }
        for query in ["--address 0x140", "--buffer 2", "--address 0x100 --buffer 2", "--type L1"] {
            let (_, text) = run(&format!("timeline {query}"), &path);
            assert!(!text.contains("ALLOC") && text.contains("1 event, none lost"), "{query}: {text}");
        }
        for (query, head) in [
            ("--address 0x140", "Only address 0x140\n! no buffer of address 0x140 is known\n"),
            ("--address 0x100 --buffer 1", "Only address 0x100, buffer 1\n\n"),
            ("--buffer 1 --type L1", "Only buffer 1, type L1\n! no entry is of type L1\n"),
        ] {
            let (_, text) = run(&format!("timeline {query}"), &path);
            assert!(text.contains(head), "{query}: {text}");
        }
    }

    #[test]
    fn a_timeline_needs_something_to_look_for() {
        assert!(Args::try_parse_from(["tt-buftrace", "timeline", "a.trace"]).is_err());
    }
}
