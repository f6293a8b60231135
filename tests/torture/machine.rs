//! Fault injector: causes a fault every few hundred milliseconds, in an order that follows from the seed.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use trackpost::clock::{self, Stopwatch};
use trackpost::crash::CrashPoint;
use trackpost::sandbox::{Answer, FaultKind, InjectedFault as ApiFault};

use super::judge::act_as_operator;
use super::proxy::Fault;
use super::world::{ACCOUNTS, Daemon, LIMIT, SUBSCRIBERS, Settings, World, key};

/// Interval between two waves of parcels.
const WAVE: Duration = Duration::from_secs(12);
const PARCELS: usize = 16;
/// Interval at which an operator polls failing labels by hand.
const OPERATOR: Duration = Duration::from_secs(3);
/// Limit for a stop by SIGTERM (contract 9.2), and a margin for a busy machine.
const STOPPING: Duration = Duration::from_secs(15);
/// Shortest run with faults that affect all requests: an account that is down is probed only once a minute.
const MIN_RUN_WITH_OUTAGES: Duration = Duration::from_secs(100);

pub struct Machine {
    pub world: World,
    pub daemon: Daemon,
    pub rng: fastrand::Rng,
    /// Number of times that each fault was caused.
    pub done: BTreeMap<String, usize>,
    /// Failures that the ledger does not see.
    pub wrong: Vec<String>,
    settings: Settings,
    edition: u32,
    clock: i64,
    /// End of each fault: of the APIs, the subscribers, the disk.
    until: BTreeMap<String, Duration>,
    watch: Stopwatch,
    /// Whether this test caused the last exit: by a kill, a crash point, or a full disk.
    excused: bool,
    long: bool,
}

impl Machine {
    pub fn new(mut world: World, seed: u64, seconds: u64) -> Self {
        let daemon = world.start(None);
        Self {
            world,
            daemon,
            rng: fastrand::Rng::with_seed(seed),
            done: BTreeMap::new(),
            wrong: Vec::new(),
            settings: Settings::default(),
            edition: 0,
            clock: 0,
            until: BTreeMap::new(),
            watch: Stopwatch::start(),
            excused: false,
            long: Duration::from_secs(seconds) >= MIN_RUN_WITH_OUTAGES,
        }
    }

    pub async fn run(&mut self, seconds: u64) {
        let (mut next_wave, mut next_operation) = (Duration::ZERO, OPERATOR);
        while self.watch.elapsed() < Duration::from_secs(seconds) {
            if self.watch.elapsed() >= next_wave {
                self.world.send_parcels(PARCELS);
                next_wave += WAVE;
            }
            if self.watch.elapsed() >= next_operation {
                act_as_operator(&self.world).await;
                next_operation = self.watch.elapsed() + OPERATOR;
            }
            self.end_faults();
            self.act().await;
            self.restart_if_ended();
            clock::sleep(Duration::from_millis(self.rng.u64(50..500))).await;
        }
    }

    async fn act(&mut self) {
        match self.rng.u32(..100) {
            0..18 => self.kill(),
            18..28 => self.arm_crash_point(),
            28..33 => self.terminate().await,
            33..50 => self.break_api(),
            50..70 => self.break_receiver(),
            70..79 => self.edit(),
            79..93 => self.run_other_command().await,
            93..95 => self.second_daemon().await,
            95..97 => self.fill_disk(),
            _ => self.jump(),
        }
    }

    fn count(&mut self, what: &str) {
        *self.done.entry(what.to_owned()).or_default() += 1;
    }

    fn kill(&mut self) {
        self.count("kill -9");
        self.daemon.kill();
        self.daemon = self.world.start(None);
        self.excused = self.until.contains_key("disk");
    }

    /// Lets the next daemon end at a crash point if it reaches one.
    fn arm_crash_point(&mut self) {
        if !cfg!(feature = "crash-points") {
            return self.kill();
        }
        // This test does not use discovery.
        let points: Vec<CrashPoint> =
            CrashPoint::ALL.into_iter().filter(|point| *point != CrashPoint::PageRead).collect();
        let point = points[self.rng.usize(..points.len())];
        let number = self.rng.u32(1..12);
        self.count("armed crash points");
        self.excused = true;
        self.daemon.kill();
        self.daemon = self.world.start(Some(&format!("{}:{number}", point.as_str())));
    }

    async fn terminate(&mut self) {
        if !self.daemon.has_started() {
            return;
        }
        self.count("SIGTERM");
        self.daemon.signal("TERM");
        match self.daemon.wait(STOPPING).await {
            Some(status) if status.success() || self.excused => {}
            Some(status) => self.wrong.push(format!(
                "SIGTERM ended in {status} ({}):\n{}",
                self.daemon.log.display(),
                self.daemon.log_tail()
            )),
            None => {
                self.wrong.push(format!("SIGTERM did not end the daemon ({})", self.daemon.log.display()))
            }
        }
        self.daemon = self.world.start(None);
        self.excused = self.until.contains_key("disk");
    }

