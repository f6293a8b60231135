//! Fingerprints: which content is equal, and how many are kept.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::canonical::Canonical;
use super::super::known_event::MAX_FINGERPRINTS;
use super::super::{Fingerprint, oldest_first};
use super::*;

fn fingerprint(raw: &str) -> Fingerprint {
    Fingerprint::of(raw)
}

#[test]
fn a_fingerprint_never_changes() {
    // Event ids derive from fingerprints. If this fails, ids change, and events are announced again after a restore.
    let raw = r#"{"occurred_at":"2026-03-03T01:17:00Z","event_code":"AR","city_locality":"Z&uuml;rich <b>HB</b>","latitude":47.0,"x":{"b":[1,null],"a":""}}"#;
    assert_eq!(format!("{:?}", fingerprint(raw)), "Fingerprint(01d1bbc0cee8192b5c2314ff782d7880)");
}

#[test]
fn different_content_has_different_fingerprints() {
    let unlike = [
        r#"{}"#,
        r#"{"a":"1"}"#,
        r#"{"a":"01"}"#,
        r#"{"a":"1.5"}"#,
        r#"{"a":"-1"}"#,
        r#"{"b":"1"}"#,
        r#"{"a":"1","b":"1"}"#,
        r#"{"a":["1"]}"#,
        r#"{"a":["","1"]}"#,
        r#"{"a":{"1":"1"}}"#,
        r#"{"a":"true"}"#,
        r#"{"occurred_at":"2026-03-03T01:17:00Z"}"#,
        r#"{"occurred_at":"2026-03-03T01:17:01Z"}"#,
        r#"{"carrier_occurred_at":"2026-03-03T01:17:00Z"}"#,
        "no object",
    ];
    for (i, one) in unlike.iter().enumerate() {
        for other in &unlike[i + 1..] {
            assert_ne!(fingerprint(one), fingerprint(other), "{one} {other}");
        }
    }
}

