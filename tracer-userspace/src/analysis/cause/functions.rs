// SPDX-License-Identifier: Apache-2.0
//! Where on a stack the functions are that are known to free on behalf of somebody else. Each name is taken apart once.

use foldhash::HashMap;

use super::frames::{self, Matcher};
use crate::model::{Line, LineKind, StackLines};

/// A kind of such functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    ProgramCache,
    ProgramCacheEntry,
    Cache,
    ProgramPool,
    Container,
}

/// Of each function that was seen so far, native and Python apart: whether it is of each kind.
#[derive(Debug, Default)]
pub(in crate::analysis) struct Functions {
    native: HashMap<String, Kinds>,
    python: HashMap<String, Kinds>,
}

type Kinds = [bool; Known::ALL.len()];

/// A stack, and which of its lines is the innermost of each kind.
#[derive(Clone, Copy, Debug)]
pub(in crate::analysis) struct Searched<'a> {
    pub(super) stack: &'a StackLines,
    innermost: [Option<usize>; Known::ALL.len()],
}

impl Known {
    const ALL: [Self; 5] =
        [Self::ProgramCache, Self::ProgramCacheEntry, Self::Cache, Self::ProgramPool, Self::Container];

    /// Tells by the kind of a line and its function alone.
    fn matcher(self) -> Matcher {
        match self {
            Self::ProgramCache => frames::program_cache,
            Self::ProgramCacheEntry => frames::program_cache_entry,
            Self::Cache => frames::cache,
            Self::ProgramPool => frames::program_pool,
            Self::Container => frames::container,
        }
    }
}

impl Functions {
    /// Looks for them in a stack.
    pub(in crate::analysis) fn in_stack<'a>(&mut self, stack: &'a StackLines) -> Searched<'a> {
        let mut innermost = [None; Known::ALL.len()];
        for (at, line) in stack.lines.iter().enumerate() {
            for (first, is) in innermost.iter_mut().zip(self.kinds(line)) {
                *first = first.or(is.then_some(at));
            }
        }
        Searched { stack, innermost }
    }

    fn kinds(&mut self, line: &Line) -> Kinds {
        let known = match line.kind {
            LineKind::Native => &mut self.native,
            LineKind::Python => &mut self.python,
            LineKind::Interpreter => return Kinds::default(),
        };
        let Some(function) = &line.function else { return Kinds::default() };
        if let Some(kinds) = known.get(function) {
            return *kinds;
        }
        let kinds = Known::ALL.map(|kind| kind.matcher()(line).is_some());
        known.insert(function.clone(), kinds);
        kinds
    }
}

impl Searched<'_> {
    /// The innermost function of a kind: its line, and how it is told.
    pub(super) fn find(&self, known: Known) -> Option<(usize, String)> {
        let at = self.innermost[known as usize]?;
        Some((at, known.matcher()(&self.stack.lines[at])?))
    }
}
