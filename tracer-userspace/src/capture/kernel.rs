// SPDX-License-Identifier: Apache-2.0
//! Loads the kernel side, attaches it, and reads what it counts.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    num::NonZeroU32,
    os::fd::AsFd as _,
    path::Path,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader, Pod, include_bytes_aligned,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{
        ProgramError, RawTracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tracer_common::{Cookie, Counter, Epoch, HAS_HIT, PythonLayout, QUIET, Target, TaskLayout};
use tracer_unwind::{
    rule::Rule,
    space::{MAX_RANGES, NO_EPOCH, NO_SPACE, Range, Space},
    table::Block,
};

static OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer-ebpf/object/tt-buftrace.bpf.o"));

/// The programs that watch processes come and go, and where they are attached.
const TRACEPOINTS: [(&str, &str); 3] =
    [("thread_exit", "sched_process_exit"), ("exec", "sched_process_exec"), ("fork", "sched_process_fork")];

/// `BPF_F_INNER_MAP` of the kernel's `uapi/linux/bpf.h`: the map's size is its own, whatever that of its place-holder is.
const BPF_F_INNER_MAP: u32 = 1 << 12;
/// `BPF_EXIST`, from there, too: what is not there is not added.
const BPF_EXIST: u64 = 2;

/// How the kernel side is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the ring buffer in bytes: a power of two, a page at least.
    pub ring_bytes: u32,
    /// Whether the kernel side logs what it does.
    pub verbose: bool,
    /// Whether it remembers rows of unwind tables: not, where it is measured what that is worth.
    pub remember: bool,
}

/// Whom a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The address space of one process.
    Process(NonZeroU32),
    /// Every process that has the file mapped.
    Everywhere,
}

/// The loaded kernel side. Dropping it detaches every probe.
pub struct Kernel {
    ebpf: Ebpf,
    targets: HashMap<MapData, u32, Value<Target>>,
    followed: HashMap<MapData, u32, u32>,
    pythons: HashMap<MapData, u32, Value<PythonLayout>>,
    epochs: Array<MapData, u64>,
    codes_freed: Array<MapData, u64>,
    spaces: ArrayOfMaps<MapData, Array<MapData, Value<Space>>>,
    /// What targets have in `spaces` that are gone.
    no_space: Array<MapData, Value<Space>>,
    /// By target.
    told: BTreeMap<u32, Told>,
    detaching: Detaching,
    /// The unwind tables: an array of maps, set by several threads at once.
    tables: MapData,
    rules: Array<MapData, Value<Rule>>,
    stack_ends: HashMap<MapData, u32, u64>,
    counters: PerCpuArray<MapData, u64>,
    site_hits: PerCpuArray<MapData, u64>,
}

impl Kernel {
    /// Loads the programs and maps; nothing is attached yet.
    pub fn load(options: Options, tasks: TaskLayout) -> Result<Self> {
        let level = if options.verbose { aya_log::Level::Debug as u8 } else { 0 };
        // A burst must not wait for the recorder's next look: it is woken when a sixteenth of the ring is filled.
        let wakeup = u64::from(options.ring_bytes / 16);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("EVENTS", options.ring_bytes)
            .override_global("WAKEUP_BYTES", &wakeup, true)
            .override_global("REMEMBER", &u8::from(options.remember), true)
            .override_global("HASH_KEY", &hash_key()?, true)
            .override_global("TASK", &Value(tasks), true)
            .override_global(aya_log::LEVEL, &level, false)
            .load(OBJECT)
            .context("failed to load the kernel side; `tt-buftrace doctor` says what is missing")?;
        let map = |ebpf: &mut Ebpf, name| {
            ebpf.take_map(name).with_context(|| format!("the compiled kernel side has no map {name}"))
        };
        let kernel = Self {
            targets: HashMap::try_from(map(&mut ebpf, "TARGETS")?)?,
            followed: HashMap::try_from(map(&mut ebpf, "FOLLOWED")?)?,
            told: BTreeMap::new(),
            detaching: Detaching::default(),
            no_space: space_map(&Space {
                epoch: NO_EPOCH,
                number: NO_SPACE,
                padding: 0,
                ranges: [Range::UNUSED; MAX_RANGES],
            })?,
            epochs: Array::try_from(map(&mut ebpf, "EPOCHS")?)?,
            codes_freed: Array::try_from(map(&mut ebpf, "CODES_FREED")?)?,
            spaces: ArrayOfMaps::try_from(map(&mut ebpf, "SPACES")?)?,
            tables: match map(&mut ebpf, "TABLES")? {
                Map::ArrayOfMaps(tables) => tables,
                _ => bail!("the compiled kernel side's map TABLES is of another type"),
            },
            rules: Array::try_from(map(&mut ebpf, "RULES")?)?,
            pythons: HashMap::try_from(map(&mut ebpf, "PYTHONS")?)?,
            stack_ends: HashMap::try_from(map(&mut ebpf, "STACK_ENDS")?)?,
            counters: PerCpuArray::try_from(map(&mut ebpf, "COUNTERS")?)?,
            site_hits: PerCpuArray::try_from(map(&mut ebpf, "SITE_HITS")?)?,
            ebpf,
        };
        Ok(kernel)
    }

