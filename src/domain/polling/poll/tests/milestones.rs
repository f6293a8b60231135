//! Milestones follow from new scans anywhere in the list, once per scan. A delivery below a newer scan counts.

use super::*;

const DAY: i64 = 24;

/// The driver's scan.
fn delivery() -> String {
    scan(10, "DL", "DE", "DELIVERED")
}

/// The vehicle's scan, with a later time.
fn vehicle() -> String {
    scan(11, "OD", "IT", "OUT_FOR_DELIVERY")
}

fn hub() -> String {
    scan(7, "AR", "IT", "IN_TRANSIT")
}

fn out(events: &[String]) -> String {
    tracking("IT", "OUT_FOR_DELIVERY", "null", events)
}

/// Returns the messages that these answers make when each is polled twice.
fn messages_of(life: &mut Life, answers: &[String]) -> Vec<(&'static str, Option<String>)> {
    let mut messages = Vec::new();
    for (hours, answer) in (0..).zip(answers) {
        for plan in [life.answer(answer, 2 * hours), life.answer(answer, 2 * hours + 1)] {
            for (kind, message) in kinds(&plan).into_iter().zip(&plan.messages) {
                let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
                messages.push((kind, body["data"]["event"]["event_code"].as_str().map(str::to_owned)));
            }
        }
    }
    messages
}

fn count(messages: &[(&str, Option<String>)], kind: &str) -> usize {
    messages.iter().filter(|(other, _)| *other == kind).count()
}

#[test]
fn a_delivery_below_a_newer_scan_is_announced_once_in_any_order_of_arrival() {
    let after = out(&[vehicle(), delivery(), hub()]);
    let before = tracking("IT", "IN_TRANSIT", "null", &[hub()]);
    for (order, answers) in [
        ("together", vec![before.clone(), after.clone()]),
        ("as the first answer", vec![after.clone()]),
        (
            "the delivery first",
            vec![before.clone(), tracking("DE", "DELIVERED", "null", &[delivery(), hub()]), after.clone()],
        ),
        (
            "the delivery first, but not as status",
            vec![before.clone(), tracking("IT", "IN_TRANSIT", "null", &[delivery(), hub()]), after.clone()],
        ),
        ("the vehicle first", vec![before, out(&[vehicle(), hub()]), after.clone()]),
    ] {
        let mut life = Life::new();
        let messages = messages_of(&mut life, &answers);
        assert_eq!(count(&messages, "delivered"), 1, "{order}: {messages:?}");
        assert!(messages.contains(&("delivered", Some("DL".to_owned()))), "{order}: {messages:?}");
        assert_eq!(count(&messages, "reopened"), 0, "{order}: {messages:?}");
        assert!(count(&messages, "out_for_delivery") <= 1, "{order}: {messages:?}");
        let now = life.label.poll_state.clone();
        let row = match &now.reason {
            Some(PollReason::Cadence(cadenced)) => cadenced.row.as_ref(),
            other => panic!("{order}: {other:?}"),
        };
        assert_eq!((now.state, row), (LabelState::Active, "IT"), "{order}");

        // Without a change for three days, the label is finished, without a message.
        let last = life.read(&Reading::SameBytes, at(9 + 2 * DAY));
        assert_eq!((kinds(&last), last.poll_state.state), (vec![], LabelState::Active), "{order}");
        let decided = life.read(&Reading::SameBytes, at(9 + 3 * DAY));
        assert_eq!((kinds(&decided), decided.poll_state.state), (vec![], LabelState::Finished), "{order}");
        assert_eq!(
            (decided.poll_state.next_poll_at, decided.poll_state.finished_at),
            (None, Some(at(9 + 3 * DAY)))
        );

        // A poll requested by hand changes nothing, and a scan of another day reopens the label.
        let same = life.answer(&after.replace("RENO", "Reno"), 14 + 3 * DAY);
        assert_eq!((kinds(&same), same.poll_state.state), (vec![], LabelState::Finished), "{order}");
        let moved = scan(9, "AR", "IT", "IN_TRANSIT").replace("-01T", "-02T");
        let moved = tracking("IT", "IN_TRANSIT", "null", &[moved, vehicle(), delivery(), hub()]);
        let reopened = life.answer(&moved, 15 + 3 * DAY);
        assert_eq!(kinds(&reopened), ["event.added", "status.changed", "reopened", "updated"], "{order}");
        assert_eq!(
            (reopened.poll_state.state, reopened.poll_state.delivered_beneath_at),
            (LabelState::Active, None)
        );
    }
}

