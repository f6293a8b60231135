//! `trackpost deliveries show`: the whole story of a delivery.
//!
//! Gathers what is recorded; when next and why is [`crate::domain::delivery::next_attempt`]'s to say, in the words of [`super::story`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::story;
use crate::cli::Failure;
use crate::cli::output::{self, instant, roughly};
use crate::clock;
use crate::config::{Config, duration};
use crate::domain::delivery::attempt::{ReachedStage, RetryAfterEffect};
use crate::domain::delivery::health::Health;
use crate::domain::delivery::next_attempt::{
    DeliveryFacts, DeliveryState, NextAttempt, SubscriberConfig, WaitReason, next_attempt,
};
use crate::domain::messages::ping::PING;
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::time::later;
use crate::store::Store;
use crate::store::views::deliveries::{AttemptView, DeliveryView};
use crate::store::views::waiting::Place;

/// A delivery and what came of it, as `--json` has it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    delivery: DeliveryView,
    queued_again_at: Option<String>,
    next: Next,
    log: Vec<Told>,
}

/// When it is attempted next, and why then.
#[derive(Serialize)]
struct Next {
    at: Option<String>,
    because: Vec<&'static str>,
    reasons: Vec<String>,
    /// What goes before it: the first of its label that is not delivered yet.
    behind: Option<Behind>,
}

#[derive(Serialize)]
struct Behind {
    delivery_id: String,
    message_id: String,
    seq: Option<i64>,
    /// How many go before it in all.
    before: u64,
}

/// An attempt, and what followed.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    attempt: AttemptView,
    /// How far it came; null where that is not recorded.
    reached: Option<&'static str>,
    retry_after_heeded: Option<RetryAfterEffect>,
    /// From its end to the next attempt, made or planned.
    next_after_seconds: Option<f64>,
    #[serde(skip)]
    ended: Option<&'static str>,
    #[serde(skip)]
    then: Option<String>,
}

