// SPDX-License-Identifier: Apache-2.0
//! The functions that are probed: what a hit means, which argument is the object, and how they are found in a build.

use tracer_common::{Cookie, Kind};

use super::elf::Elf;

/// A function that is wanted, and the names that it has had.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    kind: Kind,
    /// Mangled name and the argument that holds the object; the first that is defined is taken.
    candidates: &'static [(&'static str, u8)],
    /// Whether the stack goes with the hit.
    stack: bool,
    /// Whether a recording without it would mislead.
    required: bool,
}

/// How much is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeSet {
    /// What tells of buffers that own memory, and of their devices.
    Owners,
    /// Also the making of buffers that own none, as many events more as a mesh has chips, and circular buffers.
    Full,
}

/// In the library that holds the buffers: what tells of owners.
const LIBRARY: &[Wanted] = &[
    Wanted {
        kind: Kind::Request,
        candidates: &[
            ("_ZN2tt8tt_metal6Buffer13allocate_implEv", 0),
            ("_ZN2tt8tt_metal10BufferImpl13allocate_implERNS0_6BufferE", 1),
        ],
        stack: true,
        required: true,
    },
    // On the thread of the request, with the bytes of each bank that "out of memory" speaks of. An allocator that must keep
    // clear of those of other sub-devices chooses the address itself, and does not come here.
    Wanted {
        kind: Kind::Bank,
        candidates: &[("_ZN2tt8tt_metal9allocator11FreeListOpt8allocateEmbm", 0)],
        stack: false,
        required: false,
    },
    Wanted {
        kind: Kind::Allocated,
        candidates: &[("_ZN2tt8tt_metal12GraphTracker14track_allocateEPKNS0_6BufferE", 1)],
        stack: false,
        required: true,
    },
    Wanted {
        kind: Kind::Free,
        candidates: &[
            ("_ZN2tt8tt_metal6Buffer15deallocate_implEv", 0),
            ("_ZN2tt8tt_metal10BufferImpl15deallocate_implERNS0_6BufferE", 1),
        ],
        stack: true,
        required: true,
    },
    Wanted {
        kind: Kind::Released,
        candidates: &[("_ZN2tt8tt_metal12GraphTracker16track_deallocateEPNS0_6BufferE", 1)],
        stack: false,
        required: true,
    },
    // Inlined from tt-metal 0.79 on: there only `~Buffer` shows it.
    Wanted {
        kind: Kind::Marked,
        candidates: &[("_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv", 0)],
        stack: true,
        required: false,
    },
    Wanted {
        kind: Kind::Destroyed,
        candidates: &[("_ZN2tt8tt_metal6BufferD1Ev", 0), ("_ZN2tt8tt_metal6BufferD2Ev", 0)],
        stack: true,
        required: true,
    },
    // Where there is an AllocatorImpl, Allocator's function only calls it.
    Wanted {
        kind: Kind::Bulk,
        candidates: &[
            ("_ZN2tt8tt_metal13AllocatorImpl18deallocate_buffersEv", 0),
            ("_ZN2tt8tt_metal9Allocator18deallocate_buffersEv", 0),
        ],
        stack: true,
        required: false,
    },
    // Where there is a MeshDeviceImpl, both `close` and `~MeshDevice` go through its `close_impl`, with the MeshDevice.
    Wanted {
        kind: Kind::DeviceClose,
        candidates: &[
            ("_ZN2tt8tt_metal11distributed14MeshDeviceImpl10close_implEPNS1_10MeshDeviceE", 1),
            ("_ZN2tt8tt_metal11distributed10MeshDevice5closeEv", 0),
        ],
        stack: true,
        required: false,
    },
    Wanted {
        kind: Kind::DeviceClose,
        candidates: &[("_ZN2tt8tt_metal6Device5closeEv", 0)],
        stack: true,
        required: false,
    },
    // Ids of chips return. Those of meshes do not, so a mesh needs no such event.
    Wanted {
        kind: Kind::DeviceOpen,
        candidates: &[("_ZN2tt8tt_metal6Device10initializeEhmmmSt4spanIKjLm18446744073709551615EEb", 0)],
        stack: true,
        required: false,
    },
];

