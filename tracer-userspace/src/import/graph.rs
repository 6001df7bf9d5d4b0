// SPDX-License-Identifier: Apache-2.0
//! ttnn's graph capture, as `end_graph_capture` and `end_graph_capture_to_file` give it, as part of a trace.
//!
//! It is a list of nodes, alone or as `graph` in an object. Those that matter:
//!
//! - `buffer` stands for a buffer as long as it lives; `buffer_allocate` and `buffer_deallocate` have its number as their
//!   first connection. A buffer that is older than the capture gets its node when it is freed.
//! - `function_start` and `function_end` enclose what an operation does. They become the stacks of what is in them.
//! - `capture_end` is the last one.
//!
//! Numbers are numbers in newer releases and strings in older ones, and 0.66 does not say the address of what it frees.

use std::{fmt, io::BufRead};

use anyhow::Result;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Format, Importer, Oddities, Summary, event};
use crate::trace::{
    Code, CounterValue, End, Event, GRAPH_CAPTURE, Item, Kind, Problem, Process, PythonFrame, Stack, parse_buffer_type,
};

/// Most operations within each other, and most different ones: real captures have far fewer.
const MOST_DEEP: usize = 256;
const MOST_STACKS: usize = 1 << 16;
/// Most characters of an operation's name.
const LONGEST_NAME: usize = 512;

/// Reads a capture to its end, or to where it is damaged. Nodes are taken one by one.
pub(super) fn import(
    importer: &mut Importer,
    name: &str,
    input: impl BufRead,
    sink: &mut impl FnMut(Item),
) -> Result<Summary> {
    importer.processes += 1;
    let process = importer.processes;
    let origin = GRAPH_CAPTURE.into();
    sink(Process { id: process, command: name.to_owned(), origin, ..Process::default() }.into());
    let mut graph = Graph {
        importer,
        process,
        operations: Vec::new(),
        deeper: 0,
        nodes: 0,
        events: 0,
        ended: false,
        errors: Oddities::default(),
    };
    let mut json = serde_json::Deserializer::from_reader(input);
    let mut take = |node: Node| graph.node(node, sink);
    let damage = json.deserialize_any(Top(&mut take)).and_then(|()| json.end()).err();
    if let Some(damage) = &damage {
        sink(Problem { text: format!("{name} is damaged: {damage}; what is before it is here") }.into());
    }
    Ok(graph.finish(name, damage.is_some(), sink))
}

/// A capture that is being read.
struct Graph<'a> {
    importer: &'a mut Importer,
    process: u32,
    /// The operations that are under way, by the number of their names; outermost first.
    operations: Vec<u32>,
    /// Those within them that are too deep to be among them.
    deeper: u64,
    nodes: u64,
    events: u64,
    ended: bool,
    errors: Oddities,
}

