// SPDX-License-Identifier: Apache-2.0
//! CSV and JSON lines: a row an entry, written as it comes.

use std::{borrow::Cow, collections::HashMap, io::Write};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    Export,
    folded::words,
    frames::Stacks,
    table::{Cell, Row as _, StepRow, StepRows},
};
use crate::{
    analysis::Selected,
    model::{Definitions, Entry},
    trace::{escape, escape_json},
};

/// What each line of JSON says it is; `schema/step-1.json` describes it.
const SCHEMA: &str = "tt-buftrace/step/1";

/// Writes a row of CSV for each entry, with a head.
pub struct Csv<'a, W: Write> {
    rows: Rows<'a>,
    out: csv::Writer<W>,
}

/// Writes an object of JSON for each entry, a line each.
pub struct JsonLines<'a, W> {
    rows: Rows<'a>,
    out: W,
}

/// A line of JSON.
#[derive(Serialize)]
struct JsonLine<'a> {
    schema: &'static str,
    #[serde(flatten)]
    step: &'a StepRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<&'a str>,
}

struct Rows<'a> {
    steps: StepRows<'a>,
    stacks: Option<Stacks<'a>>,
    /// By stack number, as far as they were needed.
    folded: HashMap<u32, String>,
}

impl<'a> Rows<'a> {
    fn new(definitions: &'a Definitions, stacks: Option<Stacks<'a>>) -> Self {
        Self { steps: StepRows::new(definitions), stacks, folded: HashMap::new() }
    }

    fn next(&mut self, entry: &Entry) -> (StepRow, Option<&str>) {
        let row = self.steps.row(entry);
        let frames = match (self.stacks, row.stack) {
            (None, _) => None,
            (Some(_), 0) => Some(""),
            (Some(stacks), stack) => {
                Some(self.folded.entry(stack).or_insert_with(|| words(stacks, Some(stack)).join(";")).as_str())
            }
        };
        (row, frames)
    }
}

impl<'a, W: Write> Csv<'a, W> {
    /// Begins with the definitions of the traces. With stacks, each row has the functions of its own in a last column:
    /// outermost first, joined by semicolons.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    pub fn new(definitions: &'a Definitions, stacks: Option<Stacks<'a>>, out: W) -> Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        let frames_column = stacks.is_some().then_some("frames");
        let names = StepRow::COLUMNS.iter().map(|column| column.name).chain(frames_column);
        out.write_record(names).map_err(failed)?;
        Ok(Self { rows: Rows::new(definitions, stacks), out })
    }
}

impl<W: Write> Export for Csv<'_, W> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        let (row, frames) = self.rows.next(entry);
        for cell in row.cells().chain(frames.map(Cell::Text)) {
            self.out.write_field(text(cell).as_bytes()).map_err(failed)?;
        }
        self.out.write_record(None::<&[u8]>).map_err(failed)
    }

    fn finish(mut self: Box<Self>, _: Option<&Selected>) -> Result<()> {
        self.out.flush().context("failed to write")
    }
}

/// The library's error, with the cause of it that a caller can look at.
fn failed(error: csv::Error) -> anyhow::Error {
    let error = match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        kind => anyhow::anyhow!("{kind:?}"),
    };
    error.context("failed to write")
}

/// A spreadsheet takes a text for a formula that begins like one; a quotation mark before it is the usual way out.
fn text(cell: Cell<'_>) -> Cow<'_, str> {
    match cell {
        Cell::Empty => "".into(),
        Cell::Number(number) => number.to_string().into(),
        Cell::Flag(flag) => if flag { "true" } else { "false" }.into(),
        Cell::Text(text) => {
            let text = escape(text);
            if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }.into()
        }
    }
}

impl<'a, W: Write> JsonLines<'a, W> {
    /// Begins with the definitions of the traces.
    pub fn new(definitions: &'a Definitions, stacks: Option<Stacks<'a>>, out: W) -> Self {
        Self { rows: Rows::new(definitions, stacks), out }
    }
}

