//! Event ids: their text, and that no two events share one.

use std::collections::HashSet;

use super::*;

#[test]
fn an_id_never_changes() {
    let history = History::of(&[event("2026-03-03T01:17:00", "AR", "Madison")]);
    assert_eq!(history.known[0].event_id.to_string(), "evt_6k85rk9l36fpd0b802aicq2jvo");
}

#[test]
fn ids_round_trip_as_text() {
    let history =
        History::of(&[event("2026-03-03T01:17:00", "AR", "Madison"), event("2026-03-03T01:18:00", "AR", "")]);
    for id in history.ids() {
        let text = id.to_string();
        assert_eq!(text.len(), 30);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(serde_json::to_value(id).ok(), Some(Value::String(text)));
    }
}

#[test]
fn refuses_other_texts() {
    let good = "evt_00000000000000000000000000";
    assert!(good.parse::<EventId>().is_ok());
    for text in [
        "",
        "evt_",
        "msg_00000000000000000000000000",
        "evt_0000000000000000000000000",
        "evt_000000000000000000000000000",
        "evt_0000000000000000000000000w",
        "evt_0000000000000000000000000V",
        "evt_00000000000000000000000001",
        "evt_é000000000000000000000000",
    ] {
        assert!(text.parse::<EventId>().is_err(), "{text}");
    }
}

#[test]
fn ids_sort_like_their_texts() {
    let drafts: Vec<_> =
        (10..40).map(|minute| event(&format!("2026-03-03T01:{minute}:00"), "AR", "Madison")).collect();
    let mut ids = History::of(&drafts).ids();
    ids.sort_unstable();
    assert!(ids.is_sorted_by_key(|id| id.to_string()));
}

#[test]
fn an_event_with_an_earlier_fingerprint_of_another_gets_its_own_id() {
    let a = event("2026-03-03T01:17:00", "AR", "Madison");
    let b = a.clone().with("signer", "J MOSS");
    let mut history = History::of(std::slice::from_ref(&a));
    history.poll(std::slice::from_ref(&b));
    let matching = history.poll(&[a.clone(), b.clone()]);
    assert_eq!(counts(&matching), (1, 0, 0));
    assert_eq!(history.ids().into_iter().collect::<HashSet<_>>().len(), 2);
}

#[test]
fn a_restored_database_assigns_the_same_ids() {
    let scan = event("2026-03-03T01:17:00", "AR", "Madison");
    let polls = [
        vec![scan.clone()],
        vec![scan.clone(), scan.clone()],
        vec![event("2026-03-04T09:52:00", "AR", "Denver"), scan.clone(), scan.clone(), scan.clone()],
    ];
    let mut history = History::of(&polls[0]);
    let mut restored = history.clone();
    history.poll(&polls[1]);
    history.poll(&polls[2]);
    restored.poll(&polls[2]);
    let ids = |history: &History| history.ids().into_iter().collect::<HashSet<_>>();
    assert_eq!(ids(&history), ids(&restored));
}
