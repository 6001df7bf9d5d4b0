// SPDX-License-Identifier: Apache-2.0
//! Stacks, frames and texts become one number each, at once.

use std::collections::HashMap;

use crate::{
    trace::{self, Hex, Record},
    unwind::End,
};

/// A code address that does not depend on where the module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeAddress {
    /// Module number in the file, 0 if the address is in no module.
    pub module: u32,
    /// The module's own address; the process's where there is no module.
    pub address: u64,
    /// Whether it is a return address.
    pub returns: bool,
}

/// The numbers given out so far.
#[derive(Debug, Default)]
pub struct Interned {
    frames: HashMap<CodeAddress, u32>,
    stacks: HashMap<(Box<[u32]>, End), u32>,
    texts: HashMap<Box<str>, u32>,
}

impl Interned {
    /// The number of a frame, and whether it is new; its definition goes to `define`.
    pub fn frame(&mut self, code: CodeAddress, define: &mut Vec<Record>) -> (u32, bool) {
        if let Some(&id) = self.frames.get(&code) {
            return (id, false);
        }
        let id = self.frames.len() as u32 + 1;
        self.frames.insert(code, id);
        let CodeAddress { module, address, returns } = code;
        define.push(trace::Frame { id, module, address: Hex(address), returns }.into());
        (id, true)
    }

    /// The number of a stack.
    pub fn stack(&mut self, frames: Vec<u32>, end: End, define: &mut Vec<Record>) -> u32 {
        let key = (frames.into_boxed_slice(), end);
        if let Some(&id) = self.stacks.get(&key) {
            return id;
        }
        let id = self.stacks.len() as u32 + 1;
        define.push(trace::Stack { id, frames: key.0.to_vec(), end: end.name().into() }.into());
        self.stacks.insert(key, id);
        id
    }

    /// The number of a text.
    pub fn text(&mut self, text: &str, define: &mut Vec<Record>) -> u32 {
        if let Some(&id) = self.texts.get(text) {
            return id;
        }
        let id = self.texts.len() as u32 + 1;
        self.texts.insert(text.into(), id);
        define.push(trace::Text { id, text: text.into() }.into());
        id
    }
}
