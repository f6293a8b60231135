//! One example per trap of time: shifts by a time zone, corrected times and added times.
//!
//! The numbers continue those of [`super::traps`].

use serde_json::json;

use super::*;

#[test]
fn p4_a_corrected_zone_is_a_revision() {
    let naive = |hour: u32| {
        event(&format!("2026-03-04T{hour:02}:52:00"), "AR", "Denver").with("carrier_occurred_at", json!(null))
    };
    let mut history = History::of(&[naive(9)]);
    let matching = history.poll(&[naive(16)]);
    assert_eq!(counts(&matching), (0, 1, 0));
    assert_eq!(matching.revised[0].changed, ["occurred_at"]);

    // Fifteen hours or seventeen minutes are not a difference of time zones.
    assert_eq!(counts(&history.clone().poll(&[naive(1)])), (1, 0, 0));
    let off = event("2026-03-04T17:09:00", "AR", "Denver").with("carrier_occurred_at", json!(null));
    assert_eq!(counts(&history.poll(&[off])), (1, 0, 0));
}

#[test]
fn p4_the_carriers_time_comes_first() {
    let scan = event("2026-09-03T11:45:00", "10", "Charlotte").with("occurred_at", "2026-09-03T15:45:00Z");
    let mut history = History::of(std::slice::from_ref(&scan));
    let matching = history.poll(&[scan.with("occurred_at", "2026-09-03T18:47:30Z")]);
    assert_eq!(counts(&matching), (0, 1, 0));
}

#[test]
fn p4_several_equal_scans_shift_together() {
    let scan = |hour: u32| {
        event(&format!("2026-03-04T{hour:02}:00:00"), "YP", "Savannah").with("carrier_occurred_at", "")
    };
    let mut history = History::of(&[scan(9), scan(7), scan(6)]);
    let matching = history.poll(&[scan(13), scan(11), scan(10)]);
    assert_eq!(counts(&matching), (0, 3, 0));
}

#[test]
fn p4_a_shift_with_two_candidates_is_ambiguous() {
    let scan = |time: &str| event(&format!("2026-03-04T{time}:00"), "YP", "Savannah");
    let mut history = History::of(&[scan("09:00")]);
    let matching = history.poll(&[scan("11:00"), scan("10:00")]);
    assert_eq!((counts(&matching), matching.fell_off.len()), ((2, 0, 0), 1));
}

/// `carrier` and `occurred` as spelled.
fn tl(carrier: &str, occurred: &str, city: &str) -> Draft {
    let row = event("2026-09-02T00:00:00", "TL", city);
    let row = row.with("carrier_occurred_at", carrier).with("occurred_at", occurred);
    if city.is_empty() {
        row.with("status_detail_code", "INFORMATION")
    } else {
        row.with("country_code", json!(null)).with("status_detail_code", "CARRIER_STATUS_NOT_MAPPED")
    }
}

#[test]
fn p14_repeated_rows_shifted_by_one_zone_without_locations_are_revised() {
    // These minutes differ by multiples of a time zone.
    let pushed = |time: &str, city: &str| tl(&format!("2026-09-{time}Z"), &format!("2026-09-{time}Z"), city);
    let pulled = |time: &str| tl(&format!("2026-09-{time}Z"), "", "");
    let mut history = History::of(&[
        pushed("03T03:22:00", "Gastonia"),
        pushed("02T19:52:00", "Greenville"),
        pushed("02T12:37:00", "Breaux Bridge"),
    ]);
    let ids = history.ids();
    let list = [pulled("03T00:22:00"), pulled("02T16:52:00"), pulled("02T09:37:00")];
    let mut with_news = history.clone();

    let matching = history.poll(&list);
    assert_eq!((counts(&matching), matching.missing.len()), ((0, 3, 0), 0));
    assert_eq!(history.ids(), ids);
    assert!(history.poll(&list).is_quiet());

    // A new scan in the same answer is added.
    let more = [&[pulled("03T06:07:00")], &list[..]].concat();
    let matching = with_news.poll(&more);
    assert_eq!((counts(&matching), matching.missing.len()), ((1, 3, 0), 0));
    assert_eq!(matching.added[0].new, 0);
    // A new scan in a later answer is added too.
    let matching = history.poll(&more);
    assert_eq!((counts(&matching), matching.missing.len()), ((1, 0, 0), 0));
}

