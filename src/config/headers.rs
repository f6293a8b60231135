//! The headers a subscriber asks to have sent along.
//!
//! They must be legal HTTP, and must not be those that make a callback what it is. The values are secrets.

use axum::http::{HeaderName, HeaderValue};

use super::reader::Entry;
use super::secret;
use crate::domain::messages::signature::rsa;
use crate::domain::secret::Hidden;

/// Those that trackpost or HTTP itself writes.
const OURS: [&str; 13] = [
    "content-type",
    "content-length",
    "host",
    rsa::SIGNATURE,
    rsa::KEY_ID,
    rsa::TIMESTAMP,
    // These are about the connection and go no farther than it.
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const OUR_PREFIXES: [&str; 2] = ["webhook-", "trackpost-"];

/// The headers of one subscriber, in the order of their names; those at fault are left out and reported.
pub(super) fn read(entry: &Entry<'_>) -> Vec<(String, Hidden<String>)> {
    let named = entry.named().unwrap_or_default();
    let twice =
        |index: usize, name: &str| named[..index].iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let header = |(index, (name, entry)): (usize, &(&str, Entry<'_>))| {
        let name = if twice(index, name) {
            entry.fault_unshown("is there twice, in different case", "header names know no case")
        } else {
            legal_name(name, entry)
        };
        let value = secret::read(entry).and_then(|value| legal_value(value, entry));
        Some((name?, value?))
    };
    named.iter().enumerate().filter_map(header).collect()
}

/// The name, if it is one and nobody else writes that header.
pub(super) fn legal_name(name: &str, entry: &Entry<'_>) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if OURS.contains(&lower.as_str()) || OUR_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return entry.fault_unshown("is a header that trackpost sets itself", "choose another name");
    }
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Some(name.to_owned()),
        Err(_) => {
            entry.fault_unshown("is no name of a header", "letters, digits and hyphens, as in X-Api-Token")
        }
    }
}

fn legal_value(value: Hidden<String>, entry: &Entry<'_>) -> Option<Hidden<String>> {
    let text = value.expose();
    match HeaderValue::from_str(text) {
        Ok(_) if !text.is_ascii() || text.trim() != text => entry.fault_unshown(
            "has blanks around it, or characters that are not ASCII",
            "one line of plain text: is it copied as a whole, and nothing else?",
        ),
        Ok(_) => Some(value),
        Err(_) => entry.fault_unshown("holds characters that no header may hold", "one line of plain text"),
    }
}
