//! Final check: all faults are removed, the daemon delivers the rest, and the ledger is compared with the database.

use std::fmt::Write as _;
use std::time::Duration;

use trackpost::clock::{self, Stopwatch};
use trackpost::sandbox::ledger::{Violation, audit};
use trackpost::store;

use super::machine::Machine;
use super::rows::{connect, rows};
use super::world::{LIMIT, SUBSCRIBERS, World};

/// Time limit for catching up. An account that was down is probed after a minute.
const WAIT_LIMIT: Duration = Duration::from_secs(200);
/// Further time for each label: after many 429, the adaptive limit is a tenth of the limit.
const WAIT_PER_LABEL: Duration = Duration::from_millis(300);
/// Number of polls of a label after which no further change is expected.
const POLLS_AFTER_END: u64 = 4;

/// Waits until everything is delivered. Returns the work that is left after the time limit.
pub async fn drain(machine: &mut Machine) -> Option<String> {
    machine.heal();
    let watch = Stopwatch::start();
    let mut polls_at_the_end = None;
    let mut next_order = Duration::ZERO;
    let limit = WAIT_LIMIT + WAIT_PER_LABEL * u32::try_from(machine.world.labels.len()).unwrap_or(u32::MAX);
    loop {
        clock::sleep(Duration::from_millis(200)).await;
        let world = &machine.world;
        if let Some(status) = machine.daemon.ended() {
            return Some(format!(
                "the daemon ended before the end of the drain, {status}:\n{}",
                machine.daemon.log_tail()
            ));
        }
        let waiting = match remaining(world, &mut polls_at_the_end).await {
            None => return None,
            Some(waiting) => waiting,
        };
        if watch.elapsed() > limit {
            return Some(format!("after {} s: {waiting}", limit.as_secs()));
        }
        if watch.elapsed() >= next_order {
            act_as_operator(world).await;
            next_order += Duration::from_secs(2);
        }
    }
}

/// Acts as an operator after an outage: polls waiting labels by hand and resumes subscribers.
pub async fn act_as_operator(world: &World) {
    let Ok(mut connection) = connect(&world.database()).await else { return };
    let query = "SELECT label_id FROM labels WHERE failures > 0 OR refusals > 0 OR state = 'unavailable'";
    let failing: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap_or_default();
    if !failing.is_empty() {
        let arguments: Vec<&str> =
            ["labels", "poll"].into_iter().chain(failing.iter().map(String::as_str)).collect();
        world.run_command(&arguments).await;
    }
    let query = "SELECT subscriber FROM subscribers WHERE state = 'paused'";
    let paused: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap_or_default();
    for subscriber in paused {
        world.run_command(&["subscribers", "resume", &subscriber]).await;
    }
}

/// Returns a description of the work that is left. `polls`: the polls of each label when all parcels had arrived.
async fn remaining(world: &World, polls: &mut Option<Vec<(String, u64)>>) -> Option<String> {
    if !world.sandbox.all_ended() {
        return Some("the parcels are on their way".to_owned());
    }
    let polls = polls.get_or_insert_with(|| {
        let count = |(label, _): &(String, &str)| (label.clone(), world.sandbox.requests_of(label));
        world.labels.iter().map(count).collect()
    });
    match unfinished(world, polls).await {
        Ok(unfinished) => unfinished,
        Err(error) => Some(format!("the database cannot be read: {error}")),
    }
}

async fn unfinished(world: &World, polls: &[(String, u64)]) -> sqlx::Result<Option<String>> {
    let mut connection = connect(&world.database()).await?;
    let labels: Vec<(String, String)> =
        sqlx::query_as("SELECT label_id, state FROM labels").fetch_all(&mut connection).await?;
    if labels.len() < world.labels.len() {
        return Ok(Some(format!("{} of {} labels are registered", labels.len(), world.labels.len())));
    }
    for (label, state) in &labels {
        let before = polls.iter().find(|(polled, _)| polled == label).map_or(0, |(_, count)| *count);
        let since = world.sandbox.requests_of(label) - before;
        match state.as_str() {
            "active" if since >= POLLS_AFTER_END => {}
            "finished" => {}
            _ => {
                return Ok(Some(format!("{label} is {state}, polled {since} times since its journey ended")));
            }
        }
    }
    for (what, query) in [
        (
            "not all labels were polled again after their end",
            "SELECT count(*) FROM labels WHERE (state = 'finished' AND next_poll_at IS NOT NULL) OR missing_events > 0",
        ),
        ("deliveries are pending", "SELECT count(*) FROM deliveries WHERE state = 'pending'"),
    ] {
        let count: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        if count > 0 {
            return Ok(Some(format!("{count} {what}")));
        }
    }
    Ok(None)
}

