// SPDX-License-Identifier: Apache-2.0
//! Names for code addresses, by blazesym, on a thread of its own: the ring buffer must not wait for symbol tables.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};

use super::demangle::demangle;
use crate::{
    discover::module::Module,
    trace::{Hex, Symbol},
};

/// An address that wants a name.
pub struct Request {
    /// Frame number, which the answer carries.
    pub frame: u32,
    /// The module; its file is open, so that it can be read after the target has ended.
    pub module: Arc<Module>,
    /// The module's own address.
    pub address: u64,
    /// Whether it is a return address.
    pub returns: bool,
}

/// The thread and the way to it.
pub struct Symbols {
    requests: Option<Sender<Request>>,
    answers: Receiver<Vec<Symbol>>,
    outstanding: u64,
}

impl Symbols {
    /// Starts the thread.
    pub fn start() -> Result<Self> {
        let (requests, to_do) = channel();
        let (done, answers) = channel();
        thread::Builder::new()
            .name("symbols".into())
            .spawn(move || serve(&to_do, &done))
            .context("failed to start the symbolizer's thread")?;
        Ok(Self { requests: Some(requests), answers, outstanding: 0 })
    }

    /// Asks for a name; the answer comes later.
    pub fn request(&mut self, request: Request) {
        if self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok()) {
            self.outstanding += 1;
        }
    }

    /// The answers that are there.
    pub fn ready(&mut self) -> Vec<Symbol> {
        let mut symbols = Vec::new();
        while let Ok(answer) = self.answers.try_recv() {
            self.outstanding -= 1;
            symbols.extend(answer);
        }
        symbols
    }

    /// Waits for the answers that are still to come, for `limit` at most; says how many did not.
    pub fn finish(&mut self, limit: Duration) -> (Vec<Symbol>, u64) {
        self.requests = None;
        let deadline = Instant::now() + limit;
        let mut symbols = Vec::new();
        while self.outstanding > 0 {
            match self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(answer) => {
                    self.outstanding -= 1;
                    symbols.extend(answer);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        (symbols, self.outstanding)
    }
}

/// One answer for each request, in any order, until nobody asks any more.
fn serve(requests: &Receiver<Request>, done: &Sender<Vec<Symbol>>) {
    let symbolizer = Symbolizer::builder().enable_auto_reload(false).enable_demangling(false).build();
    while let Ok(first) = requests.recv() {
        let mut by_file: BTreeMap<PathBuf, Vec<Request>> = BTreeMap::new();
        for request in std::iter::once(first).chain(requests.try_iter()) {
            by_file.entry(request.module.file.path()).or_default().push(request);
        }
        for (path, requests) in by_file {
            for answer in symbolize(&symbolizer, path, &requests) {
                if done.send(answer).is_err() {
                    return;
                }
            }
        }
    }
}

fn symbolize(symbolizer: &Symbolizer, path: PathBuf, requests: &[Request]) -> Vec<Vec<Symbol>> {
    let addresses: Vec<u64> =
        requests.iter().map(|request| request.address.wrapping_sub(u64::from(request.returns))).collect();
    let source = Source::Elf(Elf::new(path));
    // A file whose symbols can't be read leaves its frames without names: the views show module and address.
    let found = symbolizer.symbolize(&source, Input::VirtOffset(&addresses)).unwrap_or_default();
    let names = |(request, found): (&Request, Option<&Symbolized>)| match found {
        Some(Symbolized::Sym(sym)) => symbols(request, sym),
        _ => Vec::new(),
    };
    let found = found.iter().map(Some).chain(std::iter::repeat(None));
    requests.iter().zip(found).map(names).collect()
}

/// The function that an address is in, and those inlined into it there, outermost first.
fn symbols(request: &Request, sym: &Sym) -> Vec<Symbol> {
    let symbol = |function: &str, offset: u64, code: Option<&CodeInfo>| Symbol {
        frame: request.frame,
        function: demangle(function),
        offset: Hex(offset),
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()).unwrap_or_default(),
        line: code.and_then(|code| code.line).unwrap_or(0),
    };
    let offset = request.address.wrapping_sub(sym.addr);
    let outermost = symbol(&sym.name, offset, sym.code_info.as_deref());
    let inlined = sym.inlined.iter().map(|inlined| symbol(&inlined.name, 0, inlined.code_info.as_ref()));
    std::iter::once(outermost).chain(inlined).collect()
}
