//! Sentences about a delivery: the reason for the time of its next attempt, and the effect of each attempt.

use std::time::Duration;

use jiff::Timestamp;

use super::{instant_or_dash, instant_text, measured, roughly};
use crate::config::duration;
use crate::domain::delivery::attempt::{ReachedStage, RetryAfterEffect, Stage};
use crate::domain::delivery::health::HealthReason;
use crate::domain::delivery::next_attempt::DeliveryState;
use crate::domain::delivery::next_attempt::{NextAttempt, WaitReason};
use crate::domain::delivery::outcome::{Due, DueReason, HastenedBy, RETRY_JITTER, holds_subscriber};
use crate::domain::messages::ping::PING;
use crate::domain::retry_after::LONGEST_RETRY_AFTER;
use crate::store::views::deliveries::{AttemptView, DeliveryView};

/// The longest `Retry-After` that is honoured, in hours.
const LONGEST_HOURS: u64 = LONGEST_RETRY_AFTER.as_secs() / 3_600;

/// Explains the time of a delivery's next attempt.
pub fn reason(why: WaitReason, delivery: &DeliveryView, now: Timestamp) -> String {
    let (name, id) = (&delivery.subscriber, &delivery.delivery_id);
    let since =
        |at: Option<Timestamp>| at.map_or_else(String::new, |at| format!(" since {}", instant_text(at)));
    match why {
        WaitReason::Delivered => "delivered: the receiver accepted it".to_owned(),
        WaitReason::Dead if delivery.r#type == PING => {
            "dead: a ping is sent once, and this one was not accepted".to_owned()
        }
        WaitReason::Dead => format!(
            "dead: retry schedule used up while {name} accepted others; trackpost deliveries retry {id} sends it again"
        ),
        WaitReason::NoSubscriber => {
            format!("subscriber {name} is not configured: the delivery waits until it is")
        }
        WaitReason::Disabled => {
            format!("{name} is disabled (enabled = false): the delivery waits until it is enabled")
        }
        WaitReason::Paused { since: at, reason } => {
            let (by, end) = match reason {
                Some(HealthReason::Gone) => ("it answered 410 Gone", ", or until its url changes"),
                Some(HealthReason::ByHand) => ("by hand", ""),
                _ => ("it failed", ""),
            };
            let since = since(at);
            format!("{name} is paused{since} ({by}) until trackpost subscribers resume {name}{end}")
        }
        WaitReason::Behind => {
            "waits for an earlier message of its label: messages of a label are delivered in order".to_owned()
        }
        WaitReason::Probed { at, since: from } => format!(
            "{name} is failing{}: one probe at a time, the next at {}; probes alternate between the oldest and the newest \
             delivery not yet attempted; the others follow when one is accepted",
            since(from),
            instant_or_dash(at)
        ),
        WaitReason::Held { until } => format!(
            "{name} answered 429 or 503 with Retry-After: nothing is sent to it until {}",
            instant_text(until)
        ),
        WaitReason::Planned(plan) => planned(plan, name),
        WaitReason::Due { since } => format!(
            "due for {}: it is in flight, waits for max_in_flight, or no daemon runs",
            roughly(now.duration_since(since))
        ),
        WaitReason::Draining { at_once } => {
            format!("{name} recovered: its pending deliveries are sent, at most {at_once} at a time for now")
        }
    }
}

