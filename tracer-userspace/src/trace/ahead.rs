// SPDX-License-Identifier: Apache-2.0
//! Reads the chunks of a file ahead, in threads: one reads the file, others decode, each every so many chunks.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread, vec,
};

use super::{
    Damage,
    chunk::Decoder,
    columns::Scratch,
    reader::{Body, Chunks},
};

/// Chunks that wait for a thread, at each border between two: memory stays small, and nobody waits for long.
const WAITING: usize = 1;
/// More threads that decode would wait for what follows.
const MOST: usize = 4;

/// Chunks that a thread is given at once, where what is made of one is small: to wake a thread costs more than that.
pub(super) const AT_ONCE: usize = 16;

/// What became of the next chunk; `None` at the end of the file.
pub(super) type Next<T> = Result<Option<T>, Damage>;

/// What was made of some, with the offset of each.
type Made<T> = Vec<Next<(u64, T)>>;

/// What is made of chunks, ahead of who asks for it.
pub struct Ahead<T = Decoder> {
    made: Vec<Receiver<Made<T>>>,
    /// Whose turn it is.
    turn: usize,
    /// What came from the one before.
    come: vec::IntoIter<Next<(u64, T)>>,
    /// Offset of the latest chunk.
    at: u64,
    ended: bool,
}

impl<T: Send + 'static> Ahead<T> {
    /// Makes something of each chunk, in threads that get so many at once.
    pub(super) fn new<B, F>(mut next: B, at_once: usize, make: F) -> Self
    where
        B: FnMut() -> Next<Body> + Send + 'static,
        F: Fn(&Body, &mut Scratch) -> Result<T, Damage> + Clone + Send + 'static,
    {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // Who takes little of each chunk has little to do with it.
        let others = if at_once > 1 { cores } else { cores - 1 };
        let mut senders = Vec::new();
        let mut made = Vec::new();
        for _ in 0..others.clamp(1, MOST) {
            let (sender, receiver) = sync_channel(WAITING);
            let (result, results) = sync_channel(WAITING);
            let make = make.clone();
            thread::spawn(move || work(&receiver, &make, &result));
            senders.push(sender);
            made.push(results);
        }
        thread::spawn(move || {
            for sender in senders.iter().cycle() {
                let mut some = vec![next()];
                while some.len() < at_once && is_one(some.last()) {
                    some.push(next());
                }
                let last = !is_one(some.last());
                // Where nobody listens any more, reading was given up.
                if sender.send(some).is_err() || last {
                    return;
                }
            }
        });
        Self { made, turn: 0, come: Vec::new().into_iter(), at: 0, ended: false }
    }

    /// What was made of the next chunk.
    pub(super) fn next(&mut self) -> Next<T> {
        if self.ended {
            return Ok(None);
        }
        let next = match self.come.next() {
            Some(next) => next,
            None => self.receive()?,
        };
        match &next {
            Ok(Some((at, _))) => self.at = *at,
            Ok(None) | Err(_) => self.ended = true,
        }
        next.map(|next| next.map(|(_, made)| made))
    }

    fn receive(&mut self) -> Result<Next<(u64, T)>, Damage> {
        let come = self.made[self.turn].recv().ok();
        self.turn = (self.turn + 1) % self.made.len();
        self.come = come.unwrap_or_default().into_iter();
        let what = "a thread that reads what comes behind has failed";
        self.come.next().ok_or_else(|| Damage { at: self.at, what: what.to_owned() })
    }
}

impl Chunks for Ahead {
    fn next(&mut self) -> Next<Decoder> {
        Self::next(self)
    }
}

fn is_one(next: Option<&Next<Body>>) -> bool {
    matches!(next, Some(Ok(Some(_))))
}

/// Until there is no more to do, or nobody to do it for.
fn work<T>(
    bodies: &Receiver<Vec<Next<Body>>>,
    make: &impl Fn(&Body, &mut Scratch) -> Result<T, Damage>,
    made: &SyncSender<Made<T>>,
) {
    let mut scratch = Scratch::default();
    let mut make = |body: Body| Ok((body.at, make(&body, &mut scratch)?));
    for some in bodies {
        let some = some.into_iter().map(|next| next.and_then(|body| body.map(&mut make).transpose()));
        if made.send(some.collect()).is_err() {
            return;
        }
    }
}
