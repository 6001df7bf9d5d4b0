// SPDX-License-Identifier: Apache-2.0
//! The end of a recording: no hit comes any more, the file gets what is known only then, and all probes are taken out.

use std::time::Duration;

use anyhow::Result;
use tracer_common::{Counter, Kind};

use super::Recording;
use crate::{
    capture::{
        behind::Behind,
        clock::boot_now,
        followed::Stage,
        session::{Reason, Summary},
    },
    trace::{self, HITS, kind_word},
};

/// How long to wait for names at the end.
const PATIENCE: Duration = Duration::from_secs(60);

impl Recording<'_> {
    /// Says in the file, as far as it can still be written, why the recording goes no further.
    pub(in crate::capture) fn fail(mut self, error: &anyhow::Error) {
        self.recorder.record(trace::Problem { text: format!("the recording failed: {error:#}") });
        // Where not even that can be asked, there is a gap all the same.
        self.recorder.fail(self.kernel.counter(Counter::Sent).unwrap_or(0));
        let time = self.recorder.time(boot_now());
        for pid in self.recorded() {
            if let Some(link) = self.processes.get(&pid).and_then(|process| process.stage.link()) {
                self.recorder.record(trace::End { process: link.number, time, reason: Reason::Failed.name().into() });
            }
        }
        // The user is told of the first error; a second one adds nothing.
        let _ = self.recorder.flush();
    }

    /// Writes the rest, and takes all probes out. `None` if nothing was recorded.
    pub(in crate::capture) fn end(mut self, reason: Reason) -> Result<Option<Summary>> {
        let seconds = self.began.elapsed().as_secs_f64();
        let unrecorded = self.unrecorded()?;
        let ended = self.have_ended();
        for pid in self.recorded() {
            self.kernel.remove_target(pid)?;
        }
        self.kernel.stop()?;
        self.kernel.wait_for_hits()?;
        let mut probes = self.sites.end();
        for process in self.processes.values_mut() {
            if let Stage::Recorded(recorded) = &mut process.stage {
                probes.extend(recorded.take_probes());
            }
        }
        self.detached = true;
        // Nothing is added any more.
        self.drain(usize::MAX, Duration::MAX)?;
        for (pid, serial) in ended {
            self.ended(pid, serial)?;
        }
        if !self.recorder.has_begun() {
            self.kernel.detach(probes);
            return Ok(None);
        }
        for pid in self.recorded() {
            self.recorder.end(pid, reason);
        }
        let sent = self.kernel.counter(Counter::Sent)?;
        let Self { mut kernel, mut recorder, behind, .. } = self;
        recorder.finish(sent, PATIENCE)?;
        // What hits told of processes that are not recorded is no event.
        let sent = sent - recorder.others();
        for counter in Counter::ALL {
            let value = match counter {
                Counter::Sent => sent,
                Counter::Unrecorded => unrecorded,
                _ => kernel.counter(counter)?,
            };
            recorder.record(trace::CounterValue { name: counter.name().into(), value });
        }
        for kind in Kind::ALL {
            let sites = recorder.sites().iter().filter(|site| site.kind == kind).map(|site| site.site);
            let hits: Vec<u64> = sites.map(|site| kernel.site_hits(site)).collect::<Result<_>>()?;
            if !hits.is_empty() {
                let name = format!("{HITS}{}", kind_word(kind)).into();
                recorder.record(trace::CounterValue { name, value: hits.iter().sum() });
            }
        }
        let compared = recorder.compared();
        if compared.stacks > 0 {
            for (name, value) in [("compared", compared.stacks), ("different", compared.different)] {
                recorder.record(trace::CounterValue { name: name.into(), value });
            }
        }
        let mut problems = Vec::new();
        if compared.different > 0 {
            problems.push(format!(
                "{} of {} stacks came out different when walked in both ways: please report this with the library's build id",
                compared.different, compared.stacks
            ));
        }
        let not_followed = kernel.counter(Counter::NotFollowed)?;
        if not_followed > 0 {
            problems.push(format!("{not_followed} child processes are not recorded: there were too many processes"));
        }
        if unrecorded > 0 {
            problems.push(format!(
                "of processes that used TT-Metal, {unrecorded} {} not recorded: they ended, or the recording did, before their \
                 probes were on",
                if unrecorded == 1 { "is" } else { "are" }
            ));
        }
        recorder.problems(problems);
        let kept = recorder.tally.events;
        recorder.record(trace::CounterValue { name: "kept".into(), value: kept });
        recorder.flush()?;
        if let Some((made_from, epilogue)) = behind.and_then(Behind::end) {
            // What is derived may be missing: the recording did not fail.
            let _ = recorder.epilogue(made_from, &epilogue);
        }
        // Last, as it takes its time: the file is whole by now.
        kernel.detach(probes);
        let (lost, dropped, bytes) = (recorder.lost(), recorder.dropped(), recorder.bytes());
        let processes = recorder.count();
        let never_came = kernel.counter(Counter::RingFull)? + recorder.unplaced();
        let adds_up = sent == kept + lost && lost == never_came;
        Ok(Some(Summary { seconds, processes, tally: recorder.tally, lost, dropped, bytes, adds_up, compared }))
    }
}
