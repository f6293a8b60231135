//! Canonical forms: what is the same statement and what is not, and what is remembered of them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::canonical::Canonical;
use super::super::memory::REMEMBERED;
use super::super::{Form, Layouts, oldest_first};
use super::*;

fn form(raw: &str) -> Form {
    Form::of(raw)
}

#[test]
fn a_form_is_for_ever() {
    // Ids of events derive from forms: if this fails, ids change, and a restored database would repeat events.
    let raw = r#"{"occurred_at":"2026-03-03T01:17:00Z","event_code":"AR","city_locality":"Z&uuml;rich <b>HB</b>","latitude":47.0,"x":{"b":[1,null],"a":""}}"#;
    assert_eq!(format!("{:?}", form(raw)), "Form(01d1bbc0cee8192b5c2314ff782d7880)");
}

#[test]
fn unlike_statements_have_unlike_forms() {
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
            assert_ne!(form(one), form(other), "{one} {other}");
        }
    }
}

#[test]
fn like_statements_have_like_forms() {
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
        assert_eq!(form(one), form(other), "{one} {other}");
    }
}

#[test]
fn forms_go_into_a_column_and_come_out_again() {
    let forms = [form("{}"), form(r#"{"a":1}"#)];
    assert_eq!(Form::unpack(&Form::pack(&forms)).as_deref(), Some(&forms[..]));
    assert_eq!(Form::unpack(&[]), Some(Vec::new()));
    assert_eq!(Form::unpack(&[0; 17]), None);
}

#[test]
fn memory_is_bounded_and_keeps_the_first() {
    let draft = event("2026-03-03T01:17:00", "AR", "Madison");
    let mut history = History::of(std::slice::from_ref(&draft));
    let first = history.known[0].forms[0];
    for turn in 0..100 {
        let next = draft.clone().with("description", format!("turn {turn}"));
        assert_eq!(told(&history.poll(&[next])), (0, 1, 0));
    }
    let known = &history.known[0];
    assert_eq!((known.forms[0], known.forms.len(), known.revision), (first, REMEMBERED + 1, 101));
    assert_eq!(known.form(), Some(form(&known.raw)));
}

#[test]
fn forms_stored_by_another_version_make_no_shower() {
    let list = [event("2026-03-04T09:52:00", "AR", "Denver"), event("2026-03-03T01:17:00", "AR", "Madison")];
    let mut history = History::of(&list);
    for known in &mut history.known {
        known.forms = vec![form("another way of folding")];
    }
    let respelled = list.map(|draft| draft.with("signer", ""));
    assert!(history.poll(&respelled).is_quiet());
}

#[test]
fn oldest_first_goes_by_the_wall_and_then_by_the_list() {
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

/// A JSON object in any spelling: of few names, so that layouts repeat and names come twice.
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
    fn by_layout_or_by_a_parser_a_form_is_the_same(objects in vec(an_object(), 1..8)) {
        let layouts = Layouts::default();
        for raw in &objects {
            prop_assert!(serde_json::from_str::<Value>(raw).is_ok(), "{}", raw);
            let parsed = Canonical::without_layout(raw).form();
            prop_assert_eq!(Canonical::of(raw, &layouts).form(), parsed, "{}", raw);
            prop_assert_eq!(Form::of(raw), parsed, "{}", raw);
        }
    }
}
