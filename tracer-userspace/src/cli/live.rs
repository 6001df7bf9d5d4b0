// SPDX-License-Identifier: Apache-2.0
//! The command `live`: a recording and the view of its trace, or the view alone.

mod watch;

use std::{
    env, fs,
    io::{IsTerminal as _, stdout},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::SIGHUP;

use super::{Status, args, record};
use crate::{
    capture::{
        kernel,
        session::{self, Ending, Options, Progress, Target},
    },
    discover::{container, symbols::ProbeSet},
    live::Phase,
    trace::Follower,
    view::command,
};
use watch::{News, Watch};

/// Bytes between kernel and recorder, as `record` has them.
const RING: u32 = 32 << 20;

pub(super) fn live(args: args::Live) -> Result<Status> {
    ensure!(stdout().is_terminal(), "`live` needs a terminal; `record`, and then `report`, go without");
    match args.trace {
        Some(path) => follow(&path),
        None => record_and_follow(args),
    }
}

fn follow(path: &Path) -> Result<Status> {
    let follower = Follower::open(path).with_context(|| format!("failed to read {}", path.display()))?;
    Watch::new(Phase::Following)?.following(follower).run()?;
    Ok(Status::Done)
}

fn record_and_follow(args: args::Live) -> Result<Status> {
    record::check_machine()?;
    let pids = args.pid.iter().map(|&pid| container::resolve(pid, args.inside)).collect::<Result<Vec<_>>>()?;
    let keep = args.output.is_some();
    let options = Options {
        target: Target::Pids(pids),
        output: args.output.map_or_else(temporary, Ok)?,
        max_size: None,
        probes: ProbeSet::Owners,
        follow: args.follow_forks,
        kernel: kernel::Options { ring_bytes: RING, verbose: false, remember: true },
        copies: false,
        epilogue: keep,
    };
    let (tell, news) = channel();
    let (mut news, mut view) = (Some(news), None);
    let hung_up = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&hung_up)).context("failed to watch for signals")?;
    let result = session::record(&options, &mut |progress| {
        // By now all privileges are given up that are not needed: there may be threads.
        if let Some(news) = news.take() {
            let path = options.output.clone();
            view = Some(thread::spawn(move || show(news, path, keep)));
        }
        // Who has left the view has stopped the recording as well.
        let _ = News::of(&progress).map(|news| tell.send(news));
    });
    let _ = tell.send(News::Over(how_it_ended(&result)));
    if !keep {
        // It is gone already, but where the view could not open it.
        let _ = fs::remove_file(&options.output);
    }
    if hung_up.load(Ordering::Relaxed) {
        // There is nobody to be told, and the view may wait for ever for a key of a terminal that is gone.
        return result.map(|ending| record::status(&ending));
    }
    let shown = view.map(|view| view.join().unwrap_or_else(|_| Err(anyhow!("the view failed"))));
    let ending = result?;
    record::summarize(&ending, keep.then_some(&options.output));
    shown.transpose()?;
    Ok(record::status(&ending))
}

/// Shows a recording of this process. However this ends, the recording does not go on unseen.
fn show(news: Receiver<News>, path: PathBuf, keep: bool) -> Result<()> {
    let _stop = StopOnDrop;
    Watch::new(Phase::Waiting("probes are being attached".to_owned()))?.recording(news, path, keep).run()
}

/// What Ctrl-C is to `record`.
fn stop_recording() {
    // It is told to this process, which is there.
    let _ = kill_process(getpid(), Signal::INT);
}

struct StopOnDrop;

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        stop_recording();
    }
}

fn how_it_ended(result: &Result<Ending>) -> String {
    match result {
        Ok(ending) if ending.summary.is_some() => record::how_it_ended(ending),
        Ok(_) => "nothing was recorded: TT-Metal was not loaded".to_owned(),
        Err(error) => format!("the recording failed: {error:#}"),
    }
}

/// A path that nobody has. The recorder makes the file, as whoever it is by then.
fn temporary() -> Result<PathBuf> {
    let mut number = [0; 8];
    let filled = rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty());
    ensure!(filled == Ok(number.len()), "failed to get random bytes");
    Ok(env::temp_dir().join(format!("tt-buftrace-{:016x}.ttb", u64::from_ne_bytes(number))))
}

impl News {
    fn of(progress: &Progress<'_>) -> Option<Self> {
        match progress {
            Progress::Waiting(process) => {
                let process = format!("process {} ({})", process.pid, command(&process.command));
                Some(Self::Waiting(format!("{process} has not loaded TT-Metal yet")))
            }
            Progress::Attached(_) => Some(Self::Begun),
            Progress::Problem(problem) => Some(Self::Problem((*problem).to_owned())),
            // Of a command, or of processes that are selected, which `live` has none of.
            Progress::Selecting(_) | Progress::Interrupted | Progress::Tick(_) => None,
        }
    }
}
