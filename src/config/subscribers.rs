//! `[subscribers.X]`: who is told, about what, and in which form.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fault::meant;
use super::reader::{Entry, NAME_FORM, Table, is_name};
use super::signing::Signing;
use super::{connection, headers, hmac_header, secret, url};
use crate::domain::label::AccountName;
use crate::domain::messages::MessageType;
use crate::domain::messages::signature::SigningSecret;
use crate::domain::messages::signature::rsa::RsaKey;
use crate::domain::messages::subscriber::{EventPattern, Format, Subscriber, SubscriberName};
use crate::domain::secret::Hidden;

const TIMEOUT: Duration = Duration::from_secs(15);
const MAX_IN_FLIGHT: u32 = 8;
const HOUR: u64 = 3600;
const RETRY: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(14 * HOUR),
    Duration::from_secs(20 * HOUR),
    Duration::from_secs(24 * HOUR),
];

/// What other sections offer to choose from.
#[derive(Clone, Copy)]
pub(super) struct Choices<'a> {
    pub(super) accounts: &'a [AccountName],
    /// None: the section is at fault.
    pub(super) signing: Option<&'a Signing>,
}

/// All subscribers; those at fault are left out and reported.
pub(super) fn read(section: &Entry<'_>, choices: Choices<'_>) -> BTreeMap<SubscriberName, Subscriber> {
    let named = section.named().unwrap_or_default();
    let subscribers = named.iter().filter_map(|(name, entry)| subscriber(name, entry, choices));
    subscribers.map(|subscriber| (subscriber.name.clone(), subscriber)).collect()
}

fn subscriber(name: &str, entry: &Entry<'_>, choices: Choices<'_>) -> Option<Subscriber> {
    let table = entry.table(&[
        "url",
        "secret",
        "secrets",
        "format",
        "events",
        "accounts",
        "headers",
        "rsa_signature",
        "hmac_header",
        "timeout",
        "max_in_flight",
        "retry",
        "allow_insecure",
        "ca_file",
        "client_certificate",
        "client_key",
        "proxy",
        "enabled",
    ])?;
    if !is_name(name) {
        entry.fault_unshown::<()>("is no name of a subscriber", NAME_FORM);
    }
    let allow_insecure = table.flag("allow_insecure").unwrap_or(false);
    let target = table
        .required("url", "as in \"https://example.com/hooks/tracking\"")
        .and_then(|entry| target(entry, allow_insecure));
    let secrets = secrets(&table);
    let events = table.get("events").map_or_else(default_events, events);
    let format = table.get("format").map_or(Some(Format::Shipstation), format);
    let accounts = table.get("accounts").map_or_else(Vec::new, |entry| accounts(entry, choices.accounts));
    let headers = table.get("headers").map_or_else(Vec::new, headers::read);
    let rsa_key = rsa_key(&table, choices.signing);
    let hmac_header = table.get("hmac_header").and_then(|entry| hmac_header::read(entry, &headers));
    let retry = table.get("retry").map_or_else(|| Some(RETRY.to_vec()), retry);
    let timeout = table.duration("timeout").unwrap_or(TIMEOUT);
    let max_in_flight = table.count("max_in_flight", u32::MAX).unwrap_or(MAX_IN_FLIGHT);
    let connection = connection::read(&table);
    let enabled = table.flag("enabled").unwrap_or(true);
    let (url, shown_url) = target?;
    let connection = connection?;
    Some(Subscriber {
        name: SubscriberName::new(name),
        url,
        secrets: secrets?,
        format: format?,
        events: events?,
        accounts,
        headers,
        rsa_key,
        hmac_header,
        timeout,
        max_in_flight,
        retry: retry?,
        allow_insecure,
        roots: connection.roots,
        identity: connection.identity,
        proxies: connection.proxies,
        enabled,
        shown_url,
    })
}

/// The URL, and what of it may be shown.
fn target(entry: &Entry<'_>, allow_insecure: bool) -> Option<(Hidden<String>, String)> {
    let text = entry.text()?.trim();
    match url::parse(text) {
        Err(problem) => {
            entry.fault_masked(&url::masked(text), problem, "as in \"https://example.com/hooks/tracking\"")
        }
        Ok(url) if !url.https && !allow_insecure && url.address.is_some_and(url::in_the_open) => entry
            .fault_masked(
                &url.shown,
                "is plain http to a public address",
                "https, or allow_insecure = true if anybody on the way may read the callbacks",
            ),
        Ok(url) => {
            connection::warn_if_never(entry, &url);
            Some((Hidden::new(text.to_owned()), url.shown))
        }
    }
}