pub(super) async fn run(
    store: &Store,
    config: &Config,
    found: Vec<DeliveryView>,
    json: bool,
) -> Result<(), Failure> {
    let now = clock::now();
    for (number, delivery) in found.into_iter().enumerate() {
        let shown = shown(store, config, delivery, now).await?;
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

async fn shown(
    store: &Store,
    config: &Config,
    delivery: DeliveryView,
    now: Timestamp,
) -> Result<Shown, Failure> {
    let record = Record::of(store, config, delivery, now).await?;
    let outlook = record.outlook(config, now);
    let mut reasons: Vec<String> =
        outlook.reasons.iter().map(|why| story::reason(*why, &record.delivery, now)).collect();
    let mut behind = None;
    if outlook.reasons.contains(&WaitReason::Behind)
        && let Some(head) = record.place.head
        && let Some(head) = store.deliveries_named(Some(head), None).await?.pop()
    {
        let head = Record::of(store, config, head, now).await?;
        reasons.push(story::head(&head.delivery, record.place.before, &head.outlook(config, now), now));
        behind = Some(Behind {
            delivery_id: head.delivery.delivery_id,
            message_id: head.delivery.message_id,
            seq: head.delivery.seq,
            before: record.place.before,
        });
    }
    let next = Next {
        at: outlook.at.map(instant),
        because: outlook.reasons.iter().map(|why| why.as_str()).collect(),
        reasons,
        behind,
    };
    let queued_again_at = record.place.queued_again_at;
    let log = told(&record.delivery, record.log, queued_again_at);
    Ok(Shown { delivery: record.delivery, queued_again_at: queued_again_at.map(instant), next, log })
}

/// What keeps a delivery from being attempted that is due itself: how its subscriber fares.
pub(super) async fn held_back(
    store: &Store,
    config: &Config,
    delivery: DeliveryView,
    now: Timestamp,
) -> Result<Option<String>, Failure> {
    let record = Record::of(store, config, delivery, now).await?;
    let holds = |why: &WaitReason| {
        matches!(why, WaitReason::Paused { .. } | WaitReason::Probed { .. } | WaitReason::Held { .. })
    };
    let why = record.outlook(config, now).reasons.into_iter().find(holds);
    Ok(why.map(|why| story::reason(why, &record.delivery, now)))
}

/// All that is recorded of a delivery and bears on it.
struct Record {
    delivery: DeliveryView,
    log: Vec<AttemptView>,
    place: Place,
    health: Health,
}

impl Record {
    async fn of(
        store: &Store,
        config: &Config,
        delivery: DeliveryView,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let name = SubscriberName::new(&delivery.subscriber);
        let mut health = store.subscriber_health(&name).await?;
        if let Some(subscriber) = config.subscribers.get(&name) {
            // As the courier does: another URL is another receiver.
            health.set_url(&subscriber.url_digest(), now);
        }
        let log = store.attempts_of(delivery.row).await?;
        let place = store.place_of(delivery.row).await?;
        Ok(Self { delivery, log, place, health })
    }

    fn outlook(&self, config: &Config, now: Timestamp) -> NextAttempt {
        let delivery = &self.delivery;
        let subscriber = match config.subscribers.get(&SubscriberName::new(&delivery.subscriber)) {
            None => SubscriberConfig::Missing,
            Some(subscriber) if !subscriber.enabled => SubscriberConfig::Disabled,
            Some(_) => SubscriberConfig::Enabled,
        };
        let facts = DeliveryFacts {
            // The table's CHECK allows no others.
            state: DeliveryState::parse(&delivery.state).unwrap_or(DeliveryState::Pending),
            due: delivery.plan,
            ping: delivery.r#type == PING,
            behind_another: self.place.head.is_some(),
            subscriber,
            health: &self.health,
        };
        next_attempt(&facts, now)
    }
}

fn ended_at(attempt: &AttemptView) -> Timestamp {
    let took = SignedDuration::from_millis(i64::try_from(attempt.duration_ms).unwrap_or(i64::MAX));
    later(attempt.started_at, took)
}

/// Each attempt with what followed it: the next one, or the plan for it.
fn told(delivery: &DeliveryView, log: Vec<AttemptView>, queued_again_at: Option<Timestamp>) -> Vec<Told> {
    let starts: Vec<Timestamp> = log.iter().map(|attempt| attempt.started_at).collect();
    let told = log.into_iter().enumerate().map(|(index, attempt)| {
        let reached = ReachedStage::of(&attempt.outcome, attempt.detail.as_deref());
        let ended_at = ended_at(&attempt);
        let made = starts.get(index + 1).copied();
        let next = made.or(delivery.next_attempt_at);
        let waited = next.map(|next| Duration::try_from(next.duration_since(ended_at)).unwrap_or_default());
        let effect =
            attempt.retry_after.zip(waited).map(|(asked, waited)| RetryAfterEffect::of(asked, waited));
        let again =
            queued_again_at.filter(|again| *again >= ended_at && next.is_none_or(|next| *again <= next));
        Told {
            reached: reached.map(ReachedStage::as_str),
            ended: reached.map(story::ended),
            retry_after_heeded: effect,
            next_after_seconds: waited.map(|waited| waited.as_secs_f64()),
            then: story::then(&attempt, delivery, waited.filter(|_| made.is_some()), again),
            attempt,
        }
    });
    told.collect()
}

fn print(shown: &Shown, now: Timestamp) {
    output::block(&fields(shown, now));
    for reason in &shown.next.reasons {
        output::line(format!("- {}", output::plain(reason)));
    }
    if shown.delivery.attempts > shown.log.len() as u64 {
        output::line("the record of older attempts was kept long enough and is gone");
    }
    for told in &shown.log {
        output::line("");
        output::block(&lines(told));
    }
}

fn fields(shown: &Shown, now: Timestamp) -> Vec<(&'static str, Option<String>)> {
    let delivery = &shown.delivery;
    let pending = delivery.state == "pending";
    let next = match shown.next.at.as_deref().and_then(|at| at.parse::<Timestamp>().ok()) {
        Some(at) if at > now => format!("{} (in {})", instant(at), roughly(at.duration_since(now))),
        Some(at) => format!("{} (due)", instant(at)),
        None => "not before something changes".to_owned(),
    };
    vec![
        ("delivery", Some(delivery.delivery_id.clone())),
        ("message", Some(delivery.message_id.clone())),
        ("type", Some(delivery.r#type.clone())),
        ("label", delivery.label_id.clone()),
        ("seq", delivery.seq.map(|seq| seq.to_string())),
        ("subscriber", Some(delivery.subscriber.clone())),
        ("state", Some(delivery.state.clone())),
        ("attempts", Some(delivery.attempts.to_string())),
        ("created at", Some(instant(delivery.created_at))),
        ("queued again at", shown.queued_again_at.clone()),
        ("delivered at", delivery.delivered_at.map(instant)),
        ("last outcome", delivery.last_outcome.clone()),
        ("next attempt", pending.then_some(next)),
    ]
}

fn lines(told: &Told) -> Vec<(&'static str, Option<String>)> {
    let attempt = &told.attempt;
    vec![
        ("attempt", Some(attempt.attempt.to_string())),
        ("  started at", Some(instant(attempt.started_at))),
        ("  took", Some(duration::format(Duration::from_millis(attempt.duration_ms)))),
        ("  outcome", Some(attempt.outcome.clone())),
        ("  status", attempt.status.map(|status| status.to_string())),
        ("  ended", told.ended.map(str::to_owned)),
        ("  detail", attempt.detail.clone()),
        (
            "  retry after",
            attempt.retry_after.map(|asked| story::asked(asked, attempt.status, told.retry_after_heeded)),
        ),
        ("  answer", attempt.answer.clone()),
        ("  then", told.then.clone()),
    ]
}
