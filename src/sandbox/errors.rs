//! ShipStation's errors in its format: `{"request_id", "errors": [{…}]}`.
//!
//! Where the real answer is not known (malformed, unknown and voided labels) the vendor's own codes are used.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::answer::Answer;

#[derive(Serialize)]
struct ErrorBody<'a> {
    request_id: &'a str,
    errors: [ErrorItem<'a>; 1],
}

#[derive(Serialize)]
struct ErrorItem<'a> {
    error_source: &'static str,
    error_type: &'static str,
    error_code: &'static str,
    message: &'a str,
    #[serde(flatten)]
    fields: BTreeMap<&'static str, &'a str>,
}

fn answer(
    request_id: &str,
    status: u16,
    (error_type, error_code): (&'static str, &'static str),
    message: &str,
    fields: &[(&'static str, &str)],
) -> Answer {
    let fields = fields.iter().copied().collect();
    let item = ErrorItem { error_source: "shipengine", error_type, error_code, message, fields };
    let body = ErrorBody { request_id, errors: [item] };
    Answer::json(status, serde_json::to_vec(&body).expect("an error body is plain strings"))
}

pub(super) fn unauthorized(request_id: &str) -> Answer {
    let message = "The API key is invalid. Please see https://www.shipengine.com/docs/auth";
    answer(request_id, 401, ("security", "unauthorized"), message, &[])
}

/// As in the vendor's answer, the fields are mixed up: the method is in `message`, the path in `method`.
pub(super) fn no_such_endpoint(request_id: &str, method: &str, path: &str) -> Answer {
    let sentence = format!("{method} {path} is not a valid API endpoint.");
    answer(request_id, 404, ("security", "not_found"), method, &[("method", path), ("path", &sentence)])
}

pub(super) fn malformed_label(request_id: &str, id: &str) -> Answer {
    let message = format!("\"{id}\" is not a valid label_id.");
    let fields = [("field_name", "label_id"), ("field_value", id)];
    answer(request_id, 400, ("validation", "invalid_identifier"), &message, &fields)
}

pub(super) fn invalid_field(request_id: &str, name: &str, value: &str) -> Answer {
    let message = format!("Invalid {name}. \"{value}\" is not a valid value.");
    let fields = [("field_name", name), ("field_value", value)];
    answer(request_id, 400, ("validation", "invalid_field_value"), &message, &fields)
}

pub(super) fn unknown_label(request_id: &str, id: &str) -> Answer {
    let message = format!("Label {id} was not found.");
    answer(request_id, 404, ("validation", "not_found"), &message, &[])
}

pub(super) fn untrackable(request_id: &str, id: &str) -> Answer {
    let message = format!("Label {id} cannot be tracked.");
    answer(request_id, 400, ("business_rules", "tracking_not_supported"), &message, &[])
}

pub(super) fn rate_limited(request_id: &str, wait: Duration) -> Answer {
    let message = "You have exceeded the rate limit. Please see https://www.shipengine.com/docs/rate-limits";
    answer(request_id, 429, ("system", "rate_limit_exceeded"), message, &[])
        .header("retry-after", &whole_seconds(wait).to_string())
}

/// A requested fault. As with the real API, a 500 has an empty text.
pub(super) fn fault(request_id: &str, status: u16) -> Answer {
    match status {
        401 => unauthorized(request_id),
        429 => rate_limited(request_id, Duration::from_secs(1)),
        500.. => Answer::status(status).header("content-type", "text/plain"),
        _ => answer(request_id, status, ("system", "unspecified"), "An unspecified error occurred.", &[]),
    }
}

/// `Retry-After` in whole seconds, rounded up.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    fn text(answer: &Answer) -> &str {
        std::str::from_utf8(&answer.body).unwrap()
    }

    #[test]
    fn the_error_for_an_unknown_endpoint_names_it() {
        let answer = no_such_endpoint("r-1", "GET", "/v3/labels");
        assert_eq!(answer.status, 404);
        assert_eq!(
            text(&answer),
            r#"{"request_id":"r-1","errors":[{"error_source":"shipengine","error_type":"security","error_code":"not_found","message":"GET","method":"/v3/labels","path":"GET /v3/labels is not a valid API endpoint."}]}"#
        );
    }

    #[test]
    fn the_error_for_an_unknown_label_does_not_name_an_endpoint() {
        let answer = unknown_label("r-1", "se-1");
        assert_eq!(answer.status, 404);
        assert!(text(&answer).contains(r#""error_code":"not_found","message":"Label se-1 was not found.""#));
        assert!(!text(&answer).contains("endpoint"));
    }

    #[test]
    fn malformed_and_voided_labels_are_errors() {
        assert!(text(&malformed_label("r", "SE-1")).contains(r#""error_code":"invalid_identifier""#));
        assert!(text(&untrackable("r", "se-1")).contains(r#""error_code":"tracking_not_supported""#));
        assert_eq!(
            (malformed_label("r", "x").status, untrackable("r", "x").status),
            (StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST)
        );
    }

    #[test]
    fn retry_after_is_rounded_up() {
        for (wait, seconds) in [(0, "1"), (999, "1"), (1000, "1"), (1001, "2"), (59_500, "60")] {
            let answer = rate_limited("r", Duration::from_millis(wait));
            assert_eq!(answer.headers["retry-after"], seconds, "{wait} ms");
            assert_eq!(answer.status, 429);
            assert!(text(&answer).contains("rate_limit_exceeded"));
        }
    }

    #[test]
    fn a_500_is_an_empty_text() {
        let answer = fault("r", 500);
        assert!(answer.body.is_empty());
        assert_eq!(answer.headers["content-type"], "text/plain");
        assert!(text(&fault("r", 403)).contains(r#""errors":[{"#));
    }
}
