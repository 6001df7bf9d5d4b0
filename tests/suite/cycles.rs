// SPDX-License-Identifier: Apache-2.0
//! A target that is traced again and again: it ends as if it never had been. `cargo xtask soak --cycles N` does it N times.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Instant,
};

use anyhow::Result;
use buftrace::trace::Item;

use crate::{
    left::{Held, assert_unprobed},
    target::{Target, lookalike},
    tool::{Recorder, can_probe, items, number, path},
};

/// Recorders at the same time, each in another phase.
const AT_ONCE: usize = 4;

#[test]
fn attach_and_detach_leave_nothing_behind() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let untraced = lookalike("pimpl", &["busy.py"]).output()?;
    let target = Target::start(lookalike("pimpl", &["busy.py"]))?;
    target.go()?;
    let (cycles, begin, next) = (number("BUFTRACE_CYCLES", 12), Instant::now(), AtomicU32::new(0));
    let traces: Vec<PathBuf> = (0..AT_ONCE).map(|worker| target.path(&format!("{worker}.ttb"))).collect();
    let (mut held, mut events) = (Held::default(), 0);
    let cycle = || next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| (it < cycles).then_some(it + 1));
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> =
            traces.iter().map(|trace| scope.spawn(|| attach_and_detach(&target, trace, cycle))).collect();
        for worker in workers {
            let (its_held, its_events) = worker.join().expect("a worker does not panic")?;
            held.extend(its_held);
            events += its_events;
        }
        Ok(())
    })?;
    eprintln!("{cycles} cycles in {:.0?}: {events} events, {} BPF objects", begin.elapsed(), held.count());
    assert!(events > 0 && held.count() > 0);
    held.assert_gone();
    assert_unprobed(&traces[0], target.pid)?;
    fs::remove_file(target.path("ready"))?;
    let traced = target.finish()?.output;
    assert_eq!((untraced.status.code(), traced.status.code()), (Some(7), Some(7)));
    assert_eq!(String::from_utf8_lossy(&traced.stdout), String::from_utf8_lossy(&untraced.stdout));
    Ok(())
}

/// Records for a moment, as often as there are cycles left: what the recorders had, and how many events they saw.
fn attach_and_detach(target: &Target, trace: &Path, next: impl Fn() -> Result<u32, u32>) -> Result<(Held, usize)> {
    let (mut held, mut events) = (Held::default(), 0);
    while let Ok(cycle) = next() {
        // Some probe the children as well, and whoever else runs the library. There are more than can be kept up with.
        let (children, none_lost) =
            if cycle % 10 == 3 { ("--follow-forks", "") } else { ("--no-follow-forks", " 0 lost") };
        let recorder = Recorder::attach(&["-p", &target.pid(), "-o", path(trace), children])?;
        held.add(recorder.pid())?;
        recorder.signal("-INT")?;
        let (status, said) = recorder.finish()?;
        let adds_up = !said.contains("please report");
        assert!(status.success() && adds_up && said.contains(none_lost), "cycle {cycle}: {status}: {said}");
        events += items(trace)?.iter().filter(|item| matches!(item, Item::Event(_))).count();
    }
    Ok((held, events))
}
