//! The database's files on disk, and whether the path still names the files that are open.
//!
//! SQLite keeps writing into a file that was removed, moved or replaced, and says nothing. So device and inode of the
//! database and its side files are noted when they are opened, and compared before and after each commit.

use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Mode of the database: tracking data holds names and places. SQLite gives `-wal` and `-shm` the same mode.
pub(super) const MODE: u32 = 0o600;
/// No SQLite database in use is smaller than one page of the smallest size.
const SMALLEST: u64 = 512;

/// The open files.
#[derive(Clone, Debug)]
pub(super) struct OpenFiles {
    path: PathBuf,
    database: FileId,
    side_files: Vec<(&'static str, PathBuf, FileId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

impl OpenFiles {
    /// Notes the files of the database at `path`, which is open.
    pub(super) fn note(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let database = FileId::of(&path.metadata()?);
        // SQLite puts the side files beside the real file.
        let real = path.canonicalize()?;
        let side_files = ["-wal", "-shm"]
            .into_iter()
            .filter_map(|suffix| {
                let path = beside(&real, suffix);
                let id = FileId::of(&path.metadata().ok()?);
                Some((suffix, path, id))
            })
            .collect();
        Ok(Self { path, database, side_files })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the WAL, which lies beside the real file.
    pub(super) fn wal(&self) -> PathBuf {
        beside(&self.path.canonicalize().unwrap_or_else(|_| self.path.clone()), "-wal")
    }

    /// The mode of the database, if more than its owner may read or write it.
    pub(super) fn wide_mode(&self) -> Option<u32> {
        let mode = self.path.metadata().ok()?.mode() & 0o777;
        (mode & 0o077 != 0).then_some(mode)
    }

    /// Whether the file at the path is the one that is open, and somebody has emptied it.
    pub(super) fn are_emptied(&self) -> bool {
        self.path.metadata().is_ok_and(|file| FileId::of(&file) == self.database && file.len() < SMALLEST)
    }

    /// Fails if what is written now would not be found at the path by the next start.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let lost = |what: String| Err(StoreError::Lost { path: self.path.clone(), what });
        match self.path.metadata() {
            Ok(file) if FileId::of(&file) != self.database => return lost("was replaced".to_owned()),
            Ok(file) if file.len() < SMALLEST => return lost("was emptied".to_owned()),
            Ok(_) => {}
            Err(error) if is_gone(&error) => return lost("was removed or moved".to_owned()),
            Err(error) => return lost(format!("cannot be reached any more ({error})")),
        }
        for (suffix, path, id) in &self.side_files {
            if !path.metadata().is_ok_and(|file| FileId::of(&file) == *id) {
                return lost(format!("lost its {suffix} file"));
            }
        }
        Ok(())
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Creates an empty file that only its owner can read, whatever the umask; SQLite would use the umask.
pub(super) fn create_if_missing(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}

/// The file whose name is that of `path` with `suffix` appended.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn noted() -> (tempfile::TempDir, PathBuf, OpenFiles) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        for suffix in ["", "-wal", "-shm"] {
            fs::write(beside(&path, suffix), [1; 4096]).unwrap();
        }
        let files = OpenFiles::note(&path).unwrap();
        files.check().unwrap();
        (folder, path, files)
    }

    fn lost(files: &OpenFiles) -> String {
        files.check().unwrap_err().to_string()
    }

    #[test]
    fn each_way_to_lose_the_file_is_named_with_the_path() {
        let (_folder, path, files) = noted();
        fs::write(&path, []).unwrap();
        assert!(lost(&files).contains(&format!("{} was emptied", path.display())), "{}", lost(&files));

        let (_folder, path, files) = noted();
        fs::remove_file(&path).unwrap();
        assert!(lost(&files).contains("was removed or moved"));

        let (_folder, path, files) = noted();
        fs::copy(&path, beside(&path, ".copy")).unwrap();
        fs::rename(beside(&path, ".copy"), &path).unwrap();
        assert!(lost(&files).contains("was replaced"));

        let (_folder, path, files) = noted();
        fs::remove_file(beside(&path, "-wal")).unwrap();
        assert!(lost(&files).contains("lost its -wal file"));

        let (folder, _path, files) = noted();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(folder.path(), elsewhere.path().join("moved")).unwrap();
        assert!(lost(&files).contains("was removed or moved"));
    }

    #[test]
    fn a_link_that_leads_elsewhere_counts_as_replaced() {
        let (folder, path, _) = noted();
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let files = OpenFiles::note(&link).unwrap();
        files.check().unwrap();
        let (_other_folder, other, _) = noted();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        assert!(lost(&files).contains("was replaced"));
    }

    #[test]
    fn a_new_file_is_for_its_owner_only_and_an_old_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        create_if_missing(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
        fs::write(&path, "content").unwrap();
        create_if_missing(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
    }
}
