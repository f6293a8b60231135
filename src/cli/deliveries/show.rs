//! `trackpost deliveries show`: everything recorded of a delivery.

use std::time::Duration;

use jiff::Timestamp;

use crate::cli::Failure;
use crate::cli::output::{self, instant};
use crate::clock;
use crate::config::Config;
use crate::domain::delivery::next_attempt::DeliveryState;
use crate::explanation::delivery as words;
use crate::explanation::detail::{self, AttemptDetail, DeliveryDetail};
use crate::store::Store;
use crate::store::views::degraded::Configured;
use crate::store::views::deliveries::DeliveryView;

pub(super) async fn run(
    store: &Store,
    config: &Config,
    found: Vec<DeliveryView>,
    json: bool,
) -> Result<(), Failure> {
    let (now, configured) = (clock::now(), Configured::of(config));
    for (number, delivery) in found.into_iter().enumerate() {
        let shown = detail::delivery_detail(store, &configured, delivery, now).await?;
        if json {
            output::json_lines(&[shown])?;
            continue;
        }
        if number > 0 {
            output::line("");
        }
        print(&shown, now);
    }
    Ok(())
}

fn print(shown: &DeliveryDetail, now: Timestamp) {
    output::block(&fields(shown, now));
    for reason in &shown.next.reasons {
        output::line(format!("- {}", output::plain(reason)));
    }
    if shown.delivery.attempts > shown.log.len() as u64 {
        output::line("older attempts were pruned (store.keep_attempts)");
    }
    for logged in &shown.log {
        output::line("");
        output::block(&lines(logged));
    }
}

fn fields(shown: &DeliveryDetail, now: Timestamp) -> Vec<(&'static str, Option<String>)> {
    let delivery = &shown.delivery;
    let pending = delivery.state == DeliveryState::Pending;
    let next = output::next_at(shown.next.at, now, "not scheduled");
    vec![
        ("delivery", Some(delivery.delivery_id.clone())),
        ("message", Some(delivery.message_id.clone())),
        ("type", Some(delivery.r#type.clone())),
        ("label", delivery.label_id.clone()),
        ("seq", delivery.seq.map(|seq| seq.to_string())),
        ("subscriber", Some(delivery.subscriber.clone())),
        ("state", Some(delivery.state.as_str().to_owned())),
        ("attempts", Some(delivery.attempts.to_string())),
        ("created at", Some(instant(delivery.created_at))),
        ("queued again at", shown.queued_again_at.map(instant)),
        ("delivered at", delivery.delivered_at.map(instant)),
        ("last outcome", delivery.last_outcome.as_deref().map(output::outcome)),
        ("next attempt", pending.then_some(next)),
    ]
}

fn lines(logged: &AttemptDetail) -> Vec<(&'static str, Option<String>)> {
    let attempt = &logged.attempt;
    let outcome = match attempt.status.filter(|_| attempt.outcome == "status") {
        Some(status) => format!("status {status}"),
        None => attempt.outcome.clone(),
    };
    vec![
        ("attempt", Some(attempt.attempt.to_string())),
        ("  started at", Some(instant(attempt.started_at))),
        ("  took", Some(output::measured(Duration::from_millis(attempt.duration_ms)))),
        ("  outcome", Some(output::outcome(&outcome))),
        ("  status", attempt.status.map(|status| status.to_string())),
        ("  ended", logged.ended.map(str::to_owned)),
        ("  detail", attempt.detail.clone()),
        (
            "  retry after",
            attempt
                .retry_after
                .map(|requested| words::retry_after(requested, attempt.status, logged.retry_after_effect)),
        ),
        ("  answer", attempt.answer.clone()),
        ("  then", logged.then.clone()),
    ]
}
