// SPDX-License-Identifier: Apache-2.0
//! Some rows of a table by columns, and their way into a file.

use std::{collections::HashMap, fs::File, sync::Arc};

use anyhow::{Context as _, Result};
use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical},
    data_type::{BoolType, ByteArray, ByteArrayType, Int64Type},
    file::{
        metadata::KeyValue,
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::{Type, TypePtr},
};

use crate::export::table::{Cell, Column, Kind};

/// What each file says it is, with its table behind it.
const SCHEMA: &str = "tt-buftrace/tables/1";

/// Rows by columns.
#[derive(Debug)]
pub(super) struct Batch {
    columns: Vec<Values>,
}

/// The cells of a column.
#[derive(Debug)]
struct Values {
    column: Column,
    /// 1 for each cell with a value, 0 for each without.
    present: Vec<i16>,
    cells: Cells,
}

#[derive(Debug)]
enum Cells {
    /// Each text is there once.
    Texts(Vec<ByteArray>, HashMap<String, ByteArray>),
    Numbers(Vec<i64>),
    Flags(Vec<bool>),
}

impl Batch {
    /// Begins without rows.
    pub(super) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.iter().map(|&column| Values::new(column)).collect() }
    }

    /// Takes the cells of a row.
    pub(super) fn add<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) {
        for (values, cell) in self.columns.iter_mut().zip(cells) {
            values.add(cell);
        }
    }

    /// Writes them as a file of their own.
    pub(super) fn write(self, table: &str, file: File) -> Result<()> {
        let fields = self.columns.iter().map(|values| schema(values.column)).collect::<Result<Vec<_>>>()?;
        let schema = Type::group_type_builder(table).with_fields(fields).build()?;
        let told = KeyValue::new("schema".to_owned(), format!("{SCHEMA}/{table}"));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("tt-buftrace ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(vec![told]))
            .build();
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        for values in &self.columns {
            let mut column = group.next_column()?.context("the schema has a column for each")?;
            values.write(&mut column)?;
            column.close()?;
        }
        group.close()?;
        writer.close()?;
        Ok(())
    }
}

impl Values {
    fn new(column: Column) -> Self {
        let cells = match column.kind {
            Kind::Text => Cells::Texts(Vec::new(), HashMap::new()),
            Kind::Number => Cells::Numbers(Vec::new()),
            Kind::Flag => Cells::Flags(Vec::new()),
        };
        Self { column, present: Vec::new(), cells }
    }

    fn add(&mut self, cell: Cell<'_>) {
        let present = match (cell, &mut self.cells) {
            (Cell::Text(text), Cells::Texts(texts, known)) => {
                let text = known
                    .get(text)
                    .cloned()
                    .unwrap_or_else(|| known.entry(text.to_owned()).or_insert_with(|| text.into()).clone());
                texts.push(text);
                true
            }
            // No true number is as large; a forged one becomes the largest.
            (Cell::Number(number), Cells::Numbers(numbers)) => {
                numbers.push(i64::try_from(number).unwrap_or(i64::MAX));
                true
            }
            (Cell::Flag(flag), Cells::Flags(flags)) => {
                flags.push(flag);
                true
            }
            _ => false,
        };
        self.present.push(i16::from(present));
    }

    fn write(&self, out: &mut SerializedColumnWriter<'_>) -> Result<()> {
        let present = self.column.optional.then_some(&self.present[..]);
        match &self.cells {
            Cells::Texts(texts, _) => out.typed::<ByteArrayType>().write_batch(texts, present, None)?,
            Cells::Numbers(numbers) => out.typed::<Int64Type>().write_batch(numbers, present, None)?,
            Cells::Flags(flags) => out.typed::<BoolType>().write_batch(flags, present, None)?,
        };
        Ok(())
    }
}

fn schema(column: Column) -> Result<TypePtr> {
    let (physical, logical) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Number => (Physical::INT64, None),
        Kind::Flag => (Physical::BOOLEAN, None),
    };
    let repetition = if column.optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let builder = Type::primitive_type_builder(column.name, physical).with_repetition(repetition);
    Ok(Arc::new(builder.with_logical_type(logical).build()?))
}
