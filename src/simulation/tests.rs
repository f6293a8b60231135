use std::time::Duration;

use jiff::civil::Weekday;
use jiff::{SignedDuration, Timestamp};

use super::bound::Bound;
use super::delays::Delays;
use super::*;
use crate::config::{Config, Environment};
use crate::domain::polling::cadence::Cadence;
use crate::domain::tracking::StatusCode;

const HOUR: Duration = Duration::from_secs(3_600);

fn policy() -> Cadence {
    Config::builtin(&Environment::default()).unwrap().config.cadence
}

fn settings(cadence: &Cadence) -> RunSettings<'_> {
    RunSettings { cadence, requests_per_minute: 160, seed: 1, learn: true, most_polls: u64::MAX }
}

fn played(journeys: &str, cadence: &Cadence) -> RunResult {
    run(&recorded(journeys).unwrap(), settings(cadence))
}

const TWO: &str = r#"
{"label_id":"se-1","registered_at":"2026-03-02T10:00:00Z","observations":[
 {"at":"2026-03-02T10:00:00Z","tracking":{"status_code":"NY","events":[]}},
 {"at":"2026-03-02T10:30:00Z","tracking":{"status_code":"NY","events":[],"ship_date":"2026-03-02"}},
 {"at":"2026-03-02T12:30:00Z","tracking":{"status_code":"IT","events":[{"occurred_at":"2026-03-02T12:00:00Z"}]}},
 {"at":"2026-03-02T13:30:00Z","tracking":{"events":[{"occurred_at":"2026-03-02T12:00:00Z","signer":null}],"status_code":"IT","carrier_id":""}},
 {"at":"2026-03-02T20:15:00Z","tracking":{"status_code":"DE","events":[]}},
 {"at":"2026-03-03T20:15:00Z","tracking":{"status_code":"DE","events":[],"late":1}}]}
{"label_id":"se-2","registered_at":"2026-03-02T10:00:00Z","observations":[]}
"#;

fn on_one_line(text: &str) -> String {
    text.replace("\n ", "")
}

#[test]
fn a_poll_sees_all_changes_before_it() {
    let outcome = played(&on_one_line(TWO), &Cadence::flat(HOUR, 48 * HOUR));
    // A first answer without events is not a change, nor is another spelling; another date is. Changes after DE are not
    // detected.
    assert_eq!((outcome.changes, outcome.delays.len()), (4, 3));
    assert_eq!(outcome.delivered_delays.len(), 1);
    assert!(outcome.delays.iter().all(|delay| *delay <= HOUR.mul_f64(1.08)));
    // Ten hours of one label and two days of the other, at about an hour each; the first wait is shorter.
    assert!((55..=64).contains(&outcome.polls), "{}", outcome.polls);
    assert_eq!(outcome.max_requests_in_60s, 2);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (one, two) = (generate::journeys(50, 7), generate::journeys(50, 7));
    assert_eq!(one, two);
    assert_ne!(one, generate::journeys(50, 8));
    assert_eq!(run(&one, settings(&policy())), run(&two, settings(&policy())));
}

#[test]
fn the_quota_holds_and_every_label_is_polled() {
    let registered_at: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
    let mut journeys = generate::journeys(600, 3);
    for journey in &mut journeys {
        let earlier = journey.registered_at.duration_since(registered_at);
        journey.registered_at = registered_at;
        for answer in &mut journey.answers {
            answer.at -= earlier;
        }
    }
    let flat = Cadence::flat(Duration::from_secs(600), 480 * HOUR);
    let outcome = run(&journeys, RunSettings { requests_per_minute: 10, ..settings(&flat) });
    assert_eq!(outcome.max_requests_in_60s, 10);
    // The labels need 60 a minute and get 10, so a wait is an hour: half of that on average, and rarely more.
    let delays = Delays::of(outcome.delays);
    assert!(delays.mean.unwrap() < 1_900.0 && delays.p95.unwrap() < 5_400.0, "{delays:?}");
    assert_eq!(outcome.delivered_delays.len(), journeys.iter().filter(|journey| ends(journey)).count());
}

