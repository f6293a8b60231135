//! Commands beside a daemon: tables, export and import, `--watch`, and error messages (contract 1).

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::{Site, until};
use crate::harness::parcel::in_transit;

fn trackpost(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trackpost"));
    command
        .arg("--config")
        .arg(directory.join("trackpost.toml"))
        .args(arguments)
        .current_dir(directory)
        .env_clear();
    command
}

fn with_stdin(site: &Site, arguments: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let mut command = trackpost(site.directory(), arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    result_of(&child.wait_with_output().unwrap())
}

fn result_of(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn site() -> Site {
    let site = Site::new(SandboxOptions::default()).await;
    let labels = r#"["se-1", { id = "se-123456789", metadata = { order = "A-1001" } }]"#;
    site.write("trackpost.toml", &site.configuration(labels, ""));
    ["se-1", "se-123456789"].iter().for_each(|id| site.sandbox.script(id, Answer::json(200, in_transit())));
    site
}

async fn polled() -> Site {
    let site = site().await;
    let daemon = site.start();
    site.received(|counts| counts.accepted >= 6).await;
    daemon.stop().await;
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_fit_80_columns_without_cutting_ids_or_urls() {
    let site = polled().await;
    let deliveries = site.run_command(&["deliveries", "list", "--json"]).1;
    let delivery: Value = serde_json::from_str(deliveries.lines().next().unwrap()).unwrap();
    for (arguments, whole) in [
        (&["labels", "list"][..], "se-123456789"),
        (&["deliveries", "list"], delivery["type"].as_str().unwrap()),
        (&["history", "se-1"], "evt_"),
        (&["explain", "se-1"], "OUTCOME"),
        (&["subscribers", "list"], "orders"),
        (&["accounts", "list"], "main"),
        (&["status"], "main"),
        (&["check"], site.receiver_url()),
        (&["simulate", "--generate", "20"], "fixed:2h"),
    ] {
        let mut command = trackpost(site.directory(), arguments);
        let (code, out, error) = result_of(&command.env("COLUMNS", "80").output().unwrap());
        assert_eq!(code, Some(0), "{arguments:?}: {error}");
        assert!(out.contains(whole), "{whole} is cut in {arguments:?}:\n{out}");
        // Sentences are wrapped by the terminal; rows of tables have gaps.
        let wide =
            out.lines().find(|line| line.chars().count() > 80 && line.contains("  ") && !line.contains(": "));
        assert_eq!(wide, None, "{arguments:?}:\n{out}");
    }
    // Without a terminal each row is one line, as grep expects it.
    let (_, out, _) = site.run_command(&["labels", "list"]);
    assert_eq!(out.lines().count(), 3, "{out}");
    let (_, out, _) = site.run_command(&["deliveries", "list"]);
    assert!(out.lines().next().unwrap().contains("NEXT ATTEMPT"), "{out}");
    site.inspect();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_are_exported_and_imported() {
    let site = polled().await;
    let (_, listed, _) = site.run_command(&["labels", "list", "--json"]);
    let (code, out, error) = with_stdin(&site, &["labels", "add", "-"], &listed);
    assert!(code == Some(0) && out.matches(": already registered\n").count() == 2, "{out}{error}");

    let other = Site::new(SandboxOptions::default()).await;
    let daemon = other.start();
    daemon.stop().await;
    let removed = listed.lines().next().unwrap().replace("se-1\"", "se-7\"").replace("active", "removed");
    let (code, out, error) = with_stdin(&other, &["labels", "add", "-"], &format!("{listed}{removed}\n"));
    assert!(code == Some(0) && out.matches(": added").count() == 2, "{out}{error}");
    let fields = |text: &str| -> Vec<[Value; 3]> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|label| ["label_id", "account", "metadata"].map(|field| label[field].clone())).collect()
    };
    let (_, again, _) = other.run_command(&["labels", "list", "--json"]);
    assert_eq!(fields(&again), fields(&listed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_labels_are_reported_with_a_remedy() {
    let site = polled().await;
    let (code, out, error) = site.run_command(&["labels", "add", "nofile.csv"]);
    assert!(code == Some(1) && out.starts_with("\"nofile.csv\" is not a label id: "), "{out}");
    assert!(out.contains("to read a file: trackpost labels add - < nofile.csv"), "{out}");
    assert_eq!(error, "error: 1 row rejected\n");
    let (_, out, error) = with_stdin(&site, &["labels", "add", "-"], "order,id\nA-1,se-7\n");
    assert!(out.contains("row 1: \"order,id\" looks like CSV without a label_id column"), "{out}");
    assert_eq!(error, "error: 2 rows rejected\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_of_a_suspended_account_prints_the_reason_of_its_wait() {
    let site = site().await;
    let daemon = site.start();
    site.received(|counts| counts.accepted >= 6).await;
    ["se-1", "se-123456789"].iter().for_each(|id| site.sandbox.script(id, Answer::json(401, "{}")));
    daemon.logged("unauthorized", 1).await;
    let suspended = || site.run_command(&["accounts", "list", "--json"]).1.contains("\"unauthorized\"");
    until(suspended).await.unwrap();
    let (code, out, _) = site.run_command(&["labels", "poll", "se-1"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("se-1: queued: account main is unauthorized since 20"), "{out}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_follows_new_and_changing_deliveries_until_a_signal() {
    let site = site().await;
    let daemon = site.start();
    site.received(|counts| counts.accepted >= 6).await;
    site.receiver.answer_next([Answer::status(500).header("retry-after", "1")]);
    let log = site.directory().join("watched");
    let mut command =
        trackpost(site.directory(), &["deliveries", "list", "--watch", "--limit", "1", "--json"]);
    let mut watch = command.stdout(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let lines = || std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    until(|| lines().len() == 1).await.unwrap();
    assert!(site.try_command(&["labels", "add", "se-3"]).await.0);
    site.sandbox.script("se-3", Answer::json(200, in_transit()));
    let delivered = || {
        let of_new =
            lines().into_iter().filter(|line| line.contains("\"se-3\"") && line.contains("\"delivered\""));
        of_new.count() >= 3
    };
    until(delivered).await.unwrap_or_else(|()| panic!("{:#?}", lines()));
    let kill = format!("kill -INT {}", watch.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    daemon.stop().await;
}

#[test]
fn mandoc_accepts_the_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let (code, page, _) = result_of(&trackpost(directory.path(), &["man"]).output().unwrap());
    assert_eq!(code, Some(0));
    std::fs::write(directory.path().join("trackpost.1"), page).unwrap();
    // mandoc may be missing.
    let Ok(lint) = Command::new("mandoc")
        .args(["-Tlint", "-Wwarning", "trackpost.1"])
        .current_dir(directory.path())
        .output()
    else {
        return;
    };
    assert_eq!(String::from_utf8_lossy(&lint.stdout), "");
}
