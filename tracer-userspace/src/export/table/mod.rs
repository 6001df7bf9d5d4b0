// SPDX-License-Identifier: Apache-2.0
//! The rows of tables: each is written down once, as a struct, for CSV, JSON lines and Parquet.

mod definitions;
mod life;
mod step;

use serde::Serialize;

pub(crate) use definitions::{CounterRow, LossRow, ProcessRow, ReportedRow, RunRow, SiteRow, StackRow, TestRow};
pub(crate) use life::{LifeRow, LifeRows};
pub(crate) use step::{StepRow, StepRows};

/// A row of a table.
pub(crate) trait Row: Serialize {
    /// The name of the table.
    const TABLE: &'static str;
    /// Its columns, in the order of the cells.
    const COLUMNS: &'static [Column];

    /// The values.
    fn cells(&self) -> impl Iterator<Item = Cell<'_>>;
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: &'static str,
    /// What its cells are.
    pub(crate) kind: Kind,
    /// Whether a cell may be empty.
    pub(crate) optional: bool,
}

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Texts.
    Text,
    /// Numbers.
    Number,
    /// True or false.
    Flag,
}

/// A value in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    /// There is none.
    Empty,
    /// A text.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// True or false.
    Flag(bool),
}

/// What a field of a row can be.
trait Value {
    const KIND: Kind;
    const OPTIONAL: bool = false;

    fn cell(&self) -> Cell<'_>;
}

impl Value for String {
    const KIND: Kind = Kind::Text;

    fn cell(&self) -> Cell<'_> {
        Cell::Text(self)
    }
}

impl Value for &'static str {
    const KIND: Kind = Kind::Text;

    fn cell(&self) -> Cell<'_> {
        Cell::Text(self)
    }
}

impl Value for u64 {
    const KIND: Kind = Kind::Number;

    fn cell(&self) -> Cell<'_> {
        Cell::Number(*self)
    }
}

impl Value for u32 {
    const KIND: Kind = Kind::Number;

    fn cell(&self) -> Cell<'_> {
        Cell::Number(u64::from(*self))
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Flag;

    fn cell(&self) -> Cell<'_> {
        Cell::Flag(*self)
    }
}

impl<V: Value> Value for Option<V> {
    const KIND: Kind = V::KIND;
    const OPTIONAL: bool = true;

    fn cell(&self) -> Cell<'_> {
        self.as_ref().map_or(Cell::Empty, Value::cell)
    }
}

/// Defines rows: `"table" Type { field: Type, … }`. The fields are the columns, by their names and in their order.
macro_rules! rows {
    ($(
        $(#[$doc:meta])*
        $table:literal $Row:ident {
            $( $(#[$field_doc:meta])* $field:ident: $Type:ty, )*
        }
    )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
        pub(crate) struct $Row {
            $( $(#[$field_doc])* pub(crate) $field: $Type, )*
        }

        impl $crate::export::table::Row for $Row {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [$crate::export::table::Column] = &[ $( $crate::export::table::Column {
                name: stringify!($field),
                kind: <$Type as $crate::export::table::Value>::KIND,
                optional: <$Type as $crate::export::table::Value>::OPTIONAL,
            }, )* ];

            fn cells(&self) -> impl Iterator<Item = $crate::export::table::Cell<'_>> {
                [ $( $crate::export::table::Value::cell(&self.$field), )* ].into_iter()
            }
        }
    )* };
}

use rows;

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../../../docs/export-tables.md");
    const SCHEMA: &str = include_str!("../../../../schema/step-1.json");

    fn documented<R: Row>() {
        let heads = format!("\n### {}\n", R::TABLE);
        let section = DOCS.split_once(&heads).expect("a section for each table").1.split("\n#").next().expect("a part");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let found: Vec<_> = rows.filter_map(|row| row.split_once("` | ")).collect();
        assert_eq!(found.len(), R::COLUMNS.len(), "{}", R::TABLE);
        for ((name, rest), column) in found.iter().zip(R::COLUMNS) {
            let kind = match column.kind {
                Kind::Text => "text",
                Kind::Number => "number",
                Kind::Flag => "flag",
            };
            let kind = if column.optional { format!("{kind}, or none | ") } else { format!("{kind} | ") };
            assert!(*name == column.name && rest.starts_with(&kind), "{} {name}: {rest}", R::TABLE);
        }
    }

    #[test]
    fn each_column_is_documented() {
        documented::<StepRow>();
        documented::<LifeRow>();
        documented::<StackRow>();
        documented::<SiteRow>();
        documented::<TestRow>();
        documented::<LossRow>();
        documented::<RunRow>();
        documented::<ProcessRow>();
        documented::<CounterRow>();
        documented::<ReportedRow>();
    }

    #[test]
    fn the_published_schema_has_the_columns_of_a_step() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("JSON");
        let required: Vec<_> =
            schema["required"].as_array().expect("a list").iter().filter_map(|it| it.as_str()).collect();
        let columns = StepRow::COLUMNS.iter().map(|column| column.name);
        assert_eq!(required, ["schema"].into_iter().chain(columns).collect::<Vec<_>>());
        let verdicts = schema["properties"]["verdict"]["enum"].as_array().expect("a list");
        let all = crate::model::Verdict::ALL.map(|verdict| serde_json::Value::from(verdict.name()));
        assert_eq!(verdicts[..verdicts.len() - 1], all);
    }
}
