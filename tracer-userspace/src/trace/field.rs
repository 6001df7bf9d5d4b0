// SPDX-License-Identifier: Apache-2.0
//! The values that records are made of: their binary form, and their form in text.

use std::fmt;

use super::escape;

/// A value that a record can have as a field.
pub(super) trait Field: Default + PartialEq {
    /// Appends the binary form.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes the binary form from the front of `input`; `None` if it is malformed.
    fn get(input: &mut &[u8]) -> Option<Self>;
    /// Appends the form in text: a bare word, or a quoted string.
    fn show(&self, out: &mut String);
    /// The reverse of [`Self::show`], with quotes and escapes taken off already.
    fn parse(text: &str) -> Option<Self>;
}

/// A number that people read in hexadecimal: an address, an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hex(pub u64);

/// A short identifier: at most 64 letters, digits, `_`, `-`, `.` and `:`; what else it is made from becomes `_`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "_-.:".contains(c) { c } else { '_' }
        };
        Self(text.chars().take(64).map(plain).collect())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends `text` in quotes, escaped so that [`super::text::parse`] gives it back.
pub(super) fn quote(text: &str, out: &mut String) {
    let doubled = text.replace('\\', "\\\\").replace('"', "\\\"");
    out.push('"');
    out.push_str(&escape(&doubled));
    out.push('"');
}

/// Appends a LEB128 number.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a LEB128 number; `None` if it ends early or does not fit 64 bits.
pub(super) fn get_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes a length and as many bytes.
pub(super) fn get_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(get_varint(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(bytes)
}

/// Appends a length and the bytes.
pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads a number as [`Hex`] or in decimal.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Field for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(*self, out);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        get_varint(input)
    }
    fn show(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
    fn parse(text: &str) -> Option<Self> {
        parse_number(text)
    }
}

impl Field for u32 {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(u64::from(*self), out);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        get_varint(input)?.try_into().ok()
    }
    fn show(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        match get_varint(input)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
    fn show(&self, out: &mut String) {
        out.push(if *self { '1' } else { '0' });
    }
    fn parse(text: &str) -> Option<Self> {
        match text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }
    }
}

impl Field for Hex {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(self.0, out);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        get_varint(input).map(Self)
    }
    fn show(&self, out: &mut String) {
        out.push_str(&format!("{:#x}", self.0));
    }
    fn parse(text: &str) -> Option<Self> {
        parse_number(text).map(Self)
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        String::from_utf8(get_bytes(input)?.to_vec()).ok()
    }
    fn show(&self, out: &mut String) {
        quote(self, out);
    }
    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Field for Name {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.0.as_bytes(), out);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        Self::parse(std::str::from_utf8(get_bytes(input)?).ok()?)
    }
    fn show(&self, out: &mut String) {
        out.push_str(&self.0);
    }
    fn parse(text: &str) -> Option<Self> {
        Some(Self::from(text)).filter(|name| name.0 == text)
    }
}

impl Field for Vec<u32> {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(self.len() as u64, out);
        for item in self {
            item.put(out);
        }
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        // Each item takes a byte at least, which bounds the allocation by the input.
        let length = usize::try_from(get_varint(input)?).ok().filter(|&length| length <= input.len())?;
        (0..length).map(|_| u32::get(input)).collect()
    }
    fn show(&self, out: &mut String) {
        let items: Vec<String> = self.iter().map(u32::to_string).collect();
        out.push_str(&items.join(","));
    }
    fn parse(text: &str) -> Option<Self> {
        text.split(',').filter(|item| !item.is_empty()).map(|item| item.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_leb128() {
        // The examples of the DWARF standard, section 7.6, and the extremes.
        for (value, bytes) in [
            (2, &[2][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (129, &[0x81, 1]),
            (12857, &[0xb9, 0x64]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(get_varint(&mut &out[..]), Some(value));
        }
    }

    #[test]
    fn malformed_values_are_refused() {
        assert_eq!(get_varint(&mut &[0x80][..]), None, "cut");
        assert_eq!(get_varint(&mut &[0xff; 10][..]), None, "more than 64 bits");
        assert_eq!(String::get(&mut &[5, b'a'][..]), None, "string longer than the input");
        assert_eq!(String::get(&mut &[1, 0xff][..]), None, "not UTF-8");
        assert_eq!(Vec::<u32>::get(&mut &[0xff, 0xff, 0xff, 0xff, 0x7f, 1][..]), None, "list longer than the input");
        assert_eq!(u32::get(&mut &[0xff, 0xff, 0xff, 0xff, 0x7f][..]), None, "more than 32 bits");
        assert_eq!(Name::get(&mut &[1, b' '][..]), None, "no identifier");
    }

    #[test]
    fn names_are_made_plain() {
        assert_eq!(Name::from("no rule/here").as_str(), "no_rule_here");
    }
}
