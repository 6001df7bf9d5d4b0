// SPDX-License-Identifier: Apache-2.0
//! Puts Python frames where they belong among the native ones.
//!
//! Each call of the interpreter's evaluator runs a piece of the Python stack: one frame in 3.10, later all frames up to
//! one that C code has called. So the pieces and the native frames of the evaluator pair up, from the innermost on.

use tracer_common::PythonFrame;

use crate::discover::python::Entry;

/// A native frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Native {
    /// Its number.
    pub frame: u32,
    /// Whether it is one of the evaluator's.
    pub evaluator: bool,
}

/// A native and a Python stack in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Every frame of both, innermost first; Python frames come before the evaluator's frame that runs them.
    pub frames: Vec<u32>,
    /// Whether each evaluator's frame had its piece. If not, Python frames may stand in the wrong place.
    pub certain: bool,
}

/// Cuts a Python stack into the pieces that one call of the evaluator runs, innermost first. What stands for C code is
/// left out, so that a piece can be empty: the evaluator is about to return then.
#[must_use]
pub fn pieces(frames: &[PythonFrame], entry: Entry) -> Vec<Vec<PythonFrame>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    for frame in frames {
        let ends = match entry {
            Entry::Every => true,
            Entry::Flag(mark) | Entry::Shim(mark) => frame.mark() == mark,
        };
        if !(ends && matches!(entry, Entry::Shim(_))) {
            piece.push(*frame);
        }
        if ends {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// Merges. Frames of pieces for which there is no evaluator's frame come behind the last one.
#[must_use]
pub fn merge(native: &[Native], pieces: Vec<Vec<u32>>) -> Merged {
    let evaluators = native.iter().filter(|native| native.evaluator).count();
    let certain = evaluators == pieces.len();
    let mut frames = Vec::with_capacity(native.len() + pieces.iter().map(Vec::len).sum::<usize>());
    let mut pieces = pieces.into_iter();
    let mut left = evaluators;
    for native in native {
        if native.evaluator {
            frames.extend(pieces.next().unwrap_or_default());
            left -= 1;
        }
        frames.push(native.frame);
        if native.evaluator && left == 0 {
            frames.extend(pieces.by_ref().flatten());
        }
    }
    frames.extend(pieces.flatten());
    Merged { frames, certain }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `e` is an evaluator's frame, `n` another; numbered from 1.
    fn native(text: &str) -> Vec<Native> {
        (1..).zip(text.chars()).map(|(frame, kind)| Native { frame, evaluator: kind == 'e' }).collect()
    }

    fn python(marks: &[u32]) -> Vec<PythonFrame> {
        (100..).zip(marks).map(|(code, &mark)| PythonFrame { code, mark, ..PythonFrame::default() }).collect()
    }

    fn cut(marks: &[u32], entry: Entry) -> Vec<Vec<u64>> {
        let pieces = pieces(&python(marks), entry);
        pieces.iter().map(|piece| piece.iter().map(|frame| frame.code).collect()).collect()
    }

    #[test]
    fn a_stack_is_cut_where_c_called_python() {
        assert_eq!(cut(&[0, 0, 0], Entry::Every), [[100], [101], [102]]);
        assert_eq!(cut(&[0, 1, 0, 0, 1], Entry::Flag(1)), [vec![100, 101], vec![102, 103, 104]]);
        // A shim is left out, and may have nothing above it.
        assert_eq!(cut(&[3, 0, 0, 3, 1, 3], Entry::Shim(3)), [vec![], vec![101, 102], vec![104]]);
        // A stack that was not captured to its end keeps what there is.
        assert_eq!(cut(&[0, 3, 0], Entry::Shim(3)), [[100], [102]]);
        assert_eq!(cut(&[], Entry::Every), Vec::<Vec<u64>>::new());
    }

    #[test]
    fn each_piece_stands_before_the_call_that_runs_it() {
        let merged = merge(&native("nenen"), vec![vec![10, 11], vec![12]]);
        assert_eq!(merged, Merged { frames: vec![1, 10, 11, 2, 3, 12, 4, 5], certain: true });
        let merged = merge(&native("nn"), Vec::new());
        assert_eq!(merged, Merged { frames: vec![1, 2], certain: true });
    }

    #[test]
    fn what_does_not_pair_up_keeps_every_frame_and_says_so() {
        let merged = merge(&native("nen"), vec![vec![10], vec![11], vec![12]]);
        assert_eq!(merged, Merged { frames: vec![1, 10, 2, 11, 12, 3], certain: false });
        let merged = merge(&native("enen"), vec![vec![10]]);
        assert_eq!(merged, Merged { frames: vec![10, 1, 2, 3, 4], certain: false });
        let merged = merge(&native("n"), vec![vec![10]]);
        assert_eq!(merged, Merged { frames: vec![1, 10], certain: false });
        let merged = merge(&[], vec![vec![10]]);
        assert_eq!(merged, Merged { frames: vec![10], certain: false });
    }
}
