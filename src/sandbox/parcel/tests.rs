use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::*;
use crate::domain::tracking::{Tracking, TrackingEvent};

fn text(event: &TrackingEvent, name: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(&event.raw).unwrap();
    event[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn start() -> Timestamp {
    "2026-11-22T10:15:30Z".parse().unwrap()
}

fn label(n: u32) -> LabelId {
    format!("se-{n}").parse().unwrap()
}

fn every_parcel() -> impl Iterator<Item = Parcel> {
    JourneyKind::ALL.into_iter().flat_map(|journey| {
        Carrier::ALL
            .into_iter()
            .flat_map(move |carrier| (0..3).map(move |n| Parcel::on(journey, carrier, &label(n), 7, start())))
    })
}

/// Every answer of the parcel, in order, requested shortly before and at each change.
fn answers(parcel: &Parcel) -> Vec<(Duration, Bytes)> {
    let script = parcel.journey.script();
    let turns = script.lines.iter().flat_map(|line| [Some(line.seen), line.until]).flatten();
    let moments: BTreeSet<Duration> = turns
        .flat_map(|minute| [parcel.passed(minute) - Duration::from_millis(1), parcel.passed(minute)])
        .chain([Duration::ZERO, Duration::from_secs(90 * 86_400)])
        .collect();
    moments.into_iter().map(|elapsed| (elapsed, parcel.answer(elapsed))).collect()
}

#[test]
fn every_answer_is_a_tracking_object_headed_by_its_newest_event() {
    for parcel in every_parcel() {
        for (_, body) in answers(&parcel) {
            let tracking = Tracking::parse(&body).unwrap();
            assert_eq!(tracking.tracking_number.as_deref(), Some(&*parcel.tracking_number));
            assert!(tracking.status().is_some());
            match tracking.events.first() {
                Some(newest) => {
                    assert_eq!(text(newest, "status_code"), tracking.status_code);
                    assert_eq!(text(newest, "status_detail_code"), tracking.status_detail_code);
                    assert_eq!(newest.is_out_for_delivery(), tracking.is_out_for_delivery());
                }
                None => assert_eq!(tracking.status(), Some(StatusCode::NotYetInSystem)),
            }
        }
    }
}

#[test]
fn every_journey_ends_in_its_final_status() {
    for parcel in every_parcel() {
        let body = parcel.answer(parcel.ends_after());
        assert_eq!(body, parcel.answer(parcel.ends_after() * 50), "{parcel:?} goes on after its end");
        let tracking = Tracking::parse(&body).unwrap();
        assert_eq!(tracking.status(), Some(parcel.ends_in()));
        assert_eq!(tracking.events.len(), parcel.scans());
        let expected = match parcel.journey {
            JourneyKind::Delivered | JourneyKind::ExceptionThenDelivered | JourneyKind::Revised => {
                StatusCode::Delivered
            }
            JourneyKind::ReturnedToSender => StatusCode::Exception,
            JourneyKind::CollectionPoint => StatusCode::ServicePoint,
            JourneyKind::NeverScanned => StatusCode::NotYetInSystem,
        };
        assert_eq!(parcel.ends_in(), expected);
    }
}

#[test]
fn an_arrived_parcel_was_out_for_delivery_and_stays_arrived() {
    for parcel in every_parcel() {
        let answers: Vec<Tracking> =
            answers(&parcel).iter().map(|(_, body)| Tracking::parse(body).unwrap()).collect();
        let arrived = answers.iter().position(|t| t.status().is_some_and(StatusCode::is_terminal));
        let Some(arrived) = arrived else { continue };
        assert!(answers[..arrived].iter().any(Tracking::is_out_for_delivery), "{parcel:?}");
        assert!(answers[arrived..].iter().all(|t| t.status().is_some_and(StatusCode::is_terminal)));
    }
}

#[test]
fn the_history_only_grows_and_old_events_stay_byte_for_byte_unless_revised() {
    for parcel in every_parcel().filter(|parcel| parcel.journey != JourneyKind::Revised) {
        let mut before: Vec<String> = Vec::new();
        for (_, body) in answers(&parcel) {
            let events: Vec<String> = Tracking::parse(&body)
                .unwrap()
                .events
                .into_iter()
                .map(|event| event.raw.to_string())
                .collect();
            assert!(events.ends_with(&before), "{parcel:?} rewrites its past");
            before = events;
        }
    }
}

#[test]
fn the_revised_journey_revises_doubles_and_backfills() {
    for carrier in Carrier::ALL {
        let parcel = Parcel::on(JourneyKind::Revised, carrier, &label(1), 7, start());
        let lists: Vec<Vec<String>> = answers(&parcel)
            .iter()
            .map(|(_, body)| {
                Tracking::parse(body).unwrap().events.into_iter().map(|e| e.raw.to_string()).collect()
            })
            .collect();
        let rewritten = lists.windows(2).filter(|pair| !pair[1].ends_with(&pair[0])).count();
        assert!(rewritten >= 4, "{carrier:?}: {rewritten}");
        assert!(lists.windows(2).all(|pair| pair[1].len() >= pair[0].len()), "a scan vanished");
        let last = lists.last().unwrap();
        assert_eq!(last.iter().collect::<BTreeSet<_>>().len(), last.len() - 1, "one exact duplicate");
    }
}

#[test]
fn the_same_state_has_the_same_bytes() {
    let one = Parcel::new(&label(5), 42, start());
    let other = Parcel::new(&label(5), 42, start() + SignedDuration::from_millis(300));
    for (elapsed, body) in answers(&one) {
        assert_eq!(body, other.answer(elapsed));
    }
    let parcel = Parcel::on(JourneyKind::Delivered, Carrier::Ups, &label(5), 42, start());
    let (a, b) = (parcel.passed(906), parcel.passed(1686) - Duration::from_millis(1));
    assert_eq!(parcel.answer(a), parcel.answer(b));
    assert_ne!(parcel.answer(b), parcel.answer(b + Duration::from_millis(1)));
}

#[test]
fn labels_and_seeds_differ() {
    let numbers: BTreeSet<String> =
        (0..500).map(|n| Parcel::new(&label(n), 1, start()).tracking_number).collect();
    assert_eq!(numbers.len(), 500);
    let journeys: BTreeSet<&str> =
        (0..500).map(|n| Parcel::new(&label(n), 1, start()).journey.as_str()).collect();
    assert_eq!(journeys.len(), JourneyKind::ALL.len());
    assert_ne!(
        Parcel::new(&label(1), 1, start()).tracking_number,
        Parcel::new(&label(1), 2, start()).tracking_number
    );
}

/// The keys of a JSON object, in order.
fn keys(object: &str) -> Vec<String> {
    struct Keys(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visit;
            impl<'de> serde::de::Visitor<'de> for Visit {
                type Value = Keys;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, _)) = map.next_entry::<String, &RawValue>()? {
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }
            }
            deserializer.deserialize_map(Visit)
        }
    }
    serde_json::from_str::<Keys>(object).unwrap().0
}

