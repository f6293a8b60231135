//! Traps P15 and P16: times refined later, and lists limited to the last scans.
//!
//! A refined time, location or text makes a revision, not a second id. Two equal scans in one answer stay two.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

use super::*;
use crate::domain::tracking::Tracking;

/// A scan with its time as spelled.
fn at(time: Value, code: &str, city: &str) -> Draft {
    let draft = event("2026-03-04T00:00:00", code, city);
    draft.with("occurred_at", time.clone()).with("carrier_occurred_at", time)
}

fn other_scans() -> [Draft; 2] {
    [event("2026-03-04T07:10:00", "AR", "Madison"), event("2026-03-03T09:00:00", "PU", "Madison")]
}

#[test]
fn p15_a_refined_time_is_a_revision() {
    let real = "2026-03-04T14:32:00-05:00";
    for (what, vague) in [
        ("none", json!(null)),
        ("empty", json!("")),
        ("no time at all", json!("unknown")),
        ("a date", json!("2026-03-04")),
        ("a date as old answers have it", json!("3/4/2026")),
        ("midnight", json!("2026-03-04T00:00:00")),
        ("midnight in UTC", json!("2026-03-04T00:00:00Z")),
        ("year 1", json!("0001-01-01T00:00:00Z")),
        ("1970", json!("1970-01-01T00:00:00Z")),
        ("a few minutes early", json!("2026-03-04T14:28:00-05:00")),
        ("a few minutes late", json!("2026-03-04T14:35:00Z")),
        ("another zone", json!("2026-03-04T19:32:00Z")),
    ] {
        let before = at(vague, "DE", "Springfield");
        let after = at(json!(real), "DE", "Springfield");
        let mut history = History::of(&[std::slice::from_ref(&before), &other_scans()[..]].concat());
        let ids = history.ids();
        let list = [std::slice::from_ref(&after), &other_scans()[..]].concat();
        let matching = history.poll(&list);
        assert_eq!((counts(&matching), matching.missing.len()), ((0, 1, 0), 0), "{what}");
        assert!(matching.revised[0].changed.iter().all(|name| name.ends_with("occurred_at")), "{what}");
        assert_eq!((history.ids(), history.poll(&list).is_quiet()), (ids, true), "{what}");
        // Back to the earlier time: no second id either.
        let matching = history.poll(&[&[before], &other_scans()[..]].concat());
        assert_eq!((matching.added.len(), matching.missing.len()), (0, 0), "{what}, and back");
    }
}

#[test]
fn p15_one_time_or_time_and_location_may_be_refined() {
    let vague = at(json!("2026-03-04"), "DE", "");
    for (what, real) in [
        ("the carrier's", vague.clone().with("carrier_occurred_at", "2026-03-04T09:31:00")),
        ("both", at(json!("2026-03-04T09:31:00"), "DE", "")),
        ("with the place", at(json!("2026-03-04T09:31:00"), "DE", "Springfield")),
        (
            "with place and text",
            at(json!("2026-03-04T09:31:00"), "DE", "Springfield").with("description", "late"),
        ),
    ] {
        let mut history = History::of(&[std::slice::from_ref(&vague), &other_scans()[..]].concat());
        let matching = history.poll(&[&[real], &other_scans()[..]].concat());
        assert_eq!((counts(&matching), matching.missing.len()), ((0, 1, 0), 0), "{what}");
    }
}

#[test]
fn p15_a_scan_of_another_day_or_in_addition_is_another_scan() {
    let vague = at(json!("2026-03-04T00:00:00"), "DE", "Springfield");
    let real = at(json!("2026-03-04T14:32:00"), "DE", "Springfield");
    let mut history = History::of(std::slice::from_ref(&vague));
    let matching = history.poll(&[real.clone(), vague.clone()]);
    assert_eq!(counts(&matching), (1, 0, 0), "both are there");
    for (what, other) in [
        ("another day", at(json!("2026-03-05T14:32:00"), "DE", "Springfield")),
        ("another place", at(json!("2026-03-04T14:32:00"), "DE", "Denver")),
        ("another code", at(json!("2026-03-04T14:32:00"), "X1", "Springfield")),
    ] {
        let mut history = History::of(&[std::slice::from_ref(&vague), &other_scans()[..]].concat());
        let matching = history.poll(&[&[other], &other_scans()[..]].concat());
        assert_eq!((counts(&matching), matching.missing.len()), ((1, 0, 0), 1), "{what}");
    }
    let later = at(json!("2026-03-04T15:02:00"), "DE", "Springfield");
    let mut history = History::of(&[&[real], &other_scans()[..]].concat());
    let matching = history.poll(&[&[later], &other_scans()[..]].concat());
    assert_eq!(counts(&matching), (0, 1, 0), "half an hour may be a time zone");
}

