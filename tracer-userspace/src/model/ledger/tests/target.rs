// SPDX-License-Identifier: Apache-2.0
//! A small model of the target: objects, devices, and allocators that free by address. It makes the events that the
//! target makes, and knows what each free really did, for it looks at memory, which the ledger never sees.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::Verdict,
    trace::{DeviceClass, Event, Hex, Item, Kind, LiveOwner, text},
};

/// What really happened, and the times of the events that tell of it: any of them may be the one that the ledger takes.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    pub(super) process: u32,
    pub(super) unique_id: u64,
    pub(super) times: Vec<u64>,
    pub(super) verdict: Verdict,
    /// Whether a whole recording has an earlier verdict that covers it.
    pub(super) no_news: bool,
}

/// All processes, and what they did.
#[derive(Debug)]
pub(super) struct World {
    pub(super) processes: Vec<Process>,
    pub(super) events: Vec<Event>,
    pub(super) truths: Vec<Truth>,
    /// Whether events are recorded already.
    pub(super) attached: bool,
    /// Whether the bulk release has a probe.
    pub(super) bulk_probe: bool,
    pub(super) clock: u64,
    /// An event with nothing in it.
    blank: Event,
}

/// A process: a fork copies it all.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) number: u32,
    pub(super) next_unique_id: u64,
    pub(super) objects: Vec<Object>,
    pub(super) devices: Vec<Device>,
    /// What each thread is in the middle of.
    pub(super) threads: Vec<Option<Middle>>,
    /// In a child, what was made before the fork is below this.
    pub(super) forked_at: u64,
    /// What was made before the recording is below this.
    pub(super) attached_at: u64,
}

/// A device object, with its allocator.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) class: DeviceClass,
    id: u32,
    pub(super) open: bool,
    /// Whether the target takes it for closed, although it is open: its allocator is not told of frees.
    pub(super) silent: bool,
    /// Whether the object is there still.
    pub(super) exists: bool,
    pub(super) allocator: u64,
    /// By type and address: bytes, and the object that they were given to.
    memory: BTreeMap<(u32, u64), (u64, u64)>,
    opened: u32,
}

/// A buffer object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    unique_id: u64,
    pub(super) owns: bool,
    pub(super) status: u8,
    pub(super) device: usize,
    /// How often the device had been opened.
    opened: u32,
    buffer_type: u32,
    address: u64,
    pub(super) size: u64,
    hooked: bool,
    /// Of an alias: the object whose memory it is over.
    pub(super) base: Option<usize>,
    /// Whether a thread is freeing it.
    freeing: bool,
    /// Whether a bulk release took its memory.
    bulk: bool,
    /// Whether it was freed and its allocator has its block still.
    leaked: bool,
    /// Whether the recording has its allocation.
    seen: bool,
    /// Whether it is from before the recording, which found it.
    found: bool,
    /// Whether the recording has a bulk release of it, found as it was.
    emptied: bool,
    pub(super) destroyed: bool,
}

/// What a thread is in the middle of, between two events.
#[derive(Clone, Copy, Debug)]
pub(super) enum Middle {
    Request(usize, u64),
    Free(usize, u64),
}

/// What a request comes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Met {
    /// With memory, and this many aliases of it.
    At(u64, u32),
    Hooked,
    OutOfMemory,
}

/// What a buffer takes, or would take, in each bank: of each another number.
pub(super) fn bank_bytes(unique_id: u64) -> u64 {
    0x10 * (unique_id + 1)
}

impl World {
    pub(super) fn new(bulk_probe: bool) -> Self {
        let process = Process {
            number: 1,
            next_unique_id: 0,
            objects: Vec::new(),
            devices: Vec::new(),
            threads: vec![None; 3],
            forked_at: 0,
            attached_at: 0,
        };
        let blank = match text::parse("event 0 free").as_deref() {
            Ok([Item::Event(event)]) => *event,
            other => panic!("{other:?}"),
        };
        let (events, truths) = (Vec::new(), Vec::new());
        Self { processes: vec![process], events, truths, attached: false, bulk_probe, clock: 0, blank }
    }