impl<W: Write> Export for JsonLines<'_, W> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        let (row, frames) = self.rows.next(entry);
        let line = JsonLine { schema: SCHEMA, step: &row, frames };
        let line = serde_json::to_string(&line).context("failed to write")?;
        writeln!(self.out, "{}", escape_json(&line)).context("failed to write")
    }

    fn finish(mut self: Box<Self>, _: Option<&Selected>) -> Result<()> {
        self.out.flush().context("failed to write")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::model::read_text;

    const TRACE: &str = "session host=h wall_ns=1000\nprocess id=1 pid=7\n\
        module id=1 path=\"/lib/l.so\"\nframe id=1 module=1 address=0x10\nsymbol frame=1 function=\"f(int, char)\"\n\
        frame id=2 module=1 address=0x20 returns=1\nsymbol frame=2 function=\"main\"\n\
        stack id=1 frames=1,2 end=complete\n\
        text id=1 text=\"=1+1.py::test, \\\"a\\\" (call)\"\nborder process=1 next_unique_id=1\n\
        event 1 t=4 p=1 tid=7 test-begin text=1\n\
        event 2 t=5 p=1 tid=7 allocated uid=1 address=0x100 size=64 owns=1 class=mesh type=1 stack=1\n\
        event 3 t=6 p=1 tid=7 free uid=1 address=0x100 size=64 status=1\n\
        event 4 t=7 p=1 tid=7 released uid=1 address=0x100 size=64 status=1 class=mesh type=1\n\
        event 5 t=8 p=1 tid=7 free uid=1 address=0x100 size=64 status=2\n\
        end process=1 time=20 reason=exited\n";

    fn written<'a>(
        known: &'a Definitions,
        make: impl FnOnce(&'a Definitions, &'a mut Vec<u8>) -> Box<dyn Export + 'a>,
        out: &'a mut Vec<u8>,
    ) {
        let mut format = make(known, out);
        read_text(TRACE, &mut |entry| format.entry(entry).expect("written"));
        format.finish(None).expect("written");
    }

    #[test]
    fn csv_has_a_head_and_no_formulas() {
        let known = read_text(TRACE, &mut |_| {}).definitions;
        let mut out = Vec::new();
        written(
            &known,
            |known, out| {
                Box::new(Csv::new(known, Some(Stacks { definitions: known, all: false }), out).expect("begun"))
            },
            &mut out,
        );
        let text = String::from_utf8(out).expect("UTF-8");
        expect![[r#"
            host,process,pid,entry,what,number,time,thread,buffer,device,buffer_type,address,bytes,test,phase,verdict,colour,certainty,ends,phantom,found,other,other_device,other_buffer_type,other_address,stack,site,site_name,allocated,allocated_test,allocated_stack,allocated_site,previous_verdict,previous_stack,frames
            h,1,7,1,alloc,1,5,7,1,mesh0,L1,256,64,"'=1+1.py::test, ""a""",call,,,,false,false,false,,,,,1,47fa55c4b21c,f,5,"'=1+1.py::test, ""a""",1,47fa55c4b21c,,,main;f(…)
            h,1,7,2,free,1,6,7,1,mesh0,L1,256,64,"'=1+1.py::test, ""a""",call,released,normal,confirmed,true,false,false,,,,,0,e3b0c44298fc,no stack,5,"'=1+1.py::test, ""a""",1,47fa55c4b21c,,,
            h,1,7,3,free,2,8,7,1,mesh0,L1,256,64,"'=1+1.py::test, ""a""",call,repeat,excess,confirmed,false,false,false,,,,,0,e3b0c44298fc,no stack,5,"'=1+1.py::test, ""a""",1,47fa55c4b21c,released,0,
        "#]].assert_eq(&text);
    }

    #[test]
    fn a_line_of_json_says_what_it_is() {
        let known = read_text(TRACE, &mut |_| {}).definitions;
        let mut out = Vec::new();
        written(&known, |known, out| Box::new(JsonLines::new(known, None, out)), &mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        expect![[r#"{"schema":"tt-buftrace/step/1","host":"h","process":1,"pid":7,"entry":3,"what":"free","number":2,"time":8,"thread":7,"buffer":1,"device":"mesh0","buffer_type":"L1","address":256,"bytes":64,"test":"=1+1.py::test, \"a\"","phase":"call","verdict":"repeat","colour":"excess","certainty":"confirmed","ends":false,"phantom":false,"found":false,"other":null,"other_device":null,"other_buffer_type":null,"other_address":null,"stack":0,"site":"e3b0c44298fc","site_name":"no stack","allocated":5,"allocated_test":"=1+1.py::test, \"a\"","allocated_stack":1,"allocated_site":"47fa55c4b21c","previous_verdict":"released","previous_stack":0}"#]].assert_eq(text.lines().last().unwrap_or_default());
    }
}