impl Graph<'_> {
    fn node(&mut self, node: Node, sink: &mut impl FnMut(Item)) {
        self.nodes += 1;
        match node.node_type {
            NodeType::FunctionStart if self.operations.len() < MOST_DEEP => {
                let name = node.params.name.unwrap_or_default();
                let number = self.operation(name, sink);
                self.operations.push(number);
            }
            NodeType::FunctionStart => self.deeper += 1,
            NodeType::FunctionEnd if self.deeper > 0 => self.deeper -= 1,
            NodeType::FunctionEnd => drop(self.operations.pop()),
            NodeType::BufferAllocate => self.buffer(Kind::Allocated, &node, sink),
            NodeType::BufferDeallocate => self.buffer(Kind::Released, &node, sink),
            NodeType::Error => self.errors.add(node.counter, &node.params.error_message.unwrap_or_default()),
            NodeType::CaptureEnd => self.ended = true,
            NodeType::Other => {}
        }
    }

    fn buffer(&mut self, kind: Kind, node: &Node, sink: &mut impl FnMut(Item)) {
        let stack = self.stack(sink);
        let Params { address, size, page_size, device_id, .. } = node.params;
        let named = node.params.memory.as_deref().and_then(parse_buffer_type);
        let blank = event(kind, self.process, node.counter);
        sink(Item::Event(Event {
            unique_id: node.connections.0.unwrap_or(node.counter),
            address: address.unwrap_or(0),
            size: size.unwrap_or(0),
            page_size: page_size.unwrap_or(0),
            buffer_type: named.unwrap_or(blank.buffer_type),
            // Without dispatch, a capture allocates nothing and gives address 0.
            hooked: kind == Kind::Allocated && address == Some(0),
            device_id: device_id.and_then(|id| u32::try_from(id).ok()).unwrap_or(0),
            stack,
            ..blank
        }));
        self.events += 1;
    }

    /// The number of an operation's name, 0 if there are too many.
    fn operation(&mut self, mut name: String, sink: &mut impl FnMut(Item)) -> u32 {
        if let Some((end, _)) = name.char_indices().nth(LONGEST_NAME) {
            name.truncate(end);
        }
        let id = self.importer.codes.len() as u32 + 1;
        if let Some(&known) = self.importer.codes.get(&name) {
            return known;
        } else if self.importer.codes.len() >= MOST_STACKS {
            return 0;
        }
        sink(Code { id, function: name.clone(), ..Code::default() }.into());
        sink(PythonFrame { id, code: id, line: 0 }.into());
        self.importer.codes.insert(name, id);
        id
    }

    /// The number of the stack of operations, 0 if there is none or there are too many.
    fn stack(&mut self, sink: &mut impl FnMut(Item)) -> u32 {
        let frames: Vec<u32> = self.operations.iter().rev().copied().filter(|&number| number != 0).collect();
        let id = self.importer.stacks.len() as u32 + 1;
        if let Some(&known) = self.importer.stacks.get(&frames) {
            return known;
        } else if frames.is_empty() || self.importer.stacks.len() >= MOST_STACKS {
            return 0;
        }
        sink(Stack { id, frames: frames.clone(), end: GRAPH_CAPTURE.into(), ..Stack::default() }.into());
        self.importer.stacks.insert(frames, id);
        id
    }

    fn finish(self, name: &str, damaged: bool, sink: &mut impl FnMut(Item)) -> Summary {
        if self.ended {
            sink(End { process: self.process, time: self.nodes, reason: "capture-ended".into() }.into());
        }
        self.errors.report(name, "errors in the capture", "node", sink);
        sink(CounterValue { name: "import.nodes".into(), value: self.nodes }.into());
        Summary {
            format: Format::GraphCapture,
            events: self.events,
            processes: 1,
            parts: self.nodes,
            unreadable: u64::from(damaged),
        }
    }
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    counter: u64,
    node_type: NodeType,
    #[serde(default)]
    params: Params,
    #[serde(default)]
    connections: First,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NodeType {
    FunctionStart,
    FunctionEnd,
    BufferAllocate,
    BufferDeallocate,
    Error,
    CaptureEnd,
    #[serde(other)]
    Other,
}

/// What a node says of its buffer or operation. What is there in another form than expected is as if it were not.
#[derive(Default)]
struct Params {
    address: Option<u64>,
    size: Option<u64>,
    page_size: Option<u64>,
    device_id: Option<u64>,
    /// Type of memory, by its name.
    memory: Option<String>,
    name: Option<String>,
    error_message: Option<String>,
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParamsVisitor)
    }
}

struct ParamsVisitor;

impl<'de> Visitor<'de> for ParamsVisitor {
    type Value = Params;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters, or null")
    }

    fn visit_unit<E>(self) -> Result<Params, E> {
        Ok(Params::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
        let mut params = Params::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "address" => params.address = map.next_value::<Scalar>()?.number(),
                "size" => params.size = map.next_value::<Scalar>()?.number(),
                "page_size" => params.page_size = map.next_value::<Scalar>()?.number(),
                "device_id" => params.device_id = map.next_value::<Scalar>()?.number(),
                "type" => params.memory = map.next_value::<Scalar>()?.text(),
                "name" => params.name = map.next_value::<Scalar>()?.text(),
                "error_message" => params.error_message = map.next_value::<Scalar>()?.text(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(params)
    }
}

/// A number or a text; what is neither is nothing.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
    Nothing(IgnoredAny),
}

impl Scalar {
    fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => text.parse().ok(),
            Self::Nothing(_) => None,
        }
    }

    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Nothing(_) => None,
        }
    }
}

/// The first number of a list, which may be long.
#[derive(Default)]
struct First(Option<u64>);

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FirstVisitor)
    }
}

struct FirstVisitor;

impl<'de> Visitor<'de> for FirstVisitor {
    type Value = First;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<First, A::Error> {
        let first = list.next_element()?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(First(first))
    }
}

/// The document: a list of nodes, or an object with one.
struct Top<'a, F>(&'a mut F);

