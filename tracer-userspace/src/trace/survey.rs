// SPDX-License-Identifier: Apache-2.0
//! Where in a file a few buffers are: for who asks about these, most chunks need not be decoded.
//!
//! A survey looks at four columns of each chunk: process, thread, kind and address. Chunks in which it finds nothing are not
//! read again: the checksum at each border is known, so that those behind are checked as before. It is the same file that is
//! read, whatever has its name by then. What a survey finds is a superset of the events by which the account of these buffers is what it is with all events:
//!
//! - those at their addresses: from [`Kind::Allocated`](super::Kind::Allocated) on, each event of a buffer has its address;
//! - the request before an allocation, which is its thread's event about a buffer before it, and what is between them;
//! - the thread's next event about a buffer: it decides what the one before was;
//! - all that is not about one buffer: tests, devices, threads, bulk releases, and all records.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    ops::RangeInclusive,
    path::Path,
    sync::Arc,
};

use super::{
    Damage, Event, Item, ReadError, Record,
    ahead::{AT_ONCE, Ahead},
    chunk::Want,
    column::get_same,
    columns::{Columns, Parts, Rows, Scratch, Unpacked},
    reader::{BUFFER, Bodies, Body, Seam, open},
    rows::{
        ADDRESS, CHILD, KIND, MOST_THREADS, PROCESS, Role, THREAD, Thread, UNIQUE_ID, UNREADABLE, at, is_of_one_place,
        sought_rows, tells_sought,
    },
};

/// Most events of a chunk that are remembered: more are found again when the chunk is read.
const MOST_FOUND: usize = 64;

/// Buffers that are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// Those at any of these addresses.
    pub addresses: Vec<RangeInclusive<u64>>,
    /// Those with this unique id, of any process.
    pub unique_id: Option<u64>,
}

impl Sought {
    /// Whether an event is about one of them.
    #[must_use]
    pub fn has(&self, event: &Event) -> bool {
        self.is(event.address, event.unique_id)
    }

    /// The same of what has this address and unique id.
    pub(super) fn is(&self, address: u64, unique_id: u64) -> bool {
        self.is_at(address) || self.unique_id == Some(unique_id)
    }

    /// Which of a chunk's events are about one of them, in the order by kinds.
    pub(super) fn find(&self, columns: &Columns) -> Vec<bool> {
        let (addresses, unique_ids, count) = (columns.of(ADDRESS), columns.of(UNIQUE_ID), columns.of(KIND).len());
        // A column that is not there has zeros.
        let all = addresses.is_empty() && self.is_at(0) || unique_ids.is_empty() && self.unique_id == Some(0);
        let mut found = vec![all; count];
        for range in &self.addresses {
            found.iter_mut().zip(addresses).for_each(|(found, address)| *found |= range.contains(address));
        }
        if let Some(sought) = self.unique_id {
            found.iter_mut().zip(unique_ids).for_each(|(found, &unique_id)| *found |= unique_id == sought);
        }
        found
    }

    /// Whether its addresses tell of each event that is about one, also of those that have none.
    fn is_by_address(&self) -> bool {
        self.unique_id.is_none() && !self.is_at(0)
    }

    fn is_at(&self, address: u64) -> bool {
        self.addresses.iter().any(|range| range.contains(&address))
    }
}

/// What was found in a file.
#[derive(Clone, Debug)]
pub struct Survey {
    pub(super) file: Arc<File>,
    /// How it is read.
    pub(super) steps: Vec<Step>,
    /// Whether the file is wanted whole.
    pub is_whole: bool,
    /// Addresses that buffers with the unique id have.
    pub addresses: BTreeSet<u64>,
}

/// What is wanted of a chunk, or of some in a row.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) want: Want,
    pub(super) behind: Seam,
}

