//! `[subscribers.X]`: the receivers, the messages that each gets, and their format.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::bounded_int::MaxInFlight;
use super::connection::{self, Certificates, HmacSection};
use super::duration::ConfigDuration;
use super::fault::{known_here, meant};
use super::proxies::ProxyUrls;
use super::secret::{KeyText, OneOrMore, Secret, Token};
use super::table::At;
use super::url::{self, HttpUrl};
use crate::domain::label::AccountName;
use crate::domain::messages::MessageType;
use crate::domain::messages::signature::SigningSecret;
use crate::domain::messages::signature::rsa::RsaKey;
use crate::domain::messages::subscriber::{EventPattern, Format, Subscriber, SubscriberName};
use crate::domain::secret::Hidden;

/// `[subscribers.X]` as written.
#[derive(Deserialize)]
pub(super) struct SubscriberSection {
    url: String,
    #[serde(alias = "secrets")]
    secret: OneOrMore<Signer>,
    format: Format,
    events: Vec<Pattern>,
    accounts: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    rsa_signature: bool,
    hmac_header: Option<HmacSection>,
    timeout: ConfigDuration,
    max_in_flight: MaxInFlight,
    retry: Vec<ConfigDuration>,
    allow_insecure: bool,
    ca_file: Certificates,
    client_certificate: Certificates,
    client_key: KeyText,
    proxy: ProxyUrls,
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(try_from = "Token")]
struct Signer(SigningSecret);

impl TryFrom<Token> for Signer {
    type Error = String;

    fn try_from(Token(secret): Token) -> Result<Self, String> {
        let hint = "create one with: echo \"whsec_$(head -c 32 /dev/urandom | base64)\"";
        SigningSecret::parse(secret.expose())
            .map(Self)
            .map_err(|error| format!("is not a signing secret: {error}\n{hint}"))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Pattern(EventPattern);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        EventPattern::parse(&text).map(Self).map_err(|error| {
            let meant = meant(&text, MessageType::ALL.map(MessageType::as_str));
            format!(
                "{error}\n{meant}write a type such as \"tracking.updated\", or a pattern such as \"tracking.*\""
            )
        })
    }
}

/// The choices that other sections define.
#[derive(Clone, Copy)]
pub(super) struct Choices<'a> {
    pub(super) accounts: &'a [AccountName],
    pub(super) rsa_keys: &'a [RsaKey],
    /// Whether there is a key to sign with, read or not.
    pub(super) can_sign: bool,
}

impl SubscriberSection {
    pub(super) fn check(self, at: &At<'_>, name: &str, choices: Choices<'_>) -> Subscriber {
        at.check_name(name);
        let shown_url = check_url(&at.key("url"), &self.url, self.allow_insecure);
        if self.events.is_empty() {
            let hint = "write at least one pattern; enabled = false turns a subscriber off";
            at.key("events").fault("is empty", hint);
        }
        if self.retry.is_empty() {
            at.key("retry").fault("is empty", "write at least one wait, as in [\"5s\", \"5m\", \"1h\"]");
        }
        for (index, name) in self.accounts.iter().enumerate() {
            if !choices.accounts.iter().any(|account| account.as_str() == name) {
                let hint = known_here(name, choices.accounts.iter().map(AccountName::as_str));
                let at = at.key("accounts").item(index);
                at.fault_of(name, "is not an account of this configuration", hint);
            }
        }
        let headers: Vec<_> = self.headers.into_iter().map(|(name, value)| (name, value.0)).collect();
        connection::check_headers(&at.key("headers"), &headers);
        if self.rsa_signature && !choices.can_sign {
            let hint = "set rsa_key = { file = \"rsa.pem\" } in [signing]";
            at.key("rsa_signature").fault_of("true", "needs a key, but [signing] has none", hint);
        }
        Subscriber {
            name: SubscriberName::new(name),
            url: Hidden::new(self.url.trim().to_owned()),
            secrets: self.secret.0.into_iter().map(|Signer(secret)| secret).collect(),
            format: self.format,
            events: self.events.into_iter().map(|Pattern(pattern)| pattern).collect(),
            accounts: self.accounts.iter().map(|name| AccountName::new(name)).collect(),
            rsa_key: choices.rsa_keys.first().filter(|_| self.rsa_signature).cloned(),
            hmac_header: self.hmac_header.map(|section| section.check(&at.key("hmac_header"), &headers)),
            headers,
            timeout: self.timeout.0,
            max_in_flight: self.max_in_flight.u32(),
            retry: self.retry.into_iter().map(|ConfigDuration(wait)| wait).collect(),
            allow_insecure: self.allow_insecure,
            roots: self.ca_file.0,
            identity: connection::identity(at, self.client_certificate, self.client_key),
            proxies: self.proxy.into(),
            enabled: self.enabled,
            shown_url,
        }
    }
}

/// The part of the URL that may be shown.
fn check_url(at: &At<'_>, text: &str, allow_insecure: bool) -> String {
    let url = match HttpUrl::parse(text.trim()) {
        Ok(url) => url,
        Err(problem) => {
            let shown = url::masked(text);
            at.fault_of(&shown, problem, "write it like \"https://example.com/hooks/tracking\"");
            return shown;
        }
    };
    if url.is_plain_to_public() && !allow_insecure {
        let hint = "use https, or set allow_insecure = true to accept that others can read the callbacks";
        at.fault_of(&url.shown, "is plain http to a public address", hint);
    }
    if let Some(problem) = url.refusal() {
        at.warn(Some(&url.shown), problem, "write an address of the receiver that is allowed");
    }
    url.shown
}
