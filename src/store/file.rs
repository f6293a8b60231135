//! The database's files on disk, and whether the path still names the files that are open.
//!
//! SQLite keeps writing into a file that was removed, moved or replaced, without an error. So device and inode of the
//! database and its side files are recorded when they are opened, and compared before and after each commit.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Mode of the database, because tracking data contains names and places. SQLite gives `-wal` and `-shm` the same mode.
pub(super) const MODE: u32 = 0o600;
/// Smallest size of an SQLite database in use: one page of the smallest page size.
const MIN_DATABASE_BYTES: u64 = 512;

/// Identity of the open files.
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
    /// Records the files of the open database at `path`.
    pub(super) fn note(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let database = FileId::of(&path.metadata()?);
        // SQLite creates the side files beside the real file.
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

    /// Returns the mode of the database if others than its owner may read or write it.
    pub(super) fn wide_mode(&self) -> Option<u32> {
        let mode = self.path.metadata().ok()?.mode() & 0o777;
        (mode & 0o077 != 0).then_some(mode)
    }

    /// Whether the path still names the open file, and the file was emptied.
    pub(super) fn are_emptied(&self) -> bool {
        self.path
            .metadata()
            .is_ok_and(|file| FileId::of(&file) == self.database && file.len() < MIN_DATABASE_BYTES)
    }

    /// Fails if the path names other files than the open ones: the next start would not find later writes.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let lost = |problem: String| Err(StoreError::Lost { path: self.path.clone(), problem });
        match self.path.metadata() {
            Ok(file) if FileId::of(&file) != self.database => return lost("was replaced".to_owned()),
            Ok(file) if file.len() < MIN_DATABASE_BYTES => return lost("was emptied".to_owned()),
            Ok(_) => {}
            Err(error) if is_gone(&error) => return lost("was removed or moved".to_owned()),
            Err(error) => return lost(format!("cannot be accessed now ({error})")),
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

/// Creates an empty file that only its owner can read, regardless of the umask. SQLite would apply the umask.
pub(super) fn create_if_missing(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}

/// Opens a file to read and write. A new file can be read by its owner only.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
}

/// Returns `path` with `suffix` appended to the file name.
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
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        for suffix in ["", "-wal", "-shm"] {
            fs::write(beside(&path, suffix), [1; 4096]).unwrap();
        }
        let files = OpenFiles::note(&path).unwrap();
        files.check().unwrap();
        (directory, path, files)
    }

    fn lost(files: &OpenFiles) -> String {
        files.check().unwrap_err().to_string()
    }

    #[test]
    fn each_way_to_lose_the_file_is_reported_with_its_path() {
        let (_directory, path, files) = noted();
        fs::write(&path, []).unwrap();
        assert!(lost(&files).contains(&format!("{} was emptied", path.display())), "{}", lost(&files));

        let (_directory, path, files) = noted();
        fs::remove_file(&path).unwrap();
        assert!(lost(&files).contains("was removed or moved"));

        let (_directory, path, files) = noted();
        fs::copy(&path, beside(&path, ".copy")).unwrap();
        fs::rename(beside(&path, ".copy"), &path).unwrap();
        assert!(lost(&files).contains("was replaced"));

        let (_directory, path, files) = noted();
        fs::remove_file(beside(&path, "-wal")).unwrap();
        assert!(lost(&files).contains("lost its -wal file"));

        let (directory, _path, files) = noted();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(directory.path(), elsewhere.path().join("moved")).unwrap();
        assert!(lost(&files).contains("was removed or moved"));
    }

    #[test]
    fn a_link_to_another_file_counts_as_replaced() {
        let (directory, path, _) = noted();
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let files = OpenFiles::note(&link).unwrap();
        files.check().unwrap();
        let (_other_directory, other, _) = noted();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        assert!(lost(&files).contains("was replaced"));
    }

    #[test]
    fn a_new_file_is_private_and_an_existing_file_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        create_if_missing(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
        fs::write(&path, "content").unwrap();
        create_if_missing(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
    }
}
