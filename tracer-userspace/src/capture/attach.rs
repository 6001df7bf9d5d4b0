// SPDX-License-Identifier: Apache-2.0
//! Puts probes into processes, and says in the file what was found out about them.

use std::{collections::HashMap, mem, num::NonZeroU32};

use anyhow::{Result, bail};
use aya::programs::uprobe::UProbeLink;
use tracer_common::{Cookie, Kind, MAX_SITES};

use super::{
    clock::boot_now,
    kernel::{Kernel, Scope},
    recorder::Recorder,
};
use crate::{
    discover::{
        Discovery, memory,
        module::Module,
        process::Process,
        python::Python,
        symbols::{Home, Site},
    },
    trace::{self, Hex, kind_word},
};

/// The probe sites of a recording. A function that several processes have is one site.
#[derive(Default)]
pub(super) struct Sites {
    /// By file, offset and meaning.
    cookies: HashMap<(usize, u64, Kind), Cookie>,
    /// The probes in all processes, by site.
    everywhere: HashMap<u16, UProbeLink>,
}

/// What came of one site of a process: its number, and why it is not probed, empty if it is.
pub(super) struct Outcome {
    number: u16,
    missing: String,
}

/// The probes of one process.
#[derive(Default)]
pub(super) struct Probes {
    /// A site each.
    pub(super) outcomes: Vec<Outcome>,
    /// Those that are its alone.
    pub(super) own: Vec<UProbeLink>,
    /// The one on the destructor of Python code objects.
    pub(super) code_freed: Option<UProbeLink>,
}

impl Sites {
    /// Attaches to every site of a process. Where children are followed, the functions that are about buffers are probed
    /// in whoever runs them, so that a child is seen from its first instruction on; the kernel side lets only targets
    /// through. What others have mapped too (libc, the linker, Python) is probed in this process alone.
    ///
    /// # Errors
    /// If a site is missing without which a recording would mislead.
    pub(super) fn attach(
        &mut self,
        kernel: &mut Kernel,
        recorder: &mut Recorder,
        pid: u32,
        discovery: &Discovery,
        follow: bool,
    ) -> Result<Probes> {
        let mut probes = Probes::default();
        for site in &discovery.sites {
            let everywhere = follow && site.home == Home::Library;
            let attached = self.attach_one(kernel, recorder, pid, discovery, site, everywhere);
            if let (Err(missing), true) = (&attached, site.required) {
                bail!("failed to probe {}: {missing}", site.symbol);
            }
            let (number, missing) = match attached {
                Ok((number, link)) => {
                    match (link, site.kind) {
                        (Some(link), Kind::CodeFreed) => probes.code_freed = Some(link),
                        (link, _) => probes.own.extend(link),
                    }
                    (number, String::new())
                }
                Err(missing) => (self.missing(recorder, site), missing),
            };
            probes.outcomes.push(Outcome { number, missing });
        }
        Ok(probes)
    }

    /// Attaches to the sites of a forked child that are its alone. What fails is left out: the child may be gone already,
    /// and what is about buffers is probed in any case.
    pub(super) fn attach_forked(
        &mut self,
        kernel: &mut Kernel,
        recorder: &mut Recorder,
        pid: u32,
        discovery: &Discovery,
    ) -> Vec<UProbeLink> {
        // Its code objects are watched if it does not end soon.
        let own = discovery.sites.iter().filter(|site| site.home != Home::Library && site.kind != Kind::CodeFreed);
        let attached = own.filter_map(|site| self.attach_one(kernel, recorder, pid, discovery, site, false).ok()?.1);
        attached.collect()
    }

    /// Attaches to the destructor of a process's Python code objects, if that can be done.
    pub(super) fn watch_code(
        &mut self,
        kernel: &mut Kernel,
        recorder: &mut Recorder,
        pid: u32,
        discovery: &Discovery,
    ) -> Option<UProbeLink> {
        let site = discovery.sites.iter().find(|site| site.kind == Kind::CodeFreed)?;
        self.attach_one(kernel, recorder, pid, discovery, site, false).ok()?.1
    }

    /// The probes in all processes, to be taken out.
    pub(super) fn end(&mut self) -> Vec<UProbeLink> {
        mem::take(&mut self.everywhere).into_values().collect()
    }

    /// A number for a site that is nowhere.
    fn missing(&mut self, recorder: &mut Recorder, site: &Site) -> u16 {
        self.number(recorder, usize::MAX, 0, site).map_or(0, |cookie| cookie.site)
    }

    /// The cookie of the site at an offset of a file; `None` if there are too many.
    fn number(&mut self, recorder: &mut Recorder, file: usize, offset: u64, site: &Site) -> Option<Cookie> {
        let key = (file, offset, site.kind);
        let known = self.cookies.get(&key).copied();
        if known.is_none() && recorder.sites().len() >= MAX_SITES as usize {
            return None;
        }
        Some(*self.cookies.entry(key).or_insert_with(|| recorder.add_site(|number| site.cookie(number))))
    }

