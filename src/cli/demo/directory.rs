//! The directory of the demo's database and configuration: the user's, or a temporary one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::Failure;
use crate::clock;

pub const DATABASE: &str = "trackpost.db";
pub const CONFIG: &str = "trackpost.toml";
pub const LABELS: &str = "labels.csv";

/// A directory, which is removed when it is dropped unless it is kept.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    kept: bool,
}

impl Directory {
    /// Creates `keep`, or a temporary directory.
    pub fn open(keep: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = keep else {
            let name: String = clock::random_bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect();
            let path = std::env::temp_dir().join(format!("trackpost-demo-{name}"));
            fs::create_dir(&path).map_err(|error| cannot("the directory", &path, &error))?;
            return Ok(Self { path, kept: false });
        };
        fs::create_dir_all(path).map_err(|error| cannot("--keep", path, &error))?;
        let path = path.canonicalize().map_err(|error| cannot("--keep", path, &error))?;
        for name in [DATABASE, CONFIG, LABELS] {
            if path.join(name).exists() {
                return Err(Failure::new(format!(
                    "--keep {}: the directory already contains {name}",
                    path.display()
                ))
                .hint("name an empty directory or a new one"));
            }
        }
        Ok(Self { path, kept: true })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn kept(&self) -> bool {
        self.kept
    }

    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.file(name);
        fs::write(&path, text).map_err(|error| cannot("the file", &path, &error))?;
        Ok(path)
    }

    /// Keeps the directory, so that the user can inspect it.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.kept {
            // Files left in a temporary directory do no harm.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn cannot(name: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{name} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_is_removed_afterwards() {
        let directory = Directory::open(None).unwrap();
        let path = directory.write(CONFIG, "").unwrap();
        assert!(path.exists());
        drop(directory);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[test]
    fn a_kept_directory_stays_and_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let keep = directory.path().join("a/b");
        let directory = Directory::open(Some(&keep)).unwrap();
        let path = directory.write(DATABASE, "").unwrap();
        drop(directory);
        assert!(path.exists());
        let error = Directory::open(Some(&keep)).unwrap_err().to_string();
        assert!(error.contains("the directory already contains trackpost.db"), "{error}");
    }
}
