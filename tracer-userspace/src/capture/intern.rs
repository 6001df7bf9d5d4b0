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

/// A place in a Python function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PythonPlace {
    /// Code number in the file.
    pub code: u32,
    /// Line, 0 if not known.
    pub line: u32,
}

/// The numbers given out so far.
#[derive(Debug, Default)]
pub struct Interned {
    frames: HashMap<CodeAddress, u32>,
    places: HashMap<PythonPlace, u32>,
    stacks: HashMap<(Box<[u32]>, End, &'static str), u32>,
    texts: HashMap<Box<str>, u32>,
}

impl Interned {
    /// The number of a native frame, and whether it is new; its definition goes to `define`.
    pub fn frame(&mut self, code: CodeAddress, define: &mut Vec<Record>) -> (u32, bool) {
        if let Some(&id) = self.frames.get(&code) {
            return (id, false);
        }
        let id = self.next_frame();
        self.frames.insert(code, id);
        let CodeAddress { module, address, returns } = code;
        define.push(trace::Frame { id, module, address: Hex(address), returns }.into());
        (id, true)
    }

    /// The number of a Python frame.
    pub fn python(&mut self, place: PythonPlace, define: &mut Vec<Record>) -> u32 {
        if let Some(&id) = self.places.get(&place) {
            return id;
        }
        let id = self.next_frame();
        self.places.insert(place, id);
        define.push(trace::PythonFrame { id, code: place.code, line: place.line }.into());
        id
    }

    /// Native and Python frames are counted together.
    fn next_frame(&self) -> u32 {
        (self.frames.len() + self.places.len()) as u32 + 1
    }

    /// The number of a stack; `python` is what the file says of its Python frames.
    pub fn stack(&mut self, frames: Vec<u32>, end: End, python: &'static str, define: &mut Vec<Record>) -> u32 {
        let key = (frames.into_boxed_slice(), end, python);
        if let Some(&id) = self.stacks.get(&key) {
            return id;
        }
        let id = self.stacks.len() as u32 + 1;
        define.push(trace::Stack { id, frames: key.0.to_vec(), end: end.name().into(), python: python.into() }.into());
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
