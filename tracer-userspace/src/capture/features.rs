// SPDX-License-Identifier: Apache-2.0
//! What the kernel side is made of, as far as kernels may lack it: tried out, not told by the kernel's version.

use anyhow::{Context as _, Result};
use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};

/// Each with the name that users know it by.
const MAPS: [(MapType, &str); 4] = [
    (MapType::RingBuf, "ring buffers"),
    (MapType::ArrayOfMaps, "arrays of maps"),
    (MapType::LruHash, "LRU hashes"),
    (MapType::PerCpuArray, "arrays a CPU"),
];
const PROGRAMS: [(ProgramType, &str); 2] =
    [(ProgramType::KProbe, "uprobe programs"), (ProgramType::RawTracePoint, "raw tracepoints")];
/// The latest of the helpers: attach cookies came with Linux 5.15, the clock and the ring buffer's with 5.8.
const HELPERS: [(BpfHelper, &str); 3] = [
    (BpfHelper::BPF_FUNC_get_attach_cookie, "attach cookies"),
    (BpfHelper::BPF_FUNC_ktime_get_boot_ns, "the clock since boot"),
    (BpfHelper::BPF_FUNC_ringbuf_query, "queries of a ring buffer"),
];

/// The names of what the running kernel lacks.
///
/// # Errors
/// If it can't be tried out, e.g. without CAP_BPF.
pub fn missing() -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for (map, name) in MAPS {
        if !is_map_supported(map).with_context(|| format!("failed to try out {name}"))? {
            missing.push(name);
        }
    }
    for (program, name) in PROGRAMS {
        if !is_program_supported(program).with_context(|| format!("failed to try out {name}"))? {
            missing.push(name);
        }
    }
    for (helper, name) in HELPERS {
        if !is_helper_supported(ProgramType::KProbe, helper).with_context(|| format!("failed to try out {name}"))? {
            missing.push(name);
        }
    }
    Ok(missing)
}
