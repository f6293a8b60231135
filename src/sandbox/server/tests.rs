#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::{Carrier, Clock, FaultKind, InjectedFault, JourneyKind};
use super::*;
use crate::domain::tracking::{StatusCode, Tracking};

struct Running {
    addr: SocketAddr,
    handle: SandboxHandle,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<()>>,
}

async fn run(options: SandboxOptions) -> Running {
    let sandbox = Sandbox::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    let (addr, handle) = (sandbox.addr(), sandbox.handle());
    assert_eq!(sandbox.base_url(), format!("http://{addr}"));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(sandbox.serve(async {
        let _ = stopped.await;
    }));
    Running { addr, handle, stop, served }
}

struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Running {
    async fn send(&self, method: &str, target: &str, headers: &str) -> Got {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Got { status, head: head.replace("\r\n", "\n"), body: body.to_owned() }
    }

    async fn get(&self, target: &str) -> Got {
        self.send("GET", target, "API-Key: k\r\n").await
    }

    async fn statuses(&self, target: &str, count: usize) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(self.get(target).await.status);
        }
        statuses
    }
}

/// A clock that a test sets, in milliseconds.
fn hand_set() -> (Arc<AtomicI64>, Clock) {
    let ms = Arc::new(AtomicI64::new(1_800_000_000_000));
    let hand = ms.clone();
    (ms, Clock::from_fn(move || Timestamp::from_millisecond(hand.load(Ordering::SeqCst)).unwrap()))
}

#[tokio::test]
async fn a_parcel_travels_from_unknown_to_delivered() {
    let (ms, clock) = hand_set();
    let sandbox = run(SandboxOptions { clock, time_factor: 1000.0, ..Default::default() }).await;
    let label = "se-1".parse().unwrap();
    sandbox.handle.create_on(&label, JourneyKind::Delivered, Carrier::Fedex);
    let first = sandbox.get("/v2/labels/se-1/track").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("content-type"), Some("application/json; charset=utf-8"));
    assert!(first.header("x-shipengine-requestid").is_some());
    assert!(Tracking::parse(first.body.as_bytes()).unwrap().events.is_empty());
    assert!(!sandbox.handle.all_ended());
    ms.fetch_add(6 * 86_400, Ordering::SeqCst);
    let last = sandbox.get("/v1/labels/se-1/track").await;
    let tracking = Tracking::parse(last.body.as_bytes()).unwrap();
    assert_eq!(tracking.status(), Some(StatusCode::Delivered));
    assert_eq!(tracking.events.len(), sandbox.handle.parcels()[0].1.scans());
    assert_eq!(sandbox.get("/v2/labels/se-1/track").await.body, last.body);
    assert!(sandbox.handle.all_ended());
}

#[tokio::test]
async fn every_well_formed_label_is_known_unless_configured_otherwise() {
    let auto = run(SandboxOptions::default()).await;
    assert_eq!(auto.get("/v2/labels/se-7/track").await.status, 200);
    auto.handle.void(&"se-7".parse().unwrap());
    let void = auto.get("/v2/labels/se-7/track").await;
    assert_eq!(void.status, 400);
    assert!(void.body.contains("tracking_not_supported"));
    auto.handle.forget(&"se-7".parse().unwrap());
    assert_eq!(auto.get("/v2/labels/se-7/track").await.status, 404);
    for malformed in ["SE-1", "se-%31", "1", "se-1234567890123456789012345"] {
        let answer = auto.get(&format!("/v2/labels/{malformed}/track")).await;
        assert_eq!(answer.status, 400, "{malformed}");
        assert!(answer.body.contains("invalid_identifier"));
    }

    let strict = SandboxOptions { auto: false, labels: vec!["se-1".parse().unwrap()], ..Default::default() };
    let strict = run(strict).await;
    assert_eq!(strict.get("/v2/labels/se-1/track").await.status, 200);
    let unknown = strict.get("/v2/labels/se-2/track").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("not_found") && !unknown.body.contains("endpoint"));
}

#[tokio::test]
async fn other_paths_are_unknown_endpoints() {
    let sandbox = run(SandboxOptions::default()).await;
    for path in ["/", "/v2/label/se-1/track", "/v3/labels/se-1/track", "/v3/labels", "/v2/labels/se-1"] {
        let answer = sandbox.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains(&format!("GET {path} is not a valid API endpoint")), "{}", answer.body);
    }
    assert_eq!(sandbox.send("POST", "/v2/labels", "api-key: k\r\ncontent-length: 0\r\n").await.status, 404);
}

