// SPDX-License-Identifier: Apache-2.0
//! Owners from before the recording that were found live.

use super::{Account, Live, Place};
use crate::{
    model::{Buffer, Device, Entry, Found, Verdict},
    trace::{DeviceClass, LiveOwner},
};

impl Account {
    /// Takes an owner that its allocator listed. It may be freed by then, or its allocator emptied: it was read some time
    /// after the event before it.
    pub(in crate::model::ledger) fn found(&mut self, it: &LiveOwner, sink: &mut impl FnMut(&Entry)) {
        let older = self.older(it.unique_id).is_some_and(|(verdict, _)| verdict == Verdict::PreAttach);
        let known = self.live.contains(it.unique_id) || self.recent.get(it.unique_id).is_some();
        if !older || known || self.emptied.contains(&it.allocator.0) {
            return;
        }
        let device = Device { class: it.device_class, id: it.device_id };
        let device = (it.device_class != DeviceClass::Unknown).then_some(device);
        let buffer = Buffer {
            process: self.process,
            unique_id: it.unique_id,
            device,
            generation: self.generation(device),
            buffer_type: it.buffer_type,
            address: it.address.0,
            size: it.size,
            page_size: it.page_size,
            bank_bytes: None,
            allocator: it.allocator.0,
            phantom: false,
            allocated: None,
            found: true,
            alias: false,
        };
        if let Some(place) = Place::of(&buffer, buffer.generation) {
            self.blocks.give_before(place, buffer.unique_id);
        }
        self.live.insert(Live { buffer, requested: 0, freed: None });
        sink(&Entry::Found(Found { buffer, time: it.time }));
    }
}
