//! Generators of answers and of their changes between polls.
//!
//! Events have few different times, codes, locations and texts, so that nearly every case has equal events, similar
//! events and shifts by a time zone.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::json;

use super::Draft;

pub(super) const TIMES: [&str; 9] = [
    "2026-03-03T07:00:00-03:00",
    "2026-03-03T10:00:00",
    "2026-03-03T10:00:30",
    "2026-03-03T10:01:00",
    "2026-03-03T10:15:00",
    "2026-03-03T14:00:00",
    "2026-03-04T00:15:00",
    "soon",
    "",
];
const CODES: [&str; 3] = ["AR", "DP", ""];
const CITIES: [&str; 5] = ["", "Gastonia", "GASTONIA ", "Charlotte NC Dist", "Charlotte"];
const TEXTS: [&str; 4] = ["", "Arrived", "ARRIVED", "In transit"];

fn a_time() -> impl Strategy<Value = &'static str> {
    prop_oneof![9 => select(&TIMES[..7]), 1 => select(&TIMES[7..])]
}

prop_compose! {
    pub(super) fn an_event()(
        occurred in a_time(),
        carrier in prop_oneof![1 => Just(""), 3 => a_time()],
        code in select(&CODES[..]),
        city in select(&CITIES[..]),
        company in prop_oneof![3 => Just(""), 1 => select(&CITIES[..])],
        text in select(&TEXTS[..]),
    ) -> Draft {
        draft([
            ("occurred_at", occurred),
            ("carrier_occurred_at", carrier),
            ("event_code", code),
            ("city_locality", city),
            ("company_name", company),
            ("description", text),
        ])
    }
}

fn draft(fields: [(&str, &str); 6]) -> Draft {
    Draft(fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect())
}

pub(super) fn a_list() -> impl Strategy<Value = Vec<Draft>> {
    vec(an_event(), 0..8)
}

pub(super) fn a_full_list() -> impl Strategy<Value = Vec<Draft>> {
    vec(an_event(), 1..8)
}

/// A list, and the same list in another order.
pub(super) fn reordered() -> impl Strategy<Value = (Vec<Draft>, Vec<Draft>)> {
    a_full_list().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle()))
}

/// A list, and a non-empty part of it.
pub(super) fn shortened() -> impl Strategy<Value = (Vec<Draft>, Vec<Draft>)> {
    a_full_list().prop_flat_map(|list| {
        let count = list.len();
        (Just(list.clone()), subsequence(list, 1..=count))
    })
}

/// The answers of one label over time: edits that change, drop, duplicate and add events.
pub(super) fn a_life() -> impl Strategy<Value = Vec<Vec<Draft>>> {
    let edits = vec((any::<Index>(), 0..5_u8, an_event()), 0..4);
    (a_list(), vec(edits, 0..7)).prop_map(|(mut list, polls)| {
        let mut life = vec![list.clone()];
        for edits in polls {
            for (at, edit, other) in edits {
                if list.is_empty() {
                    list.push(other);
                    continue;
                }
                let at = at.index(list.len());
                match edit {
                    0 => drop(list.remove(at)),
                    1 => list.insert(at, other),
                    2 => list.insert(at, list[at].clone()),
                    3 => list[at] = other,
                    _ => {
                        let text = other.0["description"].clone();
                        list[at] = list[at].clone().with("description", text);
                    }
                }
            }
            life.push(list.clone());
        }
        life
    })
}

/// Enrichment of an event: empty fields filled in, texts replaced.
pub(super) fn an_enrichment() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let fills = [
        ("city_locality", "Gastonia"),
        ("city_locality", "Charlotte"),
        ("company_name", "Depot 7"),
        ("state_province", "NC"),
        ("country_code", "US"),
        ("signer", "J MOSS"),
        ("description", "Something else"),
        ("status_code", "DE"),
        ("x_new", "1"),
    ];
    subsequence(fills.to_vec(), 0..5)
}

pub(super) fn enrich(draft: &Draft, fills: &[(&str, &str)]) -> Draft {
    let mut enriched = draft.clone();
    for &(field, value) in fills {
        let empty = enriched.0.get(field).is_none_or(|value| value == "");
        if empty || field == "description" {
            enriched = enriched.with(field, value);
        }
    }
    enriched
}
