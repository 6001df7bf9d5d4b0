// SPDX-License-Identifier: Apache-2.0
//! Compiled tables as bytes, to be kept in a file.
//!
//! All numbers are little-endian: magic, [`VERSION`], CRC-32 of the rest; of which module they are ([`Key`]); the counts;
//! the number of rules, and the rules; the number of parts, and for each its first address, the one behind its last, the
//! number of its blocks, and the blocks.

use tracer_unwind::{
    rule::Rule,
    table::{Block, MAX_BLOCKS, UNUSED, WORDS},
};

use super::{Compiled, Counts, Part};

/// Raised with each change to this format, to [`tracer_unwind`]'s, and to what [`compile`](super::compile) makes of a file.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"ttunwind";
/// Where the part that the checksum is of begins.
const CHECKED: usize = MAGIC.len() + 8;

/// Of which module tables are: its build, and the size of what they are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// GNU build id in hex; not empty.
    pub build_id: String,
    /// Bytes of `.eh_frame`.
    pub size: u64,
}

impl Compiled {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self, key: &Key) -> Vec<u8> {
        let mut bytes = vec![0; CHECKED];
        put(&mut bytes, [key.build_id.len() as u32]);
        bytes.extend(key.build_id.as_bytes());
        let Counts { functions, read, rows, unsupported } = &self.counts;
        for count in [key.size, *functions, *read, *rows].iter().chain(unsupported) {
            bytes.extend(count.to_le_bytes());
        }
        put(&mut bytes, [self.rules.len() as u32]);
        for rule in &self.rules {
            bytes.extend([rule.cfa, rule.base, rule.rbp, rule.padding]);
            put(&mut bytes, [rule.offset, rule.second, rule.rbp_offset].map(i32::cast_unsigned));
        }
        put(&mut bytes, [self.parts.len() as u32]);
        for part in &self.parts {
            put(&mut bytes, [part.start, part.end, part.blocks.len() as u32]);
            part.blocks.iter().for_each(|block| put(&mut bytes, block.words));
        }
        let checksum = crc32fast::hash(&bytes[CHECKED..]);
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        bytes[MAGIC.len()..][..4].copy_from_slice(&VERSION.to_le_bytes());
        bytes[CHECKED - 4..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// From bytes; `None` if they are damaged, of another version or of another module.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], key: &Key) -> Option<Self> {
        let mut input = Input(bytes);
        if input.take(MAGIC.len())? != MAGIC || input.word()? != VERSION || input.word()? != crc32fast::hash(input.0) {
            return None;
        }
        let length = input.word()?;
        if input.take(length as usize)? != key.build_id.as_bytes() || input.long()? != key.size {
            return None;
        }
        let mut counts =
            Counts { functions: input.long()?, read: input.long()?, rows: input.long()?, ..Counts::default() };
        for count in &mut counts.unsupported {
            *count = input.long()?;
        }
        let rules = (0..input.word()?).map(|_| input.rule()).collect::<Option<Vec<_>>>()?;
        let parts = (0..input.word()?).map(|_| input.part(rules.len())).collect::<Option<Vec<_>>>()?;
        let usual = rules.starts_with(&[Rule::NONE, Rule::UNSUPPORTED]);
        (usual && input.0.is_empty()).then_some(Self { rules, parts, counts })
    }
}

fn put<const COUNT: usize>(bytes: &mut Vec<u8>, words: [u32; COUNT]) {
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

/// Bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn word(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn rule(&mut self) -> Option<Rule> {
        let &[cfa, base, rbp, padding] = self.take(4)? else { return None };
        let [offset, second, rbp_offset] = [self.word()?, self.word()?, self.word()?].map(u32::cast_signed);
        Some(Rule { cfa, base, rbp, padding, offset, second, rbp_offset })
    }

    fn part(&mut self, rules: usize) -> Option<Part> {
        let (start, end, count) = (self.word()?, self.word()?, self.word()? as usize);
        if count > MAX_BLOCKS + 1 {
            return None;
        }
        let words = self.take(count * WORDS * 4)?;
        let mut blocks = vec![Block::EMPTY; count];
        for (word, bytes) in blocks.iter_mut().flat_map(|block| &mut block.words).zip(words.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let known = |word: &u32| *word == UNUSED || usize::from(*word as u16) < rules;
        let rows = blocks.iter().skip(1).flat_map(|block| &block.words[1..]);
        rows.into_iter().all(known).then_some(Part { start, end, blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> (Compiled, Key) {
        let mut row_block = Block::EMPTY;
        row_block.words[..3].copy_from_slice(&[0x1000, 0x2, 0x10_0000]);
        let mut index = Block::EMPTY;
        index.words[1] = 0x1000;
        let rule = Rule { cfa: 1, offset: -8, second: 3, rbp: 1, rbp_offset: i32::MIN, ..Rule::NONE };
        let part = Part { start: 0x1000, end: 0x1010, blocks: vec![index, row_block] };
        let counts = Counts { functions: 1, read: 1, rows: 2, unsupported: [0, 1, 2, 3, 4, 5, 6, 7, u64::MAX] };
        let compiled = Compiled { rules: vec![Rule::NONE, Rule::UNSUPPORTED, rule], parts: vec![part], counts };
        (compiled, Key { build_id: "c0ffee".into(), size: 99 })
    }

    #[test]
    fn tables_come_back_as_they_were() {
        let (compiled, key) = tables();
        assert_eq!(Compiled::from_bytes(&compiled.to_bytes(&key), &key), Some(compiled));
    }

    #[test]
    fn those_of_another_module_or_version_are_refused() {
        let (compiled, key) = tables();
        let mut bytes = compiled.to_bytes(&key);
        assert_eq!(Compiled::from_bytes(&bytes, &Key { build_id: "c0ffef".into(), size: key.size }), None);
        assert_eq!(Compiled::from_bytes(&bytes, &Key { build_id: key.build_id.clone(), size: 100 }), None);
        bytes[MAGIC.len()] += 1;
        assert_eq!(Compiled::from_bytes(&bytes, &key), None);
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let (compiled, key) = tables();
        let bytes = compiled.to_bytes(&key);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Compiled::from_bytes(&damaged, &key), None, "byte {at}");
            assert_eq!(Compiled::from_bytes(&bytes[..at], &key), None, "cut at {at}");
        }
    }

    #[test]
    fn a_row_with_no_rule_is_refused() {
        let (mut compiled, key) = tables();
        compiled.parts[0].blocks[1].words[1] = 3;
        assert_eq!(Compiled::from_bytes(&compiled.to_bytes(&key), &key), None);
    }
}
