// SPDX-License-Identifier: Apache-2.0
//! The records of a trace file, each defined once: the structs below are the binary form, the text form and the Rust form.

use tracer_common::{Counter, DeviceClass};

use super::field::{Hex, Name};
use super::macros::records;

/// What the names of counters begin with that say how often the probes of a kind fired.
pub const HITS: &str = "hits.";
/// The counter of processes that hit a probe and are not recorded.
pub const UNRECORDED: &str = Counter::Unrecorded.name();
/// The counter of buffers, by their ids, that processes made before they were recorded, although they were waited for.
pub const MADE_BEFORE: &str = "made-before";
/// What the names of counters begin with that count stacks by how they ended: see [`Stack::end`].
pub const STACKS: &str = "stacks.";
/// The same of their Python frames: see [`Stack::python`].
pub const PYTHON_STACKS: &str = "python-stacks.";

/// [`Process::origin`] of what a log-keeping allocation server printed: it knows buffers by device and address only.
pub const ALLOCATION_SERVER: &str = "allocation-server";
/// [`Process::origin`] of ttnn's graph capture: it tells buffers apart, by its nodes.
pub const GRAPH_CAPTURE: &str = "graph-capture";

records! {
    /// What was recorded, by what, where and when. The first record of a file.
    1 "session" Session {
        /// Version of the tt-buftrace that wrote the file.
        tool: String,
        /// Host name.
        host: String,
        /// Kernel release, as `uname -r` has it.
        kernel: String,
        /// Wall-clock time at `boot_ns`, in nanoseconds since 1970; 0 if not known.
        wall_ns: u64,
        /// The time that the events' times are relative to, in nanoseconds since boot.
        boot_ns: u64,
    }
    /// A traced process.
    2 "process" Process {
        /// Number of the process in this file, from 1.
        id: u32,
        /// Process id on the recording host, 0 if not known.
        pid: u32,
        /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22): with host and pid, the process's identity.
        start: u64,
        /// Command line, words joined by a space. Of an imported process, the name of the file.
        command: String,
        /// Python version, empty if there is no interpreter or it could not be read.
        python: String,
        /// Empty if it was recorded, else what it was imported from: `allocation-server` or `graph-capture`. Its times
        /// are then lines of the log, or nodes of the graph.
        origin: Name,
        /// Process id as the process itself has it in its container, 0 if it is in none.
        inner_pid: u32,
        /// Number of the container's PID name space on the recording host (`pid:[…]` of `/proc/PID/ns/pid`), 0 if it is
        /// in none.
        pid_name_space: u64,
        /// Number of the recorded process that this one was forked from, 0 for none: it has a copy of its objects.
        parent: u32,
    }
    /// A mapped file.
    3 "module" Module {
        /// Number in this file, from 1.
        id: u32,
        /// Path as the target sees it.
        path: String,
        /// GNU build id in hex, empty if there is none.
        build_id: String,
    }
    /// A module's place in a process, from a time on.
    4 "mapping" Mapping {
        /// Process number.
        process: u32,
        /// Module number.
        module: u32,
        /// First address.
        start: Hex,
        /// Address behind the last.
        end: Hex,
        /// What to subtract from an address here to get the module's own (ELF) address.
        bias: Hex,
        /// When it was first seen, nanoseconds after `boot_ns`.
        time: u64,
    }
    /// Where one field of the target's classes was found.
    5 "field" LayoutField {
        /// Process number.
        process: u32,
        /// Field name, e.g. `address_`.
        name: Name,
        /// Offset in bytes.
        offset: Hex,
        /// The sources that agree on it.
        sources: String,
    }
    /// A probe site, attached or not.
    6 "probe" Probe {
        /// Site number.
        id: u32,
        /// Process number.
        process: u32,
        /// What it means, e.g. `free`.
        kind: Name,
        /// Mangled symbol.
        symbol: String,
        /// Module number, 0 if none.
        module: u32,
        /// Offset in the module's file.
        offset: Hex,
        /// Empty if attached, else why not.
        missing: String,
    }
    /// All probes are attached: what was alive before is pre-attach.
    7 "border" Border {
        /// Process number.
        process: u32,
        /// Nanoseconds after `boot_ns`.
        time: u64,
        /// The target's `next_unique_id`: buffers below it existed before.
        next_unique_id: u64,
        /// Text number of the test that ran at that time, 0 for none.
        test: u32,
    }
    /// An interned text, e.g. a test id as pytest writes it: `test_a.py::test_one (call)`.
    8 "text" Text {
        /// Number in this file, from 1.
        id: u32,
        /// The text.
        text: String,
    }
    /// An interned native code address.
    9 "frame" Frame {
        /// Number in this file, from 1.
        id: u32,
        /// Module number, 0 if the address is in none.
        module: u32,
        /// The module's own address, or the absolute one where there is no module. In a caller it is the return address.
        address: Hex,
        /// Whether it is a return address: the call is before it.
        returns: bool,
    }
    /// What a frame is called; several for one frame where functions are inlined, outermost first.
    10 "symbol" Symbol {
        /// Frame number.
        frame: u32,
        /// Demangled function name.
        function: String,
        /// Bytes from the start of the function; only for the outermost.
        offset: Hex,
        /// Source file, empty if not known.
        file: String,
        /// Line, 0 if not known.
        line: u32,
    }
    /// An interned stack.
    11 "stack" Stack {
        /// Number in this file, from 1.
        id: u32,
        /// Frame numbers, innermost first.
        frames: Vec<u32>,
        /// How it ends: `complete`, or why it could not be walked further.
        end: Name,
        /// Its Python frames: empty if there are none, `complete`, `uncertain` if they are all there but may be in the
        /// wrong places, `nameless` if one's code was gone before it was read, or why some are missing.
        python: Name,
    }
    /// Events that never arrived.
    12 "loss" Loss {
        /// Process number, 0 if not known.
        process: u32,
        /// The last event before the gap, nanoseconds after `boot_ns`.
        after: u64,
        /// The first event behind it; the same as `after` if there is none.
        before: u64,
        /// How many.
        count: u64,
        /// Why: `ring-full`, `max-size` (taken out of the file again, to keep it small), or `failed` (the recording).
        cause: Name,
    }
    /// A total, as far as it was counted when this was written; a later record of the same name replaces it.
    13 "counter" CounterValue {
        /// Name, e.g. `sent`, or `hits.free` for how often probes of a kind fired, before any filter.
        name: Name,
        /// Value.
        value: u64,
    }
    /// Something odd that did not stop the recording.
    14 "problem" Problem {
        /// A sentence.
        text: String,
    }
    /// A process ended, or recording it did.
    15 "end" End {
        /// Process number.
        process: u32,
        /// Nanoseconds after `boot_ns`.
        time: u64,
        /// `exited`, `interrupted` (the user stopped the recording), `executed` (it is another program now) or `failed`.
        reason: Name,
    }
    /// A Python interpreter in a process.
    16 "python" Interpreter {
        /// Process number.
        process: u32,
        /// Module number: its native frames are what runs the Python frames.
        module: u32,
        /// Version.
        version: String,
        /// Empty if Python frames are recorded, else why they can't be.
        missing: String,
    }
    /// A Python code object: a function, or the body of a class or module. In a graph capture, an operation.
    17 "code" Code {
        /// Number in this file, from 1.
        id: u32,
        /// Qualified name; the plain name where Python 3.10 ran it.
        function: String,
        /// Source file, as Python has it.
        file: String,
        /// Line of its definition.
        first_line: u32,
        /// Empty, or why it could not be read: `gone`, `replaced` by another object, `damaged`.
        missing: Name,
    }
    /// An interned Python frame.
    18 "python-frame" PythonFrame {
        /// Number in this file, from 1; native frames are counted along.
        id: u32,
        /// Code number.
        code: u32,
        /// Line, 0 if not known.
        line: u32,
    }
    /// An allocator's own set of owners was read, when the first event named the allocator: its `live` records come before.
    19 "snapshot" Snapshot {
        /// Process number.
        process: u32,
        /// Nanoseconds after `boot_ns`.
        time: u64,
        /// The allocator.
        allocator: Hex,
        /// How many of its owners are from before the recording.
        owners: u64,
        /// Elements of the set that are no verified owners.
        left_out: u64,
        /// Whether two readings in a row found the same; if not, some owners may be missing.
        settled: bool,
        /// Empty if it could be read, else why not.
        missing: String,
    }
    /// An owner from before the recording that was live: its unique id is below the border's.
    20 "live" LiveOwner {
        /// Process number.
        process: u32,
        /// When it was read, nanoseconds after `boot_ns`.
        time: u64,
        /// `Buffer*`
        object: Hex,
        /// `unique_id_`
        unique_id: u64,
        /// Device address.
        address: Hex,
        /// Bytes on one device.
        size: u64,
        /// Bytes a page.
        page_size: u64,
        /// Type of memory.
        buffer_type: u32,
        /// `device_`
        device: Hex,
        /// Class of the device: `chip` or `mesh`.
        device_class: DeviceClass,
        /// Id within the class.
        device_id: u32,
        /// `allocator_`
        allocator: Hex,
    }
}