#[test]
fn p16_a_list_of_the_last_scans_retracts_nothing() {
    for size in 1..6 {
        for alike in [false, true] {
            let scans: Vec<_> = (0..14)
                .map(|hour| {
                    event(
                        &format!("2026-03-04T{hour:02}:17:00"),
                        "AR",
                        &if alike { "Reno".to_owned() } else { format!("Town {hour}") },
                    )
                })
                .collect();
            let window =
                |end: usize| scans[end.saturating_sub(size)..end].iter().rev().cloned().collect::<Vec<_>>();
            let mut history = History::of(&window(size));
            for end in size + 1..scans.len() {
                let matching = history.poll(&window(end));
                // A single scan may be the same one, shifted by a time zone.
                let is_shift = size == 1 && alike;
                assert_eq!(
                    counts(&matching),
                    if is_shift { (0, 1, 0) } else { (1, 0, 0) },
                    "{size} {alike} {end}"
                );
                for _ in 0..3 {
                    assert!(history.poll(&window(end)).is_quiet(), "{size} {alike} {end}");
                }
            }
            // The list reaches back again: nothing is announced and no id changes.
            if size > 1 {
                let all: Vec<_> = scans[..scans.len() - 1].iter().rev().cloned().collect();
                let ids = history.ids();
                assert!(history.poll(&all).is_quiet());
                assert_eq!(history.ids(), ids);
                assert!(history.known.iter().all(|event| !event.fell_off));
            }
        }
    }
}

#[test]
fn p16_a_scan_missing_in_the_middle_or_at_the_head_is_retracted() {
    let scan = |hour: u32| event(&format!("2026-03-04T{hour:02}:00:00"), "AR", &format!("Town {hour}"));
    for gone in [11, 12] {
        let mut history = History::of(&[scan(12), scan(11), scan(10)]);
        let list: Vec<_> = [12, 11, 10].into_iter().filter(|hour| *hour != gone).map(scan).collect();
        assert!(history.poll(&list).is_quiet());
        assert_eq!(counts(&history.poll(&list)), (0, 0, 1), "{gone}");
    }
}

/// Scans of one parcel, each with its own time and location, so that none can be confused with another.
fn a_parcel() -> impl Strategy<Value = Vec<Draft>> {
    vec((select(&["AR", "DP", "X1"][..]), 3..55_u32, select(&["IT", "EX", "AT"][..])), 1..8).prop_map(
        |scans| {
            let scans = scans.into_iter().enumerate().map(|(day, (code, minute, status))| {
                let at = format!("2026-03-{:02}T{:02}:{minute:02}:00", day + 1, 9 + day);
                event(&at, code, &format!("Town {day}")).with("status_code", status)
            });
            scans.rev_collect()
        },
    )
}

trait RevCollect {
    fn rev_collect(self) -> Vec<Draft>;
}

impl<I: Iterator<Item = Draft>> RevCollect for I {
    fn rev_collect(self) -> Vec<Draft> {
        let mut all: Vec<_> = self.collect();
        all.reverse();
        all
    }
}

/// Spelling of a scan before it was refined.
#[derive(Clone, Debug)]
enum Vague {
    NoTime,
    DateOnly,
    Midnight,
    YearOne,
    Minutes(i64),
    NoCarrierTime,
    Zone(i64),
    NoPlace,
    ShortPlace,
    OtherText,
    Shouted,
    Nothing,
}

fn a_vagueness() -> impl Strategy<Value = Vague> {
    prop_oneof![
        Just(Vague::NoTime),
        Just(Vague::DateOnly),
        Just(Vague::Midnight),
        Just(Vague::YearOne),
        (1..10_i64).prop_map(Vague::Minutes),
        Just(Vague::NoCarrierTime),
        (1..20_i64).prop_map(|quarters| Vague::Zone(quarters * 15)),
        Just(Vague::NoPlace),
        Just(Vague::ShortPlace),
        Just(Vague::OtherText),
        Just(Vague::Shouted),
        Just(Vague::Nothing),
    ]
}

