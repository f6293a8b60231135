//! When a failed callback is tried again (contract 7.4, 7.5).

use trackpost::sandbox::Answer;

use crate::house::parcel::in_transit;
use crate::house::{House, ORDERS, about, hours, seconds};

const NEXT: &str = "SELECT min(next_attempt_at) FROM deliveries WHERE next_attempt_at IS NOT NULL";

/// A house with one callback that is due and answered so.
async fn answered(answer: Answer) -> House {
    let mut house = House::with(&ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]")).await;
    house.receiver.answer_always(answer);
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.poll_and_deliver().await;
    house
}

/// In how many seconds the next attempt is due.
async fn wait(house: &House) -> f64 {
    (house.count(NEXT).await - house.now().as_millisecond()) as f64 / 1000.0
}

fn received(house: &House) -> usize {
    house.receiver.counts().received
}

async fn state(house: &House, state: &'static str) -> i64 {
    let count = match state {
        "pending" => "SELECT count(*) FROM deliveries WHERE state = 'pending'",
        "dead" => "SELECT count(*) FROM deliveries WHERE state = 'dead'",
        _ => "SELECT count(*) FROM deliveries WHERE state = 'delivered'",
    };
    house.count(count).await
}

#[tokio::test]
async fn any_2xx_is_success() {
    for status in [200, 201, 202, 204, 206, 299] {
        let house = answered(Answer::status(status)).await;
        assert_eq!((received(&house), state(&house, "delivered").await), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn anything_else_is_none_and_redirects_are_not_followed() {
    for status in [300, 301, 302, 304, 307, 308, 400, 401, 404, 410, 418, 429, 500, 503, 599] {
        let house = answered(Answer::status(status).header("location", "/elsewhere")).await;
        assert_eq!((received(&house), state(&house, "pending").await), (1, 1), "{status}");
        assert!(house.receiver.callbacks().iter().all(|callback| callback.path == "/orders"));
    }
}

#[tokio::test]
async fn the_schedule_is_kept_and_its_last_step_repeats() {
    let mut house = answered(Answer::status(500)).await;
    let hour = 3600.0;
    let schedule =
        [5.0, 300.0, 1800.0, 2.0 * hour, 5.0 * hour, 10.0 * hour, 14.0 * hour, 20.0 * hour, 24.0 * hour];
    for (attempt, planned) in schedule.into_iter().chain([24.0 * hour; 3]).enumerate() {
        assert_eq!(received(&house), attempt + 1);
        let wait = wait(&house).await;
        assert!(about(wait, planned, 0.10), "{wait} s for {planned} s");
        house.pass(seconds(wait as i64 - 1));
        house.deliver().await;
        assert_eq!(received(&house), attempt + 1, "not before its time");
        house.pass(seconds(2));
        house.deliver().await;
    }
    assert_eq!(state(&house, "pending").await, 1, "nobody got through: nothing goes dead");
}

#[tokio::test]
async fn a_message_is_dead_only_when_others_were_accepted_meanwhile() {
    let short = ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]") + "retry = [\"5s\", \"10s\"]\n";
    let mut house = House::with(&short).await;
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.receiver.answer_by(|callback| {
        (callback.label_id.as_deref() == Some("se-1")).then(|| Answer::status(422).body("no such order"))
    });
    house.poll_and_deliver().await;
    for _ in 0..6 {
        house.pass(seconds(12));
        house.deliver().await;
    }
    assert_eq!(state(&house, "dead").await, 0);

    house.register(&["se-2"]).await;
    house.says("se-2", &in_transit());
    house.poll_and_deliver().await;
    house.pass(seconds(12));
    house.deliver().await;
    assert_eq!((state(&house, "dead").await, state(&house, "delivered").await), (1, 1));
    let kept = "SELECT count(*) FROM attempts WHERE status = 422 AND answer = 'no such order'";
    assert_eq!(house.count(kept).await, 8);

    house.receiver.answer_by(|_| None);
    house.says("se-1", &in_transit().replace("MEMPHIS", "OMAHA"));
    house.pass(hours(3));
    house.look_again("se-1").await;
    house.deliver().await;
    assert_eq!(state(&house, "delivered").await, 2, "the label goes on");
}

#[tokio::test]
async fn retry_after_is_honoured_exactly_and_up_to_a_day() {
    for (status, said, expected) in [
        (500, "3600", 3600.0),
        (404, "77", 77.0),
        (503, "86400", 86400.0),
        (429, "999999", 86400.0),
        (500, "9999999999999999", 86400.0),
    ] {
        let house = answered(Answer::status(status).header("retry-after", said)).await;
        let wait = wait(&house).await;
        assert!(about(wait, expected, 0.0), "{status} {said}: {wait} s");
    }
}

#[tokio::test]
async fn retry_after_may_be_a_date_and_our_plan_wins_when_it_is_later() {
    let noon = House::new().await.now();
    let date = |at| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
    let house = answered(Answer::status(503).header("retry-after", &date(noon + seconds(600)))).await;
    assert!(about(wait(&house).await, 600.0, 0.0), "{}", wait(&house).await);
    for early in ["0", "1", &date(noon - hours(1)), "whenever"] {
        let house = answered(Answer::status(500).header("retry-after", early)).await;
        assert!(about(wait(&house).await, 5.0, 0.10), "{early}: {}", wait(&house).await);
    }
}

#[tokio::test]
async fn a_429_or_503_holds_the_whole_subscriber_and_others_hold_their_message() {
    for (status, held) in [(429, true), (503, true), (500, false), (404, false)] {
        let mut house = answered(Answer::status(status).header("retry-after", "600")).await;
        house.receiver.answer_always(Answer::status(200));
        house.register(&["se-2"]).await;
        house.says("se-2", &in_transit());
        house.poll_and_deliver().await;
        assert_eq!(received(&house), if held { 1 } else { 2 }, "{status}");
        house.restart().await;
        house.pass(seconds(599));
        house.deliver().await;
        assert_eq!(received(&house), if held { 1 } else { 2 }, "{status}, after a restart");
        house.pass(seconds(2));
        house.deliver().await;
        assert_eq!(state(&house, "delivered").await, 2, "{status}");
    }
}
