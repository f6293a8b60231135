use jiff::tz::Offset;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn cadence() -> Cadence {
    let row = |hours: &[u64]| Row {
        intervals: hours.iter().map(|h| HOUR * *h as u32).collect(),
        slow_after: vec![(HOUR * 96, HOUR * 12), (HOUR * 240, HOUR * 24)],
        hours: None,
        learn: false,
    };
    let mut rows: BTreeMap<RowName, Row> =
        RowName::ALL.into_iter().map(|name| (name, row(&[3, 4, 6]))).collect();
    rows.insert(
        RowName::OutForDelivery,
        Row {
            intervals: vec![HOUR / 3],
            slow_after: vec![(HOUR * 16, HOUR * 2), (HOUR * 24, HOUR * 6)],
            hours: Some(Hours { start: Time::constant(7, 0, 0, 0), end: Time::constant(21, 0, 0, 0) }),
            learn: false,
        },
    );
    rows.insert(
        RowName::EstimateDay,
        Row {
            intervals: vec![Duration::from_secs(45 * 60)],
            slow_after: vec![],
            hours: Some(Hours { start: Time::constant(6, 30, 0, 0), end: Time::constant(11, 0, 0, 0) }),
            learn: false,
        },
    );
    Cadence { rows, give_up_after: HOUR * 24 * 60, settle: vec![] }
}

fn situation(quiet_since: &str) -> Situation {
    Situation {
        status: Some(StatusCode::InTransit),
        out_for_delivery: false,
        estimate: None,
        utc_offset: Offset::constant(-5),
        quiet_since: quiet_since.parse().unwrap(),
        unchanged: 0,
        finished_at: None,
        phase: None,
    }
}

fn next(situation: &Situation, now: &str) -> PlannedPoll {
    match cadence().next(situation, None, now.parse().unwrap(), 0.0) {
        NextPoll::At(next) => next,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_interval_repeats() {
    for (unchanged, hours) in [(0, 3), (1, 4), (2, 6), (3, 6), (300, 6)] {
        let situation = Situation { unchanged, ..situation("2026-11-01T00:00:00Z") };
        assert_eq!(next(&situation, "2026-11-01T12:00:00Z").reason.interval(), HOUR * hours);
    }
}

#[test]
fn quiet_time_slows_polling() {
    let situation = Situation { unchanged: 9, ..situation("2026-11-01T00:00:00Z") };
    assert_eq!(next(&situation, "2026-11-05T00:00:00Z").reason.interval(), HOUR * 12);
    assert_eq!(next(&situation, "2026-11-11T00:00:00Z").reason.interval(), HOUR * 24);
}

#[test]
fn out_for_delivery_is_dense_by_day_and_waits_for_morning() {
    let out = Situation { out_for_delivery: true, ..situation("2026-11-01T12:00:00Z") };
    let by_day = next(&out, "2026-11-01T14:00:00Z");
    assert_eq!((by_day.reason.row(), by_day.reason.interval()), (Some("out_for_delivery"), HOUR / 3));
    // 04:30 at the destination: the IT row would say 07:30, but the hours open at 07:00.
    let by_night = next(
        &Situation { quiet_since: "2026-11-01T09:00:00Z".parse().unwrap(), ..out },
        "2026-11-01T09:30:00Z",
    );
    assert_eq!(by_night.reason.row(), Some("IT"));
    assert_eq!(by_night.at, "2026-11-01T12:02:30Z".parse().unwrap());
}

#[test]
fn the_estimated_day_and_the_next_are_dense_in_the_morning() {
    let estimated = Situation { estimate: "2026-11-03".parse().ok(), ..situation("2026-11-02T00:00:00Z") };
    assert_eq!(next(&estimated, "2026-11-02T13:00:00Z").reason.row(), Some("IT"));
    assert_eq!(next(&estimated, "2026-11-03T13:00:00Z").reason.row(), Some("estimate_day"));
    assert_eq!(next(&estimated, "2026-11-04T13:00:00Z").reason.row(), Some("estimate_day"));
    assert_eq!(next(&estimated, "2026-11-04T17:00:00Z").reason.row(), Some("IT"));
    assert_eq!(next(&estimated, "2026-11-05T13:00:00Z").reason.row(), Some("IT"));
}

#[test]
fn jitter_moves_the_poll() {
    let it = situation("2026-11-01T00:00:00Z");
    let now: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    let wait = |jitter| match cadence().next(&it, None, now, jitter) {
        NextPoll::At(next) => next.at.duration_since(now).as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(wait(1.0), 11_664);
    assert_eq!(wait(-1.0), 9_936);
}

#[test]
fn the_last_poll_is_at_give_up_after() {
    let old = situation("2026-09-01T00:00:00Z");
    assert_eq!(next(&old, "2026-10-30T23:00:00Z").at, "2026-10-31T00:00:00Z".parse().unwrap());
    let now = "2026-10-31T00:00:00Z".parse().unwrap();
    assert_eq!(cadence().next(&old, None, now, 0.0), NextPoll::GiveUp);
}

#[test]
fn a_finished_label_is_polled_only_to_settle() {
    let finished = Situation {
        status: Some(StatusCode::Delivered),
        finished_at: "2026-11-01T00:00:00Z".parse().ok(),
        ..situation("2026-11-01T00:00:00Z")
    };
    let now = "2026-11-01T02:00:00Z".parse().unwrap();
    assert_eq!(cadence().next(&finished, None, now, 0.0), NextPoll::Never);
    let settling = Cadence { settle: vec![HOUR, HOUR * 6], ..cadence() };
    match settling.next(&finished, None, now, 0.0) {
        NextPoll::At(next) => assert_eq!(next.at, "2026-11-01T06:00:00Z".parse().unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn estimates_are_days_however_spelled() {
    let day = "2026-08-27".parse().ok();
    for text in ["2026-08-27T10:00:00", "2026-08-27T10:00:00Z", "2026-08-27", "8/27/2026"] {
        assert_eq!(crate::domain::tracking::estimate::estimate_day(text), day, "{text}");
    }
    assert_eq!(crate::domain::tracking::estimate::estimate_day("soon"), None);
}

#[test]
fn phases_are_spread() {
    let mut phases: Vec<f64> = (0..1000).map(|n| phase(&format!("se-{n}"))).collect();
    phases.sort_by(f64::total_cmp);
    assert!(phases.iter().enumerate().all(|(n, phase)| (phase - n as f64 / 1000.0).abs() < 0.06));
}
