//! One attempt of a delivery: the request, the record, the log.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;
use tracing::{debug, info, warn};

use super::CourierShared;
use crate::clock::{self, StepClock};
use crate::crash::CrashPoint;
use crate::domain::delivery::health::{HealthChange, HealthState};
use crate::domain::delivery::outbox::PendingDelivery;
use crate::domain::delivery::outcome::{AfterAttempt, Attempt, Outcome};
use crate::domain::messages::envelope;
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::time::{SHORTAGE_PAUSE, millis};
use crate::metrics::metrics;
use crate::store::StoreError;
use crate::store::outbox::{AttemptResult, EndedAttempt};
use crate::webhook::{Callback, WebhookClient, failed_attempt};

/// Makes one attempt and records it.
pub(super) async fn deliver(
    shared: Arc<CourierShared>,
    delivery: PendingDelivery,
    probe: bool,
    now: Timestamp,
) -> Result<AttemptResult, StoreError> {
    let number = delivery.attempts.saturating_add(1);
    let running = StepClock::since(now);
    // Crash point: the delivery is due at the next start.
    CrashPoint::BeforeAttempt.reached();
    let mut attempt = attempt(&shared.subscriber, &shared.client, &delivery, number, now).await;
    while attempt.outcome == Outcome::Shortage {
        // Nothing was sent, so this does not count as an attempt.
        clock::sleep(SHORTAGE_PAUSE).await;
        let again = running.now();
        shared.heartbeat.beat(again);
        attempt = self::attempt(&shared.subscriber, &shared.client, &delivery, number, again).await;
    }
    let at = running.now();
    let ended = EndedAttempt {
        subscriber: Arc::clone(&shared.subscriber),
        key: delivery.key,
        ping: delivery.lane.is_none(),
        attempt: attempt.clone(),
        probe,
        jitter: clock::jitter(),
        subscribers: Arc::clone(&shared.subscribers.borrow()),
        ended_at: at,
        // Deliveries that arrive meanwhile come with a commit, which then includes this record.
        can_wait: attempt.outcome.is_accepted()
            && !probe
            && delivery.lane.is_some()
            && !shared.others_wait.load(Relaxed),
    };
    // Crash point: the receiver may have the message without a record here. It gets the message again, under the same id.
    CrashPoint::AttemptAnswered.reached();
    let result = shared.store.record_attempt(ended).await?;
    shared.heartbeat.beat(at);
    log(&shared.subscriber, &delivery, number, probe, &attempt, &result);
    count(&shared.subscriber, &delivery, &attempt, &result, at);
    Ok(result)
}

/// Sends the callback once.
async fn attempt(
    subscriber: &Subscriber,
    client: &WebhookClient,
    delivery: &PendingDelivery,
    number: u32,
    now: Timestamp,
) -> Attempt {
    let message = &delivery.message;
    match envelope::render(delivery.format, &message.body, message.resource_url.as_deref()) {
        Ok(body) => {
            let callback = Callback {
                message_id: &message.message_id,
                kind: &message.kind,
                label_id: message.label_id.as_deref(),
                seq: message.seq,
                attempt: number,
                body: &body,
            };
            client.post(subscriber, &callback, now).await
        }
        Err(error) => failed_attempt(now, Outcome::Unsendable, error.to_string()),
    }
}

/// Logs the result of an attempt, and a change of the subscriber's health.
fn log(
    subscriber: &Subscriber,
    delivery: &PendingDelivery,
    number: u32,
    probe: bool,
    attempt: &Attempt,
    result: &AttemptResult,
) {
    let (name, message) = (&subscriber.name, &delivery.message);
    let (message_id, label_id, kind) = (&message.message_id, message.label_id.as_deref(), &message.kind);
    let duration_ms = millis(attempt.duration);
    let (outcome, detail) = (attempt.outcome.shown(), attempt.detail.as_deref());
    let state = result.health.state;
    match result.next {
        AfterAttempt::Delivered if number == 1 => {
            debug!(subscriber = %name, message_id = %message_id, label_id, "type" = kind, duration_ms, "delivered");
        }
        AfterAttempt::Delivered => {
            info!(subscriber = %name, message_id = %message_id, label_id, "type" = kind, attempt = number, duration_ms,
                "delivered after retry: {message_id} to {name}, attempt {number}");
        }
        AfterAttempt::Retry(_) if state != HealthState::Ok => {
            let next_probe_at = result.health.probe_at.map(tracing::field::display);
            let text = match probe {
                true => format!("probe failed: {message_id} to {name}: {outcome}"),
                false => format!(
                    "attempt {number} of {message_id} to {name} failed: {outcome}; it waits for a probe"
                ),
            };
            info!(subscriber = %name, message_id = %message_id, label_id, "type" = kind, attempt = number, duration_ms,
                outcome, detail, next_probe_at, "{text}");
        }
        AfterAttempt::Retry(due) => {
            warn!(subscriber = %name, message_id = %message_id, label_id, "type" = kind, attempt = number, duration_ms,
                outcome, detail, next_attempt_at = %due.at,
                "attempt {number} of {message_id} to {name} failed: {outcome}; next attempt {:.0}", due.at);
        }
        AfterAttempt::Dead if delivery.lane.is_none() => {
            warn!(subscriber = %name, message_id = %message_id, "type" = kind, duration_ms, outcome, detail,
                "ping to {name} failed: {outcome}");
        }
        AfterAttempt::Dead => {
            warn!(subscriber = %name, message_id = %message_id, label_id, "type" = kind, attempt = number, duration_ms,
                outcome, detail, "dead: {message_id} to {name}, retry schedule used up while others were accepted");
        }
    }
    match result.change {
        Some(HealthChange::Failing | HealthChange::Paused) if state == HealthState::Paused => {
            warn!(subscriber = %name, outcome, "subscriber {name} paused until it is resumed or its url changes: it \
                answered 410 Gone");
        }
        Some(HealthChange::Failing | HealthChange::Paused) => {
            warn!(subscriber = %name, outcome, detail, "subscriber {name} is down: {outcome}; probing");
        }
        Some(HealthChange::Recovered) => {
            info!(subscriber = %name, "subscriber {name} recovered; its pending deliveries are sent")
        }
        None => {}
    }
}

/// Counts the attempt for the metrics.
fn count(
    subscriber: &Subscriber,
    delivery: &PendingDelivery,
    attempt: &Attempt,
    result: &AttemptResult,
    now: Timestamp,
) {
    let name = subscriber.name.as_str();
    metrics().attempted(name, attempt.outcome.as_str());
    match result.next {
        AfterAttempt::Delivered => {
            let took = result.queued_at.map(|from| now.duration_since(from).try_into().unwrap_or_default());
            took.into_iter().for_each(|took| metrics().delivered(name, took));
        }
        AfterAttempt::Dead if delivery.lane.is_some() => metrics().dead(name),
        AfterAttempt::Dead | AfterAttempt::Retry(_) => {}
    }
}
