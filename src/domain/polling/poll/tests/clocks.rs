//! A jump of the clock is not time that passed: it makes no alert due and expires no label (contract 9.5).

use super::*;
use crate::domain::clock::Jump;
use crate::domain::messages::MessageType;

/// The label is registered while the clock is 61 days behind; then the clock is corrected.
#[test]
fn a_jump_causes_no_alert_and_no_expiry() {
    let mut life = Life::new();
    life.alerts = AlertSettings { stalled_after: [(StatusCode::InTransit, 3)].into(), late_after: 1 };
    let body = r#"{"status_code":"IT","estimated_delivery_date":"2026-09-23","events":[]}"#;
    life.answer(body, 0);
    let days = 61;
    life.gaps.add_jump(Jump { from: at(0), to: at(days * 24) });
    for hour in [0, 3, 6] {
        let plan = life.answer(body, days * 24 + hour);
        assert!(plan.messages.is_empty(), "{:?}", plan.messages);
        assert_eq!(plan.poll_state.state, LabelState::Active);
        assert!(plan.poll_state.next_poll_at.is_some());
        assert_eq!(plan.poll_state.last_changed_at, Some(at(0)), "the stored time does not change");
    }
    // The alerts are sent once that much time has really passed.
    let mut sent = Vec::new();
    for hour in (9..=61 * 24).step_by(3) {
        sent.extend(life.answer(body, days * 24 + hour).messages.into_iter().map(|message| message.kind));
    }
    assert_eq!(sent, [MessageType::Late, MessageType::Stalled, MessageType::Expired]);
}

/// The clock is six days ahead, so a fresh scan looks old.
#[test]
fn a_scan_whose_time_lies_in_a_jump_is_not_stalled() {
    let mut life = Life::new();
    life.alerts = AlertSettings { stalled_after: [(StatusCode::InTransit, 3)].into(), late_after: 1 };
    life.answer(r#"{"status_code":"IT","events":[]}"#, 0);
    life.gaps.add_jump(Jump { from: at(0), to: at(6 * 24) });
    let scan = r#"{"occurred_at":"2026-09-21T23:30:00Z","description":"Departed"}"#;
    let body = format!(r#"{{"status_code":"IT","events":[{scan}]}}"#);
    for hours in [10, 13] {
        let kinds: Vec<MessageType> =
            life.answer(&body, 6 * 24 + hours).messages.into_iter().map(|message| message.kind).collect();
        assert!(!kinds.contains(&MessageType::Stalled), "{kinds:?}");
    }
}

#[test]
fn a_jump_makes_no_label_unavailable() {
    let mut life = Life::new();
    for hour in 0..4 {
        life.refusal(hour);
    }
    life.gaps.add_jump(Jump { from: at(4), to: at(200) });
    assert!(life.refusal(200).messages.is_empty());
    assert!(life.refusal(262).messages.is_empty());
    assert_eq!(life.refusal(270).poll_state.state, LabelState::Unavailable);
}

#[test]
fn a_stored_time_in_the_future_counts_as_now() {
    let mut life = Life::new();
    let body = r#"{"status_code":"IT","events":[]}"#;
    life.answer(body, 24 * 400);
    let plan = life.answer(body, 5);
    assert_eq!(plan.poll_state.last_changed_at, Some(at(5)));
}