    fn emit(&mut self, p: usize, thread: usize, kind: Kind, fields: impl FnOnce(&mut Event)) -> u64 {
        self.clock += 1;
        let number = self.processes[p].number;
        let (sequence, time, thread) = (self.clock, self.clock, number * 10 + thread as u32);
        let mut event = Event { sequence, time, process: number, thread, kind, ..self.blank };
        fields(&mut event);
        if self.attached {
            self.events.push(event);
        }
        self.clock
    }

    /// An event about a buffer; with the device, as far as the kernel side reads it there.
    fn tell(&mut self, p: usize, thread: usize, kind: Kind, object: usize) -> u64 {
        let process = &self.processes[p];
        let it = process.objects[object].clone();
        let device = process.devices[it.device].clone();
        self.emit(p, thread, kind, |event| {
            event.unique_id = it.unique_id;
            event.address = it.address;
            (event.size, event.page_size) = (it.size, it.size);
            event.buffer_type = it.buffer_type;
            (event.status, event.owns, event.hooked) = (it.status, it.owns, it.hooked);
            event.allocator = device.allocator;
            if matches!(kind, Kind::Request | Kind::Allocated | Kind::Released) {
                (event.device_class, event.device_id) = (device.class, device.id);
            }
        })
    }

    fn truth(&mut self, p: usize, object: usize, times: Vec<u64>, verdict: Verdict) {
        if self.attached {
            let process = &self.processes[p];
            let unique_id = process.objects[object].unique_id;
            self.truths.push(Truth { process: process.number, unique_id, times, verdict, no_news: false });
        }
    }

    /// Opens a new mesh.
    pub(super) fn open_mesh(&mut self, p: usize, allocator: u64) {
        let devices = &mut self.processes[p].devices;
        let id = devices.iter().filter(|device| device.class == DeviceClass::Mesh).count() as u32;
        devices.push(Device::new(DeviceClass::Mesh, id, allocator));
    }

    /// Opens the chip, for the first time or again: the object is the same.
    pub(super) fn open_chip(&mut self, p: usize, thread: usize, allocator: u64) {
        let devices = &mut self.processes[p].devices;
        match devices.iter_mut().find(|device| device.class == DeviceClass::Chip) {
            Some(device) if device.open => return,
            Some(device) => {
                (device.open, device.silent) = (true, false);
                device.opened += 1;
            }
            None => devices.push(Device::new(DeviceClass::Chip, 0, allocator)),
        }
        self.emit(p, thread, Kind::DeviceOpen, |event| event.device_class = DeviceClass::Chip);
    }

    /// What a reading of the allocators' sets finds, as records. A set keeps what a bulk release took.
    pub(super) fn snapshot(&mut self) -> Vec<Item> {
        let time = self.clock;
        let Process { number, devices, objects, .. } = &mut self.processes[0];
        let mut items = Vec::new();
        let mut taken = BTreeSet::new();
        for it in objects.iter_mut().rev() {
            let device = &devices[it.device];
            let owner = it.owns && it.status == 1 && !it.destroyed && !it.hooked && it.size != 0;
            let listed = owner && device.open && device.opened == it.opened;
            if !listed || !taken.insert((it.device, it.buffer_type, it.address)) {
                continue;
            }
            it.found = true;
            let live = LiveOwner {
                process: *number,
                time,
                unique_id: it.unique_id,
                address: Hex(it.address),
                size: it.size,
                page_size: it.size,
                buffer_type: it.buffer_type,
                device_class: device.class,
                device_id: device.id,
                allocator: Hex(device.allocator),
                ..LiveOwner::default()
            };
            items.push(live.into());
        }
        items
    }

    /// Begins to make a buffer; one of size 0 is made at once.
    pub(super) fn request(&mut self, p: usize, thread: usize, device: usize, buffer_type: u32, size: u64) {
        let object = self.make(p, device, buffer_type, size, true);
        if size == 0 {
            self.processes[p].objects[object].status = 1;
            return;
        }
        let time = self.tell(p, thread, Kind::Request, object);
        self.processes[p].threads[thread] = Some(Middle::Request(object, time));
    }

    fn make(&mut self, p: usize, device: usize, buffer_type: u32, size: u64, owns: bool) -> usize {
        let process = &mut self.processes[p];
        process.objects.push(Object {
            unique_id: process.next_unique_id,
            owns,
            status: 0,
            device,
            opened: process.devices[device].opened,
            buffer_type,
            address: 0,
            size,
            hooked: false,
            base: None,
            freeing: false,
            bulk: false,
            leaked: false,
            seen: false,
            found: false,
            emptied: false,
            destroyed: false,
        });
        process.next_unique_id += 1;
        process.objects.len() - 1
    }

