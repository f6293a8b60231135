//! The real binary as a child process, with a sandbox and a receiver of the test.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use trackpost::clock;
use trackpost::domain::messages::signature::SigningSecret;
use trackpost::sandbox::ledger::{Counts, Follows};
use trackpost::sandbox::{Receiver, ReceiverHandle, ReceiverOptions, Sandbox, SandboxHandle, SandboxOptions};

use super::{API_KEY, SECRET, free_address, inspection, loopback};

/// Time limit of every wait. It measures nothing.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A directory with a configuration and a database, and the two servers of the daemon.
pub struct Site {
    pub sandbox: SandboxHandle,
    pub receiver: ReceiverHandle,
    api: String,
    hook: String,
    directory: TempDir,
}

impl Site {
    pub async fn new(sandbox: SandboxOptions) -> Self {
        let sandbox = SandboxOptions { api_keys: vec![API_KEY.to_owned()], ..sandbox };
        let sandbox = Sandbox::bind(loopback(), sandbox).await.unwrap();
        let secrets = vec![SigningSecret::parse(SECRET).unwrap()];
        let options = ReceiverOptions { secrets, ..Default::default() };
        let receiver = Receiver::bind(loopback(), options).await.unwrap();
        let site = Self {
            sandbox: sandbox.handle(),
            receiver: receiver.handle(),
            api: sandbox.base_url(),
            hook: receiver.url(),
            directory: TempDir::new().unwrap(),
        };
        tokio::spawn(async move { sandbox.serve(std::future::pending()).await.unwrap() });
        tokio::spawn(async move { receiver.serve(std::future::pending()).await.unwrap() });
        site.write("trackpost.toml", &site.configuration("[]", ""));
        site
    }

    /// Polls `labels` (TOML) every 100 ms and sends all messages to `orders`. Appends `more`.
    pub fn configuration(&self, labels: &str, more: &str) -> String {
        let rows: String = ["UN", "NY", "AC", "IT", "AT", "EX", "out_for_delivery", "estimate_day"]
            .iter()
            .map(|row| format!("[cadence.{row}]\nintervals = [\"100ms\"]\n"))
            .collect();
        format!(
            r#"
[store]
path = "{database}"
[http]
listen = ""
[accounts.main]
base_url = "{api}"
api_key = "{API_KEY}"
requests_per_minute = 60000
[registration]
labels = {labels}
files = ["labels.d/*"]
[subscribers.orders]
url = "{hook}orders"
secret = "{SECRET}"
format = "standard"
events = ["*"]
{rows}{more}
"#,
            database = self.database().display(),
            api = self.api,
            hook = self.hook,
        )
    }

    /// Writes this configuration with an HTTP port that was free, and `more` in its section. Returns the port.
    pub fn listen(&self, labels: &str, more: &str) -> SocketAddr {
        let addr = free_address();
        let http = format!("listen = \"{addr}\"\n{more}");
        self.write("trackpost.toml", &self.configuration(labels, "").replace("listen = \"\"", &http));
        addr
    }

    /// URL with a slash at the end.
    pub fn receiver_url(&self) -> &str {
        &self.hook
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn database(&self) -> PathBuf {
        self.directory().join("trackpost.db")
    }

    /// Replaces a file of the site atomically.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.directory().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = self.directory().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, path).unwrap();
    }

    /// Starts `trackpost run`.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        self.start_by(Command::new(env!("CARGO_BIN_EXE_trackpost")).args(["run"]), environment)
    }

    /// Starts `trackpost run` from a shell that first runs `before`, such as `umask 0`.
    pub fn start_after(&self, before: &str) -> Daemon {
        let script = format!("{before}; exec \"$0\" run");
        self.start_by(Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_trackpost")]), &[])
    }

    fn start_by(&self, command: &mut Command, environment: &[(&str, &str)]) -> Daemon {
        let log =
            self.directory().join(format!("log-{}", std::fs::read_dir(self.directory()).unwrap().count()));
        command
            .current_dir(self.directory())
            .env_clear()
            .env("TRACKPOST_CONFIG", self.directory().join("trackpost.toml"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        Daemon { child: command.spawn().unwrap(), log }
    }

    /// Runs a command. Returns whether it succeeded, stdout and stderr.
    pub async fn try_command(&self, arguments: &[&str]) -> (bool, String, String) {
        let config = self.directory().join("trackpost.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trackpost"));
        command.arg("--config").arg(config).args(arguments).current_dir(self.directory()).env_clear();
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// Runs a command with or without a daemon. Returns exit status, stdout and stderr.
    pub fn run_command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_trackpost"))
            .args(["--config", self.directory().join("trackpost.toml").to_str().unwrap()])
            .args(arguments)
            .current_dir(self.directory())
            .env_clear()
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Waits until the receiver's counts satisfy `enough`.
    pub async fn received(&self, enough: impl Fn(&Counts) -> bool) {
        let waited = tokio::time::timeout(WAIT_LIMIT, self.receiver.wait_until(enough)).await;
        assert!(waited.is_ok(), "the receiver has {:?}", self.receiver.counts());
    }

    /// Checks the database and all callbacks. The daemon must have ended.
    pub fn inspect(&self) {
        inspection::inspect(&self.database(), &self.sandbox.served(), &self.receiver, true);
    }

    /// Checks that all served changes are recorded and that these subscribers received them.
    pub async fn check_received(&self, subscribers: &[(&str, Follows)]) {
        let (served, accepted) = (self.sandbox.served(), self.receiver.accepted());
        inspection::check_received(&self.database(), &served, &accepted, subscribers).await;
    }
}

/// A running daemon. Dropping it kills the process.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits for its exit.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await
        .unwrap_or_else(|()| panic!("it still runs:\n{}", self.log()));
        status.unwrap()
    }

    /// Waits until the log contains `text` this many times.
    pub async fn logged(&self, text: &str, times: usize) {
        let logged = until(|| self.log().matches(text).count() >= times).await;
        logged.unwrap_or_else(|()| panic!("it never logged {text:?}:\n{}", self.log()));
    }

    /// Stops it by SIGTERM.
    pub async fn stop(self) {
        // Earlier it may not have read its configuration.
        self.logged("started: ", 1).await;
        self.signal("TERM");
        self.wait_for_clean_exit().await;
    }

    /// Waits for exit 0.
    pub async fn wait_for_clean_exit(mut self) {
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks regularly whether something outside of this process has happened.
pub async fn until(mut happened: impl FnMut() -> bool) -> Result<(), ()> {
    let watch = clock::Stopwatch::start();
    while !happened() {
        if watch.elapsed() > WAIT_LIMIT {
            return Err(());
        }
        clock::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