impl Survey {
    /// Surveys a file. Where the part of it that concerns some buffers can't be told, all of it is wanted: in an import, which
    /// tells no buffers apart; where events were lost, or could not be read; where a process was forked that is recorded, too, as it inherits what its parent has seen;
    /// where the recording of a process has no end, which then is that of its last event; and where hundreds of threads
    /// have events in one chunk.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. Damage is none: a survey ends there, and so will reading. Columns that need not be unpacked are
    /// checked by their chunk's checksum alone.
    pub fn of(path: &Path, sought: &Sought) -> Result<Self, ReadError> {
        let sought = Arc::new(sought.clone());
        let for_all = Arc::clone(&sought);
        let look = move |body: &Body, scratch: &mut Scratch| Seen::of(body, &for_all, scratch);
        let file = Arc::new(open(path)?);
        let mut bodies = Bodies::of(&file, BUFFER)?;
        let mut chunks = Ahead::new(move || bodies.next(Want::Records), AT_ONCE, look);
        let mut all = Vec::new();
        while let Ok(Some(seen)) = chunks.next() {
            all.push(seen);
        }
        let addresses = all.iter().flat_map(|seen| &seen.addresses).copied().collect();
        let is_whole = !is_divisible(&all);
        let steps = if is_whole { Vec::new() } else { steps(all, &sought) };
        Ok(Self { file, steps, is_whole, addresses })
    }
}

/// How to read a file with these chunks.
fn steps(all: Vec<Seen>, sought: &Arc<Sought>) -> Vec<Step> {
    let wants = wants(&all, sought);
    let mut steps: Vec<Step> = Vec::new();
    for (Seen { behind, .. }, want) in all.into_iter().zip(wants) {
        match (steps.last_mut(), want) {
            (Some(Step { want: Want::Nothing { events }, behind: end }), Want::Nothing { events: more }) => {
                *events += more;
                *end = behind;
            }
            (_, want) => steps.push(Step { want, behind }),
        }
    }
    steps
}

fn wants(all: &[Seen], sought: &Arc<Sought>) -> Vec<Want> {
    let mut wants: Vec<Want> = all.iter().map(|seen| seen.want.clone()).collect();
    let mut chunks_of: HashMap<Thread, Vec<(usize, bool)>> = HashMap::new();
    for (chunk, seen) in all.iter().enumerate() {
        for &Part { thread, decides, .. } in &seen.parts {
            chunks_of.entry(thread).or_default().push((chunk, decides));
        }
    }
    for (chunk, seen) in all.iter().enumerate() {
        for part in &seen.parts {
            let chunks = &chunks_of[&part.thread];
            let at = chunks.partition_point(|&(it, _)| it < chunk);
            if part.begins_sought {
                want_until_decided(&mut wants, sought, chunks[..at].iter().rev());
            }
            if part.ends_sought {
                want_until_decided(&mut wants, sought, chunks[at + 1..].iter());
            }
        }
    }
    wants
}

fn want_until_decided<'a>(wants: &mut [Want], sought: &Arc<Sought>, chunks: impl Iterator<Item = &'a (usize, bool)>) {
    for &(chunk, decides) in chunks {
        if !matches!(wants[chunk], Want::Everything | Want::Found(_)) {
            wants[chunk] = Want::Sought(Arc::clone(sought));
        }
        if decides {
            return;
        }
    }
}

/// Whether a part of the file will do; see [`Survey::of`].
fn is_divisible(all: &[Seen]) -> bool {
    let ended: BTreeSet<u32> = all.iter().flat_map(|seen| &seen.ended).copied().collect();
    let mut parts = all.iter().flat_map(|seen| &seen.parts);
    !all.iter().any(|seen| seen.is_whole) && parts.all(|part| ended.contains(&part.thread.process))
}

/// What a chunk has of a thread: events about buffers, or of what an allocator does for its request.
struct Part {
    thread: Thread,
    /// Whether any is about a buffer: that decides what the thread's event before it was.
    decides: bool,
    /// Whether the first that is about a buffer is sought: it may end what began in a chunk before.
    begins_sought: bool,
    /// Whether the last is: what it was is decided in a chunk behind.
    ends_sought: bool,
}