/// Returns all failures as `kind: text`, with their labels. The daemon has ended.
pub async fn judge(machine: &Machine) -> Vec<(Option<String>, String)> {
    let world = &machine.world;
    let mut found: Vec<(Option<String>, String)> =
        machine.wrong.iter().map(|wrong| (None, format!("the process: {wrong}"))).collect();
    match store::open(&world.database()).await {
        Ok((store, _writer)) => {
            let violations = store.violations().await.unwrap();
            store.close().await;
            found
                .extend(violations.into_iter().map(|violation| (None, format!("the database: {violation}"))));
        }
        Err(error) => return vec![(None, format!("the database cannot be opened: {error}"))],
    }
    let mut rows = rows(&world.database()).await;
    // A ping is sent once and not awaited.
    let mut connection = connect(&world.database()).await.unwrap();
    let pings: Vec<String> =
        sqlx::query_scalar("SELECT message_id FROM messages WHERE type = 'trackpost.ping'")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let accepted = world.receiver.accepted();
    let was_accepted = |id: &String| accepted.unique().contains(id);
    rows.deliveries.retain(|row| !pings.contains(&row.message_id) || was_accepted(&row.message_id));
    let follows: Vec<(&str, _)> = SUBSCRIBERS.iter().map(|(name, follows, ..)| (*name, *follows)).collect();
    let violations = audit(&world.sandbox.served(), &accepted, &follows, Some(&rows), Some(LIMIT));
    let shown = |violation: Violation| {
        let text = format!("{}: {violation}", violation.kind.as_str());
        (violation.label, text)
    };
    found.extend(violations.into_iter().map(shown));
    found
}

/// Returns the history of a label, in order.
pub async fn history(world: &World, label: &str) -> String {
    let mut lines: Vec<(jiff::Timestamp, String)> = Vec::new();
    for request in
        world.sandbox.requests().into_iter().filter(|request| request.label.as_deref() == Some(label))
    {
        lines.push((request.at, format!("API answers {:?}", request.status)));
    }
    for callback in world.receiver.callbacks() {
        let id = callback.message_id.clone().unwrap_or_default();
        if callback.label_id.as_deref() == Some(label) {
            let (kind, seq) =
                (callback.kind.as_deref().unwrap_or_default(), callback.seq.unwrap_or_default());
            lines.push((
                callback.at,
                format!(
                    "{} gets {kind} {id} seq {seq} attempt {} and answers {:?}: {}",
                    callback.subscriber(),
                    callback.attempt.unwrap_or_default(),
                    callback.answered,
                    String::from_utf8_lossy(&callback.body)
                ),
            ));
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    let mut history = String::new();
    for (at, line) in lines {
        let _ = writeln!(history, "{at}  {line}");
    }
    let mut connection = connect(&world.database()).await.unwrap();
    for (title, query) in [
        (
            "the label",
            "SELECT json_object('state', state, 'status', status_code, 'last_seq', last_seq, 'next_poll_at', \
             next_poll_at, 'recent_polls', json(recent_polls)) FROM labels WHERE label_id = ?",
        ),
        (
            "its history",
            "SELECT json_object('event_id', event_id, 'revision', revision, 'retracted_at', retracted_at, 'raw', \
             json(raw)) FROM tracking_events JOIN labels USING (label_key) WHERE label_id = ? ORDER BY position",
        ),
        (
            "its deliveries",
            "SELECT json_object('subscriber', subscriber, 'id', message_id, 'seq', seq, 'type', type, 'state', \
             state, 'attempts', attempts, 'created_at', m.created_at) FROM deliveries JOIN messages m USING \
             (message_key) WHERE label_id = ? ORDER BY seq",
        ),
    ] {
        let rows: Vec<String> =
            sqlx::query_scalar(query).bind(label).fetch_all(&mut connection).await.unwrap_or_default();
        let _ = writeln!(history, "\n{title}:\n{}", rows.join("\n"));
    }
    history
}
