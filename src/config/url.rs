//! Checks the URLs of a configuration.
//!
//! Names are not resolved here; each connection checks its addresses. This check refuses only URLs that are wrong by
//! their text, such as plain http to a public address.

use std::net::IpAddr;

use http::Uri;
use rustls::pki_types::ServerName;
use url::{Host, Url};

use crate::domain::delivery::address::{AddressPolicy, AddressRule, always_refused};

/// An absolute http or https URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpUrl {
    pub(super) https: bool,
    host: Host,
    pub(super) has_user: bool,
    pub(super) has_query: bool,
    pub(super) has_fragment: bool,
    /// Without user, password, query and fragment: fit for logs.
    pub(super) shown: String,
}

impl HttpUrl {
    /// Parses `text`, or returns its problem.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut url = Url::parse(text).map_err(|_| "is not a valid URL")?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err("is not an http or https URL");
        }
        // The clients parse the text as `Uri`, which takes spellings such as `0x7f.1` and `2130706433` for names. Where
        // the two disagree about the host, a rule about addresses could be bypassed.
        let uri: Uri = text.parse().map_err(|_| "is not a valid URL")?;
        let host = url.host().ok_or("has no host")?.to_owned();
        let is_plain = match &host {
            // Another name cannot be in a certificate, so no client can be built for it.
            Host::Domain(name) => ServerName::try_from(name.as_str()).is_ok(),
            Host::Ipv4(_) | Host::Ipv6(_) => true,
        };
        let is_the_same = matches!(host, Host::Ipv6(_))
            || uri.host().unwrap_or_default().eq_ignore_ascii_case(&host.to_string());
        if !is_plain || !is_the_same {
            return Err("has a host that is neither a plain name nor an address like 192.0.2.1");
        }
        if url.port() == Some(0) {
            return Err("has port 0");
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        let (has_query, has_fragment) = (url.query().is_some(), url.fragment().is_some());
        url.set_query(None);
        url.set_fragment(None);
        url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| "has no host")?;
        Ok(Self {
            https: url.scheme() == "https",
            host,
            has_user,
            has_query,
            has_fragment,
            shown: url.into(),
        })
    }

    /// The host, if it is written as an address.
    fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// Returns the problem, if the host is written as an address that is always refused.
    pub(super) fn refusal(&self) -> Option<String> {
        let refused = self.address().and_then(always_refused)?;
        Some(format!("has an address that is always refused: {refused}"))
    }

    /// Whether the host looks like a name of the public internet.
    pub(super) fn is_public_name(&self) -> bool {
        let private = [".local", ".internal", ".lan", ".home.arpa", ".localhost", ".test", ".cluster.local"];
        match &self.host {
            Host::Domain(name) => name.contains('.') && !private.iter().any(|end| name.ends_with(end)),
            _ => false,
        }
    }

    /// Whether this is plain http to a public address.
    pub(super) fn is_plain_to_public(&self) -> bool {
        let plain = AddressPolicy { encrypted: false, allow_insecure: false };
        let refused =
            |address| plain.check(address).is_err_and(|refusal| refusal.rule == AddressRule::PlainHttp);
        !self.https && self.address().is_some_and(refused)
    }
}

/// Returns the part of an invalid URL that may be shown: without the text before an `@` and from a `?` or `#` on.
pub(super) fn masked(text: &str) -> String {
    let (hidden, shown) = text.rsplit_once('@').unwrap_or(("", text));
    let shown = &shown[..shown.find(['?', '#']).unwrap_or(shown.len())];
    match (hidden.split_once("://"), hidden) {
        (_, "") => shown.to_owned(),
        (Some((scheme, _)), _) => format!("{scheme}://…@{shown}"),
        (None, _) => format!("…@{shown}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn parses_http_urls_and_prints_them_without_credentials() {
        let parse = |text| HttpUrl::parse(text).unwrap();
        let url = parse("https://user:pass@example.com:8443/hooks/x?token=abc#top");
        assert_eq!(url.shown, "https://example.com:8443/hooks/x");
        assert!(url.https && url.has_user && url.has_query && url.has_fragment && url.address().is_none());
        assert_eq!(parse("http://[::1]:80").address(), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(parse("http://[::1]:81").shown, "http://[::1]:81/");
        assert_eq!(parse("HTTPS://Example.com").shown, "https://example.com/");
    }

    #[test]
    fn refuses_invalid_urls() {
        for text in [
            "",
            "/path",
            "example.com",
            "example.com/x",
            "ftp://example.com",
            "https://",
            "https:///x",
            "http://a:99999/",
            "http://a:0/",
            "http://a b/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://127.1/",
            "http://8.8.8.8./",
            "http://[::zz]/",
            "https:\\\\example.com",
            "https://exa\tmple.com/",
            "https://example.c!m/hooks",
        ] {
            assert!(HttpUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn masks_parts_that_may_be_secret() {
        assert_eq!(masked("ftp://user:pass@example.com/x?token=abc"), "ftp://…@example.com/x");
        assert_eq!(masked("https://user:pa#ss?word@example.com/x"), "https://…@example.com/x");
        assert_eq!(masked("user:pass@example.com"), "…@example.com");
        assert_eq!(masked("example.com/x"), "example.com/x");
    }
}
