//! The mock's server.
//!
//! `GET /v2/labels/se-N/track` answers a list of tracking events, newest first. For a share of the labels the list has
//! one more event at each poll; when it is full, the oldest leaves. `POST /hook` accepts a callback and measures how
//! long ago the label's last answer was served. `POST /hang` never answers.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use serde::Deserialize;

use super::mock::{Behavior, Counted, changes};

/// Header of a callback that names its label.
pub const LABEL: &str = "trackpost-label-id";
/// Number of different events; then they repeat.
const EVENTS: usize = 5_000;

/// Last answer of the label.
#[derive(Default)]
struct Label {
    version: AtomicU32,
    /// Time of the last answer in nanoseconds since the start; 0: none yet.
    served_at: AtomicU64,
}

struct Server {
    started: Instant,
    behavior: Mutex<Behavior>,
    events: Vec<String>,
    labels: Vec<Label>,
    gets: AtomicU64,
    posts: AtomicU64,
    first_post_at: AtomicU64,
    last_post_at: AtomicU64,
    latencies: Mutex<Vec<f64>>,
}

/// Serves until the process is killed. Prints its URL.
pub async fn serve(labels: usize) {
    let server = Arc::new(Server {
        started: Instant::now(),
        behavior: Mutex::new(Behavior::changed(0)),
        events: events(),
        labels: std::iter::repeat_with(Label::default).take(labels).collect(),
        gets: AtomicU64::new(0),
        posts: AtomicU64::new(0),
        first_post_at: AtomicU64::new(u64::MAX),
        last_post_at: AtomicU64::new(0),
        latencies: Mutex::default(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = Router::new()
        .route("/v2/labels/{label}/track", get(track))
        .route("/hook", post(hook))
        .route("/hang", post(std::future::pending::<()>))
        .route("/behavior", post(behave))
        .route("/counted", get(counted))
        .with_state(server);
    axum::serve(listener, router).await.unwrap();
}

impl Server {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap()
    }

    /// Returns the number and the state of a label.
    fn label(&self, id: &str) -> (usize, &Label) {
        let number: usize = id.strip_prefix("se-").unwrap().parse().unwrap();
        (number, &self.labels[number % self.labels.len()])
    }
}

async fn track(State(server): State<Arc<Server>>, Path(id): Path<String>) -> impl IntoResponse {
    let behavior = *server.behavior.lock().unwrap();
    let (number, label) = server.label(&id);
    server.gets.fetch_add(1, Relaxed);
    let grown = u32::from(changes(number, behavior.changed));
    let version = label.version.fetch_add(grown, Relaxed) + grown;
    let end = behavior.first_events + version as usize;
    let start = end - end.min(behavior.most_events);
    let mut body =
        format!(r#"{{"tracking_number":"1Z{number:016}","status_code":"IT","carrier_code":"ups","events":["#);
    for event in (start..end).rev() {
        let comma = if event == start { "" } else { "," };
        write!(body, "{}{comma}", server.events[event % EVENTS]).unwrap();
    }
    body.push_str("]}");
    label.served_at.store(server.now(), Relaxed);
    ([(header::CONTENT_TYPE, "application/json")], body)
}

async fn hook(State(server): State<Arc<Server>>, headers: HeaderMap, _body: Bytes) {
    let now = server.now();
    server.posts.fetch_add(1, Relaxed);
    server.first_post_at.fetch_min(now, Relaxed);
    server.last_post_at.fetch_max(now, Relaxed);
    let Some(id) = headers.get(LABEL) else { return };
    let served_at = server.label(id.to_str().unwrap()).1.served_at.load(Relaxed);
    server.latencies.lock().unwrap().push(now.saturating_sub(served_at) as f64 / 1e6);
}

async fn behave(State(server): State<Arc<Server>>, body: String) {
    let behavior: Behavior = serde_json::from_str(&body).unwrap();
    *server.behavior.lock().unwrap() = behavior;
    if behavior.begin_again {
        server.labels.iter().for_each(|label| label.version.store(0, Relaxed));
    }
    server.gets.store(0, Relaxed);
    server.posts.store(0, Relaxed);
    server.first_post_at.store(u64::MAX, Relaxed);
    server.last_post_at.store(0, Relaxed);
    server.latencies.lock().unwrap().clear();
}

#[derive(Deserialize)]
struct CountQuery {
    latencies: bool,
}

async fn counted(State(server): State<Arc<Server>>, Query(query): Query<CountQuery>) -> String {
    let (first, last) = (server.first_post_at.load(Relaxed), server.last_post_at.load(Relaxed));
    let mut latencies = Vec::new();
    if query.latencies {
        latencies.clone_from(&server.latencies.lock().unwrap());
        latencies.sort_by(f64::total_cmp);
    }
    let counted = Counted {
        gets: server.gets.load(Relaxed),
        posts: server.posts.load(Relaxed),
        posting: Duration::from_nanos(last.saturating_sub(first)),
        latencies,
    };
    serde_json::to_string(&counted).unwrap()
}

/// Returns events 5 seconds apart, beginning 12 hours ago; about 600 bytes each, as the API writes them.
fn events() -> Vec<String> {
    let first_at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(12);
    let event = |number: usize| {
        let at = first_at + Duration::from_secs(5 * number as u64);
        let place = ["RENO", "SACRAMENTO", "OAKLAND"][number % 3];
        let code = number % 7;
        format!(
            r#"{{"occurred_at":"{at:.0}","carrier_occurred_at":"{at:.0}","description":"Arrived at facility","city_locality":"{place}","state_province":"NV","postal_code":"89501","country_code":"US","company_name":null,"signer":null,"event_code":"A{code}","carrier_detail_code":null,"status_code":"IT","status_description":"In Transit","carrier_status_code":"A1","carrier_status_description":"Arrived","status_detail_code":"HUB_SCAN_IN","status_detail_description":"Your parcel has arrived.","proof_of_delivery_url":null,"latitude":39.5,"longitude":-119.8}}"#
        )
    };
    (0..EVENTS).map(event).collect()
}
