// SPDX-License-Identifier: Apache-2.0
//! The part of a trace by which the account of a few buffers is what it is with the whole.

use std::collections::BTreeSet;

use super::ledger::REACH;
use crate::trace::{Event, Kind, Sought};

/// Most addresses: who asks for a unique id gets one for each process that has a buffer of it.
const MOST: usize = 64;

/// What to look for in traces, to have each entry about buffers at these addresses, or of this unique id; `None` if there
/// is no telling: a buffer without memory has an address of 0, and one that has many addresses is none.
#[must_use]
pub fn sought(addresses: &BTreeSet<u64>, unique_id: Option<u64>) -> Option<Sought> {
    let are_usual = addresses.len() <= MOST && addresses.iter().all(|&address| address >= REACH);
    let around = |&address: &u64| address - (REACH - 1)..=address.saturating_add(REACH - 1);
    are_usual.then(|| Sought { addresses: addresses.iter().map(around).collect(), unique_id })
}

/// Whether an event concerns none of these buffers. A request may, whose address comes with its allocation.
pub(super) fn is_elsewhere(event: &Event, sought: &Sought) -> bool {
    let has_address = event.kind == Kind::Alias || event.kind.is_about_buffer() && event.kind != Kind::Request;
    has_address && !event.unreadable && !sought.has(event)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        analysis::Query,
        model::{Entry, Trace, ledger::tests::histories::recorded, read, read_about},
        trace::{Item, LiveOwner, Reader, Record, Survey, Writer, text},
    };

    const HISTORIES: u64 = 150;
    /// Items of a chunk.
    const LENGTHS: [usize; 7] = [1, 2, 3, 4, 7, 40, 1000];

    fn of(reader: Reader) -> Trace {
        Trace { name: "a.trace".to_owned(), reader }
    }

    /// Cut into chunks of a few items each.
    fn write(path: &Path, items: Vec<Item>, length: usize) {
        let mut writer = Writer::create(path).expect("created");
        for (at, item) in (1..).zip(items) {
            match item {
                Item::Event(event) => writer.event(event),
                Item::Record(record) => writer.record(record),
            }
            if at % length == 0 {
                writer.flush().expect("written");
            }
        }
        writer.flush().expect("written");
    }

    /// Moves the addresses of a history, which are close to each other, so far apart that none reaches another.
    fn spread(item: &mut Item) {
        match item {
            Item::Event(event) if event.kind != Kind::Fork => event.address *= 64,
            Item::Record(Record::LiveOwner(LiveOwner { address, .. })) => address.0 *= 64,
            _ => {}
        }
    }

    /// The queries that a history is asked, and how many events it has.
    fn queries(items: &[Item]) -> (Vec<Query>, u64) {
        let events = || items.iter().filter_map(|item| if let Item::Event(event) = item { Some(event) } else { None });
        let by_address = events().step_by(9).map(|it| Query { address: Some(it.address), buffer: None });
        let by_id = events().step_by(13).map(|it| Query { address: None, buffer: Some(it.unique_id) });
        (by_address.chain(by_id).collect(), events().count() as u64)
    }

    /// What to look for, and what a survey says of it; `None` if the whole is to be read.
    fn survey(path: &Path, query: Query) -> Option<(Sought, Survey)> {
        let survey = |sought: &Sought| Survey::of(path, sought).expect("surveyed");
        let addresses = match query.address {
            Some(address) => BTreeSet::from([address]),
            None => survey(&Sought { unique_id: query.buffer, ..Sought::default() }).addresses,
        };
        let sought = sought(&addresses, query.buffer)?;
        let survey = survey(&sought);
        (!survey.is_whole).then_some((sought, survey))
    }

    #[test]
    fn a_part_tells_of_its_buffers_what_the_whole_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.trace");
        let (mut parts, mut read_events, mut all_events) = (0, 0, 0);
        for seed in 0..HISTORIES {
            let mut items = recorded(seed);
            if seed % 4 < 3 {
                items.iter_mut().for_each(spread);
            }
            let (queries, events) = queries(&items);
            write(&path, items, LENGTHS[seed as usize % LENGTHS.len()]);
            let mut all = Vec::new();
            read(vec![of(Reader::open(&path).expect("opened"))], &mut |entry| all.push(*entry));
            for query in queries {
                let Some((sought, survey)) = survey(&path, query) else { continue };
                let open = || Reader::surveyed(survey.clone()).expect("opened");
                let mut told = Vec::new();
                let take = &mut |entry: &Entry| told.extend(query.matches(entry).then_some(*entry));
                let model = read_about(vec![of(open())], sought, take);
                let expected: Vec<Entry> = all.iter().filter(|entry| query.matches(entry)).copied().collect();
                assert_eq!(told, expected, "history {seed}, {query:?}");
                assert_eq!(model.events, events, "history {seed}, {query:?}");
                parts += 1;
                all_events += events;
                read_events += open().filter(|item| matches!(item, Item::Event(_))).count() as u64;
            }
        }
        assert!(parts > 300 && read_events * 4 < all_events * 3, "{parts} parts: {read_events} of {all_events} events");
    }

    #[test]
    fn what_cannot_be_divided_is_read_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.trace");
        let event = "event 1 t=5 p=1 tid=7 allocated uid=1 address=0x4000 size=64 owns=1 class=mesh\n";
        let end = "end process=1 time=9 reason=exited\n";
        for (lines, is_whole) in [
            (format!("process id=1 pid=7\n{event}{end}"), false),
            (format!("process id=1 pid=7\n{event}"), true),
            (format!("process id=1 origin=allocation-server\n{event}{end}"), true),
            (format!("process id=1 pid=7\n{event}event 2 t=6 p=1 tid=7 fork child=2\n{end}"), true),
            (format!("process id=1 pid=7\n{event}event 2 t=6 p=1 tid=7 fork\n{end}"), false),
        ] {
            write(&path, text::parse(&lines).expect("parsed"), 100);
            let query = Query { address: Some(0x4000), buffer: None };
            assert_eq!(survey(&path, query).is_none(), is_whole, "{lines}");
        }
        assert!(survey(&path, Query { address: Some(0), buffer: None }).is_none());
    }
}
