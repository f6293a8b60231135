//! Finds a name's addresses and hands on only those that may be connected to.
//!
//! What is checked is what is connected to: the connector gets these very addresses and asks nobody again, so a name
//! that changes its mind in between gains nothing. Hosts written as addresses never come by here: [`check_literal`].

use std::net::SocketAddr;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::phase;
use crate::domain::address::{Manner, Refusal};
use crate::domain::attempt::Stage;

/// The resolver of one subscriber's connections.
#[derive(Clone, Copy, Debug)]
pub struct Guard(pub Manner);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let manner = self.0;
        Box::pin(async move {
            phase::enter(Stage::Resolving);
            // The port is the URL's: the connector puts it in the place of 0.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = allowed(manner, found)?;
            phase::enter(Stage::Connecting);
            let addrs: Addrs = Box::new(allowed.into_iter());
            Ok(addrs)
        })
    }
}

/// Those of `found` that may be connected to, or why the first may not if none may.
fn allowed(manner: Manner, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refusal> {
    let mut refused = None;
    let mut allowed = Vec::with_capacity(found.len());
    for address in found {
        match manner.judge(address.ip()) {
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
pub(super) fn check_literal(manner: Manner, url: &Url) -> Result<(), Refusal> {
    // As the connector reads it: `0x7f.1` and the like have become addresses when the URL was parsed.
    let host = url.host_str().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(address) => manner.judge(address),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::address::Rule;

    const HTTP: Manner = Manner { encrypted: false, allow_insecure: false };

    fn found(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn only_what_is_allowed_is_handed_on() {
        let mixed = found(&["169.254.169.254", "10.0.0.1", "8.8.8.8", "::1"]);
        assert_eq!(allowed(HTTP, mixed), Ok(found(&["10.0.0.1", "::1"])));
        let refusal = allowed(HTTP, found(&["::ffff:169.254.169.254", "8.8.8.8"])).unwrap_err();
        assert_eq!(refusal.rule, Rule::LinkLocal, "the first is told");
        assert_eq!(allowed(HTTP, vec![]), Ok(vec![]));
    }

    #[test]
    fn every_spelling_of_an_address_is_one() {
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
        let resolved = Guard(HTTP).resolve("localhost".parse().unwrap()).await.unwrap();
        assert!(resolved.into_iter().all(|address| address.ip().is_loopback()));
        let refused = Guard(HTTP).resolve("169.254.169.254".parse().unwrap()).await.err().unwrap();
        assert!(refused.downcast_ref::<Refusal>().is_some(), "{refused}");
    }
}
