// SPDX-License-Identifier: Apache-2.0
//! The trace as text, one line an item: what `dump` prints, and what tests are written in.
//!
//! A line is a word and `key=value` pairs in any order; zero fields are left out, strings are quoted, and `#` begins a
//! comment. An event has its sequence number and its kind as bare words:
//!
//! ```text
//! text id=1 text="test_a.py::test_one (call)"
//! event 17 t=1500 p=1 tid=40 free object=0x5510 uid=27 status=1 stack=3
//! ```

use std::{collections::BTreeMap, fmt};

use super::{Event, Item, Record, field::Field};

/// Shows an item as one line, without the line end.
#[must_use]
pub fn show(item: &Item) -> String {
    let mut out = String::new();
    match item {
        Item::Record(record) => record.show(&mut out),
        Item::Event(event) => event.show(&mut out),
    }
    out
}

/// Reads lines back into items.
///
/// # Errors
///
/// The first line that is no item, with the reason.
pub fn parse(text: &str) -> Result<Vec<Item>, ParseError> {
    let mut items = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = |what| ParseError { line: index + 1, what };
        if let Some(mut words) = Words::split(line).map_err(at)? {
            items.push(parse_item(&mut words).map_err(at)?);
        }
    }
    Ok(items)
}

/// A line of text that is no item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

fn parse_item(words: &mut Words) -> Result<Item, String> {
    let item = match words.head() {
        "event" => Item::Event(Event::parse(words)?),
        _ => Item::Record(Record::parse(words)?),
    };
    words.finish()?;
    Ok(item)
}

/// The words of one line: the first, the bare ones after it, and the pairs.
pub(super) struct Words {
    head: String,
    bare: std::vec::IntoIter<String>,
    pairs: BTreeMap<String, String>,
}

impl Words {
    /// Splits a line; `None` if there is nothing but a comment on it.
    fn split(line: &str) -> Result<Option<Self>, String> {
        let mut head = None;
        let mut bare = Vec::new();
        let mut pairs = BTreeMap::new();
        let mut rest = line.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let end = rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            if let Some(value) = rest.strip_prefix('=') {
                let (value, after) = take_value(value)?;
                if pairs.insert(word.to_owned(), value).is_some() {
                    return Err(format!("`{word}` is there twice"));
                }
                rest = after;
            } else if head.is_none() {
                head = Some(word.to_owned());
            } else {
                bare.push(word.to_owned());
            }
            rest = rest.trim_start();
        }
        match head {
            Some(head) => Ok(Some(Self { head, bare: bare.into_iter(), pairs })),
            None if pairs.is_empty() => Ok(None),
            None => Err("a line begins with the word for its item".to_owned()),
        }
    }

    /// The word that the line begins with.
    pub(super) fn head(&self) -> &str {
        &self.head
    }

    /// The next word without a key.
    pub(super) fn next_bare(&mut self) -> Option<String> {
        self.bare.next()
    }

    /// The value of a key, as it is written.
    pub(super) fn take_text(&mut self, key: &str) -> Option<String> {
        self.pairs.remove(key)
    }

    /// The value of a key, zero if it is not there.
    pub(super) fn take<F: Field>(&mut self, key: &str) -> Result<F, String> {
        match self.take_text(key) {
            None => Ok(F::default()),
            Some(text) => F::parse(&text).ok_or_else(|| format!("`{key}` cannot be `{text}`")),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        match self.bare.next().or_else(|| self.pairs.pop_first().map(|(key, _)| key)) {
            None => Ok(()),
            Some(word) => Err(format!("`{}` has no `{word}`", self.head)),
        }
    }
}

/// Takes a value, bare or quoted, and gives it without quotes and escapes, and what comes after it.
fn take_value(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next() {
            None => return Err("a string has no end".to_owned()),
            Some('"') => return Ok((value, chars.as_str())),
            Some('\\') => value.push(take_escape(&mut chars).ok_or("an escape has no meaning")?),
            Some(c) => value.push(c),
        }
    }
}

fn take_escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    match chars.next()? {
        'n' => Some('\n'),
        't' => Some('\t'),
        c @ ('"' | '\\') => Some(c),
        'u' => {
            let (digits, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
            *chars = rest.chars();
            char::from_u32(u32::from_str_radix(digits, 16).ok()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{DeviceClass, Kind, Text};

    #[test]
    fn an_event_reads_as_documented() {
        let items = parse(
            "# a comment\n\nevent 17 t=1500 p=1 tid=40 free object=0x5510 uid=27 class=mesh id=2 status=1 owns=1 # end",
        );
        let Ok([Item::Event(event)]) = items.as_deref() else { panic!("{items:?}") };
        assert_eq!((event.sequence, event.time, event.process, event.thread), (17, 1500, 1, 40));
        assert_eq!((event.kind, event.object, event.unique_id), (Kind::Free, 0x5510, 27));
        assert_eq!((event.device_class, event.device_id, event.owns), (DeviceClass::Mesh, 2, true));
        assert_eq!((event.size, event.stack), (0, 0));
    }

    #[test]
    fn strings_keep_what_is_in_them() {
        let text = Text { id: 1, text: "a \"b\" \\ \n\t\x1b\u{202e} # = é".to_owned() };
        let line = show(&text.clone().into());
        assert_eq!(line, r#"text id=1 text="a \"b\" \\ \n\t\u{1b}\u{202e} # = é""#);
        assert_eq!(parse(&line), Ok(vec![text.into()]));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (line, what) in [
            ("buffer id=1", "no record is called `buffer`"),
            ("text id=1 name=a", "`text` has no `name`"),
            ("text id=one", "`id` cannot be `one`"),
            ("text id=1 id=2", "`id` is there twice"),
            ("text text=\"a", "a string has no end"),
            ("event 1 borrow", "`borrow` has no meaning here"),
            ("event 1", "an event needs a kind, and numbers within their bounds"),
            ("event 1 free 2", "`event` has no `2`"),
            ("id=1", "a line begins with the word for its item"),
        ] {
            assert_eq!(parse(line), Err(ParseError { line: 1, what: what.to_owned() }));
        }
    }
}
