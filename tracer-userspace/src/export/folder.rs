// SPDX-License-Identifier: Apache-2.0
//! Output folders: made, or taken again if an earlier export made them. What others put there is never touched.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// The file that says who made a folder, and lists what it wrote there. Readers of data sets pass over names that begin so.
const MARK: &str = "_tt-buftrace";
/// Most bytes of that file.
const LARGEST_MARK: u64 = 64 << 20;

/// A folder that is being written. What a trace tells is its owner's: nobody else can read it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    mark: File,
}

impl Folder {
    /// Makes the folder; one that is there must be empty, or of an earlier export to the same format, whose files are
    /// removed.
    ///
    /// # Errors
    ///
    /// There is something else in it, or it can't be written.
    pub(super) fn claim(path: &Path, format: &str) -> Result<Self> {
        let failed = || format!("failed to write {}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(failed)?;
        let head = format!("tt-buftrace export --to {format}\n");
        if fs::read_dir(path).with_context(failed)?.next().is_some() {
            remove_earlier(path, &head).with_context(failed)?;
        }
        let mark = new_file(&path.join(MARK)).and_then(|mut mark| mark.write_all(head.as_bytes()).map(|()| mark));
        Ok(Self { path: path.to_path_buf(), mark: mark.with_context(failed)? })
    }

    /// Makes a file, and the folders that it is in.
    ///
    /// # Errors
    ///
    /// It is there already, or can't be written.
    pub(super) fn create(&mut self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        let failed = || format!("failed to write {}", path.display());
        // First it is said whose it is.
        writeln!(self.mark, "{name}").with_context(failed)?;
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(failed)?;
        }
        new_file(&path).with_context(failed)
    }

    /// Removes a file that was made.
    ///
    /// # Errors
    ///
    /// It can't be removed.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))
    }

    /// The path of a file in it.
    #[must_use]
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Removes what an earlier export to the same format wrote.
fn remove_earlier(folder: &Path, head: &str) -> Result<()> {
    let mark = folder.join(MARK);
    let is_file = fs::symlink_metadata(&mark).is_ok_and(|it| it.is_file());
    let mut text = String::new();
    if is_file {
        File::open(&mark)?.take(LARGEST_MARK).read_to_string(&mut text)?;
    }
    let Some(names) = text.strip_prefix(head) else {
        bail!("it is not empty, and not of an earlier export to this format");
    };
    for name in names.lines().map(Path::new).filter(|name| is_inside(folder, name)) {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        for parent in name.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            // One that holds something else stays.
            let _ = fs::remove_dir(folder.join(parent));
        }
    }
    fs::remove_file(mark)?;
    Ok(())
}

/// Whether a name leads to a file below the folder, by folders and not by links.
fn is_inside(folder: &Path, name: &Path) -> bool {
    let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    let is_folder = |parent: &Path| fs::symlink_metadata(folder.join(parent)).is_ok_and(|it| it.is_dir());
    plain && name.ancestors().skip(1).all(is_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_export_gives_way_and_nothing_else_does() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("a/out");
        let mut folder = Folder::claim(&path, "parquet").expect("claimed");
        folder.create("steps/host=h/part-0.parquet").expect("made");
        folder.create("runs.parquet").expect("made");
        fs::write(path.join("steps/note.txt"), "mine").expect("written");
        assert!(Folder::claim(&path, "visualizer").is_err(), "another format");
        let again = Folder::claim(&path, "parquet").expect("claimed again");
        assert!(!again.path("steps/host=h").exists() && !again.path("runs.parquet").exists());
        assert!(again.path("steps/note.txt").exists());
    }

    #[test]
    fn a_folder_of_others_is_refused_and_links_and_ways_out_are_not_followed() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("out");
        fs::create_dir(&path).expect("made");
        fs::write(path.join("mine"), "").expect("written");
        let error = Folder::claim(&path, "parquet").expect_err("refused");
        assert!(format!("{error:#}").contains("not empty"), "{error:#}");
        let outside = home.path().join("precious");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("file"), "").expect("written");
        std::os::unix::fs::symlink(&outside, path.join("link")).expect("linked");
        let absolute = outside.join("file");
        let mark = format!("tt-buftrace export --to parquet\nlink/file\n../precious/file\n{}\n", absolute.display());
        fs::write(path.join(MARK), mark).expect("written");
        Folder::claim(&path, "parquet").expect("claimed");
        assert!(outside.join("file").exists() && path.join("mine").exists());
    }
}
