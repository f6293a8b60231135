//! What the benches of the outbox share: a receiver in a process of its own, a subscriber, and what the kernel counts.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::http::Uri;
use trackpost::config::{Config, Environment};
use trackpost::domain::subscriber::Subscriber;

/// The argument with which a bench is its own receiver.
const RECEIVE: &str = "receive";

/// Serves as the receiver if that is what this process is for: `/hang` never answers, everything else at once.
pub fn receive_if_asked() {
    if std::env::args().nth(1).as_deref() != Some(RECEIVE) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        let answer = async |uri: Uri, _body: axum::body::Bytes| {
            if uri.path() == "/hang" {
                std::future::pending::<()>().await;
            }
        };
        axum::serve(listener, Router::new().fallback(answer)).await.unwrap();
    });
}

/// A receiver that runs as long as this lives.
pub struct Receiver {
    child: Child,
    pub url: String,
}

impl Receiver {
    pub fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(RECEIVE)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With the defaults of the configuration, told everything in the standard form.
pub fn subscriber(name: &str, url: &str) -> Subscriber {
    let text = |key: &str| format!("TRACKPOST__SUBSCRIBERS__{}__{key}", name.to_uppercase());
    let variables = [
        (text("URL"), url),
        (text("SECRET"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (text("FORMAT"), "standard"),
    ];
    let environment: Environment = variables.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    Config::builtin(&environment).unwrap().config.subscribers.pop_first().unwrap().1
}

/// User and system time of this process, in hundredths of a second as the kernel counts.
pub fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Bytes that this process had written to disk.
#[allow(dead_code, reason = "not every bench asks")]
pub fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}