fn ends(journey: &SimulatedJourney) -> bool {
    journey.answers.iter().any(SimulatedAnswer::is_terminal)
}

#[test]
fn generated_journeys_have_the_documented_shares() {
    let journeys = generate::journeys(4_000, 5);
    let share = |of: &dyn Fn(&SimulatedJourney) -> bool| {
        journeys.iter().filter(|journey| of(journey)).count() as f64 / journeys.len() as f64
    };
    let has = |status| {
        move |journey: &SimulatedJourney| journey.answers.iter().any(|one| one.fields.status == Some(status))
    };
    let within =
        |share: f64, expected: f64| assert!((share - expected).abs() < 0.02, "{share} for {expected}");
    within(share(&has(StatusCode::Exception)), 0.12);
    within(share(&|journey| !ends(journey)), 0.04);
    within(share(&has(StatusCode::DeliveryAttempt)), 0.06 * 0.96);
    within(share(&has(StatusCode::ServicePoint)), 0.03 * 0.96);
    within(share(&|journey| journey.carrier.as_deref() == Some("stamps_com")), 0.45);
    let on_weekend = |journey: &SimulatedJourney| {
        let day = journey.registered_at.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(-6))).weekday();
        matches!(day, Weekday::Saturday | Weekday::Sunday)
    };
    within(share(&on_weekend), 0.15);
    let right = |journey: &SimulatedJourney| {
        let Some(end) = journey.answers.iter().find(|one| one.is_terminal()) else { return false };
        let day = end.fields.utc_offset.map(|offset| offset.to_datetime(end.at).date());
        journey.answers.iter().find_map(|one| one.fields.estimate) == day
    };
    within(share(&right) / share(&ends), 0.75);
    for journey in &journeys {
        assert!(journey.answers.is_sorted_by_key(|answer| answer.at));
        assert!(journey.answers[0].at >= journey.registered_at);
        let first_scan = journey.answers[1].at.duration_since(journey.answers[0].at);
        assert!(first_scan >= SignedDuration::from_hours(3) && first_scan <= SignedDuration::from_hours(111));
    }
}

#[test]
fn deliveries_are_noticed_early_with_few_polls() {
    let journeys = generate::journeys(1_000, 11);
    let cadence = policy();
    let ours = run(&journeys, settings(&cadence));
    let hourly = run(&journeys, settings(&Cadence::flat(HOUR, cadence.give_up_after)));
    let polls = ours.polls as f64 / journeys.len() as f64;
    let (delivered, flat) =
        (Delays::of(ours.delivered_delays.clone()), Delays::of(hourly.delivered_delays.clone()));
    assert!(polls <= 40.0, "{polls} polls a label");
    assert!(delivered.p50.unwrap() <= 600.0, "{delivered:?}");
    assert!(ours.polls * 4 < hourly.polls && delivered.p50 < flat.p50 && delivered.mean < flat.mean);
    // No policy is better than the bound.
    for outcome in [&ours, &hourly] {
        let bound = Bound::of(&journeys, cadence.give_up_after).all.mean(outcome.polls).unwrap();
        let mean = Delays::of(outcome.delays.clone()).mean.unwrap();
        assert!(mean > bound, "{mean} against {bound}");
    }
}

#[test]
fn an_error_in_a_journeys_file_has_its_line() {
    for (text, problem) in [
        ("{}", "line 1: missing field `label_id`"),
        (
            "\n{\"label_id\":\"x\",\"registered_at\":\"2026-03-02T10:00:00Z\",\"observations\":[]}",
            "line 2: \"x\": a label",
        ),
        (
            r#"{"label_id":"se-1","registered_at":"2026-03-02T10:00:00Z","observations":[{"at":"2026-03-02T10:00:00Z","tracking":{}}]}"#,
            "line 1: at 2026-03-02T10:00:00Z: ",
        ),
    ] {
        let error = recorded(text).unwrap_err().to_string();
        assert!(error.starts_with(problem), "{error}");
    }
}