/// What a chunk has.
pub(super) struct Seen {
    behind: Seam,
    want: Want,
    /// Whether a file with this chunk is wanted whole.
    is_whole: bool,
    /// Processes that end.
    ended: Vec<u32>,
    parts: Vec<Part>,
    /// Addresses that buffers with the unique id have.
    addresses: Vec<u64>,
}

impl Seen {
    fn of(body: &Body, sought: &Arc<Sought>, scratch: &mut Scratch) -> Result<Self, Damage> {
        let mut seen = Self {
            behind: body.behind.clone(),
            want: Want::Records,
            is_whole: false,
            ended: Vec::new(),
            parts: Vec::new(),
            addresses: Vec::new(),
        };
        let damage = |what: &str| Damage { at: body.at, what: what.to_owned() };
        let mut records = body.decode(scratch)?;
        let mut are_there = false;
        while let Some(item) = records.next() {
            are_there = true;
            match item.map_err(damage)? {
                Item::Record(Record::Process(process)) => seen.is_whole |= !process.origin.as_str().is_empty(),
                Item::Record(Record::End(end)) => seen.ended.push(end.process),
                // What comes of a gap hangs on what is elsewhere: an address that is given twice was freed in it, and what
                // contradicts that makes all that follows uncertain.
                Item::Record(Record::Loss(_)) => seen.is_whole = true,
                Item::Record(Record::LiveOwner(it)) if sought.unique_id == Some(it.unique_id) => {
                    seen.addresses.push(it.address.0);
                }
                _ => {}
            }
        }
        if !are_there && records.skipped == 0 {
            seen.want = Want::Nothing { events: records.passed };
        }
        seen.look(body.bytes(), sought, scratch).map_err(damage)?;
        Ok(seen)
    }

