// SPDX-License-Identifier: Apache-2.0
//! Trace files: as they are on disk, as what is behind a checksum, and as the text that `dump` prints.

use buftrace::{
    analysis::Epilogue,
    trace::{Item, MAGIC, Reader, text},
};

use crate::views;

/// More bytes and items than these only take longer.
const LONGEST: usize = 1536;
const MOST: usize = 64;

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

/// Lines as `dump` prints them; those that are none are left out.
pub(crate) fn model(bytes: &[u8]) {
    let lines = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let items: Vec<Item> = lines.lines().filter_map(|line| text::parse(line).ok()).flatten().collect();
    items.iter().for_each(views::line);
    views::show(&items);
}
