// SPDX-License-Identifier: Apache-2.0
//! The table of lives: a row a buffer, from its allocation to its end.

use super::rows;
use crate::{
    analysis::{Life, LifeFold, Piece, Sites, buffer_type},
    model::{Definitions, Entry, Moment, Outcome, Verdict},
};

rows! {
    /// A buffer's life. What has no begin was allocated before the recording, or in a gap; what has no end is of a trace
    /// that was cut.
    "lives" LifeRow {
        /// Host; absent if the trace does not say.
        host: Option<String>,
        /// Process number in this output.
        process: u32,
        /// Unique id of the buffer in its process.
        buffer: u64,
        /// Its device; absent if its allocation was not seen.
        device: Option<String>,
        /// How often the device had been opened by then.
        generation: u32,
        /// Its type of memory.
        buffer_type: String,
        /// Its address.
        address: u64,
        /// Its bytes on one device.
        bytes: u64,
        /// Bytes a page.
        page_bytes: u64,
        /// Bytes taken in each bank, alignment included; absent if that was not recorded.
        bank_bytes: Option<u64>,
        /// Whether there is no memory behind it.
        phantom: bool,
        /// Whether it is from before the recording and was found live.
        found: bool,
        /// When it was allocated, or found live.
        begin: Option<u64>,
        /// Thread that allocated it; absent if that was not seen, as are the next three.
        begin_thread: Option<u32>,
        /// The test then.
        begin_test: Option<String>,
        /// The stack.
        begin_stack: Option<u32>,
        /// The site.
        begin_site: Option<String>,
        /// When it ended.
        end: Option<u64>,
        /// Thread that ended it, 0 if none did.
        end_thread: Option<u32>,
        /// The test then.
        end_test: Option<String>,
        /// The stack.
        end_stack: Option<u32>,
        /// The site.
        end_site: Option<String>,
        /// What became of it.
        verdict: Option<&'static str>,
        /// `confirmed` or `possible`.
        certainty: Option<&'static str>,
    }
}

/// Makes rows of entries. Its memory grows with the live buffers.
#[derive(Debug)]
pub(crate) struct LifeRows<'a> {
    definitions: &'a Definitions,
    sites: Sites<'a>,
    fold: LifeFold,
}

impl<'a> LifeRows<'a> {
    /// Begins with the definitions of the traces that the entries are of.
    #[must_use]
    pub(crate) fn new(definitions: &'a Definitions) -> Self {
        Self { definitions, sites: Sites::new(definitions), fold: LifeFold::default() }
    }

    /// The row that the next entry completes.
    pub(crate) fn row(&mut self, entry: &Entry) -> Option<LifeRow> {
        match self.fold.entry(entry)? {
            Piece::Life(life) => Some(self.life(&life, Some(life.begin))),
            Piece::Event(outcome) => unseen(&outcome).map(|life| self.life(&life, None)),
        }
    }

    /// The rows that no entry completed.
    pub(crate) fn finish(&mut self) -> Vec<LifeRow> {
        let lives = std::mem::take(&mut self.fold).finish();
        lives.into_iter().map(|life| self.life(&life, Some(life.begin))).collect()
    }

    fn life(&mut self, life: &Life, begin: Option<u64>) -> LifeRow {
        let (buffer, end) = (&life.buffer, life.end);
        let (begun, ended) = (buffer.allocated, end.map(|end| end.moment));
        let (begin_test, begin_site) = self.place(begun);
        let (end_test, end_site) = self.place(ended);
        LifeRow {
            host: self.definitions.hosts.get(&buffer.process).cloned(),
            process: buffer.process,
            buffer: buffer.unique_id,
            device: buffer.device.map(|device| device.to_string()),
            generation: buffer.generation,
            buffer_type: buffer_type(buffer.buffer_type),
            address: buffer.address,
            bytes: buffer.size,
            page_bytes: buffer.page_size,
            bank_bytes: buffer.bank_bytes,
            phantom: buffer.phantom,
            found: buffer.found,
            begin,
            begin_thread: begun.map(|moment| moment.thread),
            begin_test,
            begin_stack: begun.map(|moment| moment.stack),
            begin_site,
            end: ended.map(|moment| moment.time),
            end_thread: ended.map(|moment| moment.thread),
            end_test,
            end_stack: ended.map(|moment| moment.stack),
            end_site,
            verdict: end.map(|end| end.verdict.name()),
            certainty: end.map(|end| end.certainty.name()),
        }
    }

    fn place(&mut self, moment: Option<Moment>) -> (Option<String>, Option<String>) {
        let test = moment.and_then(|moment| self.definitions.test(&moment)).map(str::to_owned);
        (test, moment.map(|moment| self.sites.get(moment.stack).id.clone()))
    }
}

/// The end of a buffer whose begin was not seen. A request that failed, and what is no memory, ends no life.
fn unseen(outcome: &Outcome) -> Option<Life> {
    let &Outcome { buffer, verdict, certainty, moment, ends, .. } = outcome;
    let end = crate::analysis::End { verdict, certainty, moment };
    let lived =
        ends && !matches!(verdict, Verdict::Failed | Verdict::Phantom | Verdict::AliasFree | Verdict::Unmatched);
    lived.then_some(Life { buffer, begin: moment.time, end: Some(end) })
}