    fn look(&mut self, body: &[u8], sought: &Arc<Sought>, scratch: &mut Scratch) -> Result<(), &'static str> {
        let parts = Parts::of(body)?;
        if let Some((thread, kinds)) = glance(&parts, sought, scratch) {
            if !kinds.iter().all(|&kind| is_of_one_place(kind)) {
                self.want = Want::Context;
            }
            self.add_thread(thread, &kinds);
            return Ok(());
        }
        let (mut forks, mut unreadable) = (false, false);
        let Unpacked { kinds, unknown } = scratch.unpack(&parts, |number, part, unpacker| {
            // A column is there only if not all of it is zero.
            forks |= number == CHILD;
            unreadable |= number == UNREADABLE;
            match number {
                // Mostly there is a table, which is much shorter than what it stands for, and has none of them.
                ADDRESS if sought.is_by_address() => {
                    unpacker.table(part, parts.count).is_none_or(|table| table.iter().any(|&it| sought.is_at(it)))
                }
                _ => tells_sought(number, sought),
            }
        })?;
        // An event that could not be read is a gap, too.
        self.is_whole |= forks || unreadable;
        if unknown > 0 || kinds.is_none() && parts.count > 0 {
            self.want = Want::Everything;
        } else if kinds.as_ref().is_some_and(|kinds| kinds.any(|kind| !is_of_one_place(kind))) {
            self.want = Want::Context;
        }
        let Some(kinds) = kinds else { return Ok(()) };
        let columns = &scratch.columns;
        let is_sought = sought.find(columns);
        if !is_sought.contains(&true) {
            self.follow_threads(columns, 0..parts.count, |_| false);
            return Ok(());
        }
        let by_kind = kinds.places(columns.of(KIND).iter().map(|&kind| kind as u8));
        let Some(rows) = sought_rows(columns, &by_kind, &is_sought) else {
            self.is_whole = true;
            return Ok(());
        };
        let address = |place: usize| at(columns.of(ADDRESS), by_kind[place] as usize);
        let unique_id = |place: usize| at(columns.of(UNIQUE_ID), by_kind[place] as usize);
        let places = rows.iter().map(|&place| place as usize);
        let is_one = |&place: &usize| sought.unique_id == Some(unique_id(place)) && address(place) != 0;
        self.addresses.extend(places.clone().filter(is_one).map(address));
        self.follow_threads(columns, places, |place| is_sought[by_kind[place] as usize]);
        self.want = match self.want {
            Want::Everything => Want::Everything,
            _ if rows.len() <= MOST_FOUND => Want::Found(Rows::new(kinds, rows, &by_kind)),
            _ => Want::Sought(Arc::clone(sought)),
        };
        Ok(())
    }

    /// Adds the thread that has all events, none of which is sought.
    fn add_thread(&mut self, thread: Thread, kinds: &[u8]) {
        let any = |role| kinds.iter().any(|&kind| Role::of(kind) == role);
        let decides = any(Role::Decides);
        if decides || any(Role::Bank) {
            self.parts.push(Part { thread, decides, begins_sought: false, ends_sought: false });
        }
    }

    /// Looks at the events at these places in the order of recording.
    fn follow_threads(
        &mut self,
        columns: &Columns,
        places: impl Iterator<Item = usize>,
        is_sought: impl Fn(usize) -> bool,
    ) {
        let recorded = columns.of(KIND);
        let mut known = 0;
        for place in places {
            let role = Role::of(at(recorded, place) as u8);
            if !matches!(role, Role::Decides | Role::Bank) {
                continue;
            }
            let thread = Thread::of(columns, place);
            if self.parts.get(known).is_none_or(|part| part.thread != thread) {
                known = self.parts.iter().position(|it| it.thread == thread).unwrap_or_else(|| {
                    self.parts.push(Part { thread, decides: false, begins_sought: false, ends_sought: false });
                    self.parts.len() - 1
                });
                if self.parts.len() > MOST_THREADS {
                    self.is_whole = true;
                    return;
                }
            }
            if role == Role::Decides {
                let is_sought = is_sought(place);
                let part = &mut self.parts[known];
                part.begins_sought |= is_sought && !part.decides;
                part.ends_sought = is_sought;
                part.decides = true;
            }
        }
    }
}

