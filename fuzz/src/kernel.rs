// SPDX-License-Identifier: Apache-2.0
//! What the kernel side sends, which has read it in the target's memory.

use buftrace::{
    capture::{
        decode::Sent,
        merge::{Native, merge, pieces},
    },
    discover::python::Entry,
};

/// Records, each behind its length in two bytes.
pub(crate) fn kernel(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((&[low, high], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(after.len());
        let (record, next) = after.split_at(length);
        rest = next;
        match Sent::decode(record) {
            Some(Sent::Native(stack)) => assert!(stack.frames.len() * 8 <= record.len(), "frames out of nothing"),
            Some(Sent::Python(stack)) => {
                for entry in [Entry::Every, Entry::Flag(1), Entry::Shim(3)] {
                    python(&pieces(&stack.frames, entry), record);
                }
            }
            Some(Sent::Copy(copy)) => assert_eq!(copy.stack().bytes.len(), copy.bytes.len()),
            Some(Sent::Text { text, .. }) => assert!(text.len() <= record.len(), "a text out of nothing"),
            Some(Sent::Hit(_)) | None => {}
        }
    }
}

/// That no frame is dropped or made up, with evaluators among the native ones wherever the record has an odd byte.
fn python<F>(pieces: &[Vec<F>], record: &[u8]) {
    let native: Vec<Native> =
        record.iter().take(64).map(|byte| Native { frame: 1, evaluator: byte % 2 == 1 }).collect();
    let numbers: Vec<Vec<u32>> = pieces.iter().map(|piece| vec![2; piece.len()]).collect();
    let frames: usize = numbers.iter().map(Vec::len).sum();
    assert_eq!(merge(&native, numbers).frames.len(), native.len() + frames);
}
