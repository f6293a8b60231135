//! Means of the torture on this machine: a small disk that can be full, a clock that can jump, crash points.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system that just holds the database of the run, unmounted in the end.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(directory: &Path, mebibytes: u64) -> Option<Self> {
        let path = directory.join("disk");
        fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(&path)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(path))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves no room.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut filler = fs::File::create(self.filler()).unwrap();
        let block = vec![0; 64 * 1024];
        while filler.write_all(&block).is_ok() {}
    }

    pub fn clear(&self) {
        // It may not be full.
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process may still have files open in it. Its files were copied before.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The wall clock of the daemon, which can be set with the feature `crash-points`.
pub struct FakeClock(PathBuf);

impl FakeClock {
    pub fn new(directory: &Path) -> Option<Self> {
        let clock = Self(directory.join("clock"));
        clock.set(0);
        cfg!(feature = "crash-points").then_some(clock)
    }

    /// Sets the clock this many seconds off.
    pub fn set(&self, seconds: i64) {
        let draft = self.0.with_extension("draft");
        fs::write(&draft, seconds.to_string()).unwrap();
        fs::rename(draft, &self.0).unwrap();
    }

    pub fn environment(&self) -> (&'static str, &Path) {
        ("TRACKPOST_CLOCK_OFFSET", &self.0)
    }
}
