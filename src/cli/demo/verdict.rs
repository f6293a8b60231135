//! Whether the promise was kept: what happened to the parcels against what the receiver was told.
//!
//! The sandbox knows what happened, the database what is owed, the receiver's book what came. The daemon is not asked.

use serde_json::Value;

use super::book::{Book, Page};
use crate::sandbox::Verdict as OfReceiver;
use crate::store::progress::Owed;

/// What happened to a parcel: the API's last word on it.
#[derive(Clone, Debug)]
pub struct Truth {
    pub label: String,
    pub answer: Value,
}

/// All that went wrong, in words; all empty is the promise kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub missed: Vec<String>,
    pub duplicated: Vec<String>,
    pub disordered: Vec<String>,
    pub unsigned: usize,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.missed.is_empty()
            && self.duplicated.is_empty()
            && self.disordered.is_empty()
            && self.unsigned == 0
    }
}

pub fn judge(truths: &[Truth], owed: &[Owed], book: &Book, receiver: &OfReceiver) -> Verdict {
    let mut verdict = Verdict { unsigned: receiver.counts.bad_signatures, ..Verdict::default() };
    verdict.unsigned += book.callbacks - book.verified;
    for truth in truths {
        match book.pages.get(&truth.label) {
            Some(page) => compare(truth, page, &mut verdict),
            None => verdict.missed.push(format!("{}: nothing at all was told", truth.label)),
        }
    }
    let kept = |owed: &&Owed| !book.accepted.contains(owed);
    let lost = owed.iter().filter(kept);
    verdict.missed.extend(lost.map(|owed| format!("{} never reached {}", owed.message_id, owed.subscriber)));
    verdict.duplicated.extend(receiver.duplicates.iter().map(|id| format!("{id} was accepted twice")));
    verdict.duplicated.extend(book.told_twice.iter().cloned());
    verdict.disordered.extend(
        receiver
            .order_violations
            .iter()
            .map(|wrong| format!("{}: number {} came after {}", wrong.label_id, wrong.seq, wrong.after)),
    );
    verdict
}

/// The events that hold against those of the API, each as often as it is there; and the last copy of the answer.
fn compare(truth: &Truth, page: &Page, verdict: &mut Verdict) {
    let label = &truth.label;
    let mut told: Vec<(Value, &Value)> = page.events.values().map(|event| (facts(event), event)).collect();
    let happened = truth.answer["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    for event in happened {
        let happened = facts(event);
        match told.iter().position(|(told, _)| *told == happened) {
            Some(index) => {
                told.swap_remove(index);
            }
            None => verdict.missed.push(format!("{label}: {}", named(event))),
        }
    }
    verdict.duplicated.extend(told.into_iter().map(|(_, event)| format!("{label}: {}", named(event))));
    if page.latest.as_ref().map(facts) != Some(facts(&truth.answer)) {
        verdict.missed.push(format!("{label}: the last word of the API, in ShipStation's form"));
    }
}

/// What a value says, however it is spelled: capitals, white space at the ends, and null for a text that is empty are
/// no news, so nobody is told when a carrier changes those alone.
fn facts(value: &Value) -> Value {
    match value {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::String(text) => text.trim().to_uppercase().into(),
        Value::Array(values) => values.iter().map(facts).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), facts(value)))
            .filter(|(_, v)| !v.is_null())
            .collect(),
        other => other.clone(),
    }
}

fn named(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    format!("\"{}\" of {}", text("description"), text("occurred_at"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn truth() -> Truth {
        let twin = json!({"description": "Arrived", "occurred_at": "2026-11-22T10:00:00Z"});
        Truth { label: "se-1".to_owned(), answer: json!({"events": [twin, twin]}) }
    }

    fn book(events: usize) -> Book {
        let truth = truth();
        let mut page = Page { latest: Some(truth.answer.clone()), ..Page::default() };
        for number in 0..events {
            page.events.insert(format!("evt_{number}"), truth.answer["events"][0].clone());
        }
        Book { pages: [(truth.label, page)].into(), ..Book::default() }
    }

    fn judged(book: &Book) -> Verdict {
        judge(&[truth()], &[], book, &OfReceiver::default())
    }

    #[test]
    fn each_event_once_is_clean() {
        assert!(judged(&book(2)).is_clean());
        assert_eq!(judged(&book(1)).missed, ["se-1: \"Arrived\" of 2026-11-22T10:00:00Z"]);
        assert_eq!(judged(&book(3)).duplicated.len(), 1);
        assert_eq!(judged(&Book::default()).missed, ["se-1: nothing at all was told"]);
    }

    #[test]
    fn spelling_is_no_news() {
        let shouted = json!({"description": " ARRIVED", "occurred_at": "2026-11-22T10:00:00Z", "signer": ""});
        let mut book = book(2);
        for page in book.pages.values_mut() {
            page.events.insert("evt_1".to_owned(), shouted.clone());
        }
        assert!(judged(&book).is_clean());
    }

    #[test]
    fn what_is_owed_and_did_not_come_is_missed() {
        let owed = Owed { subscriber: "shop".to_owned(), message_id: "msg_1".to_owned() };
        let mut book = book(2);
        let lost = judge(&[truth()], std::slice::from_ref(&owed), &book, &OfReceiver::default());
        assert_eq!(lost.missed, ["msg_1 never reached shop"]);
        book.accepted.insert(owed.clone());
        assert!(judge(&[truth()], &[owed], &book, &OfReceiver::default()).is_clean());
    }

    #[test]
    fn the_receiver_s_own_books_count() {
        let mut receiver = OfReceiver { duplicates: vec!["msg_1".to_owned()], ..OfReceiver::default() };
        receiver.counts.bad_signatures = 2;
        let verdict = judge(&[truth()], &[], &book(2), &receiver);
        assert_eq!((verdict.duplicated.len(), verdict.unsigned), (1, 2));
        assert!(!verdict.is_clean());
        let unverified = Book { callbacks: 3, verified: 2, ..book(2) };
        assert_eq!(judged(&unverified).unsigned, 1);
    }
}