    fn attach_one(
        &mut self,
        kernel: &mut Kernel,
        recorder: &mut Recorder,
        pid: u32,
        discovery: &Discovery,
        site: &Site,
        everywhere: bool,
    ) -> Result<(u16, Option<UProbeLink>), String> {
        let offset = site.offset.clone()?;
        let home = discovery.home(site).ok_or("its module is not mapped")?;
        let file = recorder.catalog.files.find(&home.mapping).ok_or("its module is mapped no more")?;
        let cookie = self.number(recorder, file, offset, site);
        let cookie = cookie.ok_or_else(|| format!("the processes have more than {MAX_SITES} probe sites together"))?;
        if everywhere && self.everywhere.contains_key(&cookie.site) {
            return Ok((cookie.site, None));
        }
        let scope = match NonZeroU32::new(pid) {
            Some(pid) if !everywhere => Scope::Process(pid),
            _ => Scope::Everywhere,
        };
        let attached = kernel.attach(scope, &home.file.path(), offset, cookie);
        let link = attached.map_err(|error| format!("{error:#}"))?;
        if !reached(pid, home, offset) {
            return Err(format!(
                "the probe did not reach process {pid}: {} was written to since it was loaded; start the process anew",
                home.mapping.path.display()
            ));
        }
        if everywhere {
            self.everywhere.insert(cookie.site, link);
            return Ok((cookie.site, None));
        }
        Ok((cookie.site, Some(link)))
    }
}

/// Whether a probe is in the memory of a process: its first byte there is the file's no more. It does not get there if what
/// the path leads to is a copy that a layered file system made of the mapped file, which has the same device and inode.
/// What can't be read, of a process that has ended perhaps, is taken to be there.
fn reached(pid: u32, home: &Module, offset: u64) -> bool {
    let address = offset.checked_sub(home.mapping.offset).and_then(|it| it.checked_add(home.mapping.start));
    let original = usize::try_from(offset).ok().and_then(|offset| home.data().get(offset));
    let (Some(address), Some(&original)) = (address, original) else { return true };
    let mut byte = [original];
    match memory::read(pid, address, &mut byte) {
        Ok(()) => byte != [original],
        Err(_) => true,
    }
}

/// Writes what was found out about a process: the layout of its classes, its interpreter, and the probes.
pub(super) fn describe(recorder: &mut Recorder, process: u32, discovery: &Discovery, probes: &Probes) {
    for finding in discovery.derivation.findings.iter().chain([&discovery.derivation.owners]) {
        let Ok(offset) = finding.offset else { continue };
        let (name, sources) = (finding.field.name().into(), finding.sources.join(", "));
        recorder.record(trace::LayoutField { process, name, offset: Hex(offset.into()), sources });
    }
    if let Some(python) = &discovery.python {
        let module = recorder.module_number(&discovery.modules[python.module].mapping);
        let missing = python.frames.as_ref().err().cloned().unwrap_or_default();
        recorder.record(trace::Interpreter { process, module, version: python.version.clone(), missing });
    }
    for (site, outcome) in discovery.sites.iter().zip(&probes.outcomes) {
        recorder.record(trace::Probe {
            id: outcome.number.into(),
            process,
            kind: kind_word(site.kind).into(),
            symbol: site.symbol.clone(),
            module: discovery.home(site).map_or(0, |home| recorder.module_number(&home.mapping)),
            offset: Hex(site.offset.clone().unwrap_or(0)),
            missing: outcome.missing.clone(),
        });
    }
}

/// What the user should know about a process that is recorded, in sentences: those for the file, and those that the file
/// has in its probes already.
pub(super) fn problems(discovery: &Discovery, probes: &Probes) -> (Vec<String>, Vec<String>) {
    let mut problems = discovery.problems.clone();
    if let Some(Python { frames: Err(reason), version, .. }) = &discovery.python {
        problems.push(format!("stacks have no frames of Python {version}: {reason}"));
    }
    let sites = discovery.sites.iter().zip(&probes.outcomes).filter(|(_, outcome)| !outcome.missing.is_empty());
    let no_probe = sites.map(|(site, outcome)| format!("no probe for {}: {}", kind_word(site.kind), outcome.missing));
    (problems, no_probe.collect())
}

/// The record of a process; `parent` is the number of the recorded process that it was forked from, or 0.
pub(super) fn process_record(process: &Process, python: Option<&Python>, id: u32, parent: u32) -> trace::Process {
    trace::Process {
        id,
        pid: process.pid,
        start: process.start,
        command: process.command.clone(),
        origin: trace::Name::default(),
        python: python.map(|python| python.version.clone()).unwrap_or_default(),
        inner_pid: process.inside.map_or(0, |inside| inside.pid),
        pid_name_space: process.inside.map_or(0, |inside| inside.name_space),
        parent,
    }
}

/// The record of a recording whose times are relative to these nanoseconds since boot.
pub(super) fn session_record(boot_ns: u64) -> trace::Session {
    let system = rustix::system::uname();
    let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let wall_ns = (wall.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(wall.tv_nsec as u64);
    trace::Session {
        tool: env!("CARGO_PKG_VERSION").into(),
        host: system.nodename().to_string_lossy().into_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        // The session may begin long after its times do: with the first process that has the library.
        wall_ns: wall_ns.saturating_sub(boot_now().saturating_sub(boot_ns)),
        boot_ns,
    }
}
