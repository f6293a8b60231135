//! Bounds of the HTTP port: connections, time and bytes (contract 9.3).

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use trackpost::clock::{self, Stopwatch};
use trackpost::sandbox::{Answer, Carrier, JourneyKind, SandboxOptions};

use crate::harness::Harness;
use crate::harness::child::Site;
use crate::harness::parcel::in_transit;
use crate::harness::server::Server;

/// The largest number of connections at a time.
const MOST: usize = 256;

async fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset connection sends nothing more.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_oldest_idle_connection_makes_room() {
    let harness = Harness::new().await;
    let server = Server::of(&harness, None).await;
    let mut open = Vec::new();
    for _ in 0..MOST + 20 {
        open.push(TcpStream::connect(server.addr).await.unwrap());
        // The server accepts one after the other, so the order is known.
        assert_eq!(server.get_with("/readyz", "").await.0, 200, "after {}", open.len());
    }
    let last = open.pop().unwrap();
    let first = open.remove(0);
    assert_eq!(read_all(first).await, "", "closed");
    let mut last = last;
    last.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(read_all(last).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn incomplete_requests_and_idle_connections_are_closed() {
    let harness = Harness::new().await;
    let server = Server::of(&harness, None).await;
    let watch = Stopwatch::start();
    let silent = TcpStream::connect(server.addr).await.unwrap();
    let mut half = TcpStream::connect(server.addr).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(read_all(silent), read_all(half))
    });
    ended.await.expect("both connections are closed");
    assert!(watch.elapsed() >= Duration::from_secs(9), "{:?}", watch.elapsed());
}

#[tokio::test]
async fn a_feed_page_has_at_most_a_mebibyte() {
    let long = format!(
        r#"{{"tracking_number":"1Z","status_code":"IT","events":[{{"occurred_at":"2030-03-04T10:00:00Z","description":"{}"}}]}}"#,
        "x".repeat(200 << 10)
    );
    let mut harness = Harness::new().await;
    let labels: Vec<String> = (0..8).map(|n| format!("se-{n}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    harness.register(&labels).await;
    labels.iter().for_each(|label| harness.says(label, &long));
    harness.poll().await;
    let server = Server::of(&harness, None).await;
    let (mut after, mut messages, mut pages) = ("0".to_owned(), 0, 0);
    loop {
        let (status, _, body) = server.get_with(&format!("/messages?limit=1000&after={after}"), "").await;
        assert_eq!(status, 200, "{body}");
        assert!(body.len() <= (1 << 20) + 100, "{}", body.len());
        let page: serde_json::Value = serde_json::from_str(&body).unwrap();
        let found = page["messages"].as_array().unwrap().len();
        if found == 0 {
            break;
        }
        (messages, pages) = (messages + found, pages + 1);
        after = page["next"].as_str().unwrap().to_owned();
    }
    assert_eq!(messages, 8 * 3);
    assert!(pages > 1, "{pages}");
}

#[tokio::test]
async fn page_requests_over_the_limit_get_503() {
    let harness = Harness::new().await;
    let server = Server::of(&harness, None).await;
    let statuses = futures_util::future::join_all((0..200).map(|_| server.get_with("/", ""))).await;
    let answered = statuses.iter().filter(|(status, ..)| *status == 200).count();
    assert!(answered >= 2, "{answered}");
    for (status, head, _) in &statuses {
        assert!(*status == 200 || *status == 503 && head.contains("retry-after: "), "{head}");
    }
    // Health is not a page.
    assert_eq!(server.get_with("/healthz", "").await.0, 200);
}

/// Three hundred callers ask for the largest pages without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_flood_does_not_stop_polls_and_deliveries() {
    let site = Site::new(SandboxOptions { time_factor: 86_400.0, ..Default::default() }).await;
    let ids: Vec<String> = (0..20).map(|n| format!("se-{n}")).collect();
    ids.iter().for_each(|id| {
        site.sandbox.create_on(&id.parse().unwrap(), JourneyKind::Delivered, Carrier::Ups);
    });
    let address = site.listen(&format!("{ids:?}"), "");
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    let flood = async {
        let call = async || {
            let request =
                b"GET /messages?limit=1000 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            let mut stream = TcpStream::connect(address).await.ok()?;
            stream.write_all(request).await.ok()?;
            read_all(stream).await.split(' ').nth(1).map(str::to_owned)
        };
        let callers = (0..300).map(|_| async {
            loop {
                // A connection over the limit is closed without an answer.
                let status = call().await.unwrap_or_else(|| "503".to_owned());
                assert!(["200", "503", ""].contains(&status.as_str()), "{status}");
                tokio::task::yield_now().await;
            }
        });
        futures_util::future::join_all(callers).await;
    };
    let delivered = || {
        let callbacks = site.receiver.callbacks();
        callbacks.iter().filter(|callback| callback.kind.as_deref() == Some("tracking.delivered")).count()
    };
    tokio::select! {
        _ = flood => unreachable!("callers do not end"),
        arrived = crate::harness::child::until(|| delivered() >= 20) => {
            assert!(arrived.is_ok(), "{} of 20 parcels:\n{}", delivered(), daemon.log());
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn an_incomplete_request_does_not_delay_the_stop() {
    let site = Site::new(SandboxOptions::default()).await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    let addr = site.listen("[\"se-1\"]", "");
    let daemon = site.start();
    site.received(|counts| counts.accepted == 3).await;
    let mut half = TcpStream::connect(addr).await.unwrap();
    half.write_all(b"POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\ntok")
        .await
        .unwrap();
    let mut other = TcpStream::connect(addr).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();
    clock::sleep(Duration::from_millis(50)).await;
    let watch = Stopwatch::start();
    daemon.stop().await;
    assert!(watch.elapsed() < Duration::from_secs(10), "{:?}", watch.elapsed());
    let wal = site.directory().join("trackpost.db-wal");
    assert!(!wal.exists(), "the database is closed");
    site.inspect();
}
