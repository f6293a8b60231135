//! The message feed: complete, without repetitions, and protected by a token (contract 9.3).

use serde_json::Value;
use serde_json::value::RawValue;
use trackpost::sandbox::{Answer, SandboxOptions};
use trackpost::store::upkeep::RetentionLimits;

use crate::harness::child::Site;
use crate::harness::parcel::{event, in_transit, tracking};
use crate::harness::server::Server;
use crate::harness::{Harness, ORDERS, connect, hours};

/// Returns status and body of a JSON answer. `head`: additional header lines.
async fn get(server: &Server, target: &str, head: &str) -> (u16, String) {
    let (status, answered, body) = server.get_with(target, head).await;
    assert!(answered.to_lowercase().contains("content-type: application/json"), "{answered}");
    (status, body)
}

async fn page(server: &Server, query: &str) -> Value {
    let (status, body) = get(server, &format!("/messages{query}"), "").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn delivered_harness() -> Harness {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2"]).await;
    harness.says("se-1", &in_transit());
    harness.says("se-2", &in_transit());
    harness.poll_and_deliver().await;
    harness
}

#[tokio::test]
async fn feed_pages_continue_each_other_with_the_bodies_as_sent() {
    let harness = delivered_harness().await;
    let server = Server::of(&harness, None).await;
    let (mut after, mut ids) = (String::new(), Vec::new());
    loop {
        let page = page(&server, &format!("?limit=4&after={after}")).await;
        let next = page["next"].as_str().unwrap().to_owned();
        let messages = page["messages"].as_array().unwrap();
        let Some(last) = messages.last() else {
            assert_eq!(next, after, "the cursor stays at the end");
            break;
        };
        assert_eq!(last["cursor"], next.as_str());
        ids.extend(messages.iter().map(|message| message["message_id"].as_str().unwrap().to_owned()));
        after = next;
    }
    assert_eq!(ids.len(), 6);

    #[derive(serde::Deserialize)]
    struct Page {
        messages: Vec<Message>,
    }
    #[derive(serde::Deserialize)]
    struct Message {
        message_id: String,
        body: Box<RawValue>,
    }
    let (_, text) = get(&server, "/messages", "").await;
    let page: Page = serde_json::from_str(&text).unwrap();
    for callback in harness.callbacks("orders") {
        let fed = page.messages.iter().find(|fed| Some(&fed.message_id) == callback.message_id.as_ref());
        assert_eq!(fed.unwrap().body.get().as_bytes(), &callback.body[..], "byte for byte");
    }
    let whole: Value = serde_json::from_str(&text).unwrap();
    let first = &whole["messages"][0];
    assert_eq!((&first["account"], &first["seq"]), (&"main".into(), &harness.now().as_millisecond().into()));
    assert_eq!(first["type"], "tracking.event.added");
    assert!(first["label_id"].as_str().unwrap().starts_with("se-"));
    assert_eq!(first["created_at"], "2030-03-04T12:00:00.000Z");
}

#[tokio::test]
async fn a_reader_during_writes_misses_no_message() {
    let mut harness = Harness::new().await;
    let labels: Vec<String> = (0..60).map(|n| format!("se-{n}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    harness.register(&labels).await;
    labels.iter().for_each(|label| harness.says(label, &in_transit()));
    let server = Server::of(&harness, None).await;
    let total = labels.len() * 3;
    let reader = tokio::spawn(async move {
        let (mut after, mut ids) = ("0".to_owned(), Vec::new());
        while ids.len() < total {
            let page = page(&server, &format!("?limit=7&after={after}")).await;
            let messages = page["messages"].as_array().unwrap();
            ids.extend(messages.iter().map(|message| message["message_id"].as_str().unwrap().to_owned()));
            after = page["next"].as_str().unwrap().to_owned();
        }
        ids
    });
    harness.poll().await;
    let read = tokio::time::timeout(std::time::Duration::from_secs(60), reader).await;
    let read = read.expect("the reader gets all messages").unwrap();
    let stored: Vec<String> = sqlx::query_scalar("SELECT message_id FROM messages ORDER BY message_key")
        .fetch_all(&mut connect(harness.path()).await)
        .await
        .unwrap();
    assert_eq!(read, stored);
}

#[tokio::test]
async fn the_feed_of_a_subscriber_has_its_deliveries() {
    let few = ORDERS.replace("orders", "few").replace("[\"*\"]", "[\"tracking.updated\"]");
    let mut harness = Harness::with(&(ORDERS.to_owned() + &few)).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    let server = Server::of(&harness, None).await;
    let count = async |query: &str| page(&server, query).await["messages"].as_array().unwrap().len();
    assert_eq!(count("").await, 3);
    assert_eq!(count("?subscriber=orders").await, 3);
    assert_eq!(count("?subscriber=few").await, 1);
    let (status, body) = get(&server, "/messages?subscriber=nobody", "").await;
    assert!(status == 404 && body.contains("no subscriber has this name"), "{status} {body}");
}

#[tokio::test]
async fn invalid_parameters_are_named() {
    let harness = delivered_harness().await;
    let server = Server::of(&harness, None).await;
    let end = page(&server, "").await["next"].as_str().unwrap().to_owned();
    let (key, mark) = end.split_once('-').unwrap();
    let other = format!("after={key}-{}", mark.chars().rev().collect::<String>());
    let beyond = format!("after=999-{mark}");
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("after=x", "after"),
        (other.as_str(), "after"),
        (beyond.as_str(), "after"),
        ("subscriber=", "subscriber"),
        ("cursor=1", "cursor"),
    ] {
        let (status, body) = get(&server, &format!("/messages?{query}"), "").await;
        assert_eq!(status, 400, "{query}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["parameter"], parameter, "{query}");
        assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()));
    }
    assert_eq!(page(&server, "?limit=1000").await["messages"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn a_cursor_stays_valid_after_its_message_was_pruned() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &tracking("DE", &[&event(0, "DE", "DL")]));
    harness.poll_and_deliver().await;
    let server = Server::of(&harness, None).await;
    let end = page(&server, "").await["next"].as_str().unwrap().to_owned();
    harness.pass(hours(24));
    let (now, limit) = (harness.now(), 500);
    let keep = RetentionLimits { attempts_since: now, finished_since: now, undelivered_since: now };
    harness.store().prune(keep, limit).await.unwrap();
    let page = page(&server, &format!("?after={end}")).await;
    assert_eq!((page["next"].as_str(), &page["messages"]), (Some(end.as_str()), &serde_json::json!([])));
}

#[tokio::test]
async fn a_request_needs_the_configured_token() {
    let harness = delivered_harness().await;
    let server = Server::of(&harness, Some("open sesame")).await;
    for head in ["", "authorization: Bearer open\r\n", "authorization: Basic open sesame\r\n"] {
        let (status, body) = get(&server, "/messages", head).await;
        assert_eq!(status, 401, "{head}");
        assert!(!body.contains("se-1"));
    }
    let (status, _) = get(&server, "/messages", "authorization: Bearer open sesame\r\n").await;
    assert_eq!(status, 200);
    for open in ["/healthz", "/readyz"] {
        assert_eq!(get(&server, open, "").await.0, 200, "{open}");
    }
}

#[tokio::test]
async fn the_daemon_serves_the_feed_with_its_token() {
    let site = Site::new(SandboxOptions::default()).await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    let addr = site.listen("[\"se-1\"]", "token = \"open-sesame\"");
    let daemon = site.start();
    site.received(|counts| counts.accepted == 3).await;
    let server = Server::at(addr);
    assert_eq!(get(&server, "/messages", "").await.0, 401);
    let (status, body) = get(&server, "/messages?limit=2", "authorization: Bearer open-sesame\r\n").await;
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(page["messages"].as_array().unwrap().len(), 2);
    daemon.stop().await;
    site.inspect();
}
