// SPDX-License-Identifier: Apache-2.0
//! From a process id to all that probing and unwinding need, reading only `/proc`, ELF files and a few words of memory.
//!
//! Nothing is assumed of the traced library's version, name or place: it is the mapped file that defines [`LIBRARY_SYMBOL`].

pub mod btf;
pub mod container;
pub mod elf;
pub mod environ;
pub mod layout;
pub mod maps;
pub mod memory;
pub mod module;
pub mod owners;
pub mod process;
pub mod python;
pub mod symbols;
mod truncated;

use std::{collections::HashMap, fmt, io, path::PathBuf, rc::Rc};

use anyhow::{Context as _, Result};
use tracer_common::{Kind, Layout, TEST_VARIABLE};

use elf::Symbol;
use layout::{Derivation, Generation, Marks};
use maps::Mapping;
use module::Module;
use owners::Owners;
use process::Process;
use python::Python;
use symbols::{Home, ProbeSet, Site};

/// `GraphTracker::track_allocate`: what the library that holds the buffers defines, in every release since 0.60.
pub const LIBRARY_SYMBOL: &str = "_ZN2tt8tt_metal12GraphTracker14track_allocateEPKNS0_6BufferE";

/// What there is to know about a process before it is traced.
#[derive(Debug)]
pub struct Discovery {
    /// The process.
    pub process: Process,
    /// Every mapped file.
    pub mappings: Vec<Mapping>,
    /// Every ELF file that the process runs code from, once each, open.
    pub modules: Vec<Module>,
    /// The files that are not among `modules`, each with the reason.
    pub problems: Vec<String>,
    /// The library that holds the buffers, by its place in `modules`.
    pub library: usize,
    /// The C library, likewise.
    pub libc: Option<usize>,
    /// The dynamic linker, likewise.
    pub linker: Option<usize>,
    /// Where the target's classes keep what.
    pub derivation: Derivation,
    /// The places to probe.
    pub sites: Vec<Site>,
    /// The Python interpreter, if there is one of a version that can be told.
    pub python: Option<Python>,
    /// Address of the counter that gives out unique ids.
    pub next_unique_id: Option<u64>,
    /// Address of libc's `environ`.
    pub environ: Option<u64>,
}

/// Why a process cannot be traced.
#[derive(Debug)]
pub enum Obstacle {
    /// The library is not mapped. It may be later: `import ttnn` can come at any time.
    NotLoaded {
        /// The process.
        process: Process,
        /// Files that could not be looked into, each with the reason: the library may be among them.
        problems: Vec<String>,
    },
    /// Anything that waiting does not help.
    Failed(anyhow::Error),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded { process, problems } => {
                write!(f, "process {} ({}) has not loaded TT-Metal", process.pid, process.command)?;
                problems.iter().try_for_each(|problem| write!(f, "; {problem}"))
            }
            Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Obstacle {}

impl From<anyhow::Error> for Obstacle {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Discovery {
    /// Looks at a process that is to be probed at the sites of a set. What is known of its library already is not looked
    /// at again.
    ///
    /// # Errors
    /// [`Obstacle::NotLoaded`] if the library is not mapped (yet); otherwise if the process or the library cannot be read.
    /// A field or symbol that is not found is no error here, but data in the answer.
    pub fn of(pid: u32, set: ProbeSet, known: &mut Known) -> Result<Self, Obstacle> {
        let process = Process::read(pid)?;
        let mappings = maps::read(pid).with_context(|| format!("failed to read the memory map of process {pid}"))?;
        let (modules, problems) = open_modules(pid, &mappings);
        let Some(library) = modules.iter().position(|module| known.is_library(module)) else {
            return Err(Obstacle::NotLoaded { process, problems });
        };
        let libc = modules.iter().position(is_libc);
        let found = known.library(&modules[library], set)?;
        let mut sites = found.sites.clone();
        let linker = modules.iter().position(is_linker);
        for (home, module) in [(Home::Libc, libc), (Home::Linker, linker)] {
            sites.extend(sites_of(home, set, module.map(|module| &modules[module]))?);
        }
        let python = python::find(pid, &modules);
        let frames = python.as_ref().and_then(|python| python.frames.as_ref().ok());
        sites.extend(frames.map(|frames| symbols::code_destructor(frames.destructor.clone())));
        let next_unique_id = found.next_unique_id.map(|symbol| modules[library].address(symbol));
        Ok(Self {
            environ: environ::address(&modules, &process.program, libc),
            python,
            process,
            mappings,
            modules,
            problems,
            library,
            libc,
            linker,
            derivation: found.derivation.clone(),
            sites,
            next_unique_id,
        })
    }

    /// The library that holds the buffers.
    #[must_use]
    pub fn library(&self) -> &Module {
        &self.modules[self.library]
    }

