use std::collections::BTreeSet;

use super::*;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[test]
fn a_pace_is_near_its_wait_and_there_are_few_of_them() {
    let mut paces = BTreeSet::new();
    for ms in (1..100_000).chain((100_000..90_000_000).step_by(997)) {
        let pace = Pace::of(Duration::from_millis(ms)).as_millis();
        assert!((pace - ms as i64).unsigned_abs() * 8 <= ms, "{ms} became {pace}");
        assert_eq!(Pace::from_code(Pace::of(Duration::from_millis(ms)).code()).as_millis(), pace);
        paces.insert(pace);
    }
    assert!(paces.len() <= 4 * 27, "{}", paces.len());
    assert_eq!(Pace::of(Duration::ZERO).as_millis(), 1);
    assert_eq!(Pace::from_code(Pace::NONE.code()), Pace::NONE);
    let longest = Pace::of(Duration::MAX);
    assert_eq!(Pace::from_code(longest.code()), longest);
}

#[test]
fn the_factor_is_logged_when_it_changes() {
    assert_eq!(stretch(1.0, 2.0), 1.0);
    assert_eq!(stretch(3.0, 2.0), 1.5);
    assert_eq!(stretch(0.0, 0.0), f64::INFINITY);
    let mut told = 1.0;
    let said: Vec<f64> = [1.0, 1.04, 1.1, 1.2, 1.02, 1.38, 1.3, 1.0, 1.01, f64::INFINITY, 2.0, 2.4, 1.6]
        .into_iter()
        .filter(|stretch| {
            let tell = is_worth_logging(told, *stretch);
            told = if tell { *stretch } else { told };
            tell
        })
        .collect();
    assert_eq!(said, [1.1, 1.38, 1.0, f64::INFINITY, 2.0, 1.6]);
}

#[test]
fn the_expected_pace_follows_from_the_demand() {
    let wait = Some(minutes(60));
    assert_eq!(expected_at(at(0), wait, 1.0, None), at(0));
    assert_eq!(expected_at(at(0), wait, 1.5, None), at(1_800_000));
    assert_eq!(expected_at(at(0), None, 1.5, None), at(0));
    assert_eq!(expected_at(at(0), wait, 1.5, Some(at(60_000))), at(1_800_000));
    assert_eq!(expected_at(at(0), wait, f64::INFINITY, Some(at(9_000_000))), at(9_000_000));
}
