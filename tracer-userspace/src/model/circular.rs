// SPDX-License-Identifier: Apache-2.0
//! Circular buffers, as far as the graph tracker is told of them. They are no buffers: a program has them in the L1 of the
//! cores that it runs on, for as long as it likes, and the tracker is told when they are laid out and, of a whole device at
//! once, that they are gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Device;
use crate::trace::{DeviceClass, Event, Kind};

/// What a device's circular buffers came to. Bytes are those on each core that has the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CircularSum {
    /// Circular buffers with memory of their own.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Circular buffers that are in the memory of a buffer, which has its own row elsewhere.
    pub global: u64,
    /// How often all of the device were said to be gone.
    pub releases: u64,
    /// Most bytes between two of these, of those with memory of their own.
    pub peak_bytes: u64,
    /// Bytes since the last of these.
    pub live_bytes: u64,
}

/// The circular buffers of all devices.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Circular {
    /// By process and device; `None` if the device could not be read.
    pub devices: BTreeMap<(u32, Option<Device>), CircularSum>,
}

impl Circular {
    /// Takes the next event of one.
    pub(super) fn event(&mut self, event: &Event) {
        let known = event.device_class != DeviceClass::Unknown;
        let device = known.then_some(Device { class: event.device_class, id: event.device_id });
        let sum = self.devices.entry((event.process, device)).or_default();
        match event.kind {
            Kind::Circular if !event.owns => sum.global += 1,
            Kind::Circular => {
                sum.allocations += 1;
                sum.bytes = sum.bytes.saturating_add(event.size);
                sum.live_bytes = sum.live_bytes.saturating_add(event.size);
                sum.peak_bytes = sum.peak_bytes.max(sum.live_bytes);
            }
            _ => {
                sum.releases += 1;
                sum.live_bytes = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::model::read_text;

    #[test]
    fn they_are_counted_by_device_and_gone_all_at_once() {
        let model = read_text(
            "
            process id=1 pid=9
            event 1 t=1 p=1 tid=9 circular address=0x19000 size=4096 owns=1 class=chip id=3
            event 2 t=2 p=1 tid=9 circular address=0x1a000 size=2048 owns=1 class=chip id=3
            event 3 t=3 p=1 tid=9 circular address=0x80000 size=8192 class=chip id=3
            event 4 t=4 p=1 tid=9 circular address=0x19000 size=1024 owns=1 class=mesh
            event 5 t=5 p=1 tid=9 circular-freed class=chip id=3
            event 6 t=6 p=1 tid=9 circular address=0x19000 size=512 owns=1 class=chip id=3",
            &mut |entry| panic!("{entry:?} is no buffer"),
        );
        let shown: Vec<String> = model.circular.devices.iter().map(|(key, sum)| format!("{key:?} {sum:?}\n")).collect();
        expect![[r#"
            (1, Some(Device { class: Chip, id: 3 })) CircularSum { allocations: 3, bytes: 6656, global: 1, releases: 1, peak_bytes: 6144, live_bytes: 512 }
            (1, Some(Device { class: Mesh, id: 0 })) CircularSum { allocations: 1, bytes: 1024, global: 0, releases: 0, peak_bytes: 1024, live_bytes: 1024 }
        "#]].assert_eq(&shown.concat());
    }
}
