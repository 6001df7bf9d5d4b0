// SPDX-License-Identifier: Apache-2.0
//! The one place where a text becomes printable. Names come from the target's files and memory: they may try to move a
//! terminal's cursor, to reorder what stands around them, or to look like lines of their own.

/// Makes a text safe to print on one line: control characters, and those that reorder or hide text, become escapes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_unprintable(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The same of a text that may have several lines.
#[must_use]
pub fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// The same of JSON, in which such characters stand in strings only, so that it is still the same JSON.
#[must_use]
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_unprintable(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, and what Unicode calls default ignorable (`DerivedCoreProperties.txt`), which is not seen itself but
/// may change what is; but for the selectors of a character's own look. And what is no character, which XML can't have.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Escape sequences of terminals in both forms, a line of its own, text from right to left, and a zero-width space.
    const HOSTILE: &str = "a\x1b[31m\u{9b}2J\r\n\u{202e}\u{61c}\u{200b}é\u{e0041}⚠\u{fe0f}";

    #[test]
    fn unprintable_characters_are_escaped() {
        let safe = "a\\u{1b}[31m\\u{9b}2J\\u{d}\\n\\u{202e}\\u{61c}\\u{200b}é\\u{e0041}⚠\u{fe0f}";
        assert_eq!(escape(HOSTILE), safe);
        assert_eq!(escape_lines(HOSTILE), safe.replace("\\n", "\n"));
    }

    #[test]
    fn json_stays_what_it_was() {
        let json = serde_json::to_string(HOSTILE).expect("a string");
        let safe = escape_json(&json);
        assert!(!safe.contains(['\u{9b}', '\u{202e}', '\u{e0041}']), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).expect("a string"), HOSTILE);
    }
}
