// SPDX-License-Identifier: Apache-2.0
//! From a hit to an event of the file.

use anyhow::{Result, bail};
use tracer_common::{DeviceClass, Kind, TEXT, TEXT_CUT, UNREADABLE_OBJECT};

use super::Recorder;
use crate::{capture::decode::RawHit, trace::Event};

impl Recorder {
    /// The event that a hit is, if its process is recorded; where the thread's stack ends, if that was learned from it.
    pub(super) fn event(&mut self, raw: &RawHit, child: u32, stack_end: &mut Option<u64>) -> Option<Event> {
        let hit = &raw.hit;
        let mut text = self.texts.remove(&hit.sequence);
        if let Some(text) = text.as_mut().filter(|_| hit.flags & TEXT_CUT != 0) {
            text.extend("…".bytes());
            self.problems(vec![format!(
                "ids of tests are longer than {} bytes and cut there: tests that differ behind that are one here",
                TEXT - 1
            )]);
        }
        let process = self.processes.get_mut(&hit.tgid)?;
        process.last = hit.time;
        let mut stack = 0;
        if self.sites.get(usize::from(hit.site)).is_some_and(|site| site.stack && site.kind == raw.kind) {
            let found = process.stacks.number(hit, &mut self.catalog);
            self.tally.stack(found.end, found.python);
            (stack, *stack_end) = (found.number, found.stack_end);
        }
        match raw.kind {
            Kind::ThreadExit => process.stacks.thread_ended(hit.tid),
            Kind::Modules => process.stacks.modules_change(),
            _ => {}
        }
        let number = process.number;
        // Of a fork, these are numbers of the kernel side, which mean nothing outside.
        let fork = raw.kind == Kind::Fork;
        let text = text.map_or(0, |text| self.catalog.interned.text(&String::from_utf8_lossy(&text)));
        Some(Event {
            sequence: hit.sequence,
            time: self.time(hit.time),
            process: number,
            thread: hit.tid,
            kind: raw.kind,
            object: hit.object,
            unique_id: hit.unique_id,
            address: if fork { 0 } else { hit.address },
            size: if fork { 0 } else { hit.size },
            page_size: hit.page_size.into(),
            buffer_type: hit.buffer_type.into(),
            status: hit.status,
            owns: hit.owns != 0,
            hooked: hit.hooked != 0,
            unreadable: hit.flags & UNREADABLE_OBJECT != 0,
            device: hit.device,
            device_class: device_class(hit.device_class),
            device_id: hit.device_id,
            allocator: hit.allocator,
            stack,
            text,
            child,
        })
    }
}

/// Whether it takes a probe to tell of this: what else is told, is of processes that are not recorded as well.
pub(super) fn is_of_probe(kind: Kind) -> bool {
    !matches!(kind, Kind::Fork | Kind::Exec | Kind::ThreadExit)
}

fn device_class(class: u8) -> DeviceClass {
    match class {
        1 => DeviceClass::Chip,
        2 => DeviceClass::Mesh,
        _ => DeviceClass::Unknown,
    }
}

/// A buffer whose allocation has just succeeded has values that are known beforehand: the last check that the derived
/// layout is right. (At a free the object may be anything, if the target has the bug that is looked for.)
pub(super) fn check_layout(raw: &RawHit) -> Result<()> {
    let hit = &raw.hit;
    if raw.kind != Kind::Allocated || hit.flags & UNREADABLE_OBJECT != 0 {
        return Ok(());
    }
    let plausible = hit.status == 1 && hit.buffer_type <= 4 && hit.owns <= 1 && hit.hooked <= 1;
    if !plausible {
        bail!(
            "the derived field layout does not fit this target: an allocated buffer has status {}, type {}, owns {}, \
             hooked {}; please report the library's build id",
            hit.status,
            hit.buffer_type,
            hit.owns,
            hit.hooked
        );
    }
    Ok(())
}
