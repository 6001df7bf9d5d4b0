// SPDX-License-Identifier: Apache-2.0
//! The sites of a model's stacks: each name is reduced once, and stacks that come to the same share one site.

use std::rc::Rc;

use foldhash::HashMap;

use super::{
    Site,
    site::{Mark, is_whole},
};
use crate::model::{Definitions, Extent, StackLines};

/// The sites of a model's stacks, each worked out once.
#[derive(Debug)]
pub struct Sites<'a> {
    definitions: &'a Definitions,
    known: KnownSites,
}

/// The same while definitions still come.
#[derive(Debug, Default)]
pub struct KnownSites {
    stacks: HashMap<u32, Rc<Site>>,
    frames: HashMap<u32, FrameMarks>,
    marks: Vec<Rc<Mark>>,
    numbers: HashMap<Rc<Mark>, usize>,
    /// By the numbers of their marks, without repetition, and whether the stack is whole.
    alike: HashMap<(Vec<usize>, bool), Rc<Site>>,
}

/// What a frame brings to a site.
#[derive(Debug)]
struct FrameMarks {
    /// Numbers of its marks: most frames have one line, and many have none that counts.
    marks: Vec<usize>,
    extent: Extent,
}

impl<'a> Sites<'a> {
    /// Begins with what they are worked out from.
    #[must_use]
    pub fn new(definitions: &'a Definitions) -> Self {
        Self { definitions, known: KnownSites::default() }
    }

    /// What they are worked out from.
    pub(super) fn definitions(&self) -> &'a Definitions {
        self.definitions
    }

    /// The site of a stack number; 0 stands for no stack.
    pub fn get(&mut self, stack: u32) -> &Rc<Site> {
        self.known.get(stack, self.definitions)
    }
}

impl KnownSites {
    /// The site of a stack number.
    pub fn get(&mut self, stack: u32, definitions: &Definitions) -> &Rc<Site> {
        if !self.stacks.contains_key(&stack) {
            let site = self.work_out(stack, definitions);
            self.stacks.insert(stack, site);
        }
        &self.stacks[&stack]
    }

    /// Has those worked out again that names may change, because more of them are known by now.
    pub fn forget_inexact(&mut self) {
        self.stacks.retain(|_, site| site.exact);
        self.frames.clear();
    }

    fn work_out(&mut self, number: u32, definitions: &Definitions) -> Rc<Site> {
        let Some(stack) = definitions.frames(number) else { return Rc::new(Site::without_stack()) };
        let (mut numbers, mut extent, mut end) = (Vec::new(), Extent::default(), stack.end.as_str());
        for &frame in &stack.frames {
            if extent.is_full() {
                end = StackLines::TOO_MANY;
                break;
            }
            let frame = self.frame(frame, definitions);
            numbers.extend_from_slice(&frame.marks);
            extent.add(frame.extent);
        }
        numbers.dedup();
        let whole = is_whole(end, stack.python.as_str());
        let marks = &self.marks;
        let site = self.alike.entry((numbers, whole)).or_insert_with_key(|(numbers, whole)| {
            Rc::new(Site::new(&numbers.iter().map(|&number| &*marks[number]).collect::<Vec<_>>(), *whole))
        });
        Rc::clone(site)
    }

    fn frame(&mut self, number: u32, definitions: &Definitions) -> &FrameMarks {
        let Self { frames, marks, numbers, .. } = self;
        frames.entry(number).or_insert_with(|| {
            let lines = definitions.lines(number);
            let number = |mark| {
                let mark = Rc::new(mark);
                *numbers.entry(Rc::clone(&mark)).or_insert_with(|| {
                    marks.push(mark);
                    marks.len() - 1
                })
            };
            FrameMarks { marks: lines.iter().filter_map(Mark::of).map(number).collect(), extent: Extent::of(&lines) }
        })
    }
}
