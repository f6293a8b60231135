//! Recorded journeys: the changes of each carrier's feed and the resulting announcements. The third is trap P14.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;
use crate::domain::tracking::Tracking;

#[derive(Deserialize)]
struct Journey {
    observations: Vec<Observation>,
}

#[derive(Deserialize)]
struct Observation {
    tracking: Box<RawValue>,
}

fn answers(journey: &str) -> Vec<Vec<TrackingEvent>> {
    let journey: Journey = serde_json::from_str(journey).expect("a journey");
    let answers = journey.observations.iter().map(|observation| {
        Tracking::parse(observation.tracking.get().as_bytes()).expect("a tracking object").events
    });
    answers.collect()
}

#[test]
fn fedex_prepends() {
    let mut history = History::default();
    let counts_per_poll: Vec<_> = answers(include_str!("../../../../../tests/journeys/fedex-prepends.json"))
        .iter()
        .map(|answer| counts(&history.poll_events(answer)))
        .collect();
    assert_eq!(counts_per_poll, [(3, 0, 0), (5, 0, 0)]);
    assert_eq!(history.known.len(), 8);
    assert!(history.known.iter().all(|event| event.revision == 1));
    let cities: Vec<_> = history.known.iter().filter(|event| event.raw.contains("BOULDER")).collect();
    assert_eq!(cities.len(), 2, "recorded oldest first");
}

#[test]
fn ups_has_twins_and_a_signer_afterwards() {
    let mut history = History::default();
    let polls: Vec<_> = answers(include_str!("../../../../../tests/journeys/ups-twins-and-signer.json"))
        .iter()
        .map(|answer| history.poll_events(answer))
        .collect();
    // The event of the label purchase loses a field with the first scan.
    assert_eq!(polls.iter().map(counts).collect::<Vec<_>>(), [(1, 0, 0), (4, 1, 0), (2, 0, 0), (0, 1, 0)]);
    assert_eq!(polls[3].revised[0].changed, ["postal_code", "proof_of_delivery_url", "signer"]);
    assert_eq!(history.known.len(), 7);
}

#[test]
fn p14_usps_pushed_rows_are_replaced_by_pulled_ones() {
    let mut history = History::default();
    let polls = answers(include_str!("../../../../../tests/journeys/usps-pushed-then-pulled.json"));
    assert_eq!(counts(&history.poll_events(&polls[0])), (1, 0, 0));
    assert_eq!(counts(&history.poll_events(&polls[1])), (9, 0, 0));
    let ids = history.ids();

    let rewritten = history.poll_events(&polls[2]);
    assert_eq!(counts(&rewritten), (0, 7, 0), "one message of revisions, nothing added");
    assert_eq!(rewritten.missing.len(), 2, "the twins");

    let next = history.poll_events(&polls[3]);
    assert_eq!(counts(&next), (1, 0, 2), "one scan is added, the twins are retracted");
    assert_eq!(history.ids()[..10], ids, "no id changes");
    assert!(history.poll_events(&polls[3]).is_quiet());

    // The earlier list again: the twins return under their ids.
    let back = history.poll_events(&polls[1]);
    assert_eq!(counts(&back), (2, 7, 0));
    assert!(back.added.iter().all(|added| added.returned.is_some()));
    assert_eq!(history.known.len(), 11);
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    for journey in [
        include_str!("../../../../../tests/journeys/fedex-prepends.json"),
        include_str!("../../../../../tests/journeys/ups-twins-and-signer.json"),
        include_str!("../../../../../tests/journeys/usps-pushed-then-pulled.json"),
    ] {
        let (mut straight, mut reversed) = (History::default(), History::default());
        for mut answer in answers(journey) {
            let one = straight.poll_events(&answer);
            answer.reverse();
            let other = reversed.poll_events(&answer);
            assert_eq!(counts(&one), counts(&other));
        }
        let sorted = |mut history: History| {
            history.known.sort_by_key(|event| event.event_id);
            history.known
        };
        assert_eq!(sorted(straight), sorted(reversed));
    }
}
