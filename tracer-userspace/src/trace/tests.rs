// SPDX-License-Identifier: Apache-2.0
//! The file as a whole: what is written is read, and what is damaged is noticed.

use std::{fs, ops::Range, path::Path, thread, time::Duration};

use super::{
    Damage, Item, Kind, ReadError, Reader, Text, Writer,
    chunk::MAX_BODY,
    event::{Event, Row},
    field::{put_bytes, put_varint},
    reader::HEAD,
    text,
};

const LINES: &str = r#"session tool="0.1.0" host="h" kernel="6.1" wall_ns=5 boot_ns=4
process id=1 pid=40 start=9 command="python a.py"
module id=1 path="/lib/libtt_metal.so" build_id="8f22"
mapping process=1 module=1 start=0x7f00 end=0x8f00 bias=0x7000
field process=1 name=address_ offset=0x50 sources="address(), ~Buffer"
probe process=1 kind=free symbol="_ZN6Buffer" module=1 offset=0x1f0
border process=1 time=10 next_unique_id=27
text id=1 text="a.py::one (call)"
frame id=1 module=1 address=0x1000 returns=1
stack id=1 frames=1 end=complete
python process=1 module=1 version="3.12.1"
code id=1 function="Model.load" file="model.py" first_line=3
python-frame id=2 code=1 line=37
stack id=2 frames=1,2 end=complete python=complete
event 1 t=20 p=1 tid=41 test-begin text=1
event 2 t=21 p=1 tid=41 request object=0x5510 uid=27 size=2048 type=1 owns=1 stack=1
event 3 t=22 p=1 tid=41 allocated object=0x5510 uid=27 address=0x100400 size=2048 page=1024 type=1 status=1 owns=1 device=0x77 class=mesh id=2 allocator=0x99
event 4 t=23 p=1 tid=41 device-open object=0x78 class=chip id=3
event 5 t=24 p=1 tid=41 alias address=0x100400 size=2048 device=0x78 class=chip id=3
event 6 t=25 p=1 tid=41 fork child=2
symbol frame=1 function="main" offset=0x10 file="a.c" line=3
loss process=1 after=25 before=30 count=1 cause=ring-full
event 8 t=30 p=1 tid=41 free object=0x5510 uid=27 unreadable=1
counter name=sent value=8
problem text="a thing"
end process=1 time=40 reason=exited
"#;

fn file(items: &[Item], flush_every: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.trace");
    let mut writer = Writer::create(&path).expect("created");
    for (index, item) in items.iter().enumerate() {
        match item.clone() {
            Item::Record(record) => writer.record(record),
            Item::Event(event) => writer.event(event),
        }
        if index % flush_every == flush_every - 1 {
            writer.flush().expect("written");
        }
    }
    writer.flush().expect("written");
    let bytes = fs::read(&path).expect("read");
    assert_eq!(bytes.len() as u64, writer.bytes());
    bytes
}

fn small() -> (Vec<Item>, Vec<u8>) {
    let items = text::parse(LINES).expect("parsed");
    let bytes = file(&items, 7);
    (items, bytes)
}

fn read(bytes: &[u8]) -> (Vec<Item>, Option<Damage>) {
    let mut reader = Reader::new(bytes).expect("a trace");
    let items = reader.by_ref().collect();
    (items, reader.damage().cloned())
}

#[test]
fn text_to_file_to_text() {
    for flush_every in [1, 7, 100] {
        let items = text::parse(LINES).expect("parsed");
        let (read, damage) = read(&file(&items, flush_every));
        assert_eq!(damage, None);
        let lines: Vec<String> = read.iter().map(text::show).collect();
        assert_eq!(lines.join("\n") + "\n", LINES);
    }
}

#[test]
fn any_event_survives() {
    // splitmix64, seeded: the same events in each run.
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut items = Vec::new();
    for _ in 0..40_000 {
        let mut row = Row::default();
        for number in &mut row {
            *number = random() >> (random() % 64);
        }
        row[4] = 1 + row[4] % Kind::ALL.len() as u64;
        for flag in [12, 13, 14] {
            row[flag] %= 2;
        }
        row[11] %= 256; // status
        row[16] %= 3; // device class
        for index in [2, 3, 10, 17, 19, 20, 21] {
            row[index] %= 1 << 32;
        }
        items.push(Item::Event(Event::from_row(row).expect("in bounds")));
        if random().is_multiple_of(64) {
            items.push(Text { id: random() as u32, text: format!("{:x}", random()) }.into());
        }
    }
    assert!(read(&file(&items, 1_000_000)) == (items.clone(), None), "file");
    let lines: Vec<String> = items.iter().take(2000).map(text::show).collect();
    assert!(text::parse(&lines.join("\n")).expect("parsed") == items[..2000], "text");
}

