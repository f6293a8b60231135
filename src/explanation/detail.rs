//! Everything about a delivery: its record, its next attempt and the reason for it.
//!
//! Reads the records. [`crate::domain::delivery::next_attempt`] combines the stored decisions about the next attempt, and
//! [`super::delivery`] has the sentences.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::delivery as words;
use crate::domain::delivery::attempt::{ReachedStage, RetryAfterEffect};
use crate::domain::delivery::next_attempt::{NextAttempt, WaitReason};
use crate::domain::time::{elapsed, later, serialize_instant_or_null};
use crate::store::views::degraded::Configured;
use crate::store::views::deliveries::{AttemptView, DeliveryView};
use crate::store::views::waiting::LanePosition;
use crate::store::{Store, StoreError};

use super::next::Subscribers;

/// A delivery with its attempts, as printed by `--json`.
#[derive(Serialize)]
pub struct DeliveryDetail {
    #[serde(flatten)]
    pub delivery: DeliveryView,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub queued_again_at: Option<Timestamp>,
    pub next: Next,
    pub log: Vec<AttemptDetail>,
}

/// Time of the next attempt and its reasons.
#[derive(Serialize)]
pub struct Next {
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub at: Option<Timestamp>,
    pub reason_codes: Vec<&'static str>,
    pub reasons: Vec<String>,
    /// The first undelivered delivery of its label, if that is another one.
    pub behind: Option<Behind>,
}

#[derive(Serialize)]
pub struct Behind {
    pub delivery_id: String,
    pub message_id: String,
    pub seq: Option<i64>,
    /// Number of deliveries before it.
    pub before: u64,
}

/// An attempt and its effect.
#[derive(Serialize)]
pub struct AttemptDetail {
    #[serde(flatten)]
    pub attempt: AttemptView,
    /// Stage that it reached; null if not recorded.
    pub reached: Option<&'static str>,
    pub retry_after_effect: Option<RetryAfterEffect>,
    /// Time from its end to the next attempt, made or planned.
    pub next_after_seconds: Option<f64>,
    #[serde(skip)]
    pub ended: Option<&'static str>,
    #[serde(skip)]
    pub then: Option<String>,
}

/// Returns the details of a delivery as of `now`.
pub async fn delivery_detail(
    store: &Store,
    configured: &Configured,
    delivery: DeliveryView,
    now: Timestamp,
) -> Result<DeliveryDetail, StoreError> {
    let record = Record::of(store, configured, delivery, now).await?;
    let outlook = record.outlook(now);
    let mut reasons: Vec<String> =
        outlook.reasons.iter().map(|why| words::reason(*why, &record.delivery, now)).collect();
    let mut behind = None;
    if outlook.reasons.contains(&WaitReason::Behind)
        && let Some(head) = record.lane_position.head
        && let Some(head) = store.deliveries_named(&[head], None).await?.pop()
    {
        let head = Record::of(store, configured, head, now).await?;
        reasons.push(words::head(&head.delivery, record.lane_position.before, &head.outlook(now), now));
        behind = Some(Behind {
            delivery_id: head.delivery.delivery_id,
            message_id: head.delivery.message_id,
            seq: head.delivery.seq,
            before: record.lane_position.before,
        });
    }
    let next = Next {
        at: outlook.at,
        reason_codes: outlook.reasons.iter().map(|why| why.as_str()).collect(),
        reasons,
        behind,
    };
    let queued_again_at = record.lane_position.queued_again_at;
    let log = attempt_details(&record.delivery, record.log, queued_again_at);
    Ok(DeliveryDetail { delivery: record.delivery, queued_again_at, next, log })
}

/// Returns the reason why a due delivery is not attempted: its subscriber's health.
pub async fn held_back(
    store: &Store,
    configured: &Configured,
    delivery: DeliveryView,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let record = Record::of(store, configured, delivery, now).await?;
    let holds = |why: &WaitReason| {
        matches!(why, WaitReason::Paused { .. } | WaitReason::Probed { .. } | WaitReason::Held { .. })
    };
    let why = record.outlook(now).reasons.into_iter().find(holds);
    Ok(why.map(|why| words::reason(why, &record.delivery, now)))
}

/// Everything recorded that affects a delivery.
struct Record {
    delivery: DeliveryView,
    log: Vec<AttemptView>,
    lane_position: LanePosition,
    subscribers: Subscribers,
}

impl Record {
    async fn of(
        store: &Store,
        configured: &Configured,
        delivery: DeliveryView,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let subscribers = Subscribers::of(store, configured, [&delivery], now).await?;
        let log = store.attempts_of(delivery.row).await?;
        let lane_position = store.lane_position(delivery.row).await?;
        Ok(Self { delivery, log, lane_position, subscribers })
    }

    fn outlook(&self, now: Timestamp) -> NextAttempt {
        self.subscribers.next_attempt(&self.delivery, now)
    }
}

fn ended_at(attempt: &AttemptView) -> Timestamp {
    let took = SignedDuration::from_millis(i64::try_from(attempt.duration_ms).unwrap_or(i64::MAX));
    later(attempt.started_at, took)
}

/// Returns each attempt with its effect: the next attempt, or the plan for it.
fn attempt_details(
    delivery: &DeliveryView,
    log: Vec<AttemptView>,
    queued_again_at: Option<Timestamp>,
) -> Vec<AttemptDetail> {
    let starts: Vec<Timestamp> = log.iter().map(|attempt| attempt.started_at).collect();
    let details = log.into_iter().enumerate().map(|(index, attempt)| {
        let reached = ReachedStage::of(&attempt.outcome);
        let ended_at = ended_at(&attempt);
        let made = starts.get(index + 1).copied();
        let next = made.or(delivery.next_attempt_at);
        let waited = next.map(|next| elapsed(ended_at, next));
        let effect = attempt
            .retry_after
            .zip(attempt.retry_after_until)
            .map(|(requested, until)| RetryAfterEffect::of(requested, until, attempt.retry_at, next));
        let again =
            queued_again_at.filter(|again| *again >= ended_at && next.is_none_or(|next| *again <= next));
        AttemptDetail {
            reached: reached.map(ReachedStage::as_str),
            ended: reached.map(words::ended),
            retry_after_effect: effect,
            next_after_seconds: waited.map(|waited| waited.as_secs_f64()),
            then: words::then(&attempt, delivery, waited.filter(|_| made.is_some()), again),
            attempt,
        }
    });
    details.collect()
}
