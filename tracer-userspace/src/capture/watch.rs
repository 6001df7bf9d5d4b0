// SPDX-License-Identifier: Apache-2.0
//! The probe that tells when a Python code object is freed, so that the others need not be looked at again at each hit.
//!
//! It is taken out where it would cost the target more than it saves: in a program that makes and drops code all the time.

use anyhow::Result;
use tracer_common::PythonLayout;

use super::kernel::{Kernel, ProbeId};

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
    probe: Option<ProbeId>,
    freed: u64,
}

impl CodeWatch {
    /// Tells the kernel side of the interpreter, and whether its code objects are watched.
    pub(super) fn begin(
        kernel: &mut Kernel,
        tgid: u32,
        target: u32,
        layout: PythonLayout,
        probe: Option<ProbeId>,
    ) -> Result<Self> {
        let layout = PythonLayout { codes_watched: u32::from(probe.is_some()), ..layout };
        kernel.add_python(tgid, layout)?;
        Ok(Self { tgid, target, layout, probe, freed: 0 })
    }

    /// The probe, to be taken out.
    pub(super) fn end(self) -> Option<ProbeId> {
        self.probe
    }

    /// To be called once a second. What the user must know if the probe was taken out now.
    pub(super) fn look(&mut self, kernel: &mut Kernel) -> Result<Option<String>> {
        let mut problem = None;
        let freed = kernel.codes_freed(self.target)?;
        if freed - self.freed > MOST_FREED
            && let Some(probe) = self.probe.take()
        {
            // First nobody relies on it any more.
            kernel.add_python(self.tgid, PythonLayout { codes_watched: 0, ..self.layout })?;
            kernel.detach_one(&probe);
            problem = Some(format!(
                "the target freed {} Python code objects within a second, too many to watch: where new code came to be at \
                 the address of old code, lines of Python may be those of the old one from here on",
                freed - self.freed
            ));
        }
        self.freed = freed;
        Ok(problem)
    }
}
