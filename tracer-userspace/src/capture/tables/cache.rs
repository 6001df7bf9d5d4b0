// SPDX-License-Identifier: Apache-2.0
//! Compiled unwind tables on disk, so that each build of a library is compiled once.
//!
//! Only a convenience: what can't be read, or is not as it should be, is compiled again. The folder is used only if it
//! is ours and nobody else can write to it, because the kernel side believes what is in the tables.

use std::{
    env,
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW},
    io::Errno,
};

use crate::{
    privileges,
    unwind::{Compiled, Key},
};

/// The folder below the user's caches.
const FOLDER: &str = "tt-buftrace";
/// Most bytes of one file, far above what the largest libraries need.
const LARGEST_FILE: u64 = 256 << 20;
/// Bytes of all files from which on the oldest are removed: some dozens of releases of ttnn.
const LARGEST_FOLDER: u64 = 512 << 20;

/// A folder of tables.
#[derive(Debug)]
pub struct Cache {
    folder: OwnedFd,
}

impl Cache {
    /// Opens the user's own, under sudo its caller's: below `$XDG_CACHE_HOME`, or `~/.cache`.
    ///
    /// # Errors
    /// If there is none that can be used.
    pub fn open() -> Result<Self> {
        let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.or_else(|| Some(privileges::home()?.join(".cache"))).filter(|path| path.is_absolute());
        Self::below(&caches.context("neither XDG_CACHE_HOME nor a home is known")?)
    }

    /// Opens, or makes, the one below a folder.
    ///
    /// # Errors
    /// If it can't be made, is not ours, or others can write to it.
    pub fn below(caches: &Path) -> Result<Self> {
        let path = caches.join(FOLDER);
        std::fs::create_dir_all(caches).with_context(|| format!("failed to make {}", caches.display()))?;
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("failed to make {}", path.display())),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())
            .with_context(|| format!("failed to open the folder {}", path.display()))?;
        let status = rustix::fs::fstat(&folder)?;
        let ours = status.st_uid == rustix::process::geteuid().as_raw();
        let others_write = Mode::from_raw_mode(status.st_mode).intersects(Mode::WGRP | Mode::WOTH);
        ensure!(ours && !others_write, "{} is not ours alone to write to", path.display());
        Ok(Self { folder })
    }

    /// The tables of a module, if they are there and whole.
    #[must_use]
    pub fn load(&self, key: &Key) -> Option<Compiled> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name(key), flags, Mode::empty()).ok()?;
        let status = rustix::fs::fstat(&file).ok()?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return None;
        }
        let file = File::from(file);
        let mut bytes = Vec::new();
        (&file).take(LARGEST_FILE).read_to_end(&mut bytes).ok()?;
        let compiled = Compiled::from_bytes(&bytes, key)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        // Only the order in which files are removed goes by it.
        let _ = rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now });
        Some(compiled)
    }

    /// Keeps the tables of a module.
    ///
    /// # Errors
    /// If they can't be written; what was there before is still there then.
    pub fn store(&self, key: &Key, compiled: &Compiled) -> Result<()> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let unique = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let temporary = format!("{}.{}.{}", name(key), unique.0, unique.1);
        let written = self.write(&temporary, &compiled.to_bytes(key)).and_then(|()| {
            let renamed = rustix::fs::renameat(&self.folder, &temporary, &self.folder, name(key));
            renamed.context("failed to rename the unwind tables")
        });
        if written.is_err() {
            // It may not be there; nothing depends on it.
            let _ = rustix::fs::unlinkat(&self.folder, &temporary, AtFlags::empty());
        }
        self.shrink(LARGEST_FOLDER)?;
        written
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)
            .context("failed to make a file for unwind tables")?;
        File::from(file).write_all(bytes).context("failed to write unwind tables")
    }

    /// Removes the files that were not used for longest, until the others have no more than so many bytes.
    fn shrink(&self, bytes: u64) -> Result<()> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let name = entry?.file_name().to_owned();
            let Ok(status) = rustix::fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile {
                files.push((status.st_mtime, status.st_size.cast_unsigned(), name));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, name) in files {
            if total <= bytes {
                break;
            }
            rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty())?;
            total -= size;
        }
        Ok(())
    }
}

fn name(key: &Key) -> String {
    format!("{}-{:x}.unwind", key.build_id, key.size)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;
    use crate::unwind::Counts;

    fn key(build_id: &str) -> Key {
        Key { build_id: build_id.into(), size: 0x40 }
    }

    fn tables(functions: u64) -> Compiled {
        use tracer_unwind::rule::Rule;
        let counts = Counts { functions, ..Counts::default() };
        Compiled { rules: vec![Rule::NONE, Rule::UNSUPPORTED], parts: Vec::new(), counts }
    }

    #[test]
    fn what_is_kept_is_found_again() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::below(&folder.path().join("made/on/first/use"))?;
        assert_eq!(cache.load(&key("aa")), None);
        cache.store(&key("aa"), &tables(1))?;
        cache.store(&key("aa"), &tables(2))?;
        assert_eq!(cache.load(&key("aa")), Some(tables(2)));
        assert_eq!(cache.load(&key("bb")), None);
        let files: Vec<_> = fs::read_dir(folder.path().join("made/on/first/use/tt-buftrace"))?.collect();
        assert_eq!(files.len(), 1, "{files:?}");
        Ok(())
    }

    #[test]
    fn a_damaged_file_is_written_anew() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::below(folder.path())?;
        cache.store(&key("aa"), &tables(1))?;
        let path = folder.path().join("tt-buftrace/aa-40.unwind");
        let mut bytes = fs::read(&path)?;
        bytes[30] ^= 1;
        fs::write(&path, bytes)?;
        assert_eq!(cache.load(&key("aa")), None);
        cache.store(&key("aa"), &tables(1))?;
        assert_eq!(cache.load(&key("aa")), Some(tables(1)));
        fs::rename(&path, folder.path().join("tt-buftrace/bb-40.unwind"))?;
        assert_eq!(cache.load(&key("bb")), None, "another module's under its name");
        Ok(())
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_used() -> Result<()> {
        let folder = tempfile::tempdir()?;
        drop(Cache::below(folder.path())?);
        fs::set_permissions(folder.path().join("tt-buftrace"), fs::Permissions::from_mode(0o770))?;
        assert!(Cache::below(folder.path()).is_err());
        let other = tempfile::tempdir()?;
        symlink(folder.path(), other.path().join("tt-buftrace"))?;
        assert!(Cache::below(other.path()).is_err(), "a link leads anywhere");
        let file = tempfile::tempdir()?;
        fs::write(file.path().join("tt-buftrace"), "")?;
        assert!(Cache::below(file.path()).is_err());
        Ok(())
    }

    #[test]
    fn the_folder_does_not_grow_for_ever() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::below(folder.path())?;
        for (index, name) in ["aa", "bb", "cc"].into_iter().enumerate() {
            cache.store(&key(name), &tables(1))?;
            let file = File::open(folder.path().join(format!("tt-buftrace/{name}-40.unwind")))?;
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(index as u64))?;
        }
        assert!(cache.load(&key("aa")).is_some(), "now it is the last that was used");
        let size = fs::metadata(folder.path().join("tt-buftrace/aa-40.unwind"))?.len();
        cache.shrink(2 * size)?;
        let there = ["aa", "bb", "cc"].map(|name| cache.load(&key(name)).is_some());
        assert_eq!(there, [true, false, true]);
        Ok(())
    }
}
