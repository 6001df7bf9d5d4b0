// SPDX-License-Identifier: Apache-2.0
//! Reads a trace file that is still written.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Damage, Identity, Item, ReadError, Reader, Seam,
    limit::Part,
    open,
    reader::{HEAD, Here, Input},
};

/// A trace file that may grow: an iterator over its items that ends where the file ends at this moment.
///
/// A chunk of which only a part is written yet is no damage.
pub struct Follower {
    path: PathBuf,
    /// The file that is read: the path may have another one later.
    identity: Identity,
    file: Arc<File>,
    reader: PartReader,
}

/// Reads the file as far as it goes at this moment.
type PartReader = Reader<Here<Input>>;

/// What became of a file since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is the same, and may have grown.
    Same,
    /// Another one has its place, e.g. a shorter one as `--max-size` makes it: it is read from its beginning.
    Replaced,
}

impl Follower {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = open(path)?;
        let identity = Identity::of(&file).map_err(ReadError::Io)?;
        let file = Arc::new(file);
        Ok(Self { path: path.to_owned(), identity, reader: read(&file)?, file })
    }

    /// The same file from its beginning, even if its name is gone.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn again(&self) -> Result<Self, ReadError> {
        let (path, file) = (self.path.clone(), Arc::clone(&self.file));
        Ok(Self { path, identity: self.identity, reader: read(&file)?, file })
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that is read.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Lets reading go on after the end of the file was reached.
    ///
    /// # Errors
    ///
    /// The path has another file, and that can't be read.
    pub fn look(&mut self) -> Result<Look, ReadError> {
        self.reader.resume();
        // A file whose name is gone is still written.
        let Ok(now) = fs::metadata(&self.path) else { return Ok(Look::Same) };
        if Identity::from(&now) == self.identity && now.len() >= self.reader.position() || now.len() < HEAD {
            return Ok(Look::Same);
        }
        *self = Self::open(&self.path)?;
        Ok(Look::Replaced)
    }

    /// The seam before the chunk that the latest item is of.
    #[must_use]
    pub fn before_chunk(&self) -> &Seam {
        self.reader.before_chunk()
    }

    /// Where reading had to stop, if something is wrong there.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.reader.damage().filter(|_| !self.reader.is_cut())
    }

    /// How many items were skipped because a later version of the format added their kind.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.reader.skipped()
    }
}

impl Iterator for Follower {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.reader.next()
    }
}

fn read(file: &Arc<File>) -> Result<PartReader, ReadError> {
    Reader::new(BufReader::new(Part { file: Arc::clone(file), at: 0, end: u64::MAX }))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::trace::{Problem, Writer, text};

    fn written(texts: &[&str], path: &Path) -> Vec<u8> {
        let mut writer = Writer::create(path).expect("created");
        for text in texts {
            writer.record(Problem { text: (*text).to_owned() });
            writer.flush().expect("written");
        }
        fs::read(path).expect("read")
    }

    fn rest(follower: &mut Follower) -> Vec<String> {
        follower.by_ref().map(|item| text::show(&item)).collect()
    }

    #[test]
    fn a_file_that_comes_byte_by_byte_is_never_damaged_and_read_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = written(&["one", "two", "three"], &folder.path().join("whole"));
        let path = folder.path().join("growing");
        fs::write(&path, &whole[..HEAD as usize]).expect("written");
        let mut follower = Follower::open(&path).expect("opened");
        let mut file = File::options().append(true).open(&path).expect("opened");
        let mut items = Vec::new();
        for byte in &whole[HEAD as usize..] {
            items.extend(rest(&mut follower));
            assert_eq!(follower.damage(), None);
            file.write_all(&[*byte]).expect("written");
            assert_eq!(follower.look().expect("looked"), Look::Same);
        }
        items.extend(rest(&mut follower));
        assert_eq!(
            items,
            ["problem text=\"one\"", "problem text=\"two\"", "problem text=\"three\""].map(str::to_owned)
        );
        file.write_all(&[1, 0, 0, 0, 9, 9, 9, 9, 7]).expect("written");
        follower.look().expect("looked");
        assert_eq!(rest(&mut follower), [""; 0]);
        assert_eq!(follower.damage().map(|damage| damage.at), Some(whole.len() as u64));
        follower.look().expect("looked");
        assert!(follower.damage().is_some(), "damage stays");
    }

    #[test]
    fn a_chunk_that_was_taken_back_is_not_mixed_with_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = written(&["one", "two"], &folder.path().join("whole"));
        let first = written(&["one"], &folder.path().join("first")).len();
        let path = folder.path().join("growing");
        fs::write(&path, [&whole[..first], &[40, 0, 0, 0, 9, 9, 9, 9, 9]].concat()).expect("written");
        let mut follower = Follower::open(&path).expect("opened");
        assert_eq!(rest(&mut follower), ["problem text=\"one\""]);
        File::options().write(true).open(&path).expect("opened").set_len(first as u64).expect("taken back");
        follower.look().expect("looked");
        assert_eq!(rest(&mut follower), [""; 0]);
        let mut file = File::options().append(true).open(&path).expect("opened");
        file.write_all(&whole[first..]).expect("written");
        assert_eq!(follower.look().expect("looked"), Look::Same);
        assert_eq!((rest(&mut follower), follower.damage()), (vec!["problem text=\"two\"".to_owned()], None));
    }

    #[test]
    fn a_file_in_the_place_of_another_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, other] = ["trace", "other"].map(|name| folder.path().join(name));
        written(&["one", "two"], &path);
        let mut follower = Follower::open(&path).expect("opened");
        assert_eq!(rest(&mut follower).len(), 2);
        written(&["three"], &other);
        fs::rename(&other, &path).expect("renamed");
        assert_eq!(follower.look().expect("looked"), Look::Replaced);
        assert_eq!(rest(&mut follower), ["problem text=\"three\""]);
        // Written anew in its place, and shorter.
        written(&[], &path);
        assert_eq!(follower.look().expect("looked"), Look::Replaced);
        fs::remove_file(&path).expect("removed");
        assert_eq!(follower.look().expect("looked"), Look::Same);
        assert_eq!(rest(&mut follower.again().expect("opened")), [""; 0]);
    }
}
