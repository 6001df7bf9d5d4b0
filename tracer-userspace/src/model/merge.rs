// SPDX-License-Identifier: Apache-2.0
//! Several traces under common numbers and one clock, so that the same stack in two of them is one stack.

use std::hash::Hash;

use foldhash::HashMap;

use super::numbers::Numbers;
use crate::trace::{Event, Item, Record, Session};

/// Gives out common numbers for the definitions of one file after the other.
pub(super) struct Merge {
    /// The wall-clock time that merged times count from.
    wall_ns: u64,
    /// What to add to the times of this file.
    shift: u64,
    /// The files' numbers of the processes that have numbers, in their order from 1.
    processes: Vec<u32>,
    modules: Interner<(String, String)>,
    texts: Interner<String>,
    codes: Interner<(String, String, u32, String)>,
    frames: Interner<AnyFrame>,
    stacks: Interner<(Vec<u32>, String, String)>,
    file: Defined,
}

/// Native and Python frames have their numbers together.
#[derive(PartialEq, Eq, Hash)]
enum AnyFrame {
    /// Module, address, whether it is a return address.
    Native(u32, u64, bool),
    /// Code and line.
    Python(u32, u32),
}

/// The common numbers by those of the file.
#[derive(Default)]
struct Defined {
    codes: Numbers,
    processes: Numbers,
    modules: Numbers,
    texts: Numbers,
    frames: Numbers,
    stacks: Numbers,
}

impl Merge {
    /// Takes the first item of each file, by which it learns the earliest start.
    pub(super) fn new<'a>(firsts: impl Iterator<Item = &'a Item>) -> Self {
        let walls = firsts.filter_map(|item| match item {
            Item::Record(Record::Session(Session { wall_ns, .. })) => Some(*wall_ns).filter(|&ns| ns != 0),
            _ => None,
        });
        Self {
            wall_ns: walls.min().unwrap_or(0),
            shift: 0,
            processes: Vec::new(),
            modules: Interner::default(),
            texts: Interner::default(),
            codes: Interner::default(),
            frames: Interner::default(),
            stacks: Interner::default(),
            file: Defined::default(),
        }
    }

    /// Begins the next file.
    pub(super) fn begin(&mut self) {
        self.shift = 0;
        self.file = Defined::default();
    }

    /// Renumbers an event. What it names must have come before, or becomes 0.
    #[inline]
    pub(super) fn event(&mut self, event: &mut Event) {
        event.time = self.time(event.time);
        event.process = self.process(event.process);
        event.stack = self.file.stacks.get(event.stack);
        event.text = self.file.texts.get(event.text);
        event.child = self.process(event.child);
    }

    /// Renumbers a record, likewise.
    pub(super) fn record(&mut self, record: &mut Record) {
        match record {
            Record::Session(it) => self.shift = it.wall_ns.saturating_sub(self.wall_ns),
            Record::Process(it) => {
                it.id = self.process(it.id);
                it.parent = self.process(it.parent);
            }
            Record::Module(it) => {
                let number = self.modules.number((it.path.clone(), it.build_id.clone()));
                self.file.modules.define(it.id, number);
                it.id = number;
            }
            Record::Mapping(it) => {
                it.process = self.process(it.process);
                it.module = self.file.modules.get(it.module);
                it.time = self.time(it.time);
            }
            Record::LayoutField(it) => it.process = self.process(it.process),
            Record::Interpreter(it) => {
                it.process = self.process(it.process);
                it.module = self.file.modules.get(it.module);
            }
            Record::Probe(it) => {
                it.process = self.process(it.process);
                it.module = self.file.modules.get(it.module);
            }
            Record::Border(it) => {
                it.process = self.process(it.process);
                it.test = self.file.texts.get(it.test);
                it.time = self.time(it.time);
            }
            Record::Text(it) => {
                let number = self.texts.number(it.text.clone());
                self.file.texts.define(it.id, number);
                it.id = number;
            }
            Record::Frame(it) => {
                it.module = self.file.modules.get(it.module);
                let number = self.frames.number(AnyFrame::Native(it.module, it.address.0, it.returns));
                self.file.frames.define(it.id, number);
                it.id = number;
            }
            Record::Code(it) => {
                let key = (it.function.clone(), it.file.clone(), it.first_line, it.missing.to_string());
                let number = self.codes.number(key);
                self.file.codes.define(it.id, number);
                it.id = number;
            }
            Record::PythonFrame(it) => {
                it.code = self.file.codes.get(it.code);
                let number = self.frames.number(AnyFrame::Python(it.code, it.line));
                self.file.frames.define(it.id, number);
                it.id = number;
            }
            Record::Symbol(it) => it.frame = self.file.frames.get(it.frame),
            Record::Stack(it) => {
                for frame in &mut it.frames {
                    *frame = self.file.frames.get(*frame);
                }
                let number = self.stacks.number((it.frames.clone(), it.end.to_string(), it.python.to_string()));
                self.file.stacks.define(it.id, number);
                it.id = number;
            }
            Record::Loss(it) => {
                it.process = self.process(it.process);
                it.after = self.time(it.after);
                it.before = self.time(it.before);
            }
            Record::End(it) => {
                it.process = self.process(it.process);
                it.time = self.time(it.time);
            }
            Record::Snapshot(it) => {
                it.process = self.process(it.process);
                it.time = self.time(it.time);
            }
            Record::LiveOwner(it) => {
                it.process = self.process(it.process);
                it.time = self.time(it.time);
            }
            Record::CounterValue(_) | Record::Problem(_) => {}
        }
    }

    /// The files' numbers of all processes so far, in the order of the numbers that they have now.
    pub(super) fn processes(&self) -> &[u32] {
        &self.processes
    }

    /// Gives a process its number.
    pub(super) fn know(&mut self, process: u32) {
        self.process(process);
    }

    fn time(&self, time: u64) -> u64 {
        time.saturating_add(self.shift)
    }

    /// Processes are never the same in two files; one that is named before it is defined has its number already.
    #[inline]
    fn process(&mut self, number: u32) -> u32 {
        match self.file.processes.get(number) {
            0 if number != 0 => {
                self.processes.push(number);
                let common = self.processes.len() as u32;
                self.file.processes.define(number, common);
                common
            }
            known => known,
        }
    }
}

