use super::*;

const SCHEDULE: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(300), Duration::from_secs(1800)];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn failed(status: u16, retry_after: Option<u64>) -> Attempt {
    Attempt {
        started_at: at(0),
        duration: Duration::from_millis(20),
        outcome: Outcome::ErrorStatus { status },
        detail: None,
        answer: None,
        retry_after: retry_after.map(Duration::from_secs),
    }
}

fn again(seconds: i64) -> Option<Timestamp> {
    Some(at(seconds))
}

/// Progress after this many failures, the first at second 0.
fn after_failures(failures: u32) -> RetryProgress {
    RetryProgress { failures, since: (failures > 0).then(|| at(0)), planned_at: None }
}

/// Decision after another failure after `failures`, at second 10. `accepted`: second of the last success.
fn next(failures: u32, attempt: &Attempt, accepted: Option<i64>) -> AfterAttempt {
    decide(after_failures(failures), attempt, &SCHEDULE, accepted.map(at), at(10), 0.0).next
}

#[test]
fn follows_the_schedule_within_ten_percent() {
    for (failures, wait) in [(0, 5), (1, 300), (2, 1800)] {
        let decided =
            decide(after_failures(failures), &failed(500, None), &SCHEDULE, Some(at(0)), at(0), 0.0);
        let progress = RetryProgress { planned_at: Some(at(wait)), ..after_failures(failures + 1) };
        let reason = DueReason::Step { number: failures + 1, of: 3, wait_ms: wait.unsigned_abs() * 1000 };
        assert_eq!(
            decided,
            AttemptDecision {
                next: AfterAttempt::Retry(Due { at: at(wait), reason }),
                progress,
                retry_after_until: None,
                hold_until: None
            }
        );
    }
    let late = decide(after_failures(1), &failed(500, None), &SCHEDULE, Some(at(0)), at(0), 1.0);
    assert_eq!(late.next.due().map(|due| due.at), again(330));
}

#[test]
fn dead_only_if_others_were_accepted_since_the_first_failure() {
    assert_eq!(next(3, &failed(500, None), Some(5)), AfterAttempt::Dead);
    assert_eq!(next(3, &failed(500, None), Some(0)), AfterAttempt::Dead, "at the same instant, too");
    assert_eq!(
        next(3, &failed(500, None), Some(-1)).due().map(|due| due.at),
        again(1810),
        "accepted before the first failure"
    );
    for failures in [3, 400] {
        assert_eq!(next(failures, &failed(500, None), None).due().map(|due| due.at), again(1810));
    }
    assert_eq!(
        decide(RetryProgress::default(), &failed(500, None), &[], Some(at(0)), at(10), 0.0)
            .next
            .due()
            .map(|due| due.at),
        again(10 + 86_400),
        "no schedule, and none accepted since"
    );
}

#[test]
fn a_later_retry_after_wins_up_to_a_day() {
    assert_eq!(next(0, &failed(500, Some(3)), None).due().map(|due| due.at), again(15));
    let decided = decide(RetryProgress::default(), &failed(500, Some(77)), &SCHEDULE, None, at(0), 0.0);
    assert_eq!(
        (decided.next.due().map(|due| due.at), decided.retry_after_until, decided.hold_until),
        (again(77), Some(at(77)), None)
    );
    let long = decide(RetryProgress::default(), &failed(503, Some(999_999)), &SCHEDULE, None, at(0), 0.0);
    assert_eq!((long.next.due().map(|due| due.at), long.hold_until), (again(86_400), Some(at(86_400))));
}

#[test]
fn a_deferred_message_keeps_its_progress_and_waits_for_the_probe() {
    let progress = after_failures(2);
    let deferred = defer_to_probe(progress, &failed(500, None), Some(at(40)), at(0));
    assert_eq!((deferred.next.due().map(|due| due.at), deferred.progress), (again(40), progress));
    let decided = defer_to_probe(progress, &failed(500, Some(77)), Some(at(40)), at(0));
    assert_eq!((decided.next.due().map(|due| due.at), decided.retry_after_until), (again(77), Some(at(77))));
    assert_eq!(
        defer_to_probe(progress, &failed(500, None), None, at(3)).next.due().map(|due| due.at),
        again(3)
    );
}

