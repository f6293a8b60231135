//! The bare client: sends the same requests as trackpost, without history, storage and signatures.

use std::time::{Duration, Instant};

use reqwest::Client;

use super::Figures;
use super::mock::{Mock, changes};
use super::process::Process;
use super::server::LABEL;

/// Size of a callback's body if no answer was read before.
const BODY: usize = 2_048;

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// Sends a GET of a label's tracking, and a POST of the answer if this label's answers change.
async fn poll(client: &Client, url: &str, label: usize, changed: u64) {
    let request = client.get(format!("{url}/v2/labels/se-{label}/track")).header("api-key", "TEST");
    let answer = request.send().await.unwrap().bytes().await.unwrap();
    if changes(label, changed) {
        post(client, url, label, answer).await;
    }
}

async fn post(client: &Client, url: &str, label: usize, body: impl Into<reqwest::Body>) {
    let request = client.post(format!("{url}/hook")).header(LABEL, format!("se-{label}")).body(body);
    request.send().await.unwrap().bytes().await.unwrap();
}

/// Polls with `workers` in parallel for `time`.
pub async fn polls(mock: &Mock, labels: usize, changed: u64, workers: usize, time: Duration) -> Figures {
    let client = client();
    let (began, cpu) = (Instant::now(), Process::own().cpu());
    let work = (0..workers).map(|worker| {
        let (client, url) = (client.clone(), mock.url.clone());
        tokio::spawn(async move {
            let mut polls = 0;
            while began.elapsed() < time {
                poll(&client, &url, (worker + polls * workers) % labels, changed).await;
                polls += 1;
            }
            polls as u64
        })
    });
    let mut count = 0;
    for worker in work.collect::<Vec<_>>() {
        count += worker.await.unwrap();
    }
    Figures { count, time: began.elapsed(), cpu: Process::own().cpu() - cpu, written: 0 }
}

/// Polls each of `labels` once a second.
pub async fn polls_each_second(mock: &Mock, labels: usize, changed: u64, time: Duration) -> Figures {
    let client = client();
    let (began, cpu) = (Instant::now(), Process::own().cpu());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / labels as u32);
    let mut polls = tokio::task::JoinSet::new();
    let mut count = 0;
    while began.elapsed() < time {
        ticks.tick().await;
        let (client, url, label) = (client.clone(), mock.url.clone(), count as usize % labels);
        polls.spawn(async move { poll(&client, &url, label, changed).await });
        count += 1;
    }
    polls.join_all().await;
    Figures { count, time: began.elapsed(), cpu: Process::own().cpu() - cpu, written: 0 }
}

/// Sends this number of POSTs, `workers` in parallel.
pub async fn posts(mock: &Mock, count: usize, workers: usize) -> Figures {
    let client = client();
    let (began, cpu) = (Instant::now(), Process::own().cpu());
    let work = (0..workers).map(|worker| {
        let (client, url) = (client.clone(), mock.url.clone());
        tokio::spawn(async move {
            for _ in (worker..count).step_by(workers) {
                post(&client, &url, 0, "x".repeat(BODY)).await;
            }
        })
    });
    for worker in work.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    Figures { count: count as u64, time: began.elapsed(), cpu: Process::own().cpu() - cpu, written: 0 }
}
