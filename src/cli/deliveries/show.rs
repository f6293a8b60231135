//! `trackpost deliveries show`: everything recorded of a delivery.
//!
//! [`crate::domain::delivery::next_attempt`] decides when the next attempt is and why; [`super::story`] puts it into
//! sentences.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::story;
use crate::cli::Failure;
use crate::cli::output::{self, instant, roughly};
use crate::clock;
use crate::config::Config;
use crate::domain::delivery::attempt::{Heeded, Reached, heeded};
use crate::domain::delivery::health::Health;
use crate::domain::delivery::next_attempt::{Addressee, Because, Case, Outlook, State, outlook};
use crate::domain::messages::ping::PING;
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::time::later;
use crate::store::Store;
use crate::store::views::deliveries::{AttemptView, DeliveryView};
use crate::store::views::waiting::Place;

/// A delivery with its attempts, as printed by `--json`.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    delivery: DeliveryView,
    queued_again_at: Option<String>,
    next: Next,
    log: Vec<LoggedAttempt>,
}

/// Next attempt, and why it is then.
#[derive(Serialize)]
struct Next {
    at: Option<String>,
    because: Vec<&'static str>,
    reasons: Vec<String>,
    /// First undelivered message of its label, which goes before it.
    behind: Option<Behind>,
}

#[derive(Serialize)]
struct Behind {
    delivery_id: String,
    message_id: String,
    seq: Option<i64>,
    /// Number of deliveries that go before it.
    before: u64,
}

/// An attempt and what followed it.
#[derive(Serialize)]
struct LoggedAttempt {
    #[serde(flatten)]
    attempt: AttemptView,
    /// How far the attempt came; null where that is not recorded.
    reached: Option<&'static str>,
    retry_after_heeded: Option<Heeded>,
    /// Time from the end of the attempt to the next one, made or planned.
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
        outlook.because.iter().map(|why| story::reason(*why, &record.delivery, now)).collect();
    let mut behind = None;
    if outlook.because.contains(&Because::Behind)
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
        because: outlook.because.iter().map(|why| why.as_str()).collect(),
        reasons,
        behind,
    };
    let queued_again_at = record.place.queued_again_at;
    let log = logged(&record.delivery, record.log, queued_again_at);
    Ok(Shown { delivery: record.delivery, queued_again_at: queued_again_at.map(instant), next, log })
}

/// Explains what holds back a due delivery: the health of its subscriber.
pub(super) async fn held_back(
    store: &Store,
    config: &Config,
    delivery: DeliveryView,
    now: Timestamp,
) -> Result<Option<String>, Failure> {
    let record = Record::of(store, config, delivery, now).await?;
    let holds =
        |why: &Because| matches!(why, Because::Paused { .. } | Because::Probed { .. } | Because::Held { .. });
    let why = record.outlook(config, now).because.into_iter().find(holds);
    Ok(why.map(|why| story::reason(why, &record.delivery, now)))
}

/// Everything recorded that affects a delivery.
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
            // As in the courier: a new URL is a new receiver.
            health.meet(&subscriber.url_digest(), now);
        }
        let log = store.attempts_of(delivery.row).await?;
        let place = store.place_of(delivery.row).await?;
        Ok(Self { delivery, log, place, health })
    }

    fn outlook(&self, config: &Config, now: Timestamp) -> Outlook {
        let delivery = &self.delivery;
        let addressee = match config.subscribers.get(&SubscriberName::new(&delivery.subscriber)) {
            None => Addressee::Unknown,
            Some(subscriber) if !subscriber.enabled => Addressee::TurnedOff,
            Some(_) => Addressee::Served,
        };
        let case = Case {
            // The CHECK of the table allows no others.
            state: State::parse(&delivery.state).unwrap_or(State::Pending),
            plan: delivery.plan,
            ping: delivery.r#type == PING,
            behind_another: self.place.head.is_some(),
            addressee,
            health: &self.health,
        };
        outlook(&case, now)
    }
}

fn ended_at(attempt: &AttemptView) -> Timestamp {
    let took = SignedDuration::from_millis(i64::try_from(attempt.duration_ms).unwrap_or(i64::MAX));
    later(attempt.started_at, took)
}

/// Pairs each attempt with what followed it: the next one, or the plan for it.
fn logged(
    delivery: &DeliveryView,
    log: Vec<AttemptView>,
    queued_again_at: Option<Timestamp>,
) -> Vec<LoggedAttempt> {
    let starts: Vec<Timestamp> = log.iter().map(|attempt| attempt.started_at).collect();
    let logged = log.into_iter().enumerate().map(|(index, attempt)| {
        let reached = Reached::of(&attempt.outcome, attempt.detail.as_deref());
        let ended_at = ended_at(&attempt);
        let made = starts.get(index + 1).copied();
        let next = made.or(delivery.next_attempt_at);
        let waited = next.map(|next| Duration::try_from(next.duration_since(ended_at)).unwrap_or_default());
        let asked = attempt.retry_after.zip(waited).map(|(asked, waited)| heeded(asked, waited));
        let again =
            queued_again_at.filter(|again| *again >= ended_at && next.is_none_or(|next| *again <= next));
        LoggedAttempt {
            reached: reached.map(Reached::as_str),
            ended: reached.map(story::ended),
            retry_after_heeded: asked,
            next_after_seconds: waited.map(|waited| waited.as_secs_f64()),
            then: story::then(&attempt, delivery, waited.filter(|_| made.is_some()), again),
            attempt,
        }
    });
    logged.collect()
}

fn print(shown: &Shown, now: Timestamp) {
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

fn fields(shown: &Shown, now: Timestamp) -> Vec<(&'static str, Option<String>)> {
    let delivery = &shown.delivery;
    let pending = delivery.state == "pending";
    let next = match shown.next.at.as_deref().and_then(|at| at.parse::<Timestamp>().ok()) {
        Some(at) if at > now => format!("{} (in {})", instant(at), roughly(at.duration_since(now))),
        Some(at) => format!("{} (due)", instant(at)),
        None => "not scheduled".to_owned(),
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
        ("last outcome", delivery.last_outcome.as_deref().map(output::outcome)),
        ("next attempt", pending.then_some(next)),
    ]
}

fn lines(logged: &LoggedAttempt) -> Vec<(&'static str, Option<String>)> {
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
            attempt.retry_after.map(|asked| story::asked(asked, attempt.status, logged.retry_after_heeded)),
        ),
        ("  answer", attempt.answer.clone()),
        ("  then", logged.then.clone()),
    ]
}