    /// The ring buffer; can be taken once.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>> {
        let map = self.ebpf.take_map("EVENTS").context("the ring buffer is taken already")?;
        Ok(RingBuf::try_from(map)?)
    }

    /// What the kernel side logs: [`EbpfLogger::flush`] prints what has come since it was last called.
    pub fn logger(&mut self) -> Result<EbpfLogger<KernelLog>> {
        EbpfLogger::init_with_logger(&mut self.ebpf, KernelLog).context("failed to open the kernel side's log")
    }

    /// Loads the programs into the kernel, and watches processes come and go.
    pub fn start(&mut self) -> Result<()> {
        let probe: &mut UProbe = program(&mut self.ebpf, "probe")?;
        probe.load().context("the kernel refused the probe program")?;
        for (name, point) in TRACEPOINTS {
            let watch: &mut RawTracePoint = program(&mut self.ebpf, name)?;
            watch.load().with_context(|| format!("the kernel refused the {name} program"))?;
            watch.attach(point).with_context(|| format!("failed to attach to {point}"))?;
        }
        Ok(())
    }

    /// Follows the children that a process makes from now on.
    pub fn follow(&mut self, tgid: u32) -> Result<()> {
        self.followed.insert(tgid, QUIET, 0).context("failed to tell the kernel side of a process to follow")
    }

    /// The processes whose children are followed, each with whether it has hit a probe while it was no target.
    pub fn followed(&self) -> Result<Vec<(u32, bool)>> {
        let all = self.followed.iter().map(|entry| entry.map(|(tgid, state)| (tgid, state == HAS_HIT)));
        all.collect::<Result<_, _>>().context("failed to ask the kernel side which processes it follows")
    }

    /// Follows the children of a process no more.
    pub fn unfollow(&mut self, tgid: u32) -> Result<()> {
        removed(self.followed.remove(&tgid)).context("failed to tell the kernel side of a process to follow no more")
    }

    /// Lets the hits of a process through.
    pub fn add_target(&mut self, tgid: u32, target: Target) -> Result<()> {
        self.targets.insert(tgid, Value(target), 0).context("failed to tell the kernel side of the process")
    }

    /// Lets the hits of a process through no more.
    pub fn remove_target(&mut self, tgid: u32) -> Result<()> {
        removed(self.targets.remove(&tgid)).context("failed to tell the kernel side that a process is done")
    }

    /// The same, if it is still the target with this number: another process may have its id by now.
    pub fn remove_target_if(&mut self, tgid: u32, target: u32) -> Result<()> {
        match self.targets.get(&tgid, 0) {
            Ok(Value(Target { number, .. })) if number == target => self.remove_target(tgid),
            _ => Ok(()),
        }
    }

    /// Gives the memory back that told of the modules of the target with this number, which is gone.
    pub fn remove_space(&mut self, target: u32) -> Result<()> {
        self.spaces.set(target, &self.no_space, 0).context("failed to tell the kernel side that a process is done")?;
        self.told.remove(&target);
        Ok(())
    }

    /// The epoch of the modules of the target with this number.
    pub fn epoch(&self, target: u32) -> Result<Epoch> {
        self.epochs.get(&target, 0).map(Epoch).context("failed to read the epoch of the target's modules")
    }

    /// Tells where the modules of the target with this number are. Walks under way finish with what was told before: the
    /// kernel returns when there are none any more, and only then is that given back. (Without a hold on it from here, kernels
    /// before 6.8 give it back at once, CVE-2023-52447.)
    pub fn set_space(&mut self, target: u32, space: &Space) -> Result<()> {
        let used = space.ranges.iter().rposition(|range| *range != Range::UNUSED).map_or(0, |last| last + 1);
        let ranges = &space.ranges[..used];
        // To be told takes the kernel a while, and the target, which has to look everything up again.
        if self.told.get(&target).is_some_and(|told| told.epoch == space.epoch && told.ranges == ranges) {
            return Ok(());
        }
        let map = space_map(space)?;
        self.spaces.set(target, &map, 0).context("failed to tell the kernel side of the target's modules")?;
        self.told.insert(target, Told { _map: map, epoch: space.epoch, ranges: ranges.to_vec() });
        Ok(())
    }

    /// Adds rules, the first of them with this number.
    pub fn add_rules(&mut self, first: u32, rules: &[Rule]) -> Result<()> {
        for (number, &rule) in (first..).zip(rules) {
            self.rules.set(number, Value(rule), 0).context("failed to add an unwind rule")?;
        }
        Ok(())
    }

    /// Adds tables, each under a number that no other one ever had.
    ///
    /// All at the same time: for each, the kernel waits until nobody looks any more at what was there before, some
    /// hundredths of a second.
    pub fn add_tables(&mut self, tables: &[(u32, &[Block])]) -> Result<()> {
        let kernel = &*self;
        thread::scope(|scope| {
            let threads: Vec<_> =
                tables.iter().map(|&(number, blocks)| scope.spawn(move || kernel.add_table(number, blocks))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread has ended early")))
        })
    }

    fn add_table(&self, number: u32, blocks: &[Block]) -> Result<()> {
        let count = u32::try_from(blocks.len()).context("an unwind table is too large")?;
        let mut map = Array::create(count, BPF_F_INNER_MAP).context("failed to create a map for an unwind table")?;
        for (index, &block) in (0..).zip(blocks) {
            map.set(index, Value(block), 0).context("failed to fill a map with an unwind table")?;
        }
        let tables = Map::ArrayOfMaps(MapData::from_fd(self.tables.fd().as_fd().try_clone_to_owned()?)?);
        let mut tables: ArrayOfMaps<MapData, Array<MapData, Value<Block>>> = ArrayOfMaps::try_from(tables)?;
        tables.set(number, &map, 0).context("failed to tell the kernel side of an unwind table")
    }

    /// Has the Python frames of a process captured.
    pub fn add_python(&mut self, tgid: u32, layout: PythonLayout) -> Result<()> {
        self.pythons.insert(tgid, Value(layout), 0).context("failed to tell the kernel side of the Python interpreter")
    }

    /// Says otherwise of the interpreter of a process, unless that is gone.
    pub fn update_python(&mut self, tgid: u32, layout: PythonLayout) -> Result<()> {
        match self.pythons.insert(tgid, Value(layout), BPF_EXIST) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => Ok(()),
            updated => updated.context("failed to tell the kernel side of the Python interpreter"),
        }
    }

    /// How many code objects of Python the target with this number has freed.
    pub fn codes_freed(&self, target: u32) -> Result<u64> {
        self.codes_freed.get(&target, 0).context("failed to read how many code objects were freed")
    }

    /// Sets that number, while nobody relies on it.
    pub fn set_codes_freed(&mut self, target: u32, freed: u64) -> Result<()> {
        self.codes_freed.set(target, freed, 0).context("failed to set how many code objects were freed")
    }

    /// Puts a probe at `offset` of the file at `path`, for one process or for all.
    ///
    /// Dropping the link takes it out again, and takes a while; see [`Self::detach`].
    pub fn attach(&mut self, scope: Scope, path: &Path, offset: u64, cookie: Cookie) -> Result<UProbeLink> {
        let probe: &mut UProbe = program(&mut self.ebpf, "probe")?;
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        let point = UProbeAttachPoint { location, cookie: Some(cookie.pack()) };
        let scope = match scope {
            Scope::Process(pid) => UProbeScope::OneProcess(pid),
            Scope::Everywhere => UProbeScope::AllProcesses,
        };
        let link = probe.attach(point, path, scope)?;
        Ok(probe.take_link(link)?)
    }

    /// Takes probes out, in the background. Dropping this waits until that is done.
    pub fn detach(&mut self, probes: Vec<UProbeLink>) {
        probes.into_iter().for_each(|probe| self.detaching.add(probe));
    }

    /// Returns when each hit is sent that was let through before: the kernel waits for all who may look at a map that is put in
    /// the place of another one.
    pub fn wait_for_hits(&mut self) -> Result<()> {
        self.spaces.set(0, &self.no_space, 0).context("failed to wait for the kernel side")
    }

    /// Watches processes come and go no more.
    pub fn stop(&mut self) -> Result<()> {
        for (name, point) in TRACEPOINTS {
            let watch: &mut RawTracePoint = program(&mut self.ebpf, name)?;
            watch.unload().with_context(|| format!("failed to detach from {point}"))?;
        }
        Ok(())
    }

    /// Tells where a thread's stack ends, so that the next copy is no larger than needed.
    pub fn set_stack_end(&mut self, tid: u32, end: u64) -> Result<()> {
        self.stack_ends.insert(tid, end, 0).context("failed to tell the kernel side where a stack ends")
    }

    /// The value of a counter, over all CPUs.
    pub fn counter(&self, counter: Counter) -> Result<u64> {
        sum(&self.counters, counter as u32)
    }

    /// Hits of a site, before any filter, over all CPUs.
    pub fn site_hits(&self, site: u16) -> Result<u64> {
        sum(&self.site_hits, u32::from(site))
    }
}

