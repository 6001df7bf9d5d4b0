// SPDX-License-Identifier: Apache-2.0
//! Stacks, frames and texts become one number each, at once.

use std::{collections::HashMap, mem};

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

/// The numbers given out so far, and the definitions that are not in the file yet.
#[derive(Debug, Default)]
pub struct Interned {
    new: Vec<Record>,
    codes: u32,
    frames: HashMap<CodeAddress, u32>,
    places: HashMap<PythonPlace, u32>,
    stacks: HashMap<(Box<[u32]>, End, &'static str), u32>,
    texts: HashMap<Box<str>, u32>,
}

impl Interned {
    /// The definitions of what was numbered since the last call. They belong before whatever has these numbers.
    pub fn take_new(&mut self) -> Vec<Record> {
        mem::take(&mut self.new)
    }

    /// The number of a native frame, and whether it is new.
    pub fn frame(&mut self, code: CodeAddress) -> (u32, bool) {
        if let Some(&id) = self.frames.get(&code) {
            return (id, false);
        }
        let id = self.next_frame();
        self.frames.insert(code, id);
        let CodeAddress { module, address, returns } = code;
        self.new.push(trace::Frame { id, module, address: Hex(address), returns }.into());
        (id, true)
    }

    /// The number of a Python frame.
    pub fn python(&mut self, place: PythonPlace) -> u32 {
        if let Some(&id) = self.places.get(&place) {
            return id;
        }
        let id = self.next_frame();
        self.places.insert(place, id);
        self.new.push(trace::PythonFrame { id, code: place.code, line: place.line }.into());
        id
    }

    /// A number for a Python code object, which `define` makes the definition of.
    pub fn code(&mut self, define: impl FnOnce(u32) -> trace::Code) -> u32 {
        self.codes += 1;
        self.new.push(define(self.codes).into());
        self.codes
    }

    /// Native and Python frames are counted together.
    fn next_frame(&self) -> u32 {
        (self.frames.len() + self.places.len()) as u32 + 1
    }

    /// The number of a stack; `python` is what the file says of its Python frames.
    pub fn stack(&mut self, frames: Vec<u32>, end: End, python: &'static str) -> u32 {
        let key = (frames.into_boxed_slice(), end, python);
        if let Some(&id) = self.stacks.get(&key) {
            return id;
        }
        let id = self.stacks.len() as u32 + 1;
        self.new
            .push(trace::Stack { id, frames: key.0.to_vec(), end: end.name().into(), python: python.into() }.into());
        self.stacks.insert(key, id);
        id
    }

    /// The number of a text.
    pub fn text(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.texts.get(text) {
            return id;
        }
        let id = self.texts.len() as u32 + 1;
        self.texts.insert(text.into(), id);
        self.new.push(trace::Text { id, text: text.into() }.into());
        id
    }
}
