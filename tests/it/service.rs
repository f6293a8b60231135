//! Signals, reloads and notifications of the service manager (contract 2.2, 9.1, 9.2).

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use trackpost::clock::Stopwatch;

use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::API_KEY;
use crate::harness::child::{Daemon, Site, until};
use crate::harness::parcel::in_transit;

async fn site(labels: &str) -> Site {
    let site = Site::new(SandboxOptions::default()).await;
    site.write("trackpost.toml", &site.configuration(labels, ""));
    site
}

async fn running(site: &Site) -> Daemon {
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    daemon
}

async fn wait_for_poll(site: &Site, label: &str) {
    let polled = until(|| site.sandbox.requests_of(label) > 0).await;
    assert!(polled.is_ok(), "{label} was not polled");
}

#[tokio::test]
async fn sigterm_waits_for_attempts_and_exits_0() {
    let site = site("[\"se-1\"]").await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    site.receiver.answer_next([Answer::status(200).after(Duration::from_millis(1500))]);
    let daemon = running(&site).await;
    site.received(|counts| counts.received == 1).await;
    daemon.stop().await;
    let accepted = site.receiver.counts().accepted;
    assert!(accepted >= 1, "attempts in flight ended");
    site.inspect();

    let again = running(&site).await;
    site.received(|counts| counts.accepted >= 3).await;
    again.stop().await;
    assert_eq!(site.receiver.counts().repeated, 0, "their outcome was recorded");
    site.inspect();
}

#[tokio::test]
async fn a_second_sigterm_exits_at_once() {
    let site = site("[\"se-1\"]").await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    site.receiver.answer_always(Answer::status(200).after(Duration::from_secs(600)));
    let mut daemon = running(&site).await;
    site.received(|counts| counts.received == 1).await;
    daemon.signal("TERM");
    daemon.logged("stopping", 1).await;
    daemon.signal("TERM");
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(daemon.log().contains("stopped at once"), "{}", daemon.log());
    site.inspect();
}

#[tokio::test]
async fn sighup_reads_the_files_again() {
    let site = site("[\"se-1\"]").await;
    let daemon = running(&site).await;
    wait_for_poll(&site, "se-1").await;
    site.write("trackpost.toml", &site.configuration("[\"se-1\", \"se-2\"]", ""));
    daemon.signal("HUP");
    wait_for_poll(&site, "se-2").await;
    daemon.stop().await;
    site.inspect();
}

#[tokio::test]
async fn a_label_gone_from_the_files_is_no_longer_polled() {
    let site = site("[\"se-1\", \"se-2\"]").await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    site.sandbox.script("se-2", Answer::json(200, in_transit()));
    let daemon = running(&site).await;
    wait_for_poll(&site, "se-2").await;
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", ""));
    daemon.signal("HUP");
    daemon.logged("labels registered", 2).await;
    let (gone, stays) = (site.sandbox.requests_of("se-2"), site.sandbox.requests_of("se-1"));
    let polled = until(|| site.sandbox.requests_of("se-1") > stays + 10).await;
    assert!(polled.is_ok(), "the other label is still polled");
    assert!(site.sandbox.requests_of("se-2") <= gone + 1, "at most the poll in flight");
    daemon.stop().await;
    site.inspect();
}

#[tokio::test]
async fn an_invalid_file_keeps_the_running_configuration() {
    let site = site("[\"se-1\"]").await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    let daemon = running(&site).await;
    wait_for_poll(&site, "se-1").await;
    let broken = site.configuration("[\"se-1\", \"se-2\"]", "[nonsense]\nx = 1\n");
    site.write("trackpost.toml", &broken.replace("60000", "\"many\""));
    daemon.signal("HUP");
    daemon.logged("the running configuration stays", 1).await;
    let log = daemon.log();
    assert!(log.contains("nonsense") && log.contains("requests_per_minute"), "{log}");
    let before = site.sandbox.requests_of("se-1");
    assert!(until(|| site.sandbox.requests_of("se-1") > before + 2).await.is_ok(), "polls continue");
    assert_eq!(site.sandbox.requests_of("se-2"), 0, "none of it was applied");
    daemon.stop().await;
    site.inspect();
}

