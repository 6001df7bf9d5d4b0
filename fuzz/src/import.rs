// SPDX-License-Identifier: Apache-2.0
//! What other tools wrote.

use buftrace::{import::Importer, trace::Item};

use crate::views;

/// More bytes than these only take longer.
const LONGEST: usize = 1536;

/// A log.
pub(crate) fn log(bytes: &[u8]) {
    file(bytes);
}

/// A graph capture: both are told apart by how they begin.
pub(crate) fn graph(bytes: &[u8]) {
    match bytes.first() {
        Some(b'[' | b'{') => file(bytes),
        _ => file(&[b"[{", bytes].concat()),
    }
}

fn file(bytes: &[u8]) {
    let mut items: Vec<Item> = Vec::new();
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let imported = Importer::default().file("a\n.log", bytes, &mut |item| items.push(item));
    items.iter().for_each(views::line);
    if imported.is_ok() {
        views::show(&items);
    }
}
