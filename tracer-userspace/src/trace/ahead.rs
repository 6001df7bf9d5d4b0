// SPDX-License-Identifier: Apache-2.0
//! Reads the chunks of a file ahead, in threads: one reads the file, others decode, each every so many chunks.

use std::{
    io::Read,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::{
    Damage,
    chunk::{Decoder, Scratch, Want},
    reader::{Bodies, Body, Chunks},
};

/// Chunks that wait for a thread, at each border between two: memory stays small, and nobody waits for long.
const WAITING: usize = 1;
/// More threads that decode would wait for what follows.
const MOST: usize = 4;

/// What became of the next chunk; `None` at the end of the file.
type Next<T> = Result<Option<T>, Damage>;

/// Chunks that are read ahead.
pub struct Ahead {
    decoded: Vec<Receiver<Next<Decoder>>>,
    /// Whose turn it is.
    turn: usize,
    /// Offset of the latest chunk.
    at: u64,
    ended: bool,
}

impl Ahead {
    pub(super) fn new<R: Read + Send + 'static>(mut bodies: Bodies<R>, want: Want) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut senders = Vec::new();
        let mut decoded = Vec::new();
        for _ in 0..(cores - 1).clamp(1, MOST) {
            let (sender, receiver) = sync_channel(WAITING);
            let (result, results) = sync_channel(WAITING);
            thread::spawn(move || decode(&receiver, want, &result));
            senders.push(sender);
            decoded.push(results);
        }
        thread::spawn(move || {
            for sender in senders.iter().cycle() {
                let body = bodies.next();
                let last = !matches!(body, Ok(Some(_)));
                // Where nobody listens any more, reading was given up.
                if sender.send(body).is_err() || last {
                    return;
                }
            }
        });
        Self { decoded, turn: 0, at: 0, ended: false }
    }
}

impl Chunks for Ahead {
    fn next(&mut self) -> Next<Decoder> {
        if self.ended {
            return Ok(None);
        }
        let failed = || Damage { at: self.at, what: "a thread that reads what comes behind has failed".to_owned() };
        let next = self.decoded[self.turn].recv().map_err(|_| failed())?;
        self.turn = (self.turn + 1) % self.decoded.len();
        match &next {
            Ok(Some(chunk)) => self.at = chunk.at,
            Ok(None) | Err(_) => self.ended = true,
        }
        next
    }
}

/// Until there is no more to do, or nobody to do it for.
fn decode(bodies: &Receiver<Next<Body>>, want: Want, decoded: &SyncSender<Next<Decoder>>) {
    let mut scratch = Scratch::default();
    for body in bodies {
        let next = body.and_then(|body| body.map(|body| body.decode(want, &mut scratch)).transpose());
        if decoded.send(next).is_err() {
            return;
        }
    }
}