#[tokio::test]
async fn a_changed_label_file_is_read() {
    let site = site("[]").await;
    site.write("labels.d/today.txt", "se-1\n");
    let daemon = running(&site).await;
    wait_for_poll(&site, "se-1").await;
    site.write("labels.d/today.txt", "se-1\nse-2\n");
    wait_for_poll(&site, "se-2").await;
    site.write("labels.d/more.csv", "label_id,order\nse-3,A-1\n");
    wait_for_poll(&site, "se-3").await;
    daemon.stop().await;
    site.inspect();
}

#[tokio::test]
async fn a_reload_replaces_workers_that_end_in_any_order() {
    let site = site("[]").await;
    let second = |timeout: &str| {
        let text = site.configuration("[\"se-1\"]", "");
        let orders =
            text[text.find("[subscribers.orders]").unwrap()..text.find("[cadence.").unwrap()].to_owned();
        let first = orders.replace("orders", "a-first") + &format!("timeout = \"{timeout}\"\n");
        text.replace("events = [\"*\"]", &format!("events = [\"*\"]\ntimeout = \"{timeout}\"")) + &first
    };
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    // The subscriber that comes first by name ends last.
    site.receiver.answer_by(|callback| {
        (callback.path == "/a-first").then(|| Answer::status(200).after(Duration::from_millis(1500)))
    });
    site.write("trackpost.toml", &second("20s"));
    let daemon = running(&site).await;
    let receiver = site.receiver.clone();
    let under_way = until(|| receiver.callbacks().iter().any(|callback| callback.path == "/a-first")).await;
    assert!(under_way.is_ok());
    site.write("trackpost.toml", &second("21s"));
    daemon.signal("HUP");
    daemon.logged("configuration reloaded", 1).await;
    site.received(|counts| counts.unique == 6).await;
    daemon.stop().await;
    site.inspect();
}

/// The service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    received: Vec<String>,
}

impl Manager {
    fn new(site: &Site) -> (Self, String) {
        let path = site.directory().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (Self { socket, received: Vec::new() }, path.to_str().unwrap().to_owned())
    }

    /// Receives the pending messages. The socket holds few, and an unread message blocks the daemon.
    fn drain(&self) {
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
    }

    /// Waits for the next message that contains `word`, and skips those before it.
    async fn wait_for(&mut self, word: &str) -> String {
        let mut found = None;
        let received = until(|| {
            let mut message = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut message) {
                let message = String::from_utf8_lossy(&message[..length]).into_owned();
                self.received.push(message.clone());
                if message.lines().any(|line| line == word) {
                    found = Some(message);
                    return true;
                }
            }
            false
        })
        .await;
        assert!(received.is_ok(), "{word} was never sent: {:?}", self.received);
        found.unwrap()
    }
}

#[tokio::test]
async fn the_service_manager_is_notified_of_every_step() {
    let site = site("[\"se-1\"]").await;
    let (mut manager, socket) = Manager::new(&site);
    let daemon = site.start_with(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "200000")]);
    manager.wait_for("READY=1").await;
    manager.wait_for("WATCHDOG=1").await;
    manager.wait_for("WATCHDOG=1").await;
    daemon.signal("HUP");
    let reloading = manager.wait_for("RELOADING=1").await;
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1").await;
    manager.wait_for("WATCHDOG=1").await;
    daemon.signal("TERM");
    manager.wait_for("STOPPING=1").await;
    daemon.wait_for_clean_exit().await;
    site.inspect();
}

#[tokio::test]
async fn frequent_watchdog_notifications_do_not_prevent_file_checks() {
    let site = site("[]").await;
    site.write("labels.d/today.txt", "se-1\n");
    let (mut manager, socket) = Manager::new(&site);
    let daemon = site.start_with(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "100000")]);
    manager.wait_for("WATCHDOG=1").await;
    site.write("labels.d/today.txt", "se-1\nse-2\n");
    let polled = until(|| {
        manager.drain();
        site.sandbox.requests_of("se-2") > 0
    });
    assert!(polled.await.is_ok(), "se-2 was not polled:\n{}", daemon.log());
    daemon.stop().await;
}

