//! `trackpost subscribers`: list, ping, pause, resume.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::args::Subscribers;
use super::output::{self, instant_text, or_dash};
use super::{Failure, open_store, open_store_to_read, resolve, table};
use crate::clock::{self, Stopwatch};
use crate::config::Config;
use crate::domain::degraded::SubscriberStatus;
use crate::domain::delivery::health::HealthState;
use crate::domain::messages::ping::Ping;
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};
use crate::store::Store;
use crate::store::views::degraded::Configured;
use crate::store::views::deliveries::{AttemptView, ID_PREFIX};
use crate::store::views::subscribers::SubscriberView;

/// Grace period on top of the subscriber's timeout, in which the daemon notices the ping and records its outcome.
const PING_GRACE: Duration = Duration::from_secs(5);
/// Interval at which the outcome is read.
const READ_INTERVAL: Duration = Duration::from_millis(100);

pub async fn run(path: &Path, args: Subscribers) -> Result<ExitCode, Failure> {
    let (loaded, store) = match args {
        Subscribers::List(_) => open_store_to_read(path).await?,
        _ => open_store(path).await?,
    };
    let config = &loaded.config;
    match args {
        Subscribers::List(format) => list(&store, config, format.json).await?,
        Subscribers::Ping(one) => ping(&store, resolve::enabled_subscriber(config, &one.name)?).await?,
        Subscribers::Pause(one) => pause(&store, &resolve::subscriber(config, &one.name)?.name).await?,
        Subscribers::Resume(one) => resume(&store, &resolve::subscriber(config, &one.name)?.name).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(store: &Store, config: &Config, json: bool) -> Result<(), Failure> {
    let views = store.subscriber_views(&Configured::of(config).subscribers).await?;
    if json {
        return output::json_lines(&views);
    }
    if views.is_empty() {
        output::line("the configuration has no subscribers");
        return Ok(());
    }
    print(&views);
    Ok(())
}

/// Prints a row per subscriber.
pub(super) fn print(views: &[SubscriberView]) {
    let heading = ["NAME", "STATE", "PENDING", "OLDEST PENDING", "LAST SUCCESS", "LAST FAILURE"];
    let now = clock::now();
    let least = &["LAST SUCCESS", "OLDEST PENDING"];
    table::print(heading, least, &views.iter().map(|view| row(view, now)).collect::<Vec<_>>());
}

fn row(view: &SubscriberView, now: Timestamp) -> [String; 6] {
    let state = match view.since.filter(|_| view.state != SubscriberStatus::Configured(HealthState::Ok)) {
        Some(since) => {
            let reason = or_dash(view.reason).replace('_', " ");
            format!("{} since {} ({reason})", view.state.as_str(), table::instant_cell(since))
        }
        None => view.state.as_str().to_owned(),
    };
    let held = view.held_until.filter(|until| *until > now);
    let held = held.map(|until| format!(", Retry-After until {}", table::instant_cell(until)));
    let failure = view
        .last_failure
        .as_ref()
        .map(|failure| format!("{} {}", table::instant_cell(view.last_failure_at), output::outcome(failure)));
    [
        view.name.clone(),
        state + &held.unwrap_or_default(),
        view.pending.to_string(),
        table::instant_cell(view.oldest_pending_at),
        table::instant_cell(view.last_success_at),
        or_dash(failure),
    ]
}

/// Sends a ping through the outbox and the daemon's courier, like every message. It is sent once, does not wait in a
/// queue, and does not change the subscriber's health.
async fn ping(store: &Store, subscriber: &Subscriber) -> Result<(), Failure> {
    let name = &subscriber.name;
    let now = clock::now();
    let mut health = store.subscriber_health(name).await?;
    // A subscriber that answered 410 at its old URL may exist at the new one.
    health.set_url(&subscriber.url_digest(), now);
    if health.state == HealthState::Paused {
        return Err(Failure::new(format!("{name} is paused: nothing is sent to it"))
            .hint(format!("trackpost subscribers resume {name}")));
    }
    let row = store.add_ping(name, Ping::new(name, now), now).await?;
    let (watch, timeout) = (Stopwatch::start(), subscriber.timeout + PING_GRACE);
    while watch.elapsed() < timeout {
        if let Some(attempt) = store.attempts_of(row).await?.pop() {
            return pinged(name, row, &attempt);
        }
        clock::sleep(READ_INTERVAL).await;
    }
    // A ping that arrives hours later would be misleading.
    if !store.withdraw_ping(row).await?
        && let Some(attempt) = store.attempts_of(row).await?.pop()
    {
        return pinged(name, row, &attempt);
    }
    let waited = output::measured(timeout);
    Err(Failure::new(format!("the ping was not sent within {waited} and was withdrawn")).hint(
        "check with trackpost status that a daemon runs; if the subscriber is new, run trackpost reload",
    ))
}

fn pinged(name: &SubscriberName, row: i64, attempt: &AttemptView) -> Result<(), Failure> {
    let status = attempt.status.map(|status| format!(" {status}")).unwrap_or_default();
    let outcome = output::outcome(&format!("{}{status}", attempt.outcome));
    let took = output::measured(Duration::from_millis(attempt.duration_ms));
    let result = format!("{name}: {outcome} after {took} ({ID_PREFIX}{row})");
    if attempt.is_accepted() {
        output::line(result);
        return Ok(());
    }
    let detail = attempt.detail.as_ref().or(attempt.answer.as_ref());
    let detail = detail.map(|detail| format!(": {}", output::plain(detail))).unwrap_or_default();
    Err(Failure::new(format!("{result}{detail}"))
        .hint(format!("a ping is sent once; trackpost deliveries show {ID_PREFIX}{row} shows the details")))
}

async fn pause(store: &Store, name: &SubscriberName) -> Result<(), Failure> {
    let now = clock::now();
    let (changed, _) = store.change_health(name, move |health| health.pause(now)).await?;
    output::line(if changed {
        format!("{name}: paused; deliveries are kept until it is resumed")
    } else {
        format!("{name}: already paused")
    });
    Ok(())
}

async fn resume(store: &Store, name: &SubscriberName) -> Result<(), Failure> {
    let now = clock::now();
    let ((was_paused, held), health) =
        store.change_health(name, move |health| health.resume_by_hand(now)).await?;
    store.resume_deliveries(name, now).await?;
    output::line(match (was_paused, health.state) {
        (true, HealthState::Failing) => {
            format!("{name}: resumed; a probe is sent first, the other deliveries after it is accepted")
        }
        (true, _) => format!("{name}: resumed"),
        (false, HealthState::Failing) => format!("{name}: not paused but failing; a probe is sent now"),
        (false, _) => match held {
            Some(until) => {
                let until = instant_text(until);
                format!("{name}: not paused; its Retry-After until {until} is cancelled")
            }
            None => format!("{name}: not paused"),
        },
    });
    Ok(())
}
