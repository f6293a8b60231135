//! The daemon under test: the real binary with a configuration, labels and a database of its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::mock::Mock;
use super::process::Process;
use super::{Figures, until};

/// Time limit of a start, a stop or a wait.
const LIMIT: Duration = Duration::from_secs(120);
const ROWS: [&str; 8] = ["UN", "NY", "AC", "IT", "AT", "EX", "out_for_delivery", "estimate_day"];
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Values of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of labels, spread evenly over the accounts.
    pub labels: usize,
    pub accounts: usize,
    /// Interval of every row of the cadence.
    pub interval: &'static str,
    /// Limit of each account.
    pub requests_per_minute: u32,
    pub max_in_flight: u32,
    pub first_poll: &'static str,
    /// Names and URLs of the subscribers.
    pub subscribers: Vec<(&'static str, String)>,
}

impl Settings {
    /// One account, and one subscriber: the mock.
    pub fn new(mock: &Mock, labels: usize, interval: &'static str) -> Self {
        Self {
            labels,
            accounts: 1,
            interval,
            requests_per_minute: 60_000,
            max_in_flight: 16,
            first_poll: "baseline",
            subscribers: vec![("orders", format!("{}/hook", mock.url))],
        }
    }
}

/// A directory on the disk of the build, removed with this value.
pub struct Site {
    directory: TempDir,
}

impl Site {
    pub fn new(mock: &Mock, settings: &Settings) -> Self {
        let site = Self { directory: TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        site.configure(mock, settings);
        // The daemon watches this directory, so the database is elsewhere.
        fs::create_dir(site.path("labels.d")).unwrap();
        site.register(settings);
        site
    }

    /// Replaces the label file.
    pub fn register(&self, settings: &Settings) {
        let mut text = "label_id,account\n".to_owned();
        for label in 0..settings.labels {
            writeln!(text, "se-{label},a{}", label % settings.accounts).unwrap();
        }
        fs::write(self.label_file(), text).unwrap();
    }

    /// Writes the configuration, which a daemon reads at its start.
    pub fn configure(&self, mock: &Mock, settings: &Settings) {
        let mut text = format!(
            "[store]\npath = {:?}\n[http]\nlisten = \"\"\n[log]\nlevel = \"warn\"\nformat = \"json\"\n[registration]\n\
             files = [\"labels.d/*\"]\nfirst_poll = {:?}\n[cadence]\ngive_up_after = \"3650d\"\n",
            self.database(),
            settings.first_poll
        );
        for row in ROWS {
            writeln!(text, "[cadence.{row}]\nintervals = [{:?}]", settings.interval).unwrap();
        }
        for account in 0..settings.accounts {
            writeln!(
                text,
                "[accounts.a{account}]\nbase_url = {:?}\napi_key = \"TEST\"\nrequests_per_minute = {}\nmax_in_flight = {}",
                mock.url, settings.requests_per_minute, settings.max_in_flight
            )
            .unwrap();
        }
        for (name, url) in &settings.subscribers {
            writeln!(
                text,
                "[subscribers.{name}]\nurl = {url:?}\nsecret = {SECRET:?}\nformat = \"standard\"\n\
                 events = [\"tracking.event.added\"]\nmax_in_flight = 64"
            )
            .unwrap();
        }
        fs::write(self.path("trackpost.toml"), text).unwrap();
    }

    pub fn start(&self) -> Daemon {
        let log = self.path("log");
        let child = self.command(&["run"]).stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn();
        Daemon { child: child.unwrap(), log }
    }

    /// Runs a command.
    pub fn run_command(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trackpost"));
        command.args(arguments).env_clear().env("TRACKPOST_CONFIG", self.path("trackpost.toml"));
        command
    }

    pub fn database(&self) -> PathBuf {
        self.path("trackpost.db")
    }

    pub fn label_file(&self) -> PathBuf {
        self.path("labels.d/labels.csv")
    }

    /// Adds a line to the label file.
    pub fn add_label(&self, line: &str) {
        let mut file = File::options().append(true).open(self.label_file()).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }
}

/// A running daemon, killed with this value.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    /// Waits until `condition` holds. Panics if the daemon ends before.
    pub async fn until(&mut self, what: &str, mut condition: impl AsyncFnMut() -> bool) -> Duration {
        let (child, log) = (&mut self.child, &self.log);
        until(what, LIMIT, async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the daemon ended, {status}: {}", fs::read_to_string(log).unwrap());
            }
            condition().await
        })
        .await
    }

    /// Waits until the mock has served this number of answers.
    pub async fn polled(&mut self, mock: &Mock, gets: usize) -> Duration {
        let what = format!("{gets} polls");
        self.until(&what, async || mock.counts().await.gets >= gets as u64).await
    }

    /// Returns the number of polls in the next `time`.
    pub async fn polls(&self, mock: &Mock, time: Duration) -> Figures {
        let process = self.process();
        let (began, cpu, written) = (Instant::now(), process.cpu(), process.written());
        let gets = mock.counts().await.gets;
        tokio::time::sleep(time).await;
        Figures {
            count: mock.counts().await.gets - gets,
            time: began.elapsed(),
            cpu: process.cpu() - cpu,
            written: process.written() - written,
        }
    }

    pub async fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let child = &mut self.child;
        until("the daemon stops", LIMIT, async || child.try_wait().unwrap().is_some()).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