/// Explains the stored reason of a delivery.
fn planned(plan: Due, name: &str) -> String {
    let wait = |ms| duration::format(Duration::from_millis(ms));
    match plan.reason {
        DueReason::First => "never attempted yet: first attempts go before retries".to_owned(),
        DueReason::QueuedAgain => "queued again by deliveries retry or a replay".to_owned(),
        DueReason::Step { number, of, wait_ms } => {
            let (wait, jitter) = (wait(wait_ms), RETRY_JITTER * 100.0);
            format!("step {number} of {of} of retry: {wait} (±{jitter:.0} %) after the last attempt")
        }
        DueReason::LastStep { wait_ms } => format!(
            "retry schedule used up, but no other message was accepted either: the last step, {}, is repeated",
            wait(wait_ms)
        ),
        DueReason::RetryAfter { capped } => {
            let limit = if capped { format!(", capped at {LONGEST_HOURS}h") } else { String::new() };
            format!("Retry-After of the receiver{limit}: this message waits until {}", instant_text(plan.at))
        }
        DueReason::WaitsForProbe => {
            format!(
                "the last attempt was made while {name} was failing: it does not count as a step of retry"
            )
        }
        DueReason::Hastened { by } => {
            let by = match by {
                HastenedBy::Failing => "began to fail",
                HastenedBy::Recovery => "recovered",
                HastenedBy::UrlChanged => "has a new url",
                HastenedBy::Resume => "was resumed",
            };
            format!(
                "earlier than its step of retry, because {name} {by}; a failure of this attempt does not count as a step"
            )
        }
    }
}

/// Describes the first delivery of the lane and the reason for its wait.
pub fn head(head: &DeliveryView, before: u64, outlook: &NextAttempt, now: Timestamp) -> String {
    let seq = head.seq.map_or_else(String::new, |seq| format!(", seq {seq}"));
    let among = if before > 1 { format!(", the first of {before}") } else { String::new() };
    let when = match outlook.at {
        Some(at) if at > now => format!("next attempted at {}", instant_text(at)),
        Some(_) => "due".to_owned(),
        None => "not scheduled".to_owned(),
    };
    let why =
        outlook.reasons.first().map_or_else(String::new, |why| format!(": {}", reason(*why, head, now)));
    format!("waits for {} ({}{seq}{among}), which is {when}{why}", head.delivery_id, head.message_id)
}

/// Describes the stage that an attempt reached.
pub fn ended(reached: ReachedStage) -> &'static str {
    match reached {
        ReachedStage::Nothing => "before anything was sent",
        ReachedStage::Stage(Stage::Resolving) => "while the name was resolved",
        ReachedStage::Stage(Stage::Connecting) => "while connecting",
        ReachedStage::Stage(Stage::Handshaking) => "in the TLS handshake",
        ReachedStage::Stage(Stage::Waiting) => "sent, while waiting for the status",
        ReachedStage::Answered => "with an answer",
    }
}

/// Describes a `Retry-After` and its effect.
pub fn retry_after(requested: Duration, status: Option<i64>, effect: Option<RetryAfterEffect>) -> String {
    let holds = status.and_then(|status| u16::try_from(status).ok()).is_some_and(holds_subscriber);
    let scope = if holds { ", for the whole subscriber" } else { "" };
    let capped = format!(": honoured up to {LONGEST_HOURS}h");
    let came = match effect {
        None => "",
        Some(RetryAfterEffect::Honoured) => ": honoured",
        Some(RetryAfterEffect::Capped) => capped.as_str(),
        Some(RetryAfterEffect::LaterAnyway) => ": the next attempt is later anyway",
        Some(RetryAfterEffect::Overruled) => ": ignored, because of a command or a new url",
    };
    format!("{}{scope}{came}", duration::format(requested))
}