#[test]
fn equal_content_has_equal_fingerprints() {
    for (one, other) in [
        (r#"{}"#, r#"{"a":null,"b":"","c":[],"d":{},"e":[null],"f":" <br> "}"#),
        (r#"{"a":1}"#, r#"{"a":1.0}"#),
        (r#"{"a":1}"#, r#"{"a":"1.0"}"#),
        (r#"{"a":0}"#, r#"{"a":-0.0}"#),
        (r#"{"a":1e2}"#, r#"{"a":100}"#),
        (r#"{"a":-80.2500}"#, r#"{"a":"-80.25"}"#),
        (r#"{"a":true}"#, r#"{"a":"TRUE"}"#),
        (r#"{"a":{"x":1,"y":null}}"#, r#"{"a":{"x":"1"}}"#),
        (r#"{"occurred_at":"8/4/2021"}"#, r#"{"occurred_at":"2021-08-04T00:00:00-07:00"}"#),
        (r#"{"occurred_at":"SOON"}"#, r#"{"occurred_at":" soon"}"#),
    ] {
        assert_eq!(fingerprint(one), fingerprint(other), "{one} {other}");
    }
}

#[test]
fn fingerprints_are_packed_and_unpacked() {
    let fingerprints = [fingerprint("{}"), fingerprint(r#"{"a":1}"#)];
    assert_eq!(Fingerprint::unpack(&Fingerprint::pack(&fingerprints)).as_deref(), Some(&fingerprints[..]));
    assert_eq!(Fingerprint::unpack(&[]), Some(Vec::new()));
    assert_eq!(Fingerprint::unpack(&[0; 17]), None);
}

#[test]
fn kept_fingerprints_are_bounded_and_include_the_first() {
    let draft = event("2026-03-03T01:17:00", "AR", "Madison");
    let mut history = History::of(std::slice::from_ref(&draft));
    let first = history.known[0].fingerprints[0];
    for turn in 0..100 {
        let next = draft.clone().with("description", format!("turn {turn}"));
        assert_eq!(counts(&history.poll(&[next])), (0, 1, 0));
    }
    let known = &history.known[0];
    assert_eq!(
        (known.fingerprints[0], known.fingerprints.len(), known.revision),
        (first, MAX_FINGERPRINTS + 1, 101)
    );
    assert_eq!(known.fingerprint(), Some(fingerprint(&known.raw)));
}

#[test]
fn fingerprints_stored_by_another_version_announce_nothing() {
    let list = [event("2026-03-04T09:52:00", "AR", "Denver"), event("2026-03-03T01:17:00", "AR", "Madison")];
    let mut history = History::of(&list);
    for known in &mut history.known {
        known.fingerprints = vec![fingerprint("another way of folding")];
    }
    let respelled = list.map(|draft| draft.with("signer", ""));
    assert!(history.poll(&respelled).is_quiet());
}

#[test]
fn oldest_first_sorts_by_local_time_then_by_list_order() {
    let at =
        |time: &str| event("2026-03-03T01:17:00", "AR", "Madison").with("carrier_occurred_at", time).parse();
    let garbage = || {
        let draft = event("2026-03-03T01:17:00", "AR", "Madison").with("occurred_at", "soon");
        draft.with("carrier_occurred_at", "later").parse()
    };
    let list = [
        at("2026-03-04T10:00:00Z"),
        garbage(),
        at("2026-03-04T09:00:00-07:00"),
        at("2026-03-04T09:00:00"),
        at("3/5/2026"),
        garbage(),
    ];
    assert_eq!(oldest_first(&list), [5, 3, 2, 1, 0, 4]);
}

const NAMES: [&str; 6] = [r#""a""#, r#""b""#, r#""occurred_at""#, r#""event_code""#, r#""\u0061""#, r#""é""#];

/// A JSON object in any spelling. The few names make layouts repeat and names occur twice.
fn an_object() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        4 => select(&["null", "\"\"", "\"x\"", "\"X \"", "1", "1.50", "true", "\"2026-03-03T01:17:00Z\""][..])
            .prop_map(str::to_owned),
        2 => r#""[ -!#-\[\]-~é&<>.0-9-]{0,8}""#,
        1 => r#""-?[0-9.]{0,6}""#,
        1 => "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,4})?([eE][+-]?[0-9])?",
        1 => select(&[r#""a\nb""#, r#""\"""#, r#""\\""#, r#""\u0041b""#, r#"[1,null,"A"]"#, "[]", r#"{"x":{"y":"}"}}"#,
            r#""8/4/2021""#, r#""2026-03-03 01:17""#, r#""2026-03-03T01:17:60""#, "false"][..]).prop_map(str::to_owned),
    ];
    let space = select(&["", "", "", "", " ", "\n\t"][..]);
    let field = (0..5_u8, select(&NAMES[..]), space.clone(), value, space.clone());
    (vec(field, 0..5), any::<bool>(), space).prop_map(move |(mut fields, tidy, space)| {
        if tidy {
            fields.sort_by_key(|(_, name, ..)| *name);
            fields.dedup_by_key(|(_, name, ..)| *name);
        }
        let fields = fields
            .iter()
            .map(|(_, name, before, value, after)| format!("{before}{name}{after}:{before}{value}{after}"));
        format!("{{{space}{}}}", fields.collect::<Vec<_>>().join(","))
    })
}

proptest! {
    #[test]
    fn both_parsers_give_the_same_fingerprint(objects in vec(an_object(), 1..8)) {
        for raw in &objects {
            prop_assert!(serde_json::from_str::<Value>(raw).is_ok(), "{}", raw);
            let parsed = Canonical::without_layout(raw).fingerprint();
            prop_assert_eq!(Canonical::of(raw).fingerprint(), parsed, "{}", raw);
            prop_assert_eq!(Fingerprint::of(raw), parsed, "{}", raw);
        }
    }
}