/// In the library that holds the buffers: what else there is.
const OTHERS: &[Wanted] = &[
    Wanted {
        kind: Kind::Alias,
        // It returns a shared_ptr through a hidden first argument; the device is the second.
        candidates: &[
            (
                "_ZN2tt8tt_metal6Buffer6createEPNS0_7IDeviceEmmmNS0_10BufferTypeERKNS0_18BufferShardingArgsE\
                 St8optionalIbES8_IN4ttsl10StrongTypeIhNS0_14SubDeviceIdTagEEEE",
                1,
            ),
            (
                "_ZN2tt8tt_metal10BufferImpl6createEPNS0_7IDeviceEmmmNS0_10BufferTypeERKNS0_18BufferShardingArgsE\
                 St8optionalIbES8_IN4ttsl10StrongTypeIhNS0_14SubDeviceIdTagEEEE",
                1,
            ),
        ],
        stack: true,
        required: false,
    },
    Wanted {
        kind: Kind::Circular,
        candidates: &[
            ("_ZN2tt8tt_metal12GraphTracker17track_allocate_cbERKNS0_12CoreRangeSetEmmbPKNS0_7IDeviceE", 1),
            ("_ZN2tt8tt_metal12GraphTracker17track_allocate_cbERK12CoreRangeSetmmbPKNS0_7IDeviceE", 1),
        ],
        stack: false,
        required: false,
    },
    Wanted {
        kind: Kind::CircularFreed,
        candidates: &[("_ZN2tt8tt_metal12GraphTracker19track_deallocate_cbEPKNS0_7IDeviceE", 1)],
        stack: false,
        required: false,
    },
];

/// In libc: pytest sets and removes its variable by these.
const LIBC: &[Wanted] = &[
    Wanted { kind: Kind::TestBegin, candidates: &[("setenv", 0)], stack: false, required: false },
    Wanted { kind: Kind::TestEnd, candidates: &[("unsetenv", 0)], stack: false, required: false },
];

/// In the dynamic linker, which calls this function, made for debuggers, before and after it loads or unloads modules.
const LINKER: &[Wanted] =
    &[Wanted { kind: Kind::Modules, candidates: &[("_dl_debug_state", 0)], stack: false, required: false }];

/// Which module a site is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// The library that holds the buffers.
    Library,
    /// The C library.
    Libc,
    /// The dynamic linker.
    Linker,
    /// The Python interpreter.
    Interpreter,
}

/// A place to probe, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// What a hit means.
    pub kind: Kind,
    /// Mangled name; the preferred one if none is there.
    pub symbol: String,
    /// Which integer argument (0 is `rdi`) holds the object.
    pub argument: u8,
    /// Whether the stack goes with the hit.
    pub stack: bool,
    /// Whether only buffers that own memory are of interest.
    pub owners: bool,
    /// Whether a recording without it would mislead.
    pub required: bool,
    /// The module.
    pub home: Home,
    /// Where in the module's file the first instruction is, or why that is not known.
    pub offset: Result<u64, String>,
}

impl Site {
    /// The attach cookie of this site as the recording's `number`th.
    #[must_use]
    pub const fn cookie(&self, number: u16) -> Cookie {
        let Self { kind, argument, stack, owners, .. } = *self;
        Cookie { kind, argument, stack, owners, site: number }
    }
}

/// The destructor of Python's code objects, which has no name that every build keeps.
#[must_use]
pub fn code_destructor(offset: Result<u64, String>) -> Site {
    Site {
        kind: Kind::CodeFreed,
        symbol: "PyCode_Type.tp_dealloc".into(),
        argument: 0,
        stack: false,
        owners: false,
        required: false,
        home: Home::Interpreter,
        offset,
    }
}

/// The place where a build without `mark_as_deallocated` is about to mark what it has just called `Buffer::impl()` for:
/// this call, which the kernel can do by itself.
#[must_use]
pub fn inlined_mark(elf: &Elf, call: u64) -> Site {
    Site {
        kind: Kind::Marked,
        symbol: "_ZN2tt8tt_metal6Buffer4implEv".into(),
        argument: 0,
        stack: true,
        owners: true,
        required: true,
        home: Home::Library,
        offset: elf.file_offset(call).ok_or_else(|| "the call's address is not in the file".into()),
    }
}

/// The sites in a module.
#[must_use]
pub fn sites(elf: &Elf, home: Home, set: ProbeSet) -> Vec<Site> {
    wanted(home, set).map(|wanted| wanted.site(home, |name| offset(elf, name))).collect()
}