    /// The module that a site is in, `None` if it is not there.
    #[must_use]
    pub fn home(&self, site: &Site) -> Option<&Module> {
        match site.home {
            Home::Library => Some(self.library()),
            Home::Libc => self.modules.get(self.libc?),
            Home::Linker => self.modules.get(self.linker?),
            Home::Interpreter => self.modules.get(self.python.as_ref()?.module),
        }
    }

    /// Address of what the dynamic linker tells debuggers of itself.
    #[must_use]
    pub fn linker_state(&self) -> Option<u64> {
        let linker = self.modules.get(self.linker?)?;
        Some(linker.address(linker.elf().ok()?.symbol("_r_debug")?))
    }

    /// How Python frames are read, if there is an interpreter whose frames can be.
    #[must_use]
    pub fn frames(&self) -> Option<&python::Frames> {
        self.python.as_ref()?.frames.as_ref().ok()
    }

    /// The layout that the kernel side is given.
    ///
    /// # Errors
    /// If a field was refused; says which, and what each source said.
    pub fn layout(&self) -> Result<Layout> {
        self.derivation.layout(self.library().bias)
    }

    /// The next unique id: buffers below it exist already, or did.
    ///
    /// # Errors
    /// If the library does not export the counter, or if the process cannot be read.
    pub fn read_next_unique_id(&self) -> Result<u64> {
        let address = self.next_unique_id.context("the counter of unique ids is not exported")?;
        memory::read_u64(self.process.pid, address).context("failed to read the counter of unique ids")
    }

    /// What reads the sets in which allocators keep the owners of their memory.
    ///
    /// # Errors
    /// If it is not known where they are, or how to tell what is in them; says why.
    pub fn owners(&self) -> Result<Owners> {
        let set = self.derivation.owners.offset.clone().map_err(anyhow::Error::msg)?;
        let counter = self.next_unique_id.context("the counter of unique ids is not exported")?;
        Ok(Owners { pid: self.process.pid, layout: self.layout()?, set, counter })
    }

