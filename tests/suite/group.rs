// SPDX-License-Identifier: Apache-2.0
//! Control groups: targets that may have little memory, and targets in a group that is named as a container's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

/// Where groups can be, and the file that limits their memory: by either version of the kernel's interface.
const HIERARCHIES: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// A control group, removed when it is dropped.
pub(crate) struct Group(PathBuf);

impl Group {
    /// A new one of this name that a process is in, with at most so much memory. Says so where there can't be one.
    pub(crate) fn with(name: &str, pid: u32, memory: Option<u64>) -> Result<Option<Self>> {
        for (hierarchy, limit) in HIERARCHIES {
            let folder = Path::new(hierarchy).join(name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Self(folder);
            let limited = memory.is_none_or(|bytes| fs::write(group.0.join(limit), bytes.to_string()).is_ok());
            if limited && group.add(pid).is_ok() {
                return Ok(Some(group));
            }
        }
        eprintln!("skipped: there can be no control group here");
        Ok(None)
    }

    /// Puts a process into it.
    pub(crate) fn add(&self, pid: u32) -> Result<()> {
        Ok(fs::write(self.0.join("cgroup.procs"), pid.to_string())?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
