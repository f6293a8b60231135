//! The resolver: returns the addresses of a name that may be connected to.
//!
//! A connection uses exactly the checked addresses without another lookup, so a name cannot change between check and
//! connection (DNS rebinding).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use url::Url;

use super::failure::{ExchangeFailure, FailureCause, shortage};
use crate::clock::Stopwatch;
use crate::domain::delivery::address::{AddressPolicy, RefusedAddress};

/// Resolves `host` for each new connection.
pub(super) async fn addresses(
    host: &str,
    port: u16,
    address_policy: Option<AddressPolicy>,
) -> Result<Vec<SocketAddr>, ExchangeFailure> {
    let found = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => lookup(host, port).await.map_err(|error| unresolved(host, &error))?,
    };
    keep_allowed(address_policy, found)
        .map_err(|refusal| ExchangeFailure::new(FailureCause::Address, refusal.to_string()))
}

async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    if found.iter().any(|address| !address.ip().is_loopback()) {
        RESOLVED.note(host);
    }
    Ok(found)
}

/// Returns the allowed addresses of `found`, or the reason against the first one if none is allowed.
fn keep_allowed(
    address_policy: Option<AddressPolicy>,
    found: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, RefusedAddress> {
    let Some(address_policy) = address_policy else { return Ok(found) };
    let mut refused = None;
    let mut allowed = Vec::with_capacity(found.len());
    for address in found {
        match address_policy.check(address.ip()) {
            Ok(()) => allowed.push(address),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    match refused {
        Some(refusal) if allowed.is_empty() => Err(refusal),
        _ => Ok(allowed),
    }
}

/// Checks a host that is written as an address.
///
/// # Errors
/// The address is not allowed.
pub fn check_literal(address_policy: AddressPolicy, url: &Url) -> Result<(), RefusedAddress> {
    // The parser of URLs turns `0x7f.1` and similar spellings into addresses.
    let host = url.host_str().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').parse() {
        Ok(address) => address_policy.check(address),
        Err(_) => Ok(()),
    }
}

/// Explains why `host` has no address. A name server that does not answer and a name that does not resolve give the
/// same error: it counts as a shortage of this machine unless another name was resolved recently.
fn unresolved(host: &str, error: &io::Error) -> ExchangeFailure {
    if let Some(missing) = shortage(error, None) {
        return ExchangeFailure::new(FailureCause::Shortage, missing);
    }
    let text = error.to_string();
    let why = text.rsplit(": ").next().unwrap_or_default();
    // The library distinguishes it only by these texts.
    let temporary = why == "Temporary failure in name resolution" || why == "Try again";
    if temporary && !RESOLVED.knows_another(host) {
        return ExchangeFailure::new(
            FailureCause::Shortage,
            format!("no name server answered (name: {host})"),
        );
    }
    ExchangeFailure::new(FailureCause::Name, format!("the name {host} has no address: {why}"))
}

/// Names that were resolved, with the time of the last success.
struct Resolved(Mutex<Option<HashMap<String, Stopwatch>>>);

static RESOLVED: Resolved = Resolved(Mutex::new(None));

impl Resolved {
    /// A name is resolved again every minute while it is used.
    const RECENT: Duration = Duration::from_secs(150);

    fn note(&self, host: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names = names.get_or_insert_default();
        names.retain(|_, resolved| resolved.elapsed() < Self::RECENT);
        names.insert(host.to_owned(), Stopwatch::start());
    }

    fn knows_another(&self, host: &str) -> bool {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately =
            |(name, resolved): (&String, &Stopwatch)| name != host && resolved.elapsed() < Self::RECENT;
        names.iter().flatten().any(lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::address::AddressRule;

    const HTTP: AddressPolicy = AddressPolicy { encrypted: false, allow_insecure: false };

    fn found(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn only_allowed_addresses_are_returned() {
        let mixed = found(&["169.254.169.254", "10.0.0.1", "8.8.8.8", "::1"]);
        assert_eq!(keep_allowed(Some(HTTP), mixed), Ok(found(&["10.0.0.1", "::1"])));
        let refusal = keep_allowed(Some(HTTP), found(&["::ffff:169.254.169.254", "8.8.8.8"])).unwrap_err();
        assert_eq!(refusal.rule, AddressRule::LinkLocal, "the first is reported");
        assert_eq!(keep_allowed(Some(HTTP), vec![]), Ok(vec![]));
    }

    #[test]
    fn every_spelling_of_an_address_is_recognized() {
        for text in [
            "http://169.254.169.254/",
            "http://169.254.169.254./",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]:80/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://0251.0376.0251.0376/",
            "http://１６９.254.169.254/",
        ] {
            assert!(check_literal(HTTP, &text.parse().unwrap()).is_err(), "{text}");
        }
        for text in
            ["http://127.0.0.1/", "http://[::1]/", "http://hooks.internal/", "http://169.254.example/"]
        {
            assert!(check_literal(HTTP, &text.parse().unwrap()).is_ok(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_checked() {
        let resolved = addresses("localhost", 80, Some(HTTP)).await.unwrap();
        assert!(resolved.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        let refused = addresses("169.254.169.254", 80, Some(HTTP)).await.unwrap_err();
        assert_eq!(refused.cause, FailureCause::Address, "{refused:?}");
    }

    #[test]
    fn a_silent_name_server_is_our_failure_unless_it_answers_other_queries() {
        let silent =
            || io::Error::other("failed to lookup address information: Temporary failure in name resolution");
        let unknown = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(unresolved("hooks.example", &silent()).cause, FailureCause::Shortage);
        assert_eq!(unresolved("hooks.example", &unknown).cause, FailureCause::Name);
        RESOLVED.note("hooks.example");
        assert_eq!(
            unresolved("hooks.example", &silent()).cause,
            FailureCause::Shortage,
            "it answered for this name only"
        );
        RESOLVED.note("api.example");
        assert_eq!(unresolved("hooks.example", &silent()).cause, FailureCause::Name);
    }
}
