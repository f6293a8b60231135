//! `hmac_header` of a subscriber: a plain hex HMAC in a header of any name.

use axum::http::HeaderValue;

use super::headers;
use super::reader::Entry;
use super::secret;
use crate::domain::messages::signature::hmac_header::{HmacHeader, PREFIX};
use crate::domain::secret::Hidden;

const FORM: &str = "as in { name = \"X-Hub-Signature-256\", secret = { file = \"hmac.secret\" } }";

/// What the table says; `own` are the subscriber's own headers.
pub(super) fn read(entry: &Entry<'_>, own: &[(String, Hidden<String>)]) -> Option<HmacHeader> {
    let table = entry.table(&["name", "prefix", "secret"])?;
    let name = table.required("name", FORM).and_then(|entry| name(entry, own));
    let prefix = table.get("prefix").map_or_else(|| Some(PREFIX.to_owned()), prefix);
    let secret = table.required("secret", FORM).and_then(secret_of);
    Some(HmacHeader { name: name?, prefix: prefix?, secret: secret? })
}

fn name(entry: &Entry<'_>, own: &[(String, Hidden<String>)]) -> Option<String> {
    let name = headers::legal_name(entry.text()?, entry)?;
    if own.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
        return entry.fault("is one of the subscriber's own headers", "choose another name");
    }
    Some(name)
}

fn prefix(entry: &Entry<'_>) -> Option<String> {
    let prefix = entry.text()?;
    // White space at its beginning would not arrive.
    if prefix.starts_with([' ', '\t']) || HeaderValue::from_str(prefix).is_err() {
        return entry.fault("holds characters that no header may hold", "plain text, as \"sha256=\" or \"\"");
    }
    Some(prefix.to_owned())
}

fn secret_of(entry: &Entry<'_>) -> Option<Hidden<String>> {
    let secret = secret::read(entry)?;
    if secret.expose().is_empty() {
        return entry.fault_unshown("is empty", "any text, as it is: it is the key");
    }
    Some(secret)
}