impl<'de, F: FnMut(Node)> Visitor<'de> for Top<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a graph capture: a list of nodes, or an object with a `graph`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(node) = list.next_element()? {
            (self.0)(node);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "graph" {
                map.next_value_seed(Top(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de, F: FnMut(Node)> DeserializeSeed<'de> for Top<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::trace::text::show;

    /// Nodes as ttnn 0.81.1 writes them, but the second free, which is as 0.66.0 does.
    const GRAPH: &str = r#"[
{"arguments":[],"connections":[1],"counter":0,"input_tensors":[],"node_type":"capture_start","params":null},
{"connections":[2,3,4],"counter":1,"node_type":"function_start","params":{"inputs":5,"name":"create_device_tensor"}},
{"connections":[5,12],"counter":2,"node_type":"buffer","params":{"buffer_type":0,"device_id":0,"size":8192,"type":"DRAM"}},
{"connections":[2],"counter":3,"node_type":"buffer_allocate","params":{"address":1050752,"buffer_type":0,"device_id":0,"layout":"INTERLEAVED","max_size_per_bank":2048,"num_cores":0,"page_size":2048,"size":8192,"type":"DRAM"}},
{"connections":[5,6],"counter":4,"duration_ns":9,"node_type":"function_end","params":{"name":"create_device_tensor"}},
{"connections":[],"counter":5,"node_type":"tensor","params":{"device_tensors":[{"address":1050752,"device_id":1}],"shape":"Shape([1])"}},
{"connections":[2],"counter":6,"node_type":"buffer_deallocate","params":{"address":1050752,"device_id":0,"page_size":2048,"size":8192,"type":"DRAM"}},
{"connections":[],"counter":7,"node_type":"buffer","params":{"device_id":"0","size":"4096","type":"L1"}},
{"connections":[7],"counter":8,"node_type":"buffer_deallocate","params":{"device_id":"0","page_size":"2048","size":"4096","type":"L1"}},
{"connections":[],"counter":9,"node_type":"error","params":{"error_message":"Out of Memory"}},
{"connections":[10],"counter":11,"node_type":"buffer_allocate","params":{"address":0,"device_id":0,"size":64,"type":"L1"}},
{"connections":[],"counter":12,"node_type":"capture_end","params":{}}
]"#;

    fn import_text(json: &str) -> (String, Summary) {
        let mut shown = String::new();
        let mut sink = |item: Item| shown += &(show(&item) + "\n");
        let summary = import(&mut Importer::default(), "a.json", json.as_bytes(), &mut sink).expect("it is in memory");
        (shown, summary)
    }

    #[test]
    fn a_capture_becomes_events_with_operations_as_stacks() {
        let (items, summary) = import_text(GRAPH);
        expect![[r#"
            process id=1 command="a.json" origin=graph-capture
            code id=1 function="create_device_tensor"
            python-frame id=1 code=1
            stack id=1 frames=1 end=graph-capture
            event 3 t=3 p=1 allocated uid=2 address=0x100880 size=8192 page=2048 stack=1
            event 6 t=6 p=1 released uid=2 address=0x100880 size=8192 page=2048
            event 8 t=8 p=1 released uid=7 size=4096 page=2048 type=1
            event 11 t=11 p=1 allocated uid=10 size=64 type=1 hooked=1
            end process=1 time=12 reason=capture-ended
            problem text="a.json: errors in the capture: 1 (node 9: “Out of Memory”)"
            counter name=import.nodes value=12
        "#]]
        .assert_eq(&items);
        assert_eq!((summary.events, summary.parts, summary.unreadable), (4, 12, 0));
        let report = format!(r#"{{"version":1,"devices":[{{"a":1}}],"graph":{GRAPH},"metadata":{{"rank":0}}}}"#);
        assert_eq!(import_text(&report).0, items);
    }

    #[test]
    fn a_cut_capture_is_read_up_to_the_cut_and_says_so() {
        let cut = GRAPH.find(r#"{"connections":[7]"#).expect("it is there") + 9;
        let (items, summary) = import_text(&GRAPH[..cut]);
        assert_eq!((summary.events, summary.unreadable), (2, 1));
        assert!(items.contains("a.json is damaged: EOF while parsing"), "{items}");
        assert!(!items.contains("\nend "), "{items}");
    }

    #[test]
    fn what_is_not_as_expected_brings_nothing_down() {
        let deep = format!("[{}", "[".repeat(100_000));
        for json in
            [&deep[..], "{}", "[1]", "[{}]", r#"{"graph":7}"#, r#"[{"node_type":"buffer_allocate","params":[]}]"#]
        {
            import_text(json);
        }
        let odd = r#"[{"node_type":"buffer_allocate","counter":3,"params":{"address":-1,"size":[1],"type":5}},{"node_type":"function_end"}]"#;
        assert_eq!(import_text(odd).1.events, 1);
        for at in 0..GRAPH.len() {
            for byte in ["9", "\"", "]"] {
                import_text(&format!("{}{byte}{}", &GRAPH[..at], &GRAPH[at + 1..]));
            }
        }
    }
}