fn secrets(table: &Table<'_>) -> Option<Vec<SigningSecret>> {
    const HINT: &str = "secret = { credential = \"…\" }, or secrets = [new, old] while rotating";
    match (table.get("secret"), table.get("secrets")) {
        (Some(_), Some(_)) => {
            table.fault("secrets", "is there beside secret", HINT);
            None
        }
        (None, None) => {
            table.fault("secret", "is missing", HINT);
            None
        }
        (Some(one), None) => Some(vec![signing_secret(one)?]),
        (None, Some(several)) => {
            let entries = several.list()?;
            if entries.is_empty() {
                return several.fault_unshown("is empty", HINT);
            }
            let secrets: Vec<Option<SigningSecret>> = entries.iter().map(signing_secret).collect();
            secrets.into_iter().collect()
        }
    }
}

fn signing_secret(entry: &Entry<'_>) -> Option<SigningSecret> {
    let text = secret::read_token(entry)?;
    match SigningSecret::parse(text.expose()) {
        Ok(secret) => Some(secret),
        Err(error) => entry.fault_unshown(
            format!("is no signing secret: {error}"),
            "make one with: echo \"whsec_$(head -c 32 /dev/urandom | base64)\"",
        ),
    }
}

/// The key that signs, if the subscriber asks for it.
fn rsa_key(table: &Table<'_>, signing: Option<&Signing>) -> Option<RsaKey> {
    let asked = table.get("rsa_signature")?;
    if !asked.flag()? {
        return None;
    }
    let signing = signing?;
    if !signing.configured {
        return asked
            .fault("needs a key, and none is configured", "[signing], rsa_key = { file = \"rsa.pem\" }");
    }
    signing.keys.first().cloned()
}

fn format(entry: &Entry<'_>) -> Option<Format> {
    let text = entry.text()?;
    Format::parse(text).or_else(|| {
        let names = Format::ALL.map(Format::as_str);
        let meant = meant(text, names);
        entry.fault("is no format of callbacks", format!("{meant}Formats: {}", names.join(", ")))
    })
}

fn default_events() -> Option<Vec<EventPattern>> {
    EventPattern::parse(MessageType::Updated.as_str()).ok().map(|updated| vec![updated])
}

fn events(entry: &Entry<'_>) -> Option<Vec<EventPattern>> {
    let entries = entry.list()?;
    if entries.is_empty() {
        return entry
            .fault_unshown("is empty: nothing would be sent", "enabled = false turns a subscriber off");
    }
    let patterns: Vec<Option<EventPattern>> = entries
        .iter()
        .map(|entry| {
            let text = entry.text()?;
            EventPattern::parse(text).map_or_else(
                |error| {
                    let meant = meant(text, MessageType::ALL.map(MessageType::as_str));
                    let hint = format!(
                        "{meant}A type such as \"tracking.updated\", or a pattern such as \"tracking.*\""
                    );
                    entry.fault(error.to_string(), hint)
                },
                Some,
            )
        })
        .collect();
    patterns.into_iter().collect()
}

fn accounts(entry: &Entry<'_>, known: &[AccountName]) -> Vec<AccountName> {
    let entries = entry.list().unwrap_or_default();
    let account = |entry: &Entry<'_>| {
        let name = entry.text()?;
        let found = known.iter().find(|account| account.as_str() == name).cloned();
        found.or_else(|| {
            let names: Vec<&str> = known.iter().map(AccountName::as_str).collect();
            let hint = match &names[..] {
                [] => "no account is configured".to_owned(),
                names => format!("{}Accounts: {}", meant(name, names.iter().copied()), names.join(", ")),
            };
            entry.fault("is no account of this configuration", hint)
        })
    };
    entries.iter().filter_map(account).collect()
}

fn retry(entry: &Entry<'_>) -> Option<Vec<Duration>> {
    let waits = entry.durations()?;
    if waits.is_empty() {
        return entry.fault_unshown("is empty", "at least one wait, as in [\"5s\", \"5m\", \"1h\"]");
    }
    Some(waits)
}