    /// Whether an allocator has these bytes to give.
    pub(super) fn is_free(&self, p: usize, object: usize, address: u64) -> bool {
        let process = &self.processes[p];
        let it = &process.objects[object];
        let memory = &process.devices[it.device].memory;
        !memory.iter().any(|(&(buffer_type, at), &(bytes, _))| {
            buffer_type == it.buffer_type && at < address + it.size && address < at + bytes
        })
    }

    /// Ends a request.
    pub(super) fn meet(&mut self, p: usize, thread: usize, (object, requested): (usize, u64), met: Met) {
        self.processes[p].threads[thread] = None;
        if !matches!(met, Met::Hooked) {
            let unique_id = self.processes[p].objects[object].unique_id;
            self.emit(p, thread, Kind::Bank, |event| event.size = bank_bytes(unique_id));
        }
        let (address, aliases) = match met {
            Met::OutOfMemory => {
                let freed = self.tell(p, thread, Kind::Free, object);
                self.truth(p, object, vec![requested, freed], Verdict::Failed);
                self.processes[p].objects[object].destroyed = true;
                return;
            }
            Met::Hooked => {
                self.processes[p].objects[object].hooked = true;
                (0, 0)
            }
            Met::At(address, aliases) => {
                let it = self.processes[p].objects[object].clone();
                let memory = &mut self.processes[p].devices[it.device].memory;
                memory.insert((it.buffer_type, address), (it.size, it.unique_id));
                (address, aliases)
            }
        };
        let attached = self.attached;
        let it = &mut self.processes[p].objects[object];
        (it.address, it.status, it.seen) = (address, 1, attached);
        let overlaps = self.overlaps(p, object);
        let time = self.tell(p, thread, Kind::Allocated, object);
        if overlaps {
            self.truth(p, object, vec![time], Verdict::Overlap);
        }
        for _ in 0..aliases {
            self.alias(p, thread, object);
        }
    }

    /// Whether a live owner that the recording knows has bytes of a new one.
    fn overlaps(&self, p: usize, object: usize) -> bool {
        let process = &self.processes[p];
        let new = &process.objects[object];
        process.objects.iter().enumerate().any(|(at, old)| {
            let live = at != object && process.is_live(old) && old.is_known() && !old.hooked && !new.hooked;
            let same = old.device == new.device && old.buffer_type == new.buffer_type;
            live && same && old.address < new.address + new.size && new.address < old.address + old.size
        })
    }

    /// Makes an alias of a live owner.
    pub(super) fn alias(&mut self, p: usize, thread: usize, base: usize) {
        let of = self.processes[p].objects[base].clone();
        let alias = self.make(p, of.device, of.buffer_type, of.size, false);
        let it = &mut self.processes[p].objects[alias];
        (it.address, it.status, it.base) = (of.address, 1, Some(base));
        self.emit(p, thread, Kind::Alias, |event| {
            (event.address, event.size, event.buffer_type) = (of.address, of.size, of.buffer_type);
            event.device_class = DeviceClass::Chip;
        });
    }

    /// Calls a free: what has an effect goes on later.
    pub(super) fn free(&mut self, p: usize, thread: usize, object: usize) {
        let time = self.tell(p, thread, Kind::Free, object);
        let it = &mut self.processes[p].objects[object];
        if it.status == 1 {
            it.freeing = true;
            self.processes[p].threads[thread] = Some(Middle::Free(object, time));
        } else {
            self.truth(p, object, vec![time], Verdict::Repeat);
        }
    }