#[tokio::test]
async fn labels_are_created_while_it_runs_and_some_are_voided() {
    let (ms, clock) = hand_set();
    let labels = vec!["se-1".parse().unwrap()];
    let options = SandboxOptions {
        clock,
        labels,
        labels_per_hour: 60,
        auto: false,
        rate_limit: None,
        ..Default::default()
    };
    let sandbox = run(options).await;
    let listed = async |query: &str| {
        let page: serde_json::Value =
            serde_json::from_str(&sandbox.get(&format!("/v1/labels?page_size=1000&{query}")).await.body)
                .unwrap();
        page["labels"].as_array().unwrap().clone()
    };
    assert_eq!(listed("").await.len(), 1);
    assert_eq!(sandbox.get("/v2/labels/se-2/track").await.status, 404);
    ms.fetch_add(60_000, Ordering::SeqCst);
    assert_eq!(sandbox.get("/v2/labels/se-2/track").await.status, 200);
    let newest = listed("").await.remove(0);
    assert_eq!(
        (&newest["label_id"], &newest["created_at"]),
        (&"se-2".into(), &"2027-01-15T08:01:00Z".into())
    );
    assert_eq!(newest["external_order_id"], "A-2");
    ms.fetch_add(3 * 3_600_000, Ordering::SeqCst);
    assert_eq!(listed("sort_dir=asc").await.len(), 182);
    let voided = listed("label_status=voided").await;
    assert!((2..20).contains(&voided.len()), "{}", voided.len());
    let id = voided[0]["label_id"].as_str().unwrap();
    assert_eq!(sandbox.get(&format!("/v2/labels/{id}/track")).await.status, 400);
}