fn made_vague(draft: &Draft, vague: &Vague) -> Draft {
    let text = |name: &str| draft.0[name].as_str().unwrap_or_default().to_owned();
    let time = text("carrier_occurred_at");
    let timed =
        |time: Value| draft.clone().with("occurred_at", time.clone()).with("carrier_occurred_at", time);
    let moved = |minutes: i64| {
        let at: jiff::civil::DateTime = time.trim_end_matches('Z').parse().unwrap();
        let at = at.checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap();
        timed(json!(at.to_string()))
    };
    match vague {
        Vague::NoTime => timed(json!(null)),
        Vague::DateOnly => timed(json!(time[..10])),
        Vague::Midnight => timed(json!(format!("{}T00:00:00Z", &time[..10]))),
        Vague::YearOne => timed(json!("0001-01-01T00:00:00")),
        Vague::Minutes(minutes) => moved(-minutes),
        Vague::NoCarrierTime => draft.clone().with("carrier_occurred_at", json!(null)),
        Vague::Zone(minutes) => moved(*minutes),
        Vague::NoPlace => draft.clone().with("city_locality", "").with("country_code", json!(null)),
        Vague::ShortPlace => draft.clone().with("city_locality", &text("city_locality")[..5]),
        Vague::OtherText => draft.clone().with("description", "Something else"),
        Vague::Shouted => draft.clone().with("description", text("description").to_ascii_uppercase()),
        Vague::Nothing => draft.clone(),
    }
}

proptest! {
    #[test]
    fn refining_never_makes_a_second_id(
        real in a_parcel(),
        vague in vec(a_vagueness(), 8),
        news in 0..3_usize,
    ) {
        let before: Vec<_> = real.iter().zip(&vague).map(|(draft, vague)| made_vague(draft, vague)).collect();
        let mut history = History::of(&before);
        let ids = history.ids();
        // The same answer refines scans and adds new ones.
        let new = (0..news).map(|n| event(&format!("2026-03-20T1{n}:17:00"), "ZZ", "Elsewhere"));
        let list = [new.rev_collect(), real].concat();
        let matching = history.poll(&list);
        prop_assert_eq!((matching.added.len(), matching.missing.len()), (news, 0));
        prop_assert_eq!(&history.ids()[..ids.len()], &ids[..]);
        prop_assert!(history.poll(&list).is_quiet());
    }

    #[test]
    fn two_equal_scans_in_one_answer_stay_two(real in a_parcel(), vague in a_vagueness(), at in any::<Index>()) {
        let place = at.index(real.len());
        let other = made_vague(&real[place], &vague);
        let mut list = real.clone();
        list.insert(place, other);
        let mut history = History::of(&real);
        prop_assert_eq!(counts(&history.poll(&list)), (1, 0, 0));
        prop_assert!(history.poll(&list).is_quiet());
        prop_assert_eq!(history.known.len(), real.len() + 1);
    }

    #[test]
    fn a_list_of_the_last_scans_adds_each_scan_once(real in a_parcel(), size in 2..5_usize) {
        let oldest_first: Vec<_> = real.into_iter().rev_collect();
        let mut history = History::default();
        let mut added = 0;
        for end in 1..=oldest_first.len() {
            let window: Vec<_> = oldest_first[end.saturating_sub(size)..end].iter().cloned().rev_collect();
            for _ in 0..3 {
                let matching = history.poll(&window);
                prop_assert_eq!((matching.revised.len(), matching.retracted.len()), (0, 0));
                added += matching.added.len();
            }
        }
        prop_assert_eq!(added, oldest_first.len());
    }
}

/// For every answer of the recorded journeys, each single event is vague first.
#[test]
fn refining_any_scan_of_a_journey_makes_no_second_id() {
    let journeys = [
        include_str!("../../../../../tests/journeys/fedex-prepends.json"),
        include_str!("../../../../../tests/journeys/ups-twins-and-signer.json"),
        include_str!("../../../../../tests/journeys/usps-pushed-then-pulled.json"),
    ];
    for journey in journeys {
        let journey: Value = serde_json::from_str(journey).unwrap();
        for observation in journey["observations"].as_array().unwrap() {
            let answer = Tracking::parse(observation["tracking"].to_string().as_bytes()).unwrap();
            let drafts: Vec<Draft> =
                answer.events.iter().map(|event| Draft(serde_json::from_str(&event.raw).unwrap())).collect();
            for place in 0..drafts.len() {
                for vague in
                    [Vague::NoTime, Vague::DateOnly, Vague::Midnight, Vague::YearOne, Vague::OtherText]
                {
                    if drafts[place].0["carrier_occurred_at"].as_str().is_none_or(|time| time.len() < 10) {
                        continue;
                    }
                    let mut before = drafts.clone();
                    before[place] = made_vague(&drafts[place], &vague);
                    let mut history = History::of(&before);
                    let matching = history.poll(&drafts);
                    assert_eq!((matching.added.len(), matching.missing.len()), (0, 0), "{place} {vague:?}");
                }
            }
        }
    }
}
