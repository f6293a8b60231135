//! The ledger: what the API served, held against what receivers accepted.
//!
//! The sandbox keeps [`Served`], the receiver keeps [`Accepted`]; [`audit`] compares the two, and the rows of the
//! database where there are some. The daemon is not asked. Demo, tests and torture use this one audit. It is pure.

mod accepted;
mod facts;
mod served;

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::Value;

use accepted::Subscriber;
pub use accepted::{Accepted, Counts, LabelView};
use facts::{events, facts, fingerprint};
pub use served::Served;
use served::ServedLabel;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Something that was served or recorded did not reach a subscriber.
    Missed,
    /// One message under two ids, or one event told twice.
    Duplicated,
    /// One message id with two bodies.
    Rewritten,
    /// Told, but never served or never recorded.
    Invented,
    /// A lower `seq` after a higher one, or a status after the last one.
    Reordered,
    /// More requests in 60 s than the account may make.
    OverQuota,
    /// A callback without a signature that holds.
    Unsigned,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Duplicated => "duplicated",
            Self::Rewritten => "rewritten",
            Self::Invented => "invented",
            Self::Reordered => "out of order",
            Self::OverQuota => "over quota",
            Self::Unsigned => "badly signed",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub label: Option<String>,
    pub text: String,
}

impl Violation {
    fn new(kind: Kind, label: Option<&str>, text: String) -> Self {
        Self { kind, label: label.map(str::to_owned), text }
    }
}

/// Without the kind, under which it is listed.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{label}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What a subscriber must know of every label in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Every event and the last answer: the standard form with all of `tracking.*`.
    Events,
    /// The last answer: the vendor's forms.
    Answers,
}

/// What the database says.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub deliveries: Vec<DeliveryRow>,
    /// None: they were not read.
    pub events: Option<Vec<EventRow>>,
}

/// A message that a subscriber is to get, or has got.
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

/// Everything that is wrong; nothing is the promise kept. `subscribers` are those that must know every label that was
/// served; `limit` is the quota of each API key in 60 s.
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
        found.push(Violation::new(Kind::Unsigned, None, format!("{unsigned} callbacks")));
    }
    for (label, served) in &served.labels {
        for (name, follows) in subscribers {
            let view = accepted.label(name, label);
            complete(label, served, name, *follows, view, &mut found);
        }
    }
    invented(served, accepted, &mut found);
    if let Some(rows) = rows {
        recorded(rows, accepted, &mut found);
        if let Some(events) = &rows.events {
            history(served, accepted, subscribers, events, &mut found);
        }
    }
    if let Some(limit) = limit
        && let Some((key, requests)) = served.busiest()
        && requests > limit
    {
        let text = format!("{requests} requests in 60 s with the key {key:?}; the limit is {limit}");
        found.push(Violation::new(Kind::OverQuota, None, text));
    }
    found
}

/// Holds a subscriber's view of a label against the last answer: each event as often as it is there, and the answer.
fn complete(
    label: &str,
    served: &ServedLabel,
    name: &str,
    follows: Follows,
    view: Option<&LabelView>,
    found: &mut Vec<Violation>,
) {
    let mut wrong = |kind, text| found.push(Violation::new(kind, Some(label), text));
    let answer = served.answer();
    let Some(view) = view else {
        if !says_nothing(&answer) {
            wrong(Kind::Missed, format!("{name} was told nothing at all"));
        }
        return;
    };
    if !view.answer.as_ref().is_some_and(|told| is_answer(told, &answer)) {
        wrong(Kind::Missed, format!("{name} does not have the last answer of the API"));
    }
    if follows == Follows::Answers {
        return;
    }
    let (missing, surplus) = compare(&answer, view.events.values());
    for event in missing {
        wrong(Kind::Missed, format!("{name} does not have {}", named(event)));
    }
    // What was never served is found by `invented`.
    for event in surplus.into_iter().filter(|event| served.events.contains(&fingerprint(event))) {
        wrong(Kind::Duplicated, format!("{name} has {} more often than the API", named(event)));
    }
    if matches!(answer["status_code"].as_str(), Some("DE" | "SP")) && !view.delivered {
        wrong(Kind::Missed, format!("{name} was not told tracking.delivered"));
    }
}

