//! Closed pipes, unwritable output, and wrong usage (contract 1).

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};

use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::Site;
use crate::harness::parcel::in_transit;

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// A pipe with a closed reading end.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn trackpost(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trackpost"));
    command.args(arguments).env("TRACKPOST_CONFIG", config).current_dir(config.parent().unwrap());
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A database with a label, a message and a delivery, and no daemon.
async fn site() -> Site {
    let site = Site::new(SandboxOptions::default()).await;
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", ""));
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    let daemon = site.start();
    site.received(|counts| counts.accepted >= 1).await;
    daemon.stop().await;
    site
}

const COMMANDS: &[&[&str]] = &[
    &["--help"],
    &["--version"],
    &["help", "labels"],
    &["check"],
    &["check", "--json"],
    &["demo", "--seconds", "10", "--parcels", "1"],
    &["sandbox"],
    &["listen", "--listen", "127.0.0.1:0"],
    &["verify", "--secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    &["labels", "list"],
    &["labels", "list", "--json"],
    &["labels", "show", "se-1"],
    &["labels", "poll", "se-1"],
    &["history", "se-1"],
    &["history", "--journeys"],
    &["explain", "se-1"],
    &["deliveries", "list"],
    &["deliveries", "show", "dlv_1"],
    &["subscribers", "list"],
    &["replay", "--subscriber", "orders", "--dry-run"],
    &["simulate", "--generate", "3"],
    &["completions", "bash"],
    &["man"],
];

#[tokio::test]
async fn a_closed_pipe_ends_every_command_quietly() {
    let site = site().await;
    for arguments in COMMANDS {
        let output =
            trackpost(&site.directory().join("trackpost.toml"), arguments).stdout(closed()).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), printed.as_ref()), (Some(0), ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_full_device_is_a_failure_with_a_reason() {
    let site = site().await;
    for arguments in COMMANDS {
        let output =
            trackpost(&site.directory().join("trackpost.toml"), arguments).stdout(full()).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {printed}");
        assert!(printed.contains("the output cannot be written: No space left"), "{arguments:?}: {printed}");
    }
}

#[tokio::test]
async fn an_unwritable_stderr_changes_no_exit_status() {
    let site = site().await;
    let config = site.directory().join("trackpost.toml");
    for (code, arguments) in [
        (0, &["check"][..]),
        (1, &["labels", "show", "se-9"]),
        (1, &["labels", "poll", "se-9"]),
        (1, &["deliveries", "retry", "dlv_9"]),
        (1, &["labels", "add", "not-an-id"]),
        (2, &["labels", "shwo"]),
        (2, &["sandbox", "--time-factor", "0"]),
    ] {
        for stderr in [full(), closed()] {
            let mut command = trackpost(&config, arguments);
            let status = command.stdout(Stdio::null()).stderr(stderr).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}");
        }
    }
    // The daemon continues when its log cannot be written.
    let mut daemon = trackpost(&config, &["run"]).stderr(full()).spawn().unwrap();
    let before = site.sandbox.requests_of("se-1");
    let polls = crate::harness::child::until(|| site.sandbox.requests_of("se-1") > before + 5).await;
    assert!(polls.is_ok() && daemon.try_wait().unwrap().is_none());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[tokio::test]
async fn wrong_usage_exits_2() {
    let site = site().await;
    let config = site.directory().join("trackpost.toml");
    for arguments in [
        &["nonsense"][..],
        &[],
        &["run", "--nonsense"],
        &["sandbox", "--time-factor", "-1"],
        &["sandbox", "--listen", "nowhere"],
        &["sandbox", "--fail", "500"],
        &["listen", "--secret", "not a secret", "--listen", "127.0.0.1:0"],
        &["listen", "--status", "99"],
        &["verify", "--secret", "x", "-H", "no colon"],
        &["replay", "--subscriber", "orders", "--since", "1h", "--until", "2h"],
        &["simulate", "--policy", "weekly"],
        &["demo", "--parcels", "0"],
        &["labels", "add", "-", "se-1"],
        &["labels", "show"],
        &["backup"],
        &["completions", "tcl"],
    ] {
        let output = trackpost(&config, arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {printed}");
        assert!(!printed.is_empty(), "{arguments:?}");
    }
}

/// The demo must remove its own directory.
#[test]
fn a_demo_with_a_closed_pipe_leaves_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = trackpost(&directory.path().join("none.toml"), &["demo"]);
    let status = command.env("TMPDIR", directory.path()).stdout(closed()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
