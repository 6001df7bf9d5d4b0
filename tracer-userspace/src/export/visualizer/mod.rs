// SPDX-License-Identifier: Apache-2.0
//! A report folder of ttnn-visualizer: the buffers that were live after each operation, with where it was done.
//!
//! A process is a rank of the report. An operation is what a thread did without a break at one site in one test. What a
//! trace does not tell, tensors, cores and banks, is left out.

mod database;
mod operation;
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use database::Database;
use operation::{Key, Operation, stack_trace};
use rusqlite::{params, params_from_iter};
use serde_json::json;

use super::{Export, folder::Folder};
use crate::{
    analysis::{Integrity, Selected, Sites},
    model::{Allocation, Buffer, Device, Entry, Found, Model, Moment, Outcome, Verdict},
    trace::DeviceClass,
};

/// What is added to the number of a chip, so that no chip has that of a mesh.
const CHIPS: i64 = 1000;
/// The number of L1 among the types of memory.
const L1: u32 = 1;
/// The file that the visualizer looks for.
const DATABASE: &str = "db.sqlite";

/// Writes a report. Its memory grows with the live buffers, that of the database on disk with these at each operation.
pub struct Visualizer<'a> {
    known: &'a Model,
    folder: Folder,
    database: Database,
    sites: Sites<'a>,
    /// By process number.
    ranks: BTreeMap<u32, Rank>,
    /// Buffers that could not be placed, as the bytes that they take in each bank were not recorded.
    unplaced: u64,
    placed: u64,
}

/// A process on its way.
#[derive(Default)]
struct Rank {
    live: BTreeMap<u64, Buffer>,
    operation: Option<Operation>,
    /// Operations so far.
    operations: i64,
    devices: BTreeSet<i64>,
    /// The end of the highest buffer in L1 that was seen.
    l1_end: u64,
}

impl<'a> Visualizer<'a> {
    /// Begins with what is known of the traces.
    ///
    /// # Errors
    ///
    /// The folder is not ours, or can't be written.
    pub fn new(known: &'a Model, path: &Path) -> Result<Self> {
        let mut folder = Folder::claim(path, "visualizer")?;
        folder.create(DATABASE)?;
        let database = Database::begin(&folder.path(DATABASE)).context("failed to write db.sqlite")?;
        let sites = Sites::new(&known.definitions);
        Ok(Self { known, folder, database, sites, ranks: BTreeMap::new(), unplaced: 0, placed: 0 })
    }

    /// Puts an entry into the operation that goes on, or ends that and begins another.
    fn operate(&mut self, process: u32, entry: &Entry, moment: Moment) -> Result<()> {
        let site = self.sites.get(moment.stack);
        let test = self.known.definitions.test(&moment).map(str::to_owned);
        let key = Key { thread: moment.thread, test, site: site.id.clone() };
        let name = site.name.clone();
        let rank = self.ranks.entry(process).or_default();
        if rank.operation.as_ref().is_none_or(|it| it.key != key) {
            let ended = rank.operation.replace(Operation::begin(key, name, moment));
            self.write(process, ended)?;
        }
        let operation = self.ranks.get_mut(&process).and_then(|rank| rank.operation.as_mut());
        operation.into_iter().for_each(|it| it.add(entry, moment.time));
        Ok(())
    }

    /// Follows what is live.
    fn follow(&mut self, process: u32, entry: &Entry) {
        let rank = self.ranks.entry(process).or_default();
        match entry {
            Entry::Allocation(Allocation { buffer, .. }) | Entry::Found(Found { buffer, .. }) if !buffer.phantom => {
                rank.live.insert(buffer.unique_id, *buffer);
                match buffer.bank_bytes {
                    Some(_) => self.placed += 1,
                    None => self.unplaced += 1,
                }
            }
            Entry::Outcome(Outcome { buffer, ends: true, .. }) => drop(rank.live.remove(&buffer.unique_id)),
            _ => {}
        }
    }

