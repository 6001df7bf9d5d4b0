// SPDX-License-Identifier: Apache-2.0
//! The place of a trace: its file is opened and locked before there is anything to write, and what is there already stays
//! until there is.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io::{self, Read, Seek},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::Errno,
};

use super::{Identity, MAGIC};

/// Where a trace will be, which nobody else records to meanwhile.
///
/// Where there was no file, there is an empty one for as long as this lives, unless a trace comes of it.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    file: File,
    /// Whether it is none of the pipes and devices that a trace can be written to as well.
    is_regular: bool,
    /// Whether the file was made for this.
    is_new: bool,
    earlier: u64,
}

impl Place {
    /// Takes a path at which there is nothing, or an earlier trace, which from now on only its owner can read.
    ///
    /// # Errors
    ///
    /// The file cannot be written, is there already and is no trace, or is being recorded to.
    pub fn take(path: &Path) -> Result<Self> {
        let failed = || format!("failed to create {}", path.display());
        // Who could read a pipe as well would never hear that its reader has left, and who waits for one hears no Ctrl-C.
        let is_regular = fs::metadata(path).map_or(true, |metadata| metadata.is_file());
        let mut options = File::options();
        options.read(is_regular).write(true).mode(0o600).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let (mut file, is_new) = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = options.create(true).open(path).map_err(|error| match Errno::from_io_error(&error) {
                    Some(Errno::NXIO) => anyhow!("nobody reads this pipe; start what does first"),
                    _ => error.into(),
                });
                (file.with_context(failed)?, false)
            }
            made => (made.with_context(failed)?, true),
        };
        let metadata = file.metadata().with_context(failed)?;
        // A chunk is written whole, however long that takes.
        fcntl_setfl(&file, OFlags::empty()).with_context(failed)?;
        let mut earlier = 0;
        if metadata.is_file() {
            refuse_locked(&file.try_lock(), path)?;
            refuse_content(&mut file, path)?;
            // Later there may be no right to.
            file.set_permissions(Permissions::from_mode(0o600)).with_context(failed)?;
            earlier = metadata.len();
        }
        Ok(Self { path: path.to_owned(), file, is_regular: metadata.is_file(), is_new, earlier })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the earlier trace that is there; 0 if there is none.
    #[must_use]
    pub fn earlier(&self) -> u64 {
        self.earlier
    }

    /// The file, empty. It is locked until it is closed.
    pub(super) fn begin(mut self) -> Result<File> {
        if self.is_regular && !self.is_there() {
            // What was opened has another name by now, and was perhaps put aside to be kept.
            self = Self::take(&self.path)?;
        }
        let failed = || format!("failed to create {}", self.path.display());
        if self.is_regular {
            self.file.set_len(0).with_context(failed)?;
            self.file.rewind().with_context(failed)?;
        }
        let file = self.file.try_clone().with_context(failed)?;
        self.is_new = false;
        Ok(file)
    }

    /// Whether the path still leads to the file.
    fn is_there(&self) -> bool {
        Identity::of(&self.file).is_ok_and(|file| file.is_at(&self.path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_new && self.is_there() && self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            // An empty file that stays harms nobody.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Refuses a path at which there is a file already that is no trace, or is being recorded to: `-o` may be given the name of
/// something precious.
///
/// # Errors
///
/// There is one, or it can't be read.
pub fn refuse_other(path: &Path) -> Result<()> {
    match File::open(path) {
        Ok(mut file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => {
            refuse_locked(&file.try_lock_shared(), path)?;
            refuse_content(&mut file, path)
        }
        _ => Ok(()),
    }
}

fn refuse_locked(locked: &Result<(), TryLockError>, path: &Path) -> Result<()> {
    match locked {
        Err(TryLockError::WouldBlock) => {
            bail!("failed to create {}: a recording is writing it; -o names another file", path.display())
        }
        // A file system that has no locks keeps nobody away.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn refuse_content(file: &mut File, path: &Path) -> Result<()> {
    let mut head = Vec::new();
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut head)
        .with_context(|| format!("failed to read {}", path.display()))?;
    if !head.is_empty() && head != MAGIC {
        bail!("failed to create {}: it is there already, and it is no trace", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_there_stays_until_the_trace_begins() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ttb");
        fs::write(&path, MAGIC).expect("written");
        let place = Place::take(&path).expect("taken");
        assert_eq!(place.earlier(), MAGIC.len() as u64);
        drop(place);
        assert_eq!(fs::read(&path).expect("read"), MAGIC);
        let place = Place::take(&path).expect("free again");
        // The user keeps the earlier trace after all.
        fs::rename(&path, folder.path().join("kept.ttb")).expect("renamed");
        let file = place.begin().expect("begun");
        assert_eq!(fs::read(folder.path().join("kept.ttb")).expect("read"), MAGIC);
        assert_eq!((file.metadata().expect("there").len(), fs::read(&path).expect("read").len()), (0, 0));
    }

    #[test]
    fn a_new_file_is_gone_if_nothing_comes_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ttb");
        drop(Place::take(&path).expect("taken"));
        assert!(!path.exists());
        let file = Place::take(&path).expect("taken").begin().expect("begun");
        assert!(path.exists());
        drop(file);
    }

    #[test]
    fn a_pipe_is_written_to_as_long_as_somebody_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ttb");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).expect("made");
        let said = format!("{:#}", Place::take(&path).map(drop).expect_err("nobody reads"));
        assert!(said.ends_with("a.ttb: nobody reads this pipe; start what does first"), "{said}");
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        let reader = File::options().read(true).custom_flags(nonblock).open(&path).expect("opened");
        let mut file = Place::take(&path).expect("taken").begin().expect("begun");
        file.write_all(&MAGIC).expect("written");
        drop(reader);
        assert_eq!(file.write_all(&MAGIC).expect_err("nobody reads").kind(), io::ErrorKind::BrokenPipe);
        assert!(path.exists());
    }

    #[test]
    fn one_writes_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ttb");
        let place = Place::take(&path).expect("taken");
        let refused = |result: Result<()>| {
            let said = result.expect_err("locked").to_string();
            assert!(said.ends_with("a.ttb: a recording is writing it; -o names another file"), "{said}");
        };
        refused(Place::take(&path).map(drop));
        let file = place.begin().expect("begun");
        refused(Place::take(&path).map(drop));
        refused(refuse_other(&path));
        drop(file);
        refuse_other(&path).expect("free");
        Place::take(&path).expect("free");
        // To a device everybody writes.
        let devices = [0, 1].map(|_| Place::take(Path::new("/dev/null")).expect("taken"));
        assert_eq!(devices.map(|device| device.earlier()), [0, 0]);
    }
}
