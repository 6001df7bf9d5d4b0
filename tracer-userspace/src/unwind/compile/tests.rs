// SPDX-License-Identifier: Apache-2.0
//! Sections written by hand: what is at their edges, and what no compiler writes.

use gimli::{BaseAddresses, EhFrame};
use tracer_unwind::{
    rule::{Base, Cfa, Rbp, Rule},
    table::{MAX_BLOCKS, MAX_DELTA, MAX_ROWS},
};

use super::*;

// Call frame instructions, DWARF 5, section 7.24.
const ADVANCE_1: u8 = 0x41;
const RBP_AT_CFA_MINUS_16: [u8; 2] = [0x86, 2];
const DEF_CFA: u8 = 0x0c;
const DEF_CFA_OFFSET: u8 = 0x0e;
const DEF_CFA_EXPRESSION: u8 = 0x0f;
const EXPRESSION: u8 = 0x10;
const UNDEFINED: u8 = 0x07;
const RSP: u8 = 7;
const RBP: u8 = 6;
const RETURN_ADDRESS: u8 = 16;

fn offset_from(base: Base, offset: i32) -> Rule {
    Rule { cfa: Cfa::Offset as u8, base: base as u8, offset, ..Rule::NONE }
}

/// A section with functions at absolute addresses: start, length and instructions. At each start the CFA is `rsp + 8`.
fn section(functions: &[(u64, u64, &[u8])]) -> Vec<u8> {
    let mut section = Vec::new();
    // Version 1, no augmentation, code in bytes, data in words downwards, then: CFA is rsp + 8, return address below it.
    entry(&mut section, 0, &[1, 0, 1, 0x78, RETURN_ADDRESS, DEF_CFA, RSP, 8, 0x80 | RETURN_ADDRESS, 1]);
    for (start, length, instructions) in functions {
        let body = [&start.to_le_bytes()[..], &length.to_le_bytes(), instructions].concat();
        let back = section.len() as u32 + 4;
        entry(&mut section, back, &body);
    }
    section
}

fn entry(section: &mut Vec<u8>, id: u32, body: &[u8]) {
    section.extend((4 + body.len() as u32).to_le_bytes());
    section.extend(id.to_le_bytes());
    section.extend(body);
}

fn compiled(section: &[u8]) -> Compiled {
    let mut eh_frame = EhFrame::new(section, LittleEndian);
    eh_frame.set_address_size(8);
    let bases = BaseAddresses::default().set_eh_frame(0x1_0000);
    compile_sections(&Sections { eh_frame, size: section.len(), index: None, bases })
}

fn reasons(compiled: &Compiled) -> Vec<(Reason, u64)> {
    compiled.counts.reasons().collect()
}

