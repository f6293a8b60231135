//! Everything around the daemon: the fake API, the receiver, the proxies between, the configuration, and its process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use trackpost::clock::{self, Stopwatch};
use trackpost::domain::label::LabelId;
use trackpost::domain::messages::signature::SigningSecret;
use trackpost::sandbox::ledger::Follows;
use trackpost::sandbox::{
    Carrier, JourneyKind, Receiver, ReceiverHandle, ReceiverOptions, Sandbox, SandboxHandle, SandboxOptions,
};

use super::means::{FakeClock, SmallDisk};
use super::proxy::Proxy;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const ACCOUNTS: [&str; 2] = ["main", "second"];
/// Name, expected facts, format, events.
pub const SUBSCRIBERS: [(&str, Follows, &str, &str); 3] = [
    ("orders", Follows::Events, "standard", "*"),
    ("shop", Follows::Answers, "shipstation", "tracking.updated"),
    ("engine", Follows::Answers, "shipengine", "tracking.updated"),
];
/// Limit of requests in 60 s of each account; no configuration exceeds it.
pub const LIMIT: usize = 2_400;
/// Factor of the parcels' clock.
const TRAVEL: f64 = 9.0;
const LONGEST_JOURNEY: f64 = 7_400.0 * 60.0 * 1.25;

pub struct World {
    pub directory: PathBuf,
    pub sandbox: SandboxHandle,
    pub receiver: ReceiverHandle,
    /// Proxies, in the order of [`ACCOUNTS`] and [`SUBSCRIBERS`].
    pub apis: Vec<Proxy>,
    pub hooks: Vec<Proxy>,
    pub disk: Option<SmallDisk>,
    pub fake_clock: Option<FakeClock>,
    pub labels: Vec<(String, &'static str)>,
    daemons: usize,
    binary: &'static str,
}

impl World {
    pub async fn new(directory: &Path, seed: u64, seconds: u64) -> Self {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let options = SandboxOptions {
            api_keys: ACCOUNTS.map(key).into(),
            auto: false,
            seed,
            time_factor: LONGEST_JOURNEY / TRAVEL,
            ..Default::default()
        };
        let sandbox = Sandbox::bind(loopback, options).await.unwrap();
        // A database grows by about a mebibyte a minute.
        let disk = SmallDisk::mount(directory, 48 + seconds / 20);
        let fake_clock = FakeClock::new(directory);
        let options = ReceiverOptions {
            secrets: vec![SigningSecret::parse(SECRET).unwrap()],
            any_time: fake_clock.is_some(),
            ..Default::default()
        };
        let receiver = Receiver::bind(loopback, options).await.unwrap();
        let (mut apis, mut hooks) = (Vec::new(), Vec::new());
        for number in 0..ACCOUNTS.len() as u64 {
            apis.push(Proxy::start(sandbox.addr(), seed ^ number).await);
        }
        for number in 0..SUBSCRIBERS.len() as u64 {
            hooks.push(Proxy::start(receiver.addr(), !seed ^ number).await);
        }
        let world = Self {
            directory: directory.to_owned(),
            sandbox: sandbox.handle(),
            receiver: receiver.handle(),
            apis,
            hooks,
            disk,
            fake_clock,
            labels: Vec::new(),
            daemons: 0,
            binary: env!("CARGO_BIN_EXE_trackpost"),
        };
        tokio::spawn(async move { sandbox.serve(std::future::pending()).await.unwrap() });
        tokio::spawn(async move { receiver.serve(std::future::pending()).await.unwrap() });
        world.write("trackpost.toml", &world.configuration(&Settings::default()));
        world
    }

    pub fn database(&self) -> PathBuf {
        self.directory.join(if self.disk.is_some() { "disk/trackpost.db" } else { "trackpost.db" })
    }

    /// Replaces a file atomically.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = self.directory.join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, path).unwrap();
    }

    /// Creates parcels and registers their labels by a file.
    pub fn send_parcels(&mut self, count: usize) {
        let first = self.labels.len();
        for number in first..first + count {
            let journeys = [
                JourneyKind::Delivered,
                JourneyKind::Revised,
                JourneyKind::ExceptionThenDelivered,
                JourneyKind::CollectionPoint,
                JourneyKind::Revised,
            ];
            // Two parcels never arrive and are polled during the whole run.
            let journey = match number {
                3 => JourneyKind::ReturnedToSender,
                6 => JourneyKind::NeverScanned,
                _ => journeys[number % journeys.len()],
            };
            let label: LabelId = format!("se-{}", number + 1).parse().unwrap();
            self.sandbox.create_on(&label, journey, Carrier::ALL[number % Carrier::ALL.len()]);
            self.labels.push((label.to_string(), ACCOUNTS[number % ACCOUNTS.len()]));
        }
        self.write_labels(None, 0);
    }

