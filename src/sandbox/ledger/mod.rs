//! The ledger: compares the events that the API served with the callbacks that receivers accepted.
//!
//! The sandbox records [`Served`], the receiver records [`Accepted`]. [`audit`] compares the two, and the rows of the
//! database if given. It does not use the daemon. Demo, tests and torture use this audit. It is pure.

mod accepted;
mod facts;
mod served;

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::Value;

use accepted::LedgerSubscriber;
pub use accepted::{Accepted, Counts, LedgerLabel};
use facts::{events, facts, fingerprint};
pub use served::Served;
use served::ServedLabel;

use crate::domain::named_enum::named_enum;

named_enum! {
    /// Kind of a violation.
    pub enum ViolationKind {
        /// An event or a message that was served or recorded did not reach a subscriber.
        Missed = "missed",
        /// One message under two ids, or one event delivered twice.
        Duplicated = "duplicated",
        /// One message id with two bodies.
        Rewritten = "rewritten",
        /// Delivered, but never served or never recorded.
        Invented = "invented",
        /// A lower `seq` after a higher one, or a status after the last one.
        Reordered = "out of order",
        /// More requests in 60 s than the account's quota.
        OverQuota = "over quota",
        /// A callback without a valid signature.
        Unsigned = "badly signed",
    }
}

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: ViolationKind,
    pub label: Option<String>,
    pub text: String,
}

impl Violation {
    fn new(kind: ViolationKind, label: Option<&str>, text: String) -> Self {
        Self { kind, label: label.map(str::to_owned), text }
    }
}

/// Displayed without the kind, because it is listed under it.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{label}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The facts that a subscriber must know about every label at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Every event and the last answer: the standard form with all of `tracking.*`.
    Events,
    /// The last answer: the vendor's forms.
    Answers,
}

/// Rows of the database.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub deliveries: Vec<DeliveryRow>,
    /// None: not read.
    pub events: Option<Vec<EventRow>>,
}

/// A message with a delivery to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    pub subscriber: String,
    pub message_id: String,
}

/// An event in the history that is not retracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub label_id: String,
    pub event_id: String,
    pub raw: String,
}

/// Returns all violations; empty if every promise is kept. `subscribers` must know every served label; `limit` is the
/// quota of each API key in 60 s.
pub fn audit(
    served: &Served,
    accepted: &Accepted,
    subscribers: &[(&str, Follows)],
    rows: Option<&Rows>,
    limit: Option<usize>,
) -> Vec<Violation> {
    let mut found = accepted.violations.clone();
    let unsigned = accepted.counts.bad_signatures;
    if unsigned > 0 {
        found.push(Violation::new(ViolationKind::Unsigned, None, format!("{unsigned} callbacks")));
    }
    for (label, served) in &served.labels {
        for (name, follows) in subscribers {
            let view = accepted.label(name, label);
            complete(label, served, name, *follows, view, &mut found);
        }
    }
    invented(served, accepted, &mut found);
    if let Some(rows) = rows {
        check_rows(rows, accepted, &mut found);
        if let Some(events) = &rows.events {
            history(served, accepted, subscribers, events, &mut found);
        }
    }
    if let Some(limit) = limit
        && let Some((key, requests)) = served.busiest()
        && requests > limit
    {
        let text = format!("{requests} requests in 60 s with the key {key:?}; the limit is {limit}");
        found.push(Violation::new(ViolationKind::OverQuota, None, text));
    }
    found
}

/// Compares a subscriber's view of a label with the last answer: each event as often as it occurs, and the answer.
fn complete(
    label: &str,
    served: &ServedLabel,
    name: &str,
    follows: Follows,
    view: Option<&LedgerLabel>,
    found: &mut Vec<Violation>,
) {
    let mut wrong = |kind, text| found.push(Violation::new(kind, Some(label), text));
    let answer = served.answer();
    let Some(view) = view else {
        if !is_not_in_system(&answer) {
            wrong(ViolationKind::Missed, format!("{name} got no message"));
        }
        return;
    };
    if !view.answer.as_ref().is_some_and(|delivered| is_answer(delivered, &answer)) {
        wrong(ViolationKind::Missed, format!("{name} does not have the last answer of the API"));
    }
    if follows == Follows::Answers {
        return;
    }
    let (missing, surplus) = compare(&answer, view.events.values());
    for event in missing {
        wrong(ViolationKind::Missed, format!("{name} does not have {}", event_name(event)));
    }
    // `invented` reports content that was never served.
    for event in surplus.into_iter().filter(|event| served.events.contains(&fingerprint(event))) {
        wrong(ViolationKind::Duplicated, format!("{name} has {} more often than the API", event_name(event)));
    }
    if matches!(answer["status_code"].as_str(), Some("DE" | "SP")) && !view.delivered {
        wrong(ViolationKind::Missed, format!("{name} did not get tracking.delivered"));
    }
}

/// Whether an answer has no events and says "not in the system yet": it is not reported until another answer follows.
fn is_not_in_system(answer: &Value) -> bool {
    events(answer).is_empty() && matches!(answer["status_code"].as_str(), None | Some("NY" | "UN"))
}

