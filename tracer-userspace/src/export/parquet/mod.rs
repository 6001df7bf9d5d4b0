// SPDX-License-Identifier: Apache-2.0
//! Parquet: a folder of tables, those that grow with the trace partitioned by host and process.

mod batch;
mod table;

use std::path::Path;

use anyhow::Result;

use super::{
    Export,
    folder::Folder,
    table::{
        CounterRow, LifeRow, LifeRows, LossRow, ProcessRow, ReportedRow, Row, RunRow, SiteRow, StackRow, StepRow,
        StepRows, TestRow,
    },
};
use crate::{
    analysis::{Selected, Sites},
    model::{Entry, Model},
};
use table::Table;

/// Writes a folder of tables. Its memory grows with the live buffers, and with what is different.
pub struct Parquet<'a> {
    known: &'a Model,
    folder: Folder,
    steps: StepRows<'a>,
    lives: LifeRows<'a>,
    step_table: Table<StepRow>,
    life_table: Table<LifeRow>,
}

impl<'a> Parquet<'a> {
    /// Begins with what is known of the traces.
    ///
    /// # Errors
    ///
    /// The folder is not ours, or can't be written.
    pub fn new(known: &'a Model, path: &Path) -> Result<Self> {
        let definitions = &known.definitions;
        Ok(Self {
            known,
            folder: Folder::claim(path, "parquet")?,
            steps: StepRows::new(definitions),
            lives: LifeRows::new(definitions),
            step_table: Table::partitioned(),
            life_table: Table::partitioned(),
        })
    }

    fn write<R: Row>(&mut self, rows: impl IntoIterator<Item = R>) -> Result<()> {
        let mut table = Table::whole();
        for row in rows {
            table.add(&row, &mut self.folder)?;
        }
        table.finish(&mut self.folder)
    }

    fn write_definitions(&mut self, whole: bool) -> Result<()> {
        let (known, definitions) = (self.known, &self.known.definitions);
        let mut stacks: Vec<u32> = definitions.stack_numbers().collect();
        stacks.sort_unstable();
        self.write(stacks.iter().flat_map(|&stack| StackRow::of(stack, definitions)))?;
        let mut sites = Sites::new(definitions);
        self.write([0].iter().chain(&stacks).map(|&stack| SiteRow::of(stack, &mut sites, definitions)))?;
        self.write(TestRow::all(definitions))?;
        self.write(LossRow::all(known))?;
        self.write(RunRow::all(definitions))?;
        self.write(ProcessRow::all(known))?;
        self.write(CounterRow::all(definitions))?;
        self.write(ReportedRow::all(known).filter(|_| whole))
    }
}

impl Export for Parquet<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.step_table.add(&self.steps.row(entry), &mut self.folder)?;
        match self.lives.row(entry) {
            Some(life) => self.life_table.add(&life, &mut self.folder),
            None => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>, selected: Option<&Selected>) -> Result<()> {
        for life in self.lives.finish() {
            self.life_table.add(&life, &mut self.folder)?;
        }
        self.step_table.finish(&mut self.folder)?;
        self.life_table.finish(&mut self.folder)?;
        self.write_definitions(selected.is_none())
    }
}
