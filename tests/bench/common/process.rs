//! Counters of a process, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The kernel counts CPU time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// A running process.
#[derive(Clone, Copy, Debug)]
pub struct Process(u32);

/// CPU time and context switches of each thread.
pub type Threads = BTreeMap<String, (Duration, u64)>;

impl Process {
    pub fn new(id: u32) -> Self {
        Self(id)
    }

    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Returns user and system time of all threads, in steps of 10 ms.
    pub fn cpu(self) -> Duration {
        let stat = self.read("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        TICK * (fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap())
    }

    /// Returns the bytes written to the disk.
    pub fn written(self) -> u64 {
        field(&self.read("io"), "write_bytes:")
    }

    pub fn resident_mib(self) -> f64 {
        field(&self.read("status"), "VmRSS:") as f64 / 1024.0
    }

    /// Returns the highest resident memory since [`Process::forget_peak`].
    pub fn peak_mib(self) -> f64 {
        field(&self.read("status"), "VmHWM:") as f64 / 1024.0
    }

    pub fn forget_peak(self) {
        fs::write(self.path("clear_refs"), "5").unwrap();
    }

    /// Returns the counters of each thread, to the nanosecond unlike [`Process::cpu`], but without threads that ended.
    pub fn threads(self) -> Threads {
        let mut threads = Threads::new();
        for entry in fs::read_dir(self.path("task")).unwrap().flatten() {
            let read = |file: &str| fs::read_to_string(entry.path().join(file));
            // A thread may end while it is read.
            let (Ok(schedstat), Ok(status)) = (read("schedstat"), read("status")) else { continue };
            let on_cpu = schedstat.split_whitespace().next().unwrap().parse().unwrap();
            let switches =
                field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:");
            let name = entry.file_name().to_string_lossy().into_owned();
            threads.insert(name, (Duration::from_nanos(on_cpu), switches));
        }
        threads
    }

    fn path(self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.0).into()
    }

    fn read(self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }
}

/// Returns the number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}