#[test]
fn p14_repeated_rows_shifted_by_different_zones_are_revised() {
    // Three scans in two zones. The pulled rows name a third zone, and their `occurred_at` is wrong.
    let mut history = History::of(&[
        tl("2026-09-03T03:22:00Z", "2026-09-03T07:22:00Z", "Gastonia"),
        tl("2026-09-02T19:52:00Z", "2026-09-03T00:52:00Z", "Greenville"),
        tl("2026-09-02T12:37:00Z", "2026-09-02T17:37:00Z", "Breaux Bridge"),
    ]);
    let ids = history.ids();
    let pulled = [
        tl("2026-09-03T00:22:00-07:00", "2026-09-03T14:22:00Z", ""),
        tl("2026-09-02T17:52:00-07:00", "2026-09-03T07:52:00Z", ""),
        tl("2026-09-02T10:37:00-07:00", "2026-09-03T00:37:00Z", ""),
    ];
    let new = tl("2026-09-03T05:07:00-07:00", "2026-09-03T19:07:00Z", "");
    let mut with_news = history.clone();

    let matching = history.poll(&pulled);
    assert_eq!((counts(&matching), matching.missing.len()), ((0, 3, 0), 0));
    assert_eq!(history.ids(), ids);
    for (id, clock) in ids.iter().zip(["10:37", "17:52", "00:22"]) {
        let known = history.known.iter().find(|event| event.event_id == *id).expect("a known event");
        assert!(known.raw.contains(clock), "{id} is the scan of {clock}: {}", known.raw);
    }
    let matching = with_news.poll(&[&[new], &pulled[..]].concat());
    assert_eq!((counts(&matching), matching.missing.len()), ((1, 3, 0), 0));
    assert_eq!(matching.added[0].new, 0);
}

#[test]
fn p14_a_whole_list_pulled_in_another_zone_is_revised() {
    // (pushed local time, hours behind UTC, code, city): scans of one parcel in two zones.
    let scans = [
        ("03T11:45", 4, "10", "Charlotte"),
        ("03T05:09", 4, "U1", "Gastonia"),
        ("03T04:34", 4, "A1", "Gastonia"),
        ("03T03:22", 4, "TL", "Gastonia"),
        ("02T19:52", 5, "TL", "Greenville"),
        ("02T12:56", 5, "TL", "Breaux Bridge"),
        ("02T06:52", 5, "T1", "North Houston Tx Distribution C"),
        ("01T17:57", 5, "L1", "North Houston Tx Distribution C"),
        ("01T15:27", 5, "10", "North Houston Tx Distribution C"),
        ("01T14:12", 5, "OA", "Houston"),
    ];
    let clock = |time: &str, hours: i64| {
        let time: jiff::civil::DateTime = format!("2026-09-{time}:00").parse().expect("a time");
        time.checked_add(jiff::SignedDuration::from_hours(hours)).expect("in range")
    };
    let pushed = scans.map(|(time, behind, code, city)| {
        tl(&format!("{}Z", clock(time, 0)), &format!("{}Z", clock(time, behind)), city)
            .with("event_code", code)
    });
    let pulled = scans.map(|(time, behind, code, city)| {
        let (here, ahead) = (clock(time, behind - 7), clock(time, behind + 7));
        let city = if code == "TL" { "" } else { city };
        tl(&format!("{here}-07:00"), &format!("{ahead}Z"), city).with("event_code", code)
    });
    let mut history = History::of(&pushed);
    let ids = history.ids();
    let matching = history.poll(&pulled);
    assert_eq!((counts(&matching), matching.missing.len()), ((0, scans.len(), 0), 0));
    assert_eq!(history.ids(), ids);
    let matching = history.poll(&pushed);
    assert_eq!(
        (counts(&matching), matching.missing.len()),
        ((0, scans.len(), 0), 0),
        "back again, announced once"
    );
    assert!(history.poll(&pulled).is_quiet());
}

#[test]
fn p4_two_possible_shifts_are_ambiguous() {
    let scan = |time: &str| event(&format!("2026-03-04T{time}:00"), "YP", "").with("occurred_at", "");
    let mut history = History::of(&[scan("09:00"), scan("10:00")]);
    let matching = history.poll(&[scan("14:00"), scan("13:00"), scan("12:00")]);
    assert_eq!((counts(&matching), matching.fell_off.len()), ((3, 0, 0), 2));
}

#[test]
fn p4_an_added_carrier_time_is_a_revision() {
    let scan = event("2026-09-03T15:45:00", "10", "Charlotte").with("carrier_occurred_at", json!(null));
    let mut history = History::of(std::slice::from_ref(&scan));
    let matching = history.poll(&[scan.with("carrier_occurred_at", "2026-09-03T11:40:00Z")]);
    assert_eq!(counts(&matching), (0, 1, 0));
}