    /// Starts the next daemon if this one has ended. An exit that this test did not cause is a failure.
    fn restart_if_ended(&mut self) {
        let Some(status) = self.daemon.ended() else { return };
        if self.until.contains_key("configuration") {
            self.world.write("trackpost.toml", &self.world.configuration(&self.settings));
        }
        use std::os::unix::process::ExitStatusExt as _;
        if status.signal() == Some(9) && self.excused {
            self.count("crash points reached");
        } else if !self.excused {
            let log = self.daemon.log.display();
            self.wrong.push(format!(
                "the daemon ended unexpectedly, {status} ({log}):\n{}",
                self.daemon.log_tail()
            ));
        }
        self.excused = self.until.contains_key("disk");
        self.daemon = self.world.start(None);
    }

    fn end_faults(&mut self) {
        let now = self.watch.elapsed();
        let over: Vec<String> =
            self.until.iter().filter(|(_, until)| **until <= now).map(|(name, _)| name.clone()).collect();
        for name in over {
            self.until.remove(&name);
            if let Some(number) = ACCOUNTS.iter().position(|account| *account == name) {
                self.world.apis[number].set(None);
            } else if let Some(number) = SUBSCRIBERS.iter().position(|(subscriber, ..)| *subscriber == name) {
                self.world.hooks[number].set(None);
            }
            match name.as_str() {
                "disk" => self.world.disk.iter().for_each(|disk| disk.clear()),
                "answers" => self.world.receiver.answer_by(|_| None),
                "api" => {
                    self.world.sandbox.set_faults(Vec::new());
                    self.world.sandbox.set_api_keys(ACCOUNTS.map(key).into());
                }
                "configuration" => {
                    self.world.write("trackpost.toml", &self.world.configuration(&self.settings));
                }
                _ => {}
            }
        }
    }

    fn lasts(&mut self, name: &str, at_most_ms: u64) {
        let lasts = Duration::from_millis(self.rng.u64(200..at_most_ms));
        self.until.insert(name.to_owned(), self.watch.elapsed() + lasts);
    }

    fn break_api(&mut self) {
        if self.rng.bool() {
            let number = self.rng.usize(..ACCOUNTS.len());
            let fault = Fault::ALL[self.rng.usize(..Fault::ALL.len())];
            let share = if self.long && self.rng.u32(..4) == 0 { 1.0 } else { 0.3 };
            self.count(&format!("API: {fault:?}"));
            self.world.apis[number].set(Some((fault, share)));
            return self.lasts(ACCOUNTS[number], 2_500);
        }
        let share = if self.long && self.rng.u32(..4) == 0 { 1.0 } else { 0.3 };
        if self.long && self.rng.u32(..12) == 0 {
            self.count("API: 401");
            self.world.sandbox.set_api_keys(vec!["another".to_owned()]);
            return self.lasts("api", 1_000);
        }
        let (kind, name) = match self.rng.u32(..6) {
            0 => (FaultKind::Fail(500), "500"),
            1 => (FaultKind::Fail(503), "503"),
            2 => (FaultKind::Garble, "garbled"),
            3 => (FaultKind::Slow(Duration::from_millis(self.rng.u64(100..2_500))), "slow"),
            4 if self.long => (FaultKind::Fail(404), "404"),
            _ => return self.throttle(),
        };
        self.count(&format!("API: {name}"));
        self.world.sandbox.set_faults(vec![ApiFault::new(kind, share)]);
        self.lasts("api", 2_500);
    }

    /// Answers the next request of a label with 429.
    fn throttle(&mut self) {
        self.count("API: 429");
        let (label, _) = &self.world.labels[self.rng.usize(..self.world.labels.len())];
        self.world.sandbox.script_once(label, Answer::status(429).header("retry-after", "1"));
    }

    fn break_receiver(&mut self) {
        let number = self.rng.usize(..SUBSCRIBERS.len());
        let (name, ..) = SUBSCRIBERS[number];
        if self.rng.bool() {
            let fault = Fault::ALL[self.rng.usize(..Fault::ALL.len())];
            let share = [0.3, 1.0][self.rng.usize(..2)];
            self.count(&format!("receiver: {fault:?}"));
            self.world.hooks[number].set(Some((fault, share)));
            return self.lasts(name, 3_000);
        }
        let status = [500, 502, 404, 302, 429, 503, 408][self.rng.usize(..7)];
        self.count(&format!("receiver: {status}"));
        let slow = Duration::from_millis(self.rng.u64(..600));
        let (every, retry_after) = (self.rng.u64(1..4), self.rng.bool());
        let nth = std::sync::atomic::AtomicU64::new(0);
        self.world.receiver.answer_by(move |callback| {
            let nth = nth.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let answer = Answer::status(status).after(slow);
            (callback.subscriber() == name && nth.is_multiple_of(every)).then(|| match retry_after {
                true => answer.header("retry-after", "1"),
                false => answer,
            })
        });
        self.lasts("answers", 3_000);
    }