#[tokio::test]
async fn frequent_file_checks_do_not_prevent_watchdog_notifications() {
    let site = site("[]").await;
    let (mut manager, socket) = Manager::new(&site);
    let daemon = site.start_with(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "2000000")]);
    manager.wait_for("READY=1").await;
    for reload in 0.. {
        assert!(reload < 5_000, "the watchdog is never notified");
        daemon.signal("HUP");
        manager.wait_for("READY=1").await;
        if manager.received.iter().any(|message| message.contains("WATCHDOG=1")) {
            break;
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn without_a_watchdog_none_is_notified_and_a_failed_start_is_never_ready() {
    let site = site("[]").await;
    let (mut manager, socket) = Manager::new(&site);
    let daemon = site.start_with(&[("NOTIFY_SOCKET", &socket)]);
    manager.wait_for("READY=1").await;
    daemon.signal("TERM");
    manager.wait_for("STOPPING=1").await;
    assert!(manager.received.iter().all(|message| !message.contains("WATCHDOG=1")), "{:?}", manager.received);
    daemon.wait_for_clean_exit().await;

    site.write("trackpost.toml", "[nonsense]\n");
    let mut daemon = site.start_with(&[("NOTIFY_SOCKET", &socket)]);
    assert_eq!(daemon.ended().await.code(), Some(1));
    let mut message = [0; 16];
    assert!(manager.socket.recv(&mut message).is_err(), "no notification was sent");
}

#[tokio::test]
async fn a_reload_does_not_wait_for_requests_and_repeats_none() {
    let site = site("[\"se-1\"]").await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    site.receiver.answer_next([Answer::status(200).after(Duration::from_secs(2))]);
    let daemon = running(&site).await;
    site.received(|counts| counts.received == 1).await;
    // Replaces the subscriber under the same name, twice, and removes it for a moment.
    let changed = |format: &str| site.configuration("[\"se-1\"]", "").replace("\"standard\"", format);
    let none = site.configuration("[\"se-1\"]", "").replace("events =", "enabled = false\nevents =");
    for (times, text) in
        [(1, changed("\"shipstation\"")), (2, none), (3, changed("\"standard\"\ntimeout = \"9s\""))]
    {
        site.write("trackpost.toml", &text);
        daemon.signal("HUP");
        daemon.logged("configuration reloaded", times).await;
    }
    let counts = site.receiver.counts();
    assert_eq!((counts.received, counts.accepted), (1, 0), "all reloads ran during the attempt");
    site.received(|counts| counts.accepted == 3).await;
    assert!(site.receiver.callbacks().iter().all(|callback| callback.attempt == Some(1)));
    let accepted = site.receiver.accepted();
    assert_eq!((accepted.violations(), accepted.repeated().len()), (&[][..], 0));
    daemon.stop().await;
    site.inspect();
}

/// Returns whether the process handles SIGHUP, which would otherwise end it.
fn handles_sighup(daemon: &Daemon) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    u64::from_str_radix(caught.trim(), 16).is_ok_and(|mask| mask & 1 == 1)
}

/// A configuration that takes long to read.
async fn large_site() -> Site {
    let labels: Vec<String> = (0..60_000).map(|n| format!("se-{n}")).collect();
    site(&format!("{labels:?}")).await
}

#[tokio::test]
async fn a_sighup_during_the_start_reloads_after_it() {
    let site = large_site().await;
    let daemon = site.start();
    until(|| handles_sighup(&daemon)).await.unwrap();
    assert!(!site.database().exists(), "it is still reading the configuration");
    daemon.signal("HUP");
    let reloaded = until(|| {
        trackpost::store::lock::daemon_record(&site.database())
            .is_some_and(|record| record.reloads_ended == 1)
    });
    reloaded.await.unwrap_or_else(|()| panic!("{}", daemon.log()));
    daemon.stop().await;
}

#[tokio::test]
async fn a_sigterm_during_the_start_stops_cleanly() {
    let site = large_site().await;
    let daemon = site.start();
    until(|| handles_sighup(&daemon)).await.unwrap();
    daemon.signal("TERM");
    daemon.wait_for_clean_exit().await;
    assert!(!site.database().exists(), "the start had not continued");
}

#[tokio::test]
async fn an_incomplete_request_does_not_delay_the_stop() {
    let site = site("[\"se-1\"]").await;
    let address = site.listen("[\"se-1\"]", "");
    let mut daemon = running(&site).await;
    let mut half = std::net::TcpStream::connect(address).unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").unwrap();
    wait_for_poll(&site, "se-1").await;
    let watch = Stopwatch::start();
    daemon.signal("TERM");
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(watch.elapsed() < Duration::from_secs(8), "{:?}:\n{}", watch.elapsed(), daemon.log());
    let log = daemon.log();
    assert!(!log.contains("stopped with attempts in flight") && log.contains("\"stopped\""), "{log}");
    let wal = format!("{}-wal", site.database().display());
    assert!(!std::path::Path::new(&wal).exists(), "the database was not closed:\n{log}");
    drop(half);
    site.inspect();
}

#[tokio::test]
async fn reload_prints_its_result() {
    let site = site("[\"se-1\"]").await;
    let reload = async || site.try_command(&["reload"]).await;
    let (done, _, printed) = reload().await;
    assert!(!done && printed.contains("no daemon runs on the database"), "{printed}");

    let daemon = running(&site).await;
    site.write("trackpost.toml", &site.configuration("[\"se-1\", \"se-2\"]", ""));
    let (done, printed, error) = reload().await;
    assert!(done && printed.contains("configuration reloaded"), "{printed}{error}");
    wait_for_poll(&site, "se-2").await;
    let more = "[subscribers.others]\nurl = \"http://127.0.0.1:9\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";
    site.write("trackpost.toml", &site.configuration("[\"se-1\", \"se-2\"]", more));
    let (_, printed, _) = reload().await;
    assert!(printed.contains("subscribers added: others"), "{printed}");

    // The output names faults of the file, and failures that only the daemon sees.
    site.write("trackpost.toml", &site.configuration("[\"se-3\"]", "[nonsense]\nx = 1\n"));
    let (done, _, printed) = reload().await;
    assert!(!done && printed.contains("reload rejected") && printed.contains("nonsense"), "{printed}");
    site.write("trackpost.toml", "not TOML");
    let (done, _, printed) = reload().await;
    assert!(!done && printed.contains("trackpost.toml"), "{printed}");
    let text = site.configuration("[\"se-3\"]", "");
    let key = format!("api_key = \"{}\"", API_KEY);
    site.write("trackpost.toml", &text.replace(&key, "api_key = { file = \"nowhere.key\" }"));
    let (done, _, printed) = reload().await;
    assert!(!done && printed.contains("reload rejected, the running configuration stays"), "{printed}");
    assert!(printed.contains("nowhere.key"), "{printed}");
    assert_eq!(site.sandbox.requests_of("se-3"), 0);
    daemon.stop().await;
}

/// A secret's file may lie on a file system that does not answer.
#[tokio::test]
async fn a_sigterm_stops_a_reload_that_waits_for_a_file() {
    let site = Site::new(SandboxOptions::default()).await;
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    let pipe = site.directory().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let inline = format!("api_key = \"{API_KEY}\"");
    let text = site.configuration("[]", "").replace(&inline, "api_key = { file = \"pipe\" }");
    assert!(text.contains("pipe"));
    site.write("trackpost.toml", &text);
    daemon.signal("HUP");
    daemon.logged("reloading the configuration", 1).await;
    daemon.signal("TERM");
    daemon.wait_for_clean_exit().await;
}
