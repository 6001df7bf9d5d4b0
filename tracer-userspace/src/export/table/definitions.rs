// SPDX-License-Identifier: Apache-2.0
//! The tables of what the others name, and of what is missing.

use std::rc::Rc;

use super::rows;
use crate::{
    analysis::{Integrity, Sites, buffer_type},
    model::{Definitions, Line, LineKind, Model},
};

rows! {
    /// A line of a stack.
    "stacks" StackRow {
        /// Stack number in this output.
        stack: u32,
        /// Position of the line, innermost first, from 0.
        position: u64,
        /// `native`, `interpreter` (it runs, or is run by, the functions around it) or `python`.
        kind: &'static str,
        /// Function; absent if its name is not known.
        function: Option<String>,
        /// Source file.
        file: Option<String>,
        /// Line in it.
        line: Option<u32>,
        /// Path of the module; absent if the address is in none.
        module: Option<String>,
        /// The module's own address, or the absolute one; 0 for a Python function.
        address: u64,
        /// Whether the function was inlined into the next.
        inlined: bool,
        /// Why there is no name, where that is known.
        missing: Option<String>,
    }

    /// A stack and its site: what is the same in another run. Stack 0 stands for no stack.
    "sites" SiteRow {
        /// Stack number in this output.
        stack: u32,
        /// Id of the site.
        site: String,
        /// The site in a few words.
        name: String,
        /// The functions that count, innermost first, a line each.
        frames: String,
        /// Whether the stack was whole and all of its functions had names.
        exact: bool,
        /// `complete`, or why the stack could not be walked further; absent for stack 0.
        end: Option<String>,
        /// Its Python functions: empty if there are none, `complete`, `uncertain`, `nameless`, or why some are missing.
        python: Option<String>,
    }

    /// A test that ran, whether or not it touched a buffer.
    "tests" TestRow {
        /// Test id, without the phase.
        test: String,
    }

    /// Events that never arrived.
    "losses" LossRow {
        /// Host; absent if the trace does not say.
        host: Option<String>,
        /// Process number; absent if it is not known which lost them.
        process: Option<u32>,
        /// Where they were lost; `unaccounted` for those of which nothing tells.
        cause: String,
        /// How many.
        events: u64,
        /// The last event before the gap; absent for what is unaccounted.
        after: Option<u64>,
        /// The first event behind it.
        before: Option<u64>,
    }

    /// A trace.
    "runs" RunRow {
        /// Number of the trace, from 1, as they were given.
        run: u64,
        /// Version of the tt-buftrace that wrote it.
        tool: String,
        /// Host.
        host: String,
        /// Kernel release.
        kernel: String,
        /// Wall-clock time of its start, nanoseconds since 1970; absent if it is not known. The earliest is what times
        /// count from.
        start: Option<u64>,
    }

    /// A traced process.
    "processes" ProcessRow {
        /// Process number in this output.
        process: u32,
        /// Host; absent if the trace does not say.
        host: Option<String>,
        /// Process id on the host, 0 if not known.
        pid: u32,
        /// Process id in its container; absent if it is in none.
        inner_pid: Option<u32>,
        /// Number of the process that it was forked from.
        parent: Option<u32>,
        /// Command line; of an imported process, the name of the file.
        command: String,
        /// What it was imported from; absent if it was recorded.
        origin: Option<String>,
        /// When recording it began; absent if the trace does not say.
        begin: Option<u64>,
        /// When it ended, or recording it did; absent if the trace was cut.
        end: Option<u64>,
        /// How it ended.
        reason: Option<String>,
    }

    /// A total that was counted while recording, summed over the traces.
    "counters" CounterRow {
        /// Its name.
        name: String,
        /// Its value.
        value: u64,
    }

    /// What was reported to the graph trackers about one address of one device: the ledger of a server that knows nothing
    /// else. Empty if only a part of the traces was asked for, as such a server can't tell parts.
    "reported" ReportedRow {
        /// Number of the trace or imported file, each of which counts as a server of its own.
        source: u32,
        /// Number of the device, be it a mesh's or a chip's.
        device: u32,
        /// The address.
        address: u64,
        /// Process number of the first report.
        process: u32,
        /// Types of memory that were reported there, joined by spaces.
        buffer_types: String,
        /// Allocations.
        allocations: u64,
        /// Frees.
        frees: u64,
        /// Of these, frees of buffers that the server did not have then.
        unknown: u64,
    }
}