    /// The test that pytest runs at this moment, if it does.
    ///
    /// # Errors
    /// If the memory of the process cannot be read.
    pub fn read_current_test(&self) -> io::Result<Option<String>> {
        let name = TEST_VARIABLE.strip_suffix(b"\0").unwrap_or(TEST_VARIABLE);
        match self.environ {
            Some(environ) => environ::variable(self.process.pid, environ, &String::from_utf8_lossy(name)),
            None => Ok(None),
        }
    }
}

/// Opens every file that the process runs code from, once each; those that cannot be are named with the reason.
#[must_use]
pub fn open_modules(pid: u32, mappings: &[Mapping]) -> (Vec<Module>, Vec<String>) {
    let mut modules: Vec<Module> = Vec::new();
    let mut problems = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for mapping in mappings.iter().filter(|mapping| mapping.executable) {
        if !seen.insert((mapping.device, mapping.inode)) {
            continue;
        }
        match Module::open(pid, mapping) {
            Ok(module) => modules.push(module),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    (modules, problems)
}

fn file(mapping: &Mapping) -> ((u32, u32), u64, PathBuf) {
    (mapping.device, mapping.inode, mapping.path.clone())
}

fn is_libc(module: &Module) -> bool {
    let name = module.name();
    name.starts_with("libc.so") || name.starts_with("libc-2.") || name.starts_with("ld-musl")
}

/// glibc's; musl's is its C library.
fn is_linker(module: &Module) -> bool {
    let name = module.name();
    name.starts_with("ld-linux") || name.starts_with("ld-2.")
}

fn sites_of(home: Home, set: ProbeSet, module: Option<&Module>) -> Result<Vec<Site>> {
    match module {
        Some(module) => Ok(symbols::sites(&module.elf()?, home, set)),
        None => Ok(symbols::missing(home, set, "the module is not mapped under its own name")),
    }
}

/// What was found out about files: many processes have the same ones.
#[derive(Debug, Default)]
pub struct Known {
    /// Whether a file names [`LIBRARY_SYMBOL`], by device, inode and path. To look into all that an import of ttnn maps
    /// takes a while.
    naming: HashMap<((u32, u32), u64, PathBuf), bool>,
    /// By build id.
    libraries: HashMap<(String, ProbeSet), Rc<Library>>,
}

impl Known {
    /// Whether a process has mapped a file that names [`LIBRARY_SYMBOL`], perhaps in part only yet. A file that can't be
    /// opened may be in the middle of being mapped, and is tried again at the next call.
    pub fn may_have_library(&mut self, pid: u32) -> bool {
        let mappings = maps::read(pid).unwrap_or_default().into_iter().filter(|mapping| mapping.executable);
        let names = |mapping: Mapping| {
            let known = self.naming.get(&file(&mapping)).copied();
            known.unwrap_or_else(|| Module::open(pid, &mapping).is_ok_and(|module| self.names_library(&module)))
        };
        // All of them, so that the next call finds all known.
        mappings.map(names).fold(false, |any, one| any | one)
    }

    fn names_library(&mut self, module: &Module) -> bool {
        let look = || module.elf().is_ok_and(|elf| elf.mentions(LIBRARY_SYMBOL));
        *self.naming.entry(file(&module.mapping)).or_insert_with(look)
    }

    /// Whether a module defines [`LIBRARY_SYMBOL`].
    fn is_library(&mut self, module: &Module) -> bool {
        self.names_library(module) && module.elf().is_ok_and(|elf| elf.symbol(LIBRARY_SYMBOL).is_some())
    }

    fn library(&mut self, module: &Module, set: ProbeSet) -> Result<Rc<Library>> {
        let key = (module.build_id.clone(), set);
        if let Some(known) = self.libraries.get(&key) {
            return Ok(Rc::clone(known));
        }
        let library = Rc::new(Library::read(module, set)?);
        // A file without a build id may be any.
        if !key.0.is_empty() {
            self.libraries.insert(key, Rc::clone(&library));
        }
        Ok(library)
    }
}

/// What is read of the library with its symbol tables at hand.
#[derive(Debug)]
struct Library {
    derivation: Derivation,
    sites: Vec<Site>,
    next_unique_id: Option<Symbol>,
}

impl Library {
    fn read(module: &Module, set: ProbeSet) -> Result<Self> {
        let elf = module.elf()?;
        let derivation =
            layout::derive(&elf).with_context(|| format!("failed to understand {}", module.mapping.path.display()))?;
        let mut sites = symbols::sites(&elf, Home::Library, set);
        // Where BufferImpl has the fields, the mark is set inline, and if not seen there, then by `~Buffer`: nothing is missing.
        let inlined = derivation.generation == Generation::BufferImpl;
        sites.retain(|site| !(inlined && site.kind == Kind::Marked && site.offset.is_err()));
        let marks = layout::marks(&elf, &derivation);
        let called = sites.iter().any(|site| site.kind == Kind::Marked && site.offset.is_ok());
        if called && marks == Marks::Called || matches!(marks, Marks::Inline(_)) {
            // Every owner's end is seen where it comes about. `~Buffer` is hit by the buffer of each chip as well.
            sites.retain(|site| site.kind != Kind::Destroyed);
        }
        if let Marks::Inline(calls) = marks {
            sites.extend(calls.into_iter().map(|call| symbols::inlined_mark(&elf, call)));
        }
        let next_unique_id = layout::COUNTER.iter().find_map(|name| elf.symbol(name));
        Ok(Self { derivation, sites, next_unique_id })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::CStr,
        io::{Read as _, Write as _},
        process::{Command, Stdio},
    };

    use super::*;
    use process::Verified;

    /// Where the dynamic linker has a symbol: a source that is not ours.
    fn linked(name: &CStr) -> u64 {
        // SAFETY: the name is a C string, and RTLD_DEFAULT a valid handle.
        unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) as u64 }
    }

    #[test]
    fn symbols_have_the_addresses_that_the_dynamic_linker_gives_them() {
        let process = Process::read(std::process::id()).expect("own process");
        let (modules, problems) = open_modules(process.pid, &maps::read(process.pid).expect("own maps"));
        assert_eq!(problems, Vec::<String>::new());
        let libc = modules.iter().position(is_libc).expect("a C library");
        let elf = modules[libc].elf().expect("an ELF file");
        for name in [c"setenv", c"unsetenv"] {
            let symbol = elf.symbol(name.to_str().expect("ASCII")).expect("libc defines it");
            assert_eq!(modules[libc].address(symbol), linked(name), "{name:?}");
        }
        assert_eq!(environ::address(&modules, &process.program, Some(libc)), Some(linked(c"environ")));
    }

    #[test]
    fn a_process_without_the_library_may_load_it_later() {
        let answer = Discovery::of(std::process::id(), ProbeSet::Owners, &mut Known::default());
        assert!(matches!(answer, Err(Obstacle::NotLoaded { .. })), "{answer:?}");
    }

    #[test]
    fn a_program_that_was_replaced_is_still_opened_as_it_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        std::fs::copy("/bin/cat", &program).expect("a program");
        let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        // It is loaded once it answers.
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(b".").expect("it reads");
        child.stdout.take().expect("a pipe").read_exact(&mut [0]).expect("it answers");
        let replacement = folder.path().join("replacement");
        std::fs::write(&replacement, "something else").expect("a file");
        std::fs::rename(&replacement, &program).expect("in its place");
        let pid = child.id();
        let maps = maps::read(pid).expect("its maps");
        let own = maps.iter().find(|mapping| mapping.executable && mapping.path == program).expect("its code").clone();
        let opened = Module::open(pid, &own);
        drop(input);
        child.wait().expect("it ends");
        match opened {
            Ok(module) => {
                assert_eq!((module.file.verified, own.deleted), (Verified::Link, true));
                assert_eq!(module.data(), std::fs::read("/bin/cat").expect("the original"));
            }
            Err(error) => {
                say!("the link needs more rights: {error:#}\n");
                assert!(error.to_string().contains("is another file by now"), "{error:#}");
            }
        }
    }
}
