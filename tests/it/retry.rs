//! Retries of a failed callback (contract 7.4, 7.5).

use trackpost::sandbox::Answer;

use crate::harness::parcel::in_transit;
use crate::harness::{Harness, ORDERS, about, hours, seconds};

const NEXT: &str = "SELECT min(next_attempt_at) FROM deliveries WHERE next_attempt_at IS NOT NULL";

/// A harness with one due callback that gets this answer.
async fn answered(answer: Answer) -> Harness {
    let mut harness = Harness::with(&ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]")).await;
    harness.receiver.answer_always(answer);
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    harness
}

/// Returns the seconds until the next attempt.
async fn wait(harness: &Harness) -> f64 {
    (harness.count(NEXT).await - harness.now().as_millisecond()) as f64 / 1000.0
}

fn received(harness: &Harness) -> usize {
    harness.receiver.counts().received
}

async fn state(harness: &Harness, state: &'static str) -> i64 {
    let count = match state {
        "pending" => "SELECT count(*) FROM deliveries WHERE state = 'pending'",
        "dead" => "SELECT count(*) FROM deliveries WHERE state = 'dead'",
        _ => "SELECT count(*) FROM deliveries WHERE state = 'delivered'",
    };
    harness.count(count).await
}

#[tokio::test]
async fn any_2xx_is_success() {
    for status in [200, 201, 202, 204, 206, 299] {
        let harness = answered(Answer::status(status)).await;
        assert_eq!((received(&harness), state(&harness, "delivered").await), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn other_statuses_are_failures_and_redirects_are_not_followed() {
    for status in [300, 301, 302, 304, 307, 308, 400, 401, 404, 410, 418, 429, 500, 503, 599] {
        let harness = answered(Answer::status(status).header("location", "/elsewhere")).await;
        assert_eq!((received(&harness), state(&harness, "pending").await), (1, 1), "{status}");
        assert!(harness.receiver.callbacks().iter().all(|callback| callback.path == "/orders"));
    }
}

#[tokio::test]
async fn retries_follow_the_schedule_and_repeat_its_last_step() {
    let mut harness = answered(Answer::status(500)).await;
    let hour = 3600.0;
    let schedule =
        [5.0, 300.0, 1800.0, 2.0 * hour, 5.0 * hour, 10.0 * hour, 14.0 * hour, 20.0 * hour, 24.0 * hour];
    for (attempt, planned) in schedule.into_iter().chain([24.0 * hour; 3]).enumerate() {
        assert_eq!(received(&harness), attempt + 1);
        let wait = wait(&harness).await;
        assert!(about(wait, planned, 0.10), "{wait} s for {planned} s");
        harness.pass(seconds(wait as i64 - 1));
        harness.deliver().await;
        assert_eq!(received(&harness), attempt + 1, "no attempt before its time");
        harness.pass(seconds(2));
        harness.deliver().await;
    }
    assert_eq!(state(&harness, "pending").await, 1, "no message becomes dead while none is accepted");
}

#[tokio::test]
async fn a_message_becomes_dead_only_if_others_were_accepted_since() {
    let short = ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]") + "retry = [\"5s\", \"10s\"]\n";
    let mut harness = Harness::with(&short).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.receiver.answer_by(|callback| {
        (callback.label_id.as_deref() == Some("se-1")).then(|| Answer::status(422).body("no such order"))
    });
    harness.poll_and_deliver().await;
    for _ in 0..6 {
        harness.pass(seconds(12));
        harness.deliver().await;
    }
    assert_eq!(state(&harness, "dead").await, 0);

    harness.register(&["se-2"]).await;
    harness.says("se-2", &in_transit());
    harness.poll_and_deliver().await;
    harness.pass(seconds(12));
    harness.deliver().await;
    assert_eq!((state(&harness, "dead").await, state(&harness, "delivered").await), (1, 1));
    let kept = "SELECT count(*) FROM attempts WHERE status = 422 AND answer = 'no such order'";
    assert_eq!(harness.count(kept).await, 8);

    harness.receiver.answer_by(|_| None);
    harness.says("se-1", &in_transit().replace("MEMPHIS", "OMAHA"));
    harness.pass(hours(3));
    harness.poll_again("se-1").await;
    harness.deliver().await;
    assert_eq!(state(&harness, "delivered").await, 2, "the label continues");
}

#[tokio::test]
async fn retry_after_is_honoured_exactly_and_up_to_a_day() {
    for (status, header_value, expected) in [
        (500, "3600", 3600.0),
        (404, "77", 77.0),
        (503, "86400", 86400.0),
        (429, "999999", 86400.0),
        (500, "9999999999999999", 86400.0),
    ] {
        let harness = answered(Answer::status(status).header("retry-after", header_value)).await;
        let wait = wait(&harness).await;
        assert!(about(wait, expected, 0.0), "{status} {header_value}: {wait} s");
    }
}

#[tokio::test]
async fn retry_after_may_be_a_date_and_a_later_schedule_wins() {
    let noon = Harness::new().await.now();
    let date = |at| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
    let harness = answered(Answer::status(503).header("retry-after", &date(noon + seconds(600)))).await;
    assert!(about(wait(&harness).await, 600.0, 0.0), "{}", wait(&harness).await);
    for early in ["0", "1", &date(noon - hours(1)), "whenever"] {
        let harness = answered(Answer::status(500).header("retry-after", early)).await;
        assert!(about(wait(&harness).await, 5.0, 0.10), "{early}: {}", wait(&harness).await);
    }
}

#[tokio::test]
async fn a_429_or_503_delays_the_subscriber_and_other_statuses_delay_the_message() {
    for (status, held) in [(429, true), (503, true), (500, false), (404, false)] {
        let mut harness = answered(Answer::status(status).header("retry-after", "600")).await;
        harness.receiver.answer_always(Answer::status(200));
        harness.register(&["se-2"]).await;
        harness.says("se-2", &in_transit());
        harness.poll_and_deliver().await;
        assert_eq!(received(&harness), if held { 1 } else { 2 }, "{status}");
        harness.restart().await;
        harness.pass(seconds(599));
        harness.deliver().await;
        assert_eq!(received(&harness), if held { 1 } else { 2 }, "{status}, after a restart");
        harness.pass(seconds(2));
        harness.deliver().await;
        assert_eq!(state(&harness, "delivered").await, 2, "{status}");
    }
}
