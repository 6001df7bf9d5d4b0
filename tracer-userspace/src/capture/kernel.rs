// SPDX-License-Identifier: Apache-2.0
//! Loads the kernel side, attaches it, and reads what it counts.

use std::{num::NonZeroU32, path::Path};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader, Pod, include_bytes_aligned,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
    programs::{
        ProgramError, RawTracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tracer_common::{Cookie, Counter, Layout, PythonLayout};

static OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer-ebpf/object/tt-buftrace.bpf.o"));

/// How the kernel side is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the ring buffer in bytes: a power of two, a page at least.
    pub ring_bytes: u32,
    /// Whether the kernel side logs what it does.
    pub verbose: bool,
}

/// The loaded kernel side. Dropping it detaches every probe.
pub struct Kernel {
    ebpf: Ebpf,
    targets: HashMap<MapData, u32, LayoutValue>,
    pythons: HashMap<MapData, u32, PythonLayoutValue>,
    stack_ends: HashMap<MapData, u32, u64>,
    counters: PerCpuArray<MapData, u64>,
    site_hits: PerCpuArray<MapData, u64>,
}

impl Kernel {
    /// Loads the programs and maps; nothing is attached yet.
    pub fn load(options: Options) -> Result<Self> {
        let level = if options.verbose { aya_log::Level::Debug as u8 } else { 0 };
        // A burst must not wait for the recorder's next look: it is woken when a sixteenth of the ring is filled.
        let wakeup = u64::from(options.ring_bytes / 16);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("EVENTS", options.ring_bytes)
            .override_global("WAKEUP_BYTES", &wakeup, true)
            .override_global(aya_log::LEVEL, &level, false)
            .load(OBJECT)
            .context("failed to load the kernel side; `tt-buftrace doctor` says what is missing")?;
        let map = |ebpf: &mut Ebpf, name| {
            ebpf.take_map(name).with_context(|| format!("the compiled kernel side has no map {name}"))
        };
        let kernel = Self {
            targets: HashMap::try_from(map(&mut ebpf, "TARGETS")?)?,
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

    /// Loads the programs into the kernel and watches the threads of the targets end.
    pub fn start(&mut self) -> Result<()> {
        let probe: &mut UProbe = program(&mut self.ebpf, "probe")?;
        probe.load().context("the kernel refused the probe program")?;
        let exit: &mut RawTracePoint = program(&mut self.ebpf, "thread_exit")?;
        exit.load().context("the kernel refused the thread-exit program")?;
        exit.attach("sched_process_exit").context("failed to attach to sched_process_exit")?;
        Ok(())
    }

    /// Lets the hits of a process through.
    pub fn add_target(&mut self, tgid: u32, layout: Layout) -> Result<()> {
        self.targets.insert(tgid, LayoutValue(layout), 0).context("failed to tell the kernel side of the process")
    }

    /// Lets the hits of a process through no more.
    pub fn remove_target(&mut self, tgid: u32) -> Result<()> {
        self.targets.remove(&tgid).context("failed to tell the kernel side that the process is done")
    }

    /// Has the Python frames of a process captured.
    pub fn add_python(&mut self, tgid: u32, layout: PythonLayout) -> Result<()> {
        let value = PythonLayoutValue(layout);
        self.pythons.insert(tgid, value, 0).context("failed to tell the kernel side of the Python interpreter")
    }

    /// Puts a probe at `offset` of the file at `path`, for the address space of process `pid`.
    pub fn attach(&mut self, pid: NonZeroU32, path: &Path, offset: u64, cookie: Cookie) -> Result<()> {
        let probe: &mut UProbe = program(&mut self.ebpf, "probe")?;
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        let point = UProbeAttachPoint { location, cookie: Some(cookie.pack()) };
        probe.attach(point, path, UProbeScope::OneProcess(pid))?;
        Ok(())
    }

    /// Takes all probes out of the target.
    pub fn detach(&mut self) -> Result<()> {
        let probe: &mut UProbe = program(&mut self.ebpf, "probe")?;
        probe.unload().context("failed to detach the probes")?;
        let exit: &mut RawTracePoint = program(&mut self.ebpf, "thread_exit")?;
        exit.unload().context("failed to detach from sched_process_exit")
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

/// Prints what the kernel side logs to stderr.
#[derive(Clone, Copy, Debug)]
pub struct KernelLog;

impl Log for KernelLog {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        eprintln!("kernel: {}", record.args());
    }

    fn flush(&self) {}
}

/// [`Layout`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct LayoutValue(Layout);

// SAFETY: `Layout` is repr(C), made of integers without padding; its size is asserted where it is defined.
unsafe impl Pod for LayoutValue {}

/// [`PythonLayout`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PythonLayoutValue(PythonLayout);

// SAFETY: as for `LayoutValue`.
unsafe impl Pod for PythonLayoutValue {}

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