#[test]
fn keys_have_the_vendors_order() {
    let parcel = Parcel::on(JourneyKind::Delivered, Carrier::Fedex, &label(1), 7, start());
    let body = parcel.answer(parcel.ends_after());
    assert_eq!(
        keys(std::str::from_utf8(&body).unwrap()).join(" "),
        "tracking_number tracking_url status_code status_detail_code status_detail_description carrier_code \
         carrier_id carrier_detail_code status_description carrier_status_code carrier_status_description \
         ship_date estimated_delivery_date actual_delivery_date exception_description events"
    );
    for event in Tracking::parse(&body).unwrap().events {
        assert_eq!(
            keys(&event.raw).join(" "),
            "occurred_at carrier_occurred_at description city_locality state_province postal_code country_code \
             company_name signer event_code carrier_detail_code status_code status_description \
             carrier_status_code carrier_status_description status_detail_code status_detail_description \
             proof_of_delivery_url latitude longitude"
        );
    }
}

#[test]
fn each_carrier_has_its_format() {
    let event = |carrier| {
        let parcel = Parcel::on(JourneyKind::Delivered, carrier, &label(1), 7, start());
        let tracking = Tracking::parse(&parcel.answer(parcel.ends_after())).unwrap();
        let hub = tracking.events[6].clone();
        (hub, tracking)
    };
    let (ups, tracking) = event(Carrier::Ups);
    assert!(ups.raw.contains(r#""postal_code":"""#) && ups.raw.contains(r#""status_detail_code":null"#));
    assert!(text(&ups, "carrier_occurred_at").unwrap().ends_with('Z'));
    assert_ne!(text(&ups, "carrier_occurred_at"), text(&ups, "occurred_at"), "Z on a local time");
    assert!(tracking.estimated_delivery_date.is_some(), "UPS keeps its promise on the page");
    let label = tracking.events.last().unwrap();
    assert!(!text(label, "carrier_occurred_at").unwrap().ends_with('Z'));
    assert!(label.raw.contains(r#""signer":"""#));

    let (fedex, tracking) = event(Carrier::Fedex);
    assert!(
        fedex.raw.contains(r#""postal_code":null"#) && fedex.raw.contains(r#""carrier_detail_code":null"#)
    );
    assert_eq!(text(&fedex, "carrier_occurred_at"), text(&fedex, "occurred_at"));
    assert_eq!(tracking.estimated_delivery_date, None);

    let (usps, _) = event(Carrier::Usps);
    let instant: Timestamp = text(&usps, "carrier_occurred_at").unwrap().parse().unwrap();
    let shifted: Timestamp = text(&usps, "occurred_at").unwrap().parse().unwrap();
    assert!(text(&usps, "carrier_occurred_at").unwrap().ends_with("-07:00"));
    assert_eq!(instant.duration_until(shifted), SignedDuration::from_hours(7));
    assert!(usps.raw.contains("DISTRIBUTION CENTER"));
}
