//! One example per trap of event identity; the traps of time are in [`super::shifts`].

use super::*;

const QUIET: (usize, usize, usize) = (0, 0, 0);

#[test]
fn p1_an_enriched_event_is_the_same_event_revised() {
    let delivered = event("2026-03-05T21:10:43", "DL", "").with("country_code", "");
    let mut history = History::of(std::slice::from_ref(&delivered));
    let id = history.known[0].event_id;

    let enriched = delivered
        .with("city_locality", "Boulder")
        .with("country_code", "US")
        .with("signer", "J MOSS")
        .with("proof_of_delivery_url", "https://carrier.example/pod/1");
    let matching = history.poll(&[enriched]);

    assert_eq!(counts(&matching), (0, 1, 0));
    assert_eq!(
        matching.revised[0].changed,
        ["city_locality", "country_code", "proof_of_delivery_url", "signer"]
    );
    assert_eq!(matching.revised[0].revision, 2);
    assert_eq!((history.known[0].event_id, history.known[0].revision), (id, 2));
    assert!(history.known[0].raw.contains("J MOSS"));
}

#[test]
fn p2_the_raw_event_is_recorded() {
    let raw = r#"{ "occurred_at" : "2026-03-05T21:10:43.000Z", "description":" <b>DELIVERED</b>  &amp; signed", "x": 1.0 }"#;
    let mut history = History::default();
    history.poll_events(&[read(raw)]);
    assert_eq!(&*history.known[0].raw, raw);

    let respelled =
        r#"{"x":1,"description":"Delivered &amp; Signed","occurred_at":"2026-03-05T21:10:43Z","signer":""}"#;
    let matching = history.poll_events(&[read(respelled)]);
    assert!(matching.is_quiet());
    assert_eq!((&*history.known[0].raw, history.known[0].revision), (raw, 1), "as announced");
    assert_eq!(history.known[0].fingerprints.len(), 1);
}

#[test]
fn p3_true_twins_are_two_events() {
    let scan = event("2026-04-08T05:02:00", "YP", "Savannah");
    let mut history = History::default();
    let matching = history.poll(&[scan.clone(), scan.clone()]);
    assert_eq!(counts(&matching), (2, 0, 0));
    assert_ne!(matching.added[0].record.event_id, matching.added[1].record.event_id);

    assert!(history.poll(&[scan.clone(), scan.clone()]).is_quiet());
    let matching = history.poll(&[scan.clone(), scan.clone(), scan.clone()]);
    assert_eq!(counts(&matching), (1, 0, 0));
    assert_eq!(history.known.len(), 3);
}

#[test]
fn p3_one_event_of_three_twins_is_enriched() {
    let scan = event("2026-04-08T05:02:00", "YP", "Savannah");
    let mut history = History::of(&[scan.clone(), scan.clone(), scan.clone()]);
    let matching = history.poll(&[scan.clone(), scan.clone().with("signer", "A"), scan]);
    assert_eq!(counts(&matching), (0, 1, 0));
}

#[test]
fn p3_another_order_announces_nothing() {
    let list = [
        event("2026-04-08T05:02:00", "YP", "Savannah"),
        event("2026-04-08T05:02:00", "YP", "Macon"),
        event("2026-04-08T05:02:00", "AR", "Savannah"),
    ];
    let mut history = History::of(&list);
    assert!(history.poll(&[list[2].clone(), list[0].clone(), list[1].clone()]).is_quiet());
}