/// Probes that are taken out in the background: for each, the kernel waits until nobody can be in it any more, which takes up to
/// a tenth of a second. Dropping this waits for all of them, as a probe stays in the kernel for good, and its trap in who runs
/// the function, if the end of its process stops the thread that takes it out.
#[derive(Default)]
struct Detaching(Vec<JoinHandle<()>>);

impl Detaching {
    fn add(&mut self, probe: UProbeLink) {
        self.0.retain(|thread| !thread.is_finished());
        // Without a thread it is taken out here.
        self.0.extend(thread::Builder::new().name("detach".into()).spawn(move || drop(probe)));
    }
}

impl Drop for Detaching {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            // It only drops what it has.
            let _ = thread.join();
        }
    }
}

/// What the kernel side was told of the modules of a target.
struct Told {
    /// Held as long as the kernel side may look at it.
    _map: Array<MapData, Value<Space>>,
    epoch: u64,
    ranges: Vec<Range>,
}

/// Prints what the kernel side logs to stderr.
#[derive(Clone, Copy, Debug)]
pub struct KernelLog;

impl Log for KernelLog {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        say!("kernel: {}\n", record.args());
    }

    fn flush(&self) {}
}

/// What crosses the kernel border, as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value<T>(T);

// SAFETY: all of them are repr(C), made of integers without padding; their sizes are asserted where they are defined.
unsafe impl Pod for Value<Target> {}
// SAFETY: as above.
unsafe impl Pod for Value<PythonLayout> {}
// SAFETY: as above.
unsafe impl Pod for Value<TaskLayout> {}
// SAFETY: as above.
unsafe impl Pod for Value<Space> {}
// SAFETY: as above.
unsafe impl Pod for Value<Block> {}
// SAFETY: as above.
unsafe impl Pod for Value<Rule> {}

/// What was to be removed is gone; the kernel side may have been faster.
fn removed(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn space_map(space: &Space) -> Result<Array<MapData, Value<Space>>> {
    let mut map = Array::create(1, 0).context("failed to create a map for a target's modules")?;
    map.set(0, Value(*space), 0).context("failed to fill a map with a target's modules")?;
    Ok(map)
}

/// Random words, so that nobody can make two stacks with the same hash.
fn hash_key() -> Result<[u64; 2]> {
    let mut key = [0; 16];
    let flags = rustix::rand::GetRandomFlags::empty();
    let filled = rustix::rand::getrandom(&mut key, flags).context("failed to get random bytes")?;
    if filled < key.len() {
        bail!("the kernel has only {filled} random bytes");
    }
    let word = |bytes: &[u8]| bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    let (first, second) = key.split_at(8);
    Ok([word(first), word(second)])
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).with_context(|| format!("the compiled kernel side has no program {name}"))?;
    Ok(program.try_into()?)
}

fn sum(map: &PerCpuArray<MapData, u64>, index: u32) -> Result<u64> {
    let values = map.get(&index, 0).context("failed to read a counter of the kernel side")?;
    Ok(values.iter().sum())
}
