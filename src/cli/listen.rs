//! `trackpost listen`: a receiver for development: verifies, prints, answers.
//!
//! The standard signature decides whether a callback is accepted. Other signatures are checked where a key or secret is
//! given, and change no answer. Nothing is stored.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::args;
use super::other_signatures::OtherSignatures;
use super::output::or_dash;
use super::sandbox::no_bind;
use super::{Failure, output};
use crate::daemon::stop_signal;
use crate::domain::messages::signature::SigningSecret;
use crate::domain::messages::signature::inspect::Inspection;
use crate::sandbox::{Answer, ReceivedCallback, Receiver, ReceiverOptions, Verified};

pub async fn run(args: &args::Listen) -> Result<ExitCode, Failure> {
    let secrets = secrets(&args.secret)?;
    let checked = !secrets.is_empty();
    let checks = OtherSignatures::read(&args.other_signatures)?;
    let stopped = stop_signal()?;
    let (watch, mut callbacks) = mpsc::unbounded_channel();
    let options = ReceiverOptions {
        secrets,
        answer: Answer::status(args.status),
        keep: 1,
        watch: Some(watch),
        ..ReceiverOptions::default()
    };
    let receiver =
        Receiver::bind(args.listen, options).await.map_err(|error| no_bind(args.listen, &error))?;
    announce(&receiver, checked, args);
    let print = async {
        while let Some(callback) = callbacks.recv().await {
            output::print(&report(&callback, &checks, args.json)?);
        }
        Ok::<(), serde_json::Error>(())
    };
    tokio::select! {
        served = receiver.serve(stopped) => served?,
        printed = print => printed?,
    }
    Ok(ExitCode::SUCCESS)
}

fn secrets(texts: &[String]) -> Result<Vec<SigningSecret>, Failure> {
    let secret = |text: &String| {
        SigningSecret::parse(text).map_err(|error| {
            Failure::usage(format!("--secret: {error}"))
                .hint("create one with: echo \"whsec_$(head -c 32 /dev/urandom | base64)\"")
        })
    };
    texts.iter().map(secret).collect()
}

/// Prints the first line: the address and the URL to configure.
fn announce(receiver: &Receiver, checked: bool, args: &args::Listen) {
    let (addr, url) = (receiver.addr(), receiver.url());
    if args.json {
        output::line(serde_json::json!({ "listening": addr.to_string(), "url": url }));
    } else {
        let note = if checked { "" } else { "; no --secret, so signatures are not verified" };
        output::line(format!(
            "listening on {addr}: set url = \"{url}\" for a subscriber; every callback is answered {}{note}",
            args.status
        ));
    }
}

fn report(
    callback: &ReceivedCallback,
    checks: &OtherSignatures,
    json: bool,
) -> Result<String, serde_json::Error> {
    let other =
        checks.any().then(|| checks.inspect(|name| callback.header(name), &callback.body, callback.at));
    if json {
        let shown = ShownCallback::of(callback, other.as_ref());
        Ok(serde_json::to_string(&shown)? + "\n")
    } else {
        Ok(format!("{}{}\n", line(callback), other.as_ref().map(other_signatures).unwrap_or_default()))
    }
}

/// Returns the type of a callback: `type` in the standard form, `resource_type` in the vendor's.
fn kind(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct TypeFields {
        #[serde(rename = "type")]
        standard: Option<String>,
        resource_type: Option<String>,
    }
    let fields: TypeFields = serde_json::from_slice(body).ok()?;
    fields.standard.or(fields.resource_type)
}

fn problem(callback: &ReceivedCallback) -> Option<String> {
    match &callback.verified {
        Verified::Bad(error) => Some(error.to_string()),
        Verified::Good | Verified::Unchecked => None,
    }
}

/// Describes the checks of the signatures other than the standard one.
fn other_signatures(other: &Inspection) -> String {
    let failed = other.checks.iter().find_map(|step| Some((step.name, step.outcome.as_ref().err()?)));
    if let Some((name, error)) = failed {
        return format!("; ✗ {name}: {error}");
    }
    let mut kinds: Vec<&str> = other.checks.iter().filter_map(|step| step.name.split(' ').next()).collect();
    kinds.dedup();
    format!("; ✓ {}", kinds.join(" and "))
}

fn line(callback: &ReceivedCallback) -> String {
    let kind = kind(&callback.body).unwrap_or_else(|| "no type".to_owned());
    let label = or_dash(callback.label_id.as_deref());
    let seq = or_dash(callback.seq);
    let id = or_dash(callback.message_id.as_deref());
    let attempt = or_dash(callback.attempt);
    let verified = match problem(callback) {
        Some(problem) => format!("✗ {problem}"),
        None if callback.verified == Verified::Good => "✓ verified".to_owned(),
        None => "not checked".to_owned(),
    };
    let answered = or_dash(callback.answered);
    let (at, bytes) = (output::instant(callback.at), callback.body.len());
    format!(
        "{at}  {kind:<27} {label:<12} seq {seq:<4} {id}  attempt {attempt}  {verified}  {bytes} bytes, answered {answered}"
    )
}