    /// Goes on with a free.
    pub(super) fn finish_free(&mut self, p: usize, thread: usize, object: usize, began: u64) {
        let process = &mut self.processes[p];
        process.threads[thread] = None;
        let it = process.objects[object].clone();
        let older = process.older(&it);
        let phantom = it.hooked || it.size == 0;
        let mut times = vec![began];
        let mut verdict = if phantom { Verdict::Phantom } else { older.unwrap_or(Verdict::AfterClose) };
        let device = &process.devices[it.device];
        let silent = device.silent && !it.hooked;
        if silent
            && device.open
            && device.memory.get(&(it.buffer_type, it.address)).is_some_and(|block| block.1 == it.unique_id)
        {
            verdict = if it.owns && it.seen { Verdict::Leaked } else { verdict };
        }
        if device.open && !silent && it.size != 0 {
            times.push(self.tell(p, thread, Kind::Released, object));
            if !it.hooked {
                verdict = self.take_back(p, object);
            }
        }
        let it = &mut self.processes[p].objects[object];
        (it.status, it.freeing, it.leaked) = (2, false, verdict == Verdict::Leaked);
        self.truth(p, object, times, verdict);
        if verdict == Verdict::Leaked {
            // That the thread goes on is what tells.
            self.tell(p, thread, Kind::Destroyed, object);
        }
    }

    /// What a release by address does to memory.
    fn take_back(&mut self, p: usize, object: usize) -> Verdict {
        let process = &mut self.processes[p];
        let it = process.objects[object].clone();
        let block = process.devices[it.device].memory.remove(&(it.buffer_type, it.address));
        let owner = block.and_then(|(_, owner)| process.objects.iter().find(|object| object.unique_id == owner));
        match (owner, process.older(&it)) {
            (Some(owner), _) if owner.unique_id == it.unique_id && it.seen => Verdict::Released,
            (Some(owner), _) if owner.unique_id != it.unique_id && owner.is_known() => Verdict::StolenFree,
            (_, Some(older)) => older,
            _ if !it.owns => process.report(&it),
            _ => Verdict::StaleFree,
        }
    }

    /// Some builds report the free of an alias, with a mark before it or not; nothing is freed.
    pub(super) fn report(&mut self, p: usize, thread: usize, object: usize, with_mark: bool) {
        let process = &self.processes[p];
        let verdict = process.older(&process.objects[object]).unwrap_or(Verdict::AliasFree);
        let mut times = Vec::new();
        if with_mark {
            times.push(self.tell(p, thread, Kind::Marked, object));
        }
        times.push(self.tell(p, thread, Kind::Released, object));
        if with_mark {
            self.processes[p].objects[object].status = 2;
        }
        self.truth(p, object, times, verdict);
    }

    /// Releases everything of an allocator, as when its device closes.
    pub(super) fn release_all(&mut self, p: usize, thread: usize, device: usize) {
        let it = &mut self.processes[p].devices[device];
        it.memory.clear();
        let allocator = it.allocator;
        if !self.bulk_probe {
            return;
        }
        let time = self.emit(p, thread, Kind::Bulk, |event| event.object = allocator);
        for object in 0..self.processes[p].objects.len() {
            let process = &mut self.processes[p];
            let live = process.is_live(&process.objects[object]);
            let it = &mut process.objects[object];
            // What a thread is freeing is no more in the set.
            it.emptied |= it.found && it.device == device && !it.freeing && it.status == 1;
            if (live || it.leaked) && it.device == device {
                it.leaked = false;
                it.bulk = true;
                let verdict = if it.hooked { Verdict::Phantom } else { Verdict::Bulk };
                if it.is_known() {
                    self.truth(p, object, vec![time], verdict);
                }
            }
        }
    }

    pub(super) fn close(&mut self, p: usize, thread: usize, device: usize) {
        let it = &self.processes[p].devices[device];
        let (class, id) = (it.class, it.id);
        self.emit(p, thread, Kind::DeviceClose, |event| (event.device_class, event.device_id) = (class, id));
        self.release_all(p, thread, device);
        self.processes[p].devices[device].open = false;
    }

    /// Closes a device that nothing is on; the target then takes another one for closed, too.
    pub(super) fn silence(&mut self, p: usize, thread: usize, device: usize) {
        self.emit(p, thread, Kind::DeviceClose, |event| {
            (event.device_class, event.device_id) = (DeviceClass::Mesh, 99);
        });
        self.emit(p, thread, Kind::Bulk, |event| event.object = 0xd);
        self.processes[p].devices[device].silent = true;
    }