#[test]
fn a_failed_early_attempt_waits_for_its_scheduled_time() {
    let progress = RetryProgress { planned_at: Some(at(300)), ..after_failures(2) };
    let early = decide(progress, &failed(500, None), &SCHEDULE, Some(at(5)), at(299), 0.0);
    assert_eq!((early.next.due().map(|due| due.at), early.progress), (again(300), progress));
    let decided = decide(progress, &failed(500, Some(77)), &SCHEDULE, Some(at(5)), at(299), 0.0);
    assert_eq!(
        (decided.next.due().map(|due| due.at), decided.progress),
        (again(376), progress),
        "Retry-After is later"
    );
    let in_time = decide(progress, &failed(500, None), &SCHEDULE, Some(at(5)), at(300), 0.0);
    assert_eq!((in_time.next.due().map(|due| due.at), in_time.progress.failures), (again(2100), 3));
    let accepted = Attempt { outcome: Outcome::Accepted { status: 200 }, ..failed(200, None) };
    let accepted = decide(progress, &accepted, &SCHEDULE, None, at(10), 0.0);
    assert_eq!((accepted.next, accepted.progress.planned_at), (AfterAttempt::Delivered, None));
}

#[test]
fn the_reason_is_that_of_the_later_time() {
    let reason = |failures, attempt: &Attempt| match next(failures, attempt, None) {
        AfterAttempt::Retry(plan) => plan.reason,
        other => panic!("{other:?}"),
    };
    let step = DueReason::Step { number: 1, of: 3, wait_ms: 5_000 };
    assert_eq!(reason(0, &failed(500, None)), step);
    assert_eq!(reason(0, &failed(500, Some(3))), step, "the schedule is later");
    assert_eq!(reason(0, &failed(500, Some(30))), DueReason::RetryAfter { capped: false });
    assert_eq!(reason(0, &failed(500, Some(90_000))), DueReason::RetryAfter { capped: true });
    assert_eq!(reason(7, &failed(500, None)), DueReason::LastStep { wait_ms: 1_800_000 });
    let early = RetryProgress { planned_at: Some(at(300)), ..after_failures(2) };
    let early = decide(early, &failed(500, None), &SCHEDULE, None, at(20), 0.0).next;
    let second = DueReason::Step { number: 2, of: 3, wait_ms: 300_000 };
    assert_eq!(early, AfterAttempt::Retry(Due { at: at(300), reason: second }));
    for reason in [DueReason::First, step, DueReason::Hastened { by: HastenedBy::UrlChanged }] {
        assert_eq!(DueReason::from_json(&reason.to_json()), Some(reason));
    }
}

#[test]
fn a_scheduled_wait_is_shortened_and_a_retry_after_is_kept() {
    let waiting = |seconds, reason, retry_after: Option<i64>| DeliverySchedule {
        next: Due { at: at(seconds), reason },
        progress: after_failures(1),
        retry_after_until: retry_after.map(at),
    };
    let step = DueReason::Step { number: 1, of: 3, wait_ms: 5_000 };
    let hastened = |mut schedule: DeliverySchedule| {
        let changed = schedule.hasten(HastenedBy::Failing, at(10));
        (changed, schedule.next)
    };
    let now = Due { at: at(10), reason: DueReason::Hastened { by: HastenedBy::Failing } };
    assert_eq!(hastened(waiting(300, step, None)), (true, now));
    let retry_after = Due { at: at(50), reason: DueReason::RetryAfter { capped: false } };
    assert_eq!(hastened(waiting(300, step, Some(50))), (true, retry_after));
    assert!(!hastened(waiting(300, DueReason::QueuedAgain, None)).0, "a replay keeps its times");
    assert_eq!(hastened(waiting(9, step, None)), (false, waiting(9, step, None).next), "already due");
}

#[test]
fn a_ping_is_sent_once() {
    assert_eq!(
        decide_ping(&failed(503, Some(60))),
        AttemptDecision {
            next: AfterAttempt::Dead,
            progress: RetryProgress::default(),
            retry_after_until: None,
            hold_until: None,
        }
    );
}

#[test]
fn a_2xx_is_the_only_success() {
    for status in [200, 202, 204, 299] {
        let accepted = Attempt { outcome: Outcome::Accepted { status }, ..failed(200, None) };
        assert_eq!(next(0, &accepted, None), AfterAttempt::Delivered);
    }
}