/// Whether a subscriber got this answer; `data` of `API_TRACK` has only some of its fields.
fn is_answer(delivered: &Value, answer: &Value) -> bool {
    let (delivered, answer) = (facts(delivered), facts(answer));
    match delivered.as_object().filter(|_| is_classic(&delivered)) {
        Some(fields) => fields.iter().all(|(name, value)| name == "label_url" || answer[name] == *value),
        None => delivered == answer,
    }
}

fn is_classic(delivered: &Value) -> bool {
    delivered["label_url"].is_string()
}

/// Returns events of the answer that are unknown, and known events that are not in the answer, with their multiplicity.
fn compare<'a>(
    answer: &'a Value,
    known: impl Iterator<Item = &'a Value>,
) -> (Vec<&'a Value>, Vec<&'a Value>) {
    let mut known: Vec<(u64, &Value)> = known.map(|event| (fingerprint(event), event)).collect();
    let mut missing = Vec::new();
    for event in events(answer) {
        let wanted = fingerprint(event);
        match known.iter().position(|(known, _)| *known == wanted) {
            Some(index) => {
                known.swap_remove(index);
            }
            None => missing.push(event),
        }
    }
    (missing, known.into_iter().map(|(_, event)| event).collect())
}

/// Checks that every delivered label, event and answer was served.
fn invented(served: &Served, accepted: &Accepted, found: &mut Vec<Violation>) {
    for (name, LedgerSubscriber { labels, .. }) in &accepted.subscribers {
        for (label, view) in labels {
            let mut wrong = |text| found.push(Violation::new(ViolationKind::Invented, Some(label), text));
            let Some(served) = served.labels.get(label) else {
                if !view.delivered_events.is_empty() || view.answer.is_some() {
                    wrong(format!("{name} got a label that was never served"));
                }
                continue;
            };
            for (_, event_id) in
                view.delivered_events.iter().filter(|(print, _)| !served.events.contains(print))
            {
                wrong(format!("{name} got {event_id} with content that was never served"));
            }
            let whole = view.answer.as_ref().filter(|answer| !is_classic(answer));
            if whole.is_some_and(|answer| !served.answers.contains(&fingerprint(answer))) {
                wrong(format!("{name} has an answer that was never served"));
            }
        }
    }
}

/// Checks that every recorded delivery was accepted, and that everything accepted is recorded.
fn check_rows(rows: &Rows, accepted: &Accepted, found: &mut Vec<Violation>) {
    let recorded_deliveries: HashSet<(&str, &str)> =
        rows.deliveries.iter().map(|row| (row.subscriber.as_str(), row.message_id.as_str())).collect();
    for DeliveryRow { subscriber, message_id } in &rows.deliveries {
        let known = accepted.subscribers.get(subscriber);
        if known.is_none_or(|known| !known.accepted.contains_key(message_id)) {
            found.push(Violation::new(
                ViolationKind::Missed,
                None,
                format!("{message_id} never reached {subscriber}"),
            ));
        }
    }
    for (name, subscriber) in &accepted.subscribers {
        for (id, place) in &subscriber.accepted {
            if !recorded_deliveries.contains(&(name.as_str(), id.as_str())) {
                let label = place.as_ref().map(|(label, _)| label.as_str());
                found.push(Violation::new(
                    ViolationKind::Invented,
                    label,
                    format!("{name} got {id}, which is not recorded"),
                ));
            }
        }
    }
}

/// Checks that every event of the last answer is in the history once, and that subscribers know it by the id from
/// there.
fn history(
    served: &Served,
    accepted: &Accepted,
    subscribers: &[(&str, Follows)],
    rows: &[EventRow],
    found: &mut Vec<Violation>,
) {
    let mut by_label: HashMap<&str, Vec<(&str, Value)>> = HashMap::new();
    for row in rows {
        let raw = serde_json::from_str(&row.raw).unwrap_or_default();
        by_label.entry(&row.label_id).or_default().push((&row.event_id, raw));
    }
    for (label, served) in &served.labels {
        let answer = served.answer();
        let recorded = by_label.remove(label.as_str()).unwrap_or_default();
        let (missing, surplus) = compare(&answer, recorded.iter().map(|(_, raw)| raw));
        for event in missing {
            let text = format!("{} is not in the history", event_name(event));
            found.push(Violation::new(ViolationKind::Missed, Some(label), text));
        }
        for event in surplus {
            let known = served.events.contains(&fingerprint(event));
            let kind = if known { ViolationKind::Duplicated } else { ViolationKind::Invented };
            let text = format!("the history has {} more often than the API", event_name(event));
            found.push(Violation::new(kind, Some(label), text));
        }
        let ids: HashSet<&str> = recorded.iter().map(|(id, _)| *id).collect();
        for (name, _) in subscribers.iter().filter(|(_, follows)| *follows == Follows::Events) {
            let delivered = accepted.label(name, label).into_iter().flat_map(|view| view.events.keys());
            for id in delivered.filter(|id| !ids.contains(id.as_str())) {
                let text = format!("{name} has the event {id}, which is not in the history");
                found.push(Violation::new(ViolationKind::Invented, Some(label), text));
            }
        }
    }
}

fn event_name(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    format!("\"{}\" of {}", text("description"), text("occurred_at"))
}

#[cfg(test)]
mod tests;