/// The sites of a module that is not there.
#[must_use]
pub fn missing(home: Home, set: ProbeSet, reason: &str) -> Vec<Site> {
    wanted(home, set).map(|wanted| wanted.site(home, |_| Err(reason.to_string()))).collect()
}

fn wanted(home: Home, set: ProbeSet) -> impl Iterator<Item = &'static Wanted> {
    let (owners, others) = match home {
        Home::Library => (LIBRARY, OTHERS),
        Home::Libc => (LIBC, &[][..]),
        Home::Linker => (LINKER, &[][..]),
        Home::Interpreter => (&[][..], &[][..]),
    };
    owners.iter().chain(if set == ProbeSet::Full { others } else { &[] })
}

/// The uprobe offset of a symbol.
fn offset(elf: &Elf, name: &str) -> Result<u64, String> {
    let symbol = elf.symbol(name).ok_or("this build does not define it")?;
    if symbol.indirect {
        return Err("it is chosen at load time (IFUNC), so the symbol does not say where it is".into());
    }
    elf.file_offset(symbol.address).ok_or_else(|| "the symbol's address is not in the file".into())
}

impl Wanted {
    fn site(&self, home: Home, find: impl Fn(&str) -> Result<u64, String>) -> Site {
        let found = self.candidates.iter().map(|candidate| (candidate, find(candidate.0)));
        let best = found.reduce(|best, next| {
            if best.1.is_ok() {
                best
            } else if next.1.is_ok() {
                next
            } else {
                best
            }
        });
        let (candidate, offset) = best.unwrap_or((&("", 0), Err("it has no name".into())));
        Site {
            kind: self.kind,
            symbol: candidate.0.into(),
            argument: candidate.1,
            stack: self.stack,
            owners: false,
            required: self.required,
            home,
            offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(kind: Kind, defined: &[&str]) -> Site {
        let wanted = LIBRARY.iter().find(|wanted| wanted.kind == kind).expect("each kind has a site");
        let find = |name: &str| {
            if defined.contains(&name) { Ok(0x1000) } else { Err("absent".to_string()) }
        };
        wanted.site(Home::Library, find)
    }

    #[test]
    fn the_object_is_the_buffer_in_both_generations() {
        let old = site(Kind::Free, &["_ZN2tt8tt_metal6Buffer15deallocate_implEv"]);
        let new = site(Kind::Free, &["_ZN2tt8tt_metal10BufferImpl15deallocate_implERNS0_6BufferE"]);
        assert_eq!((old.argument, new.argument), (0, 1));
    }

    #[test]
    fn the_real_release_is_preferred_to_its_wrapper() {
        let both =
            ["_ZN2tt8tt_metal9Allocator18deallocate_buffersEv", "_ZN2tt8tt_metal13AllocatorImpl18deallocate_buffersEv"];
        assert_eq!(site(Kind::Bulk, &both).symbol, both[1]);
        assert_eq!(site(Kind::Bulk, &both[..1]).symbol, both[0]);
    }

    #[test]
    fn a_symbol_that_is_not_there_is_a_site_with_a_reason() {
        let marked = site(Kind::Marked, &[]);
        assert_eq!(marked.offset, Err("absent".into()));
        assert_eq!(marked.symbol, "_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv");
    }

    #[test]
    fn the_others_are_in_the_full_set_only() {
        let kinds = |set| missing(Home::Library, set, "absent").into_iter().map(|site| site.kind).collect::<Vec<_>>();
        assert!(!kinds(ProbeSet::Owners).contains(&Kind::Alias));
        assert!(kinds(ProbeSet::Full).contains(&Kind::Alias));
        assert!(kinds(ProbeSet::Full).starts_with(&kinds(ProbeSet::Owners)));
        let names: Vec<&str> = OTHERS[0].candidates.iter().map(|(name, _)| *name).collect();
        assert!(names.iter().all(|name| !name.contains(' ')), "{names:?}");
    }

    #[test]
    fn requests_and_frees_carry_stacks_and_what_follows_them_does_not() {
        let with_stack: Vec<_> =
            LIBRARY.iter().chain(LIBC).chain(LINKER).filter(|wanted| !wanted.stack).map(|w| w.kind).collect();
        let expected = [Kind::Bank, Kind::Allocated, Kind::Released, Kind::TestBegin, Kind::TestEnd, Kind::Modules];
        assert_eq!(with_stack, expected);
    }
}
