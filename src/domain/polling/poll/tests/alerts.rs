//! Alerts and expiry.

use super::*;

#[test]
fn a_label_without_changes_expires() {
    let mut life = Life::new();
    life.answer(&tracking("NY", "", "null", &[]), 0);
    let over = life.read(&Reading::SameBytes, at(24 * 60));
    assert_eq!((kinds(&over), over.poll_state.state), (vec!["expired"], LabelState::Expired));
    let asked = life.read(&Reading::SameBytes, at(24 * 61));
    assert_eq!(
        (kinds(&asked), asked.poll_state.state),
        (vec![], LabelState::Expired),
        "asked by hand: one look"
    );
    let moved = life.answer(&tracking("AC", "", "null", &[scan(8, "OA", "AC", "PICKED_UP")]), 24 * 62);
    assert_eq!(moved.poll_state.state, LabelState::Active);
}

#[test]
fn an_alert_comes_once_per_episode() {
    let alerts = AlertSettings { stalled_after: [(StatusCode::InTransit, 3)].into(), late_after: 1 };
    let mut life = Life { alerts, ..Life::new() };
    // Sunday, 2026-11-01; registered long before, so that the scans' times are plausible.
    let hours = |text: &str| text.parse::<Timestamp>().unwrap().duration_since(at(0)).as_hours();
    let first = scan(8, "AR", "IT", "IN_TRANSIT");
    let moving = life.answer(
        &tracking("IT", "IN_TRANSIT", "\"2026-11-03\"", std::slice::from_ref(&first)),
        hours("2026-11-01T15:00:00Z"),
    );
    assert_eq!(kinds(&moving).last(), Some(&"updated"));
    let late = life.read(&Reading::SameBytes, at(hours("2026-11-04T09:00:00Z")));
    assert_eq!(kinds(&late), ["late"]);
    let stalled = life.read(&Reading::SameBytes, at(hours("2026-11-05T07:00:00Z")));
    assert_eq!(kinds(&stalled), ["stalled"]);
    assert!(stalled.deliveries.iter().all(|delivery| delivery.format == Format::Standard));
    assert_eq!(kinds(&life.read(&Reading::SameBytes, at(hours("2026-11-06T07:00:00Z")))), [""; 0]);
    let next = scan(9, "AR", "IT", "IN_TRANSIT").replace("2026-11-01T09", "2026-11-06T09");
    let moved = life.answer(
        &tracking("IT", "IN_TRANSIT", "\"2026-11-07\"", &[next, first]),
        hours("2026-11-06T20:00:00Z"),
    );
    assert_eq!(kinds(&moved), ["event.added", "estimate.changed", "updated"]);
    let again = life.read(&Reading::SameBytes, at(hours("2026-11-12T20:00:00Z")));
    assert_eq!(kinds(&again), ["stalled", "late"]);
}

#[test]
fn the_next_poll_is_brought_forward_to_the_next_alert() {
    let alerts = AlertSettings { stalled_after: BTreeMap::new(), late_after: 1 };
    let mut life = Life { alerts, ..Life::new() };
    let now: Timestamp = "2026-11-04T05:30:00Z".parse().unwrap();
    let plan = life.read(&answer(&tracking("IT", "", "\"2026-11-03\"", &[scan(8, "AR", "IT", "")])), now);
    // 00:00 at UTC-6, and the label's own share of the two hours after.
    let midnight: Timestamp = "2026-11-04T06:00:00Z".parse().unwrap();
    let after = plan.poll_state.next_poll_at.unwrap().duration_since(midnight);
    assert!(after.is_positive() && after < SignedDuration::from_hours(2), "{after}");
}
