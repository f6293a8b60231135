//! No alerts ends because the clock jumped (contract 9.5).

use super::*;
use crate::domain::clock::Jump;
use crate::domain::messages::MessageType;

/// Registered by a clock that is 61 days behind, which is set right four seconds later.
#[test]
fn a_clock_that_is_set_right_ends_no_patience() {
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
        assert_eq!(plan.poll_state.last_changed_at, Some(at(0)), "it stays what it was");
    }
    // AlertSettings goes on: the alerts come when so much time has passed.
    let mut said = Vec::new();
    for hour in (9..=61 * 24).step_by(3) {
        said.extend(life.answer(body, days * 24 + hour).messages.into_iter().map(|message| message.kind));
    }
    assert_eq!(said, [MessageType::Late, MessageType::Stalled, MessageType::Expired]);
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
fn what_was_seen_by_a_clock_ahead_was_seen_now() {
    let mut life = Life::new();
    let body = r#"{"status_code":"IT","events":[]}"#;
    life.answer(body, 24 * 400);
    let plan = life.answer(body, 5);
    assert_eq!(plan.poll_state.last_changed_at, Some(at(5)));
}
