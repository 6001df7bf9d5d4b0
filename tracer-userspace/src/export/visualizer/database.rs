// SPDX-License-Identifier: Apache-2.0
//! The report's database: rows go in, and it is written whole or not at all.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rusqlite::{Connection, Params};

use super::schema;

/// Most rows of live buffers: each operation has them all.
const MOST_BUFFERS: u64 = 50_000_000;

/// The database.
pub(super) struct Database {
    connection: Connection,
    buffers: u64,
}

impl Database {
    /// Begins in a file that is there and empty.
    pub(super) fn begin(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        // Nobody needs half of it, so that nothing has to be undone after a crash.
        connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;")?;
        connection.execute_batch(&schema::script()).context("failed to make the tables")?;
        Ok(Self { connection, buffers: 0 })
    }

    /// Adds a row to a table, by the names of its columns.
    pub(super) fn insert(&self, table: &str, columns: &str, values: impl Params) -> Result<()> {
        let places = vec!["?"; columns.split(", ").count()].join(", ");
        let sql = format!("INSERT INTO {table} ({columns}) VALUES ({places})");
        self.connection.prepare_cached(&sql)?.execute(values)?;
        Ok(())
    }

    /// Counts a row of a live buffer before it is added.
    pub(super) fn count_buffer(&mut self) -> Result<()> {
        self.buffers += 1;
        if self.buffers > MOST_BUFFERS {
            bail!(
                "more than {MOST_BUFFERS} rows, as each operation has all live buffers: select with --device or --type"
            );
        }
        Ok(())
    }

    /// Writes it.
    pub(super) fn finish(self) -> Result<()> {
        self.connection.execute_batch("COMMIT;")?;
        self.connection.close().map_err(|(_, error)| error)?;
        Ok(())
    }
}
