// SPDX-License-Identifier: Apache-2.0
//! Writes packets, and the texts that they name by number before they do.

use std::{collections::HashMap, io::Write};

use anyhow::{Context as _, Result};
use prost::{Message as _, encoding::encode_varint};

use super::schema::{
    DebugAnnotation, INCREMENTAL_STATE_CLEARED, InternedData, InternedName, NEEDS_INCREMENTAL_STATE, TracePacket,
    TrackEvent,
};
use crate::trace::escape_lines;

/// All packets are of one sequence.
const SEQUENCE: u32 = 1;
/// `Trace.packet`: field 1, with a length.
const PACKET: u8 = 0x0a;

/// A trace that is being written.
pub(super) struct Packets<'a> {
    out: &'a mut dyn Write,
    /// Added to all times: nanoseconds since boot at the start.
    start: u64,
    names: Interner,
    categories: Interner,
    keys: Interner,
    values: Interner,
    /// What the next packet brings along.
    pending: InternedData,
    began: bool,
    buffer: Vec<u8>,
}

impl<'a> Packets<'a> {
    pub(super) fn new(out: &'a mut dyn Write, start: u64) -> Self {
        Self {
            out,
            start,
            names: Interner::default(),
            categories: Interner::default(),
            keys: Interner::default(),
            values: Interner::default(),
            pending: InternedData::default(),
            began: false,
            buffer: Vec::new(),
        }
    }

    /// The number of an event's name.
    pub(super) fn name(&mut self, text: &str) -> u64 {
        self.names.number(text, &mut self.pending.event_names)
    }

    /// The number of a category.
    pub(super) fn category(&mut self, text: &str) -> u64 {
        self.categories.number(text, &mut self.pending.event_categories)
    }

    /// The number of a text that is an argument's value. It may have several lines.
    pub(super) fn value(&mut self, text: &str) -> u64 {
        self.values.number(text, &mut self.pending.debug_annotation_string_values)
    }

    /// An argument that is a number.
    pub(super) fn uint(&mut self, key: &str, value: u64) -> DebugAnnotation {
        DebugAnnotation { uint_value: Some(value), ..self.argument(key) }
    }

    /// An argument that is an address.
    pub(super) fn pointer(&mut self, key: &str, value: u64) -> DebugAnnotation {
        DebugAnnotation { pointer_value: Some(value), ..self.argument(key) }
    }

    /// An argument that is a text, by its number.
    pub(super) fn text(&mut self, key: &str, value: u64) -> DebugAnnotation {
        DebugAnnotation { string_value_iid: Some(value), ..self.argument(key) }
    }

    fn argument(&mut self, key: &str) -> DebugAnnotation {
        let name_iid = self.keys.number(key, &mut self.pending.debug_annotation_names);
        DebugAnnotation { name_iid: Some(name_iid), ..DebugAnnotation::default() }
    }

    /// Writes an event; its time is nanoseconds after the start.
    pub(super) fn event(&mut self, time: u64, event: TrackEvent) -> Result<()> {
        // Perfetto's times have a sign.
        let timestamp = self.start.saturating_add(time).min(i64::MAX as u64);
        self.send(TracePacket { timestamp: Some(timestamp), track_event: Some(event), ..TracePacket::default() })
    }

    /// Writes a packet.
    pub(super) fn send(&mut self, mut packet: TracePacket) -> Result<()> {
        packet.trusted_packet_sequence_id = Some(SEQUENCE);
        let first = if self.began { 0 } else { INCREMENTAL_STATE_CLEARED };
        packet.sequence_flags = Some(first | NEEDS_INCREMENTAL_STATE);
        self.began = true;
        if self.pending != InternedData::default() {
            packet.interned_data = Some(std::mem::take(&mut self.pending));
        }
        self.buffer.clear();
        self.buffer.push(PACKET);
        encode_varint(packet.encoded_len() as u64, &mut self.buffer);
        packet.encode_raw(&mut self.buffer);
        self.out.write_all(&self.buffer).context("failed to write")
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.out.flush().context("failed to write")
    }
}

/// Numbers of texts, from 1.
#[derive(Default)]
struct Interner(HashMap<String, u64>);

impl Interner {
    fn number(&mut self, text: &str, new: &mut Vec<InternedName>) -> u64 {
        if let Some(&number) = self.0.get(text) {
            return number;
        }
        let number = self.0.len() as u64 + 1;
        self.0.insert(text.to_owned(), number);
        new.push(InternedName { iid: Some(number), name: Some(escape_lines(text)) });
        number
    }
}