    /// Writes the label file without the label `left_out`, with metadata of this edition.
    pub fn write_labels(&self, left_out: Option<usize>, edition: u32) {
        let rows = self.labels.iter().enumerate().filter(|(number, _)| Some(*number) != left_out);
        let row =
            |(_, (label, account)): (usize, &(String, &str))| format!("{label},{account},E-{edition}\n");
        let text: String = rows.map(row).collect();
        self.write("labels.d/labels.csv", &format!("label_id,account,edition\n{text}"));
    }

    pub fn configuration(&self, settings: &Settings) -> String {
        let Settings { requests_per_minute, interval_ms, max_in_flight, timeout, level } = settings;
        let mut text = format!(
            "[store]\npath = {:?}\n[http]\nlisten = \"\"\n[log]\nlevel = \"{level}\"\nformat = \"json\"\n\
             [registration]\nfiles = [\"labels.d/*\"]\n[cadence]\nsettle = [\"600ms\", \"1200ms\", \"1800ms\"]\n",
            self.database()
        );
        for row in ["UN", "NY", "AC", "IT", "AT", "EX", "out_for_delivery", "estimate_day"] {
            text.push_str(&format!("{row} = {{ intervals = [\"{interval_ms}ms\"] }}\n"));
        }
        for (account, proxy) in ACCOUNTS.iter().zip(&self.apis) {
            text.push_str(&format!(
                "[accounts.{account}]\nbase_url = \"http://{}\"\napi_key = \"{}\"\ntimeout = \"{timeout}\"\n\
                 requests_per_minute = {requests_per_minute}\n",
                proxy.addr,
                key(account)
            ));
        }
        let retry: Vec<String> = (0..60).map(|number| format!("\"{}ms\"", 200 + 20 * number)).collect();
        for ((name, _, format, events), proxy) in SUBSCRIBERS.iter().zip(&self.hooks) {
            text.push_str(&format!(
                "[subscribers.{name}]\nurl = \"http://{}/{name}\"\nsecret = \"{SECRET}\"\nformat = \"{format}\"\n\
                 events = [\"{events}\"]\ntimeout = \"{timeout}\"\nmax_in_flight = {max_in_flight}\nretry = [{}]\n",
                proxy.addr,
                retry.join(", ")
            ));
        }
        text
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.binary);
        command.current_dir(&self.directory).env_clear().stdin(Stdio::null());
        command.env("TRACKPOST_CONFIG", self.directory.join("trackpost.toml"));
        if let Some(fake) = &self.fake_clock {
            let (name, file) = fake.environment();
            command.env(name, file);
        }
        command
    }

    /// Starts `trackpost run`, which ends at the crash point `crash_at`, if any.
    pub fn start(&mut self, crash_at: Option<&str>) -> Daemon {
        self.daemons += 1;
        let log = self.directory.join(format!("daemon-{:04}.log", self.daemons));
        let mut command = self.command();
        command.arg("run").stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        if let Some(crash_at) = crash_at {
            command.env("TRACKPOST_CRASH_AT", crash_at);
        }
        Daemon { child: command.spawn().unwrap(), log }
    }

    /// Runs a command. Returns its exit status and stderr.
    pub async fn run_command(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let mut command = self.command();
        command.args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status, stderr)
    }

    pub fn heal(&self) {
        self.apis.iter().chain(&self.hooks).for_each(|proxy| proxy.set(None));
        self.sandbox.set_faults(Vec::new());
        self.sandbox.set_api_keys(ACCOUNTS.map(key).into());
        self.receiver.answer_by(|_| None);
        if let Some(disk) = &self.disk {
            disk.clear();
        }
    }
}

pub fn key(account: &str) -> String {
    format!("TEST_{account}")
}

/// Values of the configuration that an edit may change without changing which deliveries are expected.
#[derive(Clone, Debug)]
pub struct Settings {
    pub requests_per_minute: usize,
    pub interval_ms: u32,
    pub max_in_flight: u32,
    pub timeout: &'static str,
    pub level: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self { requests_per_minute: LIMIT, interval_ms: 300, max_in_flight: 8, timeout: "2s", level: "info" }
    }
}

/// A running daemon. Dropping it kills the process.
pub struct Daemon {
    child: Child,
    pub log: PathBuf,
}

impl Daemon {
    pub fn kill(&mut self) {
        // The process may have ended at a crash point.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal by name: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        Command::new("sh").args(["-c", &command]).status().unwrap();
    }

    pub async fn wait(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let watch = Stopwatch::start();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if watch.elapsed() > at_most {
                return None;
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn has_started(&self) -> bool {
        self.has_logged("started: accounts")
    }

    fn has_logged(&self, text: &str) -> bool {
        fs::read(&self.log).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text))
    }

    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let mut lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.reverse();
        lines.join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
