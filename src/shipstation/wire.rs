//! Error bodies of the vendor: their text in one line, and whether they are about the account, the carrier or the
//! endpoint.
//!
//! The vendor advises against matching texts. Codes decide, with one exception: a wrong URL is also a 404, and only its
//! text differs from that of a missing label.

use serde::Deserialize;

use crate::domain::tracking::Text;

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorEntry {
    error_source: Text,
    error_type: Text,
    carrier_code: Text,
    error_code: Text,
    message: Text,
    path: Text,
}

/// Returns the errors of an error body; none if it is not in the vendor's format.
fn entries(body: &[u8]) -> impl Iterator<Item = ErrorEntry> {
    serde_json::from_slice(body).map(|ErrorBody { errors }| errors).unwrap_or_default().into_iter()
}

/// Maximum length of the line in characters.
const MAX_TEXT_CHARS: usize = 200;

/// Returns the text of an error body in one line. The API key, `key`, is removed first if the body repeats it.
pub fn error_text(body: &[u8], key: &str) -> String {
    let parts: Vec<String> = match entries(body).next() {
        Some(entry) => {
            [entry.error_code, entry.message, entry.path].into_iter().filter_map(Text::into_option).collect()
        }
        None => vec!["no error body in the vendor's format".to_owned()],
    };
    let line = parts.join(": ");
    let line = if key.is_empty() { line } else { line.replace(key, "(hidden)") };
    line.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect()
}

/// Returns only the code of an error body, for answers that may contain personal data.
pub fn code(body: &[u8]) -> String {
    let code = entries(body).next().and_then(|entry| entry.error_code.into_option()).unwrap_or_default();
    let is_code =
        |text: &str| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match code.as_str() {
        "" => "no error body in the vendor's format".to_owned(),
        code if is_code(code) => code.to_owned(),
        _ => "an error code in an unknown format".to_owned(),
    }
}

/// The limit that a 429 is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The account sends too many requests.
    Account,
    /// The API sends too many requests to this carrier, if named.
    Carrier(Option<String>),
}

/// Returns the limit that a 429 is about: the carrier's if that is the source of its errors.
pub fn limit_of(body: &[u8]) -> Limit {
    let is_of_carrier = |error: &ErrorEntry| {
        error.error_source.as_deref().is_some_and(|source| source.trim().eq_ignore_ascii_case("carrier"))
    };
    match entries(body).find(is_of_carrier) {
        Some(error) => Limit::Carrier(error.carrier_code.into_option()),
        None => Limit::Account,
    }
}

/// Whether a 400 or 403 is about the account (its key, subscription or plan) and not about the label.
pub fn is_about_account(body: &[u8]) -> bool {
    entries(body).any(|error| {
        let word = |text: Text| text.into_option().unwrap_or_default().trim().to_ascii_lowercase();
        let (kind, code) = (word(error.error_type), word(error.error_code));
        matches!(kind.as_str(), "account_status" | "billing")
            || (kind == "security" && code == "unauthorized")
            || BILLING_CODES.contains(&code.as_str())
            || BILLING_PREFIXES.iter().any(|prefix| code.starts_with(prefix))
    })
}

const BILLING_CODES: [&str; 4] =
    ["invalid_billing_plan", "terms_not_accepted", "insufficient_funds", "unauthorized"];
const BILLING_PREFIXES: [&str; 5] = ["subscription_", "trial_", "billing_", "payment_", "account_"];

/// Whether a 404 is about the URL and not about the label.
pub fn is_about_endpoint(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).to_ascii_lowercase().contains("not a valid api endpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_the_limit_of_a_carrier_from_that_of_the_account() {
        let ours = br#"{"errors":[{"error_source":"shipengine","error_code":"rate_limit_exceeded","carrier_code":null}]}"#;
        assert_eq!(limit_of(ours), Limit::Account);
        assert_eq!(limit_of(b""), Limit::Account);
        let ups = br#"{"errors":[{"error_source":"Carrier","error_code":"rate_limit_exceeded","carrier_code":"ups"}]}"#;
        assert_eq!(limit_of(ups), Limit::Carrier(Some("ups".to_owned())));
        assert_eq!(limit_of(br#"{"errors":[{"error_source":"carrier"}]}"#), Limit::Carrier(None));
    }

    #[test]
    fn distinguishes_errors_of_the_account_from_errors_of_a_label() {
        let body = |kind: &str, code: &str| {
            format!(r#"{{"errors":[{{"error_type":"{kind}","error_code":"{code}","message":"(text)"}}]}}"#)
        };
        for (kind, code) in [
            ("account_status", "subscription_inactive"),
            ("account_status", "unspecified"),
            ("Account_Status", ""),
            ("security", "unauthorized"),
            ("business_rules", "invalid_billing_plan"),
            ("validation", "trial_expired"),
            ("billing", "whatever"),
        ] {
            assert!(is_about_account(body(kind, code).as_bytes()), "{kind} {code}");
        }
        for (kind, code) in [
            ("security", "forbidden"),
            ("security", "not_found"),
            ("business_rules", "tracking_not_supported"),
            ("validation", "invalid_identifier"),
        ] {
            assert!(!is_about_account(body(kind, code).as_bytes()), "{kind} {code}");
        }
        assert!(!is_about_account(b"<html>unauthorized</html>"));
    }

    #[test]
    fn distinguishes_a_wrong_url_from_an_unknown_label() {
        let route = br#"{"request_id":"1","errors":[{"error_source":"shipengine","error_type":"security",
            "error_code":"not_found","message":"GET","method":"/v1/x","path":"GET /v1/x is not a valid API endpoint."}]}"#;
        assert!(is_about_endpoint(route));
        assert_eq!(error_text(route, "KEY"), "not_found: GET: GET /v1/x is not a valid API endpoint.");
        let label = br#"{"errors":[{"error_code":"not_found","message":"label not found","path":null}]}"#;
        assert!(!is_about_endpoint(label));
        assert_eq!(error_text(label, "KEY"), "not_found: label not found");
        let echo = br#"{"errors":[{"error_code":"unauthorized","message":"bad key KEY123"}]}"#;
        assert_eq!(error_text(echo, "KEY123"), "unauthorized: bad key (hidden)");
        assert_eq!(error_text(b"<html>", "KEY"), "no error body in the vendor's format");
    }

    #[test]
    fn only_a_code_is_kept_of_an_error_body() {
        let body =
            |code: &str| format!(r#"{{"errors":[{{"error_code":"{code}","message":"for Sam Sample"}}]}}"#);
        assert_eq!(code(body("invalid_field_value").as_bytes()), "invalid_field_value");
        assert_eq!(code(body("for Sam Sample").as_bytes()), "an error code in an unknown format");
        assert_eq!(code(b"Sam Sample"), "no error body in the vendor's format");
    }
}