#[test]
fn a_status_that_follows_a_delivery_scan_makes_no_second_delivered() {
    for terminal in ["DE", "SP"] {
        let delivery = scan(10, "DL", terminal, "");
        let mut life = Life::new();
        life.answer(&tracking("IT", "", "null", &[hub()]), 0);
        let beneath = life.answer(&out(&[vehicle(), delivery.clone(), hub()]), 1);
        assert!(kinds(&beneath).contains(&"delivered"), "{terminal}");
        let done = life.answer(&tracking(terminal, "DELIVERED", "null", &[vehicle(), delivery, hub()]), 2);
        assert_eq!(kinds(&done), ["status.changed", "updated"], "{terminal}");
        assert_eq!(done.poll_state.state, LabelState::Finished);
    }
}

#[test]
fn a_delivery_that_left_the_list_still_counts() {
    let mut life = Life::new();
    life.answer(&tracking("DE", "DELIVERED", "null", &[delivery()]), 0);
    let only_last = life.answer(&out(&[vehicle()]), 1);
    assert_eq!(kinds(&only_last), ["event.added", "status.changed", "updated"]);
    assert!(only_last.poll_state.delivered_beneath_at.is_some());
    let moved = scan(9, "AR", "IT", "IN_TRANSIT").replace("-01T", "-02T");
    assert!(kinds(&life.answer(&tracking("IT", "", "null", &[moved]), 2)).contains(&"reopened"));
}

#[test]
fn a_delivery_and_a_later_scan_between_two_polls_make_delivered_and_reopened() {
    let moved = scan(9, "AR", "IT", "IN_TRANSIT").replace("-01T", "-02T");
    let mut life = Life::new();
    life.answer(&tracking("IT", "", "null", &[hub()]), 0);
    let both = life.answer(&tracking("IT", "", "null", &[moved.clone(), delivery(), hub()]), 1);
    assert_eq!(kinds(&both), ["event.added", "event.added", "delivered", "reopened", "updated"]);
    assert_eq!((both.poll_state.state, both.poll_state.delivered_beneath_at), (LabelState::Active, None));
    let again = scan(12, "DL", "DE", "DELIVERED").replace("-01T", "-03T");
    let done = life.answer(&tracking("DE", "", "null", &[again, moved, delivery(), hub()]), 2);
    assert_eq!(kinds(&done), ["event.added", "status.changed", "delivered", "updated"]);
}

#[test]
fn no_scan_makes_a_milestone_twice() {
    let at_time = |time: &str| scan(9, "DE", "EX", "CARRIER_DELAYS").replace("2026-11-01T09:00:00", time);
    for (kind, status, detail, spelled) in
        [("exception", "EX", "CARRIER_DELAYS", "EX"), ("out_for_delivery", "IT", "OUT_FOR_DELIVERY", "IT")]
    {
        let scan = |time: &str, text: &str| {
            at_time(time)
                .replace("\"EX\"", &format!("\"{status}\""))
                .replace("CARRIER_DELAYS", detail)
                .replace("\"description\":\"DE\"", &format!("\"description\":\"{text}\""))
        };
        let with = |time: &str, text: &str| tracking(spelled, detail, "null", &[scan(time, text), hub()]);
        let answers = [
            tracking("IT", "IN_TRANSIT", "null", &[hub()]),
            // The scan comes before the status follows.
            tracking("IT", "IN_TRANSIT", "null", &[scan("2026-11-01T00:00:00", "DE"), hub()]),
            with("2026-11-01T00:00:00", "DE"),
            with("2026-11-01T14:32:00", "DE"),
            with("2026-11-01T14:32:00", "late"),
            // The scan disappears and returns.
            tracking("IT", "IN_TRANSIT", "null", &[hub()]),
            with("2026-11-01T14:32:00", "late"),
        ];
        let messages = messages_of(&mut Life::new(), &answers);
        assert_eq!(count(&messages, "event.added"), 3, "{messages:?}");
        assert_eq!((count(&messages, "event.retracted"), count(&messages, kind)), (1, 1), "{messages:?}");
    }
}

#[test]
fn a_scan_revised_to_an_exception_makes_the_milestone() {
    let plain = scan(9, "X1", "IT", "IN_TRANSIT");
    let bad = plain.replace("\"status_code\":\"IT\"", "\"status_code\":\"EX\"");
    let mut life = Life::new();
    life.answer(&tracking("IT", "", "null", &[plain, hub()]), 0);
    let turned = life.answer(&tracking("EX", "", "null", &[bad, hub()]), 1);
    assert_eq!(kinds(&turned), ["event.revised", "status.changed", "exception", "updated"]);
    let body: serde_json::Value = serde_json::from_str(&turned.messages[2].body).unwrap();
    assert_eq!(body["data"]["event"]["event_code"], "X1");
}