    /// Drops an owner whose device object is gone: it is only marked, by a call or inline, and destroyed.
    pub(super) fn drop_orphan(&mut self, p: usize, thread: usize, object: usize, with_call: bool) {
        let it = self.processes[p].objects[object].clone();
        // What was found is known to have been live.
        let older = self.processes[p].older(&it).filter(|_| !it.found);
        let mut times = Vec::new();
        if with_call {
            times.push(self.tell(p, thread, Kind::Marked, object));
        }
        self.processes[p].objects[object].status = 2;
        times.push(self.destroy(p, thread, object));
        // The inline mark of an owner that was not seen shows nowhere, and that of a phantom that ended is no news.
        let verdict = match older {
            _ if it.hooked && it.seen => Some(Verdict::Phantom),
            _ if it.hooked || it.size == 0 => with_call.then_some(Verdict::Phantom),
            Some(older) => with_call.then_some(older),
            None => Some(Verdict::Marked),
        };
        let Some(verdict) = verdict else { return };
        self.truth(p, object, times, verdict);
        if let Some(truth) = self.truths.last_mut().filter(|_| it.hooked && it.seen) {
            truth.no_news = it.bulk;
        }
    }

    pub(super) fn destroy(&mut self, p: usize, thread: usize, object: usize) -> u64 {
        self.processes[p].objects[object].destroyed = true;
        self.tell(p, thread, Kind::Destroyed, object)
    }

    /// The destructor of an owner that is allocated still; the free comes next.
    pub(super) fn tell_destructor(&mut self, p: usize, thread: usize, object: usize) {
        self.tell(p, thread, Kind::Destroyed, object);
    }

    /// Makes a child: a copy with one thread.
    pub(super) fn fork(&mut self, p: usize, thread: usize) {
        let number = self.processes.len() as u32 + 1;
        let mut child = self.processes[p].clone();
        child.number = number;
        child.forked_at = child.next_unique_id;
        child.threads = vec![None];
        for object in &mut child.objects {
            (object.freeing, object.seen, object.found, object.emptied, object.leaked) =
                (false, false, false, false, false);
        }
        self.processes.push(child);
        self.emit(p, thread, Kind::Fork, |event| event.child = number);
    }

    pub(super) fn end_thread(&mut self, p: usize, thread: usize) {
        self.emit(p, thread, Kind::ThreadExit, |_| {});
    }

    /// Ends a process by its exit: what it holds is held.
    pub(super) fn exit(&mut self, p: usize) -> u64 {
        self.clock += 1;
        for object in 0..self.processes[p].objects.len() {
            let process = &self.processes[p];
            let it = &process.objects[object];
            let unmarked = it.owns && (it.status == 1 || it.leaked) && !it.bulk && it.is_known();
            let verdict = if it.hooked { Verdict::Phantom } else { Verdict::Held };
            if unmarked {
                self.truth(p, object, vec![self.clock], verdict);
            }
        }
        self.clock
    }
}

impl Device {
    fn new(class: DeviceClass, id: u32, allocator: u64) -> Self {
        Self { class, id, open: true, exists: true, silent: false, allocator, memory: BTreeMap::new(), opened: 1 }
    }
}

impl Object {
    /// Whether the recording knows of it before anything happens to it.
    fn is_known(&self) -> bool {
        self.seen || self.found
    }

    /// Whether no thread is freeing it.
    pub(super) fn is_idle(&self) -> bool {
        !self.freeing
    }

    /// Whether a thread is freeing it, and it is on a device.
    pub(super) fn is_freed_on(&self, device: usize) -> bool {
        self.freeing && self.device == device
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }
}

impl Process {
    /// Whether an object owns memory now.
    pub(super) fn is_live(&self, object: &Object) -> bool {
        let device = &self.devices[object.device];
        let in_use = object.owns && object.status == 1 && !object.freeing && !object.destroyed && object.size != 0;
        in_use && device.open && device.opened == object.opened && !object.bulk
    }

    /// What an object is that is older than the recording of its process.
    fn older(&self, object: &Object) -> Option<Verdict> {
        if object.seen || object.emptied {
            None
        } else if object.unique_id < self.forked_at {
            Some(Verdict::Inherited)
        } else {
            (object.unique_id < self.attached_at).then_some(Verdict::PreAttach)
        }
    }

    /// What it is that an alias frees where its allocator has nothing: by the owner that it is an alias of.
    fn report(&self, alias: &Object) -> Verdict {
        let live = alias.base.is_some_and(|base| self.is_live(&self.objects[base]));
        self.older(alias).unwrap_or(if live { Verdict::AliasFree } else { Verdict::StaleFree })
    }
}
