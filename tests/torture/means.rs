//! What this machine lets the torture do: a small disk that can be full, a clock that can jump, crash points.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A file system of 48 MiB, unmounted in the end.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(folder: &Path) -> Option<Self> {
        let path = folder.join("disk");
        fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
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
        // Lazily: somebody may still look into it. What lay there was copied before.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The wall clock of the daemon, which can be set.
pub struct FakeClock {
    library: &'static str,
    file: PathBuf,
}

impl FakeClock {
    pub fn find(folder: &Path) -> Option<Self> {
        let library = FAKETIME.into_iter().find(|path| Path::new(path).exists())?;
        let clock = Self { library, file: folder.join("clock") };
        clock.set(0);
        Some(clock)
    }

    /// Sets the clock so many seconds off.
    pub fn set(&self, seconds: i64) {
        let draft = self.file.with_extension("draft");
        fs::write(&draft, format!("{seconds:+}\n")).unwrap();
        fs::rename(draft, &self.file).unwrap();
    }

    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }
}