/// Describes the effect of an attempt. `waited` is the time to the next attempt, if it was made; `again` is the time at
/// which `deliveries retry` or a replay queued the delivery again.
pub fn then(
    attempt: &AttemptView,
    delivery: &DeliveryView,
    waited: Option<Duration>,
    again: Option<Timestamp>,
) -> Option<String> {
    let accepted = attempt.is_accepted();
    let why = match (attempt.outcome.as_str(), attempt.status) {
        _ if accepted => String::new(),
        (_, Some(status)) => format!("{status} is a failure; "),
        ("unsendable", _) => "it cannot be sent in the subscriber's format; ".to_owned(),
        _ => "no answer; ".to_owned(),
    };
    let after = waited.map(|waited| format!("{why}next attempt {} later", measured(waited)));
    let by_hand = again.map(|at| format!("queued again at {}", instant_text(at)));
    Some(match (by_hand, after) {
        // The new plan has replaced the earlier one.
        (Some(by_hand), _) => format!("{why}{by_hand}"),
        (None, Some(after)) if accepted => format!("{after}: the answer was lost"),
        (None, Some(after)) => after,
        (None, None) if accepted => return None,
        (None, None) if delivery.r#type == PING => format!("{why}a ping is sent once"),
        (None, None) if delivery.state == DeliveryState::Dead => {
            format!("{why}dead: retry schedule used up while others were accepted")
        }
        (None, None) => match delivery.next_attempt_at {
            Some(at) => format!("{why}next attempt {}", instant_text(at)),
            None => format!("{why}next attempt: see above"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> DeliveryView {
        DeliveryView {
            row: 7,
            delivery_id: "dlv_7".to_owned(),
            message_id: "msg_a".to_owned(),
            label_id: Some("se-1".to_owned()),
            seq: Some(3),
            r#type: "tracking.updated".to_owned(),
            subscriber: "orders".to_owned(),
            state: DeliveryState::Pending,
            attempts: 1,
            created_at: at(0),
            delivered_at: None,
            next_attempt_at: None,
            last_outcome: None,
            due: None,
            behind: false,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    #[test]
    fn every_reason_names_a_remedy() {
        let text = |why| reason(why, &delivery(), at(90));
        let gone = WaitReason::Paused { since: Some(at(0)), reason: Some(HealthReason::Gone) };
        assert_eq!(
            text(gone),
            "orders is paused since 2026-09-21T14:13:20Z (it answered 410 Gone) until trackpost subscribers resume orders, \
             or until its url changes"
        );
        assert!(text(WaitReason::Dead).ends_with("trackpost deliveries retry dlv_7 sends it again"));
        assert!(text(WaitReason::Due { since: at(0) }).starts_with("due for 1m: it is in flight"));
        let capped = WaitReason::Planned(Due { at: at(0), reason: DueReason::RetryAfter { capped: true } });
        let limit =
            "Retry-After of the receiver, capped at 24h: this message waits until 2026-09-21T14:13:20Z";
        assert_eq!(text(capped), limit);
    }

    #[test]
    fn the_first_of_a_lane_explains_its_own_wait() {
        let reason = DueReason::Step { number: 2, of: 9, wait_ms: 300_000 };
        let why = WaitReason::Planned(Due { at: at(400), reason });
        let outlook = NextAttempt { at: Some(at(400)), reasons: vec![why] };
        assert_eq!(
            head(&delivery(), 2, &outlook, at(90)),
            "waits for dlv_7 (msg_a, seq 3, the first of 2), which is next attempted at 2026-09-21T14:20:00Z: step 2 of 9 \
             of retry: 5m (±10 %) after the last attempt"
        );
    }

    #[test]
    fn a_retry_after_is_described_with_its_effect() {
        let minute = Duration::from_secs(60);
        assert_eq!(
            retry_after(minute, Some(503), Some(RetryAfterEffect::Honoured)),
            "1m, for the whole subscriber: honoured"
        );
        assert_eq!(retry_after(minute, Some(500), None), "1m");
    }

    #[test]
    fn a_delivery_queued_again_by_hand_does_not_claim_its_schedule() {
        let failed = AttemptView {
            attempt: 1,
            started_at: at(0),
            duration_ms: 5,
            outcome: "refused".to_owned(),
            status: Some(500),
            detail: None,
            retry_after: None,
            retry_after_until: None,
            retry_at: None,
            answer: None,
        };
        let text = |waited, again| then(&failed, &delivery(), waited, again).unwrap();
        let wait = Some(Duration::from_secs(9));
        assert_eq!(text(wait, None), "500 is a failure; next attempt 9 s later");
        assert!(text(wait, Some(at(8))).starts_with("500 is a failure; queued again at "));
        assert!(!text(wait, Some(at(8))).contains("next attempt"));
        let planned = DeliveryView { next_attempt_at: Some(at(9)), ..delivery() };
        assert_eq!(
            then(&failed, &planned, None, None).unwrap(),
            "500 is a failure; next attempt 2026-09-21T14:13:29Z"
        );
    }
}