/// Gives equal values equal numbers, from 1.
struct Interner<T>(HashMap<T, u32>);

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T: Eq + Hash> Interner<T> {
    fn number(&mut self, value: T) -> u32 {
        let next = self.0.len() as u32 + 1;
        *self.0.entry(value).or_insert(next)
    }
}

#[cfg(test)]
mod tests {
    use crate::trace::text::{parse, show};

    use super::*;

    fn renumber(merge: &mut Merge, items: &mut [Item]) {
        for item in items {
            match item {
                Item::Event(event) => merge.event(event),
                Item::Record(record) => merge.record(record),
            }
        }
    }

    #[test]
    fn native_and_python_frames_are_counted_together() {
        let text = "code id=7 function=\"f\" file=\"a.py\" first_line=1\npython-frame id=3 code=7 line=2\n\
            frame id=4 address=0x10\npython-frame id=5 code=7 line=3\nstack id=1 frames=5,4,3 python=complete";
        let mut merge = Merge::new(std::iter::empty());
        merge.begin();
        let mut items = parse(text).expect("parsed");
        renumber(&mut merge, &mut items);
        let shown: Vec<String> = items.iter().map(show).collect();
        assert_eq!(shown[1], "python-frame id=1 code=1 line=2");
        assert_eq!(shown[4], "stack id=1 frames=3,2,1 python=complete");
    }

    #[test]
    fn equal_definitions_of_two_files_get_one_number() {
        let first = "session wall_ns=1000\nprocess id=1 pid=7\nmodule id=1 path=\"/a\"\nframe id=1 module=1 address=0x10\n\
            stack id=1 frames=1 end=complete\nevent 1 t=5 p=1 free stack=1";
        let second = "session wall_ns=1600\nprocess id=1 pid=8\nmodule id=1 path=\"/b\"\nmodule id=2 path=\"/a\"\n\
            frame id=5 module=2 address=0x10\nframe id=6 module=1 address=0x10\nstack id=3 frames=5 end=complete\n\
            stack id=4 frames=6,5 end=complete\nevent 1 t=5 p=1 free stack=3\nevent 2 t=6 p=1 free stack=4\n\
            event 3 t=7 p=1 free stack=99";
        let files = [parse(first).expect("parsed"), parse(second).expect("parsed")];
        let mut merge = Merge::new(files.iter().filter_map(|items| items.first()));
        let mut events = Vec::new();
        for mut items in files {
            merge.begin();
            renumber(&mut merge, &mut items);
            events.extend(items.iter().map(show).filter(|line| line.starts_with("event")));
        }
        assert_eq!(
            events,
            [
                "event 1 t=5 p=1 free stack=1",
                "event 1 t=605 p=2 free stack=1",
                "event 2 t=606 p=2 free stack=2",
                "event 3 t=607 p=2 free"
            ]
        );
    }
}
