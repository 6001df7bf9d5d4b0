// SPDX-License-Identifier: Apache-2.0
//! Trace files: as they are on disk, as what is behind a checksum, and as the text that `dump` prints.

use buftrace::{
    analysis::Epilogue,
    model::State,
    trace::{Item, MAGIC, Reader, text},
};

use crate::views;

/// More bytes and items than these only take longer.
const LONGEST: usize = 1536;
const MOST: usize = 64;

/// What a part begins with: of each kind one, about buffers of the first few ids and places.
const BEHIND: &str = "event 1 t=50 p=1 tid=7 request uid=3 size=64 class=mesh\n\
    event 2 t=51 p=1 tid=7 bank size=64\n\
    event 3 t=52 p=1 tid=7 allocated uid=3 owns=1 size=64 address=0x1000 page=64 allocator=0x70 class=mesh\n\
    event 4 t=53 p=1 tid=8 free uid=1 size=64 address=0x1000 status=1\n\
    event 5 t=54 p=1 tid=8 released uid=1 size=64 address=0x1000 page=64 allocator=0x70 class=mesh\n\
    event 6 t=55 p=1 tid=7 free uid=2 size=64 address=0x2000 status=2\n\
    event 7 t=56 p=1 tid=7 marked uid=2 size=64 address=0x2000 status=1\n\
    event 8 t=57 p=1 tid=7 destroyed uid=4 size=64 address=0x2000 status=2\n\
    event 9 t=58 p=1 tid=7 device-open object=0x50 class=mesh\n\
    event 10 t=59 p=1 tid=7 bulk object=0x70\n\
    event 11 t=60 p=1 tid=7 fork child=2\n\
    event 12 t=61 p=2 tid=9 free uid=1 size=64 address=0x1000 status=1\n\
    event 13 t=62 p=1 tid=7 thread-exit\n\
    loss process=1 after=62 before=63 count=1\n\
    event 14 t=64 p=1 tid=7 allocated uid=5 owns=1 size=64 address=0x1000 page=64 allocator=0x70 class=mesh\n\
    end process=1 time=70 reason=exited\n";

/// A file.
pub(crate) fn file(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    reader.by_ref().for_each(|item| views::line(&item));
    if let Some(damage) = reader.damage() {
        assert!(damage.at <= bytes.len() as u64, "damage behind the end");
    }
}

/// The body of a chunk, in a file with the right checksum.
pub(crate) fn chunk(body: &[u8]) {
    let head = [&MAGIC[..], &[2, 0, 2, 0], &(body.len() as u32).to_le_bytes(), &crc32fast::hash(body).to_le_bytes()];
    let file = [&head.concat(), body].concat();
    let Ok(mut reader) = Reader::new(&file[..]) else { panic!("a sound file is refused") };
    let items: Vec<Item> = reader.by_ref().take(MOST).collect();
    items.iter().for_each(views::line);
    views::show(&items);
}

/// What the end of a trace says that its events come to, whatever they are.
pub(crate) fn epilogue(bytes: &[u8]) {
    let bytes = [Epilogue::RULES.as_bytes(), bytes].concat();
    views::show_epilogue(&|| Epilogue::from_bytes(&bytes));
}

/// What the end of a trace says that was known where a part begins, whatever that is.
pub(crate) fn state(bytes: &[u8]) {
    let Some(state) = State::from_bytes(bytes) else { return };
    let items = text::parse(BEHIND).unwrap_or_default();
    assert!(!items.is_empty(), "the lines are none");
    views::show_behind(state, &items);
}

/// Lines as `dump` prints them; those that are none are left out.
pub(crate) fn model(bytes: &[u8]) {
    let lines = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let items: Vec<Item> = lines.lines().filter_map(|line| text::parse(line).ok()).flatten().collect();
    items.iter().for_each(views::line);
    views::show(&items);
}