#[test]
fn p5_an_event_missing_twice_is_retracted_and_returns_under_its_id() {
    let (first, second) =
        (event("2026-03-03T01:17:00", "AR", "Madison"), event("2026-03-04T09:52:00", "DP", "Denver"));
    let mut history = History::of(&[second.clone(), first.clone()]);
    let id = history.known.iter().find(|event| event.raw.contains("Denver")).map(|event| event.event_id);

    let matching = history.poll(std::slice::from_ref(&first));
    assert_eq!((counts(&matching), matching.missing.len()), (QUIET, 1));
    let matching = history.poll(std::slice::from_ref(&first));
    assert_eq!(counts(&matching), (0, 0, 1));
    let matching = history.poll(std::slice::from_ref(&first));
    assert_eq!((counts(&matching), matching.updates.len()), (QUIET, 0));

    let matching = history.poll(&[second, first]);
    assert_eq!(counts(&matching), (1, 0, 0));
    let back = &matching.added[0];
    assert_eq!((Some(back.record.event_id), back.returned.is_some(), back.record.revision), (id, true, 1));
    assert_eq!(history.known.len(), 2);
    assert!(history.known.iter().all(|event| !event.retracted && event.missing_polls == 0));
}

#[test]
fn p5_an_event_missing_once_announces_nothing() {
    let (first, second) =
        (event("2026-03-03T01:17:00", "AR", "Madison"), event("2026-03-04T09:52:00", "DP", "Denver"));
    let mut history = History::of(&[second.clone(), first.clone()]);
    history.poll(std::slice::from_ref(&first));
    let matching = history.poll(&[second, first.clone()]);
    assert_eq!(counts(&matching), QUIET);
    assert!(history.known.iter().all(|event| event.missing_polls == 0));
    // The count restarts.
    let matching = history.poll(std::slice::from_ref(&first));
    assert_eq!((counts(&matching), matching.missing.len()), (QUIET, 1));
}

#[test]
fn p5_an_empty_list_after_a_full_one_is_an_anomaly() {
    let scan = event("2026-03-03T01:17:00", "AR", "Madison");
    let mut history = History::of(std::slice::from_ref(&scan));
    for _ in 0..3 {
        let matching = history.poll(&[]);
        assert!(matching.empty_after_full && matching.is_quiet() && matching.updates.is_empty());
    }
    assert!(history.poll(&[scan]).is_quiet());
    assert!(!History::default().poll(&[]).empty_after_full);
}

#[test]
fn p6_a_backfilled_event_is_added_late() {
    let (older, newer) =
        (event("2026-03-03T01:17:00", "AR", "Madison"), event("2026-03-04T09:52:00", "AR", "Denver"));
    let newest = event("2026-03-05T12:03:00", "AR", "Boulder");
    let mut history = History::of(std::slice::from_ref(&newer));
    let matching = history.poll(&[newest, newer, older]);
    let added: Vec<_> = matching.added.iter().map(|added| (added.new, added.record.late)).collect();
    assert_eq!(added, [(2, true), (0, false)], "oldest first");
    assert!(
        History::default()
            .poll(&[event("2026-03-03T01:17:00", "AR", "Madison")])
            .added
            .iter()
            .all(|a| !a.record.late)
    );
}

#[test]
fn p7_and_p8_status_does_not_identify_an_event() {
    let scan = event("2026-03-05T21:10:00", "DL", "Boulder").with("status_code", "DE");
    let mut history = History::of(std::slice::from_ref(&scan));
    let matching =
        history.poll(&[scan.with("status_code", "EX").with("status_detail_code", "RETURN_TO_SENDER")]);
    assert_eq!(counts(&matching), (0, 1, 0));
}

#[test]
fn p9_event_codes_and_status_codes_are_not_mixed() {
    // FedEx's event code DE is a delivery exception, not the status DE.
    let exception = event("2026-03-05T21:10:00", "DE", "Boulder").with("status_code", "EX");
    let delivered = event("2026-03-05T21:10:00", "DL", "Boulder").with("status_code", "DE");
    let mut history = History::of(std::slice::from_ref(&exception));
    let matching = history.poll(&[delivered, exception]);
    assert_eq!(counts(&matching), (1, 0, 0));
}

