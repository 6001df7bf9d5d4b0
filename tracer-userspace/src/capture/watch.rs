// SPDX-License-Identifier: Apache-2.0
//! The probe that tells when a Python code object is freed, so that the others need not be looked at again at each hit.
//!
//! It is taken out where it would cost the target more than it saves: in a program that makes and drops code all the time.

use std::time::Duration;

use anyhow::Result;
use aya::programs::uprobe::UProbeLink;
use tracer_common::PythonLayout;

use super::kernel::{self, Kernel};

/// Code objects that may be freed between two looks, which are a second apart: a hit costs the target a microsecond, or
/// some fifteen where the kernel must single-step the instruction.
const MOST_FREED: u64 = 1000;

/// The probe in one target.
pub(super) struct CodeWatch {
    /// The target's process.
    tgid: u32,
    /// The target's number.
    target: u32,
    /// What the kernel side knows of the interpreter.
    layout: PythonLayout,
    /// None if it is not there, or taken out.
    probe: Option<UProbeLink>,
    freed: u64,
    /// What the user must know if the process goes on.
    problem: Option<String>,
}

impl CodeWatch {
    /// Tells the kernel side of the interpreter, and whether its code objects are watched.
    pub(super) fn begin(
        kernel: &mut Kernel,
        tgid: u32,
        target: u32,
        layout: PythonLayout,
        probe: Option<UProbeLink>,
    ) -> Result<Self> {
        let layout = PythonLayout { codes_watched: u32::from(probe.is_some()), ..layout };
        kernel.add_python(tgid, layout)?;
        Ok(Self { tgid, target, layout, probe, freed: 0, problem: None })
    }

    /// The probe, to be taken out.
    pub(super) fn end(self) -> Option<UProbeLink> {
        self.probe
    }

    /// To be called once a second, as long as the process lives, with the time. What the user must know, the second after the
    /// probe was taken out: an interpreter that ends frees all its code, too, but makes none.
    pub(super) fn look(&mut self, kernel: &mut Kernel, time: Duration) -> Result<Option<String>> {
        let problem = self.problem.take();
        let freed = kernel.codes_freed(self.target)?;
        if freed - self.freed > MOST_FREED
            && let Some(probe) = self.probe.take()
        {
            // First nobody relies on it any more.
            kernel.add_python(self.tgid, PythonLayout { codes_watched: 0, ..self.layout })?;
            kernel::detach_later(vec![probe]);
            self.problem = Some(format!(
                "process {} freed {} Python code objects within a second, too many to watch: from {:.3} s on, where new code \
                 came to be at the address of old code of the same shape, lines may be those of the old one",
                self.tgid,
                freed - self.freed,
                time.as_secs_f64()
            ));
        }
        self.freed = freed;
        Ok(problem)
    }
}
