//! Redaction of secrets in stored answers.
//!
//! Many receivers echo the request in an error answer, and answers are stored and shown. Every secret that is sent with
//! a callback is removed, in each of its spellings. Signing secrets are not sent, but the secret of a plain HMAC may be
//! a short word that a receiver quotes in its error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::domain::messages::subscriber::Subscriber;

/// Shorter texts occur in any answer and are not removed.
const MIN_SECRET_LEN: usize = 4;
const PLACEHOLDER: &str = "(hidden)";

/// The secrets of one subscriber's requests, the longest first.
#[derive(Clone)]
pub(super) struct Redaction(Vec<String>);

impl Redaction {
    pub(super) fn of(subscriber: &Subscriber) -> Self {
        let mut secrets: Vec<String> = Vec::new();
        for (_, value) in &subscriber.headers {
            // In "Bearer s3cret" the secret is the second word.
            secrets.extend(value.expose().split_whitespace().skip(1).map(str::to_owned));
            secrets.push(value.expose().clone());
        }
        secrets.extend(subscriber.hmac_header.iter().map(|hmac| hmac.secret.expose().clone()));
        if let Ok(url) = Url::parse(subscriber.url.expose()) {
            secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
            secrets.extend(url.query().map(str::to_owned));
            let raw = url.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            secrets.extend(raw.map(|(_, value)| value.to_owned()));
            if let Some(password) = url.password() {
                let (name, word) = (decoded(url.username()), decoded(password));
                secrets.push(STANDARD.encode(format!("{name}:{word}")));
                secrets.extend([password.to_owned(), word]);
            } else if !url.username().is_empty() {
                let name = decoded(url.username());
                secrets.push(STANDARD.encode(format!("{name}:")));
                secrets.extend([url.username().to_owned(), name]);
            }
        }
        secrets.retain(|secret| secret.len() >= MIN_SECRET_LEN);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets)
    }

    pub(super) fn apply(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), PLACEHOLDER) } else { text }
        })
    }
}

/// Decodes the percent signs in the user or the password of a URL.
fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url_are_decoded() {
        assert_eq!(decoded("p%4055+x%2B"), "p@55+x+");
        assert_eq!(decoded(""), "");
    }

    #[test]
    fn the_longest_secret_is_redacted_first() {
        let redaction = Redaction(vec!["Bearer s3cret".to_owned(), "s3cret".to_owned()]);
        assert_eq!(redaction.apply("x: Bearer s3cret, s3cret".to_owned()), "x: (hidden), (hidden)");
    }
}