#[test]
fn a_cut_file_reads_up_to_the_cut() {
    let (items, bytes) = small();
    for length in HEAD as usize..bytes.len() {
        let (read, damage) = read(&bytes[..length]);
        assert_eq!(read, items[..read.len()], "cut at {length}");
        assert!(damage.is_some() || matches!(read.len(), 0 | 7 | 14 | 21), "cut at {length}: {}", read.len());
    }
    for length in 0..HEAD as usize {
        assert!(matches!(Reader::new(&bytes[..length]), Err(ReadError::NotATrace)));
    }
}

#[test]
fn a_flipped_byte_is_noticed() {
    let (items, bytes) = small();
    for position in HEAD as usize..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[position] ^= mask;
            let (read, damage) = read(&bytes);
            assert_eq!(read, items[..read.len()], "flipped at {position}");
            assert!(damage.is_some(), "flipped at {position}");
        }
    }
}

#[test]
fn a_forged_chunk_cannot_make_the_reader_fail() {
    // The checksum is right, so that what is behind it is exercised.
    let (items, _) = small();
    let bytes = file(&items, 100);
    let chunk = &chunks(&bytes)[0];
    let body = &bytes[chunk.start + 8..chunk.end];
    for position in 0..body.len() {
        for mask in [0x01, 0x7f, 0x80, 0xff] {
            let mut body = body.to_vec();
            body[position] ^= mask;
            read(&with_chunk(&bytes[..12], &body));
        }
    }
}

#[test]
fn a_decompression_bomb_is_damage() {
    let (_, bytes) = small();
    let mut items = vec![1];
    put_varint(MAX_BODY as u64 + 1, &mut items);
    items.extend(zstd::bulk::compress(&vec![0; MAX_BODY + 1], 1).expect("compressed"));
    let mut body = Vec::new();
    put_bytes(&items, &mut body);
    put_varint(0, &mut body);
    let (items, damage) = read(&with_chunk(&bytes[..12], &body));
    assert!(items.is_empty());
    let what = "the items of a chunk cannot be unpacked".to_owned();
    assert_eq!(damage, Some(Damage { at: 12, what }));
}

/// A file with one chunk, whose checksum is right.
fn with_chunk(head: &[u8], body: &[u8]) -> Vec<u8> {
    [head, &(body.len() as u32).to_le_bytes(), &crc32fast::hash(body).to_le_bytes(), body].concat()
}

/// Where each chunk is.
fn chunks(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut chunks = Vec::new();
    let mut at = HEAD as usize;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four")) as usize;
        chunks.push(at..at + 8 + length);
        at += 8 + length;
    }
    chunks
}

#[test]
fn a_chunk_is_good_in_its_own_place_only() {
    let (items, bytes) = small();
    let other = file(&text::parse(&LINES.replace("host=\"h\"", "host=\"other\"")).expect("parsed"), 7);
    let (here, there) = (chunks(&bytes), chunks(&other));
    assert_eq!((here.len(), there.len()), (4, 4));
    let build = |parts: &[&[u8]]| [&[&bytes[..HEAD as usize]], parts].concat().concat();
    let [a, b, c] = [&bytes[here[0].clone()], &bytes[here[1].clone()], &bytes[here[2].clone()]];
    for (what, parts, whole) in [
        ("repeated", vec![a, b, b, c], 2),
        ("moved", vec![a, c, b], 1),
        ("left out", vec![a, c], 1),
        ("of another file", vec![a, &other[there[1].clone()], c], 1),
        ("the first of another file", vec![&other[there[0].clone()], b], 1),
    ] {
        let (read, damage) = read(&build(&parts));
        assert_eq!(read.len(), 7 * whole, "{what}");
        assert!(what.contains("first") || read == items[..read.len()], "{what}");
        let at = HEAD as usize + parts[..whole].iter().map(|part| part.len()).sum::<usize>();
        let what = "a chunk is damaged, or not the one that was written here: its checksum is wrong".to_owned();
        assert_eq!(damage, Some(Damage { at: at as u64, what }));
    }
}

#[test]
fn a_file_that_grows_is_read_as_far_as_it_is_there() {
    let (items, bytes) = small();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("growing");
    let first = chunks(&bytes)[0].end;
    fs::write(&path, &bytes[..first]).expect("written");
    let mut reader = Reader::new(fs::File::open(&path).expect("opened")).expect("a trace");
    let mut read: Vec<Item> = reader.by_ref().take(3).collect();
    fs::write(&path, &bytes).expect("written");
    read.extend(reader.by_ref());
    assert_eq!((read, reader.damage()), (items, None));
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let error = Writer::create(Path::new("/dev/full")).err().expect("refused");
    assert_eq!(format!("{error:#}"), "failed to write /dev/full: No space left on device (os error 28)");
}

#[test]
fn another_version_is_refused_by_name() {
    let (items, mut bytes) = small();
    bytes[8] = 9;
    assert_eq!(read(&bytes), (items, None), "a later version that says it can be read");
    bytes[10] = 3;
    let Err(error) = Reader::new(&bytes[..]) else { panic!("read") };
    assert_eq!(error.to_string(), "this trace has format version 9, and this tool reads 2 to 2");
    assert_eq!(error.hint(), "read it with the newer tt-buftrace that recorded it");
}

