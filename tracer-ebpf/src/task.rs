// SPDX-License-Identifier: Apache-2.0
//! What the kernel's own structs tell of processes.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use tracer_common::NO_OFFSET;

use crate::maps;

/// The process id of a task.
pub(crate) fn tgid(task: u64) -> Option<u32> {
    read(task, maps::task_layout().tgid)
}

/// Whether a task that exits is the last of its process. If that can't be told, it is not.
pub(crate) fn is_last_thread(task: u64) -> bool {
    let layout = maps::task_layout();
    let signal: Option<u64> = read(task, layout.signal);
    signal.and_then(|signal| read::<i32>(signal, layout.live)) == Some(0)
}

fn read<T>(base: u64, offset: u32) -> Option<T> {
    if offset == NO_OFFSET {
        return None;
    }
    // SAFETY: the helper copes with any kernel address.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.ok()
}