#[tokio::test]
async fn the_key_is_checked_and_wrong_keys_are_counted() {
    let sandbox = run(SandboxOptions { api_keys: vec!["right".to_owned()], ..Default::default() }).await;
    for headers in ["", "api-key: \r\n", "api-key: wrong\r\n"] {
        let refused = sandbox.send("GET", "/v2/labels/se-1/track", headers).await;
        assert_eq!(refused.status, 401);
        assert!(refused.body.contains(r#""error_type":"security","error_code":"unauthorized""#));
    }
    assert_eq!(sandbox.send("GET", "/v2/labels/se-1/track", "Api-Key: right\r\n").await.status, 200);
    let counters = sandbox.handle.counters();
    assert_eq!((counters.requests, counters.wrong_key), (4, 3));
    assert_eq!((counters.answered(401), counters.answered(200)), (3, 1));
    sandbox.handle.set_api_keys(vec!["new".to_owned()]);
    assert_eq!(sandbox.send("GET", "/v2/labels", "api-key: right\r\n").await.status, 401);
}

#[tokio::test]
async fn the_rate_limit_sends_a_retry_after() {
    let (ms, clock) = hand_set();
    let sandbox = run(SandboxOptions { clock, rate_limit: Some(2), ..Default::default() }).await;
    assert_eq!(sandbox.statuses("/v2/labels/se-1/track", 3).await, [200, 200, 429]);
    ms.fetch_add(10_500, Ordering::SeqCst);
    let refused = sandbox.get("/v2/labels").await;
    assert_eq!(refused.header("retry-after"), Some("50"));
    assert!(refused.body.contains("rate_limit_exceeded"));
    assert_eq!(sandbox.send("GET", "/v2/labels", "api-key: another\r\n").await.status, 200);
    ms.fetch_add(49_500, Ordering::SeqCst);
    assert_eq!(sandbox.statuses("/v2/labels/se-1/track", 3).await, [200, 200, 429]);
    sandbox.handle.set_rate_limit(None);
    assert_eq!(sandbox.get("/v2/labels/se-1/track").await.status, 200);
    let counters = sandbox.handle.counters();
    assert_eq!((counters.requests, counters.max_in_60s, counters.answered(429)), (9, 6, 3));
    assert_eq!(sandbox.handle.requests_of("se-1"), 7);
    let requests = sandbox.handle.requests();
    assert_eq!((requests[3].target.as_str(), requests[3].status), ("/v2/labels", Some(429)));
    assert_eq!(requests[3].at.as_millisecond(), 1_800_000_010_500);
}

#[tokio::test]
async fn answers_follow_the_script_and_then_the_parcel_again() {
    let sandbox = run(SandboxOptions::default()).await;
    let handle = &sandbox.handle;
    handle.script_once("se-1", Answer::json(200, "[]").header("x-odd", "yes"));
    handle.script_once("se-1", Answer::status(503).header("retry-after", "7"));
    let odd = sandbox.get("/v2/labels/se-1/track").await;
    assert_eq!((odd.body.as_str(), odd.header("x-odd")), ("[]", Some("yes")));
    assert_eq!(sandbox.statuses("/v2/labels/se-1/track", 2).await, [503, 200]);
    handle.script("se-1", Answer::status(500));
    assert_eq!(sandbox.statuses("/v2/labels/se-1/track", 2).await, [500, 500]);
    assert_eq!(sandbox.get("/v2/labels/se-2/track").await.status, 200);
    handle.unscript("se-1");
    assert_eq!(sandbox.get("/v2/labels/se-1/track").await.status, 200);
}

#[tokio::test]
async fn faults_can_be_set_and_removed() {
    let faults = vec![InjectedFault::new(FaultKind::Fail(500), 1.0)];
    let sandbox = run(SandboxOptions { faults, ..Default::default() }).await;
    let failed = sandbox.get("/v2/labels/se-1/track").await;
    assert_eq!((failed.status, failed.body.as_str()), (500, ""));
    assert_eq!(failed.header("content-type"), Some("text/plain"));
    sandbox.handle.set_faults(vec![InjectedFault::new(FaultKind::Garble, 1.0)]);
    for _ in 0..3 {
        let garbled = sandbox.get("/v2/labels/se-1/track").await;
        assert_eq!(garbled.status, 200);
        assert!(Tracking::parse(garbled.body.as_bytes()).is_err(), "{}", garbled.body);
    }
    sandbox.handle.set_faults(Vec::new());
    assert!(Tracking::parse(sandbox.get("/v2/labels/se-1/track").await.body.as_bytes()).is_ok());
}

#[tokio::test]
async fn lists_its_labels() {
    let labels = (1..=3).map(|n| format!("se-{n}").parse().unwrap()).collect();
    let sandbox = run(SandboxOptions { labels, ..Default::default() }).await;
    let list = sandbox.get("/v2/labels?page=2&page_size=1&sort_dir=asc").await;
    let list: serde_json::Value = serde_json::from_str(&list.body).unwrap();
    assert_eq!((&list["total"], &list["page"], &list["pages"]), (&3.into(), &2.into(), &3.into()));
    assert_eq!(list["labels"][0]["label_id"], "se-2");
    let next = list["links"]["next"]["href"].as_str().unwrap();
    let target = next.strip_prefix(sandbox.handle.base_url()).unwrap();
    let next: serde_json::Value = serde_json::from_str(&sandbox.get(target).await.body).unwrap();
    assert_eq!(next["labels"][0]["label_id"], "se-3");
    let bad = sandbox.get("/v2/labels?page=0").await;
    assert_eq!(bad.status, 400);
    assert!(bad.body.contains(r#""field_name":"page""#));
}

#[tokio::test]
async fn replays_files_and_recorded_journeys() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("se-f.json"), "{\"status_code\":\"IT\"} ").unwrap();
    let row = r#"{"label_id":"se-r","registered_at":"2026-01-01T00:00:00Z","observations":[{"at":"2026-01-01T00:00:00Z","tracking":{"status_code": "AC"}}]}"#;
    let sandbox = run(SandboxOptions {
        auto: false,
        replay: Some(dir.path().to_owned()),
        journeys: super::super::RecordedJourney::read(row).unwrap(),
        ..Default::default()
    })
    .await;
    assert_eq!(sandbox.get("/v2/labels/se-f/track").await.body, "{\"status_code\":\"IT\"} ");
    assert_eq!(sandbox.get("/v2/labels/se-r/track").await.body, "{\"status_code\": \"AC\"}");
    assert_eq!(sandbox.get("/v2/labels/se-x/track").await.status, 404);
    std::fs::write(dir.path().join("se-x.json"), "{}").unwrap();
    assert_eq!(sandbox.get("/v2/labels/se-x/track").await.body, "{}");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_delays() {
    let sandbox = run(SandboxOptions::default()).await;
    sandbox.handle.script("se-1", Answer::status(204).after(Duration::from_secs(3600)));
    let mut stream = TcpStream::connect(sandbox.addr).await.unwrap();
    let request = b"GET /v2/labels/se-1/track HTTP/1.1\r\nhost: x\r\napi-key: k\r\n\r\n";
    stream.write_all(request).await.unwrap();
    while sandbox.handle.counters().requests == 0 {
        tokio::task::yield_now().await;
    }
    sandbox.stop.send(()).unwrap();
    sandbox.served.await.unwrap().unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(sandbox.handle.counters().max_in_flight, 1);
}
