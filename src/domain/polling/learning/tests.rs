use std::time::Duration;

use jiff::tz::Offset;
use proptest::prelude::*;

use super::*;
use crate::config::{Config, Environment};
use crate::domain::polling::cadence::{Cadence, NextPoll, Suggestion};
use crate::domain::polling::reason::PollReason;
use crate::domain::tracking::StatusCode;

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
        phase: None,
    }
}

fn learn(rates: &mut LearnedRates, carrier: &str, from: i64, until: i64, changed: bool) {
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
            learn(rates, carrier, hour * HOUR, (hour + 1) * HOUR, false);
        }
        learn(rates, carrier, after * HOUR, (after + 1) * HOUR, true);
    }
}

fn default_cadence() -> Cadence {
    Config::builtin(&Environment::default()).unwrap().config.cadence
}

fn wait(rates: &LearnedRates, carrier: &str, age: i64) -> Option<Suggestion> {
    rates.suggest(&default_cadence(), &in_transit(at(0)), Some(carrier), None, at(age * HOUR))
}

#[test]
fn the_next_poll_comes_when_changes_are_likely() {
    let mut rates = LearnedRates::default();
    punctual(&mut rates, "ups", 9, 400);
    let found = wait(&rates, "ups", 0).unwrap();
    assert!(found.wait > Duration::from_secs(5 * 3_600), "no changes before nine hours: {found:?}");
    let [Some(quarter), Some(half), _] = found.learned.quartile_hours else { panic!("{found:?}") };
    assert!(8.0 < quarter && quarter < half && half < 10.0, "{found:?}");
    let then = wait(&rates, "ups", 9).unwrap();
    assert!(then.wait < found.wait / 3 && then.pace <= then.wait * 2, "{then:?}");
}

#[test]
fn a_well_known_carrier_is_used_before_all_carriers() {
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
fn too_few_changes_or_learn_false_leave_the_table() {
    let mut rates = LearnedRates::default();
    assert_eq!(wait(&rates, "ups", 0), None);
    punctual(&mut rates, "ups", 9, 39);
    assert_eq!(wait(&rates, "ups", 0), None, "thirty-nine changes are too few");
    punctual(&mut rates, "ups", 9, 400);
    let mut own = default_cadence();
    for row in own.rows.values_mut() {
        row.learn = false;
    }
    assert_eq!(rates.suggest(&own, &in_transit(at(0)), Some("ups"), None, at(0)), None);
    let suggestion = wait(&rates, "ups", 0);
    match own.next(&in_transit(at(0)), suggestion, at(0), 0.0) {
        NextPoll::At(next) => {
            assert_eq!(next.reason.interval(), Duration::from_secs(10_800));
            assert!(matches!(next.reason, PollReason::Cadence(reason) if reason.learned.is_none()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_halve_in_90_days() {
    let mut rates = LearnedRates::default();
    punctual(&mut rates, "ups", 9, 400);
    rates.fade(SignedDuration::from_hours(24 * 90));
    let (_, rate_counts) = rates.best(Some("ups"), None, RowName::Status(StatusCode::InTransit)).unwrap();
    assert!((rate_counts.changes() - 200.0).abs() < 1e-6);
}

proptest! {
    /// A suggested wait is bounded on both sides, and the same for the same input.
    #[test]
    fn a_suggested_wait_is_bounded(
        waits in prop::collection::vec((0i64..400, 1i64..60, any::<bool>()), 0..60),
        age in 0i64..400,
        table in 1u64..90_000,
    ) {
        let mut rates = LearnedRates::default();
        for (from, length, changed) in waits {
            learn(&mut rates, "ups", from * HOUR, (from + length) * HOUR, changed);
        }
        let found = wait(&rates, "ups", age);
        prop_assert_eq!(&found, &wait(&rates, "ups", age));
        if let Some(found) = found {
            let found = found.blended(Duration::from_secs(table));
            prop_assert!(found.wait <= Duration::from_secs(table.max(86_400 + 600)), "{:?}", found);
            prop_assert!(found.wait >= Duration::from_millis(900) && found.pace >= Duration::from_millis(900));
        }
    }
}