    /// Edits the configuration or the label file, validly or not.
    fn edit(&mut self) {
        self.edition += 1;
        match self.rng.u32(..5) {
            0 => {
                self.count("label left out of its file");
                let number = self.rng.usize(..self.world.labels.len());
                return self.world.write_labels(Some(number), self.edition);
            }
            1 => {
                self.count("label file edited");
                return self.world.write_labels(None, self.edition);
            }
            2 => {
                self.count("broken configuration");
                let text = self.world.configuration(&self.settings).replace("[store]", "[stroe]");
                self.world.write("trackpost.toml", &text);
            }
            _ => {
                self.count("configuration edited");
                self.settings = Settings {
                    requests_per_minute: [LIMIT, LIMIT, LIMIT / 2][self.rng.usize(..3)],
                    interval_ms: self.rng.u32(200..600),
                    max_in_flight: self.rng.u32(1..16),
                    timeout: ["1s", "2s", "5s"][self.rng.usize(..3)],
                    level: ["info", "debug"][self.rng.usize(..2)],
                };
                self.world.write("trackpost.toml", &self.world.configuration(&self.settings));
            }
        }
        if self.daemon.has_started() {
            self.daemon.signal("HUP");
        }
        // The next start needs a valid file.
        self.until.insert("configuration".to_owned(), self.watch.elapsed());
    }

    /// Runs a command beside the daemon.
    async fn run_other_command(&mut self) {
        let label = self.world.labels[self.rng.usize(..self.world.labels.len())].0.clone();
        let (subscriber, ..) = SUBSCRIBERS[self.rng.usize(..SUBSCRIBERS.len())];
        let backup = self.world.directory.join(format!("backup-{}.db", self.edition)).display().to_string();
        self.edition += 1;
        let commands: [&[&str]; 12] = [
            &["labels", "poll", &label],
            &["labels", "add", &label, "--account", self.account(&label)],
            &["labels", "list", "--json"],
            &["labels", "show", &label],
            &["history", &label],
            &["explain", &label],
            &["deliveries", "list", "--limit", "50"],
            &["status"],
            &["subscribers", "ping", subscriber],
            &["subscribers", "pause", subscriber],
            &["replay", "--subscriber", subscriber, "--label", &label],
            &["backup", &backup],
        ];
        let arguments = commands[self.rng.usize(..commands.len())];
        let words = arguments.iter().take(2).filter(|word| **word != label && **word != backup);
        self.count(&format!("command: {}", words.copied().collect::<Vec<_>>().join(" ")));
        let (status, output) = self.world.run_command(arguments).await;
        if status.code().is_none_or(|code| code > 1) {
            self.wrong.push(format!("trackpost {}: {status}: {output}", arguments.join(" ")));
        }
        // Absent unless the command was that backup.
        let _ = fs::remove_file(&backup);
        if arguments.starts_with(&["subscribers", "pause"]) {
            let (status, output) = self.world.run_command(&["subscribers", "resume", subscriber]).await;
            if !status.success() && !self.until.contains_key("disk") {
                self.wrong.push(format!("subscribers resume {subscriber}: {status}: {output}"));
            }
        }
    }

    fn account(&self, label: &str) -> &'static str {
        self.world.labels.iter().find(|(id, _)| id == label).map_or("main", |(_, account)| account)
    }

    /// Starts a second daemon on the same database. It must exit at once while the first one runs.
    async fn second_daemon(&mut self) {
        if !self.daemon.has_started() || self.daemon.ended().is_some() || self.excused {
            return;
        }
        self.count("second daemon");
        let mut second = self.world.start(None);
        let status = second.wait(Duration::from_secs(5)).await;
        if self.daemon.ended().is_none() && status.is_none_or(|status| status.code() != Some(1)) {
            self.wrong.push(format!("two daemons: {status:?} ({})", second.log.display()));
        }
    }

    fn fill_disk(&mut self) {
        let Some(disk) = &self.world.disk else { return };
        disk.fill();
        self.count("full disk");
        self.excused = true;
        self.lasts("disk", 1_500);
    }

    fn jump(&mut self) {
        let Some(fake) = &self.world.fake_clock else { return };
        self.clock += [-7_200, -600, -20, 20, 600, 7_200][self.rng.usize(..6)];
        fake.set(self.clock);
        self.count("clock jump");
    }

    /// Ends all faults. Afterwards a daemon runs with a valid configuration.
    pub fn heal(&mut self) {
        self.until.clear();
        self.world.heal();
        self.settings = Settings::default();
        self.world.write("trackpost.toml", &self.world.configuration(&self.settings));
        self.world.write_labels(None, self.edition + 1);
        self.daemon.kill();
        self.daemon = self.world.start(None);
        self.excused = false;
    }

    /// Stops the daemon by SIGTERM.
    pub async fn stop(&mut self) {
        self.daemon.signal("TERM");
        let status = self.daemon.wait(STOPPING).await;
        if status.is_none_or(|status| !status.success()) {
            let log = self.daemon.log.display();
            self.wrong.push(format!("the last SIGTERM: {status:?} ({log})"));
        }
    }
}
