use crate::domain::polling::label_record::LabelRecord;
use crate::domain::polling::poll::gaps::{restore, shift};
use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

const DAY: i64 = 86_400;

#[test]
fn a_jump_is_detected_once_and_slewing_never() {
    let mut clocks = Clocks::new(at(0), Duration::ZERO);
    assert_eq!(clocks.read(at(60), Duration::from_secs(60)), None);
    for (by, name) in
        [(-3600, "an hour back"), (-DAY, "a day back"), (DAY, "a day forward"), (90, "a zigzag")]
    {
        let mut clocks = Clocks::new(at(0), Duration::ZERO);
        let jump = clocks.read(at(10 + by), Duration::from_secs(10)).expect(name);
        assert_eq!((jump, jump.by().as_secs()), (Jump { from: at(10), to: at(10 + by) }, by));
        assert_eq!(clocks.read(at(20 + by), Duration::from_secs(20)), None, "{name} is detected once");
    }
    // Half a second in each thousand, for a day.
    let mut clocks = Clocks::new(at(0), Duration::ZERO);
    for step in 1..=86 {
        let wall = at(step * 1000) + SignedDuration::from_millis(500 * step);
        assert_eq!(clocks.read(wall, Duration::from_secs(1000 * step.unsigned_abs())), None);
    }
}

#[test]
fn time_that_did_not_pass_does_not_count() {
    let mut gaps = Gaps::default();
    gaps.add_jump(Jump { from: at(4), to: at(61 * DAY) });
    assert_eq!(gaps.between(at(0), at(61 * DAY + 6)).as_secs(), 61 * DAY - 4);
    assert_eq!(gaps.between(at(61 * DAY), at(62 * DAY)).as_secs(), 0);
    // An alert due within the gap is deferred by its length.
    assert_eq!(gaps.defer(at(DAY)), at(62 * DAY - 4));
    assert_eq!(gaps.defer(at(0)), at(0));
    assert_eq!(gaps.defer(at(62 * DAY)), at(62 * DAY));
    // After a jump back, the gap does not count, because the time passes.
    gaps.add_jump(Jump { from: at(61 * DAY + 10), to: at(14) });
    assert_eq!(gaps.between(at(0), at(61 * DAY)).as_secs(), 10);
}

fn mark(seconds: i64, uptime: u64) -> Mark {
    Mark { wall: at(seconds), uptime: Duration::from_secs(uptime), machine: Some([1; 32]) }
}

#[test]
fn a_jump_between_two_marks_is_the_time_that_did_not_pass() {
    for (now, jump) in [
        (mark(60, 160), 0),
        (mark(180, 160), 120),
        (mark(-3_540, 160), -3_600),
        // The machine was started again: nothing can be said.
        (mark(DAY, 99), 0),
    ] {
        assert_eq!(mark(0, 100).jump_until(now).as_secs(), jump, "{now:?}");
    }
}

#[test]
fn between_two_runs_the_uptime_counts_on_the_same_machine_only() {
    let on = |machine, mark| Mark { machine, ..mark };
    let (other, unknown) = (Some([2; 32]), None);
    for (now, jump) in [
        (mark(60, 160), 0),
        (mark(180, 160), 120),
        (mark(-3_540, 160), -3_600),
        // Another machine, which has been up for longer; then with its clock set back.
        (on(other, mark(10, 8_640_000)), 0),
        (on(other, mark(-3_540, 160)), -3_540),
        (on(unknown, mark(180, 160)), 0),
        // The machine was started again; then with its clock set back.
        (mark(DAY, 99), 0),
        (mark(-DAY, 99), -DAY),
    ] {
        assert_eq!(mark(0, 100).jump_between_runs(now).as_secs(), jump, "{now:?}");
    }
}

#[test]
fn a_run_continues_the_gaps_of_the_last_one() {
    let mut gaps = Gaps::default();
    gaps.add_jump(Jump { from: at(4), to: at(61 * DAY) });
    let ended = 61 * DAY + 10;
    let run = |now: Mark| {
        let mut record = ClockRecord { mark: mark(ended, 100), gaps: Arc::new(gaps.clone()) };
        let between = record.continue_at(now, record.mark.jump_between_runs(now));
        (between, record.gaps.between(at(0), now.wall).as_secs())
    };
    // Restarted after 5 s: the gap of the last run still does not count.
    assert_eq!(run(mark(ended + 5, 105)), (BetweenRuns::Nothing, 61 * DAY - 4));
    // The clock jumped by two minutes meanwhile.
    let (between, gap) = run(mark(ended + 125, 105));
    assert!(matches!(between, BetweenRuns::Jumped(jump) if jump.by().as_secs() == 120), "{between:?}");
    assert_eq!(gap, 61 * DAY - 4 + 120);
    // It was set right by a day while nothing ran for an hour: no daemon ran in that time.
    let (between, gap) = run(mark(ended + DAY + 3_600, 3_700));
    assert!(matches!(between, BetweenRuns::Jumped(jump) if jump.by().as_secs() == DAY), "{between:?}");
    assert_eq!(gap, 61 * DAY - 4 + DAY + 3_600);
    // It was set back by a day: the time of the gap passes.
    let (between, gap) = run(mark(ended - DAY, 105));
    assert!(matches!(between, BetweenRuns::Jumped(jump) if jump.by().as_secs() == -DAY - 5), "{between:?}");
    assert_eq!(gap, 60 * DAY + 10 - 4);
    // The machine was off for a day.
    let (between, _) = run(mark(ended + DAY, 20));
    assert_eq!(between, BetweenRuns::Away(SignedDuration::from_hours(24)));
}

proptest! {
    /// For any jumps of the wall clock, alerts never count more time than passed.
    #[test]
    fn alerts_never_count_more_time_than_passed(
        steps in prop::collection::vec((1_i64..3_600, prop_oneof![
            Just(0_i64), Just(-3_600), Just(-DAY), Just(DAY), Just(90), Just(-90), 5..100 * DAY
        ]), 1..30),
    ) {
        let (mut wall, mut real) = (0_i64, 0_i64);
        let mut clocks = Clocks::new(at(0), Duration::ZERO);
        let mut gaps = Gaps::default();
        let mut label = LabelRecord::registered(at(0));
        label.poll_state.last_changed_at = Some(at(0));
        for (passed, jump) in steps {
            (wall, real) = (wall + passed + jump, real + passed);
            if let Some(jump) = clocks.read(at(wall), Duration::from_secs(real.unsigned_abs())) {
                gaps.add_jump(jump);
            }
            let shifted = shift(&gaps, &label, at(wall));
            let since = shifted.poll_state.last_changed_at.unwrap();
            let counted = at(wall).duration_since(since).as_secs();
            prop_assert!((0..=real).contains(&counted), "{counted} s of {real} s");
            // Writing and reading give the same time.
            let mut after = shifted.poll_state.clone();
            restore(&gaps, &mut after, &label.poll_state, at(wall));
            let again = shift(&gaps, &LabelRecord { poll_state: after, ..label.clone() }, at(wall));
            prop_assert_eq!(again.poll_state.last_changed_at, Some(since));
        }
    }
}
