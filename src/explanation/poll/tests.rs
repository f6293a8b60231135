use std::time::Duration;

use serde_json::value::RawValue;

use jiff::Timestamp;

use super::*;
use crate::domain::polling::account_status::AccountState;
use crate::domain::polling::adaptive_limit::AdaptiveLimit;
use crate::domain::polling::label_record::PollState;
use crate::domain::polling::outlook::AccountLimits;
use crate::domain::polling::reason::{CadenceReason, PollReason};
use crate::store::views::labels::{LabelDetail, LabelView};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn label(state: &str) -> LabelView {
    LabelView {
        label_id: "se-1".to_owned(),
        account: "main".to_owned(),
        state: state.to_owned(),
        status_code: Some("IT".to_owned()),
        tracking_number: None,
        registered_at: at("2026-11-20T00:00:00Z"),
        last_polled_at: Some(at("2026-11-22T09:00:00Z")),
        last_changed_at: Some(at("2026-11-22T05:00:00Z")),
        next_poll_at: Some(at("2026-11-22T13:00:00Z")),
        pace: Some(Duration::from_secs(4 * 3600)),
        unchanged: 1,
        failures: 0,
        metadata: RawValue::NULL.to_owned(),
        source: "config".to_owned(),
    }
}

fn polled() -> PollState {
    PollState {
        first_answer_at: Some(at("2026-11-20T00:01:00Z")),
        reason: Some(PollReason::Cadence(CadenceReason {
            row: "IT".into(),
            interval_ms: 4 * 3_600_000,
            table_ms: 4 * 3_600_000,
            unchanged: 1,
            slowed_ms: None,
            opens: None,
            learned: None,
            first: false,
            last: false,
            alert: false,
        })),
        ..PollState::new(at("2026-11-20T00:00:00Z"))
    }
}

fn lines(label: LabelView, poll_state: PollState, account: AccountState) -> Vec<String> {
    lines_of(label, poll_state, account, 0, 1.5)
}

fn lines_of(
    label: LabelView,
    poll_state: PollState,
    account: AccountState,
    used_this_month: u64,
    demand: f64,
) -> Vec<String> {
    let now = at("2026-11-22T10:00:00Z");
    let requests_per_month = if used_this_month > 0 { 1_000 } else { 0 };
    let limits = AccountLimits { requests_per_minute: 160, requests_per_month };
    let limit = AdaptiveLimit::default();
    let outlook = Outlook::new(limits, demand / 60.0, &limit, used_this_month, &account, now);
    let expected = label.next_poll_at.map(|due_at| outlook.expected_at(due_at, label.pace));
    let detail = LabelDetail { poll_state, registered_by: Vec::new(), recent_polls: Vec::new() };
    let outlook = Some(outlook);
    reasons(&Recorded { label, detail, account, outlook, first_polls: 0, held_until: None, expected }, now)
}

#[test]
fn a_stretched_quota_is_explained_with_its_factor() {
    let account = AccountState::new(at("2026-11-20T00:00:00Z"));
    let stretched = lines_of(label("active"), polled(), account.clone(), 0, 240.0);
    assert_eq!(
        stretched[2..],
        [
            "the labels of account main need 240.00 requests a minute of 160 allowed: all intervals are \
             stretched by 1.50",
            "planned for 2026-11-22T13:00:00.000Z; expected later, for the reasons above",
        ]
    );
    let used_up = lines_of(label("active"), polled(), account.clone(), 1_000, 1.5);
    assert_eq!(
        used_up[2],
        "account main has used up its 1000 requests of this month: no requests until 2026-12-01T00:00:00.000Z"
    );
}

#[test]
fn row_step_and_quota() {
    let account = AccountState::new(at("2026-11-20T00:00:00Z"));
    assert_eq!(
        lines(label("active"), polled(), account.clone()),
        [
            "status IT, quiet for 5h: next poll after 4h (±8 %)",
            "row IT of the cadence: 4h after one unchanged poll",
            "the labels of account main need 1.50 requests a minute of 160 allowed",
        ]
    );
}

#[test]
fn a_label_without_polls_has_one_sentence() {
    let account = AccountState::new(at("2026-11-20T00:00:00Z"));
    for (state, beginning) in [
        ("removed", "removed: "),
        ("expired", "expired: "),
        ("finished", "finished with"),
        ("unavailable", "unavailable: "),
    ] {
        let label = LabelView { next_poll_at: None, ..label(state) };
        // An unavailable label keeps its refusals.
        let refused = PollState { refusals: 5, refused_since: Some(at("2026-11-18T09:00:00Z")), ..polled() };
        let lines = lines(label, refused, account.clone());
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with(beginning), "{lines:?}");
    }
}

#[test]
fn failures_of_the_label_and_of_the_account() {
    let account = AccountState {
        status: AccountStatus::Unauthorized,
        probe_at: Some(at("2026-11-22T10:01:00Z")),
        throttled_until: Some(at("2026-11-22T10:00:30Z")),
        ..AccountState::new(at("2026-11-22T09:00:00Z"))
    };
    let failing = PollState {
        failures: 3,
        failing_since: Some(at("2026-11-22T09:00:00Z")),
        reason: Some(PollReason::Failed { failures: 3, interval_ms: 240_000 }),
        ..polled()
    };
    // A failure does not end the refusals before it.
    let refused =
        PollState { refusals: 2, refused_since: Some(at("2026-11-22T08:00:00Z")), ..failing.clone() };
    assert!(lines(label("active"), refused, account.clone())[0].starts_with("failed 3 times in a row"));
    let lines = lines(label("active"), failing, account);
    assert!(lines[0].starts_with("failed 3 times in a row since 2026-11-22T09:00:00Z"), "{lines:?}");
    assert!(lines[1].starts_with("account main is unauthorized since 2026-11-22T09:00:00Z"), "{lines:?}");
    assert!(lines[2].ends_with("waits until 2026-11-22T10:00:30Z"), "{lines:?}");
}
