// SPDX-License-Identifier: Apache-2.0
//! When which test ran, as pytest tells by its variable: setup, call and teardown have a span each.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::trace::{Event, Kind, Record};

/// The spans of all processes, in the order of each trace.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct TestSpans {
    /// The spans.
    pub spans: Vec<TestSpan>,
    /// The one that has not ended, by process.
    #[serde(skip)]
    open: HashMap<u32, usize>,
}

/// One phase of a test in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TestSpan {
    /// Process number.
    pub process: u32,
    /// Text number of its name and phase.
    pub text: u32,
    /// When it began, or recording did: nanoseconds after the start.
    pub begin: u64,
    /// When it ended; absent if the trace does not say.
    pub end: Option<u64>,
}

impl TestSpans {
    /// Takes the next event; only some matter here.
    pub(super) fn event(&mut self, event: &Event) {
        match event.kind {
            Kind::TestBegin => self.begin(event.process, event.text, event.time),
            Kind::TestEnd => self.end(event.process, event.time),
            _ => {}
        }
    }

    /// Takes the next record; only some matter here.
    pub(super) fn record(&mut self, record: &Record) {
        match record {
            Record::Border(border) if border.test != 0 => self.begin(border.process, border.test, border.time),
            Record::End(end) => self.end(end.process, end.time),
            _ => {}
        }
    }

    /// A phase ends where the next one begins.
    fn begin(&mut self, process: u32, text: u32, begin: u64) {
        self.end(process, begin);
        if text != 0 {
            self.open.insert(process, self.spans.len());
            self.spans.push(TestSpan { process, text, begin, end: None });
        }
    }

    fn end(&mut self, process: u32, time: u64) {
        if let Some(span) = self.open.remove(&process).and_then(|at| self.spans.get_mut(at)) {
            span.end = Some(time.max(span.begin));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::read_text;

    #[test]
    fn a_span_ends_with_the_next_one_or_its_process() {
        let trace = "process id=1 pid=7\ntext id=1 text=\"one (setup)\"\ntext id=2 text=\"one (call)\"\n\
            border process=1 time=5 test=1\nevent 1 t=10 p=1 tid=7 test-begin text=2\nevent 2 t=20 p=1 tid=7 test-end\n\
            event 3 t=30 p=1 tid=7 test-begin text=1\nend process=1 time=40 reason=exited\n";
        let model = read_text(trace, &mut |_| {});
        let spans: Vec<_> = model.spans.spans.iter().map(|span| (span.text, span.begin, span.end)).collect();
        assert_eq!(spans, [(1, 5, Some(10)), (2, 10, Some(20)), (1, 30, Some(40))]);
    }
}
