// SPDX-License-Identifier: Apache-2.0
//! The facts of a site, and the sentences that they make.

use std::rc::Rc;

use super::{
    functions::{Known, Searched},
    signs::{Sign, Signed, Signs},
};
use crate::{
    analysis::{names, site},
    model::{Buffer, Definitions, Line, LineKind, StackLines, Verdict},
};

/// How many closes of devices are named.
const CLOSES: usize = 3;

/// What is known of a site.
pub(in crate::analysis) struct Facts<'a> {
    /// Frees.
    pub(in crate::analysis) count: u64,
    /// The stack of the free.
    pub(in crate::analysis) free: Option<Searched<'a>>,
    /// The stack of the free before, and what that was.
    pub(in crate::analysis) previous: Option<(Searched<'a>, Verdict)>,
    /// What no stack shows.
    pub(in crate::analysis) signs: &'a Signs,
    /// The names of tests.
    pub(in crate::analysis) definitions: &'a Definitions,
}

impl Facts<'_> {
    /// That one of the two frees is made below a function of a kind.
    pub(super) fn made_by(&self, known: Known) -> Option<String> {
        let free = self.free.and_then(|stack| made_by("this free", &stack, known));
        free.or_else(|| {
            // A bulk release frees nothing that a container or cache held, and an alias's owner had its own end.
            let (stack, _) = self.previous.filter(|(_, verdict)| *verdict != Verdict::Bulk)?;
            made_by("the free before", &stack, known)
        })
    }

    pub(super) fn mesh_and_chip(&self) -> Option<String> {
        let signed = self.signs.get(Sign::ChipOfMesh)?;
        Some(format!("{}: {}", self.of_all(signed), self.alias(signed)?))
    }

    pub(super) fn view(&self) -> Option<String> {
        let signed = self.signs.get(Sign::View)?;
        Some(format!("{}: {}", self.of_all(signed), self.alias(signed)?))
    }

    pub(super) fn graph_capture(&self) -> Option<String> {
        let signed = self.signs.get(Sign::Phantom).filter(|signed| signed.buffer.size > 0)?;
        let buffer = signed.buffer;
        Some(format!(
            "{}: there is no memory behind {}buffer {}, whose allocation of {} bytes was only pretended",
            self.of_all(signed),
            example(signed),
            buffer.unique_id,
            buffer.size
        ))
    }

    pub(super) fn forked_child(&self) -> Option<String> {
        let signed = self.signs.get(Sign::Copy)?;
        let Buffer { process, unique_id, .. } = signed.buffer;
        let example = example(signed);
        Some(format!(
            "{}: {example}process {process} is a fork, and buffer {unique_id} is older than it",
            self.of_all(signed)
        ))
    }

    pub(super) fn outlived_device(&self) -> Option<String> {
        let (closed, gone) = (self.signs.closes(Sign::Closed), self.signs.closes(Sign::Gone));
        let was_closed =
            |signed: &Signed| format!("{} was closed before{}", device(&signed.buffer), self.close(signed));
        let was_gone = |signed: &Signed| format!("{} was gone by then", device(&signed.buffer));
        let told =
            if closed.is_empty() { self.by_close(&gone, was_gone)? } else { self.by_close(&closed, was_closed)? };
        let late = closed.first().or(gone.first());
        let by = late.and_then(|signed| self.let_go(signed)).map(|by| format!("; {by}")).unwrap_or_default();
        Some(told + &by)
    }

    pub(super) fn other_device_closed(&self) -> Option<String> {
        self.by_close(&self.signs.closes(Sign::LeakedSinceClose), |signed| {
            format!(
                "the process had closed another device than {} before{}",
                device(&signed.buffer),
                self.close(signed)
            )
        })
    }

    /// What is to be said of the frees of each close, for the first few of these; `None` if there is none.
    fn by_close(&self, closes: &[&Signed], say: impl Fn(&Signed) -> String) -> Option<String> {
        let said = closes.iter().take(CLOSES).map(|signed| format!("{}: {}", self.of_all(signed), say(signed)));
        let rest = closes.iter().skip(CLOSES).fold(0, |sum: u64, signed| sum.saturating_add(signed.count));
        let rest = (rest > 0).then(|| format!("{rest} more after other closes"));
        let said: Vec<String> = said.chain(rest).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// How many of the frees it is about.
    fn of_all(&self, signed: &Signed) -> String {
        match (signed.count, self.count) {
            (1, 1) => "this free".to_owned(),
            (count, all) if count == all => format!("all {all} frees"),
            (count, all) => format!("{count} of {all} frees"),
        }
    }

    fn alias(&self, signed: &Signed) -> Option<String> {
        let owner = signed.owner.as_ref()?;
        let Buffer { unique_id, .. } = signed.buffer;
        let example = example(signed);
        Some(format!(
            "{example}buffer {unique_id} on {} owns nothing, {:#x} is the memory of buffer {} on {}",
            names::device(signed.buffer.device)?,
            signed.buffer.address,
            owner.unique_id,
            names::device(owner.device)?
        ))
    }

    /// In which test and by whom the device was closed.
    fn close(&self, signed: &Signed) -> String {
        let stack = signed.before.and_then(|moment| self.definitions.stack(moment.stack));
        let by = stack.and_then(|stack| caller(&stack, 0)).map(|caller| format!(", by {caller}")).unwrap_or_default();
        let test = signed.before.and_then(|moment| self.definitions.text(moment.test));
        by + &test.map(|test| format!(", in {test}")).unwrap_or_default()
    }

    /// Who let go of a tensor late, where its stack shows it.
    fn let_go(&self, signed: &Signed) -> Option<String> {
        let stack = self.definitions.stack(signed.moment.stack)?;
        let ends = |line: &Rc<Line>| line.function.as_deref().is_some_and(|it| it == "Py_FinalizeEx");
        if stack.lines.iter().any(ends) {
            return Some("the interpreter let go of it at its own end (Py_FinalizeEx)".to_owned());
        }
        // A function that returns is gone from the stack when its locals go: only after the test are they pytest's.
        let allocated = signed.buffer.allocated.and_then(|moment| self.definitions.test(&moment));
        let over = allocated.is_some() && allocated != self.definitions.test(&signed.moment);
        let python = stack.lines.iter().find(|line| line.kind == LineKind::Python && line.function.is_some());
        let place = place(python.filter(|line| over && site::is_of_pytest(line))?);
        Some(format!("pytest let go of it, in {place}, when the test that allocated it was over"))
    }
}