/// Callback as printed by `--json`.
#[derive(Serialize)]
struct ShownCallback<'a> {
    at: String,
    path: &'a str,
    #[serde(rename = "type")]
    kind: Option<String>,
    label_id: Option<&'a str>,
    seq: Option<u64>,
    message_id: Option<&'a str>,
    attempt: Option<u32>,
    /// Null without a secret.
    verified: Option<bool>,
    problem: Option<String>,
    /// Whether all signatures other than the standard one are valid. Null without keys and secrets for them.
    other_signatures_verified: Option<bool>,
    answered: Option<u16>,
    bytes: usize,
    headers: BTreeMap<&'a str, String>,
    body: ShownBody<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownBody<'a> {
    Json(&'a RawValue),
    Text(String),
}

impl<'a> ShownCallback<'a> {
    fn of(callback: &'a ReceivedCallback, other: Option<&Inspection>) -> Self {
        let mut headers: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value) in &callback.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let all = headers.entry(name.as_str()).or_default();
            let comma = if all.is_empty() { "" } else { ", " };
            *all = format!("{all}{comma}{value}");
        }
        Self {
            at: output::instant(callback.at),
            path: &callback.path,
            kind: kind(&callback.body),
            label_id: callback.label_id.as_deref(),
            seq: callback.seq,
            message_id: callback.message_id.as_deref(),
            attempt: callback.attempt,
            verified: (callback.verified != Verified::Unchecked).then(|| callback.verified == Verified::Good),
            problem: problem(callback),
            other_signatures_verified: other.map(Inspection::holds),
            answered: callback.answered,
            bytes: callback.body.len(),
            headers,
            body: body(&callback.body),
        }
    }
}

/// Returns the body as received if it is JSON on one line, else as a string.
fn body(bytes: &[u8]) -> ShownBody<'_> {
    match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(raw) if !raw.get().contains(['\n', '\r']) => ShownBody::Json(raw),
        _ => ShownBody::Text(String::from_utf8_lossy(bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::messages::signature::inspect::SignatureCheck;

    #[test]
    fn the_type_is_read_from_both_forms() {
        assert_eq!(kind(br#"{"type":"tracking.updated","data":{}}"#).as_deref(), Some("tracking.updated"));
        assert_eq!(kind(br#"{"resource_type":"TRACK_EVENT_V2"}"#).as_deref(), Some("TRACK_EVENT_V2"));
        assert_eq!(kind(b"hello"), None);
        assert_eq!(kind(br#"{"type":7}"#), None);
    }

    #[test]
    fn a_body_stays_unchanged_and_on_one_line() {
        let shown = |bytes: &[u8]| serde_json::to_string(&body(bytes)).unwrap();
        assert_eq!(shown(br#"{"b":1.0, "a":null}"#), r#"{"b":1.0, "a":null}"#);
        assert_eq!(shown(b"{\n}"), r#""{\n}""#);
        assert_eq!(shown(b"no json"), r#""no json""#);
        assert_eq!(shown(b""), r#""""#);
    }

    #[test]
    fn checks_of_other_signatures_are_described() {
        use crate::domain::messages::signature::jwks::{self, VendorHeaders};

        let args = args::OtherSignatureArgs {
            jwks: None,
            hmac_secret: Some("s3cret".to_owned()),
            hmac_header: "X-Sum".to_owned(),
            hmac_prefix: String::new(),
        };
        let checks = OtherSignatures::read(&args).unwrap();
        let sum = "f6ee94e5c0dd6f0ef9bc2bd1e3d2d4cd4d2a4bd6dcbc4d0d80ea8ae2f5c2d3a1";
        let found =
            |value| checks.inspect(|name| (name == "x-sum").then_some(value), b"{}", Timestamp::UNIX_EPOCH);
        assert!(
            checks.any()
                && other_signatures(&found(sum)).starts_with("; ✗ HMAC header: X-Sum is not made with")
        );
        let none = jwks::inspect(&[], VendorHeaders::default(), b"{}", Timestamp::UNIX_EPOCH);
        assert!(other_signatures(&none).starts_with("; ✗ RSA headers: missing: x-shipengine-rsa"));
        let step = |name| SignatureCheck { name, outcome: Ok(String::new()) };
        let held = ["RSA headers", "RSA age", "HMAC header"].map(step).into();
        assert_eq!(other_signatures(&Inspection { checks: held, causes: vec![] }), "; ✓ RSA and HMAC");
    }

    #[test]
    fn a_wrong_secret_is_refused_without_showing_it() {
        let error = secrets(&["s3cret".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("--secret: a signing secret starts with whsec_"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