/// The thread and the kinds of a chunk's events, if these have one thread and none is sought, and its packed columns tell.
/// Mostly they do: a table is much shorter than what it stands for.
fn glance(parts: &Parts, sought: &Sought, scratch: &mut Scratch) -> Option<(Thread, Vec<u8>)> {
    let mut thread = Thread { process: 0, thread: 0 };
    let mut kinds = None;
    if !sought.is_by_address() {
        return None;
    }
    for column in parts.columns() {
        let (number, part) = column.ok()?;
        match number {
            PROCESS => thread.process = get_same(part, parts.count)? as u32,
            THREAD => thread.thread = get_same(part, parts.count)? as u32,
            KIND => {
                let table = scratch.unpacker.table(part, parts.count)?;
                kinds = Some(table.into_iter().map(u8::try_from).collect::<Result<_, _>>().ok()?);
            }
            ADDRESS => {
                let table = scratch.unpacker.table(part, parts.count)?;
                if table.iter().any(|&it| sought.is_at(it)) {
                    return None;
                }
            }
            CHILD | UNREADABLE => return None,
            _ if Event::is_column(number) => {}
            _ => return None,
        }
    }
    Some((thread, kinds?))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _};

    use super::*;
    use crate::trace::{Reader, Writer, text};

    const SOUGHT: u64 = 0x7000;

    /// Writes chunks of text, and returns where each begins.
    fn write(path: &Path, chunks: &[String]) -> Vec<u64> {
        let mut writer = Writer::create(path).expect("created");
        let mut starts = Vec::new();
        for chunk in chunks {
            starts.push(fs::metadata(path).expect("there").len());
            text::parse(chunk).expect("parsed").into_iter().for_each(|item| writer.item(item));
            writer.flush().expect("written");
        }
        starts
    }

    fn events(numbers: std::ops::Range<u64>, address: u64) -> String {
        let event = |number| format!("event {number} p=1 tid=7 allocated uid={number} address={address:#x}\n");
        numbers.map(event).collect()
    }

    /// A process with buffers at the sought address in one chunk of six, between others.
    fn chunks() -> Vec<String> {
        let mut chunks = vec!["process id=1 pid=7\n".to_owned()];
        chunks.extend([events(1..4, 0x10), events(4..9, 0x10), events(9..11, SOUGHT), events(11..14, 0x10)]);
        chunks.extend([events(14..18, 0x10), "end process=1 reason=exited\n".to_owned()]);
        chunks
    }

    fn survey(path: &Path) -> Survey {
        let sought = Sought { addresses: vec![SOUGHT..=SOUGHT], unique_id: None };
        Survey::of(path, &sought).expect("surveyed")
    }

    /// Sequence numbers of the events that are read, how many are passed over, and where there is damage.
    fn read(survey: Survey) -> (Vec<u64>, u64, Option<u64>) {
        let mut reader = Reader::surveyed(survey).expect("opened");
        let sequence = |item| if let Item::Event(event) = item { Some(event.sequence) } else { None };
        let events = reader.by_ref().filter_map(sequence).collect();
        (events, reader.passed(), reader.damage().map(|damage| damage.at))
    }

    #[test]
    fn chunks_that_nobody_wants_are_not_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.trace");
        let starts = write(&path, &chunks());
        let survey = survey(&path);
        // The neighbours of the thread's sought events are wanted, too, and where their chunks begin and end.
        let wanted = vec![4, 8, 9, 10, 11, 13];
        assert_eq!(read(survey.clone()), (wanted.clone(), 11, None));
        let file = File::options().write(true).open(&path).expect("opened");
        let damage = |chunk: usize| file.write_all_at(&[0xff; 4], starts[chunk] + 12).expect("written");
        damage(1);
        damage(5);
        assert_eq!(read(survey.clone()), (wanted.clone(), 11, None));
        damage(4);
        assert_eq!(read(survey), (wanted[..4].to_vec(), 6, Some(starts[4])));
    }

    #[test]
    fn it_is_the_file_that_was_surveyed_and_what_it_has_grown_by() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, longer, other] = ["a", "b", "c"].map(|name| folder.path().join(name));
        let mut chunks = chunks();
        write(&path, &chunks);
        let survey = survey(&path);
        chunks.push(events(18..20, 0x10));
        write(&longer, &chunks);
        let (length, longer) = (fs::metadata(&path).expect("there").len(), fs::read(&longer).expect("read"));
        let file = File::options().write(true).open(&path).expect("opened");
        file.write_all_at(&longer[length as usize..], length).expect("written");
        write(&other, &[events(1..2, SOUGHT)]);
        fs::rename(&other, &path).expect("renamed");
        assert_eq!(read(survey), (vec![4, 8, 9, 10, 11, 13, 18, 19], 11, None));
    }

    #[test]
    fn a_survey_ends_where_reading_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.trace");
        let mut chunks = chunks();
        // So that the part before the damage has all that a survey needs.
        chunks.insert(1, "end process=1 reason=exited\n".to_owned());
        let starts = write(&path, &chunks);
        let bytes = fs::read(&path).expect("read");
        for (length, damage) in [(starts[6], None), (starts[6] + 3, Some(starts[6])), (starts[7] - 1, Some(starts[6]))]
        {
            fs::write(&path, &bytes[..length as usize]).expect("written");
            assert_eq!(read(survey(&path)), (vec![4, 8, 9, 10, 11, 13], 7, damage), "{length} bytes");
        }
    }
}
