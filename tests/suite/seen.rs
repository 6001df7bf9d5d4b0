// SPDX-License-Identifier: Apache-2.0
//! What a trace has of the stacks of requests and frees, to be compared with what others say of them.

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, Result};
use buftrace::trace::{Event, Item, Kind, Reader, Record};

/// A request or a free, with its stack.
pub(crate) struct Seen {
    /// The event itself.
    pub(crate) event: Event,
    /// Frames of both kinds, innermost first.
    pub(crate) frames: Vec<SeenFrame>,
    /// How the native stack ends.
    pub(crate) end: String,
    /// How the Python stack was read; empty if there is none.
    pub(crate) python: String,
}

/// A frame of either kind.
#[derive(Clone)]
pub(crate) enum SeenFrame {
    /// Of machine code.
    Native(NativeFrame),
    /// Of Python: file, line and function, with the reason behind it if the code could not be read.
    Python(String, u64, String),
}

/// A frame of machine code.
#[derive(Clone)]
pub(crate) struct NativeFrame {
    /// Path of the module; `?` if the address is in none.
    pub(crate) module: String,
    /// The module's own address.
    pub(crate) address: u64,
    /// The function's name, empty if it has none.
    pub(crate) function: String,
}

impl NativeFrame {
    /// File name of the module and address in it, as `name+0x12`.
    pub(crate) fn place(&self) -> String {
        let name = Path::new(&self.module).file_name().unwrap_or_default().to_string_lossy();
        format!("{name}+{:#x}", self.address)
    }
}

impl Seen {
    /// The native frames.
    pub(crate) fn native(&self) -> impl Iterator<Item = &NativeFrame> {
        self.frames.iter().filter_map(|frame| match frame {
            SeenFrame::Native(frame) => Some(frame),
            SeenFrame::Python(..) => None,
        })
    }

    /// The Python frames: file, line and function.
    pub(crate) fn python_frames(&self) -> Vec<(String, u64, String)> {
        let python = self.frames.iter().filter_map(|frame| match frame {
            SeenFrame::Python(file, line, function) => Some((file.clone(), *line, function.clone())),
            SeenFrame::Native(_) => None,
        });
        python.collect()
    }
}

/// The requests and frees of a trace, in order.
pub(crate) fn seen(trace: &Path) -> Result<Vec<Seen>> {
    let items: Vec<Item> = Reader::open(trace)?.collect();
    let (mut modules, mut functions, mut codes) = (HashMap::new(), HashMap::new(), HashMap::new());
    for item in &items {
        let Item::Record(record) = item else { continue };
        match record {
            Record::Module(it) => drop(modules.insert(it.id, it.path.as_str())),
            // The outermost of the functions that are inlined into one frame comes first.
            Record::Symbol(it) => drop(functions.entry(it.frame).or_insert(it.function.as_str())),
            Record::Code(it) => drop(codes.insert(it.id, it)),
            _ => {}
        }
    }
    let (mut frames, mut stacks) = (HashMap::new(), HashMap::new());
    let mut found = Vec::new();
    for item in &items {
        match item {
            Item::Record(Record::Frame(it)) => {
                let module = modules.get(&it.module).copied().unwrap_or("?").to_owned();
                let function = functions.get(&it.id).copied().unwrap_or_default().to_owned();
                frames.insert(it.id, SeenFrame::Native(NativeFrame { module, address: it.address.0, function }));
            }
            Item::Record(Record::PythonFrame(it)) => {
                let code = codes.get(&it.code).context("a frame has no code")?;
                // What could not be read equals nothing that anyone tells.
                let function = format!("{}{}", code.function, code.missing);
                frames.insert(it.id, SeenFrame::Python(code.file.clone(), it.line.into(), function));
            }
            Item::Record(Record::Stack(it)) => drop(stacks.insert(it.id, it)),
            Item::Event(event) if matches!(event.kind, Kind::Request | Kind::Free) => {
                let stack = stacks.get(&event.stack).context("an event has no stack")?;
                let frame = |number| frames.get(number).cloned().context("a stack has a frame that is not there");
                found.push(Seen {
                    event: *event,
                    frames: stack.frames.iter().map(frame).collect::<Result<_>>()?,
                    end: stack.end.to_string(),
                    python: stack.python.to_string(),
                });
            }
            Item::Record(Record::Loss(loss)) => panic!("{} events were lost", loss.count),
            _ => {}
        }
    }
    Ok(found)
}
