//! Explains step by step whether a callback's signature is right, and lists probable causes if it is not.
//!
//! [`verify`] decides. If the signature does not match, the body is tried again with typical damages undone.

use super::{
    SignedHeaders, SigningSecret, TOLERANCE_SECONDS, VerifyError, check_age, parse_timestamp, verify,
};
use crate::domain::words::counted;

/// One check and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureCheck {
    pub name: &'static str,
    /// The finding, or the error.
    pub outcome: Result<String, String>,
}

/// Checks in order. Checks that depend on a failed one are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    pub checks: Vec<SignatureCheck>,
    /// Possible causes, the most likely first.
    pub causes: Vec<String>,
}

impl Inspection {
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|step| step.outcome.is_ok())
    }

    pub fn and(mut self, other: Self) -> Self {
        self.checks.extend(other.checks);
        self.causes.extend(other.causes);
        self
    }

    pub(super) fn add(&mut self, name: &'static str, outcome: Result<String, String>) {
        self.checks.push(SignatureCheck { name, outcome });
    }
}

/// Checks one callback at `now` (Unix seconds). `secret`: as configured.
pub fn inspect(secret: &str, headers: SignedHeaders<'_>, body: &[u8], now: i64) -> Inspection {
    let mut found = Inspection::default();
    let secret = check_secret(&mut found, secret);
    let present = check_headers(&mut found, headers);
    let timestamp = headers.timestamp.and_then(|stamp| check_timestamp(&mut found, stamp, now));
    let (Some(secret), true, Some(timestamp)) = (secret, present, timestamp) else {
        return found;
    };
    let signature = headers.signature.unwrap_or_default();
    // The age has its own check, so the signature is verified at the time of the timestamp.
    let check = |body: &[u8]| verify(&secret, headers, body, timestamp);
    match check(body) {
        Err(error @ (VerifyError::Malformed(_) | VerifyError::NoV1)) => {
            found.add("signature", Err(error.to_string()));
            let glued = signature.contains("v1=") || signature.matches("v1,").count() > 1;
            if glued {
                found.causes.push("tokens are v1,<base64>, separated by single spaces".to_owned());
            }
        }
        outcome => {
            let tokens = signature.split(' ').filter(|token| token.starts_with("v1,")).count();
            found.add("signature", Ok(counted(tokens as u64, "v1 token")));
            let over = format!("HMAC-SHA256 over \"{{id}}.{{timestamp}}.\" and {} bytes of body", body.len());
            match outcome {
                Ok(()) => found.add("match", Ok(over)),
                Err(error) => {
                    found.add("match", Err(format!("{error} ({over})")));
                    found.causes = causes(body, |body| check(body).is_ok());
                }
            }
        }
    }
    found
}

fn check_secret(found: &mut Inspection, text: &str) -> Option<SigningSecret> {
    match SigningSecret::parse(text) {
        Ok(secret) => {
            found.add("secret", Ok(format!("{} bytes", secret.0.expose().len())));
            Some(secret)
        }
        Err(error) => {
            if SigningSecret::parse(text.trim()).is_ok() {
                found.causes.push("the secret has white space around it".to_owned());
            }
            found.add("secret", Err(error.to_string()));
            None
        }
    }
}

fn check_headers(found: &mut Inspection, headers: SignedHeaders<'_>) -> bool {
    let named = [
        ("webhook-id", headers.id),
        ("webhook-timestamp", headers.timestamp),
        ("webhook-signature", headers.signature),
    ];
    let missing: Vec<&str> =
        named.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
    let outcome = match missing[..] {
        [] => Ok(format!("all three, id {}", headers.id.unwrap_or_default())),
        _ => Err(format!("missing: {}", missing.join(", "))),
    };
    found.add("headers", outcome);
    missing.is_empty()
}

fn check_timestamp(found: &mut Inspection, stamp: &str, now: i64) -> Option<i64> {
    let timestamp = match parse_timestamp(stamp) {
        Ok(timestamp) => timestamp,
        Err(error) => {
            found.add("timestamp", Err(error.to_string()));
            return None;
        }
    };
    found.add("timestamp", Ok(format!("{timestamp}, whole seconds")));
    match check_age(timestamp, now) {
        Ok(skew) => {
            let when = if skew > 0 { format!("{skew} s ahead") } else { format!("{} s ago", -skew) };
            found.add("age", Ok(format!("{when}; receivers allow {TOLERANCE_SECONDS} s")));
        }
        Err(error) => {
            found.add("age", Err(error.to_string()));
            found.causes.push(if timestamp > 100_000_000_000 {
                "the timestamp looks like milliseconds".to_owned()
            } else {
                "the callback is old, or a clock is wrong; --at SECONDS checks it at another time".to_owned()
            });
        }
    }
    Some(timestamp)
}

