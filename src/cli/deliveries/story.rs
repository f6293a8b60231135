//! The words in which a delivery's story is told.

use std::time::Duration;

use jiff::Timestamp;

use crate::cli::output::{roughly, shown};
use crate::config::duration;
use crate::domain::delivery::attempt::{ReachedStage, RetryAfterEffect, Stage};
use crate::domain::delivery::health::HealthReason;
use crate::domain::delivery::next_attempt::{NextAttempt, WaitReason};
use crate::domain::delivery::outcome::{Due, DueReason, HastenedBy};
use crate::domain::messages::ping::PING;
use crate::store::views::deliveries::{AttemptView, DeliveryView};

/// Why a delivery's next attempt is when it is.
pub(super) fn reason(why: WaitReason, delivery: &DeliveryView, now: Timestamp) -> String {
    let (name, id) = (&delivery.subscriber, &delivery.delivery_id);
    let since =
        |at: Option<Timestamp>| at.map_or_else(String::new, |at| format!(" since {}", shown(Some(at))));
    match why {
        WaitReason::Delivered => "delivered: the receiver has it".to_owned(),
        WaitReason::Dead if delivery.r#type == PING => {
            "dead: a ping is sent once, and this one was not accepted".to_owned()
        }
        WaitReason::Dead => format!(
            "dead: it used up its schedule while {name} took others; trackpost deliveries retry {id} sends it again"
        ),
        WaitReason::NoSubscriber => format!("no subscriber {name} is configured: it waits until one is"),
        WaitReason::TurnedOff => format!("{name} is turned off (enabled = false): it waits until it is on"),
        WaitReason::Paused { since: at, reason } => {
            let (by, end) = match reason {
                Some(HealthReason::Gone) => ("it said 410 Gone", ", or until its url changes"),
                Some(HealthReason::Asked) => ("by hand", ""),
                _ => ("it failed", ""),
            };
            let since = since(at);
            format!("{name} is paused{since} ({by}): until trackpost subscribers resume {name}{end}")
        }
        WaitReason::Behind => "an earlier message of its lane goes first, as they come in order".to_owned(),
        WaitReason::Probed { at, since: from } => format!(
            "{name} fails as a whole{}: one probe at a time, the next at {}; probes alternate between the oldest and the \
             newest delivery not yet attempted; the others follow when one is taken",
            since(from),
            shown(at)
        ),
        WaitReason::Held { until } => format!(
            "{name} asked by Retry-After, with 429 or 503, to be left alone until {}: that holds all that it is owed",
            shown(Some(until))
        ),
        WaitReason::Planned(plan) => planned(plan, name),
        WaitReason::Due { since } => format!(
            "due for {}: it is under way, waits for a free place among max_in_flight, or no daemon runs",
            roughly(now.duration_since(since))
        ),
        WaitReason::Draining { at_once } => {
            format!("{name} is well again: its backlog drains, {at_once} at once for now")
        }
    }
}

/// A delivery's own reason, as it was stored.
fn planned(plan: Due, name: &str) -> String {
    let wait = |ms| duration::format(Duration::from_millis(ms));
    match plan.reason {
        DueReason::First => "never attempted yet: first attempts go before retries".to_owned(),
        DueReason::QueuedAgain => "queued again by deliveries retry or a replay".to_owned(),
        DueReason::Step { number, of, wait_ms } => {
            format!("step {number} of {of} of retry: {} (±10 %) after the last attempt", wait(wait_ms))
        }
        DueReason::LastStep { wait_ms } => format!(
            "retry is used up, but no other message got through either: its last step, {}, repeats",
            wait(wait_ms)
        ),
        DueReason::AskedToWait { capped } => {
            let so = if capped { "for more than 24h, which is as long as we wait: " } else { "" };
            format!(
                "the receiver asked by Retry-After to wait with this message {so}until {}",
                shown(Some(plan.at))
            )
        }
        DueReason::WaitsForProbe => {
            format!("the last attempt was made while {name} failed as a whole: it is no step of retry")
        }
        DueReason::Hastened { by } => {
            let by = match by {
                HastenedBy::Fall => "fell",
                HastenedBy::Recovery => "is well again",
                HastenedBy::Move => "has another url",
                HastenedBy::Resume => "was resumed",
            };
            format!("sooner than retry has it, as {name} {by}: if it fails, it is no step of retry")
        }
    }
}

/// What goes before a delivery, and what that waits for.
pub(super) fn head(head: &DeliveryView, before: u64, outlook: &NextAttempt, now: Timestamp) -> String {
    let seq = head.seq.map_or_else(String::new, |seq| format!(", seq {seq}"));
    let among = if before > 1 { format!(", the first of {before}") } else { String::new() };
    let when = match outlook.at {
        Some(at) if at > now => format!("next attempted at {}", shown(Some(at))),
        Some(_) => "due".to_owned(),
        None => "not attempted before something changes".to_owned(),
    };
    let why =
        outlook.reasons.first().map_or_else(String::new, |why| format!(": {}", reason(*why, head, now)));
    format!("it waits for {} ({}{seq}{among}), which is {when}{why}", head.delivery_id, head.message_id)
}

