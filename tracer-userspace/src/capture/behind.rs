// SPDX-License-Identifier: Apache-2.0
//! Reads the file that is recorded, behind the recorder, as any reader will: what that comes to is the file's epilogue.

use std::{
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use rustix::process::setpriority_process;

use crate::{
    analysis::EpilogueFold,
    trace::{Follower, Identity, Look},
};

/// How often the file is looked at: seldom, so that there is something to read, and often enough that little is left at the end.
const LOOK: Duration = Duration::from_secs(5);
/// How long to wait for it at the end. A trace without an epilogue is whole, and read more slowly.
const PATIENCE: Duration = Duration::from_secs(10);
/// What this is worth to the scheduler: it has until the end of the recording, and the target needs the processor.
const NICE: i32 = 19;

/// A thread that reads the file.
#[derive(Debug)]
pub(super) struct Behind {
    /// Dropped when nothing is added to the file any more.
    grows: Sender<()>,
    epilogue: Receiver<(Identity, Vec<u8>)>,
}

impl Behind {
    /// Begins to read a file, if there is a thread for that.
    pub(super) fn begin(path: &Path) -> Option<Self> {
        let (grows, ended) = channel();
        let (sender, epilogue) = channel();
        let path = path.to_owned();
        let work = move || {
            // Where that is not allowed, it has the priority of all.
            let _ = setpriority_process(None, NICE);
            if let Some(read) = read(&path, &ended) {
                // Nobody listens if the recording failed, or could not wait.
                let _ = sender.send(read);
            }
        };
        thread::Builder::new().spawn(work).ok()?;
        Some(Self { grows, epilogue })
    }

    /// What the file comes to that has the path, and which one that is; `None` if it can't be read, or that takes too long.
    /// Nothing may be added to it any more.
    pub(super) fn end(self) -> Option<(Identity, Vec<u8>)> {
        drop(self.grows);
        self.epilogue.recv_timeout(PATIENCE).ok()
    }
}

fn read(path: &Path, ended: &Receiver<()>) -> Option<(Identity, Vec<u8>)> {
    let mut follower = Follower::open(path).ok()?;
    let mut fold = EpilogueFold::default();
    loop {
        let is_last = ended.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
        if follower.look().ok()? == Look::Replaced {
            fold = EpilogueFold::default();
        }
        fold.read(&mut follower);
        if follower.damage().is_some() {
            return None;
        }
        if is_last {
            return Some((follower.identity(), fold.finish()?.to_bytes()));
        }
    }
}