#[test]
fn only_a_trace_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes");
    fs::write(&path, "dear diary").expect("written");
    let error = Writer::create(&path).err().expect("refused").to_string();
    assert!(error.ends_with("it is there already, and it is no trace"), "{error}");
    assert_eq!(fs::read(&path).expect("read"), b"dear diary");
    fs::write(&path, small().1).expect("written");
    drop(Writer::create(&path).expect("replaced"));
    assert_eq!(read(&fs::read(&path).expect("read")), (Vec::new(), None));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_limited_file_stays_small_and_keeps_what_is_needed() {
    const LIMIT: u64 = 1 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.trace");
    let mut writer = Writer::create(&path).expect("created");
    writer.limit(LIMIT).expect("a regular file");
    let Some(Item::Event(like)) = text::parse("event 0 p=1 tid=1 free status=1 owns=1").expect("an event").pop() else {
        panic!("no event")
    };
    let event = |sequence: u64, kind, unique_id| Event {
        sequence,
        time: sequence,
        kind,
        unique_id,
        // Nothing to be gained by compression.
        address: sequence.wrapping_mul(sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ..like
    };
    let (mut largest, count) = (0, 400_000);
    writer.event(event(0, Kind::Allocated, 0));
    for sequence in 1..count {
        let (kind, unique_id) = ([Kind::Allocated, Kind::Free][(sequence % 2) as usize], sequence / 2 + 1);
        if sequence % 10_000 == 0 {
            writer.record(Text { id: (sequence / 10_000) as u32, text: sequence.to_string() });
        }
        writer.event(event(sequence, kind, unique_id));
        if sequence % 1000 == 0 {
            writer.flush().expect("written");
            let sizes = fs::read_dir(&folder)
                .expect("a folder")
                .map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |metadata| metadata.len()));
            largest = largest.max(sizes.sum());
        }
    }
    writer.flush().expect("written");
    assert!(largest <= LIMIT + LIMIT / 2 && fs::metadata(&path).expect("there").len() <= LIMIT, "{largest}");

    let mut reader = Reader::open(&path).expect("a trace");
    let items: Vec<Item> = reader.by_ref().collect();
    assert_eq!(reader.damage(), None);
    let texts = items.iter().filter(|item| matches!(item, Item::Record(super::Record::Text(_)))).count();
    assert_eq!(texts, 39);
    let lost: u64 =
        items.iter().map(|item| if let Item::Record(super::Record::Loss(it)) = item { it.count } else { 0 }).sum();
    let events: Vec<u64> =
        items.iter().filter_map(|it| if let Item::Event(it) = it { Some(it.sequence) } else { None }).collect();
    assert!(lost > count / 2 && lost == writer.dropped(), "{lost}");
    assert_eq!(lost + events.len() as u64, count);
    assert_eq!(events[0], 0, "its buffer lives");
    assert!(events.len() > 10_000 && events.is_sorted());
    assert_eq!(events.last(), Some(&(count - 1)));
}

#[test]
fn a_limited_file_never_takes_the_place_of_another() {
    const LIMIT: u64 = 1 << 18;
    let folder = tempfile::tempdir().expect("a folder");
    let [path, moved] = ["a.trace", "moved"].map(|name| folder.path().join(name));
    let mut writer = Writer::create(&path).expect("created");
    writer.limit(LIMIT).expect("a regular file");
    fs::rename(&path, &moved).expect("renamed");
    fs::write(&path, small().1).expect("written");
    let Some(Item::Event(like)) = text::parse("event 0 p=1 tid=1 free status=1 owns=1").expect("an event").pop() else {
        panic!("no event")
    };
    let failure = (0..u64::MAX).find_map(|sequence: u64| {
        let address = sequence.wrapping_mul(sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writer.event(Event { sequence, address, ..like });
        if !sequence.is_multiple_of(1000) {
            return None;
        }
        // So that what is to take the place is there before the limit is reached: else that is waited for, and the last try.
        thread::sleep(Duration::from_millis(20));
        writer.flush().err()
    });
    let failure = format!("{:#}", failure.expect("it can't be kept so small"));
    assert!(failure.starts_with("failed to keep the trace below 262144 bytes: failed to replace "), "{failure}");
    drop(writer);
    assert_eq!(fs::read(&path).expect("read"), small().1);
    let names = fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(names, 2, "what was to take the place is gone");
    let mut reader = Reader::open(&moved).expect("a trace");
    let items: Vec<Item> = reader.by_ref().collect();
    assert_eq!(reader.damage(), None);
    let told =
        |item: &Item| text::show(item).contains("the trace can't be shortened so far, and its recording will end at");
    assert!(items.iter().any(told) && items.len() > 10_000, "{}", items.len());
}
