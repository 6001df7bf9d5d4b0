// SPDX-License-Identifier: Apache-2.0
//! The probe that tells when a Python code object is freed, so that the others need not be looked at again at each hit.
//!
//! It is out while it would cost the target more than it saves: when a program makes and drops code all the time, as it does
//! where it imports much. A hit takes longer then, and a new code object is taken for the one that was at its address if that had
//! its name, its file, its shape, and a line table of the same length that ends alike.

use std::mem;

use anyhow::Result;
use aya::programs::uprobe::UProbeLink;
use tracer_common::{GENERATIONS, NOT_WATCHED, PythonLayout};

use super::kernel::Kernel;

/// Code objects that may be freed between two looks, which are a second apart: a hit costs the target a microsecond, or
/// some fifteen where the kernel must single-step the instruction.
const MOST_FREED: u64 = 1000;
/// Most seconds that the probe is out before it is tried again.
const LONGEST_PAUSE: u32 = 64;

/// The probe in one target.
pub(super) struct CodeWatch {
    /// The target's process.
    tgid: u32,
    /// The target's number.
    target: u32,
    /// What the kernel side knows of the interpreter.
    layout: PythonLayout,
    /// None while it is out.
    probe: Option<UProbeLink>,
    /// How many code objects had been freed at the last look.
    freed: u64,
    /// How many when it was put in.
    from: u64,
    /// How long it was out the last time, in seconds; 0 if it was of use since.
    pause: u32,
    /// Seconds until it is tried again.
    left: u32,
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
        let watch = Self { probe, ..Self::forked(tgid, target, layout) };
        kernel.add_python(tgid, watch.layout())?;
        Ok(watch)
    }

    /// That of a forked child, of whose interpreter the kernel side knows. Most end soon: it begins with a pause.
    pub(super) const fn forked(tgid: u32, target: u32, layout: PythonLayout) -> Self {
        Self { tgid, target, layout, probe: None, freed: 0, from: 0, pause: 1, left: 1 }
    }

    /// The probe, to be taken out.
    pub(super) fn end(self) -> Option<UProbeLink> {
        self.probe
    }

    /// To be called once a second, as long as the process lives, with what puts the probe in.
    pub(super) fn look(
        &mut self,
        kernel: &mut Kernel,
        attach: impl FnOnce(&mut Kernel) -> Option<UProbeLink>,
    ) -> Result<()> {
        let freed = kernel.codes_freed(self.target)?;
        let lately = freed.saturating_sub(mem::replace(&mut self.freed, freed));
        if let Some(probe) = self.probe.take_if(|_| lately > MOST_FREED) {
            // First nobody relies on it any more.
            kernel.update_python(self.tgid, self.layout())?;
            kernel.detach(vec![probe]);
            self.rest();
        } else if self.probe.is_some() {
            self.pause = 0;
        } else if self.left > 1 {
            self.left -= 1;
        } else {
            self.put_back(kernel, attach)?;
        }
        Ok(())
    }

    /// What was freed meanwhile is not known, so nothing from before is relied on: the count goes on by one.
    fn put_back(&mut self, kernel: &mut Kernel, attach: impl FnOnce(&mut Kernel) -> Option<UProbeLink>) -> Result<()> {
        self.freed += 1;
        self.from = self.freed;
        kernel.set_codes_freed(self.target, self.freed)?;
        self.probe = attach(kernel);
        if self.probe.is_none() {
            self.rest();
        }
        kernel.update_python(self.tgid, self.layout())
    }

    fn rest(&mut self) {
        self.pause = (self.pause * 2).clamp(1, LONGEST_PAUSE);
        self.left = self.pause;
    }

    fn layout(&self) -> PythonLayout {
        let watched_from = if self.probe.is_some() { self.from as u32 & GENERATIONS } else { NOT_WATCHED };
        PythonLayout { watched_from, ..self.layout }
    }
}
