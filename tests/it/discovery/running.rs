//! The real binary with discovery: stored data, `check`, and reload.

use trackpost::domain::label::LabelId;
use trackpost::sandbox::{Answer, SandboxOptions};

use super::id;
use crate::harness::child::{Site, until};

/// Personal data in the sandbox's list, and a part of the links to its labels.
const PERSONAL_DATA: [&str; 6] =
    ["Sam Sample", "555-0100", "sam@example.com", "Example Street", "74103", "SANDBOXTOKEN"];

/// Returns the name and the bytes of every file of the site.
fn all_files(site: &Site) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(site.directory()).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

#[tokio::test]
async fn names_and_addresses_are_never_stored_or_logged() {
    let labels: Vec<LabelId> = (1..=20).map(|n| id(&format!("se-{n}"))).collect();
    let site = Site::new(SandboxOptions { labels, time_factor: 100_000.0, ..Default::default() }).await;
    let more = "[accounts.main.discover]\nenabled = true\ninterval = \"100ms\"\n[log]\nlevel = \"debug,sqlx=info\"\n";
    site.write("trackpost.toml", &site.configuration("[]", more));
    let daemon = site.start();
    daemon.logged("labels discovered", 1).await;
    let arrived =
        until(|| site.receiver.callbacks().iter().any(|d| d.label_id.as_deref() == Some("se-20"))).await;
    assert!(arrived.is_ok(), "discovered labels are polled and make messages:\n{}", daemon.log());
    // An error about a page does not quote the page.
    site.sandbox.script_list(Answer::json(200, r#"{"labels":["Sam Sample, Example Street"]}"#));
    daemon.logged("label list: request failed", 1).await;
    for (file, bytes) in all_files(&site) {
        for personal in PERSONAL_DATA {
            let found = bytes.windows(personal.len()).any(|part| part == personal.as_bytes());
            assert!(!found, "{personal} is in {file}");
        }
    }
    assert!(
        site.database().with_extension("db-wal").exists(),
        "the check includes the database of the running daemon"
    );
    let (ok, listed, _) = site.try_command(&["labels", "list", "--json"]).await;
    assert!(ok && listed.lines().count() == 20 && listed.contains(r#""source":"discovered""#), "{listed}");
    daemon.stop().await;
    site.inspect();
}

/// `[accounts.main.discover]` of a site. The file may be rewritten.
fn discover_at(site: &Site, enabled: bool) {
    let more = format!("[accounts.main.discover]\nenabled = {enabled}\ninterval = \"100ms\"\n");
    site.write("trackpost.toml", &site.configuration("[]", &more));
}

#[tokio::test]
async fn check_requests_the_list() {
    let site = Site::new(SandboxOptions::default()).await;
    discover_at(&site, true);
    let (_, printed, _) = site.try_command(&["check", "--online"]).await;
    assert!(printed.contains("0; discovery every 100ms, lookback 14d"), "{printed}");
    assert!(printed.contains("discovery main: ok: the list of labels can be read at http://"), "{printed}");
    site.sandbox.script_list(Answer::status(403));
    let (ok, printed, _) = site.try_command(&["check", "--online"]).await;
    assert!(!ok, "{printed}");
    assert!(
        printed.contains("discovery main: failed: the key is not allowed to read the list of labels"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_reload_turns_discovery_on_and_off() {
    let site = Site::new(SandboxOptions::default()).await;
    let listings =
        || site.sandbox.requests().iter().filter(|request| request.target.contains("/labels?")).count();
    site.sandbox.create(&id("se-1"));
    discover_at(&site, false);
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    assert_eq!(listings(), 0);
    discover_at(&site, true);
    daemon.signal("HUP");
    let polled = until(|| site.sandbox.requests_of("se-1") > 0).await;
    assert!(polled.is_ok(), "{}", daemon.log());
    discover_at(&site, false);
    daemon.signal("HUP");
    daemon.logged("configuration reloaded", 2).await;
    let goes_on = async || {
        let polled = site.sandbox.requests_of("se-1");
        until(|| site.sandbox.requests_of("se-1") > polled + 2).await
    };
    // A request for the list that was in flight may still end.
    assert!(goes_on().await.is_ok(), "found labels are still polled");
    let listed = listings();
    assert!(goes_on().await.is_ok(), "found labels are still polled after the reload");
    assert_eq!(listings(), listed);
    daemon.stop().await;
    site.inspect();
}