/// Returns the damage to the body, if undoing it makes the signature match; else the other possible causes.
fn causes(body: &[u8], matches: impl Fn(&[u8]) -> bool) -> Vec<String> {
    let proven = damages(body).into_iter().find(|(_, whole)| matches(whole)).map(|(damage, _)| damage);
    match proven {
        Some(damage) => vec![damage.to_owned()],
        None => [
            "the secret is not the sender's: it is an old one, or that of another subscriber",
            "the body was parsed and serialized again: pass the bytes as received",
            "the headers are of another callback, or of another attempt (each has its own timestamp)",
        ]
        .map(str::to_owned)
        .into(),
    }
}

/// Possible original bodies, each with the description of its damage.
fn damages(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut damages = Vec::new();
    if let Some(bare) = body.strip_suffix(b"\r\n").or_else(|| body.strip_suffix(b"\n")) {
        damages.push((
            "it matches without the line break at the end, which an editor or echo added",
            bare.to_vec(),
        ));
    }
    damages.push(("it matches with a line break at the end, which was cut off", [body, b"\n"].concat()));
    if body.contains(&b'\r') {
        let unix: Vec<u8> = body.iter().copied().filter(|byte| *byte != b'\r').collect();
        damages.push(("it matches with \\n for \\r\\n: the line breaks were changed on the way", unix));
    }
    if let Some(marked) = body.strip_prefix(b"\xef\xbb\xbf") {
        damages.push(("it matches without the byte order mark, which an editor added", marked.to_vec()));
    }
    damages.push((
        "it matches without the white space between the values: the body was serialized again with indentation",
        compact(body),
    ));
    damages
}

/// Removes white space outside of JSON strings.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut in_text, mut escaped) = (false, false);
    let mut compact = Vec::with_capacity(json.len());
    for &byte in json {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_text = byte == b'"';
        }
        compact.push(byte);
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::super::sign;
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"type":"a b","n":[1,2.0]}"#;
    const NOW: i64 = 1_790_000_000;

    fn signature() -> String {
        sign(&[SigningSecret::parse(SECRET).unwrap()], "msg_1", NOW, BODY)
    }

    fn look(secret: &str, stamp: &str, signature: &str, body: &[u8], now: i64) -> Inspection {
        let headers = SignedHeaders { id: Some("msg_1"), timestamp: Some(stamp), signature: Some(signature) };
        inspect(secret, headers, body, now)
    }

    fn failed(found: &Inspection) -> Vec<&'static str> {
        found.checks.iter().filter(|step| step.outcome.is_err()).map(|step| step.name).collect()
    }

    #[test]
    fn a_right_signature_passes_all_checks() {
        let found = look(SECRET, "1790000000", &signature(), BODY, NOW + 12);
        assert!(found.holds() && found.causes.is_empty(), "{found:?}");
        let names: Vec<&str> = found.checks.iter().map(|step| step.name).collect();
        assert_eq!(names, ["secret", "headers", "timestamp", "age", "signature", "match"]);
    }

    #[test]
    fn each_check_fails_by_itself() {
        for (secret, stamp, signature, failing) in [
            ("s3cret", "1790000000", signature(), "secret"),
            (SECRET, "1790000000.5", signature(), "timestamp"),
            (SECRET, "1789999000", signature(), "age"),
            (SECRET, "1790000000", "v1=abc".to_owned(), "signature"),
            (SECRET, "1790000000", "v2,AAAA".to_owned(), "signature"),
            (SECRET, "1790000001", signature(), "match"),
        ] {
            let found = look(secret, stamp, &signature, BODY, NOW);
            assert_eq!(failed(&found)[0], failing, "{found:?}");
            assert!(!found.holds());
        }
        let found = inspect(SECRET, SignedHeaders::default(), BODY, NOW);
        assert!(format!("{found:?}").contains("missing: webhook-id, webhook-timestamp, webhook-signature"));
    }

    #[test]
    fn an_old_callback_may_still_match() {
        let found = look(SECRET, "1790000000", &signature(), BODY, NOW + 1000);
        assert_eq!(failed(&found), ["age"]);
    }

    #[test]
    fn finds_the_damage_to_the_body() {
        let newline = [BODY, b"\n"].concat();
        let indented = b"{\n  \"type\": \"a b\",\n  \"n\": [\n    1,\n    2.0\n  ]\n}\n";
        for (body, expected) in [
            (&newline[..], "without the line break at the end"),
            (&indented[..], "without the white space between the values"),
            (b"{}", "the secret is not the sender's"),
        ] {
            let found = look(SECRET, "1790000000", &signature(), body, NOW);
            assert_eq!(failed(&found), ["match"]);
            assert!(found.causes[0].contains(expected), "{:?}", found.causes);
        }
    }

    #[test]
    fn white_space_in_strings_stays() {
        assert_eq!(compact(br#"{ "a \" b" : "c\\" , "d":1 }"#), br#"{"a \" b":"c\\","d":1}"#);
    }
}