/// Where an attempt ended.
pub(super) fn ended(reached: ReachedStage) -> &'static str {
    match reached {
        ReachedStage::Nothing => "before anything was sent",
        ReachedStage::Stage(Stage::Resolving) => "while the name was resolved",
        ReachedStage::Stage(Stage::Connecting) => "while connecting",
        ReachedStage::Stage(Stage::Handshaking) => "in the TLS handshake",
        ReachedStage::Stage(Stage::Waiting) => "sent, while waiting for the status",
        ReachedStage::Answered => "with an answer",
    }
}

/// What a `Retry-After` asked for, and what came of it.
pub(super) fn asked(asked: Duration, status: Option<i64>, heeded: Option<RetryAfterEffect>) -> String {
    let whom = if matches!(status, Some(429 | 503)) { ", of the whole subscriber" } else { "" };
    let came = match heeded {
        None => "",
        Some(RetryAfterEffect::Honoured) => ": honoured",
        Some(RetryAfterEffect::Capped) => ": honoured up to 24h",
        Some(RetryAfterEffect::LaterAnyway) => ": the next attempt was due later anyway",
        Some(RetryAfterEffect::Overruled) => ": overruled, by hand or as the receiver moved",
    };
    format!("{}{whom}{came}", duration::format(asked))
}

/// What followed an attempt. `waited` is the time to the next one, if it was made; `again`: when somebody asked for it.
pub(super) fn then(
    attempt: &AttemptView,
    delivery: &DeliveryView,
    waited: Option<Duration>,
    again: Option<Timestamp>,
) -> Option<String> {
    let accepted = attempt.outcome == "accepted";
    let why = match (attempt.outcome.as_str(), attempt.status) {
        ("accepted", _) => String::new(),
        (_, Some(status)) => format!("{status} is no 2xx: "),
        ("unsendable", _) => "it can't be put into the subscriber's form: ".to_owned(),
        _ => "no answer came: ".to_owned(),
    };
    let after = waited.map(|waited| format!("{why}tried again after {}", duration::format(waited)));
    let by_hand = again.map(|at| format!("queued again at {}", shown(Some(at))));
    Some(match (by_hand, after) {
        // What was planned before is not known any more.
        (Some(by_hand), _) => format!("{why}{by_hand}"),
        (None, Some(after)) if accepted => format!("{after}: the answer was lost"),
        (None, Some(after)) => after,
        (None, None) if accepted => return None,
        (None, None) if delivery.r#type == PING => format!("{why}a ping is sent once"),
        (None, None) if delivery.state == "dead" => format!("{why}given up, as others were taken meanwhile"),
        (None, None) => format!("{why}tried again when it is time, as said above"),
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
            state: "pending".to_owned(),
            attempts: 1,
            created_at: at(0),
            delivered_at: None,
            next_attempt_at: None,
            last_outcome: None,
            plan: None,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    #[test]
    fn every_reason_names_what_can_be_done_about_it() {
        let said = |why| reason(why, &delivery(), at(90));
        let gone = WaitReason::Paused { since: Some(at(0)), reason: Some(HealthReason::Gone) };
        assert_eq!(
            said(gone),
            "orders is paused since 2026-09-21T14:13:20Z (it said 410 Gone): until trackpost subscribers resume orders, \
             or until its url changes"
        );
        assert!(said(WaitReason::Dead).ends_with("trackpost deliveries retry dlv_7 sends it again"));
        assert!(said(WaitReason::Due { since: at(0) }).starts_with("due for 1m: "));
        let capped = WaitReason::Planned(Due { at: at(0), reason: DueReason::AskedToWait { capped: true } });
        assert!(said(capped).contains("for more than 24h"), "{}", said(capped));
    }

    #[test]
    fn the_head_of_a_lane_says_what_it_waits_for_itself() {
        let reason = DueReason::Step { number: 2, of: 9, wait_ms: 300_000 };
        let why = WaitReason::Planned(Due { at: at(400), reason });
        let outlook = NextAttempt { at: Some(at(400)), reasons: vec![why] };
        assert_eq!(
            head(&delivery(), 2, &outlook, at(90)),
            "it waits for dlv_7 (msg_a, seq 3, the first of 2), which is next attempted at 2026-09-21T14:20:00Z: step 2 \
             of 9 of retry: 5m (±10 %) after the last attempt"
        );
    }

    #[test]
    fn a_retry_after_says_what_came_of_it() {
        let minute = Duration::from_secs(60);
        assert_eq!(
            asked(minute, Some(503), Some(RetryAfterEffect::Honoured)),
            "1m, of the whole subscriber: honoured"
        );
        assert_eq!(asked(minute, Some(500), None), "1m");
    }

    #[test]
    fn what_was_queued_again_was_not_tried_again_on_its_schedule() {
        let failed = AttemptView {
            attempt: 1,
            started_at: at(0),
            duration_ms: 5,
            outcome: "refused".to_owned(),
            status: Some(500),
            detail: None,
            retry_after: None,
            answer: None,
        };
        let said = |waited, again| then(&failed, &delivery(), waited, again).unwrap();
        let wait = Some(Duration::from_secs(9));
        assert_eq!(said(wait, None), "500 is no 2xx: tried again after 9s");
        assert!(said(wait, Some(at(8))).starts_with("500 is no 2xx: queued again at "));
        assert!(!said(wait, Some(at(8))).contains("tried again"));
    }
}
