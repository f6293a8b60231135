//! The receiver's book: what the accepted callbacks, and they alone, say about each parcel.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::settings::{EVERYTHING, SHOP};
use super::track::State;
use crate::sandbox::{Delivery, Verified};
use crate::store::progress::Owed;

/// What trackpost adds to a carrier event's own fields.
const ADDED_FIELDS: [&str; 6] = ["event_id", "revision", "late", "returned", "previous", "changed"];

/// One parcel as its callbacks tell it.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub state: State,
    /// What the newest event says.
    pub says: String,
    pub callbacks: usize,
    /// The carrier events that hold, by id, with their own fields only.
    pub events: BTreeMap<String, Value>,
    /// The API's answer in the latest callback of ShipStation's form.
    pub latest: Option<Value>,
}

/// A parcel's state changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub label: String,
    pub state: State,
    pub says: String,
}

#[derive(Clone, Debug, Default)]
pub struct Book {
    pub pages: BTreeMap<String, Page>,
    /// Every message accepted, by whom.
    pub accepted: BTreeSet<Owed>,
    pub callbacks: usize,
    pub verified: usize,
    /// Callbacks that were not accepted, as the demo ordered.
    pub refused: usize,
    /// Carrier events ever told.
    pub events: BTreeSet<(String, String)>,
    /// What was told twice under two ids, in words.
    pub told_twice: Vec<String>,
    /// Which message came as which number of a label, per subscriber.
    pub places: HashMap<(String, String, u64), String>,
}

impl Book {
    /// Enters a callback; gives the states it brought.
    pub fn enter(&mut self, callback: &Delivery) -> Vec<News> {
        if !callback.answered.is_some_and(|status| (200..300).contains(&status)) {
            self.refused += 1;
            return Vec::new();
        }
        self.callbacks += 1;
        self.verified += usize::from(callback.verified == Verified::Good);
        let subscriber = callback.path.trim_start_matches('/').to_owned();
        let message_id = callback.message_id.clone().unwrap_or_default();
        self.accepted.insert(Owed { subscriber: subscriber.clone(), message_id: message_id.clone() });
        let (Some(label), Some(seq)) = (&callback.label_id, callback.seq) else { return Vec::new() };
        let place = (subscriber.clone(), label.clone(), seq);
        if let Some(other) =
            self.places.insert(place, message_id.clone()).filter(|other| *other != message_id)
        {
            self.told_twice.push(format!("{label}: number {seq} came as {other} and as {message_id}"));
        }
        self.pages.entry(label.clone()).or_default().callbacks += 1;
        // A body that is no JSON tells nothing, and what it should have told is missed.
        let body: Value = serde_json::from_slice(&callback.body).unwrap_or_default();
        match subscriber.as_str() {
            EVERYTHING => self.read(label, &body),
            SHOP => {
                let page = self.pages.entry(label.clone()).or_default();
                page.latest = body.get("data").cloned();
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn read(&mut self, label: &str, body: &Value) -> Vec<News> {
        let (kind, data) = (body["type"].as_str().unwrap_or_default(), &body["data"]);
        let several = data["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        match kind {
            "tracking.event.added" => return self.added(label, &data["event"]).into_iter().collect(),
            "tracking.event.revised" => {
                for event in several {
                    self.page(label).events.insert(id(event), own_fields(event));
                }
            }
            "tracking.event.retracted" => {
                for event in several {
                    self.page(label).events.remove(&id(event));
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn added(&mut self, label: &str, event: &Value) -> Option<News> {
        let id = id(event);
        let first = self.events.insert((label.to_owned(), id.clone()));
        if !first && event["returned"] != Value::Bool(true) {
            self.told_twice.push(format!("{label}: the event {id} was added twice"));
        }
        let page = self.page(label);
        page.events.insert(id, own_fields(event));
        // A backfilled scan tells of the past.
        let state = State::of_event(event).filter(|_| event["late"] != Value::Bool(true))?;
        page.says = event["description"].as_str().unwrap_or_default().to_owned();
        if page.state == state {
            return None;
        }
        page.state = state;
        Some(News { label: label.to_owned(), state, says: page.says.clone() })
    }

    fn page(&mut self, label: &str) -> &mut Page {
        self.pages.entry(label.to_owned()).or_default()
    }
}

fn id(event: &Value) -> String {
    event["event_id"].as_str().unwrap_or_default().to_owned()
}

fn own_fields(event: &Value) -> Value {
    let mut own = event.clone();
    if let Some(fields) = own.as_object_mut() {
        fields.retain(|name, _| !ADDED_FIELDS.contains(&name.as_str()));
    }
    own
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, code: &str, extra: Value) -> Value {
        let mut event = json!({"event_id": id, "revision": 1, "late": false, "status_code": code,
            "description": code.to_lowercase()});
        if let (Some(event), Value::Object(extra)) = (event.as_object_mut(), extra) {
            event.extend(extra);
        }
        event
    }

    fn added(book: &mut Book, id: &str, code: &str, extra: Value) -> Vec<State> {
        let body = json!({"type": "tracking.event.added", "data": {"event": event(id, code, extra)}});
        book.read("se-1", &body).into_iter().map(|news| news.state).collect()
    }

    #[test]
    fn only_a_change_of_state_is_news_and_the_late_are_none() {
        let mut book = Book::default();
        assert_eq!(added(&mut book, "a", "NY", json!({})), [State::Label]);
        assert_eq!(added(&mut book, "b", "IT", json!({})), [State::InTransit]);
        assert_eq!(added(&mut book, "c", "IT", json!({})), []);
        assert_eq!(added(&mut book, "d", "AC", json!({"late": true})), []);
        assert_eq!(book.pages["se-1"].state, State::InTransit);
        assert_eq!(book.pages["se-1"].events.len(), 4);
        assert!(book.told_twice.is_empty());
    }

    #[test]
    fn revised_and_retracted_events_change_what_holds() {
        let mut book = Book::default();
        added(&mut book, "a", "IT", json!({}));
        let revised =
            event("a", "IT", json!({"revision": 2, "city": "X", "previous": {}, "changed": ["city"]}));
        book.read("se-1", &json!({"type": "tracking.event.revised", "data": {"events": [revised]}}));
        let own = json!({"status_code": "IT", "description": "it", "city": "X"});
        assert_eq!(book.pages["se-1"].events["a"], own);
        book.read(
            "se-1",
            &json!({"type": "tracking.event.retracted", "data": {"events": [event("a", "IT", json!({}))]}}),
        );
        assert!(book.pages["se-1"].events.is_empty());
        added(&mut book, "a", "IT", json!({"returned": true}));
        assert!(book.told_twice.is_empty());
        added(&mut book, "a", "IT", json!({}));
        assert_eq!(book.told_twice.len(), 1);
    }
}