    fn write(&mut self, process: u32, operation: Option<Operation>) -> Result<()> {
        let (Some(operation), Some(rank)) = (operation, self.ranks.get_mut(&process)) else { return Ok(()) };
        rank.operations += 1;
        let (id, number) = (rank.operations, rank_of(process));
        let database = &mut self.database;
        let seconds = operation.last.saturating_sub(operation.first.time) as f64 / 1e9;
        let row = params![id, operation.name, seconds, number];
        database.insert("operations", "operation_id, name, duration, rank", row)?;
        for (name, value) in operation.arguments() {
            let row = params![id, name, value, number];
            database.insert("operation_arguments", "operation_id, name, value, rank", row)?;
        }
        let trace = stack_trace(operation.first.stack, &self.known.definitions);
        if let Some(trace) = &trace {
            database.insert("stack_traces", "operation_id, stack_trace, rank", params![id, trace, number])?;
        }
        if let Some((kind, message)) = operation.error() {
            let columns = "operation_id, operation_name, error_type, error_message, stack_trace, timestamp, rank";
            let time = format!("{:.6} s", operation.first.time as f64 / 1e9);
            let trace = trace.unwrap_or_default();
            let row = params![id, operation.name, kind, message, trace, time, number];
            database.insert("errors", columns, row)?;
        }
        for buffer in rank.live.values() {
            let Some(bytes) = buffer.bank_bytes else { continue };
            database.count_buffer()?;
            let device = device_number(buffer.device);
            rank.devices.insert(device);
            if buffer.buffer_type == L1 {
                rank.l1_end = rank.l1_end.max(buffer.address.saturating_add(bytes));
            }
            let columns = "operation_id, device_id, address, max_size_per_bank, buffer_type, rank";
            let row = params![id, device, integer(buffer.address), integer(bytes), buffer.buffer_type, number];
            database.insert("buffers", columns, row)?;
        }
        Ok(())
    }

    fn write_devices(&self) -> Result<()> {
        let columns = format!("device_id, worker_l1_size, rank, {}", schema::UNKNOWN_OF_DEVICES.join(", "));
        for (&process, rank) in &self.ranks {
            for &device in &rank.devices {
                let known = [device, integer(rank.l1_end), i64::from(rank_of(process))];
                let row = known.into_iter().chain(schema::UNKNOWN_OF_DEVICES.map(|_| 0));
                self.database.insert("devices", &columns, params_from_iter(row))?;
            }
        }
        Ok(())
    }

    fn write_facts(&self) -> Result<()> {
        let integrity = Integrity::of(self.known);
        let mut facts = vec![
            ("schema_version".to_owned(), schema::VERSION.to_owned()),
            ("tt_buftrace_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("tt_buftrace_buffers_without_bank_size".to_owned(), self.unplaced.to_string()),
            ("tt_buftrace_events_lost".to_owned(), integrity.lost().to_string()),
        ];
        facts.extend(integrity.start_ns.map(|start| ("capture_timestamp_ns".to_owned(), start.to_string())));
        for process in self.ranks.keys() {
            let told = integrity.processes.iter().find(|it| it.process == *process);
            let words =
                told.map(|it| format!("pid {} on {}: {}", it.pid, it.host.as_deref().unwrap_or("?"), it.command));
            facts.extend(words.map(|words| (format!("tt_buftrace_rank_{}", rank_of(*process)), words)));
        }
        facts.iter().try_for_each(|(key, value)| self.database.insert("report_metadata", "key, value", [key, value]))
    }
}

impl Export for Visualizer<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        let process = entry.process();
        let moment = match entry {
            Entry::Allocation(it) => Some(it.moment),
            Entry::Outcome(it) if it.verdict != Verdict::Held => Some(it.moment),
            // Nobody did that.
            Entry::Outcome(_) | Entry::Found(_) | Entry::Alias(_) => None,
        };
        if let Some(moment) = moment {
            self.operate(process, entry, moment).context("failed to write db.sqlite")?;
            self.follow(process, entry);
        } else if matches!(entry, Entry::Found(_)) {
            self.follow(process, entry);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, _: Option<&Selected>) -> Result<()> {
        if self.placed == 0 && self.unplaced > 0 {
            self.folder.remove(DATABASE)?;
            bail!(
                "the trace does not tell how many bytes buffers take in each bank, by which the visualizer shows them"
            );
        }
        let processes: Vec<u32> = self.ranks.keys().copied().collect();
        for process in processes {
            let ended = self.ranks.get_mut(&process).and_then(|rank| rank.operation.take());
            self.write(process, ended).context("failed to write db.sqlite")?;
        }
        self.write_devices().and_then(|()| self.write_facts()).context("failed to write db.sqlite")?;
        let config = json!({ "report_name": "tt-buftrace", "tt_buftrace": env!("CARGO_PKG_VERSION") });
        writeln!(self.folder.create("config.json")?, "{config}").context("failed to write config.json")?;
        self.database.finish().context("failed to write db.sqlite")
    }
}

/// Ranks count from 0.
fn rank_of(process: u32) -> u32 {
    process.saturating_sub(1)
}

fn device_number(device: Option<Device>) -> i64 {
    match device {
        Some(Device { class: DeviceClass::Chip, id }) => i64::from(id) + CHIPS,
        Some(Device { id, .. }) => i64::from(id),
        None => -1,
    }
}

/// `SQLite` has no larger numbers; a true one never is.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
