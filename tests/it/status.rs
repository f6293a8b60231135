//! `/healthz`, `status`, `accounts list` and the listing options, with the real binary (contract 1, 9.3, 10).

use std::io::{Read as _, Write as _};

use serde_json::Value;
use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::{Daemon, Site, until};
use crate::harness::parcel::in_transit;
use crate::harness::{connect, free_address};

/// Sends one raw request. Returns status and body.
pub fn get(port: u16, head: &str) -> Option<(u16, Value)> {
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.write_all(format!("GET /healthz HTTP/1.1\r\nconnection: close\r\n{head}\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

async fn site_with(http: &str) -> Site {
    let site = Site::new(SandboxOptions::default()).await;
    ["se-1", "se-2"].iter().for_each(|id| site.sandbox.script(id, Answer::json(200, in_transit())));
    let labels = r#"["se-1", { id = "se-2", metadata = { order = "Ä-1001" } }]"#;
    let text = site.configuration(labels, "").replace("listen = \"\"", http);
    site.write("trackpost.toml", &text);
    site
}

async fn started(site: &Site) -> Daemon {
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    daemon
}

fn lines(site: &Site, arguments: &[&str]) -> Vec<Value> {
    let (code, out, error) = site.run_command(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {error}");
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn kinds(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|degraded| degraded["what"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_lists_what_is_degraded_and_stays_200() {
    let port = free_address().port();
    let http = format!("listen = \"127.0.0.1:{port}\"\nhosts = [\"tracking.example.com\"]");
    let site = site_with(&http).await;
    std::fs::create_dir_all(site.directory().join("labels.d")).unwrap();
    std::fs::write(site.directory().join("labels.d/wrong.csv"), "nothing,known\n1,2\n").unwrap();
    std::fs::write(site.directory().join("labels.d/rows.txt"), "se-1\nXY 1\n").unwrap();
    let daemon = started(&site).await;
    site.received(|counts| counts.accepted >= 6).await;
    assert!(site.try_command(&["subscribers", "pause", "orders"]).await.0);
    let text = std::fs::read_to_string(site.directory().join("trackpost.toml")).unwrap();
    site.write("trackpost.toml", "not toml");
    daemon.signal("HUP");
    daemon.logged("reload rejected", 1).await;
    site.write("trackpost.toml", &text);
    site.sandbox.script("se-1", Answer::json(401, "{}"));
    site.sandbox.script("se-2", Answer::json(401, "{}"));
    let mut last = Value::Null;
    let all = || {
        let (status, body) = get(port, "host: localhost\r\n").unwrap();
        assert_eq!((status, &body["status"]), (200, &"ok".into()), "{body}");
        last = body;
        kinds(&last["degraded"]) == ["account", "subscriber", "reload", "label_file", "label_row"]
    };
    let found = until(all).await;
    assert!(found.is_ok(), "{last}");
    let degraded = last["degraded"].as_array().unwrap();
    assert_eq!((&degraded[0]["name"], &degraded[1]["name"]), (&"main".into(), &"orders".into()));
    assert!(degraded[3]["name"].as_str().unwrap().ends_with("labels.d/wrong.csv"), "{last}");
    assert!(degraded.iter().all(|degraded| degraded["detail"].is_string()));
    assert!(degraded[..4].iter().all(|degraded| degraded["since"].is_string()));
    assert_eq!(degraded[4]["name"], "registration.files", "{last}");
    let rows = degraded[4]["detail"].as_str().unwrap();
    assert!(rows.starts_with("1 row; the first: ") && rows.contains("rows.txt: row 2: "), "{last}");

    let mut status = Value::Null;
    // The daemon passes on every four seconds what only its process knows.
    let all = || {
        status = lines(&site, &["status", "--json"]).remove(0);
        kinds(&status["attention"]) == ["account", "subscriber", "reload", "label_file", "label_row"]
    };
    let found = until(all).await;
    assert!(found.is_ok(), "{status}");
    assert_eq!((&status["daemon"]["runs"], &status["daemon"]["pid"]), (&true.into(), &daemon.id().into()));
    assert_eq!(status["labels"]["active"], 2);
    let account = lines(&site, &["accounts", "list", "--json"]).remove(0);
    assert_eq!((&account["name"], &account["state"]), (&"main".into(), &"unauthorized".into()), "{account}");
    assert!(account["next_probe_at"].is_string() && account["last_success_at"].is_string(), "{account}");
    assert!(account["requests_this_month"].as_u64().unwrap() >= 2, "{account}");
    for field in ["detail", "requests_last_minute", "stretch", "due", "first_polls_waiting"] {
        assert!(!account[field].is_null(), "{field}: {account}");
    }

    for (host, expected) in [
        ("host: tracking.example.com:443\r\n", 200),
        ("host: [::1]\r\n", 200),
        ("host: evil.example\r\n", 421),
        ("host: 10.0.0.1\r\n", 421),
    ] {
        assert_eq!(get(port, host).unwrap().0, expected, "{host}");
    }
    daemon.stop().await;

    let (_, printed, _) = site.run_command(&["status"]);
    assert!(printed.starts_with("NEEDS ATTENTION\n- daemon: no daemon runs"), "{printed}");
    site.inspect();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_token_health_has_no_details() {
    let port = free_address().port();
    let site = site_with(&format!("listen = \"127.0.0.1:{port}\"\ntoken = \"open-sesame\"")).await;
    let daemon = started(&site).await;
    assert!(site.try_command(&["subscribers", "pause", "orders"]).await.0);
    let detail = |head: &str| {
        let (status, body) = get(port, head).unwrap();
        assert_eq!((status, &body["degraded"][0]["name"]), (200, &"orders".into()), "{body}");
        body["degraded"][0]["detail"].is_string()
    };
    assert!(!detail("host: localhost\r\n"));
    assert!(detail("host: localhost\r\nauthorization: Bearer open-sesame\r\n"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_or_disabled_subscriber_is_reported_while_deliveries_wait() {
    let site = site_with("listen = \"\"").await;
    let daemon = started(&site).await;
    site.received(|counts| counts.accepted >= 6).await;
    assert!(site.try_command(&["subscribers", "pause", "orders"]).await.0);
    // Before the label is added, so that its first poll finds messages.
    site.sandbox.script("se-3", Answer::json(200, in_transit()));
    assert!(site.try_command(&["labels", "add", "se-3"]).await.0);
    // Not only deliveries from before the pause, which are accepted and not yet recorded.
    let pending = || !lines(&site, &["deliveries", "list", "--label", "se-3", "--json"]).is_empty();
    until(pending).await.unwrap();
    daemon.stop().await;

    let text = std::fs::read_to_string(site.directory().join("trackpost.toml")).unwrap();
    site.write("trackpost.toml", &text.replace("events = [\"*\"]", "events = [\"*\"]\nenabled = false"));
    let row = lines(&site, &["subscribers", "list", "--json"]).remove(0);
    assert_eq!(row["state"], "disabled", "{row}");
    let (before, after) = text.split_once("[subscribers.orders]").unwrap();
    let after = &after[after.find("[cadence").unwrap()..];
    site.write("trackpost.toml", &format!("{before}{after}"));
    let row = lines(&site, &["subscribers", "list", "--json"]).remove(0);
    assert_eq!((&row["name"], &row["state"]), (&"orders".into(), &"removed".into()), "{row}");
    let status = lines(&site, &["status", "--json"]).remove(0);
    assert_eq!(kinds(&status["attention"]), ["daemon", "subscriber"], "{status}");
    let (_, printed, _) = site.run_command(&["status"]);
    assert!(
        printed.contains("subscriber orders: removed from the configuration, but has pending deliveries"),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_filter_labels_and_deliveries() {
    let site = site_with("listen = \"\"").await;
    let (code, _, error) = site.run_command(&["labels", "poll", "--wait", "se-1"]);
    assert_eq!(code, Some(1), "{error}");
    let daemon = started(&site).await;
    site.received(|counts| counts.accepted >= 6).await;
    let (code, printed, error) = site.run_command(&["labels", "poll", "--wait", "se-1", "se-9"]);
    assert!(code == Some(1) && error.contains("se-9 is not registered"), "{error}");
    assert!(printed.starts_with("se-1: unchanged; status IT"), "{printed}");
    daemon.stop().await;
    let (code, _, error) = site.run_command(&["labels", "poll", "--wait", "se-1"]);
    assert!(code == Some(1) && error.contains("no daemon runs"), "{error}");

    let label = lines(&site, &["labels", "show", "se-1", "--json"]).remove(0);
    let number = label["tracking_number"].as_str().unwrap().to_owned();
    let ids = |find: &str| -> Vec<String> {
        let found = lines(&site, &["labels", "list", "--find", find, "--json"]);
        found.iter().map(|label| label["label_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("SE-2"), ["se-2"]);
    assert_eq!(ids("Ä-1001"), ["se-2"]);
    assert_eq!(ids("ORDER"), ["se-2"]);
    assert_eq!(ids(&number.to_lowercase()), ["se-1", "se-2"]);
    assert!(ids("100%").is_empty());

    // Both labels have the same tracking number.
    let (code, _, error) = site.run_command(&["explain", &number]);
    assert!(code == Some(1) && error.contains("several labels"), "{error}");
    let (code, _, error) = site.run_command(&["labels", "show", "9400NONE"]);
    assert!(code == Some(1) && error.contains("no registered label has this"), "{error}");

    let of = |more: &[&str]| lines(&site, &[&["deliveries", "list", "--json"], more].concat());
    let all = of(&[]);
    assert_eq!(all.len(), 6);
    assert_eq!(of(&["--limit", "2"]), all[4..]);
    assert_eq!(of(&["--limit", "1", "--label", "se-1"]).len(), 1);
    assert_eq!(of(&["--limit", "60"]), all);
    let updated = of(&["--type", "tracking.updated"]);
    assert_eq!(updated.len(), 2);
    assert_eq!(of(&["--type", "tracking.updated", "--limit", "1"]), updated[1..]);
    assert_eq!(of(&["--type", "tracking.*"]), all);
    assert_eq!(of(&["--type", "tracking.updated", "--label", "se-1"]).len(), 1);
    assert_eq!(of(&["--since", "yesterday"]), all);
    assert!(of(&["--type", "tracking"]).is_empty());
    let (_, by_number, _) = site.run_command(&["deliveries", "show", "5", "--json"]);
    let (_, by_id, _) = site.run_command(&["deliveries", "show", "dlv_5", "--json"]);
    assert!(!by_id.is_empty() && by_number == by_id, "{by_number}");
    site.inspect();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_polls_of_more_than_an_hour_are_listed() {
    let port = free_address().port();
    let site = Site::new(SandboxOptions::default()).await;
    let labels: Vec<String> = (0..70).map(|n| format!("\"se-{n}\"")).collect();
    let text = site.configuration(&format!("[{}]", labels.join(", ")), "");
    let text = text.replace("per_minute = 60000", "per_minute = 1");
    site.write("trackpost.toml", &text.replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\"")));
    let daemon = started(&site).await;
    let mut last = Value::Null;
    let listed = until(|| {
        last = get(port, "host: localhost\r\n").unwrap().1;
        kinds(&last["degraded"]) == ["first_polls"]
    });
    assert!(listed.await.is_ok(), "{last}");
    assert!(last["degraded"][0]["detail"].as_str().unwrap().contains("wait for their first poll"), "{last}");
    let status = lines(&site, &["status", "--json"]).remove(0);
    assert_eq!(kinds(&status["attention"]), ["first_polls"], "{status}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_of_the_clock_since_the_last_run_is_logged_and_listed() {
    let port = free_address().port();
    let site = site_with(&format!("listen = \"127.0.0.1:{port}\"")).await;
    let daemon = started(&site).await;
    site.received(|counts| counts.accepted >= 6).await;
    daemon.stop().await;
    // The wall clock is two minutes further than the time since boot.
    let mut database = connect(&site.database()).await;
    sqlx::query("UPDATE clock SET wall = wall - 120000").execute(&mut database).await.unwrap();
    drop(database);
    let daemon = started(&site).await;
    daemon.logged("the clock jumped forward by 2m since the last run", 1).await;
    let (status, body) = get(port, "host: localhost\r\n").unwrap();
    assert_eq!((status, kinds(&body["degraded"])), (200, vec!["clock"]), "{body}");
    let attention = || kinds(&lines(&site, &["status", "--json"])[0]["attention"]) == ["clock"];
    assert!(until(attention).await.is_ok(), "status lists it too");
    daemon.stop().await;
    site.inspect();
}