impl StackRow {
    /// The lines of a stack.
    pub(crate) fn of(stack: u32, definitions: &Definitions) -> impl Iterator<Item = Self> {
        let lines = definitions.stack(stack).map_or_else(Vec::new, |stack| stack.lines);
        (0..).zip(lines).map(move |(position, line)| {
            let Line { kind, function, file, line, module, address, inlined, missing } = Rc::unwrap_or_clone(line);
            Self { stack, position, kind: word(kind), function, file, line, module, address, inlined, missing }
        })
    }
}

impl SiteRow {
    /// The site of a stack.
    pub(crate) fn of(stack: u32, sites: &mut Sites, definitions: &Definitions) -> Self {
        let site = sites.get(stack);
        let (end, python) = definitions.stack(stack).map(|it| (it.end, it.python)).unzip();
        let frames = site.frames.join("\n");
        Self { stack, site: site.id.clone(), name: site.name.clone(), frames, exact: site.exact, end, python }
    }
}

impl TestRow {
    /// The tests that ran.
    pub(crate) fn all(definitions: &Definitions) -> impl Iterator<Item = Self> {
        definitions.tests().into_iter().map(|test| Self { test: test.to_owned() })
    }
}

impl LossRow {
    /// What was lost.
    pub(crate) fn all(model: &Model) -> impl Iterator<Item = Self> {
        let definitions = &model.definitions;
        let known = definitions.losses.iter().map(|loss| Self {
            host: definitions.hosts.get(&loss.process).cloned(),
            process: Some(loss.process).filter(|&process| process != 0),
            cause: loss.cause.to_string(),
            events: loss.count,
            after: Some(loss.after),
            before: Some(loss.before),
        });
        let unaccounted = model.unaccounted.filter(|&events| events != 0).map(|events| Self {
            host: None,
            process: None,
            cause: "unaccounted".to_owned(),
            events: events.unsigned_abs(),
            after: None,
            before: None,
        });
        known.chain(unaccounted)
    }
}

impl RunRow {
    /// The traces.
    pub(crate) fn all(definitions: &Definitions) -> impl Iterator<Item = Self> {
        (1..).zip(&definitions.sessions).map(|(run, session)| Self {
            run,
            tool: session.tool.clone(),
            host: session.host.clone(),
            kernel: session.kernel.clone(),
            start: Some(session.wall_ns).filter(|&start| start != 0),
        })
    }
}

impl ProcessRow {
    /// The traced processes.
    pub(crate) fn all(model: &Model) -> impl Iterator<Item = Self> {
        let borders = &model.definitions.borders;
        Integrity::of(model).processes.into_iter().map(|it| Self {
            process: it.process,
            host: it.host,
            pid: it.pid,
            inner_pid: it.inner_pid,
            parent: it.parent,
            command: it.command,
            origin: it.origin,
            begin: borders.get(&it.process).map(|border| border.time),
            end: it.end,
            reason: it.reason,
        })
    }
}

impl CounterRow {
    /// The totals.
    pub(crate) fn all(definitions: &Definitions) -> impl Iterator<Item = Self> {
        definitions.counters.iter().map(|(name, &value)| Self { name: name.clone(), value })
    }
}

impl ReportedRow {
    /// What was reported.
    pub(crate) fn all(model: &Model) -> impl Iterator<Item = Self> {
        model.server.addresses().into_iter().map(|(&(source, device, address), it)| {
            let types = (0..u8::BITS).filter(|bit| it.types >> bit & 1 == 1).map(buffer_type);
            Self {
                source,
                device,
                address,
                process: it.process,
                buffer_types: types.collect::<Vec<_>>().join(" "),
                allocations: it.allocations,
                frees: it.frees,
                unknown: it.unknown,
            }
        })
    }
}

fn word(kind: LineKind) -> &'static str {
    match kind {
        LineKind::Native => "native",
        LineKind::Interpreter => "interpreter",
        LineKind::Python => "python",
    }
}