#[test]
fn p9_a_changed_code_is_a_revision_if_unambiguous() {
    let scan = event("2026-03-05T21:10:00", "AF", "Boulder");
    let history = History::of(std::slice::from_ref(&scan));
    let recoded = scan.clone().with("event_code", "AR");
    assert_eq!(counts(&history.clone().poll(std::slice::from_ref(&recoded))), (0, 1, 0));
    let other = scan.clone().with("event_code", "DP");
    assert_eq!(counts(&history.clone().poll(&[recoded, other])), (2, 0, 0));
    // Without an event code, the detail code is used.
    let mut history = History::of(&[scan.clone().without("event_code").with("carrier_detail_code", "OT")]);
    let seen = scan.without("event_code").with("carrier_detail_code", "OT").with("signer", "A");
    assert_eq!(counts(&history.poll(&[seen])), (0, 1, 0));
}

#[test]
fn p10_text_does_not_identify_an_event() {
    let scan = event("2026-05-12T14:15:00", "10", "Charlotte Nc Distribution Center");
    let mut history = History::of(std::slice::from_ref(&scan));
    let shouted = scan.clone().with("city_locality", "  CHARLOTTE NC\u{a0}DISTRIBUTION  CENTER ");
    assert!(history.poll(&[shouted.with("description", "<i>10</i> SCAN")]).is_quiet());

    let truncated = scan.clone().with("city_locality", "CHARLOTTE NC DISTRIBUTION CENTE");
    let matching = history.poll(std::slice::from_ref(&truncated));
    assert_eq!(counts(&matching), (0, 1, 0));
    let elsewhere = scan.with("city_locality", "Gastonia");
    let matching = history.poll(&[elsewhere, truncated]);
    assert_eq!(counts(&matching), (1, 0, 0));
}

#[test]
fn p11_equal_events_of_other_labels_have_other_ids() {
    let answer = [event("2026-03-03T01:17:00", "AR", "Madison").parse()];
    let of = |account: &str, id: &str| {
        let key = LabelKey { account: AccountName::new(account), id: id.parse().expect("a label id") };
        match_events(&key, &[], &answer).added[0].record.event_id
    };
    assert_eq!(of("main", "se-1"), of("main", "se-1"));
    assert_ne!(of("main", "se-1"), of("main", "se-2"));
    assert_ne!(of("main", "se-1"), of("other", "se-1"));
}

#[test]
fn p12_flapping_is_announced_once() {
    let a = event("2026-03-03T01:17:00", "AR", "Madison");
    let b = a.clone().with("description", "Arrived");
    let mut history = History::of(std::slice::from_ref(&a));
    assert_eq!(counts(&history.poll(std::slice::from_ref(&b))), (0, 1, 0), "new fingerprint");
    assert_eq!(counts(&history.poll(std::slice::from_ref(&a))), (0, 1, 0), "first return");
    for (flap, flapped) in [(&b, 1), (&a, 0), (&b, 1), (&b, 1), (&a, 0), (&b, 1)] {
        let matching = history.poll(std::slice::from_ref(flap));
        assert_eq!((counts(&matching), matching.flapped.len(), matching.updates.len()), (QUIET, flapped, 0));
    }
    assert_eq!((history.known[0].revision, &history.known[0].raw), (3, &a.parse().raw), "as announced");
    let c = b.with("signer", "J MOSS");
    let matching = history.poll(&[c]);
    assert_eq!(counts(&matching), (0, 1, 0), "new content");
    assert_eq!(matching.revised[0].changed, ["description", "signer"], "differs from the announced one");
    assert_eq!(history.known[0].revision, 4);
}

#[test]
fn p13_all_spellings_have_one_fingerprint() {
    let list = [
        r#"{"occurred_at":"2026-03-03T01:17:00Z","event_code":"AR","postal_code":53703,"latitude":43.0,"signer":null}"#,
        r#"{"latitude":43,"signer":"","event_code":"AR","postal_code":"53703","occurred_at":"2026-03-03T01:17:00.000Z"}"#,
        r#"{"event_code":"ar","occurred_at":"2026-03-03T01:17:00+00:00","latitude":"43.00","postal_code":53703.0}"#,
    ];
    let mut history = History::default();
    assert_eq!(counts(&history.poll_events(&[read(list[0])])), (1, 0, 0));
    for respelled in &list[1..] {
        assert!(history.poll_events(&[read(respelled)]).is_quiet(), "{respelled}");
    }
}