/// An answer without events that says "not in the system yet": it is no news until another one follows.
fn says_nothing(answer: &Value) -> bool {
    events(answer).is_empty() && matches!(answer["status_code"].as_str(), None | Some("NY" | "UN"))
}

/// Whether a subscriber was told this answer; `data` of `API_TRACK` has only some of its fields.
fn is_answer(told: &Value, answer: &Value) -> bool {
    let (told, answer) = (facts(told), facts(answer));
    match told.as_object().filter(|_| is_classic(&told)) {
        Some(fields) => fields.iter().all(|(name, value)| name == "label_url" || answer[name] == *value),
        None => told == answer,
    }
}

fn is_classic(told: &Value) -> bool {
    told["label_url"].is_string()
}

/// Events of the answer that are not known, and known ones that are not in the answer, each as often as it is there.
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

/// Every label, event and answer that was told was served.
fn invented(served: &Served, accepted: &Accepted, found: &mut Vec<Violation>) {
    for (name, Subscriber { labels, .. }) in &accepted.subscribers {
        for (label, view) in labels {
            let mut wrong = |text| found.push(Violation::new(Kind::Invented, Some(label), text));
            let Some(served) = served.labels.get(label) else {
                if !view.told.is_empty() || view.answer.is_some() {
                    wrong(format!("{name} was told of a label that was never served"));
                }
                continue;
            };
            for (_, event_id) in view.told.iter().filter(|(print, _)| !served.events.contains(print)) {
                wrong(format!("{name} was told of {event_id} in a form that was never served"));
            }
            let whole = view.answer.as_ref().filter(|answer| !is_classic(answer));
            if whole.is_some_and(|answer| !served.answers.contains(&fingerprint(answer))) {
                wrong(format!("{name} has an answer that was never served"));
            }
        }
    }
}

/// What is recorded as owed was accepted, and what was accepted is recorded.
fn recorded(rows: &Rows, accepted: &Accepted, found: &mut Vec<Violation>) {
    let owed: HashSet<(&str, &str)> =
        rows.deliveries.iter().map(|row| (row.subscriber.as_str(), row.message_id.as_str())).collect();
    for DeliveryRow { subscriber, message_id } in &rows.deliveries {
        let known = accepted.subscribers.get(subscriber);
        if known.is_none_or(|known| !known.accepted.contains_key(message_id)) {
            found.push(Violation::new(
                Kind::Missed,
                None,
                format!("{message_id} never reached {subscriber}"),
            ));
        }
    }
    for (name, subscriber) in &accepted.subscribers {
        for (id, place) in &subscriber.accepted {
            if !owed.contains(&(name.as_str(), id.as_str())) {
                let label = place.as_ref().map(|(label, _)| label.as_str());
                found.push(Violation::new(Kind::Invented, label, format!("{id} came to {name}, unrecorded")));
            }
        }
    }
}

/// Every event of the last answer is in the history once, and subscribers know it by the id that it has there.
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
            let text = format!("{} is not in the history", named(event));
            found.push(Violation::new(Kind::Missed, Some(label), text));
        }
        for event in surplus {
            let known = served.events.contains(&fingerprint(event));
            let kind = if known { Kind::Duplicated } else { Kind::Invented };
            let text = format!("the history has {} more often than the API", named(event));
            found.push(Violation::new(kind, Some(label), text));
        }
        let ids: HashSet<&str> = recorded.iter().map(|(id, _)| *id).collect();
        for (name, _) in subscribers.iter().filter(|(_, follows)| *follows == Follows::Events) {
            let told = accepted.label(name, label).into_iter().flat_map(|view| view.events.keys());
            for id in told.filter(|id| !ids.contains(id.as_str())) {
                let text = format!("{name} knows the event {id}, which the history has not");
                found.push(Violation::new(Kind::Invented, Some(label), text));
            }
        }
    }
}

fn named(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    format!("\"{}\" of {}", text("description"), text("occurred_at"))
}

#[cfg(test)]
mod tests;
