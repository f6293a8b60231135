//! `/metrics`: conventional names, correct counts, and no label ids (contract 9.3).

use std::collections::BTreeMap;

use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::{Site, until};
use crate::harness::parcel::in_transit;
use crate::harness::server::Server;

/// Returns the samples of a scrape, by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn metrics_count_the_work_of_the_daemon() {
    let site = Site::new(SandboxOptions::default()).await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    site.sandbox.script("se-2", Answer::json(500, "{}".to_owned()));
    let addr = site.listen("[\"se-1\", \"se-2\"]", "");
    let daemon = site.start();
    site.received(|counts| counts.accepted == 3).await;
    let polled = until(|| site.sandbox.counters().requests > 5).await;
    polled.unwrap();
    let server = Server::at(addr);
    let (status, head, text) = server.get_with("/metrics", "").await;
    assert_eq!(status, 200, "{text}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let found = samples(&text);
    let of = |name: &str| *found.get(name).unwrap_or_else(|| panic!("{name}: {text}"));
    assert!(of("trackpost_polls_total{account=\"main\",outcome=\"changed\"}") >= 1.0);
    assert!(of("trackpost_polls_total{account=\"main\",outcome=\"server_error\"}") >= 1.0);
    assert_eq!(of("trackpost_delivery_attempts_total{subscriber=\"orders\",outcome=\"accepted\"}"), 3.0);
    assert_eq!(of("trackpost_delivery_latency_seconds_count{subscriber=\"orders\"}"), 3.0);
    assert_eq!(of("trackpost_labels{account=\"main\",state=\"active\"}"), 2.0);
    assert_eq!(of("trackpost_account_state{account=\"main\",state=\"ok\"}"), 1.0);
    assert_eq!(of("trackpost_subscriber_state{subscriber=\"orders\",state=\"ok\"}"), 1.0);
    assert_eq!(of("trackpost_deliveries_pending{subscriber=\"orders\"}"), 0.0);
    assert_eq!(of("trackpost_requests_per_minute_limit{account=\"main\"}"), 60_000.0);
    // It is written a second later at most.
    assert!(of("trackpost_requests_last_minute{account=\"main\"}") >= 0.0);
    assert!(of("trackpost_stretch_ratio{account=\"main\"}") >= 1.0);
    assert!(of("trackpost_database_size_bytes") > 0.0 && of("trackpost_writer_batch_rows_count") > 0.0);
    assert!(found.keys().any(|name| name.starts_with("trackpost_build_info{version=")), "{text}");
    assert!(!text.contains("se-1") && !text.contains("msg_"), "{text}");
    for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    daemon.stop().await;
    site.inspect();
}

/// Every metric of an alert or a panel exists.
#[test]
fn alerts_and_dashboard_use_only_existing_metrics() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let code = format!("{}{}", read("src/http/metrics.rs"), read("src/metrics.rs"));
    for file in ["deploy/alerts.yml", "deploy/grafana.json"] {
        let text = read(file);
        let mut names = 0;
        for rest in text.split("trackpost_").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let mut bare = name.as_str();
            for suffix in ["_total", "_bucket", "_info", "_seconds", "_ratio", "_bytes"] {
                bare = bare.strip_suffix(suffix).unwrap_or(bare);
            }
            assert!(code.contains(&format!("\"{bare}\"")), "{file}: trackpost_{name}");
            names += 1;
        }
        assert!(names > 10, "{file}: {names}");
    }
}
