// SPDX-License-Identifier: Apache-2.0
//! A table in the folder: rows are collected and written as parts, so that memory is bounded whatever their number.

use std::{collections::BTreeMap, marker::PhantomData};

use anyhow::{Context as _, Result};

use super::batch::Batch;
use crate::export::{
    folder::Folder,
    table::{Cell, Row},
};

/// Rows that are collected before they are written. Each part of a partition is a file with one row group.
const MOST_ROWS: usize = 1 << 17;
/// How many columns of a partitioned table are in its path: host and process.
const IN_PATH: usize = 2;
/// What stands for an absent value in a path, as Hive has it.
const ABSENT: &str = "__HIVE_DEFAULT_PARTITION__";

/// A table that is being written.
#[derive(Debug)]
pub(super) struct Table<R> {
    /// How many of the first columns are in the path.
    in_path: usize,
    /// By the path of the partition.
    partitions: BTreeMap<String, Partition>,
    /// In all of them together.
    rows: usize,
    row: PhantomData<R>,
}

#[derive(Debug, Default)]
struct Partition {
    /// What is not written yet.
    batch: Option<Batch>,
    parts: u32,
}

impl<R: Row> Table<R> {
    /// A table that is partitioned by its first columns, host and process.
    pub(super) fn partitioned() -> Self {
        Self { in_path: IN_PATH, partitions: BTreeMap::new(), rows: 0, row: PhantomData }
    }

    /// A table that is not partitioned.
    pub(super) fn whole() -> Self {
        Self { in_path: 0, ..Self::partitioned() }
    }

    /// Takes a row.
    pub(super) fn add(&mut self, row: &R, folder: &mut Folder) -> Result<()> {
        let mut cells = row.cells();
        let path = Self::path(cells.by_ref().take(self.in_path));
        let partition = self.partitions.entry(path).or_default();
        partition.batch.get_or_insert_with(|| Batch::new(&R::COLUMNS[self.in_path..])).add(cells);
        self.rows += 1;
        if self.rows >= MOST_ROWS { self.write(folder) } else { Ok(()) }
    }

    /// Writes what is left. A table without rows is a file without rows.
    pub(super) fn finish(&mut self, folder: &mut Folder) -> Result<()> {
        if self.partitions.is_empty() {
            let path = Self::path([Cell::Empty, Cell::Number(0)].into_iter().take(self.in_path));
            self.partitions.insert(path, Partition { batch: Some(Batch::new(&R::COLUMNS[self.in_path..])), parts: 0 });
        }
        self.write(folder)
    }

    fn path<'a>(cells: impl Iterator<Item = Cell<'a>>) -> String {
        let mut path = R::TABLE.to_owned();
        for (column, cell) in R::COLUMNS.iter().zip(cells) {
            path.push_str(&format!("/{}={}", column.name, partition_value(cell)));
        }
        path
    }

    fn write(&mut self, folder: &mut Folder) -> Result<()> {
        self.rows = 0;
        for (path, partition) in &mut self.partitions {
            let Some(batch) = partition.batch.take() else { continue };
            let name = format!("{path}/part-{}.parquet", partition.parts);
            partition.parts += 1;
            let file = folder.create(&name)?;
            batch.write(R::TABLE, file).with_context(|| format!("failed to write {}", folder.path(&name).display()))?;
        }
        Ok(())
    }
}

/// A value as it stands in a path: what is not plain is escaped as in a URL, which readers undo.
fn partition_value(cell: Cell<'_>) -> String {
    match cell {
        Cell::Empty | Cell::Text("") => ABSENT.to_owned(),
        Cell::Number(number) => number.to_string(),
        Cell::Flag(flag) => flag.to_string(),
        Cell::Text(text) => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            text.bytes()
                .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_stays_in_its_folder() {
        assert_eq!(partition_value(Cell::Text("node-1.lab")), "node-1.lab");
        assert_eq!(partition_value(Cell::Text("../a b=ü\n")), "..%2Fa%20b%3D%C3%BC%0A");
        assert_eq!(partition_value(Cell::Empty), ABSENT);
    }
}
