//! Answers without tracking: backoff, refusals, and the end of polling.

use super::*;
use crate::domain::polling::account_status::AccountSignal;

#[test]
fn a_shortage_of_this_machine_counts_for_no_label() {
    let mut life = Life::new();
    life.answer(r#"{"status_code":"IT","events":[]}"#, 0);
    let before = life.label.poll_state.clone();
    let shortage = Reading::Shortage { detail: "no file descriptor is left".to_owned() };
    let plan = life.read(&shortage, at(3));
    let after = &plan.poll_state;
    assert_eq!(after.next_poll_at, Some(at(3) + SignedDuration::from_secs(5)));
    assert_eq!(
        (after.failures, after.refusals, after.failing_since),
        (before.failures, before.refusals, before.failing_since)
    );
    assert_eq!((shortage.signal(), plan.messages.len()), (AccountSignal::Shortage, 0));
}

#[test]
fn five_refusals_over_three_days_end_polling() {
    let mut life = Life::new();
    let waits: Vec<i64> = [0, 1, 7, 31, 55]
        .into_iter()
        .map(|hours| {
            life.refusal(hours).poll_state.next_poll_at.unwrap().duration_since(at(hours)).as_hours()
        })
        .collect();
    assert_eq!(waits, [1, 6, 24, 24, 24]);
    let gone = life.refusal(79);
    assert_eq!((kinds(&gone), gone.poll_state.state), (vec!["unavailable"], LabelState::Unavailable));
    let asked = life.refusal(80);
    assert_eq!(
        (kinds(&asked), asked.poll_state.next_poll_at),
        (vec![], None),
        "requested by hand: reported once"
    );
    assert_eq!(gone.deliveries.len(), 1, "no poll's summary, so nothing in the native form");
}

#[test]
fn a_good_answer_resets_the_failures() {
    let mut life = Life::new();
    life.refusal(0);
    life.read(&Reading::TimedOut, at(1));
    assert_eq!((life.label.poll_state.refusals, life.label.poll_state.failures), (1, 1));
    life.answer(&tracking("NY", "", "null", &[]), 2);
    assert_eq!((life.label.poll_state.refusals, life.label.poll_state.failures), (0, 0));
}

#[test]
fn failures_back_off_from_a_minute_to_an_hour() {
    let mut life = Life::new();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let plan = life.read(&Reading::ServerError { status: 503 }, at(0));
        waits.push(plan.poll_state.next_poll_at.unwrap().duration_since(at(0)));
    }
    let minutes: Vec<i64> = waits.iter().map(SignedDuration::as_mins).collect();
    assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn an_answer_about_the_account_leaves_the_label_unchanged() {
    let mut life = Life::new();
    let before = life.label.poll_state.clone();
    let throttled = Reading::Throttled { retry_after: None };
    assert_eq!(life.read(&throttled, at(1)).poll_state, before);
    let refused = Reading::Unauthorized { status: 401, detail: String::new() };
    let waits: Vec<i64> = (0..3)
        .map(|_| life.read(&refused, at(1)).poll_state.next_poll_at.unwrap().duration_since(at(1)).as_mins())
        .collect();
    assert_eq!(waits, [1, 2, 4], "it goes behind the others");
    assert_eq!(life.label.poll_state.refusals, 0);
    assert_eq!(throttled.signal(), AccountSignal::Throttled { wait: Duration::from_secs(60) });
}
