use std::time::Duration;

use jiff::tz::Offset;
use proptest::prelude::*;

use super::*;
use crate::config::{Config, Environment};
use crate::domain::polling::cadence::{Cadence, Look};

const HOUR: i64 = 3_600;

fn at(seconds: i64) -> Timestamp {
    // A Monday, at midnight.
    "2026-03-02T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn in_transit(quiet_since: Timestamp) -> Situation {
    Situation {
        status: Some(StatusCode::InTransit),
        out_for_delivery: false,
        estimate: None,
        utc_offset: Offset::UTC,
        quiet_since,
        unchanged: 0,
        finished_at: None,
        first: None,
    }
}

fn lived(rates: &mut LearnedRates, carrier: &str, from: i64, until: i64, changed: bool) {
    let situation = in_transit(at(0));
    let wait = Wait {
        carrier: Some(carrier),
        service: None,
        situation: &situation,
        from: at(from),
        until: at(until),
        changed,
    };
    rates.learn(wait);
}

/// Parcels of `carrier` that change at random within an hour, `after` hours after the last change.
fn punctual(rates: &mut LearnedRates, carrier: &str, after: i64, parcels: usize) {
    for _ in 0..parcels {
        for hour in 0..after {
            lived(rates, carrier, hour * HOUR, (hour + 1) * HOUR, false);
        }
        lived(rates, carrier, after * HOUR, (after + 1) * HOUR, true);
    }
}

fn default_cadence() -> Cadence {
    Config::builtin(&Environment::default()).unwrap().config.cadence
}

fn wait(rates: &LearnedRates, carrier: &str, age: i64) -> Option<Found> {
    let learnt = Suggestion { rates: Some(rates), carrier: Some(carrier), service: None };
    learnt.wait(&default_cadence(), &in_transit(at(0)), at(age * HOUR), Duration::from_secs(10_800))
}

#[test]
fn the_next_look_comes_when_something_happens() {
    let mut rates = LearnedRates::default();
    punctual(&mut rates, "ups", 9, 400);
    let found = wait(&rates, "ups", 0).unwrap();
    assert!(found.wait > Duration::from_secs(5 * 3_600), "nothing happens before nine hours: {found:?}");
    let Quantiles([quarter, half, _]) = found.lesson.quantiles;
    assert!(8.0 < quarter && quarter < half && half < 10.0, "{found:?}");
    let then = wait(&rates, "ups", 9).unwrap();
    assert!(then.wait < found.wait / 3 && then.pace <= then.wait * 2, "{then:?}");
}

#[test]
fn a_carrier_of_its_own_beats_all_of_them_once_it_is_known() {
    let mut rates = LearnedRates::default();
    punctual(&mut rates, "ups", 2, 50);
    punctual(&mut rates, "fedex", 9, 400);
    let kind = |carrier| rates.best(Some(carrier), None, RowName::Status(StatusCode::InTransit)).unwrap().0;
    assert_eq!(&*kind("fedex").carrier, "fedex");
    assert_eq!(&*kind("ups").carrier, "", "fifty changes are few");
    assert_eq!(&*kind("dhl").carrier, "");
    let of_service =
        LearnedRates::default().best(Some("ups"), Some("ground"), RowName::OutForDelivery).is_none();
    assert!(of_service);
}

#[test]
fn what_is_not_known_or_not_wanted_is_left_to_the_table() {
    let mut rates = LearnedRates::default();
    assert_eq!(wait(&rates, "ups", 0), None);
    punctual(&mut rates, "ups", 9, 39);
    assert_eq!(wait(&rates, "ups", 0), None, "thirty-nine changes say nothing");
    punctual(&mut rates, "ups", 9, 400);
    let mut own = default_cadence();
    for row in own.rows.values_mut() {
        row.learn = false;
    }
    let learnt = Suggestion { rates: Some(&rates), carrier: Some("ups"), service: None };
    match own.next(&in_transit(at(0)), learnt, at(0), 0.0) {
        Look::Again(next) => {
            assert_eq!((next.interval, next.why.learnt), (Duration::from_secs(10_800), None))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_season_later_it_counts_half() {
    let mut rates = LearnedRates::default();
    punctual(&mut rates, "ups", 9, 400);
    rates.fade(SignedDuration::from_hours(24 * 90));
    let (_, tally) = rates.best(Some("ups"), None, RowName::Status(StatusCode::InTransit)).unwrap();
    assert!((tally.changes() - 200.0).abs() < 1e-6);
}

proptest! {
    /// Whatever was learnt, a wait is neither nothing nor for ever, and it is the same for the same.
    #[test]
    fn a_wait_has_bounds(
        waits in prop::collection::vec((0i64..400, 1i64..60, any::<bool>()), 0..60),
        age in 0i64..400,
        table in 1u64..90_000,
    ) {
        let mut rates = LearnedRates::default();
        for (from, length, changed) in waits {
            lived(&mut rates, "ups", from * HOUR, (from + length) * HOUR, changed);
        }
        let learnt = Suggestion { rates: Some(&rates), carrier: Some("ups"), service: None };
        let look = || learnt.wait(&default_cadence(), &in_transit(at(0)), at(age * HOUR), Duration::from_secs(table));
        let found = look();
        prop_assert_eq!(&found, &look());
        if let Some(found) = found {
            prop_assert!(found.wait <= Duration::from_secs(table.max(86_400 + 600)), "{:?}", found);
            prop_assert!(found.wait >= Duration::from_millis(900) && found.pace >= Duration::from_millis(900));
        }
    }
}
