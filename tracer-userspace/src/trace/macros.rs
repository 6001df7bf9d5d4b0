// SPDX-License-Identifier: Apache-2.0
//! The macros by which a record or the event is written down once, for Rust, for the file and for text.

/// Defines the records: a struct each, and the enum of all of them with its binary and text forms.
///
/// An entry is `number "word" Type { field: Type, … }`. The number stands for the record in the file and is never
/// given anew; the word does in text.
macro_rules! records {
    ($(
        $(#[$doc:meta])*
        $number:literal $word:literal $Type:ident {
            $( $(#[$field_doc:meta])* $field:ident: $FieldType:ty, )*
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            pub struct $Type {
                $( $(#[$field_doc])* pub $field: $FieldType, )*
            }

            impl From<$Type> for Record {
                fn from(record: $Type) -> Self {
                    Self::$Type(record)
                }
            }
        )*

        /// Any record.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Record {
            $( $(#[$doc])* $Type($Type), )*
        }

        impl Record {
            /// The number that stands for this kind of record in a file.
            pub(super) fn number(&self) -> u64 {
                match self { $( Self::$Type(_) => $number, )* }
            }

            /// Appends the fields in binary.
            pub(super) fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$Type(record) => { $( $crate::trace::field::Field::put(&record.$field, out); )* } )*
                }
            }

            /// Reads the fields back. Fields that are not there are zero, and what comes after the last is ignored.
            pub(super) fn get(number: u64, body: &[u8]) -> Result<Self, $crate::trace::macros::Refusal> {
                let mut body = body;
                match number {
                    $( $number => Ok(Self::$Type($Type {
                        $( $field: $crate::trace::macros::get_or_zero(&mut body)?, )*
                    })), )*
                    _ => Err($crate::trace::macros::Refusal::Unknown),
                }
            }

            /// Appends the record as a line of text, without the line end.
            pub(super) fn show(&self, out: &mut String) {
                match self {
                    $( Self::$Type(record) => {
                        out.push_str($word);
                        $( $crate::trace::macros::show_pair(stringify!($field), &record.$field, out); )*
                    } )*
                }
            }

            /// Reads a line of text back.
            pub(super) fn parse(words: &mut $crate::trace::text::Words) -> Result<Self, String> {
                match words.head() {
                    $( $word => Ok(Self::$Type($Type {
                        $( $field: words.take(stringify!($field))?, )*
                    })), )*
                    other => Err(format!("no record is called `{other}`")),
                }
            }
        }
    };
}

/// Defines the event: the struct, and its fields as columns of numbers.
///
/// A field is `number "word" style name: Type`. Number and word are as in [`records!`]; a field with an empty word
/// stands in text without `word=`. The style is the [`Style`](super::event::Style) of the number in text.
macro_rules! columns {
    (
        $(#[$doc:meta])*
        pub struct Event {
            $( $(#[$field_doc:meta])* $number:literal $word:literal $Style:ident $field:ident: $FieldType:ty, )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Event {
            $( $(#[$field_doc])* pub $field: $FieldType, )*
        }

        impl Event {
            /// The columns, in the order of the fields.
            pub(super) const COLUMNS: &[Column] =
                &[ $( Column { number: $number, word: $word, style: Style::$Style }, )* ];

            /// The fields as numbers, in the order of [`Self::COLUMNS`].
            pub(super) fn to_row(self) -> Row {
                [ $( self.$field.to_number(), )* ]
            }

            /// The events at these places in the order of recording, which have those in the order by kinds; and which of
            /// them have a number that has no meaning here. A column without numbers has zeros.
            pub(super) fn from_columns(columns: &Columns, recorded: &[u32], by_kind: &[u32]) -> (Vec<Self>, Vec<usize>) {
                let mut events = vec![Self::of(Kind::Request); recorded.len()];
                let mut unknown = Vec::new();
                let mut first = 0;
                // Field by field, as each has a type of its own, and so few at a time that the fastest cache has them all.
                let places = recorded.chunks(TOGETHER).zip(by_kind.chunks(TOGETHER));
                for (events, (recorded, by_kind)) in events.chunks_mut(TOGETHER).zip(places) {
                    $(
                        let places = if $number <= ORDERED { recorded } else { by_kind };
                        let set = |event: &mut Self, number| event.$field = number;
                        unknown.extend(set_field(events, columns.of($number), places, set).into_iter().map(|at| first + at));
                    )*
                    first += events.len();
                }
                unknown.sort_unstable();
                unknown.dedup();
                (events, unknown)
            }

            /// The reverse of [`Self::to_row`]; `None` if a number has no meaning here.
            pub(super) fn from_row(row: Row) -> Option<Self> {
                let [ $( $field, )* ] = row;
                Some(Self { $( $field: Number::from_number($field)?, )* })
            }
        }

        /// The fields of an event as numbers.
        pub(super) type Row = [u64; [ $( $number, )* ].len()];
    };
}

pub(super) use {columns, records};

use super::field::Field;

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its number is not known: a later version added it.
    Unknown,
    /// A field is not as it should be.
    Malformed,
}

/// Takes a field that an older version may not have written.
pub(super) fn get_or_zero<F: Field>(body: &mut &[u8]) -> Result<F, Refusal> {
    if body.is_empty() {
        return Ok(F::default());
    }
    F::get(body).ok_or(Refusal::Malformed)
}

/// Appends ` key=value`, unless the value is zero.
pub(super) fn show_pair<F: Field>(key: &str, value: &F, out: &mut String) {
    if *value != F::default() {
        out.push(' ');
        out.push_str(key);
        out.push('=');
        value.show(out);
    }
}