/// What is said before the first of several.
fn example(signed: &Signed) -> &'static str {
    if signed.count > 1 { "e.g. " } else { "" }
}

fn device(buffer: &Buffer) -> String {
    names::device(buffer.device).unwrap_or_else(|| "its device".to_owned())
}

fn made_by(which: &str, searched: &Searched<'_>, known: Known) -> Option<String> {
    let (at, name) = searched.find(known)?;
    let stack = searched.stack;
    let caller = match stack.lines[at].kind {
        LineKind::Python => Some(place(&stack.lines[at])),
        _ => caller(stack, at),
    };
    let caller = caller.map(|caller| format!(", from {caller}")).unwrap_or_default();
    Some(format!("{which} is made by {name} (#{at}){caller}"))
}

/// The innermost Python function of the user's own from a line of a stack on, as far as the stack can tell.
fn caller(stack: &StackLines, from: usize) -> Option<String> {
    let own = |line: &&Rc<Line>| line.kind == LineKind::Python && line.function.is_some() && site::is_own(line);
    stack.lines.iter().skip(from).find(own).map(|line| place(line))
}

fn place(line: &Line) -> String {
    let function = line.function.as_deref().unwrap_or("?");
    let file = line.file.as_deref().map(|file| file.rsplit('/').next().unwrap_or(file));
    match (file, line.line) {
        (Some(file), Some(number)) => format!("{function} ({file}:{number})"),
        (Some(file), None) => format!("{function} ({file})"),
        (None, _) => function.to_owned(),
    }
}