fn uleb(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Rows one address apart, with these offsets of the CFA.
fn rows(offsets: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut instructions = Vec::new();
    for offset in offsets {
        instructions.push(DEF_CFA_OFFSET);
        uleb(offset, &mut instructions);
        instructions.push(ADVANCE_1);
    }
    instructions
}

#[test]
fn a_row_holds_to_the_next_and_nothing_holds_between_functions() {
    let push_rbp = [&[ADVANCE_1, DEF_CFA_OFFSET, 16][..], &RBP_AT_CFA_MINUS_16].concat();
    let outermost = [UNDEFINED, RETURN_ADDRESS];
    // Not in the order of their addresses.
    let compiled = compiled(&section(&[(0x2000, 0x10, &outermost), (0x1000, 0x10, &push_rbp)]));
    let fresh = offset_from(Base::Rsp, 8);
    let pushed = Rule { rbp: Rbp::AtCfa as u8, rbp_offset: -16, ..offset_from(Base::Rsp, 16) };
    let found = [0xfff, 0x1000, 0x1001, 0x100f, 0x1010, 0x2000, 0x200f, 0x2010].map(|address| compiled.rule(address));
    let expected = [Rule::NONE, fresh, pushed, pushed, Rule::NONE, Rule::OUTERMOST, Rule::OUTERMOST, Rule::NONE];
    assert_eq!(found, expected);
    assert_eq!((compiled.counts.functions, compiled.counts.read, compiled.counts.rows), (2, 3, 5));
    assert_eq!(reasons(&compiled), []);
}

#[test]
fn a_function_that_aligns_its_stack_is_understood() {
    // CFA: *(rbp - 8); rbp: at rbp + 0.
    let aligned = [DEF_CFA_EXPRESSION, 3, 0x76, 0x78, 0x06, EXPRESSION, RBP, 2, 0x76, 0];
    let rule = Rule { cfa: Cfa::Deref as u8, rbp: Rbp::AtRbp as u8, ..offset_from(Base::Rbp, -8) };
    assert_eq!(compiled(&section(&[(0x1000, 0x10, &aligned)])).rule(0x1000), rule);
}

#[test]
fn what_a_rule_cannot_say_is_unsupported_and_counted() {
    let by_r10 = [DEF_CFA, 10, 0];
    let constant = [DEF_CFA_EXPRESSION, 1, 0x30];
    let far = [DEF_CFA_OFFSET, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let compiled = compiled(&section(&[(0x1000, 8, &by_r10), (0x1008, 8, &constant), (0x1010, 8, &far)]));
    assert_eq!([0x1000, 0x1008, 0x1010].map(|address| compiled.rule(address)), [Rule::UNSUPPORTED; 3]);
    assert_eq!(reasons(&compiled), [(Reason::CfaRegister, 1), (Reason::Expression, 1), (Reason::Offset, 1)]);
}

#[test]
fn code_that_two_functions_claim_is_nobodys() {
    let compiled = compiled(&section(&[(0x1000, 0x20, &[]), (0x1010, 8, &[]), (0x1030, 8, &[])]));
    let fresh = offset_from(Base::Rsp, 8);
    let found = [0x100f, 0x1010, 0x101f, 0x1020, 0x1030].map(|address| compiled.rule(address));
    assert_eq!(found, [fresh, Rule::UNSUPPORTED, Rule::UNSUPPORTED, Rule::NONE, fresh]);
    assert_eq!(reasons(&compiled), [(Reason::Overlap, 1)]);
}

#[test]
fn a_damaged_entry_costs_its_own_rows_only() {
    // There is no state to restore.
    let damaged = [ADVANCE_1, 0x0b];
    let compiled = compiled(&section(&[(0x1000, 8, &damaged), (0x1010, 8, &[])]));
    let fresh = offset_from(Base::Rsp, 8);
    let found = [0x1000, 0x1001, 0x1007, 0x1008, 0x1010].map(|address| compiled.rule(address));
    assert_eq!(found, [fresh, Rule::UNSUPPORTED, Rule::UNSUPPORTED, Rule::NONE, fresh]);
    assert_eq!(reasons(&compiled), [(Reason::Damaged, 1)]);
}

#[test]
fn no_damage_makes_it_fail() {
    let aligned = [DEF_CFA_EXPRESSION, 3, 0x76, 0x78, 0x06, ADVANCE_1, DEF_CFA, RSP, 8];
    let whole = section(&[(0x1000, 0x20, &aligned), (0x1020, 8, &rows(1..9)), (0x3000, 8, &[])]);
    for at in 0..whole.len() {
        for bits in 1..=255 {
            let mut damaged = whole.clone();
            damaged[at] ^= bits;
            let compiled = compiled(&damaged);
            assert!(compiled.counts.rows <= 64, "{} rows", compiled.counts.rows);
        }
        assert!(at == 0 || at % 4 != 1 || compiled(&whole[..at]).counts.functions <= 3);
    }
}

#[test]
fn a_large_function_takes_several_blocks_and_parts() {
    let most = (MAX_ROWS * MAX_BLOCKS) as u64;
    let count = most + 1000;
    let offset = |number: u64| 8 + 8 * (number % 5);
    let compiled = compiled(&section(&[(0x1000, count, &rows((0..count).map(offset)))]));
    let sizes: Vec<_> = compiled.parts.iter().map(|part| part.blocks.len()).collect();
    assert_eq!(compiled.parts.len(), 2, "{sizes:?}");
    assert!(sizes.iter().all(|&size| size <= MAX_BLOCKS + 1), "{sizes:?}");
    assert_eq!(compiled.parts[0].end, compiled.parts[1].start);
    for number in (0..count).step_by(7).chain(most - 3000..count) {
        let expected = offset_from(Base::Rsp, offset(number) as i32);
        assert_eq!(compiled.rule(0x1000 + number), expected, "row {number}");
    }
    assert_eq!(compiled.rule(0x1000 + count), Rule::NONE);
}

#[test]
fn rows_that_are_far_apart_are_found() {
    let far = u64::from(MAX_DELTA);
    let starts = [0x1000, 0x1000 + far, 0x1000 + 2 * far + 1, 0x4000_0000, u64::from(u32::MAX) - 9];
    let functions: Vec<_> = starts.iter().map(|&start| (start, 8, &[][..])).collect();
    let compiled = compiled(&section(&functions));
    let fresh = offset_from(Base::Rsp, 8);
    for start in starts {
        let found = [start, start + 7, start + 8].map(|address| compiled.rule(address));
        assert_eq!(found, [fresh, fresh, Rule::NONE], "{start:#x}");
    }
    assert_eq!(compiled.rule(0x3fff_ffff), Rule::NONE);
}

#[test]
fn what_is_beyond_the_limits_is_counted() {
    let compiled_high = compiled(&section(&[(0x1000, 8, &[]), (1 << 32, 8, &[])]));
    assert_eq!(reasons(&compiled_high), [(Reason::Limit, 1)]);
    assert_eq!(compiled_high.rule(1 << 32), Rule::NONE);
    let count = 70_000;
    let many = compiled(&section(&[(0x1000, count, &rows((0..count).map(|number| 8 + number)))]));
    let left = count - (many.rules.len() as u64 - 2);
    assert_eq!((many.rules.len(), reasons(&many)), (0xffff, vec![(Reason::Limit, left)]));
    assert_eq!(many.rule(0x1000 + count - 1), Rule::UNSUPPORTED);
}
